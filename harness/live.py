"""What a person sees while a run is under way, on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

from harness import units
from harness.events import CellEnded, CellStarted, ConversionEnded, ConversionStarted, Event, ProcessEnded
from harness.records import Artifact, Failure, Measurement, NotRunnable
from harness.statistics import median, process_median_ns

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self, TextIO

    from harness.records import Cell, CellResult, Plan


class Watcher(Protocol):
    """Told of every step of a run, inside a `with` block."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __call__(self, event: Event) -> None:
        """Show one step."""
        ...


def watcher_for(plan: Plan, stream: TextIO = sys.stderr) -> Watcher:
    """The bar where `stream` is a terminal, else one line a step."""
    return _Bar(plan, stream) if stream.isatty() else _Lines(stream)


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


class _Bar:
    def __init__(self, plan: Plan, stream: TextIO) -> None:
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn  # noqa: PLC0415
        from rich.table import Column  # noqa: PLC0415

        self._per_cell = plan.measure.processes_min
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=Console(file=stream),
            transient=True,
            expand=True,
        )
        self._task = self._progress.add_task("Starting", total=None, left="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_ended: object) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        update = self._progress.update
        match event:
            case ConversionStarted(model, artifact, number, total, cached):
                verb = "Looking up" if cached else "Converting"
                update(self._task, description=f"{verb} {model} {artifact}", completed=number - 1, total=total, left="")
            case CellStarted(cell, number, total, left):
                shown = "" if left is None else f"about {units.elapsed(left)} left"
                update(self._task, description=f"Timing {_name(cell)}", completed=number - 1, total=total, left=shown)
            case ProcessEnded(cell, record):
                nth = f"process {record.index + 1}, {units.duration(process_median_ns(record))}"
                update(self._task, description=f"Timing {_name(cell)}: {nth}")
            case CellEnded(_, number, total):
                update(self._task, completed=number, total=total)
            case ConversionEnded(_, _, Failure()):
                self._progress.console.print(line_for(event), markup=False, highlight=False)
        if isinstance(event, CellEnded) and isinstance(event.result.outcome, Failure):
            self._progress.console.print(line_for(event), markup=False, highlight=False)


def line_for(event: Event) -> str | None:
    """A step as one line; None for steps too small to tell."""
    match event:
        case ConversionStarted(model, artifact, number, total, is_cached=False):
            return f"[{number}/{total}] converting {model} {artifact} ..."
        case ConversionEnded(model, artifact, Failure() as failure, _):
            return f"        {model} {artifact} failed: {failure.message}"
        case ConversionEnded(model, artifact, Artifact() as made, seconds, is_cached=False):
            size = units.mebibytes(made.size_bytes)
            return f"        {model} {artifact}: {size} MiB, {units.elapsed(seconds)}"
        case CellStarted(cell, number, total, left):
            shown = "" if left is None else f", about {units.elapsed(left)} left"
            return f"[{number}/{total}] timing {_name(cell)}{shown} ..."
        case CellEnded(result, number, total):
            return f"[{number}/{total}] {_ended(result)}"
    return None


def _ended(result: CellResult) -> str:
    name = _name(result.cell)
    match result.outcome:
        case Measurement() as measured:
            medians = [m for p in measured.processes if p.discarded is None and (m := process_median_ns(p)) is not None]
            return f"{name}: p50 {units.duration(median(medians))}, {units.elapsed(result.seconds)}"
        case Failure(message=message):
            return f"{name} failed: {message}"
        case NotRunnable(reason=reason):
            return f"{name} not runnable here: {reason}"


def _name(cell: Cell) -> str:
    threads = "1 thread" if cell.choice.threads == 1 else f"{cell.choice.threads} threads"
    version = f", {cell.choice.title}" if cell.choice.version else ""
    return f"{cell.model} {cell.format}/{cell.precision}{version}, {threads}, {cell.device_id}"
