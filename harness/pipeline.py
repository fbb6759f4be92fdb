"""The only module that knows the order of the stages.

    suite -> plan -> (checkpoint -> artifact) for every file -> (deploy -> measure) for every cell -> stored run

All devices work at once (`farm.py`), each on one cell at a time, and files are converted while they measure. Only this
machine itself begins when everything is converted, and the timing programs and libraries of all devices are there: a
converter or compiler beside a timed process would be in its figures. A step that fails is a `Failure` in the cells that
needed it, and the rest goes on.
"""

from __future__ import annotations

import logging
import shutil
import sys
import threading
import time
import traceback
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

import harness
from harness.catalog.checkpoint import find_checkpoint, make_checkpoint, need_framework
from harness.catalog.data import arrays_of
from harness.catalog.datasets import open_dataset
from harness.catalog.files import READY_SOURCES
from harness.catalog.models import FoundModel, find_model
from harness.convert.apple_system import system_for
from harness.convert.convert import check_package as read_back
from harness.convert.convert import is_converted, make_artifact, need_converters, right_answer, why_not
from harness.deploy.push import push
from harness.deploy.runner import build_and_fetch, choose_runner
from harness.deploy.tools import push_tool, require_files
from harness.device import debts, retries
from harness.device.borrowed import borrowed
from harness.device.halting import Halted
from harness.device.hold import require_affinity, why_not_confined
from harness.device.lease import identity, leased
from harness.device.obstacles import THERMAL_STATUS, not_fit, require_known
from harness.device.profile import accepted_obstacles
from harness.device.registry import ALL_DEVICES, find_device, list_devices
from harness.errors import (
    BadSetting,
    DeviceBusy,
    DeviceError,
    DeviceFull,
    DeviceNotFound,
    HarnessError,
    LeaseLost,
    MissingExtra,
    MissingTool,
    UnknownName,
    UnreadableModel,
    UnwritableFolder,
    UsageError,
)
from harness.evaluate.evaluate import evaluate, image_shape, part_to_test, require_task
from harness.events import (
    CellEnded,
    ConversionEnded,
    ConversionStarted,
    Cooling,
    DeviceSetAside,
    Event,
    LeaseTakenOver,
    ProcessEnded,
)
from harness.farm import PATIENCE_S, Terms, at_work, require_planned
from harness.matrix import expand, need_runtime, why_not_on
from harness.measure.official.tools import require_tool, run_tool
from harness.measure.session import Question, measure
from harness.records import (
    SCHEMA_VERSION,
    Accuracy,
    Artifact,
    Cell,
    CellResult,
    Checkpoint,
    Failure,
    ModelFormat,
    ModelSpec,
    NotRun,
    NotRunnable,
    Obstacle,
    Outcome,
    Plan,
    PlannedModel,
    Precision,
    ProcessRecord,
    Stage,
    Suite,
    Task,
    ToolSummary,
)
from harness.regress.history.revision import own_commit
from harness.settings import bad_setting
from harness.store import StoredRun, remove_empty_run, write_run
from harness.text import without_name
from harness.workspace import cache_dir, require_cache, require_output, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Self

    from harness.convert.child import Checked
    from harness.device.device import Device
    from harness.device.lease import Lease
    from harness.records import DeviceFacts
    from harness.store import RunWriter

RECORDED_PACKAGES = (
    "torch",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "litert-torch",
    "ai-edge-litert",
    "ai-edge-quantizer",
    "coremltools",
    "tensorflow-cpu",
    "tensorflow",
    "numpy",
)


_Made = TypeVar("_Made")
_log = logging.getLogger(__name__)


def plan_run(
    suite: Suite,
    *,
    command: Sequence[str] = (),
    accept: Sequence[str] = (),
    require_accelerator: bool = False,
    name: str | None = None,
    file: Path | None = None,
) -> Plan:
    """Turn a suite into a plan: every name looked up, everything cheap checked, nothing slow begun.

    Args:
        suite: The matrix.
        command: What the user typed, for the record.
        accept: Obstacles that do not keep a device from being used, by name.
        require_accelerator: Whether a node that runs elsewhere than asked makes its cell a failure.
        name: Of the run; None for the time and the suite's name.
        file: The suite's TOML, where it has one: mistakes are said with their line.

    Raises:
        DeviceNotFit: A device is in a state that forbids a measurement, and `accept` does not name it.
        UnknownName: A model, artifact, runtime or device is not known.
        BadSetting: A model.toml is wrong, or two models have one name.
        MissingExtra: A runtime or a converter that the run needs is not installed.
    """
    require_cache()
    require_known(accept)
    found = [
        _placed(partial(find_model, reference), file, ("models", index)) for index, reference in enumerate(suite.models)
    ]
    _require_distinct(found, suite)
    suite = msgspec.structs.replace(suite, devices=_device_ids(suite.devices, accept))
    devices = [
        _placed(partial(find_device, device_id), file, ("devices", index))
        for index, device_id in enumerate(suite.devices)
    ]
    for index, affinity in enumerate(suite.affinities):
        _placed(partial(require_affinity, affinity), file, ("affinities", index))
    cells = expand(suite, {model.spec.name: READY_SOURCES.get(type(model.spec.source)) for model in found})
    _require_tools(cells, {model.spec.name: model.spec for model in found})
    now = datetime.now(UTC)
    return Plan(
        schema=SCHEMA_VERSION,
        run=name or f"{now:%Y-%m-%d-%H%M%S}-{suite.name}",
        suite=suite.name,
        created_at=now.isoformat(timespec="seconds"),
        harness_version=harness.__version__,
        harness_commit=own_commit(),
        command=tuple(command),
        models=tuple(PlannedModel(spec=model.spec, origin=model.origin) for model in found),
        devices=tuple(device.facts() for device in devices),
        measure=suite.measure,
        cells=cells,
        obstacles={device.id: (*_preflight(device, accept), *_own_noise(device, devices)) for device in devices},
        accepted_obstacles=tuple(accept),
        require_accelerator=require_accelerator,
        packages=_versions(),
    )


def why_never(devices: Sequence[DeviceFacts], cells: Sequence[Cell]) -> dict[str, str | None]:
    """Cell id -> why its device can never run it, as far as that is known beforehand; None where it may."""
    facts = {device.id: device for device in devices}
    return {
        cell.id: why_not_on(cell.choice, facts[cell.device_id]) or why_not_confined(facts[cell.device_id], cell.choice)
        for cell in cells
    }


def run(
    plan: Plan,
    folder: Path,
    *,
    patience_s: float = PATIENCE_S,
    watch: Callable[[Event], None] = lambda _event: None,
) -> StoredRun:
    """Do what a plan says, in a new folder.

    Args:
        plan: What to do.
        folder: Where to store it.
        patience_s: How long to wait for a device that has gone away.
        watch: Told of every step.

    Raises:
        DeviceBusy: Another run is using one of the devices. No run was begun, and no folder of it is left.
        RunLocked, UnwritableFolder, DeviceFull: The run cannot be stored. What was stored is intact.
    """
    try:
        with write_run(folder, plan) as writer:
            _run_cells(plan, plan.cells, writer, watch, patience_s)
    except DeviceBusy:
        remove_empty_run(folder)
        raise
    return StoredRun.open(folder)


def resume(
    folder: Path,
    *,
    retry_failed: bool = False,
    patience_s: float = PATIENCE_S,
    watch: Callable[[Event], None] = lambda _event: None,
) -> StoredRun:
    """Do what is left of a plan.

    Args:
        folder: The run.
        retry_failed: Also do again the cells that failed.
        patience_s: How long to wait for a device that has gone away.
        watch: Told of every step.

    Raises:
        UnreadableRecord: There is no run to go on with.
        RunLocked: It is still under way.
        DeviceBusy: Another run is using one of the devices.
    """
    stored = StoredRun.open(folder)
    cells = cells_left(stored, retry_failed=retry_failed)
    with write_run(folder) as writer:
        _run_cells(stored.plan, cells, writer, watch, patience_s)
    return StoredRun.open(folder)


def cells_left(stored: StoredRun, *, retry_failed: bool = False) -> tuple[Cell, ...]:
    """What `resume` would do of a run, in the plan's order."""
    again = {r.cell.id for r in stored.results if retry_failed and isinstance(r.outcome, Failure)}
    wanted = again | {cell.id for cell in stored.missing}
    return tuple(cell for cell in stored.plan.cells if cell.id in wanted)


def convert_model(
    reference: str,
    artifacts: Sequence[str],
    *,
    into: Path | None = None,
    watch: Callable[[Event], None] = lambda _event: None,
) -> dict[str, Artifact | Failure | NotRunnable]:
    """Make files of one model, each compared with the original.

    Args:
        reference: The model, as `find_model` takes it.
        artifacts: `format/precision` of each.
        into: Copy them here, as `<model>-<precision>.<suffix>`.
        watch: Told of every step.

    Returns:
        `format/precision` -> the file, in `into` where that is given, or why there is none.

    Raises:
        UnknownName, MissingTool: See `plan_run`.
        UnwritableFolder: The cache or `into` cannot be written. Nothing slow was begun.
    """
    require_cache()
    if into is not None:
        require_output(into)
    found = find_model(reference)
    suite = Suite(schema=1, name="convert", models=(reference,), artifacts=tuple(artifacts))
    cells = expand(suite, {found.spec.name: READY_SOURCES.get(type(found.spec.source))})
    prepared: dict[_File, _Prepared] = {}
    files = {cell.id: _file_of(cell, None) for cell in cells}
    _prepare({found.spec.name: found.spec}, tuple(files.values()), watch, prepared.__setitem__)
    made = {f"{cell.format}/{cell.precision}": prepared[files[cell.id]].made for cell in cells}
    return made if into is None else {name: _copied(artifact, into) for name, artifact in made.items()}


def _copied(made: Artifact | Failure | NotRunnable, into: Path) -> Artifact | Failure | NotRunnable:
    """The copy of a file that was made, in the user's folder; what was not made as it is."""
    if not isinstance(made, Artifact):
        return made
    into.mkdir(parents=True, exist_ok=True)
    source = Path(made.path)
    copy = into / f"{made.model}-{made.precision}{source.suffix}"
    _copy(source, copy)
    return msgspec.structs.replace(made, path=str(copy))


def run_official_tool(
    tool: str,
    program: Path,
    model: Path,
    device_id: str,
    *,
    threads: int = 1,
    iterations: int = 50,
    more: Sequence[str] = (),
    timeout_s: float = 600.0,
) -> ToolSummary:
    """Put a runtime's own tool and a file on a device, run it once there, and read what it says.

    Raises:
        UnknownName: There is no such tool or device.
        UnreadableModel: The program or the model is not there.
        AbiMismatch: The program is built for something else than the device.
        DeviceError, RuntimeRefused: See `harness.measure.official.tools.run_tool`; or another run took the device over.
    """
    require_tool(tool)
    require_files(program, model)
    with borrowed(find_device(device_id), f"tool {tool}") as ours:
        program_there, model_there = push_tool(program, model, ours.device)
        found = run_tool(
            tool,
            ours.device,
            program=program_there,
            model=model_there,
            threads=threads,
            iterations=iterations,
            more=tuple(more),
            timeout_s=timeout_s,
        )
        ours.require()
    return found


def check_package(path: Path, against: str | None = None) -> Checked:
    """Read a Core ML package back, and compare it with the model it was made from.

    Args:
        path: An `.mlpackage`.
        against: The model, as `find_model` takes it; None compares with nothing.

    Raises:
        UsageError: There is nothing of this name.
        UnknownName: There is no such model.
        BadData: See `harness.convert.convert.check_package`.
        MissingExtra: Something that this needs is not installed.
    """
    if not path.exists():
        raise UsageError(f"there is no {path}")
    if against is None:
        return read_back(path)
    spec = find_model(against).spec
    return read_back(path, spec, make_checkpoint(spec))


class _File(NamedTuple):
    """One file that cells need."""

    model: str
    format: ModelFormat
    precision: Precision
    system: str | None
    """That a Core ML file has to load on, where the usual one does not."""


def _file_of(cell: Cell, device: DeviceFacts | None) -> _File:
    system = None if device is None else system_for(device, cell.format, cell.precision)
    return _File(cell.model, cell.format, cell.precision, system)


def evaluate_model(
    reference: str,
    artifacts: Sequence[str],
    data: str,
    *,
    fold: int | None = None,
    task: Task | None = None,
    output: str | None = None,
    watch: Callable[[Event], None] = lambda _event: None,
    watch_data: Callable[[int, int], None] = lambda _done, _total: None,
    watch_found: Callable[[str, Accuracy | Failure | NotRunnable], None] = lambda _name, _found: None,
) -> dict[str, Accuracy | Failure | NotRunnable]:
    """Test a model on labelled images, as it is and as each file that is made of it.

    Args:
        reference: The model, as `find_model` takes it.
        artifacts: `format/precision` of each; empty for a ready file as it is.
        data: The images, as `open_dataset` takes them.
        fold: Test the subjects of this fold only; None tests all.
        task: `embedding` or `classification`; None for what the model.toml says.
        output: Which of several outputs counts.
        watch: Told of every step.
        watch_data: Told how far the images are read, of how many.
        watch_found: Told of each file as soon as it is tested, so that an interruption loses only the one under way.

    Returns:
        `checkpoint` for a torch model, and each of `artifacts` -> what it recognises, or why that is not known.

    Raises:
        UnknownName, MissingTool: See `plan_run`.
        UnusableData: The images are missing, mixed up or damaged.
        WrongInput: The model does not take such images.
        UnwritableFolder: The cache cannot be written. Nothing slow was begun.
    """
    require_cache()
    spec = find_model(reference).spec
    require_task(task or spec.task, spec.name, fold=fold)
    checkpoint = make_checkpoint(spec)
    size, channels = image_shape(checkpoint.inputs, spec.name)
    dataset = open_dataset(data, size=size, channels=channels, watch=watch_data)
    part = part_to_test(spec, dataset, fold, task or spec.task)
    is_numbered = spec.compression is not None and bool(spec.compression.classes)
    ready = READY_SOURCES.get(type(spec.source))
    made: dict[str, Artifact | Failure | NotRunnable | tuple[ModelSpec, Checkpoint]] = {}
    if checkpoint.form in {"torch", "pt2"}:
        made["checkpoint"] = (spec, checkpoint)
    asked = artifacts or ((f"{ready}/source",) if ready else ())
    if asked:
        made |= convert_model(reference, asked, watch=watch)
    found: dict[str, Accuracy | Failure | NotRunnable] = {}
    for name, subject in made.items():
        found[name] = (
            subject
            if isinstance(subject, Failure | NotRunnable)
            else _attempt(
                "evaluate",
                partial(
                    evaluate,
                    subject,
                    dataset,
                    part,
                    task=task or spec.task,
                    fold=fold,
                    output=output,
                    knows_classes=is_numbered,
                ),
            )
        )
        watch_found(name, found[name])
    return found


@dataclass(frozen=True)
class _Prepared:
    """What a cell needs besides itself."""

    checkpoint: Checkpoint | None
    made: Artifact | Failure | NotRunnable


def _run_cells(
    plan: Plan, cells: Sequence[Cell], writer: RunWriter, watch: Callable[[Event], None], patience_s: float
) -> None:
    watch = _one_at_a_time(watch)
    facts = {device.id: device for device in plan.devices}
    used = dict.fromkeys(cell.device_id for cell in cells)
    devices, absent = _there_and_not(facts[device_id] for device_id in used)

    def taken_over(device_id: str, previous: str) -> None:
        watch(LeaseTakenOver(device_id, previous))

    with leased(tuple(devices.values()), plan.run, taken_over=taken_over) as lease:
        for device_id, why in absent.items():
            watch(DeviceSetAside(device_id, why))
            for cell in cells:
                if cell.device_id == device_id:
                    writer.save(_not_run(cell, why))
        cells = [cell for cell in cells if cell.device_id in devices]
        work = _CellWork(plan, cells, writer, watch, lease)
        known = {device_id: identity(device) for device_id, device in devices.items()}
        terms = Terms(
            facts=facts,
            find=find_device,
            watch=watch,
            patience_s=patience_s,
            owed={device_id: debts.owed_to(device_id, own) for device_id, own in known.items()},
            keep=lambda device_id, owed: debts.keep(device_id, known[device_id], owed),
        )
        with at_work(cells, devices, work, terms) as halt, work:

            def hand_over(file: _File, prepared: _Prepared) -> None:
                work.hand_over(file, prepared)
                halt.check()  # a device's thread may have ended the run

            _prepare({model.name: model.spec for model in plan.models}, work.wanted, watch, hand_over)
            # Also before this machine begins: a compiler beside a timed process would be in its figures.
            for device_id, choice in work.runtimes_used:
                halt.check()
                _attempt("deploy", partial(build_and_fetch, facts[device_id], choice))  # its cells say what is wrong


def _there_and_not(planned: Iterable[DeviceFacts]) -> tuple[dict[str, Device], dict[str, str]]:
    """The devices that answer, and why the others do not: a run that is resumed does what can be done.

    Another device at the address of one that the run was planned with is not that one.

    Raises:
        HarnessError: None of them answers.
    """
    there: dict[str, Device] = {}
    absent: dict[str, HarnessError] = {}
    for facts in planned:
        try:
            device = find_device(facts.id)
            identity(device)
            require_planned(facts, device.facts())
        except HarnessError as error:  # UnknownName, too: an adb server forgets what is unplugged
            absent[facts.id] = error
        else:
            there[facts.id] = device
    if absent and not there:
        raise next(iter(absent.values()))
    return there, {device_id: str(error) for device_id, error in absent.items()}


def _not_run(cell: Cell, why: str) -> CellResult:
    return CellResult(
        schema=SCHEMA_VERSION,
        cell=cell,
        outcome=NotRun(reason=why),
        artifact=None,
        parameters=None,
        macs=None,
        started_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        seconds=0.0,
    )


class _CellWork:
    """What devices do with cells: a `farm.Work`. Inside its `with` block files come in."""

    def __init__(
        self, plan: Plan, cells: Sequence[Cell], writer: RunWriter, watch: Callable[[Event], None], lease: Lease
    ) -> None:
        self._plan, self._total, self._writer, self._watch, self._lease = plan, len(cells), writer, watch, lease
        facts = {device.id: device for device in plan.devices}
        self._never = why_never(plan.devices, cells)
        self._file = {cell.id: _file_of(cell, facts[cell.device_id]) for cell in cells}
        self._files: dict[_File, Future[_Prepared]] = {file: Future() for file in self._file.values()}
        # A Core ML file is worth making where it cannot run: it is checked all the same.
        asked = [self._file[c.id] for c in cells if self._never[c.id] is None or c.format == "coreml"]
        self.wanted = tuple(dict.fromkeys(asked))
        """The files to make, each once."""
        used = [(cell.device_id, cell.choice) for cell in cells if self._never[cell.id] is None]
        self.runtimes_used = tuple(
            {(at, each.runtime, each.version, each.driver): (at, each) for at, each in used}.values()
        )
        """Device and choice, one of each program and library that cells need."""
        for cell in cells:
            if self._file[cell.id] not in self.wanted and not self._files[self._file[cell.id]].done():
                never = NotRunnable(reason=self._never[cell.id] or "")
                self._files[self._file[cell.id]].set_result(_Prepared(None, never))
        self._converts: Future[None] = Future()
        """Done once nothing is converted, built or fetched any more."""
        self._here = {device.id for device in plan.devices if device.kind == "host"}
        self._phones = {device.id for device in plan.devices if device.kind == "ios"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        """Let go whoever waits for what will not come."""
        for future in self._files.values():
            future.cancel()
        if kind is None:
            self._converts.set_result(None)
        else:
            self._converts.cancel()

    def hand_over(self, file: _File, prepared: _Prepared) -> None:
        """A file is there, or will never be."""
        self._files[file].set_result(prepared)

    def foregone(self, cell: Cell) -> Outcome | None:
        """What becomes of a cell that has no file. Blocks until that is known."""
        never = self._never[cell.id]
        if never is not None and cell.format != "coreml":
            return NotRunnable(reason=never)
        try:
            made = self._files[self._file[cell.id]].result().made
            if isinstance(made, Artifact) and never is None and cell.device_id in self._here:
                self._converts.result()
        except CancelledError:
            raise Halted from None
        if not isinstance(made, Artifact):
            return made
        if cell.device_id in self._phones and max(len(made.inputs), len(made.outputs)) > 1:
            count = f"{len(made.inputs)} inputs and {len(made.outputs)} outputs"
            return NotRunnable(reason=f"the app on an iPhone takes one input and gives one output; this has {count}")
        return None if never is None else NotRunnable(reason=never)

    def is_foregone(self, cell: Cell) -> bool:
        """Whether it is known by now that a cell has no file, or that its device cannot run it."""
        made = self._files[self._file[cell.id]]
        has_no_file = made.done() and not made.cancelled() and not isinstance(made.result().made, Artifact)
        return self._never[cell.id] is not None or has_no_file

    def measure(self, cell: Cell, device: Device) -> Outcome:
        """Deploy and measure, while the device is ours."""
        lost = _attempt("deploy", partial(self._lease.require, cell.device_id))
        if isinstance(lost, Failure):
            return lost
        outcome = _measure_cell(self._plan, cell, self._files[self._file[cell.id]].result(), device, self._watch)
        try:
            self._lease.require(cell.device_id)
        except LeaseLost as error:  # another run may have been on the device meanwhile; then it is in the figures
            return failure("deploy", error)
        except HarnessError as error:  # it cannot be read now: no reason to lose what was measured
            _log.warning("%s: whether it was leased all the time is not known: %s", cell.device_id, error)
        return outcome

    def save(self, cell: Cell, outcome: Outcome, *, number: int, began_at: datetime, seconds: float) -> None:
        """Store what became of a cell, and tell."""
        ready = self._files[self._file[cell.id]].result()
        result = CellResult(
            schema=SCHEMA_VERSION,
            cell=cell,
            outcome=outcome,
            artifact=ready.made if isinstance(ready.made, Artifact) else None,
            parameters=ready.checkpoint.parameters if ready.checkpoint else None,
            macs=ready.checkpoint.macs if ready.checkpoint else None,
            started_at=began_at.isoformat(timespec="milliseconds"),
            seconds=seconds,
            retries=retries.taken(cell.device_id),
        )
        self._writer.save(result)
        self._watch(CellEnded(result, number, self._total))


def _one_at_a_time(watch: Callable[[Event], None]) -> Callable[[Event], None]:
    """The devices' threads tell of their steps; whoever is told need not know of threads."""
    lock = threading.Lock()

    def told(event: Event) -> None:
        with lock:
            watch(event)

    return told


def _prepare(
    specs: Mapping[str, ModelSpec],
    files: Sequence[_File],
    watch: Callable[[Event], None],
    hand_over: Callable[[_File, _Prepared], None],
) -> None:
    """Make every file that cells need, once, and hand each over as it is there."""
    wanted = list(dict.fromkeys(files))
    checkpoints: dict[str, Checkpoint | Failure] = {}
    for number, file in enumerate(wanted, start=1):
        model, model_format, precision, system = file
        spec, artifact = specs[model], f"{model_format}/{precision}"
        give = partial(hand_over, file)
        reason = _attempt("catalog", partial(why_not, spec, model_format, precision, system=system))
        if reason is not None:
            give(_Prepared(None, reason if isinstance(reason, Failure) else NotRunnable(reason=reason)))
            continue
        began = time.monotonic()
        if model not in checkpoints:
            known = _attempt("catalog", partial(find_checkpoint, spec))
            stored = isinstance(known, Checkpoint)
            watch(ConversionStarted(model, "checkpoint", number, len(wanted), is_cached=stored))
            checkpoints[model] = _attempt("catalog", partial(make_checkpoint, spec))
        checkpoint = checkpoints[model]
        if isinstance(checkpoint, Failure):
            give(_Prepared(None, checkpoint))
            continue
        cached = _attempt("convert", partial(is_converted, spec, model_format, precision, system=system))
        watch(ConversionStarted(model, artifact, number, len(wanted), is_cached=cached is True))
        made = _attempt("convert", partial(make_artifact, spec, checkpoint, model_format, precision, system=system))
        watch(ConversionEnded(model, artifact, made, time.monotonic() - began, is_cached=cached is True))
        give(_Prepared(checkpoint, made))


def _measure_cell(plan: Plan, cell: Cell, ready: _Prepared, device: Device, watch: Callable[[Event], None]) -> Outcome:
    if not isinstance(ready.made, Artifact) or ready.checkpoint is None:
        assert not isinstance(ready.made, Artifact)
        return ready.made
    artifact, right = ready.made, right_answer(ready.made, ready.checkpoint)
    deployed = _attempt("deploy", partial(push, artifact, arrays_of(ready.checkpoint, "inputs"), device))
    if isinstance(deployed, Failure):
        return deployed
    question = Question(
        choice=cell.choice,
        artifact=artifact,
        deployment=deployed,
        expected=right.outputs,
        reference=right.computed_by,
        tolerance=right.tolerance,
        checkpoint_outputs=right.checkpoint_outputs,
        require_accelerator=plan.require_accelerator,
        accepted_obstacles=(*plan.accepted_obstacles, *accepted_obstacles(device.facts())),
    )

    def tell(record: ProcessRecord) -> None:
        watch(ProcessEnded(cell, record))

    def cooling(reason: str) -> None:
        watch(Cooling(cell, reason))

    runner = _attempt("deploy", partial(choose_runner, device, cell.choice))
    if isinstance(runner, Failure):
        return runner
    measured = _attempt(
        "measure",
        partial(measure, question, device, plan.measure, command=runner.command, watch=tell, cooling=cooling),
    )
    if runner.why_not_bench is None or isinstance(measured, Failure):
        return measured
    # Which program took the times is in the record; that it was the second choice, and why, belongs beside it.
    settings = {**measured.ran.settings, "not_bench": runner.why_not_bench}
    return msgspec.structs.replace(measured, ran=msgspec.structs.replace(measured.ran, settings=settings))


def _attempt(stage: Stage, step: Callable[[], _Made]) -> _Made | Failure:
    """Do one step; an error that belongs to it alone becomes a record, one that ends the run does not."""
    try:
        return step()
    except (DeviceFull, UnwritableFolder, MissingTool) as error:
        # A full disk or a missing converter here would fail every further cell in the same way. What one device lacks
        # does not.
        if stage == "deploy" and isinstance(error, MissingTool):
            return failure(stage, error)
        if isinstance(error, DeviceFull) and error.device != "this machine":
            return failure(stage, error)
        raise
    except HarnessError as error:
        return failure(stage, error)
    except Exception as error:  # noqa: BLE001  (a defect of ours, or of the system, in one cell must not end the others)
        return _unforeseen(stage, error)


def failure(stage: Stage, error: HarnessError) -> Failure:
    """An error as a record."""
    facts = {key: str(value) for key, value in vars(error).items() if key not in {"hint", "args", "log"}}
    return Failure(
        stage=stage,
        kind=error.kind,
        message=str(error),
        hint=error.hint,
        facts=facts,
        log=getattr(error, "log", None) or None,
    )


def _unforeseen(stage: Stage, error: Exception) -> Failure:
    """An exception nobody expected, as a record; the traceback is kept for whoever mends it."""
    log = cache_dir() / "logs" / f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{stage}-unforeseen.log"
    try:
        write_atomically(log, traceback.format_exc().encode())
    except (OSError, HarnessError):  # it may be the very thing that went wrong
        kept = None
    else:
        kept = str(log)
    return Failure(
        stage=stage,
        kind="internal",
        message=f"{type(error).__name__}: {error}",
        hint="This was not foreseen: please report it with the log." if kept else "This was not foreseen.",
        log=kept,
    )


def _copy(source: Path, target: Path) -> None:
    """A file, or a package, which is a folder."""
    if not source.is_dir():
        shutil.copyfile(source, target)
        return
    if target.is_dir():
        shutil.rmtree(target)
    shutil.copytree(source, target)


def _placed(look_up: Callable[[], _Made], file: Path | None, location: tuple[str, int]) -> _Made:
    """Look up a name; one that is not known is told with its place in the suite's file."""
    try:
        return look_up()
    except UnknownName as error:
        if file is None:
            raise
        raise bad_setting(file, location, str(error), error.known) from error


def _device_ids(asked: Sequence[str], accept: Sequence[str]) -> tuple[str, ...]:
    """Which devices are meant, each once, however many ways lead to it.

    `all` is every one that is connected and can be used now; the others are left out, and that is said.
    """
    ids: dict[str, None] = {}
    for device_id in asked:
        if device_id.partition("@")[0] != ALL_DEVICES:
            ids[device_id] = None
            continue
        seen = {identity(find_device(other)) for other in ids}
        for device in list_devices(device_id):
            try:
                found = identity(device)
                _preflight(device, accept)
                with leased((device,), "looking for devices"):
                    pass
            except (DeviceError, MissingTool) as error:
                _log.warning("%s is left out: %s", device.id, without_name(str(error), device.id))
                continue
            if found not in seen:
                ids[device.id] = None
                seen.add(found)
    if not ids:
        raise DeviceNotFound(ALL_DEVICES, "no device that is connected can be used now")
    return tuple(ids)


def _preflight(device: Device, accept: Sequence[str]) -> tuple[Obstacle, ...]:
    """What stands in the way now. What forbids a measurement ends the run here, unless the user accepted it."""
    accepted = {*accept, *accepted_obstacles(device.facts())}
    found = device.obstacles()
    for obstacle in found:
        # Heat passes: each cell waits for it.
        if obstacle.severity == "refusal" and obstacle.name not in {*accepted, THERMAL_STATUS}:
            raise not_fit(device.id, obstacle)
    return found


def _own_noise(device: Device, devices: Sequence[Device]) -> tuple[Obstacle, ...]:
    """What this very run does to a device's figures: virtual devices take the processors of the machine they run on."""
    emulated = [other.id for other in devices if other.facts().kind == "virtual"]
    if device.facts().kind != "host" or not emulated:
        return ()
    return (
        Obstacle(
            name="emulators",
            severity="warning",
            found=f"{', '.join(emulated)} work on the same processors at the same time",
            advice="For figures to compare, measure this machine in a run of its own.",
        ),
    )


def _require_tools(cells: Sequence[Cell], specs: Mapping[str, ModelSpec]) -> None:
    """Everything that is missing on this machine for these cells, in one error and one command."""
    missing: dict[str, str] = {}
    files = {(cell.model, cell.format, cell.precision): cell for cell in cells}
    checks = [partial(need_runtime, cell) for cell in files.values()]
    for model, model_format, precision in files:
        try:
            if why_not(specs[model], model_format, precision) is not None:
                continue
        except UnreadableModel:
            continue  # its cells will say so
        checks += [partial(need_framework, specs[model])]
        checks += [partial(need_converters, specs[model], model_format, precision)]
    for check in checks:
        try:
            check()
        except MissingExtra as error:
            for extra, tool in zip(error.extra.split(","), error.tool.split(", "), strict=True):
                missing.setdefault(extra, tool)
        except UnreadableModel:
            continue
    if missing:
        raise MissingExtra(", ".join(missing.values()), "this run", ",".join(missing))


def _require_distinct(found: Sequence[FoundModel], suite: Suite) -> None:
    names = [model.spec.name for model in found]
    for name in names:
        if names.count(name) > 1:
            origins = ", ".join(model.origin for model in found if model.spec.name == name)
            raise BadSetting(f"suite {suite.name}", None, "models", f"two models are called {name!r}: {origins}", ())


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
