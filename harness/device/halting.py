"""Stop what is going on at devices from another thread, leaving nothing behind on them.

A person's Ctrl-C arrives in the main thread only, and devices work in threads of their own. Stopping ends the programs
that run, and lets every thread leave at its next call to a device; what tidies up there still may.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.device.device import MayStayBehind, TellsPrograms
from harness.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path, PurePosixPath

    from harness.device.device import Device, RunningProgram, ShellResult, ToldProgram
    from harness.records import DeviceFacts, DeviceState, Obstacle


_log = logging.getLogger(__name__)


class Halted(BaseException):
    """The thread is to leave. No `Exception`: whatever turns errors into records must not take it for one."""


class Halt:
    """Whether all devices are to stop."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._running: set[RunningProgram] = set()

    @property
    def is_set(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()

    def check(self) -> None:
        """Go on.

        Raises:
            Halted: Not any more.
        """
        if self._stopped.is_set():
            raise Halted

    def sleep(self, seconds: float) -> None:
        """Wait, and leave at once when all are to stop.

        Raises:
            Halted: They are.
        """
        if self._stopped.wait(seconds):
            raise Halted

    def stop(self) -> None:
        """Have every thread leave, and end every program that runs on a device. From any thread."""
        self._stopped.set()
        with self._lock:
            running = tuple(self._running)
        for program in running:
            program.end()

    @contextlib.contextmanager
    def watching(self, program: RunningProgram) -> Iterator[None]:
        """End this program, too, when all are to stop while the block lasts."""
        with self._lock:
            self._running.add(program)
        try:
            if self._stopped.is_set():  # just before it was added
                program.end()
                raise Halted
            yield
        finally:
            with self._lock:
                self._running.discard(program)


@dataclass
class Owed:
    """What could not be put in order on a device because it did not answer."""

    paths: set[PurePosixPath] = field(default_factory=set)
    """Files and folders to remove."""
    commands: set[tuple[str, ...]] = field(default_factory=set)
    """That set back what was set."""

    def __bool__(self) -> bool:
        return bool(self.paths or self.commands)


class HaltingDevice:
    """A `Device` that does nothing more once all are to stop, but tidy up.

    Args:
        device: What does the work.
        halt: Says when to stop.
        owed: What is left from earlier.

    Attributes:
        device: As above.
        owed: What is still to be put in order there.
        doing: What it is asked for at this moment, in words; None while nothing is.
        arriving: The file that is being sent at this moment.
    """

    def __init__(self, device: Device, halt: Halt, owed: Owed | None = None) -> None:
        self.device, self._halt = device, halt
        self.owed = owed or Owed()
        self.doing: str | None = None
        self.arriving: PurePosixPath | None = None

    @contextlib.contextmanager
    def _while(self, what: str, *, arriving: PurePosixPath | None = None) -> Iterator[None]:
        self.doing, self.arriving = what, arriving
        try:
            yield
        finally:
            self.doing = self.arriving = None

    @property
    def id(self) -> str:
        """The device's."""
        return self.device.id

    @property
    def work_folder(self) -> PurePosixPath:
        """The device's."""
        return self.device.work_folder

    def facts(self) -> DeviceFacts:
        """The device's."""
        self._halt.check()
        with self._while("saying what it is"):
            return self.device.facts()

    def state(self) -> DeviceState:
        """The device's."""
        self._halt.check()
        with self._while("saying how it is"):
            return self.device.state()

    def obstacles(self) -> tuple[Obstacle, ...]:
        """The device's."""
        self._halt.check()
        with self._while("saying how it is"):
            return self.device.obstacles()

    def push(self, local: Path, remote: PurePosixPath, *, timeout_s: float) -> None:
        """As the device does."""
        self._halt.check()
        with self._while(f"taking the file {remote}", arriving=remote):
            self.device.push(local, remote, timeout_s=timeout_s)

    def pull(self, remote: PurePosixPath, local: Path, *, timeout_s: float) -> None:
        """As the device does."""
        self._halt.check()
        with self._while(f"sending the file {remote}"):
            self.device.pull(remote, local, timeout_s=timeout_s)

    def sha256(self, remote: PurePosixPath, *, timeout_s: float) -> str | None:
        """As the device does."""
        self._halt.check()
        with self._while(f"reading the file {remote}"):
            return self.device.sha256(remote, timeout_s=timeout_s)

    def rename(self, source: PurePosixPath, target: PurePosixPath, *, timeout_s: float) -> None:
        """As the device does."""
        self._halt.check()
        self.device.rename(source, target, timeout_s=timeout_s)

    def make_folder(self, remote: PurePosixPath, *, timeout_s: float) -> None:
        """As the device does."""
        self._halt.check()
        self.device.make_folder(remote, timeout_s=timeout_s)

    def remove(self, remote: PurePosixPath, *, timeout_s: float) -> None:
        """As the device does, also while all stop; what fails is owed."""
        try:
            with self._while(f"removing {remote}"):
                self.device.remove(remote, timeout_s=timeout_s)
        except DeviceError:
            self.owed.paths.add(remote)
            raise

    def shell(self, argv: Sequence[str], *, timeout_s: float) -> ShellResult:
        """As the device does, also while all stop: what a device was set to is put back by a command."""
        with self._while(f"running {shlex.join(argv)}"):
            return self.device.shell(argv, timeout_s=timeout_s)

    def owe(self, argv: Sequence[str]) -> None:
        """Have a command run once the device answers again."""
        self.owed.commands.add(tuple(argv))

    def start(self, argv: Sequence[str], *, environment: Mapping[str, str]) -> RunningProgram:
        """As the device does; the program ends when all are to stop."""
        self._halt.check()
        return _HaltingProgram(self.device.start(argv, environment=environment), self._halt, self.owe)

    def worker_command(self) -> tuple[str, ...]:
        """The device's."""
        return self.device.worker_command()

    def pay(self, *, timeout_s: float) -> None:
        """Do what is owed.

        Raises:
            DeviceError: It still cannot be done.
        """
        for command in sorted(self.owed.commands):
            self.device.shell(command, timeout_s=timeout_s)
            self.owed.commands.discard(command)
        for path in sorted(self.owed.paths):
            self.device.remove(path, timeout_s=timeout_s)
            self.owed.paths.discard(path)


class _TellingDevice(HaltingDevice):
    """Of a device whose programs can be told lines."""

    def start_told(self, argv: Sequence[str], *, environment: Mapping[str, str]) -> ToldProgram:
        """As the device does; the program ends when all are to stop."""
        self._halt.check()
        assert isinstance(self.device, TellsPrograms)
        return _HaltingToldProgram(self.device.start_told(argv, environment=environment), self._halt, self.owe)


def halting(device: Device, halt: Halt, owed: Owed | None = None) -> HaltingDevice:
    """The device as a `HaltingDevice`, which tells programs lines where the device can."""
    made = _TellingDevice if isinstance(device, TellsPrograms) else HaltingDevice
    return made(device, halt, owed)


def tell_owed(device: HaltingDevice) -> None:
    """Say what is still owed to a device, and how a person puts it in order; nothing where nothing is."""
    owed = device.owed
    steps = [f"run there: {shlex.join(command)}" for command in sorted(owed.commands)]
    if owed.paths:
        left = ", ".join(str(path) for path in sorted(owed.paths))
        steps.append(f"harness devices clean {device.id} --older-than 0 (it keeps {left})")
    if steps:
        _log.warning(
            "%s does not answer, and is not in order; once it does, the next run there sees to it, or %s",
            device.id,
            "; ".join(steps),
        )


class _HaltingProgram:
    """A `RunningProgram` that is ended when all are to stop."""

    def __init__(self, program: RunningProgram, halt: Halt, owe: Callable[[Sequence[str]], None]) -> None:
        self._program, self._halt, self._owe = program, halt, owe
        self._watched = contextlib.ExitStack()
        self._watched.enter_context(halt.watching(program))

    @property
    def argv(self) -> tuple[str, ...]:
        """The program's."""
        return self._program.argv

    def lines(self, *, timeout_s: float) -> Iterator[str]:
        """The program's."""
        return self._program.lines(timeout_s=timeout_s)

    def wait(self, *, timeout_s: float) -> int:
        """The program's."""
        code = self._program.wait(timeout_s=timeout_s)
        self._halt.check()  # how it ended is then our doing
        return code

    def last_words(self) -> str:
        """The program's."""
        return self._program.last_words()

    def end(self) -> None:
        """End it; what a device keeps that does not answer is owed."""
        self._program.end()
        if isinstance(self._program, MayStayBehind) and self._program.left_over is not None:
            self._owe(self._program.left_over)
        self._watched.close()


class _HaltingToldProgram(_HaltingProgram):
    """A `ToldProgram` that is ended when all are to stop."""

    def __init__(self, program: ToldProgram, halt: Halt, owe: Callable[[Sequence[str]], None]) -> None:
        super().__init__(program, halt, owe)
        self._told = program

    def tell(self, line: str) -> None:
        """The program's."""
        self._told.tell(line)
