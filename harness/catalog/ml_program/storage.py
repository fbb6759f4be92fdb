"""How a package stores its weights, read back from the file: what was asked for is not always what was done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.catalog.ml_program.program import Program

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Storage:
    """How the weights of a package are stored.

    A weight is a floating-point constant of two or more dimensions. Biases and BatchNorm's statistics are not, which
    no compressor touches.

    Attributes:
        shares: Kind -> share of the elements of all weights, largest first. A kind is an element type (`fp32`, `fp16`,
            `int8`, `uint4`...), `palette` with the bits of an index (`palette4`), or `sparse`, alone when the values
            that are left are plain floats, or with their kind (`sparse+int8`).
        elements: Of all weights, zeros included.
        zeros: Kind -> how many elements are 0 once decompressed.
    """

    shares: Mapping[str, float]
    elements: int
    zeros: Mapping[str, int]

    @property
    def zero_fraction(self) -> float:
        """Share of all elements that are 0 once decompressed."""
        return sum(self.zeros.values()) / self.elements if self.elements else 0.0

    def zeros_in(self, kind: str) -> float:
        """The share of all zeros that are stored in one kind, as `share` takes it; 0.0 where there is no zero."""
        total = sum(self.zeros.values())
        return sum(count for name, count in self.zeros.items() if _is(name, kind)) / total if total else 0.0

    def share(self, kind: str) -> float:
        """The share of one kind. `sparse` and `palette` stand for all that begin so; 0.0 where there is none."""
        return sum(value for name, value in self.shares.items() if _is(name, kind))


def storage_of(path: str | Path) -> Storage:
    """Read how an `.mlpackage` stores its weights. Decompresses all of them.

    Raises:
        UnreadableModel: It is not an `.mlpackage`, or is damaged.
        Unsupported: It is no ML Program, or compresses in a way that is not known.
        MissingExtra: coremltools or torch is not installed.
    """
    counted: Counter[str] = Counter()
    zeros: Counter[str] = Counter()
    for weight in Program.load(path).weights():
        counted[weight.kind] += weight.elements
        zeros[weight.kind] += weight.zeros
    elements = counted.total()
    return Storage(
        shares={kind: count / elements for kind, count in counted.most_common()},
        elements=elements,
        zeros=dict(zeros),
    )


def _is(name: str, kind: str) -> bool:
    family = name.partition("+")[0].rstrip("0123456789")
    return kind in {name, family} if family in {"sparse", "palette"} else name == kind
