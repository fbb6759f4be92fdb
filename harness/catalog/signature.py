"""What a ready file says of itself: inputs, outputs, how its weights are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from harness.records import TensorSpec

Storage: TypeAlias = Literal["float32", "float16", "integer"]

UNKNOWN_DIMENSION = -1
"""A dimension that the file leaves open."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A file's own description.

    Attributes:
        inputs: In the file's order. An open dimension is `UNKNOWN_DIMENSION`.
        outputs: The same.
        parameters: Elements of all stored floating-point weights, quantized ones included; None where the file leaves
            it open what is a weight.
        storage: `integer` for a file with quantized weights or activations, `float16` for one with any half-precision
            weights, else `float32`.
        companions: Names of the files beside it that hold its weights.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: int | None
    storage: Storage
    companions: tuple[str, ...] = ()


class Malformed(Exception):
    """What is wrong with a file, in a few words."""


MAGIC = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"PK\x03\x04": "a zip archive",
    b"\x89HDF": "an HDF5 file",
    b"version https://git-lfs": "a Git LFS pointer; run `git lfs pull`",
}


def kind_by_first_bytes(head: bytes) -> str | None:
    """What a file that is not what it should be is instead, or None where nobody knows."""
    if head[4:8] == b"TFL3":
        return "a TFLite file"
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)
