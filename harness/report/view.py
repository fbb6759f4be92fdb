"""What every kind of report shows: one row a planned cell, with its figures and warnings, grouped by device."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from harness.matrix import RUNTIMES
from harness.records import Failure, Measurement, NotRun, NotRunnable
from harness.summary import evidence, is_simulated, summarise_all, warnings
from harness.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from harness.records import Accuracy, Cell, CellResult, DeviceFacts, Evidence, Plan, PlannedModel
    from harness.summary import CellWarning, Summary

ROOM: Final = 60
"""Rows of a run of which its page has blocks and operators: with more of them it would outgrow its use."""
Status: TypeAlias = Literal["measured", "failed", "not_runnable", "not_run", "simulated"]


class Run(Protocol):
    """What is needed of a stored run."""

    @property
    def folder(self) -> Path:
        """Where it is stored."""

    @property
    def plan(self) -> Plan:
        """What it set out to do."""

    @property
    def results(self) -> tuple[CellResult, ...]:
        """The cells that are done, in the plan's order."""

    @property
    def accuracies(self) -> Mapping[str, Accuracy]:
        """What the files that were measured still recognise, by SHA-256."""


@dataclass(frozen=True)
class Row:
    """One planned cell, as far as it got."""

    cell: Cell
    result: CellResult | None
    summary: Summary | None
    warnings: tuple[CellWarning, ...]
    file: str
    """What tells it from the other rows of its model, without the threads: `onnx/int8`."""
    status: Status
    evidence: Evidence | None = None
    """How far a Core ML file, or an iPhone's row, is proved; None for rows of other kinds."""
    accuracy: Accuracy | None = None
    """What its very file still recognises; None where nobody has tested that."""

    @property
    def name(self) -> str:
        """File and threads: `onnx/int8, 2 threads`; the file alone where the runtime takes as many as it likes."""
        return self.file if self.threads is None else f"{self.file}, {threads(self.threads)}"

    @property
    def threads(self) -> int | None:
        """As asked for; None of a runtime that is not asked."""
        choice = self.cell.choice
        runtime = RUNTIMES.get(choice.runtime)
        return choice.threads if runtime is None or runtime.takes_threads else None

    @property
    def measured(self) -> Measurement | None:
        """The measurement behind the figures, where there are figures."""
        outcome = self.result.outcome if self.result else None
        return outcome if self.summary is not None and isinstance(outcome, Measurement) else None

    @property
    def failure(self) -> Failure | None:
        """Why there is no figure, where the cell was tried."""
        outcome = self.result.outcome if self.result else None
        if isinstance(outcome, Measurement) and self.status == "failed":
            message = "every process or block was disturbed and discarded; no figure is left"
            return Failure(stage="measure", kind="disturbed", message=message)
        return outcome if isinstance(outcome, Failure) else None

    @property
    def reason(self) -> str:
        """Why there is no figure, in a sentence; empty where there is one."""
        outcome = self.result.outcome if self.result else None
        if outcome is None:
            return "not run yet"
        if isinstance(outcome, NotRunnable | NotRun):
            return outcome.reason
        if self.status == "simulated":
            return "the outputs are right; a simulator computes on the Mac that runs it, so that there are no times"
        return self.failure.message if self.failure else ""


@dataclass(frozen=True)
class ModelRows:
    """The rows of one model on one device."""

    name: str
    planned: PlannedModel | None
    rows: tuple[Row, ...]

    @property
    def is_untrained(self) -> bool:
        """Whether an accuracy of these weights would say nothing."""
        return self.planned is not None and self.planned.spec.trained is False


@dataclass(frozen=True)
class DeviceRows:
    """The rows of one device."""

    id: str
    facts: DeviceFacts | None
    models: tuple[ModelRows, ...]
    shares_its_name: bool = False
    """Another device of the run is called the same."""
    room: int = ROOM
    """Of how many of its rows a page has blocks and operators: the devices of a run share `ROOM` evenly."""

    @property
    def name(self) -> str:
        """What people call it, with its id where that is not enough."""
        name = self.facts.name if self.facts else self.id
        return f"{name} ({self.id})" if self.shares_its_name else name

    @property
    def rows(self) -> tuple[Row, ...]:
        """All of them, by model."""
        return tuple(row for model in self.models for row in model.rows)

    @property
    def is_emulated(self) -> bool:
        """Whether its times mean nothing."""
        return self.facts is not None and self.facts.is_emulated


@dataclass(frozen=True)
class View:
    """A run, ready to be shown."""

    plan: Plan
    folder: Path
    rows: tuple[Row, ...]
    """In the plan's order."""
    devices: tuple[DeviceRows, ...]
    """In the plan's order, emulated ones last."""


def view(run: Run) -> View:
    """Compute all figures of a run and put them in order."""
    results = {result.cell.id: result for result in run.results}
    summaries = summarise_all(run.results, run.plan.devices)
    files = _file_labels(run.plan.cells)
    rows = tuple(
        replace(
            _row(cell, results.get(cell.id), summaries.get(cell.id), files[cell.id], run.plan),
            accuracy=_accuracy(results.get(cell.id), run.accuracies),
        )
        for cell in run.plan.cells
    )
    devices = _told_apart(
        [_device(device_id, rows, run.plan) for device_id in dict.fromkeys(row.cell.device_id for row in rows)]
    )
    # Of an emulated device nothing is told that takes room.
    room = max(1, ROOM // max(1, sum(not device.is_emulated for device in devices)))
    return View(
        plan=run.plan,
        folder=run.folder,
        rows=rows,
        devices=tuple(replace(each, room=room) for each in sorted(devices, key=lambda device: device.is_emulated)),
    )


def threads(count: int) -> str:
    """`1 thread`, `2 threads`."""
    return "1 thread" if count == 1 else f"{count} threads"


def _row(cell: Cell, result: CellResult | None, summary: Summary | None, file: str, plan: Plan) -> Row:
    status: Status = "failed"
    device = next((device for device in plan.devices if device.id == cell.device_id), None)
    if result is None or isinstance(result.outcome, NotRun):
        status = "not_run"
    elif isinstance(result.outcome, Measurement) and is_simulated(device):
        status = "simulated"
    elif isinstance(result.outcome, NotRunnable):
        status = "not_runnable"
    elif summary is not None:
        status = "measured"
    found = warnings(summary, result, plan) if result else ()
    proved = evidence(result, device) if result else None
    return Row(cell=cell, result=result, summary=summary, warnings=found, file=file, status=status, evidence=proved)


def _accuracy(result: CellResult | None, known: Mapping[str, Accuracy]) -> Accuracy | None:
    return known.get(result.artifact.sha256) if result is not None and result.artifact is not None else None


def _device(device_id: str, rows: Sequence[Row], plan: Plan) -> DeviceRows:
    by_model: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.cell.device_id == device_id:
            by_model[row.cell.model].append(row)
    planned = {model.name: model for model in plan.models}
    return DeviceRows(
        id=device_id,
        facts=next((device for device in plan.devices if device.id == device_id), None),
        models=tuple(
            ModelRows(name=name, planned=planned.get(name), rows=tuple(found)) for name, found in by_model.items()
        ),
    )


def _told_apart(devices: Sequence[DeviceRows]) -> list[DeviceRows]:
    names = Counter(device.name for device in devices)
    return [replace(device, shares_its_name=names[device.name] > 1) for device in devices]


def _file_labels(cells: Sequence[Cell]) -> dict[str, str]:
    """Format and precision, and of the rest only what differs within the run."""
    runtimes: dict[str, set[str]] = defaultdict(set)
    for cell in cells:
        runtimes[cell.format].add(cell.choice.title)
    one_optimization = _all_equal(cell.choice.graph_optimization for cell in cells)
    one_option = _all_equal(sorted(cell.choice.options.items()) for cell in cells)
    one_driver = _all_equal(cell.choice.driver for cell in cells)
    one_affinity = _all_equal(cell.choice.affinity for cell in cells)
    labels = {}
    for cell in cells:
        parts = [f"{cell.format}/{cell.precision}"]
        if len(runtimes[cell.format]) > 1:
            parts.append(cell.choice.title)
        if cell.choice.accelerator != "cpu":
            parts.append(cell.choice.accelerator)
        if not one_optimization:
            parts.append(cell.choice.graph_optimization)
        if not one_option:
            parts += [f"{key}={value}" for key, value in sorted(cell.choice.options.items())]
        if not one_driver:
            parts.append(f"by {cell.choice.driver}")
        if not one_affinity:
            parts.append(f"on {cell.choice.affinity} processors")
        labels[cell.id] = clean(" ".join(parts))
    return labels


def _all_equal(values: Iterable[object]) -> bool:
    several = list(values)
    return all(value == several[0] for value in several)
