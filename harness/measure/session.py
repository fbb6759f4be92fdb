"""One cell: fresh processes until the figure is precise enough, then memory, every answer checked.

The order is: state of the device; timed processes, each checked against the checkpoint before the next starts; memory
in processes of its own; where asked for, the operators in one more; state of the device. What is asked for is read
back. A process that was disturbed is repeated a bounded number of times, and kept in the record either way.
"""

from __future__ import annotations

import contextlib
import math
import secrets
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

import msgspec

from harness import parity, statistics
from harness.device.hold import confined_as_asked, fixed_performance, processors_for, read_processors
from harness.device.obstacles import THERMAL_STATUS, not_fit
from harness.device.outputs import pull_outputs
from harness.errors import (
    AcceleratorRefused,
    BadData,
    DeviceError,
    DeviceOffline,
    NeverSteady,
    RunnerUnreadable,
)
from harness.measure import operators
from harness.measure.cooling import Cooling
from harness.measure.program import Transcript, run_program
from harness.protocol import First, Job, Loaded, Memory, Meta, Outputs, Profile, TimedBlock, Warmup
from harness.records import (
    Artifact,
    Block,
    Deployment,
    Measurement,
    MeasurePlan,
    MemoryRecord,
    OperatorProfile,
    Parity,
    ProcessRecord,
    RuntimeChoice,
    RuntimeRan,
    Tolerance,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from harness.device.device import Device

_Mode = Literal["latency", "memory", "profile"]
STEAL_LIMIT = 0.05
"""A block counts only if the hypervisor kept less than this share of its processors' time."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be measured, and what the right answers are."""

    choice: RuntimeChoice
    artifact: Artifact
    deployment: Deployment
    expected: Mapping[str, NDArray[np.generic]]
    """Output name -> [samples, ...], what has to be answered."""
    reference: str
    """What computed that."""
    tolerance: Tolerance
    checkpoint_outputs: Mapping[str, NDArray[np.generic]] | None = None
    """The checkpoint's, the same shapes, where `expected` is something else's."""
    require_accelerator: bool = False
    accepted_obstacles: tuple[str, ...] = ()
    """Names of what is taken as it is, should it be found when the cell begins."""


def measure(
    question: Question,
    device: Device,
    plan: MeasurePlan,
    *,
    command: Sequence[str] = (),
    watch: Callable[[ProcessRecord], None] = lambda _record: None,
    cooling: Callable[[str], None] = lambda _reason: None,
) -> Measurement:
    """Measure one cell. Blocks for up to `plan.budget_s` and a little, or longer where the minimum needs it.

    Args:
        question: What is to be measured.
        device: Where.
        plan: How.
        command: What starts the timing program there, without a job's flags; empty is the device's Python worker.
        watch: Told of every process.
        cooling: Told what is too hot whenever the device is left alone to cool.

    Raises:
        DeviceError: The program died, hung or printed rubbish; what ran is not what was asked; every attempt was
            disturbed; the device is unfit now, or not as it shall be held.
        BadData: The outputs are wrong or not finite, or the runtime refuses the model.
    """
    # A folder of its own: another run on this device must not overwrite what is about to be compared.
    outputs = device.work_folder / "outputs" / secrets.token_hex(8)
    started_by = confined_as_asked(tuple(command or device.worker_command()), device.facts(), question.choice)
    session = _Session(question, device, plan, started_by, outputs)
    cooler = Cooling(device, patient=THERMAL_STATUS not in question.accepted_obstacles, told=cooling)
    state_before = cooler.begin()
    accepted = require_fit(device, question.accepted_obstacles)
    try:
        with fixed_performance(device) as held:
            # Being held lowers the limits by itself.
            session.caps_hz = (device.state() if held else state_before).cluster_caps_hz
            processes, stopped_by = _timed_processes(session, cooler, watch)
            memory = tuple(session.memory() for _ in range(plan.memory_processes))
            profile, profile_missing = session.profile() if plan.profile_iterations else (None, "")
    finally:
        with contextlib.suppress(DeviceError):  # what went wrong before is what is told
            device.remove(outputs, timeout_s=60)
    ran, checked = session.found()
    return Measurement(
        ran=ran,
        deployment=question.deployment,
        processes=processes,
        memory=memory,
        parity=checked,
        # The push has just read or hashed the whole file on the device.
        page_cache="warm",
        state_before=state_before,
        state_after=device.state(),
        stopped_by=stopped_by,
        accepted_obstacles=accepted,
        fixed_performance=held,
        profile=profile,
        profile_missing=profile_missing,
    )


def require_fit(device: Device, accepts: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the refusals that stand now and are accepted.

    Raises:
        DeviceOffline: The device is away, which passes.
        DeviceNotFit: One is not accepted.
    """
    refusals = [obstacle for obstacle in device.obstacles() if obstacle.severity == "refusal"]
    for obstacle in refusals:
        if obstacle.name == DeviceOffline.kind:
            raise DeviceOffline(device.id, obstacle.found)
        if obstacle.name not in accepts:
            raise not_fit(device.id, obstacle)
    return tuple(obstacle.name for obstacle in refusals)


def _timed_processes(
    session: _Session, cooling: Cooling, watch: Callable[[ProcessRecord], None]
) -> tuple[tuple[ProcessRecord, ...], Literal["precision", "budget", "processes"]]:
    """Fresh processes until p50 is known well enough, the budget is spent, or there are as many as may be."""
    plan = session.plan
    processes: list[ProcessRecord] = []
    began = time.monotonic()
    for index in range(plan.processes_max):
        for attempt in range(plan.disturbed_retries + 1):
            cooling.wait()
            record = unless_warmed(session.timed(index, attempt), cooling.warmed())
            processes.append(record)
            watch(record)
            if record.discarded is None:
                break
        else:
            raise NeverSteady(session.device.id, plan.disturbed_retries + 1, str(processes[-1].discarded))
        counted = [process for process in processes if process.discarded is None]
        if len(counted) < plan.processes_min:
            continue
        if _half_width_pct(counted) <= plan.target_half_width_pct:
            return tuple(processes), "precision"
        if time.monotonic() - began >= plan.budget_s:
            return tuple(processes), "budget"
    return tuple(processes), "processes"


class _Session:
    """The processes of one cell, and what they have in common.

    Attributes:
        caps_hz: The limits of the clocks below which nothing that was timed counts; None until somebody knows them.
    """

    def __init__(
        self,
        question: Question,
        device: Device,
        plan: MeasurePlan,
        command: Sequence[str],
        outputs: PurePosixPath,
    ) -> None:
        self.question, self.device, self.plan = question, device, plan
        self._command, self._outputs = command, outputs
        self._ran: RuntimeRan | None = None
        self._checks: dict[str, Parity] = {}
        self.caps_hz: tuple[float, ...] | None = None

    def timed(self, index: int, attempt: int) -> ProcessRecord:
        """One process, its set-up and its answers checked."""
        transcript = self._run("latency")
        self._ran = what_ran(self.question, self.device, transcript)
        check_outputs(self.question, self.device, transcript, self._checks)
        self.caps_hz = self.caps_hz or first_caps_hz(transcript)
        return process_record(transcript, index, attempt, caps_hz=self.caps_hz)

    def memory(self) -> MemoryRecord:
        """Memory of one process that is not timed."""
        return memory_record(self._run("memory"), self.plan)

    def profile(self) -> tuple[OperatorProfile | None, str]:
        """The time of each operator, in one more process; or why there is none. No reason to lose what was timed."""
        try:
            said = self._run("profile").one(Profile)
            with tempfile.TemporaryDirectory(prefix="harness-") as scratch:
                local = Path(scratch) / "profile"
                self.device.pull(PurePosixPath(said.file), local, timeout_s=60)
                return operators.read_profile(local, said), ""
        except (DeviceError, BadData, ValueError) as error:
            return None, str(error)

    def found(self) -> tuple[RuntimeRan, Parity]:
        """What ran, and the first comparison of its answers. There was at least one timed process."""
        assert self._ran is not None
        return self._ran, next(iter(self._checks.values()))

    def _run(self, mode: _Mode) -> Transcript:
        job = job_for(self.question, self._outputs, self.plan, mode)
        return run_program(self.device, job, self._command, timeout_s=self.plan.timeout_s)


def job_for(question: Question, outputs: PurePosixPath, plan: MeasurePlan, mode: _Mode) -> Job:
    """What one process of a cell is told to do."""
    return Job(
        choice=question.choice,
        model=question.deployment.remote_path,
        inputs=question.deployment.remote_inputs,
        samples=question.deployment.samples,
        output_folder=str(outputs),
        mode=mode,
        blocks=plan.blocks,
        block_s=plan.block_s,
        block_iterations=plan.block_iterations,
        warmup_iterations=plan.warmup_iterations,
        warmup_s=plan.warmup_s,
        warmup_cap_s=plan.warmup_cap_s,
        memory_iterations=plan.memory_iterations,
        profile_iterations=max(1, plan.profile_iterations),
    )


def what_ran(question: Question, device: Device, transcript: Transcript) -> RuntimeRan:
    """Read back what was set up, and refuse what was not asked for."""
    meta, loaded = transcript.one(Meta), transcript.one(Loaded)
    asked = question.choice
    processors = processors_for(device.facts(), asked.affinity)
    if processors is not None and read_processors(meta.processors or "") != processors:
        wanted, got = f"the processors {asked.affinity}", f"{meta.processors or 'nobody knows which'}"
        raise AcceleratorRefused(device.id, wanted, got, "read back from the system in the process itself")
    if loaded.threads is not None and loaded.threads != asked.threads:
        wanted, got = f"{asked.threads} threads", f"{loaded.threads}"
        raise AcceleratorRefused(device.id, wanted, got, "counted in the process after the model was loaded")
    if loaded.graph_optimization is not None and loaded.graph_optimization != asked.graph_optimization:
        reason = "the runtime was built or configured for another level of graph optimization"
        raise AcceleratorRefused(device.id, asked.graph_optimization, loaded.graph_optimization, reason)
    _require_told(device, meta, loaded)
    if question.require_accelerator and (loaded.placement_missing is not None or loaded.nodes_delegated is None):
        wanted, why = f"every node on {asked.accelerator}", loaded.placement_missing
        # ONNX Runtime tells it from 1.24 on.
        why = why or f"{meta.runtime} {meta.runtime_version} does not tell where its nodes run"
        raise AcceleratorRefused(device.id, wanted, "nobody knows where", why, is_strict=True)
    if question.require_accelerator and loaded.fallback_reason is not None:
        took = f"{loaded.nodes_delegated} of {loaded.nodes_total} nodes"
        wanted = f"every node on {asked.accelerator}"
        raise AcceleratorRefused(device.id, wanted, took, loaded.fallback_reason, is_strict=True)
    return RuntimeRan(
        runtime=meta.runtime,
        version=meta.runtime_version,
        api=meta.api,
        driver=meta.program,
        library_sha256=_library_sha256(device, meta.library),
        threads=loaded.threads,
        graph_optimization=loaded.graph_optimization,
        nodes_by_accelerator=loaded.nodes_by_accelerator,
        nodes_total=loaded.nodes_total,
        nodes_delegated=loaded.nodes_delegated,
        partitions=loaded.partitions,
        fallback_reason=loaded.fallback_reason,
        processors=meta.processors,
        settings=loaded.settings,
        driver_version=meta.program_version,
        placement_missing=loaded.placement_missing,
        nodes=loaded.nodes,
    )


def _require_told(device: Device, meta: Meta, loaded: Loaded) -> None:
    """Refuse a phone's result that does not say by what and on what it was taken: nobody could compare it with another.

    Raises:
        RunnerUnreadable: Names everything that is missing.
    """
    if meta.program != "ios-runner":
        return
    facts = device.facts()
    told = {
        "the app's version": meta.program_version,
        "the system's build": facts.os_build,
        "the transport": facts.transport,
        "the compute units": loaded.settings.get("compute_units"),
        "where operations run, or why nobody knows": loaded.placement_missing
        if loaded.nodes_total is None
        else loaded.nodes_by_accelerator or None,
    }
    missing = [name for name, value in told.items() if value is None]
    if missing:
        raise RunnerUnreadable(device.id, "meta, loaded", f"it does not say {', '.join(missing)}")


_LIBRARY_DIGESTS: dict[tuple[str, str], str | None] = {}


def _library_sha256(device: Device, library: str | None) -> str | None:
    """The digest of the runtime's library on the device, read once in this process's life: it is tens of MB."""
    if library is None:
        return None
    key = (device.id, library)
    if key not in _LIBRARY_DIGESTS:
        _LIBRARY_DIGESTS[key] = device.sha256(PurePosixPath(library), timeout_s=60)
    return _LIBRARY_DIGESTS[key]


def check_outputs(question: Question, device: Device, transcript: Transcript, checks: dict[str, Parity]) -> None:
    """Compare this process's outputs with the right ones, unless the very same bytes were compared before."""
    said = transcript.one(Outputs)
    if said.sha256 in checks:
        return
    tensors = question.artifact.outputs
    arrays = pull_outputs(said.files, tensors, device, samples=question.deployment.samples, sha256=said.sha256)
    found = {tensor.name: array for tensor, array in zip(tensors, arrays, strict=True)}
    meta = transcript.one(Meta)
    executed_by = f"{meta.runtime} {meta.runtime_version} on {device.id}, in the timed process"
    compared = partial(parity.compare, found, executed_by=executed_by)
    result = compared(question.expected, tolerance=question.tolerance, reference=question.reference)
    where = f"{question.artifact.model} {question.artifact.format}/{question.artifact.precision} on {device.id}"
    if question.checkpoint_outputs is None:
        parity.require(result, where, advice=_ELSEWHERE)
    else:
        parity.require(result, where, advice=_ELSEWHERE, reference=f"what {question.reference} computes of the file")
        unjudged = compared(question.checkpoint_outputs, tolerance=_NO_LIMIT, reference="the checkpoint")
        result = msgspec.structs.replace(result, from_checkpoint=unjudged.outputs)
    checks[said.sha256] = result


_NO_LIMIT = Tolerance(relative_l2=None, cosine=None)
_ELSEWHERE = (
    "Measure the file there without an accelerator, or with another runtime: that tells which of them computes it so."
)


def process_record(
    transcript: Transcript, index: int, attempt: int, *, caps_hz: tuple[float, ...] | None
) -> ProcessRecord:
    """A timed process as a record, with what was disturbed in it said.

    Args:
        transcript: What it said.
        index: Its number in the cell.
        attempt: How often it had to be repeated.
        caps_hz: The limits of the clocks, below which a block does not count.
    """
    messages = transcript.all(TimedBlock)
    if all(message.conditions.cpu_caps_hz is None for message in messages):
        caps_hz = None  # not to be read in this program at all
    held_back = [_throttled(message, caps_hz) for message in messages]
    blocks = tuple(_block(message, reason) for message, reason in zip(messages, held_back, strict=True))
    throttled = [reason for reason in held_back if reason is not None]
    warmup = transcript.one(Warmup)
    return ProcessRecord(
        index=index,
        attempt=attempt,
        at=transcript.at,
        startup_ns=transcript.one(Meta).startup_ns,
        load_ns=transcript.one(Loaded).ns,
        first_inference_ns=transcript.one(First).ns,
        warmup_ns=warmup.ns,
        steady=warmup.steady,
        blocks=blocks,
        canary_before_ns=transcript.canary_ns("before"),
        canary_after_ns=transcript.canary_ns("after"),
        outputs_sha256=transcript.one(Outputs).sha256,
        discarded=_too_little_left(blocks, throttled),
        jobs_before=transcript.one(Meta).jobs_before,
        load_timings_ns=transcript.one(Loaded).timings_ns,
    )


def first_caps_hz(transcript: Transcript) -> tuple[float, ...] | None:
    """The limits of the clocks in the first timed block, for a device that did not tell them before."""
    return transcript.all(TimedBlock)[0].conditions.cpu_caps_hz


def unless_warmed(record: ProcessRecord, reason: str | None) -> ProcessRecord:
    """The record; discarded if the system began to hold the processor back meanwhile, for which there is a reason."""
    if record.discarded is not None or reason is None:
        return record
    return msgspec.structs.replace(record, discarded=reason)


def _too_little_left(blocks: Sequence[Block], throttled: Sequence[str]) -> str | None:
    """Why a process has to be repeated; None where it stands."""
    bad = [block.discarded for block in blocks if block.discarded is not None]
    # A processor that had to slow down is not the one that was asked about, in the other blocks neither. What others
    # took of its time is over with the block: half of the blocks still give an honest median.
    if throttled or len(bad) * 2 > len(blocks):
        return f"{len(bad)} of {len(blocks)} blocks: {(throttled or bad)[0]}"
    return None


def _block(message: TimedBlock, throttled: str | None) -> Block:
    return Block(
        start_ns=message.start_ns,
        iterations_per_sample=message.iterations_per_sample,
        ns=message.ns,
        conditions=message.conditions,
        discarded=throttled or _taken_from(message),
    )


def _throttled(message: TimedBlock, caps_hz: tuple[float, ...] | None) -> str | None:
    """How the processor was held back during a block, below what it could do when the cell began.

    Under heat some systems take a cluster offline, and its clock is then gone, or cannot be read. One that comes back
    is no reason.
    """
    if message.conditions.throttle_events:
        return f"the processor throttled itself {message.conditions.throttle_events} times"
    now_hz = message.conditions.cpu_caps_hz
    if caps_hz is None:
        return None
    if now_hz is None or len(now_hz) < len(caps_hz):
        left = "none" if now_hz is None else f"{len(now_hz)}"
        return f"{left} of {len(caps_hz)} clocks could be read: processors went offline"
    if len(caps_hz) == len(now_hz):
        before, now = min(zip(caps_hz, now_hz, strict=True), key=lambda pair: pair[1] / pair[0])
        if now < before:
            return f"a clock's upper limit fell from {before / 1e6:.0f} to {now / 1e6:.0f} MHz"
    return None


def _taken_from(message: TimedBlock) -> str | None:
    """How much of its time others took from a block."""
    steal_ms, lasted_ms = message.conditions.steal_ms, sum(message.ns) / 1e6
    if steal_ms is None or steal_ms <= STEAL_LIMIT * lasted_ms:
        return None
    return f"the hypervisor took {100 * steal_ms / lasted_ms:.0f} % of a processor's time"


def _half_width_pct(counted: Sequence[ProcessRecord]) -> float:
    medians = [median for process in counted if (median := statistics.process_median_ns(process)) is not None]
    width = statistics.half_width_pct(medians)
    return math.inf if width is None else width


def memory_record(transcript: Transcript, plan: MeasurePlan) -> MemoryRecord:
    """A memory process as a record."""
    at = {message.at: message for message in transcript.all(Memory)}
    peak = at["peak"]
    return MemoryRecord(
        source=peak.source,
        baseline_bytes=at["baseline"].resident_bytes,
        loaded_bytes=at["loaded"].resident_bytes,
        peak_bytes=peak.resident_bytes,
        pss_bytes=peak.pss_bytes,
        private_dirty_bytes=peak.private_dirty_bytes,
        iterations=plan.memory_iterations,
        rss_anon_bytes=peak.rss_anon_bytes,
    )
