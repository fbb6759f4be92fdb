"""What a run tells of itself while it is under way. Devices work at once, and tell one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from harness.records import Artifact, Cell, CellResult, Failure, ProcessRecord


@dataclass(frozen=True)
class ConversionStarted:
    """A file is being made, or looked up."""

    model: str
    artifact: str
    number: int
    total: int
    is_cached: bool


@dataclass(frozen=True)
class ConversionEnded:
    """A file is there, or is not."""

    model: str
    artifact: str
    made: Artifact | Failure
    seconds: float
    is_cached: bool = False


@dataclass(frozen=True)
class CellStarted:
    """A cell is being measured."""

    cell: Cell
    number: int
    total: int
    seconds_left: float | None
    """For this and the following cells of its device, from those that are done there; None before the first."""


@dataclass(frozen=True)
class ProcessEnded:
    """One process of the cell under way has ended."""

    cell: Cell
    record: ProcessRecord


@dataclass(frozen=True)
class Cooling:
    """A device is too warm for the next process, and is left alone for a while."""

    cell: Cell
    reason: str


@dataclass(frozen=True)
class CellEnded:
    """A cell is stored."""

    result: CellResult
    number: int
    total: int


@dataclass(frozen=True)
class LeaseTakenOver:
    """A device was still marked as in use by a run that does not use it any more."""

    device_id: str
    previous: str
    """Whose it was, and why it does not count, in words."""


@dataclass(frozen=True)
class DeviceWentAway:
    """A device does not answer, and is waited for."""

    device_id: str
    why: str
    patience_s: float


@dataclass(frozen=True)
class DeviceCameBack:
    """It answers again."""

    device_id: str
    seconds: float


@dataclass(frozen=True)
class DeviceSetAside:
    """A device gets nothing more to do in this run."""

    device_id: str
    why: str


Event: TypeAlias = (
    ConversionStarted
    | ConversionEnded
    | CellStarted
    | ProcessEnded
    | Cooling
    | CellEnded
    | LeaseTakenOver
    | DeviceWentAway
    | DeviceCameBack
    | DeviceSetAside
)
