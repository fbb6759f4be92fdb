"""Read a .tflite file's signature: FlatBuffers, table by table.

Source: tensorflow/compiler/mlir/lite/schema/schema.fbs (version 3c) for the numbers of the fields;
flatbuffers.dev/internals.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.catalog.signature import UNKNOWN_DIMENSION, Malformed, Signature
from harness.records import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.catalog.signature import Storage

# schema.fbs, enum TensorType. Types that NumPy does not have keep TFLite's name.
_TYPES = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    5: "str",
    6: "bool",
    7: "int16",
    8: "complex64",
    9: "int8",
    10: "float64",
    12: "uint64",
    15: "uint32",
    16: "uint16",
    17: "int4",
    18: "bfloat16",
}


def read_tflite(content: mmap.mmap) -> Signature:
    """Read the signature of a .tflite file: of its first subgraph, which is the model.

    Raises:
        Malformed: Its weights reach beyond its end.
        ValueError, IndexError, struct.error, UnicodeDecodeError: It is damaged, truncated or no TFLite file.
    """
    if len(content) < 8 or bytes(content[4:8]) != b"TFL3":
        raise ValueError("no TFL3")
    model = _Table(content, _unsigned(content, 0))
    buffers = [_buffer_size(content, table) for table in model.tables(4)]
    graphs = model.tables(2)
    if not graphs:
        raise ValueError("no subgraph")
    graph = graphs[0]
    tensors = [_tflite_tensor(table) for table in graph.tables(0)]
    inputs, outputs = graph.integers(1), graph.integers(2)
    constants = [t for t in tensors if 0 < t.buffer < len(buffers) and buffers[t.buffer] > 0]
    # Shapes and indices are int32 or int64; int8 and int4 without a scale are masks and tables.
    weights = [t for t in constants if t.spec.dtype in {"float32", "float16", "bfloat16"} or t.is_quantized]
    storage: Storage = "float32"
    if any(t.is_quantized for t in tensors):
        storage = "integer"
    elif any(t.spec.dtype in {"float16", "bfloat16"} for t in weights):
        storage = "float16"
    return Signature(
        inputs=tuple(tensors[index].spec for index in inputs),
        outputs=tuple(tensors[index].spec for index in outputs),
        parameters=sum(t.count for t in weights),
        storage=storage,
    )


def put_in_order(path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Reorder the inputs and outputs of a .tflite file, in place.

    Converters list them as they like, and runtimes by the file's list; the signature says which is which.

    Args:
        path: A file with one signature. Without one, or with one of other names, nothing is done.
        inputs: The signature's names in the wanted order.
        outputs: The same.
    """
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        model = _Table(content, _unsigned(content, 0))
        signatures = model.tables(7)
        if len(signatures) != 1:
            return
        graph = model.tables(2)[signatures[0].unsigned(4)]
        # Permuted where they stand: a vector of tensor numbers keeps its length, so nothing else in the file moves.
        for field, names in ((0, inputs), (1, outputs)):
            numbers = {entry.text(0): entry.unsigned(1) for entry in signatures[0].tables(field)}
            wanted = [numbers[name] for name in names if name in numbers]
            begin, count = graph.vector(field + 1)
            if sorted(wanted) == sorted(graph.integers(field + 1)):
                struct.pack_into(f"<{count}i", content, begin, *wanted)


@dataclass(frozen=True)
class _TfliteTensor:
    spec: TensorSpec
    buffer: int
    is_quantized: bool

    @property
    def count(self) -> int:
        return math.prod(self.spec.shape)


def _tflite_tensor(table: _Table) -> _TfliteTensor:
    dtype = _TYPES.get(table.byte(1), f"type {table.byte(1)}")
    shape = table.integers(7) or table.integers(0)  # shape_signature has -1 where the size is open
    scale = zero_point = None
    quantization = table.table(4)
    scales = quantization.floats(2) if quantization else []
    if quantization and scales and dtype not in {"float32", "float16"}:
        zero_points = quantization.longs(3)
        if len(scales) == 1:
            scale, zero_point = scales[0], zero_points[0] if zero_points else 0
    spec = TensorSpec(
        name=table.text(3),
        shape=tuple(size if size >= 0 else UNKNOWN_DIMENSION for size in shape),
        dtype=dtype,
        scale=scale,
        zero_point=zero_point,
    )
    is_quantized = bool(scales) and dtype in {"int8", "uint8", "int16", "int4"}
    return _TfliteTensor(spec, table.unsigned(2), is_quantized)


def _buffer_size(content: mmap.mmap, table: _Table) -> int:
    """Bytes of one weight buffer, which has to lie within the file."""
    begin, length = table.vector(0)
    offset, size = table.unsigned_long(1), table.unsigned_long(2)  # weights behind the flatbuffer, in files over 2 GB
    if begin + length > len(content) or (offset > 1 and offset + size > len(content)):
        raise Malformed("it is truncated: its weights reach beyond its end")
    return length or size


class _Table:
    """One FlatBuffers table; fields by their number in the schema. A field that is not stored has its default."""

    def __init__(self, content: mmap.mmap, at: int) -> None:
        self._content, self._at = content, at
        self._fields = at - _signed(content, at)
        self._size = struct.unpack_from("<H", content, self._fields)[0]

    def _field(self, number: int) -> int | None:
        slot = 4 + 2 * number
        offset = struct.unpack_from("<H", self._content, self._fields + slot)[0] if slot < self._size else 0
        return self._at + offset if offset else None

    def byte(self, number: int) -> int:
        at = self._field(number)
        return 0 if at is None else self._content[at]

    def unsigned(self, number: int) -> int:
        at = self._field(number)
        return 0 if at is None else _unsigned(self._content, at)

    def unsigned_long(self, number: int) -> int:
        at = self._field(number)
        return 0 if at is None else int(struct.unpack_from("<Q", self._content, at)[0])

    def table(self, number: int) -> _Table | None:
        at = self._field(number)
        return None if at is None else _Table(self._content, at + _unsigned(self._content, at))

    def vector(self, number: int) -> tuple[int, int]:
        """Where a vector's elements begin, and how many there are."""
        at = self._field(number)
        if at is None:
            return 0, 0
        begin = at + _unsigned(self._content, at)
        return begin + 4, _unsigned(self._content, begin)

    def tables(self, number: int) -> list[_Table]:
        begin, count = self.vector(number)
        places = range(begin, begin + 4 * count, 4)
        return [_Table(self._content, place + _unsigned(self._content, place)) for place in places]

    def integers(self, number: int) -> tuple[int, ...]:
        begin, count = self.vector(number)
        return struct.unpack_from(f"<{count}i", self._content, begin)

    def longs(self, number: int) -> tuple[int, ...]:
        begin, count = self.vector(number)
        return struct.unpack_from(f"<{count}q", self._content, begin)

    def floats(self, number: int) -> tuple[float, ...]:
        begin, count = self.vector(number)
        return struct.unpack_from(f"<{count}f", self._content, begin)

    def text(self, number: int) -> str:
        begin, count = self.vector(number)
        return bytes(self._content[begin : begin + count]).decode("utf-8")


def _unsigned(content: mmap.mmap, at: int) -> int:
    return int(struct.unpack_from("<I", content, at)[0])


def _signed(content: mmap.mmap, at: int) -> int:
    return int(struct.unpack_from("<i", content, at)[0])
