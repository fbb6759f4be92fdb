"""A device in memory, for tests of everything above the seam. It answers at once: its delays are counted, not waited.

device = FakeDevice(programs=[FakeProgram(lines=[...]), FakeProgram(lines=[...], returncode=-11)])
device.fail_on("push", DeviceTimedOut("fake", "push", 1.0), after_calls=2)

... run the code under test ...

assert device.log[-1] == "end python -m harness.deploy.worker ..."
assert device.files[PurePosixPath("/fake/models/abc.onnx")] == b"..."
"""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from harness.device.device import ShellResult
from harness.errors import DeviceCommandFailed, DeviceFileFailed, DeviceFull, DeviceTimedOut
from harness.records import DeviceFacts, DeviceState, Obstacle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from harness.device.device import Device

FACTS = DeviceFacts(
    id="fake",
    kind="host",
    device_class="host",
    name="Fake",
    cpu="Fake processor",
    cores=4,
    architecture="x86_64",
    memory_bytes=8 * 2**30,
    os="FakeOS 1",
    os_build="1",
)
QUIET = DeviceState(
    at="2026-01-01T00:00:00.000+00:00",
    load_1min=0.0,
    cpu_busy_pct=0.0,
    steal_pct=0.0,
    governor="performance",
    cpu_hz=2.0e9,
    cpu_cap_hz=2.0e9,
    temperature_celsius=40.0,
    thermal_status=None,
    battery_pct=None,
    charging=None,
    free_memory_bytes=4 * 2**30,
)


def state(**changes: object) -> DeviceState:
    """The state of a quiet device, but for what is named."""
    return msgspec.structs.replace(QUIET, **changes)


@dataclass(frozen=True, kw_only=True)
class FakeProgram:
    """What one started program does.

    Attributes:
        lines: What it prints, without line ends. A record is printed as the JSON that our runners would print.
        returncode: How it exits; minus the number of the signal that ends it.
        stderr: What it prints for people.
        seconds: How long it works before its last line. A caller that waits for less gets a time-out, at once.
        hangs: It prints its lines and then never ends by itself.
        files: What it writes: an absolute path, or a name in the folder that its `--output-folder` names.
        on_start: Called with the command line when it is started, for whatever else a test needs.
    """

    lines: Sequence[str | msgspec.Struct] = ()
    returncode: int = 0
    stderr: str = ""
    seconds: float = 0.0
    hangs: bool = False
    files: Mapping[str, bytes] = field(default_factory=dict)
    on_start: Callable[[tuple[str, ...]], None] | None = None


class FakeRunningProgram:
    """A `RunningProgram` that follows a script."""

    def __init__(self, device: FakeDevice, argv: tuple[str, ...], script: FakeProgram) -> None:
        self._device, self._argv, self._script = device, argv, script
        self.ended = False
        """Whether `end` was called before it had ended by itself."""
        self._finished = False

    @property
    def argv(self) -> tuple[str, ...]:
        """What was started."""
        return self._argv

    def lines(self, *, timeout_s: float) -> Iterator[str]:
        """Its lines; then a time-out, if it hangs or needs longer."""
        too_long = self._script.hangs or self._script.seconds > timeout_s
        last = len(self._script.lines) - 1
        for number, line in enumerate(self._script.lines):
            if self._script.seconds > timeout_s and number == last:
                break
            yield line if isinstance(line, str) else msgspec.json.encode(line).decode()
        if too_long:
            raise DeviceTimedOut(self._device.id, shlex.join(self._argv), timeout_s)
        self._finished = True

    def wait(self, *, timeout_s: float) -> int:
        """Its exit code."""
        if self.ended:
            return -9
        if self._script.hangs or self._script.seconds > timeout_s:
            raise DeviceTimedOut(self._device.id, shlex.join(self._argv), timeout_s)
        self._finished = True
        return self._script.returncode

    def last_words(self) -> str:
        """Its standard error on one line."""
        return " | ".join(line.strip() for line in self._script.stderr.splitlines() if line.strip())

    def end(self) -> None:
        """End it, and note that in the device's log if it was still running."""
        if not self._finished and not self.ended:
            self.ended = True
            self._device.log.append(f"end {shlex.join(self._argv)}")


@dataclass
class _PlannedFailure:
    error: BaseException
    after_calls: int
    times: int


class FakeDevice:
    """A `Device` that keeps files in memory and follows a script.

    Args:
        programs: One for each `start`, in order; or a function that makes the script from the command line.
        states: One for each `state()`, in order; the last one then stays.
        obstacles: What `obstacles()` answers.
        facts: What `facts()` answers; its id is the device's.
        capacity_bytes: How much fits on it.
        commands: What `shell` answers, by the command's first word.

    Attributes:
        files: What is on it.
        folders: Which folders were made.
        started: Every program that was started, in order.
        log: Every call that changes something, in order: `push /fake/models/x.onnx`, `rename A B`, `start ...`, `end
            ...` (a program that was still running).
        calls: Every call's name, in order, those that only look as well.
    """

    def __init__(
        self,
        *,
        programs: Iterable[FakeProgram] | Callable[[tuple[str, ...]], FakeProgram] = (),
        states: Iterable[DeviceState] = (QUIET,),
        obstacles: Iterable[Obstacle] = (),
        facts: DeviceFacts = FACTS,
        capacity_bytes: int | None = None,
        commands: Mapping[str, ShellResult] | None = None,
    ) -> None:
        self._facts = facts
        self._script = programs if callable(programs) else None
        self._programs = [] if callable(programs) else list(programs)
        self._states = list(states)
        self._obstacles = tuple(obstacles)
        self._capacity_bytes = capacity_bytes
        self._commands = dict(commands or {})
        self._failures: dict[str, list[_PlannedFailure]] = {}
        self._pushes_to_corrupt = 0
        self.files: dict[PurePosixPath, bytes] = {}
        self.folders: set[PurePosixPath] = set()
        self.started: list[FakeRunningProgram] = []
        self.log: list[str] = []
        self.calls: list[str] = []

    def fail_on(self, call: str, error: BaseException | None = None, *, after_calls: int = 0, times: int = 1) -> None:
        """Make a method of this device raise.

        Args:
            call: The method's name: `push`, `start`, `state`...
            error: What it raises; None for a command that failed.
            after_calls: How many more calls go well before.
            times: How many calls then fail.
        """
        error = error or DeviceCommandFailed(self.id, (call,), 1, "the test said so")
        self._failures.setdefault(call, []).append(_PlannedFailure(error, after_calls, times))

    def corrupt_pushes(self, times: int = 1) -> None:
        """Let the next pushes arrive with one byte changed."""
        self._pushes_to_corrupt = times

    # --- Device ---

    @property
    def id(self) -> str:
        """The id in its facts."""
        return self._facts.id

    @property
    def work_folder(self) -> PurePosixPath:
        """Where it lets us work."""
        return PurePosixPath("/fake")

    def facts(self) -> DeviceFacts:
        """As the test said."""
        self._called("facts")
        return self._facts

    def state(self) -> DeviceState:
        """The next state of the script."""
        self._called("state")
        return self._states.pop(0) if len(self._states) > 1 else self._states[0]

    def obstacles(self) -> tuple[Obstacle, ...]:
        """As the test said."""
        self._called("obstacles")
        return self._obstacles

    def push(self, local: Path, remote: PurePosixPath, *, timeout_s: float) -> None:
        """Keep the file's bytes, if there is space for them."""
        self._called("push", f"push {remote}")
        content = local.read_bytes()
        held = sum(len(other) for path, other in self.files.items() if path != remote)
        if self._capacity_bytes is not None and held + len(content) > self._capacity_bytes:
            raise DeviceFull(self.id, str(remote), len(content))
        if self._pushes_to_corrupt > 0:
            self._pushes_to_corrupt -= 1
            content = bytes([content[0] ^ 1]) + content[1:]
        self.files[remote] = content

    def pull(self, remote: PurePosixPath, local: Path, *, timeout_s: float) -> None:
        """Write the file's bytes."""
        self._called("pull", f"pull {remote}")
        if remote not in self.files:
            raise DeviceFileFailed(self.id, "pull", str(remote), "there is no such file")
        local.write_bytes(self.files[remote])

    def sha256(self, remote: PurePosixPath, *, timeout_s: float) -> str | None:
        """SHA-256 of a file, or None."""
        self._called("sha256")
        return hashlib.sha256(self.files[remote]).hexdigest() if remote in self.files else None

    def rename(self, source: PurePosixPath, target: PurePosixPath, *, timeout_s: float) -> None:
        """Move a file."""
        self._called("rename", f"rename {source} {target}")
        if source not in self.files:
            raise DeviceFileFailed(self.id, "rename", str(source), "there is no such file")
        self.files[target] = self.files.pop(source)

    def make_folder(self, remote: PurePosixPath, *, timeout_s: float) -> None:
        """Note the folder."""
        self._called("make_folder")
        self.folders.add(remote)

    def remove(self, remote: PurePosixPath, *, timeout_s: float) -> None:
        """Forget a file, or a folder with all that is in it."""
        self._called("remove", f"remove {remote}")
        self.files = {path: content for path, content in self.files.items() if not path.is_relative_to(remote)}
        self.folders = {folder for folder in self.folders if not folder.is_relative_to(remote)}

    def shell(self, argv: Sequence[str], *, timeout_s: float) -> ShellResult:
        """The scripted answer; 127, as a shell says it, where there is none."""
        self._called("shell", f"shell {shlex.join(argv)}")
        unknown = ShellResult(returncode=127, stdout="", stderr=f"{argv[0]}: not found")
        return self._commands.get(argv[0], unknown)

    def start(self, argv: Sequence[str], *, environment: Mapping[str, str]) -> FakeRunningProgram:
        """Start the next program of the script."""
        argv = tuple(argv)
        self._called("start", f"start {shlex.join(argv)}")
        if self._script is not None:
            script = self._script(argv)
        else:
            assert self._programs, f"the test scripted {len(self.started)} programs, this is one more: {argv}"
            script = self._programs.pop(0)
        if script.on_start is not None:
            script.on_start(argv)
        folder = PurePosixPath(argv[argv.index("--output-folder") + 1]) if "--output-folder" in argv else None
        for name, content in script.files.items():
            self.files[(folder or self.work_folder) / name] = content  # an absolute name replaces the folder
        program = FakeRunningProgram(self, argv, script)
        self.started.append(program)
        return program

    def worker_command(self) -> tuple[str, ...]:
        """What the host answers, without a machine's own path in it."""
        self._called("worker_command")
        return ("python", "-m", "harness.deploy.worker")

    def _called(self, call: str, entry: str | None = None) -> None:
        self.calls.append(call)
        if entry is not None:
            self.log.append(entry)
        for failure in self._failures.get(call, []):
            if failure.after_calls > 0:
                failure.after_calls -= 1
            elif failure.times > 0:
                failure.times -= 1
                raise failure.error


if TYPE_CHECKING:
    # mypy compares the fake with the seam here.
    _: Device = FakeDevice()
