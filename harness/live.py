"""What a person sees while a run is under way, on standard error: devices side by side on a terminal, else lines."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from harness import units
from harness.events import (
    CellEnded,
    CellStarted,
    ConversionEnded,
    ConversionStarted,
    Cooling,
    DeviceCameBack,
    DeviceSetAside,
    DeviceWentAway,
    Event,
    LeaseTakenOver,
    ProcessEnded,
)
from harness.matrix import RUNTIMES
from harness.records import Artifact, CellResult, Failure, Measurement, NotRun, NotRunnable
from harness.statistics import median, process_median_ns
from harness.text import clean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self, TextIO

    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

    from harness.records import Cell, Plan

REFRESHES_HZ = 2.0
"""The view is drawn beside what is timed on this machine: twice a second costs it nothing that can be measured."""
WIDE = 100
"""Columns from which on there is space for a bar, and for models' whole names."""


class Watcher(Protocol):
    """Told of every step of a run, inside a `with` block."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __call__(self, event: Event) -> None:
        """Show one step."""
        ...


def watcher_for(plan: Plan, stream: TextIO = sys.stderr, *, cells: Sequence[Cell] | None = None) -> Watcher:
    """The table where `stream` is a terminal that can move its cursor, else one line a step.

    Args:
        plan: The run.
        stream: Where to show it.
        cells: Those that are done now; None for all of the plan.
    """
    # A log that is a terminal, as some CI services have it, keeps every step of a cursor.
    if stream.isatty() and not os.environ.get("CI"):
        from rich.console import Console  # noqa: PLC0415

        # By itself it heeds NO_COLOR, TERM and COLUMNS.
        console = Console(file=stream)
        if not console.is_dumb_terminal:
            return _Table(plan.cells if cells is None else cells, console)
    return _Lines(stream)


class _Lines:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_ended: object) -> None:
        return

    def __call__(self, event: Event) -> None:
        line = line_for(event)
        if line is not None:
            self._stream.write(f"{line}\n")
            self._stream.flush()


@dataclass
class _Row:
    """What is known of one device."""

    total: int
    done: int = 0
    failed: int = 0
    doing: str = "waiting for its first file"
    style: str = "dim"
    ends_at: float | None = None
    """On the monotonic clock, when it will be done with all its cells; None while that is not known."""

    def left(self) -> str:
        """How long it will still take, as it is shown."""
        if self.done == self.total:
            return "done"
        return "" if self.ends_at is None else f"~{units.elapsed(max(0.0, self.ends_at - time.monotonic()))}"


class _Table:
    """A row a device, one for the conversions, failures above."""

    def __init__(self, cells: Sequence[Cell], console: Console) -> None:
        from rich.live import Live  # noqa: PLC0415

        ids = dict.fromkeys(cell.device_id for cell in cells)
        self._rows = {id_: _Row(total=sum(cell.device_id == id_ for cell in cells)) for id_ in ids}
        self._files: tuple[str, str] | None = ("starting", "")
        self._live = Live(self, console=console, refresh_per_second=REFRESHES_HZ, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_ended: object) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        self._note(event)
        if _stays(event):
            self._live.console.print(line_for(event), markup=False, highlight=False)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As it is now, for as many columns as there are."""
        yield self._drawn(options.max_width)

    def _note(self, event: Event) -> None:
        match event:
            case ConversionStarted(model, artifact, number, total, cached):
                verb = "looking up" if cached else "converting"
                self._files = (f"{verb} {model} {artifact}", f"{number}/{total}")
            case ConversionEnded():
                self._files = None
            case CellStarted(cell, _, _, left):
                row = self._rows[cell.device_id]
                row.doing, row.style = _what(cell), ""
                row.ends_at = None if left is None else time.monotonic() + left
            case ProcessEnded(cell, record):
                self._say(cell.device_id, f"{_what(cell)}: {units.duration(process_median_ns(record))}", "")
            case Cooling(cell, reason):
                self._say(cell.device_id, f"cooling: {reason}", "cyan")
            case CellEnded(result, _, _):
                row = self._rows[result.cell.device_id]
                row.done += 1
                row.failed += isinstance(result.outcome, Failure)
                row.doing, row.style = "waiting for its next file" if row.done < row.total else "", "dim"
            case _:
                self._note_absence(event)

    def _note_absence(self, event: Event) -> None:
        match event:
            case DeviceWentAway(device_id, _, patience_s):
                self._say(device_id, f"gone; waiting up to {units.elapsed(patience_s)}", "yellow")
            case DeviceCameBack(device_id, _):
                self._say(device_id, "back", "")
            case DeviceSetAside(device_id, _):
                self._say(device_id, "set aside", "red")

    def _say(self, device_id: str, doing: str, style: str) -> None:
        self._rows[device_id].doing, self._rows[device_id].style = clean(doing), style

    def _drawn(self, width: int) -> Table:
        from rich.progress_bar import ProgressBar  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        is_wide = width >= WIDE
        table = Table(box=None, padding=(0, 1), expand=True, show_header=False)
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(12, width // 5))
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        if is_wide:
            table.add_column(width=20)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, justify="right", min_width=9)
        if self._files is not None:
            table.add_row(Text("files"), Text(self._files[0]), *[Text("")] * is_wide, Text(self._files[1]), Text(""))
        for device_id, row in self._rows.items():
            progress = [ProgressBar(total=row.total, completed=row.done, width=20)] * is_wide
            done = Text(f"{row.done}/{row.total}")
            if is_wide and row.failed:  # elsewhere the lines above tell
                done.append(f", {row.failed} failed", style="red")
            table.add_row(Text(device_id), Text(row.doing, style=row.style), *progress, done, Text(row.left()))
        return table


def line_for(event: Event) -> str | None:
    """A step as one line; None for steps too small to tell. What others say in it steers no terminal."""
    line = _line_for(event)
    return None if line is None else line[: len(line) - len(line.lstrip(" "))] + clean(line)


def _line_for(event: Event) -> str | None:
    match event:
        case ConversionStarted(model, artifact, number, total, is_cached=False):
            return f"[{number}/{total}] converting {model} {artifact} ..."
        case ConversionEnded(model, artifact, Failure() as failure, _):
            return f"        {model} {artifact} failed: {failure.message}"
        case ConversionEnded(model, artifact, Artifact() as made, seconds, is_cached=False):
            return f"        {model} {artifact}: {units.mebibytes_said(made.size_bytes)}, {units.elapsed(seconds)}"
        case CellStarted(cell, number, total, left):
            shown = "" if left is None else f", about {units.elapsed(left)} left"
            return f"[{number}/{total}] timing {_name(cell)}{shown} ..."
        case CellEnded(result, number, total):
            return f"[{number}/{total}] {_ended(result)}"
    return _about_device(event)


def _about_device(event: Event) -> str | None:
    match event:
        case LeaseTakenOver(device_id, previous):
            return f"        {device_id}: taken over from {previous}"
        case DeviceWentAway(device_id, why, patience_s):
            return f"        {device_id} went away: {why}; waiting for it up to {units.elapsed(patience_s)} ..."
        case DeviceCameBack(device_id, seconds):
            return f"        {device_id} is back after {units.elapsed(seconds)}"
        case DeviceSetAside(device_id, why):
            return f"        {device_id}: {why}"
    return None


def _stays(event: Event) -> bool:
    """Whether a step is worth a line that stays above the table: nobody should have to catch a failure in passing."""
    match event:
        case ConversionEnded(_, _, Failure()) | CellEnded(CellResult(outcome=Failure()), _, _):
            return True
        case LeaseTakenOver() | DeviceWentAway() | DeviceCameBack() | DeviceSetAside():
            return True
    return False


def _ended(result: CellResult) -> str:
    name = _name(result.cell)
    match result.outcome:
        case Measurement() as measured if "emulated" in measured.accepted_obstacles:
            return f"{name}: measured, and emulated: its times mean nothing; {units.elapsed(result.seconds)}"
        case Measurement() as measured:
            medians = [m for p in measured.processes if p.discarded is None and (m := process_median_ns(p)) is not None]
            return f"{name}: p50 {units.duration(median(medians))}, {units.elapsed(result.seconds)}"
        case Failure(message=message):
            return f"{name}: failed: {message}"
        case NotRunnable(reason=reason):
            return f"{name}: cannot run here: {reason}"
        case NotRun(reason=reason):
            return f"{name}: not run: {reason}"


def _name(cell: Cell) -> str:
    return f"{_what(cell)}, {cell.device_id}"


def _what(cell: Cell) -> str:
    version = f", {cell.choice.title}" if cell.choice.version else ""
    runtime = RUNTIMES.get(cell.choice.runtime)
    threads = "1 thread" if cell.choice.threads == 1 else f"{cell.choice.threads} threads"
    shown = f", {threads}" if runtime is None or runtime.takes_threads else ""
    return f"{cell.model} {cell.format}/{cell.precision}{version}{shown}"
