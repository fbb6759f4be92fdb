"""Two builds on one device in turn: trials of two fresh processes each, so that what happens to one happens to both.

Where the device can talk to a running program and both programs are the native loop, the two processes of a trial are
alive together and run blocks in the order ABBA or BAAB, drawn anew each time. Elsewhere whole processes take turns in
such an order; that needs several times as many trials for the same precision.

Programs of one thread share one processor, drawn for each trial: where processors are hardware threads that other
people's programs use the other half of, two processes that the scheduler put on different ones are compared with that
in it. On a shared virtual machine of 2 cores a trial of one build with itself then had a standard deviation of 6.5 to
8 %, and on one processor of 3 to 4.5 %.

Everything that is drawn is drawn from the plan's seed, and nothing here looks at a time to decide what comes next.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar

import msgspec

from harness.device.device import TellsPrograms
from harness.device.hold import confined_as_asked, fixed_performance, single_processors
from harness.device.obstacles import THERMAL_STATUS
from harness.errors import (
    AcceleratorRefused,
    BadData,
    DeviceError,
    DeviceTimedOut,
    RunnerDied,
    RunnerHung,
    RunnerUnreadable,
)
from harness.measure.cooling import Cooling
from harness.measure.program import Transcript, heard, run_program
from harness.measure.session import (
    Question,
    check_outputs,
    first_caps_hz,
    job_for,
    memory_record,
    process_record,
    require_fit,
    unless_warmed,
    what_ran,
)
from harness.protocol import End, Message, TimedBlock, Warmup
from harness.records import MeasurePlan, Trial
from harness.statistics import median

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import PurePosixPath

    from harness.device.device import Device, ToldProgram
    from harness.protocol import Job
    from harness.records import ComparePlan, DeviceState, MemoryRecord, Parity, ProcessRecord, RuntimeRan

_Kind = TypeVar("_Kind", bound=Message)
_Name: TypeAlias = Literal["A", "B"]
_ORDERS: Final[tuple[tuple[_Name, ...], ...]] = (("A", "B", "B", "A"), ("B", "A", "A", "B"))
_PAIRS: Final[tuple[tuple[_Name, _Name], ...]] = (("A", "B"), ("B", "A"))


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One of the two builds, ready on the device.

    Attributes:
        question: What is measured, and what the right answers are.
        command: What starts the timing program there, without a job's flags.
        can_serve: Whether that program can be told to run one block at a time.
    """

    question: Question
    command: tuple[str, ...]
    can_serve: bool


@dataclass(frozen=True, kw_only=True)
class Interleaved:
    """What the trials left.

    Attributes:
        trials: In the order of time.
        a_ran: What ran as A, read back.
        b_ran: What ran as B.
        state_before: The device's, which every trial's is compared with.
        accepted_obstacles: What stood against a stable figure and was taken as it is.
        fixed_performance: Whether the device was held at a speed that it can sustain; None where nobody has that.
    """

    trials: tuple[Trial, ...]
    a_ran: RuntimeRan
    b_ran: RuntimeRan
    state_before: DeviceState
    accepted_obstacles: tuple[str, ...]
    fixed_performance: bool | None


def can_be_alive_together(a: Arm, b: Arm, device: Device) -> bool:
    """Whether two processes of these can run blocks in turn on this device."""
    return a.can_serve and b.can_serve and isinstance(device, TellsPrograms)


def run_trials(
    a: Arm,
    b: Arm,
    device: Device,
    plan: ComparePlan,
    *,
    watch: Callable[[Trial], None] = lambda _trial: None,
    cooling: Callable[[str], None] = lambda _reason: None,
) -> Interleaved:
    """Run every planned trial. Blocks for the whole of it, and for as long as the device has to cool between them.

    The device is held as for one cell of a run. A trial during which it began to throttle is kept, and counts for
    nothing; no other takes its place, since the plan is fixed.

    Args:
        a: The build that is compared with.
        b: The build that is compared.
        device: Where both are.
        plan: How many trials of what; its seed decides every order.
        watch: Told of every trial.
        cooling: Told what is too hot whenever the device is left alone to cool.

    Raises:
        DeviceError: A program died, hung or printed rubbish, or what ran is not what was asked; the device is unfit
            now, or stays too hot.
        BadData: The outputs of a process are wrong or not finite, or the runtime refuses the model.
    """
    draw = random.Random(plan.seed)  # noqa: S311  (an order that can be repeated, no secret)
    outputs = device.work_folder / "outputs" / secrets.token_hex(8)
    sides: dict[_Name, _Side] = {"A": _Side(a, device, plan, outputs / "a"), "B": _Side(b, device, plan, outputs / "b")}
    one_trial = _together if can_be_alive_together(a, b, device) else _alternating
    accepts = tuple(dict.fromkeys((*a.question.accepted_obstacles, *b.question.accepted_obstacles)))
    cooler = Cooling(device, patient=THERMAL_STATUS not in accepts, told=cooling)
    state_before = cooler.begin()
    accepted = require_fit(device, accepts)
    shared = _processors_to_share(a, b, device)
    trials = []
    try:
        with fixed_performance(device) as held:
            caps_hz = (device.state() if held else state_before).cluster_caps_hz
            for side in sides.values():
                side.caps_hz = caps_hz
            for index in range(plan.trials):
                cooler.wait()
                processor = draw.choice(shared) if shared else None
                for side in sides.values():
                    side.processor = processor
                trial = one_trial(sides, draw, index, with_memory=index < plan.memory_trials)
                trials.append(_unless_warmed(trial, cooler.warmed()))
                watch(trials[-1])
    finally:
        with contextlib.suppress(DeviceError):  # what went wrong before is what is told
            device.remove(outputs, timeout_s=60)
    a_ran, b_ran = sides["A"].ran, sides["B"].ran
    assert a_ran is not None
    assert b_ran is not None
    return Interleaved(
        trials=tuple(trials),
        a_ran=a_ran,
        b_ran=b_ran,
        state_before=state_before,
        accepted_obstacles=accepted,
        fixed_performance=held,
    )


def _processors_to_share(a: Arm, b: Arm, device: Device) -> tuple[int, ...]:
    """Of which one is drawn for both sides of a trial; none where they have to be left to the scheduler."""
    ours, theirs = a.question.choice, b.question.choice
    is_one_thread = ours.threads == theirs.threads == 1 and ours.accelerator == theirs.accelerator == "cpu"
    if not is_one_thread or ours.affinity != theirs.affinity or device.facts().kind == "ios":
        return ()
    return single_processors(device, ours.affinity)


def _unless_warmed(trial: Trial, reason: str | None) -> Trial:
    a, b = (tuple(unless_warmed(process, reason) for process in side) for side in (trial.a, trial.b))
    return msgspec.structs.replace(trial, a=a, b=b)


def _together(sides: Mapping[_Name, _Side], draw: random.Random, index: int, *, with_memory: bool) -> Trial:
    """Two processes alive at once; only one of them works at any time."""
    first, second = draw.choice(_PAIRS)
    servers: dict[_Name, _Server] = {}
    try:
        # One after the other: a cold start beside another one would be the cold start of two.
        for name in (first, second):
            with _blamed(name):
                servers[name] = sides[name].serve()
        # By the first warm-up of either side, before any block: every trial has as many.
        turns = _turns(sides["A"].plan, [side.first_warmup_ns for side in sides.values()])
        order = [name for _ in range(turns) for name in draw.choice(_ORDERS)]
        for name in order:
            with _blamed(name):
                servers[name].block()
        said = {}
        for name, server in servers.items():
            with _blamed(name):
                said[name] = server.finish()
    finally:
        for server in servers.values():
            server.end()
    memory = _memory(sides, (first, second)) if with_memory else {}
    return Trial(
        index=index,
        how="alive together",
        order="".join(order),
        processor=sides["A"].processor,
        a=(_record(sides, "A", said["A"], index),),
        b=(_record(sides, "B", said["B"], index),),
        a_memory=memory.get("A"),
        b_memory=memory.get("B"),
    )


def _turns(plan: ComparePlan, warmups_ns: Sequence[Sequence[int]]) -> int:
    """As many as fill the time of a trial, by how long an inference took when it was warm."""
    slower_s = max(median(ns[len(ns) // 2 :]) for ns in warmups_ns) / 1e9
    turn_s = 4 * max(plan.block_s, plan.block_iterations * slower_s)
    wanted = plan.turns if turn_s <= 0 else round(plan.trial_s / turn_s)
    return min(plan.turns, max(plan.turns_min, wanted))


def _alternating(sides: Mapping[_Name, _Side], draw: random.Random, index: int, *, with_memory: bool) -> Trial:
    """Two whole processes of either side."""
    order = draw.choice(_ORDERS)
    found: dict[_Name, list[ProcessRecord]] = {"A": [], "B": []}
    for name in order:
        found[name].append(_record(sides, name, _run(sides, name, "latency"), index))
    memory = _memory(sides, order[:2]) if with_memory else {}
    return Trial(
        index=index,
        how="whole processes",
        order="".join(order),
        processor=sides["A"].processor,
        a=tuple(found["A"]),
        b=tuple(found["B"]),
        a_memory=memory.get("A"),
        b_memory=memory.get("B"),
    )


def _memory(sides: Mapping[_Name, _Side], order: Sequence[_Name]) -> dict[_Name, MemoryRecord]:
    return {name: memory_record(_run(sides, name, "memory"), sides[name].measure_plan) for name in order}


def _run(sides: Mapping[_Name, _Side], name: _Name, mode: Literal["latency", "memory"]) -> Transcript:
    with _blamed(name):
        return sides[name].run(mode)


def _record(sides: Mapping[_Name, _Side], name: _Name, transcript: Transcript, index: int) -> ProcessRecord:
    with _blamed(name):
        return sides[name].record(transcript, index)


@contextlib.contextmanager
def _blamed(name: _Name) -> Iterator[None]:
    """A device that goes away is neither build's fault; a program that dies is that of the build it ran."""
    try:
        yield
    except (AcceleratorRefused, BadData, RunnerDied, RunnerHung, RunnerUnreadable) as error:
        error.build = name
        raise


class _Side:
    """One build: its processes, and what they have in common."""

    def __init__(self, arm: Arm, device: Device, plan: ComparePlan, outputs: PurePosixPath) -> None:
        self.plan = plan
        self.ran: RuntimeRan | None = None
        self.measure_plan = _measure_plan(plan)
        self._arm, self._device, self._outputs = arm, device, outputs
        self._checks: dict[str, Parity] = {}
        self.caps_hz: tuple[float, ...] | None = None
        """The limits of the clocks, below which no block counts."""
        self.first_warmup_ns: tuple[int, ...] = ()
        """Each inference of the warm-up of its first served process."""
        self.processor: int | None = None
        """The one that the next process is confined to; None leaves it to what was asked for."""

    @property
    def _question(self) -> Question:
        if self.processor is None:
            return self._arm.question
        choice = msgspec.structs.replace(self._arm.question.choice, affinity=str(self.processor))
        return replace(self._arm.question, choice=choice)

    @property
    def _command(self) -> tuple[str, ...]:
        return confined_as_asked(self._arm.command, self._device.facts(), self._question.choice)

    def serve(self) -> _Server:
        """A fresh process, warm and waiting to be told."""
        block = msgspec.structs.replace(
            self.measure_plan, block_s=self.plan.block_s, block_iterations=self.plan.block_iterations
        )
        job = job_for(self._question, self._outputs, block, "latency")
        assert isinstance(self._device, TellsPrograms)
        program = self._device.start_told(
            (*self._command, "--serve", *job.argv()), environment={"ORT_DISABLE_TELEMETRY": "1"}
        )
        server = _Server(self._device, program, job, self.plan.timeout_s)
        try:
            warmup_ns = server.await_warm()
        except BaseException:
            program.end()
            raise
        self.first_warmup_ns = self.first_warmup_ns or warmup_ns
        return server

    def run(self, mode: Literal["latency", "memory"]) -> Transcript:
        """A fresh process from start to end."""
        job = job_for(self._question, self._outputs, self.measure_plan, mode)
        return run_program(self._device, job, self._command, timeout_s=self.plan.timeout_s)

    def record(self, transcript: Transcript, index: int) -> ProcessRecord:
        """What a timed process said, its set-up and its answers checked."""
        self.ran = what_ran(self._question, self._device, transcript)
        check_outputs(self._question, self._device, transcript, self._checks)
        self.caps_hz = self.caps_hz or first_caps_hz(transcript)
        return process_record(transcript, index, 0, caps_hz=self.caps_hz)


def _measure_plan(plan: ComparePlan) -> MeasurePlan:
    """What a whole process does."""
    return MeasurePlan(
        blocks=plan.process_blocks,
        block_s=plan.process_block_s,
        block_iterations=plan.process_block_iterations,
        warmup_iterations=plan.warmup_iterations,
        warmup_s=plan.warmup_s,
        warmup_cap_s=plan.warmup_cap_s,
        memory_iterations=plan.memory_iterations,
        timeout_s=plan.timeout_s,
    )


class _Server:
    """A program that runs a block when it is told."""

    def __init__(self, device: Device, program: ToldProgram, job: Job, timeout_s: float) -> None:
        self._device, self._program, self._job, self._timeout_s = device, program, job, timeout_s
        self._began = time.monotonic()
        self._transcript = Transcript(at=datetime.now(UTC).isoformat(timespec="milliseconds"))

    def await_warm(self) -> tuple[int, ...]:
        """Read what it says until its warm-up is over; each inference of that, in nanoseconds."""
        return self._read_until(Warmup).ns

    def block(self) -> None:
        """Have it run one block, and wait for it."""
        self._program.tell("block")
        message = self._read_until(TimedBlock)
        if not message.ns or min(message.ns) <= 0:
            raise RunnerUnreadable(self._device.id, "", "a block is empty, or holds a time that is not positive")

    def finish(self) -> Transcript:
        """Have it check its answers once more, and end."""
        self._program.tell("end")
        self._read_until(End)
        returncode = self._program.wait(timeout_s=30)
        if returncode != 0:
            raise RunnerDied(self._device.id, self._program.argv, returncode, self._program.last_words())
        self._transcript.seconds = time.monotonic() - self._began
        return self._transcript

    def end(self) -> None:
        """End it now, whatever it does."""
        self._program.end()

    def _read_until(self, kind: type[_Kind]) -> _Kind:
        for message in heard(self._lines(), self._device, self._job):
            self._transcript.messages.append(message)
            if isinstance(message, kind):
                return message
        returncode = self._program.wait(timeout_s=30)
        raise RunnerDied(self._device.id, self._program.argv, returncode, self._program.last_words())

    def _lines(self) -> Iterator[str]:
        try:
            yield from self._program.lines(timeout_s=self._timeout_s)
        except DeviceTimedOut:
            messages = self._transcript.messages
            last = type(messages[-1]).__name__.lower() if messages else ""
            raise RunnerHung(self._device.id, self._program.argv, self._timeout_s, last) from None
