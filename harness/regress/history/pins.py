"""The reference build of a model: what its figures are shown as ratios of.

A pin names either an earlier run, whose figures stay the measure, or another model that is measured in the same runs (a
file that is kept as it was). The second is the better one: what slowed the machine down slowed both, and is not in the
ratio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from harness.decoding import decode
from harness.errors import UnreadableRecord, UnwritableFolder
from harness.records import Record
from harness.workspace import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

FILE: Final = "pins.json"


class Pin(Record, frozen=True, kw_only=True):
    """One of the two is given."""

    run: str | None = None
    """Name of an earlier run."""
    model: str | None = None
    """Name of another model, in the same run, on the same device, with the same runtime configuration."""

    def __str__(self) -> str:
        return f"run {self.run}" if self.model is None else f"{self.model} in the same run"


def read_pins(folder: Path) -> dict[str, Pin]:
    """Model -> its reference.

    Raises:
        UnreadableRecord: The file is damaged. Whoever only shows figures goes on without pins, and says so.
    """
    path = folder / FILE
    try:
        return decode(path.read_bytes(), dict[str, Pin])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        problem = f"damaged: {error}; delete it and pin again"
        raise UnreadableRecord(str(path), problem) from error


def write_pin(folder: Path, model: str, pin: Pin | None) -> None:
    """Pin a model, or take its pin away.

    Raises:
        UnreadableRecord: The file with the other pins is damaged.
        UnwritableFolder: It cannot be written.
    """
    from filelock import FileLock  # noqa: PLC0415  (40 ms)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "pins.lock", timeout=10):
            pins = read_pins(folder)
            pins.pop(model, None)
            if pin is not None:
                pins[model] = pin
            write_atomically(folder / FILE, msgspec.json.format(msgspec.json.encode(pins, order="sorted"), indent=1))
    except OSError as error:
        raise UnwritableFolder(str(folder), error.strerror or str(error)) from error
