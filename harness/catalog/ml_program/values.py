"""Data types and stored values of an ML Program: immediate in the protobuf, or in a weight file.

Source: MIL.proto of coremltools 9.0 (mlmodel/format), and MILBlob/Blob/StorageFormat.hpp of the same for weight files.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

Constant: TypeAlias = "NDArray[Any] | str"


class Damaged(Exception):
    """The bytes contradict themselves. `Program.load` makes an `UnreadableModel` of it."""


class UnknownType(Exception):
    """A type that is valid, and that this package does not know."""


@dataclass(frozen=True, kw_only=True)
class Dtype:
    """An element type.

    Attributes:
        name: As MIL writes it in text: fp16, int32, uint4...
        kind: Which of the evaluator's three kinds of tensor holds it, or text.
        numpy: What an unpacked value is held in; types below 8 bits have one byte an element.
        bits: Of one stored element.
        blob_code: How a weight file spells it; None where weight files cannot hold it.
    """

    name: str
    kind: Literal["float", "int", "bool", "text"]
    numpy: np.dtype[Any]
    bits: int
    blob_code: int | None

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest integer of this type."""
        if self.name.startswith("u"):
            return 0, 2**self.bits - 1
        return -(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1


def _dtype(name: str, kind: Literal["float", "int", "bool"], numpy: str, bits: int, blob_code: int | None) -> Dtype:
    return Dtype(name=name, kind=kind, numpy=np.dtype(numpy), bits=bits, blob_code=blob_code)


DTYPES: Mapping[str, Dtype] = MappingProxyType(
    {
        "FLOAT16": _dtype("fp16", "float", "<f2", 16, 1),
        "FLOAT32": _dtype("fp32", "float", "<f4", 32, 2),
        "BOOL": _dtype("bool", "bool", "?", 8, None),
        "INT4": _dtype("int4", "int", "i1", 4, 8),
        "INT8": _dtype("int8", "int", "i1", 8, 4),
        "INT16": _dtype("int16", "int", "<i2", 16, 6),
        "INT32": _dtype("int32", "int", "<i4", 32, 14),
        "UINT1": _dtype("uint1", "int", "u1", 1, 9),
        "UINT2": _dtype("uint2", "int", "u1", 2, 10),
        "UINT3": _dtype("uint3", "int", "u1", 3, 12),
        "UINT4": _dtype("uint4", "int", "u1", 4, 11),
        "UINT6": _dtype("uint6", "int", "u1", 6, 13),
        "UINT8": _dtype("uint8", "int", "u1", 8, 3),
        "UINT16": _dtype("uint16", "int", "<u2", 16, 7),
        "UINT32": _dtype("uint32", "int", "<u4", 32, 15),
        "STRING": Dtype(name="string", kind="text", numpy=np.dtype(object), bits=0, blob_code=None),
    }
)
"""By the name in MIL.proto. Left out: 64-bit and bfloat16 types, which no Core ML operation takes."""


@dataclass(frozen=True, kw_only=True)
class TensorType:
    """A declared type.

    Attributes:
        dtype: Of the elements.
        shape: None for a dimension that is known only when the program runs.
    """

    dtype: Dtype
    shape: tuple[int | None, ...]

    @property
    def elements(self) -> int:
        """How many there are, in a type without unknown dimensions."""
        return math.prod(size or 0 for size in self.shape)

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Tell whether a tensor of this shape fits."""
        return len(shape) == len(self.shape) and all(
            declared in {None, found} for declared, found in zip(self.shape, shape, strict=True)
        )


def tensor_type(value_type: Any) -> TensorType:  # noqa: ANN401 - protobuf messages are untyped
    """Read a `ValueType` message.

    Raises:
        UnknownType: It is a list, a state, a dictionary, of unknown rank, or of a type not in `DTYPES`.
    """
    which = value_type.WhichOneof("type")
    if which != "tensorType":
        raise UnknownType(f"type {which}")
    declared = value_type.tensorType
    # The enum's own table: a newer coremltools may know types that this module does not.
    names = declared.DESCRIPTOR.fields_by_name["dataType"].enum_type.values_by_number
    # A number that even that table lacks is from a newer one still.
    name = names[declared.dataType].name if declared.dataType in names else f"number {declared.dataType}"
    if name not in DTYPES:
        raise UnknownType(f"data type {name.lower()}")
    if declared.rank < 0 or declared.rank != len(declared.dimensions):
        raise UnknownType("a tensor whose rank is not known")
    shape = tuple(
        dimension.constant.size if dimension.WhichOneof("dimension") == "constant" else None
        for dimension in declared.dimensions
    )
    return TensorType(dtype=DTYPES[name], shape=shape)


class WeightFiles:
    """The weight files of one package, mapped into memory when first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, NDArray[np.uint8]] = {}

    def read(self, file_name: str, offset: int, dtype: Dtype, elements: int) -> NDArray[Any]:
        """Read one blob, unpacked to one element an entry.

        Args:
            file_name: As the program writes it, `@model_path/weights/weight.bin`.
            offset: Of the blob's metadata record.
            dtype: What the program declares.
            elements: How many the program declares.

        Raises:
            Damaged: The file is missing, too short, or says something else than the program.

        Source: MILBlob/Blob/StorageFormat.hpp: a record of 64 bytes (sentinel 0xDEADBEEF, type, size in bytes, offset
        of the data, padding in bits, all little-endian), data aligned to 64 bytes, elements below 8 bits packed from
        the least significant bit.
        """
        data = self._mapped(file_name)
        if offset + 64 > data.size:
            raise Damaged(f"{file_name} ends at byte {data.size:,}, before the record at {offset:,}")
        sentinel, code, size, start = struct.unpack("<IIQQ", data[offset : offset + 24].tobytes())
        if sentinel != 0xDEADBEEF:
            raise Damaged(f"{file_name} has no blob record at byte {offset:,}")
        if code != dtype.blob_code:
            raise Damaged(f"{file_name}, byte {offset:,}: stored type {code}, the program declares {dtype.name}")
        expected = -(-elements * dtype.bits // 8)
        if size != expected:
            raise Damaged(f"{file_name}, byte {offset:,}: {size:,} bytes, the program declares {expected:,}")
        if start + size > data.size:
            raise Damaged(f"{file_name} ends at byte {data.size:,}, {start + size - data.size:,} bytes too early")
        return unpacked(data[start : start + size], dtype, elements)

    def _mapped(self, file_name: str) -> NDArray[np.uint8]:
        if file_name not in self._files:
            path = self._folder / file_name.removeprefix("@model_path/").removeprefix("weights/")
            if path.parent != self._folder:
                raise Damaged(f"{file_name} is not in the weights folder")
            try:
                self._files[file_name] = np.memmap(path, dtype=np.uint8, mode="r")
            except (OSError, ValueError) as error:
                raise Damaged(f"{file_name}: {error}") from error
        return self._files[file_name]


def unpacked(data: NDArray[np.uint8], dtype: Dtype, elements: int) -> NDArray[Any]:
    """Give each element an entry of its own.

    Args:
        data: Bytes. Types below 8 bits are packed without gaps, from the least significant bit.
        dtype: Of the elements.
        elements: How many; bits after the last are padding.

    Returns:
        `[elements]`; a view where the type has whole bytes.
    """
    if dtype.bits >= 8:
        return data.view(dtype.numpy)
    bits = np.unpackbits(data, bitorder="little")[: elements * dtype.bits].reshape(elements, dtype.bits)
    weights = 1 << np.arange(dtype.bits)
    if not dtype.name.startswith("u"):
        weights[-1] = -weights[-1]  # two's complement
    return (bits.astype(np.int16) @ weights).astype(dtype.numpy)


def constant(value: Any, weights: WeightFiles) -> tuple[Constant, TensorType]:  # noqa: ANN401
    """Read a `Value` message.

    Returns:
        Text, or an array of the declared shape; with the declared type.

    Raises:
        Damaged: What is stored contradicts the declared type.
        UnknownType: A list, a dictionary, or a type not in `DTYPES`.
    """
    declared = tensor_type(value.type)
    if None in declared.shape:
        raise UnknownType("a constant of unknown shape")
    shape = tuple(size or 0 for size in declared.shape)
    if value.WhichOneof("value") == "blobFileValue":
        blob = value.blobFileValue
        if declared.dtype.blob_code is None:
            raise UnknownType(f"data type {declared.dtype.name} in a weight file")
        return weights.read(blob.fileName, blob.offset, declared.dtype, declared.elements).reshape(shape), declared
    if value.immediateValue.WhichOneof("value") != "tensor":
        raise UnknownType(f"an immediate {value.immediateValue.WhichOneof('value')}")
    stored = value.immediateValue.tensor
    if declared.dtype.kind == "text":
        if len(stored.strings.values) != 1:
            raise UnknownType(f"{len(stored.strings.values)} texts in one constant")
        return str(stored.strings.values[0]), declared
    return _immediate(stored, declared).reshape(shape), declared


def _immediate(stored: Any, declared: TensorType) -> NDArray[Any]:  # noqa: ANN401
    which = stored.WhichOneof("value")
    if which == "bytes":
        data = np.frombuffer(stored.bytes.values, dtype=np.uint8)
        expected = -(-declared.elements * declared.dtype.bits // 8)
        if data.size != expected:
            raise Damaged(f"a constant has {data.size:,} bytes, its type declares {expected:,}")
        return unpacked(data, declared.dtype, declared.elements)
    kinds = {"floats": "float", "ints": "int", "bools": "bool"}
    if kinds.get(which) != declared.dtype.kind:
        # An empty tensor of any type may be stored as nothing at all.
        if declared.elements == 0:
            return np.zeros(0, dtype=declared.dtype.numpy)
        raise Damaged(f"a constant is stored as {which}, its type is {declared.dtype.name}")
    values = np.asarray(getattr(stored, which).values)
    if declared.dtype.kind == "int" and declared.dtype.bits < 32 and values.size:
        low, high = declared.dtype.limits
        if int(values.min()) < low or int(values.max()) > high:
            raise Damaged(f"a constant has numbers that are no {declared.dtype.name}")
    values = values.astype(declared.dtype.numpy)
    if values.size != declared.elements:
        raise Damaged(f"a constant has {values.size:,} elements, its type declares {declared.elements:,}")
    return values
