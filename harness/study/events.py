"""What a study tells whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from harness.compress.train import Epoch
    from harness.events import Event
    from harness.study.folder import FileResult, NetworkResult
    from harness.study.variants import Variant

Step: TypeAlias = Literal["train", "evaluate", "measure"]
"""`evaluate` converts, too: a file is evaluated as soon as it is made."""


@dataclass(frozen=True)
class DataProgress:
    """Images are being drawn or decoded."""

    done: int
    total: int


@dataclass(frozen=True)
class VariantStarted:
    """A network is being trained, or converted and evaluated."""

    step: Step
    variant: Variant
    fold: int
    number: int
    total: int


@dataclass(frozen=True)
class Trained:
    """An epoch of a network is over. Several networks may be under way."""

    variant: Variant
    epoch: Epoch


@dataclass(frozen=True)
class Evaluated:
    """A network or a file was tested."""

    result: NetworkResult | FileResult


@dataclass(frozen=True)
class Stopping:
    """It was interrupted; files under way are finished first."""


StudyEvent: TypeAlias = "DataProgress | VariantStarted | Trained | Evaluated | Stopping | Event"
