"""An iPhone as a `Device`: what the measuring code does there becomes a job folder, and a result folder its lines.

`start` takes the same command line as everywhere, turns its flags back into a `Job`, and sends that as a job folder;
`lines` waits for the result folder and hands out its `messages.ndjson`. So nothing above this file knows that no
program can be started on a phone.

Files are kept in a mirror on this machine, under the names they have on the phone. A rename sends a file to the phone,
and so does a start for what is not there; the app proves the digests. What the app wrote is fetched into the mirror,
checked, and read from there.
"""

from __future__ import annotations

import math
import os
import re
import secrets
import shutil
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from harness.device.device import ShellResult
from harness.device.ios.job_folder import (
    DOCUMENTS,
    JOB_SCHEMA,
    AppState,
    Done,
    JobFile,
    SentItem,
    describe,
    read_result,
    write_job,
)
from harness.device.obstacles import THERMAL_STATUS, Conditions, find_obstacles
from harness.errors import (
    DeviceCommandFailed,
    DeviceError,
    DeviceFileFailed,
    DeviceRefused,
    DeviceTimedOut,
    PushCorrupted,
    RunnerUnreadable,
)
from harness.protocol import Job, ProgramError, read_job, read_message
from harness.records import DeviceFacts, DeviceState, Obstacle
from harness.workspace import cache_dir, sha256_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.device.ios.transport import FoundPhone, Hurdle, Transport
    from harness.device.profile import DeviceProfile

RUNNER = "ios-runner"
"""The first word of a command line that this device can start."""
POLL_S = 2.0
"""Between two looks for a result. Each costs the phone a connection, so none is made before a job can be done."""
SEND_TIMEOUT_S = 300.0
LAUNCH_TIMEOUT_S = 60.0
STATE_TIMEOUT_S = 30.0
OLDEST_SYSTEM = 13
"""The first that loads a file which `harness.convert` makes."""
STATE_FRESH_S = 10.0
"""A state this young, from the end of a job, is the present one."""


class IosDevice:
    """One iPhone or iPad. See `Device`.

    Args:
        phone: As its transport listed it.
        transport: How it is reached.
        profile: What is known of it beforehand.
        device_id: What people call it, where that is not the UDID.
        poll_s: Between two looks for a result.
        state_timeout_s: How long the app may take to say in which state the phone is.
    """

    def __init__(
        self,
        phone: FoundPhone,
        transport: Transport,
        profile: DeviceProfile,
        *,
        device_id: str | None = None,
        poll_s: float = POLL_S,
        state_timeout_s: float = STATE_TIMEOUT_S,
    ) -> None:
        self._id = device_id or phone.id
        self._phone, self._transport, self._profile = phone, transport, profile
        self._poll_s, self._state_timeout_s = poll_s, state_timeout_s
        self._mirror = cache_dir().absolute() / "device" / "ios" / phone.id
        self._arrived: set[str] = set()
        """Receipts of what is on the phone, as far as this process knows."""
        self._damaged: set[str] = set()
        """Receipts that are not true any more; not every transport can remove them."""
        self._hurdles: tuple[Hurdle, ...] | None = None
        self._in_use = False
        """Set once something was pushed: a phone that is only looked at is not asked to run anything."""
        self._former_result: Path | None = None
        self._not_launched: str | None = None
        self._last: tuple[float, AppState] | None = None
        """The state at the end of the last job, with this machine's monotonic clock when it came."""

    @property
    def id(self) -> str:
        """What people call it: the UDID, unless a profile gives it a name."""
        return self._id

    @property
    def work_folder(self) -> PurePosixPath:
        """The app's own folder."""
        return DOCUMENTS

    def facts(self) -> DeviceFacts:
        """From the list of phones, the profile, and the app once it has said something."""
        phone, apple = self._phone, self._profile.apple
        said = self._last[1] if self._last else None
        return DeviceFacts(
            id=self._id,
            kind="ios",
            device_class="emulated" if phone.is_simulated else self._profile.device_class,
            name=self._profile.title or phone.name or phone.product_type or phone.id,
            cpu=apple.chip if apple else None,
            cores=said.processors if said else None,
            architecture="arm64" if not phone.is_simulated else None,
            memory_bytes=said.memory_bytes if said else None,
            os=phone.os,
            os_build=phone.os_build or (said.os_build if said else None),
            virtual_machine="iOS simulator" if phone.is_simulated else None,
            newest_os=apple.last_os if apple else None,
            transport=self._transport.name,
            # A simulator computes on the Mac, whatever it plays.
            core_ml_units=apple.core_ml_units if apple and not phone.is_simulated else (),
            own_name=phone.product_type or phone.name or phone.id,
        )

    def state(self) -> DeviceState:
        """What the app says: from the job that has just ended, or from a job that asks for nothing else.

        Where no app answers, and before anything was pushed, every sensor is None: a list of devices opens no app.
        """
        if self._last is None or time.monotonic() - self._last[0] > STATE_FRESH_S:
            self._last = None
            if self._in_use and not any(hurdle.blocks for hurdle in self._found_hurdles()):
                self._ask_for_state()
        return _state(self._last[1] if self._last else None)

    def obstacles(self) -> tuple[Obstacle, ...]:
        """What is missing to use it, and what its last state says. Looks anew; takes two seconds."""
        self._hurdles = None
        missing = tuple(_obstacle(hurdle) for hurdle in self._found_hurdles())
        found = find_obstacles(Conditions(facts=self.facts(), state=_state(self._last[1] if self._last else None)))
        # Said below in an iPhone's own words.
        own = {"power-mode", "emulated", THERMAL_STATUS}
        known = tuple(obstacle for obstacle in found if obstacle.name not in own)
        return (*missing, *_own_obstacles(self._phone, self._last[1] if self._last else None), *known)

    def push(self, local: Path, remote: PurePosixPath, *, timeout_s: float) -> None:  # noqa: ARG002
        """Copy a file or package into the mirror."""
        self._in_use = True
        there = self._local(remote)
        _forget(there)
        there.parent.mkdir(parents=True, exist_ok=True)
        if local.is_dir():
            shutil.copytree(local, there)
        else:
            shutil.copyfile(local, there)
        os.utime(there)  # `clean` goes by when it was put there

    def pull(self, remote: PurePosixPath, local: Path, *, timeout_s: float) -> None:
        """Copy a file out of the mirror, where results are, or from the phone."""
        there = self._local(remote)
        if there.is_file():
            shutil.copyfile(there, local)
        elif not self._transport.get(remote, local, timeout_s=timeout_s):
            raise DeviceFileFailed(self.id, "pull", str(remote), "there is no such file")

    def sha256(self, remote: PurePosixPath, *, timeout_s: float) -> str | None:  # noqa: ARG002
        """SHA-256 of what a job would send under this name. The app computes it again on the phone."""
        there = self._local(remote)
        return sha256_tree(there) if there.exists() else None

    def rename(self, source: PurePosixPath, target: PurePosixPath, *, timeout_s: float) -> None:
        """Give a file its name, and send it: only a name that is kept is worth the way."""
        old, new = self._local(source), self._local(target)
        if not old.exists():
            raise DeviceFileFailed(self.id, "rename", str(source), "there is no such file")
        _forget(new)
        new.parent.mkdir(parents=True, exist_ok=True)
        old.rename(new)
        if not any(hurdle.blocks for hurdle in self._found_hurdles()):
            try:
                self._send(target, timeout_s=timeout_s)
            except DeviceError:
                _forget(new)  # it is not there under this name
                raise

    def make_folder(self, remote: PurePosixPath, *, timeout_s: float) -> None:  # noqa: ARG002
        """Make a folder in the mirror; on the phone, sending makes it."""
        self._local(remote).mkdir(parents=True, exist_ok=True)

    def remove(self, remote: PurePosixPath, *, timeout_s: float) -> None:
        """Remove it here; there as well, if it was ever sent."""
        there = self._local(remote)
        sent = there.exists() and describe(there, remote).receipt in self._arrived
        _forget(there)
        if sent:
            self._transport.remove(remote, timeout_s=timeout_s)

    def clean(self, *, older_than_days: int, timeout_s: float) -> tuple[PurePosixPath, ...]:
        """See `CleansItself`. What another computer has sent is not known here, and stays."""
        if not self._transport.can_remove:
            _forget(self._mirror)
            self._arrived.clear()
            advice = "only what this computer keeps of it is removed; deleting the app on the phone removes the rest"
            raise DeviceRefused(self.id, "clean", f"{self._transport.name} cannot remove files; {advice}")
        latest = time.time() - older_than_days * 86400 if older_than_days > 0 else math.inf
        removed = []
        for local in sorted(path for folder in ("models", "inputs") for path in (self._mirror / folder).glob("*")):
            if local.stat().st_mtime > latest:
                continue
            remote = DOCUMENTS / local.relative_to(self._mirror)
            receipt = f"receipts/{describe(local, remote).receipt}"
            for there in (remote, DOCUMENTS / receipt):
                self._transport.remove(there, timeout_s=timeout_s)
            _forget(self._mirror / receipt)
            _forget(local)
            removed.append(remote)
        self._arrived.clear()
        return tuple(removed)

    def shell(self, argv: Sequence[str], *, timeout_s: float) -> ShellResult:  # noqa: ARG002
        """An iPhone has no shell: every command is one that does not exist."""
        return ShellResult(returncode=127, stdout="", stderr=f"{argv[0]}: an iPhone has no shell")

    def start(self, argv: Sequence[str], *, environment: Mapping[str, str]) -> IosProgram:  # noqa: ARG002
        """Send a job.

        Raises:
            DeviceCommandFailed: It is not a command line of the runner.
            DeviceFull: There is no space for what the job needs.
            DeviceError: The phone cannot be used.
        """
        argv = tuple(argv)
        if not argv or argv[0] != RUNNER:
            raise DeviceCommandFailed(self.id, argv, 127, "an iPhone runs jobs for its app only")
        try:
            job = read_job(argv[1:])
        except ValueError as error:
            raise DeviceCommandFailed(self.id, argv, 2, str(error)) from None
        items = tuple(
            self._send(PurePosixPath(path), timeout_s=SEND_TIMEOUT_S)
            for path in dict.fromkeys((job.model, *job.inputs))
        )
        return self._start_job(argv, job, items)

    def install(self, app: Path, *, timeout_s: float) -> None:
        """Install the runner app. See `TakesApps`."""
        self._transport.install(app, timeout_s=timeout_s)
        self._hurdles = self._not_launched = None

    def worker_command(self) -> tuple[str, ...]:
        """What `start` understands."""
        return (RUNNER,)

    def _local(self, remote: PurePosixPath) -> Path:
        if not remote.is_relative_to(DOCUMENTS) or ".." in remote.parts:
            raise DeviceFileFailed(self.id, "reach", str(remote), f"only {DOCUMENTS} is the app's own")
        return self._mirror / remote.relative_to(DOCUMENTS)

    def _send(self, remote: PurePosixPath, *, timeout_s: float) -> SentItem:
        """Bring one item to the phone, unless the app has certified that it is there."""
        local = self._local(remote)
        if not local.exists():
            raise DeviceFileFailed(self.id, "send", str(remote), "nothing was pushed under this name")
        item = describe(local, remote)
        if item.receipt in self._arrived:
            return item
        receipt = self._mirror / "receipts" / item.receipt
        _forget(receipt)
        is_certified = item.receipt not in self._damaged and self._transport.get(
            DOCUMENTS / "receipts" / item.receipt, receipt, timeout_s=timeout_s
        )
        if not is_certified:
            try:
                self._transport.put(local, remote, timeout_s=timeout_s)
            except DeviceError:
                with suppress(DeviceError):  # half of it, on a phone that may be full of it
                    self._transport.remove(remote, timeout_s=timeout_s)
                raise
        self._damaged.discard(item.receipt)
        self._arrived.add(item.receipt)
        return item

    def _start_job(self, argv: tuple[str, ...], job: Job | None, items: tuple[SentItem, ...]) -> IosProgram:
        job_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        file = JobFile(schema=JOB_SCHEMA, id=job_id, job=job, items=items)
        folder = self._mirror / "jobs" / job_id
        if self._former_result is not None:
            _forget(self._former_result)  # its outputs have been looked at
        self._former_result = self._mirror / "results" / job_id
        try:
            job_file, ready = write_job(folder, file)
            self._transport.put(job_file, DOCUMENTS / "jobs" / job_id / job_file.name, timeout_s=SEND_TIMEOUT_S)
            if self._not_launched is None:
                # Tried until it fails once: then somebody has opened the app, and it takes one job after the other.
                self._not_launched = self._transport.launch(timeout_s=LAUNCH_TIMEOUT_S)
            # Only now: the app of the last job is open still, would take this one, and be ended in the middle of it.
            self._transport.put(ready, DOCUMENTS / "jobs" / job_id / ready.name, timeout_s=SEND_TIMEOUT_S)
        finally:
            _forget(folder)
        return IosProgram(self, argv, file, self._not_launched, mirror=self._mirror, poll_s=self._poll_s)

    def _ask_for_state(self) -> None:
        try:
            program = self._start_job((RUNNER, "state"), None, ())
            try:
                for _ in program.lines(timeout_s=self._state_timeout_s):
                    pass
            finally:
                program.end()
        except DeviceError:
            # A phone whose app does not answer has no known state. The next step that needs the app says why.
            self._last = None

    def _found_hurdles(self) -> tuple[Hurdle, ...]:
        if self._hurdles is None:
            self._hurdles = self._transport.hurdles()
        return self._hurdles

    # --- for IosProgram ---

    @property
    def transport(self) -> Transport:
        """How it is reached."""
        return self._transport

    def ended(self, done: Done) -> None:
        """Take note of what a result says about the phone.

        Raises:
            RunnerUnreadable: It says something else than the client said when it listed the phone.
        """
        for said in (done.before, done.after):
            if said is not None:
                self._require_same_phone(said)
        if done.after is not None:
            self._last = (time.monotonic(), done.after)

    def _require_same_phone(self, said: AppState) -> None:
        phone = self._phone
        told = (("build", phone.os_build, said.os_build), ("product", phone.product_type, said.product))
        for what, listed, found in told:
            if None not in {listed, found} and listed != found:
                problem = f"the app says {what} {found}, {self._transport.name} said {listed} when it listed the phone"
                error = RunnerUnreadable(self.id, "done.json", problem)
                error.hint = "Was the phone updated or exchanged? Connect it again, and start a new run."
                raise error

    def forget_arrival(self, items: tuple[SentItem, ...]) -> None:
        """Send these again next time, whatever the app certified before."""
        for item in items:
            self._arrived.discard(item.receipt)
            self._damaged.add(item.receipt)
            self._transport.remove(DOCUMENTS / "receipts" / item.receipt, timeout_s=SEND_TIMEOUT_S)


class IosProgram:
    """A job on its way. See `RunningProgram`."""

    def __init__(
        self,
        device: IosDevice,
        argv: tuple[str, ...],
        file: JobFile,
        not_launched: str | None,
        *,
        mirror: Path,
        poll_s: float,
    ) -> None:
        self._device, self._argv, self._file, self._not_launched = device, argv, file, not_launched
        self._folder = mirror / "results" / file.id
        self._poll_s = poll_s
        self._came = False
        self._done: Done | None = None

    @property
    def argv(self) -> tuple[str, ...]:
        """What was started."""
        return self._argv

    def lines(self, *, timeout_s: float) -> Iterator[str]:
        """The messages, all at once when the result is there.

        Raises:
            DeviceTimedOut: No result came.
            RunnerUnreadable: The result is not what the app wrote.
            DeviceError: The phone is gone.
        """
        deadline = time.monotonic() + timeout_s
        # Nothing is asked of the phone while it computes: a look for the result takes processor time from the loop.
        time.sleep(min(_least_s(self._file.job), timeout_s))
        remote = DOCUMENTS / "results" / self._file.id
        # The whole folder at once: it has its name since it is complete, and each look costs a connection.
        while not self._device.transport.get(remote, self._folder, timeout_s=timeout_s):
            if time.monotonic() + self._poll_s > deadline:
                raise self._never_came(timeout_s)
            time.sleep(self._poll_s)
        self._came = True
        done = read_result(self._folder, self._file.id, self._device.id)
        messages = self._folder / "messages.ndjson"
        text = messages.read_text(encoding="utf-8") if messages.is_file() else ""
        self._done = done
        self._device.ended(done)
        damaged = _damaged(text, self._file.items)
        if damaged is not None:
            self._device.forget_arrival(self._file.items)
            raise PushCorrupted(self._device.id, *damaged)
        yield from text.splitlines()

    def wait(self, *, timeout_s: float) -> int:
        """How the app says the job ended."""
        if self._done is None:
            raise self._never_came(timeout_s)
        return self._done.returncode

    def last_words(self) -> str:
        """What the app says of the end."""
        return self._done.last_words if self._done is not None else self._not_launched or ""

    def end(self) -> None:
        """Take the job back if it was not done, and leave nothing behind on the phone."""
        folder = "results" if self._came else "jobs"
        try:
            self._device.transport.remove(DOCUMENTS / folder / self._file.id, timeout_s=LAUNCH_TIMEOUT_S)
        except DeviceError:
            return  # a phone that is gone cannot be tidied up; the app forgets what is an hour old

    def _never_came(self, timeout_s: float) -> DeviceTimedOut:
        error = DeviceTimedOut(self._device.id, f"the result of job {self._file.id}", timeout_s)
        error.hint = "Is the app open and in front, and the phone unlocked? Jobs are done only then."
        if self._not_launched is not None:
            error.hint = f"Open the app by hand, and leave it in front; starting it failed: {self._not_launched}"
        return error


def _least_s(job: Job | None) -> float:
    """How long a job takes at the very least."""
    if job is None or job.mode == "memory":
        return 0.0
    return job.warmup_s + job.blocks * job.block_s


def _damaged(text: str, items: tuple[SentItem, ...]) -> tuple[str, str, str] | None:
    """Path, digest sent and digest found of the first file of which the app says that it is not what was sent."""
    last = text.splitlines()[-1] if text else ""
    try:
        message = read_message(last)
    except ValueError:
        return None
    if not isinstance(message, ProgramError) or message.kind != "push_corrupted":
        return None
    path, _, found = message.message.rpartition(" ")
    sent = [file.sha256 for item in items for file in item.files if file.path == path]
    return (path, sent[0], found) if sent else None


def _state(said: AppState | None) -> DeviceState:
    if said is None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return msgspec.structs.replace(_UNKNOWN, at=now)
    return msgspec.structs.replace(
        _UNKNOWN,
        at=said.at,
        thermal_status=None if said.thermal_state == "unknown" else said.thermal_state,
        battery_pct=said.battery_pct,
        charging=said.charging,
        free_memory_bytes=said.free_memory_bytes,
        power_mode="low-power" if said.low_power_mode else "normal",
    )


_UNKNOWN = DeviceState(
    at="",
    load_1min=None,
    cpu_busy_pct=None,
    steal_pct=None,
    governor=None,
    cpu_hz=None,
    cpu_cap_hz=None,
    temperature_celsius=None,
    thermal_status=None,
    battery_pct=None,
    charging=None,
    free_memory_bytes=None,
)


def _obstacle(hurdle: Hurdle) -> Obstacle:
    severity = "refusal" if hurdle.blocks else "warning"
    return Obstacle(name=hurdle.name, severity=severity, found=hurdle.found, advice=hurdle.advice)  # type: ignore[arg-type]


def _own_obstacles(phone: FoundPhone, said: AppState | None) -> tuple[Obstacle, ...]:
    found = []
    if phone.is_simulated:
        found.append(
            Obstacle(
                name="emulated",
                severity="refusal",
                found="this is a simulator: it computes on the Mac, so its times say nothing about a phone",
                advice="Use it to check the path; take times on a phone.",
            )
        )
    number = re.match(r"(?:iOS|iPadOS) (\d+)", phone.os or "")
    if number is not None and int(number[1]) < OLDEST_SYSTEM:
        found.append(
            Obstacle(
                name="system",
                severity="refusal",
                found=f"{phone.os} loads no Core ML file that can be made here",
                advice=f"Those need iOS {OLDEST_SYSTEM}: update it where that can be had.",
            )
        )
    if said is not None and said.thermal_state not in {"nominal", "unknown"}:
        found.append(
            Obstacle(
                name=THERMAL_STATUS,
                severity="warning" if said.thermal_state == "fair" else "refusal",
                found=f"its thermal state is {said.thermal_state}",
                advice="Let it cool, out of its case and away from its charger: a hot phone lowers its clocks.",
            )
        )
    if said is not None and said.low_power_mode:
        found.append(
            Obstacle(
                name="power-mode",
                severity="refusal",
                found="Low Power Mode is on",
                advice="Settings > Battery > Low Power Mode: off.",
            )
        )
    return tuple(found)


def _forget(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
