"""Read an .onnx file's signature: protobuf, field by field.

Source: onnx/onnx.proto (onnx 1.20) for the numbers of the fields; protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from harness.catalog.signature import UNKNOWN_DIMENSION, Malformed, Signature, kind_by_first_bytes
from harness.records import TensorSpec

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator

    from harness.catalog.signature import Storage

# TensorProto.DataType, onnx.proto. Types that NumPy does not have keep ONNX's name.
_TYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "str",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    16: "bfloat16",
}
_FLOATS = {"float32", "float16", "float64", "bfloat16"}
_HALVES = {"float16", "bfloat16"}
_QUANTIZING = {
    "DynamicQuantizeLinear",
    "DequantizeLinear",
    "QuantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
}


_Span: TypeAlias = tuple[int, int]
"""Where the bytes of a field begin and end."""


def read_onnx(content: mmap.mmap) -> Signature:
    """Read the signature of an .onnx file.

    Raises:
        Malformed: It ends too early, or has something in it that cannot be measured.
        ValueError, IndexError, UnicodeDecodeError: It is damaged or no ONNX file.
    """
    graphs = _messages(content, 0, len(content))[7]  # ModelProto.graph
    if not graphs:
        raise ValueError("no graph")
    members = _messages(content, *graphs[-1])
    nodes = [_node(content, *span) for span in members[1]]  # GraphProto.node
    initializers = [_tensor(content, *span) for span in members[5]]  # .initializer
    inputs = [_value(content, *span) for span in members[11]]  # .input
    outputs = [_value(content, *span) for span in members[12]]  # .output
    if not outputs:
        raise ValueError("a graph without outputs")
    weights = [*initializers, *(constant for _, constant in nodes if constant is not None)]
    floats = sum(tensor.count for tensor in weights if tensor.dtype in _FLOATS)
    # Quantized weights are int8 or uint8; int32 holds biases, int64 shapes.
    quantized = sum(tensor.count for tensor in weights if tensor.dtype in {"int8", "uint8"})
    storage: Storage = "float16" if any(tensor.dtype in _HALVES for tensor in weights) else "float32"
    if any(operator in _QUANTIZING for operator, _ in nodes):
        storage = "integer"
    given = {tensor.name for tensor in initializers}
    return Signature(
        # Up to IR version 3 initializers were listed among the inputs.
        inputs=tuple(tensor for tensor in inputs if tensor.name not in given),
        outputs=tuple(outputs),
        parameters=floats + quantized,
        storage=storage,
        companions=tuple(sorted({tensor.location for tensor in initializers if tensor.location})),
    )


@dataclass(frozen=True)
class _Tensor:
    """A stored tensor; `location` is the file that its data are in, empty for this one."""

    name: str
    dtype: str
    count: int
    location: str


def _node(content: mmap.mmap, begin: int, end: int) -> tuple[str, _Tensor | None]:
    """Operator type, and the tensor that a Constant node holds."""
    members = _messages(content, begin, end)
    operator = _text(content, members[4][0]) if members[4] else ""  # NodeProto.op_type
    if operator != "Constant":
        return operator, None
    attributes = [_messages(content, *span) for span in members[5]]  # NodeProto.attribute
    held = [_tensor(content, *span) for attribute in attributes for span in attribute[5]]  # AttributeProto.t
    return operator, held[0] if held else None


def _tensor(content: mmap.mmap, begin: int, end: int) -> _Tensor:
    """One TensorProto."""
    members = _messages(content, begin, end)
    shape = [size for span in members[1] for size in _packed(content, *span)]  # .dims, packed or one by one
    dtypes = _numbers(content, begin, end)
    pairs = [_messages(content, *span) for span in members[13]]  # .external_data, pairs of key and value
    location = [_text(content, pair[2][0]) for pair in pairs if pair[1] and _text(content, pair[1][0]) == "location"]
    return _Tensor(
        name=_text(content, members[8][0]) if members[8] else "",
        dtype=_dtype(dtypes[2]),
        count=math.prod(shape + dtypes[1]),
        location=location[0] if location else "",
    )


def _value(content: mmap.mmap, begin: int, end: int) -> TensorSpec:
    """One ValueInfoProto."""
    members = _messages(content, begin, end)
    name = _text(content, members[1][0]) if members[1] else ""
    types = _messages(content, *members[2][0]) if members[2] else defaultdict(list)
    if types and not types[1]:  # TypeProto.tensor_type
        raise Malformed(f"{name!r} is not a tensor; sequences and maps cannot be measured")
    if not types:
        return TensorSpec(name=name, shape=(), dtype="unknown")
    tensor = _messages(content, *types[1][0])
    dimensions = [span for shape in tensor[2] for span in _messages(content, *shape)[1]]  # TypeProto.Tensor.shape.dim
    return TensorSpec(
        name=name,
        shape=tuple(_dimension(content, *span) for span in dimensions),
        dtype=_dtype(_numbers(content, *types[1][0])[1]),
    )


def _dimension(content: mmap.mmap, begin: int, end: int) -> int:
    """A fixed size; some exporters write -1 or 0 where the name of an open one belongs."""
    found = _numbers(content, begin, end)[1]
    return found[0] if found and 0 < found[0] < 2**31 else UNKNOWN_DIMENSION


def _dtype(numbers: list[int]) -> str:
    number = numbers[0] if numbers else 0
    return _TYPES.get(number, f"type {number}")


def _messages(content: mmap.mmap, begin: int, end: int) -> dict[int, list[_Span]]:
    """Where the strings and messages within a message are, by field number."""
    found: dict[int, list[_Span]] = defaultdict(list)
    for field, value in _fields(content, begin, end):
        if isinstance(value, tuple):
            found[field].append(value)
    return found


def _numbers(content: mmap.mmap, begin: int, end: int) -> dict[int, list[int]]:
    """The whole numbers within a message, by field number."""
    found: dict[int, list[int]] = defaultdict(list)
    for field, value in _fields(content, begin, end):
        if isinstance(value, int):
            found[field].append(value)
    return found


def _fields(content: mmap.mmap, begin: int, end: int) -> Iterator[tuple[int, int | _Span]]:
    """Each field of one protobuf message: its number, and its value or the (begin, end) of its bytes."""
    at = begin
    while at < end:
        key, at = _varint(content, at)
        field, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(content, at)
            yield field, value
        elif wire == 2:
            length, at = _varint(content, at)
            if at + length > end:
                raise Malformed(_what_is_wrong(content))
            yield field, (at, at + length)
            at += length
        elif wire in {1, 5}:
            at += 8 if wire == 1 else 4
        else:
            raise ValueError("not protobuf")
    if at > end:
        raise ValueError("truncated")


def _what_is_wrong(content: mmap.mmap) -> str:
    """Tell a file that was cut off from one that never was ONNX: the first begins with its IR version."""
    head = bytes(content[:64])
    kind = kind_by_first_bytes(head)
    if kind is not None:
        return f"it is {kind}"
    return "it is truncated" if head[:1] == b"\x08" else "it is damaged or another kind of file"


def _packed(content: mmap.mmap, begin: int, end: int) -> Iterator[int]:
    at = begin
    while at < end:
        value, at = _varint(content, at)
        yield value


def _varint(content: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("not a number")


def _text(content: mmap.mmap, span: _Span) -> str:
    return bytes(content[span[0] : span[1]]).decode("utf-8")
