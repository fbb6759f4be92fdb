"""Every error this program raises on purpose.

    HarnessError                      exit code
    ├── CellsFailed                   1   the run ended, some of its cells failed or were not run
    ├── NothingMeasured               1   the run ended, and none of its cells can run here
    ├── NotProved                     1   a package was compared with a model, and nothing is shown by it
    ├── GateFailed                    1   a gate found a regression
    ├── UsageError                    2   what was asked cannot be done as asked
    │   ├── BadSetting                    a key or value in a TOML file (file, line, key, what is allowed)
    │   ├── UnknownName                   no such model, runtime, device, artifact or run
    │   │   └── ProductName               a product where a device is meant
    │   ├── Incomparable                  two results are unlike in what has to be the same
    │   ├── ImpossibleRatio               more would have to be pruned than may be touched
    │   ├── RunLocked                     another process is writing to this run
    │   └── UnwritableFolder              a folder cannot be made or written
    ├── DeviceError                   3
    │   ├── DeviceCommandFailed           a command on the device exited non-zero
    │   ├── DeviceFileFailed              a file there cannot be read, written or moved
    │   ├── DeviceTimedOut                no answer in time
    │   ├── DeviceNotFound                no device answers to this id or address
    │   ├── DeviceOffline                 it is known, and does not answer now
    │   ├── DeviceUnauthorized            it does not know this machine's key
    │   ├── DeviceLocked                  it has to be unlocked first
    │   ├── AppMissing                    the runner app is not installed there
    │   ├── AppRefused                    the device would not install an app
    │   ├── DeviceBusy                    another run is using it
    │   ├── LeaseLost                     another run has taken it over
    │   ├── SeveralDevices                one was meant, several answer to that
    │   ├── LinkLost                      the connection ended in the middle
    │   ├── DeviceRefused                 it answered, and will not do what was asked
    │   ├── DeviceFull                    no space left (on a device, or here)
    │   ├── PushCorrupted                 other bytes arrived than were sent
    │   ├── AbiMismatch                   a program or library is built for something else than the device
    │   ├── RunnerDied                    the timing program ended by a signal or an exit code
    │   ├── TrainerDied                   a process that trained a network was ended
    │   ├── RunnerHung                    the timing program did not finish in time
    │   ├── RunnerUnreadable              its output is not the vocabulary of `harness.protocol`
    │   ├── DeviceNotFit                  its state forbids a measurement, and nobody accepted that
    │   ├── AcceleratorRefused            other hardware or fewer threads ran than were asked for
    │   └── NeverSteady                   blocks were disturbed each time they were repeated
    ├── MissingTool                   4
    │   ├── MissingExtra                  an optional dependency, with the pip command that installs it
    │   └── BuildFailed                   a program of ours could not be compiled
    └── BadData                       5
        ├── RuntimeRefused                a runtime will not load or run the file
        ├── UnreadableModel               truncated, foreign, or not what its name says
        ├── WrongInput                    an input of the wrong shape or dtype, or missing
        ├── NonFiniteOutput               NaN or infinity came out
        ├── ParityFailed                  the converted file computes something else
        ├── UnusableData                  a data set that is empty, mixed up or damaged
        ├── DegenerateScores              embeddings or scores that tell nobody apart
        ├── ConversionFailed              the converter refused, crashed, or ran out of memory
        ├── Unsupported                   the Core ML evaluator does not know an operation, parameter or type
        └── UnreadableRecord              a stored run that is damaged, or newer than this program

An error holds facts as attributes and makes its sentence from them. All arguments are positional and handed to
`Exception.__init__`, because that is what survives pickling between processes. `kind` is the word that a `Failure`
record carries, `transient` says whether trying again can help, `hint` says what to do.
"""

from __future__ import annotations

import errno
import shlex
import signal
from typing import ClassVar, Literal

UNWRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})
"""What the system says of a place in which nothing can be made."""


def name_of_signal(number: int) -> str:
    """`SIGSEGV` and the like; real-time signals have a number only."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class HarnessError(Exception):
    """The root: one sentence for a person, an exit code for a script."""

    exit_code: ClassVar[int] = 70
    kind: ClassVar[str] = "internal"
    transient: ClassVar[bool] = False
    hint: str = ""
    build: Literal["A", "B"] | None = None
    """Of two builds that are compared, the one that it befell; None where it is not known to be one's alone."""


class CellsFailed(HarnessError):
    """The run is over and stored, and at least one of its cells failed, or was not run since its device went away."""

    exit_code = 1
    kind = "cells_failed"

    def __init__(self, failed: int, total: int, not_run: int = 0, *, folder: str = "") -> None:
        super().__init__(failed, total, not_run)
        self.failed, self.total, self.not_run = failed, total, not_run
        again = "harness run --resume" + (f" --output {folder}" if folder else "")
        self.hint = f"`{again}` goes on with those that were not run." if not_run else ""

    def __str__(self) -> str:
        failed = f"{self.failed} of {self.total} cells failed"
        return f"{failed}, {self.not_run} were not run" if self.not_run else failed


class NotProved(HarnessError):
    """A package was compared with a model, and that it computes the same is not shown by it."""

    exit_code = 1
    kind = "not_proved"
    hint = "What was compared, and what stands against a proof, is printed above."

    def __init__(self, package: str, model: str) -> None:
        super().__init__(package, model)
        self.package, self.model = package, model

    def __str__(self) -> str:
        return f"that {self.package} computes what {self.model} does is not proved"


class NothingMeasured(HarnessError):
    """The run is complete and stored, and has no figure."""

    exit_code = 1
    kind = "nothing_measured"
    hint = "The table says why for each cell."

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self.total = total

    def __str__(self) -> str:
        return f"none of the {self.total} cells can run here"


class GateFailed(HarnessError):
    """A gate found at least one regression; it was told in full."""

    exit_code = 1
    kind = "gate_failed"

    def __init__(self, failed: int, total: int) -> None:
        super().__init__(failed, total)
        self.failed, self.total = failed, total

    def __str__(self) -> str:
        return f"the gate failed: {self.failed} of {self.total} cells"


class UsageError(HarnessError):
    """What was asked cannot be done as asked."""

    exit_code = 2
    kind = "usage"


class Incomparable(UsageError):
    """Two results differ in what has to be the same, or have nothing in common."""

    kind = "incomparable"

    def __init__(self, a: str, b: str, keys: tuple[str, ...]) -> None:
        super().__init__(a, b, keys)
        self.a, self.b, self.keys = a, b, keys
        flags = " ".join(f"--accept {key}" for key in keys)
        self.hint = f"To compare them all the same: {flags}." if keys else "Compare runs of the same cells."

    def __str__(self) -> str:
        what = f"they differ in {', '.join(self.keys)}" if self.keys else "they have no measured cell in common"
        return f"{self.a} and {self.b} cannot be compared: {what}"


class BadSetting(UsageError):
    """A key or a value in a TOML file is wrong."""

    kind = "bad_setting"

    def __init__(self, file: str, line: int | None, key: str, problem: str, allowed: tuple[str, ...]) -> None:
        super().__init__(file, line, key, problem, allowed)
        self.file, self.line, self.key, self.problem, self.allowed = file, line, key, problem, allowed
        self.hint = f"Allowed: {', '.join(allowed)}." if allowed else ""

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}, line {self.line}"
        return f"{where}: {self.key}: {self.problem}" if self.key else f"{where}: {self.problem}"


class UnknownName(UsageError):
    """A name that nothing answers to."""

    kind = "unknown_name"

    def __init__(self, what: str, name: str, known: tuple[str, ...]) -> None:
        super().__init__(what, name, known)
        self.what, self.name, self.known = what, name, known
        self.hint = f"Known: {', '.join(known)}." if known else ""

    def __str__(self) -> str:
        return f"there is no {self.what} called {self.name!r}"


class ProductName(UnknownName):
    """A device was named by the product that it is; there may be many of one, and each has an id."""

    kind = "product_name"

    def __init__(self, what: str, name: str, known: tuple[str, ...]) -> None:
        super().__init__(what, name, known)
        ids = f" {self.hint}" if self.hint else ""
        self.hint = f"Connect one, and give its own id, as `harness devices` lists it.{ids}"

    def __str__(self) -> str:
        return f"{self.name!r} is the name of a product, which many devices have, and not of a {self.what}"


class ImpossibleRatio(UsageError):
    """A model cannot be made that small without touching what is kept."""

    kind = "impossible_ratio"

    def __init__(self, ratio: float, largest: float, parameters: int, kept: int) -> None:
        super().__init__(ratio, largest, parameters, kept)
        self.ratio, self.largest, self.parameters, self.kept = ratio, largest, parameters, kept
        self.hint = f"Ask for a ratio from 1 to less than {self.largest:.4g}."

    def __str__(self) -> str:
        return (
            f"a compression ratio of {self.ratio:g} is not possible: of {self.parameters:,} parameters {self.kept:,} "
            f"have to stay, so the largest is {self.parameters:,} / {self.kept:,} = {self.largest:.4g}"
        )


class RunLocked(UsageError):
    """Two processes may not write to one run."""

    kind = "run_locked"
    hint = "Wait for it, or write to another folder with --output."

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.folder = folder

    def __str__(self) -> str:
        return f"another `harness run` is writing to {self.folder}"


class UnwritableFolder(UsageError):
    """Results cannot be stored where they should be."""

    kind = "unwritable"

    def __init__(self, folder: str, problem: str, chosen_by: str = "--output") -> None:
        super().__init__(folder, problem, chosen_by)
        self.folder, self.problem, self.chosen_by = folder, problem, chosen_by
        self.hint = f"Choose another folder with {chosen_by}, or change its rights."

    def __str__(self) -> str:
        return f"{self.folder} cannot be written: {self.problem}"


class DeviceError(HarnessError):
    """Something between this program and a device, or on the device, went wrong."""

    exit_code = 3
    kind = "device"


class DeviceCommandFailed(DeviceError):
    """A command ran on the device and exited non-zero."""

    kind = "command_failed"
    hint = "The command above is exactly what was sent; run it by hand."

    def __init__(self, device: str, argv: tuple[str, ...], returncode: int, stderr: str) -> None:
        super().__init__(device, argv, returncode, stderr)
        self.device, self.argv, self.returncode, self.stderr = device, argv, returncode, stderr

    def __str__(self) -> str:
        return f"{self.device}: `{shlex.join(self.argv)}` exited {self.returncode}: {self.stderr.strip()}"


class DeviceFileFailed(DeviceError):
    """A file on the device cannot be read, written, moved or removed, and lack of space is not the reason."""

    kind = "file_failed"

    def __init__(self, device: str, action: str, path: str, problem: str) -> None:
        super().__init__(device, action, path, problem)
        self.device, self.action, self.path, self.problem = device, action, path, problem

    def __str__(self) -> str:
        return f"{self.device}: cannot {self.action} {self.path}: {self.problem}"


class DeviceTimedOut(DeviceError):
    """The device did not answer in time."""

    kind = "timeout"
    transient = True

    def __init__(self, device: str, what: str, timeout_s: float) -> None:
        super().__init__(device, what, timeout_s)
        self.device, self.what, self.timeout_s = device, what, timeout_s

    def __str__(self) -> str:
        return f"{self.device}: {self.what} took longer than {self.timeout_s:g} s"


class DeviceNotFound(DeviceError):
    """No device answers to this id or address."""

    kind = "not_found"
    hint = "Is it connected and switched on? `harness devices` lists what answers."

    def __init__(self, device: str, problem: str, hint: str | None = None) -> None:
        super().__init__(device, problem)
        self.device, self.problem, self.hint = device, problem, hint or self.hint

    def __str__(self) -> str:
        return f"{self.device}: {self.problem}"


class DeviceOffline(DeviceError):
    """The device is known, and does not answer now: asleep, rebooting, or its adbd is starting."""

    kind = "offline"
    transient = True
    hint = "Unlock it, or connect it again; an emulator needs some seconds after its start."

    def __init__(self, device: str, problem: str, hint: str | None = None) -> None:
        super().__init__(device, problem)
        self.device, self.problem, self.hint = device, problem, hint or self.hint

    def __str__(self) -> str:
        return f"{self.device} is offline: {self.problem}"


class DeviceUnauthorized(DeviceError):
    """The device does not know this machine's key."""

    kind = "unauthorized"
    hint = "Unlock the device and confirm the question that it shows (Allow USB debugging?), then try again."

    def __init__(self, device: str, problem: str, hint: str | None = None) -> None:
        super().__init__(device, problem)
        self.device, self.problem, self.hint = device, problem, hint or self.hint

    def __str__(self) -> str:
        return f"{self.device} does not let this machine in: {self.problem}"


class DeviceLocked(DeviceError):
    """The device is locked with a passcode, and refuses to work until somebody unlocks it."""

    kind = "locked"
    hint = "Unlock it, and set its automatic lock to Never while it is measured."

    def __init__(self, device: str, problem: str) -> None:
        super().__init__(device, problem)
        self.device, self.problem = device, problem

    def __str__(self) -> str:
        return f"{self.device} is locked: {self.problem}"


class AppMissing(DeviceError):
    """The app that runs jobs is not installed on the device."""

    kind = "app_missing"
    hint = (
        "`harness devices install-app` installs it, harness/deploy/ios/README.md says how to build and sign it. One "
        "that is signed under another identifier is named in HARNESS_IOS_APP."
    )

    def __init__(self, device: str, app: str) -> None:
        super().__init__(device, app)
        self.device, self.app = device, app

    def __str__(self) -> str:
        return f"{self.device}: the app {self.app} is not installed"


class AppRefused(DeviceError):
    """The device, or what talks to it, would not install an app."""

    kind = "app_refused"
    hint = "Sign it for this very device, and build it for its system: harness/deploy/ios/README.md says how."

    def __init__(self, device: str, app: str, problem: str) -> None:
        super().__init__(device, app, problem)
        self.device, self.app, self.problem = device, app, problem

    def __str__(self) -> str:
        return f"{self.device} did not install {self.app}: {self.problem}"


class DeviceBusy(DeviceError):
    """Two runs may not use one device at a time: each would be in the other's figures."""

    kind = "busy"
    hint = "Wait until it is free, or choose other devices."

    def __init__(self, device: str, problem: str) -> None:
        super().__init__(device, problem)
        self.device, self.problem = device, problem

    def __str__(self) -> str:
        return f"{self.device} is in use: {self.problem}"


class LeaseLost(DeviceError):
    """This process stood still for so long that another run has taken the device over."""

    kind = "lease_lost"
    hint = "Once the other run is over, `harness run --resume` measures what is left; other commands begin anew."

    def __init__(self, device: str, holder: str) -> None:
        super().__init__(device, holder)
        self.device, self.holder = device, holder

    def __str__(self) -> str:
        return f"{self.device} was taken over by {self.holder}, since this run did not answer for a while"


class SeveralDevices(DeviceError):
    """One device was meant, and several answer to that."""

    kind = "several_devices"
    hint = "Name one: `harness devices` lists them."

    def __init__(self, device: str, problem: str) -> None:
        super().__init__(device, problem)
        self.device, self.problem = device, problem

    def __str__(self) -> str:
        return f"{self.device}: {self.problem}"


class LinkLost(DeviceError):
    """The connection to the device ended in the middle of something."""

    kind = "link_lost"
    transient = True
    hint = "Was it unplugged, or switched off? What was left half done there is removed when it is back."

    def __init__(self, device: str, what: str, problem: str) -> None:
        super().__init__(device, what, problem)
        self.device, self.what, self.problem = device, what, problem

    def __str__(self) -> str:
        return f"{self.device}: the connection ended during {self.what}: {self.problem}"


class DeviceRefused(DeviceError):
    """The device answered, and will not do what was asked."""

    kind = "refused"

    def __init__(self, device: str, what: str, problem: str) -> None:
        super().__init__(device, what, problem)
        self.device, self.what, self.problem = device, what, problem

    def __str__(self) -> str:
        return f"{self.device} refused {self.what}: {self.problem}"


_HERE = ("this machine", "host")


class DeviceFull(DeviceError):
    """There is no space for what has to be written."""

    kind = "no_space"

    def __init__(
        self, device: str, path: str, needed_bytes: int | None, free_bytes: int | None = None, spare_bytes: int = 0
    ) -> None:
        super().__init__(device, path, needed_bytes, free_bytes, spare_bytes)
        self.device, self.path, self.needed_bytes = device, path, needed_bytes
        self.free_bytes, self.spare_bytes = free_bytes, spare_bytes
        self.hint = (
            "Free some space there, or point HARNESS_CACHE or --output at another disk."
            if device in _HERE
            else f"`harness devices clean {device}` removes models that are kept there; else free some space."
        )

    def __str__(self) -> str:
        spared = f", and {self.spare_bytes / 2**20:.0f} MiB to spare" if self.spare_bytes else ""
        free = "" if self.free_bytes is None else f"; {self.free_bytes / 2**20:.1f} MiB are free"
        needed = "" if self.needed_bytes is None else f" ({self.needed_bytes:,} bytes are needed{spared}{free})"
        return f"{self.device}: no space left for {self.path}{needed}"


class PushCorrupted(DeviceError):
    """The file on the device is not the file that was sent."""

    kind = "push_corrupted"
    transient = True

    def __init__(self, device: str, remote: str, sent_sha256: str, arrived_sha256: str) -> None:
        super().__init__(device, remote, sent_sha256, arrived_sha256)
        self.device, self.remote = device, remote
        self.sent_sha256, self.arrived_sha256 = sent_sha256, arrived_sha256

    def __str__(self) -> str:
        return f"{self.device}: {self.remote} has SHA-256 {self.arrived_sha256[:12]}, sent was {self.sent_sha256[:12]}"


class AbiMismatch(DeviceError):
    """A program or library is built for something else than what it has to run on."""

    kind = "abi_mismatch"
    hint = "`harness runtimes` lists the libraries that are here, and for what."

    def __init__(self, device: str, path: str, built_for: str, wanted: str) -> None:
        super().__init__(device, path, built_for, wanted)
        self.device, self.path, self.built_for, self.wanted = device, path, built_for, wanted

    def __str__(self) -> str:
        return f"{self.device} runs {self.wanted}, and {self.path} is built for {self.built_for}"


class RunnerDied(DeviceError):
    """The timing program ended before its last line."""

    kind = "runner_died"

    def __init__(self, device: str, argv: tuple[str, ...], returncode: int, last_words: str) -> None:
        super().__init__(device, argv, returncode, last_words)
        self.device, self.argv, self.returncode, self.last_words = device, argv, returncode, last_words
        self.hint = f"By hand: {shlex.join(argv)}"

    @property
    def signal_name(self) -> str | None:
        """`SIGSEGV` and the like, or None when the program exited by itself."""
        return name_of_signal(-self.returncode) if self.returncode < 0 else None

    def __str__(self) -> str:
        how = f"was ended by {self.signal_name}" if self.signal_name else f"exited with code {self.returncode}"
        said = f": {self.last_words}" if self.last_words else ", and said nothing"
        return f"{self.device}: the timing program {how} before it was done{said}"


class TrainerDied(DeviceError):
    """A process that trained a network was ended. What it had done is kept after each epoch."""

    kind = "trainer_died"
    hint = "The same command again goes on behind the last finished epoch."

    def __init__(self, network: str, returncode: int) -> None:
        super().__init__(network, returncode)
        self.network, self.returncode = network, returncode

    def __str__(self) -> str:
        code = self.returncode
        how = f"was ended by {name_of_signal(-code)}" if code < 0 else f"exited with code {code}"
        memory = ", which is most likely the system running out of memory" if code == -signal.SIGKILL else ""
        return f"the process that trained {self.network} {how}{memory}"


class RunnerHung(DeviceError):
    """The timing program was still running when its time was over."""

    kind = "timeout"

    def __init__(self, device: str, argv: tuple[str, ...], timeout_s: float, last_message: str) -> None:
        super().__init__(device, argv, timeout_s, last_message)
        self.device, self.argv, self.timeout_s, self.last_message = device, argv, timeout_s, last_message
        self.hint = f"By hand: {shlex.join(argv)}"

    def __str__(self) -> str:
        after = f"; its last message was `{self.last_message}`" if self.last_message else ""
        return f"{self.device}: the timing program was not done after {self.timeout_s:g} s and was ended{after}"


class RunnerUnreadable(DeviceError):
    """A line of the timing program's output is not in the vocabulary."""

    kind = "unreadable_output"

    def __init__(self, device: str, line: str, problem: str) -> None:
        super().__init__(device, line, problem)
        self.device, self.line, self.problem = device, line, problem

    def __str__(self) -> str:
        shown = self.line if len(self.line) <= 120 else f"{self.line[:120]}..."
        return f"{self.device}: the timing program's output cannot be read ({self.problem})" + (
            f": {shown!r}" if shown else ""
        )


class DeviceNotFit(DeviceError):
    """The device is in a state in which no figure should be taken."""

    kind = "not_fit"

    def __init__(self, device: str, obstacle: str, found: str, advice: str, *, can_be_accepted: bool = True) -> None:
        super().__init__(device, obstacle, found, advice)
        self.device, self.obstacle, self.found, self.advice = device, obstacle, found, advice
        accept = f" Or accept it, which the record will say: --accept {obstacle}" if can_be_accepted else ""
        self.hint = f"{advice}{accept}"

    def __str__(self) -> str:
        return f"{self.device}: {self.found}"


class AcceleratorRefused(DeviceError):
    """What ran is not what was asked for."""

    kind = "fallback"
    hint = "Ask for what is there, or leave that setting out."

    def __init__(self, device: str, asked: str, ran: str, reason: str, is_strict: bool = False) -> None:
        super().__init__(device, asked, ran, reason, is_strict)
        self.device, self.asked, self.ran, self.reason = device, asked, ran, reason
        if is_strict:  # only --require-accelerator minds
            self.hint = "Without --require-accelerator the cell is measured as it ran, and the record says so."

    def __str__(self) -> str:
        return f"{self.device}: asked for {self.asked}, got {self.ran}: {self.reason}"


class NeverSteady(DeviceError):
    """Every repetition of a process was disturbed (throttled, or the processor was taken away)."""

    kind = "disturbed"

    def __init__(self, device: str, attempts: int, reason: str) -> None:
        super().__init__(device, attempts, reason)
        self.device, self.attempts, self.reason = device, attempts, reason
        self.hint = f"`harness devices show {device}` says what stands in the way of a stable figure."

    def __str__(self) -> str:
        return f"{self.device}: disturbed in each of {self.attempts} attempts ({self.reason}); no figure is reported"


class MissingTool(HarnessError):
    """A program this step needs is not installed."""

    exit_code = 4
    kind = "missing_tool"

    def __init__(self, tool: str, needed_for: str, install: str) -> None:
        super().__init__(tool, needed_for, install)
        self.tool, self.needed_for, self.install = tool, needed_for, install
        self.hint = f"Install it: {install}"

    def __str__(self) -> str:
        verb = "are" if ", " in self.tool else "is"
        return f"{self.needed_for} needs {self.tool}, which {verb} not installed"


class MissingExtra(MissingTool):
    """An optional Python dependency is not installed."""

    kind = "missing_extra"

    def __init__(self, tool: str, needed_for: str, extra: str) -> None:
        super().__init__(tool, needed_for, f"pip install 'inference-harness[{extra}]'")
        self.args = (tool, needed_for, extra)
        self.extra = extra


class BuildFailed(MissingTool):
    """The compiler is there and did not make the program."""

    kind = "build_failed"

    def __init__(self, program: str, command: tuple[str, ...], stderr: str) -> None:
        super().__init__(program, "this step", shlex.join(command))
        self.args = (program, command, stderr)
        self.program, self.command, self.stderr = program, command, stderr
        self.hint = f"By hand: {shlex.join(command)}"

    def __str__(self) -> str:
        last = " | ".join([line.strip() for line in self.stderr.splitlines() if line.strip()][-3:])
        return f"{self.program} could not be built: {last}"


class BadData(HarnessError):
    """A file is not what it should be."""

    exit_code = 5
    kind = "bad_data"


class RuntimeRefused(BadData):
    """The runtime would not load or run the model.

    Attributes:
        reason: The timing program's own word: unsupported_op, wrong_input, load_failed...
    """

    kind = "runtime_refused"

    def __init__(self, device: str, reason: str, message: str) -> None:
        super().__init__(device, reason, message)
        self.device, self.reason, self.message = device, reason, message

    def __str__(self) -> str:
        return f"{self.device}: the runtime refused the model ({self.reason.replace('_', ' ')}): {self.message}"


class UnreadableModel(BadData):
    """A model file that its own format's reader refuses."""

    kind = "unreadable_model"

    def __init__(self, path: str, model_format: str, problem: str) -> None:
        super().__init__(path, model_format, problem)
        self.path, self.model_format, self.problem = path, model_format, problem

    def __str__(self) -> str:
        return f"{self.path} cannot be read as {self.model_format}: {self.problem}"


class WrongInput(BadData):
    """The input data do not fit the model."""

    kind = "wrong_input"

    def __init__(self, tensor: str, expected: str, found: str) -> None:
        super().__init__(tensor, expected, found)
        self.tensor, self.expected, self.found = tensor, expected, found

    def __str__(self) -> str:
        return f"input {self.tensor!r}: the model takes {self.expected}, the data are {self.found}"


class NonFiniteOutput(BadData):
    """The model computed NaN or infinity."""

    kind = "non_finite_output"

    def __init__(self, where: str, tensor: str, count: int, size: int) -> None:
        super().__init__(where, tensor, count, size)
        self.where, self.tensor, self.count, self.size = where, tensor, count, size

    def __str__(self) -> str:
        return f"{self.where}: output {self.tensor!r} has {self.count:,} NaN or infinite values of {self.size:,}"


class ParityFailed(BadData):
    """A converted file, or a device running it, does not compute what the checkpoint computes."""

    kind = "wrong_numbers"

    def __init__(
        self, where: str, tensor: str, metric: str, found: float, limit: float, *, reference: str = "the checkpoint"
    ) -> None:
        super().__init__(where, tensor, metric, found, limit)
        self.where, self.tensor, self.metric, self.found, self.limit = where, tensor, metric, found, limit
        self.reference = reference

    def __str__(self) -> str:
        return (
            f"{self.where}: output {self.tensor!r} differs from {self.reference}: "
            f"{self.metric} is {self.found:.3g}, the limit is {self.limit:.3g}"
        )


class UnusableData(BadData):
    """A data set is empty, mixed up or damaged."""

    kind = "unusable_data"

    def __init__(self, dataset: str, problem: str, examples: tuple[str, ...]) -> None:
        super().__init__(dataset, problem, examples)
        self.dataset, self.problem, self.examples = dataset, problem, examples
        self.hint = "Images belong in <subject>/<session>/<image>, two or more a subject."

    def __str__(self) -> str:
        named = f": {', '.join(self.examples)}" if self.examples else ""
        return f"{self.dataset}: {self.problem}{named}"


class DegenerateScores(BadData):
    """Embeddings or scores from which no error rate can be computed."""

    kind = "degenerate"
    hint = "The network has most likely collapsed: look at its training loss, or at how it was compressed."

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(what, problem)
        self.what, self.problem = what, problem

    def __str__(self) -> str:
        return f"{self.what}: {self.problem}" if self.what else self.problem


class ConversionFailed(BadData):
    """A converter refused the model, crashed, was killed or took too long.

    Attributes:
        cause: `unsupported_op`, `unsupported`, `out_of_memory`, `crashed`, `timeout` or `failed`.
        log: The converter's own output, for people.
    """

    kind = "conversion_failed"

    def __init__(self, what: str, cause: str, problem: str, log: str) -> None:
        super().__init__(what, cause, problem, log)
        self.what, self.cause, self.problem, self.log = what, cause, problem, log
        self.hint = f"The converter's output is in {log}" if log else ""

    def __str__(self) -> str:
        return f"{self.what}: {self.problem}"


class Unsupported(BadData):
    """An ML Program holds something that the evaluator does not know: nothing was computed from it.

    Attributes:
        op_type: `conv`, `constexpr_lut_to_dense`...; "program" where it is not about one operation.
        op_name: The operation's own name in the file.
        parameter: The parameter, mode or output at fault; None when the whole operation is unknown.
        problem: What was found there.
    """

    kind = "unsupported_op"
    hint = "The package may well be right: this evaluator cannot tell, and does not guess."

    def __init__(self, op_type: str, op_name: str, parameter: str | None, problem: str) -> None:
        super().__init__(op_type, op_name, parameter, problem)
        self.op_type, self.op_name, self.parameter, self.problem = op_type, op_name, parameter, problem

    def __str__(self) -> str:
        where = self.op_type if self.parameter is None else f"{self.op_type}.{self.parameter}"
        return f"the Core ML evaluator does not know {where} of {self.op_name!r}: {self.problem}"


class UnreadableRecord(BadData):
    """A stored record is damaged, or was written by a newer version."""

    kind = "unreadable_record"

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"
