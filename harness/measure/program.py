"""One timing program from start to end: its lines read, checked and gathered."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from harness.errors import (
    AcceleratorRefused,
    DeviceTimedOut,
    HarnessError,
    RunnerDied,
    RunnerHung,
    RunnerUnreadable,
    RuntimeRefused,
    UnreadableModel,
)
from harness.protocol import (
    PROTOCOL_VERSION,
    Canary,
    End,
    First,
    Job,
    Loaded,
    Memory,
    Message,
    Meta,
    Outputs,
    Profile,
    ProgramError,
    TimedBlock,
    Warmup,
    read_message,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from harness.device.device import Device, RunningProgram

_Kind = TypeVar("_Kind", bound=Message)


@dataclass
class Transcript:
    """Everything one program said, complete."""

    at: str
    seconds: float = 0.0
    messages: list[Message] = field(default_factory=list)

    def one(self, kind: type[_Kind]) -> _Kind:
        """The only message of a kind. A complete transcript has it."""
        (found,) = self.all(kind)
        return found

    def all(self, kind: type[_Kind]) -> tuple[_Kind, ...]:
        """Every message of a kind, in order."""
        return tuple(message for message in self.messages if isinstance(message, kind))

    def canary_ns(self, when: str) -> int | None:
        """The canary's time, where the program has one."""
        return next((message.ns for message in self.all(Canary) if message.when == when), None)


def run_program(device: Device, job: Job, command: Sequence[str], *, timeout_s: float) -> Transcript:
    """Start a timing program on the device, sleep until it is done, and return what it said.

    Raises:
        RunnerDied: It ended by a signal or an exit code before its last line.
        RunnerHung: It was still running after `timeout_s`; it has been ended.
        RunnerUnreadable: A line is not in the vocabulary, or messages are missing or out of order.
        RuntimeRefused: It said that the model cannot be run.
        UnreadableModel: It said that the file is damaged.
        AcceleratorRefused: It said that the accelerator is not there.
    """
    began = time.monotonic()
    transcript = Transcript(at=datetime.now(UTC).isoformat(timespec="milliseconds"))
    program = device.start((*command, *job.argv()), environment={"ORT_DISABLE_TELEMETRY": "1"})
    try:
        _listen(device, program, job, transcript, timeout_s)
    except DeviceTimedOut as late:
        last = type(transcript.messages[-1]).__name__.lower() if transcript.messages else ""
        hung = RunnerHung(device.id, program.argv, timeout_s, last)
        hung.hint = late.hint or hung.hint  # where nothing can be started by hand, the device knows what helps
        raise hung from None
    finally:
        # Also when a person interrupts: no program of ours stays behind on a device.
        program.end()
    _require_complete(device, job, transcript)
    transcript.seconds = time.monotonic() - began
    return transcript


def _listen(device: Device, program: RunningProgram, job: Job, transcript: Transcript, timeout_s: float) -> None:
    transcript.messages.extend(heard(program.lines(timeout_s=timeout_s), device, job))
    returncode = program.wait(timeout_s=30)
    if returncode != 0 or not transcript.all(End):
        raise RunnerDied(device.id, program.argv, returncode, program.last_words())


def heard(lines: Iterable[str], device: Device, job: Job) -> Iterator[Message]:
    """The messages of a timing program, each read and checked as it comes.

    A last line that was cut off in the middle is left out: how the program ended says more.

    Raises:
        RunnerUnreadable: A line is not in the vocabulary.
        RuntimeRefused, UnreadableModel, AcceleratorRefused: It says that the model cannot be run.
    """
    cut_off: RunnerUnreadable | None = None
    for line in lines:
        if not line.strip():
            continue
        if cut_off is not None:
            raise cut_off
        try:
            message = read_message(line)
        except ValueError as error:
            unreadable = RunnerUnreadable(device.id, line, str(error))
            if line.endswith("}"):
                raise unreadable from None
            cut_off = unreadable
            continue
        yield _accepted(message, line, device, job)


def _accepted(message: Message, line: str, device: Device, job: Job) -> Message:
    if isinstance(message, ProgramError):
        raise _refused(device, job, message)
    if isinstance(message, Meta) and message.protocol != PROTOCOL_VERSION:
        problem = f"it speaks version {message.protocol}, this program version {PROTOCOL_VERSION}"
        raise RunnerUnreadable(device.id, line, problem)
    if isinstance(message, Meta) and message.asked is not None and message.asked != job.asked():
        found, wanted = message.asked, job.asked()
        wrong = next(name for name in found.__struct_fields__ if getattr(found, name) != getattr(wanted, name))
        problem = f"it was asked for {wrong} = {getattr(wanted, wrong)} and understood {getattr(found, wrong)}"
        raise RunnerUnreadable(device.id, line, problem)
    return message


def _refused(device: Device, job: Job, message: ProgramError) -> HarnessError:
    if message.kind == "unreadable_model":
        return UnreadableModel(job.model, job.choice.runtime, message.message)
    if message.kind == "no_accelerator":
        return AcceleratorRefused(device.id, job.choice.accelerator, "nothing", message.message)
    return RuntimeRefused(device.id, message.kind, message.message)


def _require_complete(device: Device, job: Job, transcript: Transcript) -> None:
    """A stream that ends well and lacks something is a defect of the program, and no result."""
    expected: dict[type[Message], int] = {Meta: 1, Loaded: 1, End: 1}
    if job.mode == "memory":
        expected |= {Memory: 3}
    elif job.mode == "profile":
        expected |= {Profile: 1}
    else:
        expected |= {First: 1, Outputs: 1, Warmup: 1, TimedBlock: job.blocks}
    for kind, count in expected.items():
        found = len(transcript.all(kind))
        if found != count:
            problem = f"{count} {kind.__name__.lower()} messages were expected, {found} came"
            raise RunnerUnreadable(device.id, "", problem)
    if any(not block.ns or min(block.ns) <= 0 for block in transcript.all(TimedBlock)):
        raise RunnerUnreadable(device.id, "", "a block is empty, or holds a time that is not positive")
