"""What all devices with a POSIX shell have in common, whichever way leads to it: files, programs and state."""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import shlex
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from harness.device import android_signals as android
from harness.device import signals
from harness.device.adb_errors import file_error
from harness.device.adb_link import Deadline, log
from harness.device.adb_program import RemoteProgram, guarded_command
from harness.device.adb_services import run
from harness.device.device import ShellResult
from harness.device.obstacles import Conditions, find_obstacles
from harness.errors import DeviceError, DeviceFull, MissingTool
from harness.records import DeviceFacts, DeviceState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path, PurePosixPath

    from harness.device.adb_link import AdbLink
    from harness.device.device import RunningProgram, ToldProgram
    from harness.device.profile import DeviceProfile
    from harness.records import DeviceClass, DeviceKind, Obstacle

SPARE_BYTES = 16 * 2**20
"""Left free on the device: one whose storage is full to the last byte misbehaves in many ways."""
STATE_S = 60.0
"""For everything that is asked about a device's state; `dumpsys` may wait for a busy system."""
_TIDY_S = 5.0


_NO_SUCH_FILE = 44
"""Nobody else's exit code: the words for a missing file differ from device to device."""
_STAMP = "stat -c '%i %s %y %z'"
"""Number, size, and the times of the last change of content and of anything, to the nanosecond."""
_DIGEST = f"""\
[ -e {{file}} ] || exit {_NO_SUCH_FILE}
now=$({_STAMP} {{file}})
if [ -r {{digest}} ]; then
  {{{{ read -r sum; read -r then; }}}} <{{digest}}
  if [ "$then" = "$now" ]; then echo "$sum"; exit 0; fi
fi
sum=$(sha256sum {{file}}) || exit 1
echo "$sum"
{{{{ mkdir -p {{folder}} && {{{{ echo "$sum"; echo "$now"; }}}} >{{digest}}; }}}} 2>/dev/null
exit 0
"""
_MOVE = f"""\
now=$({_STAMP} {{source}} 2>/dev/null)
mv -f {{source}} {{target}} || exit 1
[ -r {{digest}} ] || exit 0
{{{{ read -r sum; read -r then; }}}} <{{digest}}
rm -f {{digest}}
if [ "$then" = "$now" ]; then {{{{ echo "$sum"; {_STAMP} {{target}}; }}}} >{{target_digest}}; fi
exit 0
"""


class ShellDevice(ABC):
    """A device with a POSIX shell. Its subclasses say how files get there and back.

    Args:
        device_id: What people call it.
        link: The way to its shell.
        profile: What the user says about it.
        kind: How it is reached.
        work_folder: Where programs may be put and started.
        shell_name: What its shell is called.
    """

    def __init__(
        self,
        device_id: str,
        link: AdbLink,
        profile: DeviceProfile | None,
        *,
        kind: DeviceKind,
        work_folder: PurePosixPath,
        shell_name: str,
    ) -> None:
        self._id, self._link = device_id, link
        self._profile, self._kind = profile, kind
        self._work_folder, self._shell_name = work_folder, shell_name
        self._left_behind: set[str] = set()
        """Files that a broken push left there; removed by the next one that gets through."""

    @property
    def id(self) -> str:
        """Its serial, address or name."""
        return self._id

    @property
    def work_folder(self) -> PurePosixPath:
        """Where programs may be put and started."""
        return self._work_folder

    def facts(self) -> DeviceFacts:
        """What it is, asked once."""
        return self._facts

    def state(self) -> DeviceState:
        """Its condition now. Takes a quarter of a second, and what `dumpsys` needs."""
        return self._look().state

    def obstacles(self) -> tuple[Obstacle, ...]:
        """What stands in the way of a stable figure."""
        return find_obstacles(self._look())

    def push(self, local: Path, remote: PurePosixPath, *, timeout_s: float) -> None:
        """Copy a file into place; missing folders are made. An executable file stays one.

        It is written beside its place and moved there, so that a broken connection leaves the old file or none.
        """
        deadline = Deadline(self._id, f"push {remote}", timeout_s)
        size = local.stat().st_size
        temporary = remote.with_name(f".{remote.name}.{secrets.token_hex(4)}.part")
        self._make_room(remote, size, deadline)
        try:
            self._send(local, temporary, remote, size, deadline)
            self._file_command("push", remote, f"mv -f {_quoted(temporary)} {_quoted(remote)}", deadline, size)
        except BaseException:
            self._left_behind.add(str(temporary))
            self._tidy()
            raise

    def pull(self, remote: PurePosixPath, local: Path, *, timeout_s: float) -> None:
        """Copy a file from the device."""
        deadline = Deadline(self._id, f"pull {remote}", timeout_s)
        temporary = local.with_name(f".{local.name}.{secrets.token_hex(4)}")
        try:
            self._receive(remote, temporary, deadline)
            temporary.replace(local)
        finally:
            temporary.unlink(missing_ok=True)

    def sha256(self, remote: PurePosixPath, *, timeout_s: float) -> str | None:
        """SHA-256 of a file, None where there is none.

        It is kept on the device with the file's number, size and times, and computed again when any of those differs:
        200 MiB take a phone a second, for every cell of every run.
        """
        deadline = Deadline(self._id, f"sha256 {remote}", timeout_s)
        result = run(self._link, _DIGEST.format(file=_quoted(remote), **self._digest_names(remote)), deadline)
        digest = re.match(r"\\?([0-9a-f]{64})\b", result.stdout)
        if result.returncode == 0 and digest:
            return digest[1]
        if result.returncode == _NO_SUCH_FILE:
            return None
        raise file_error(self._id, "read", str(remote), result.stderr or result.stdout)

    def rename(self, source: PurePosixPath, target: PurePosixPath, *, timeout_s: float) -> None:
        """Give a file another name in one step. What is known of its digest goes with it."""
        deadline = Deadline(self._id, f"rename {source}", timeout_s)
        command = _MOVE.format(
            source=_quoted(source),
            target=_quoted(target),
            digest=self._digest_names(source)["digest"],
            **{f"target_{name}": path for name, path in self._digest_names(target).items()},
        )
        self._file_command("rename", source, command, deadline)

    def make_folder(self, remote: PurePosixPath, *, timeout_s: float) -> None:
        """Make a folder with its parents."""
        deadline = Deadline(self._id, f"make the folder {remote}", timeout_s)
        self._file_command("make the folder", remote, f"mkdir -p {_quoted(remote)}", deadline)

    def remove(self, remote: PurePosixPath, *, timeout_s: float) -> None:
        """Remove a file, or a folder with all that is in it."""
        deadline = Deadline(self._id, f"remove {remote}", timeout_s)
        self._file_command("remove", remote, f"rm -rf {_quoted(remote)}", deadline)

    def shell(self, argv: Sequence[str], *, timeout_s: float) -> ShellResult:
        """Run a command to its end; at the time-out it and what it started are ended."""
        deadline = Deadline(self._id, shlex.join(argv), timeout_s)
        result = run(self._link, guarded_command(argv, {}, str(self._work_folder), shell=self._shell_name), deadline)
        stdout = result.stdout.partition("\n")[2]  # behind the process's number
        return ShellResult(returncode=result.returncode, stdout=stdout, stderr=result.stderr)

    def start(self, argv: Sequence[str], *, environment: Mapping[str, str]) -> RunningProgram:
        """Start a program in the work folder."""
        return self._program(argv, environment, is_told=False)

    def start_told(self, argv: Sequence[str], *, environment: Mapping[str, str]) -> ToldProgram:
        """Start a program in the work folder whose standard input stays open."""
        return self._program(argv, environment, is_told=True)

    def worker_command(self) -> tuple[str, ...]:
        """Never: whether there is a Python with this program in it is not known."""
        raise MissingTool(
            "Python", f"the Python worker on {self._id}", "no package: a native program takes times there"
        )

    # --- what a subclass says ---

    @abstractmethod
    def _send(
        self, local: Path, temporary: PurePosixPath, remote: PurePosixPath, size: int, deadline: Deadline
    ) -> None:
        """Write `temporary` there, executable if `local` is. `remote` and `size` in bytes are for the error message."""

    @abstractmethod
    def _receive(self, remote: PurePosixPath, local: Path, deadline: Deadline) -> None:
        """Write what is there to `local`, which does not exist yet."""

    # --- files ---

    def _make_room(self, remote: PurePosixPath, size: int, deadline: Deadline) -> None:
        """Make the folder, remove what earlier pushes left, and see that there is space."""
        left = sorted(self._left_behind)
        forget = f"rm -f {shlex.join(left)}; " if left else ""
        folder = _quoted(remote.parent)
        result = self._file_command("push", remote, f"{forget}mkdir -p {folder} && df -kP {folder}", deadline, size)
        self._left_behind.difference_update(left)
        free = free_bytes(result.stdout)
        if free is None:
            log.warning("%s: the free space of %s is not known: %r", self._id, remote.parent, result.stdout)
        elif free < size + SPARE_BYTES:
            raise DeviceFull(self._id, str(remote), size, free, SPARE_BYTES)

    def _tidy(self) -> None:
        """Remove what a broken push left. What went wrong first is what is told; the next push tries again."""
        with contextlib.suppress(DeviceError):
            command = f"rm -f {shlex.join(sorted(self._left_behind))}"
            if run(self._link, command, Deadline(self._id, "tidy up", _TIDY_S)).returncode == 0:
                self._left_behind.clear()

    def _file_command(
        self, action: str, path: PurePosixPath, command: str, deadline: Deadline, size: int | None = None
    ) -> ShellResult:
        result = run(self._link, command, deadline)
        if result.returncode != 0:
            raise file_error(self._id, action, str(path), result.stderr or result.stdout, size)
        return result

    def _digest_names(self, path: PurePosixPath) -> dict[str, str]:
        """Where the digest of a file is kept, for a shell."""
        folder = self._work_folder / ".digests"
        name = hashlib.sha256(str(path).encode()).hexdigest()[:32]
        return {"digest": _quoted(folder / name), "folder": _quoted(folder)}

    def _program(self, argv: Sequence[str], environment: Mapping[str, str], *, is_told: bool) -> RemoteProgram:
        return RemoteProgram(
            self._id,
            self._link,
            argv,
            environment=environment,
            folder=str(self._work_folder),
            shell=self._shell_name,
            is_told=is_told,
        )

    # --- what it is and how it is ---

    @cached_property
    def _facts(self) -> DeviceFacts:
        deadline = Deadline(self._id, "asking what it is", STATE_S)
        parts = android.sections(run(self._link, android.facts_command(), deadline).stdout)
        facts = read_facts(self._id, self._kind, parts)
        profile = self._profile
        if profile is None:
            return facts
        # A profile may call it a board; it cannot make real hardware of an emulator.
        kind = facts.device_class if facts.is_emulated else profile.device_class
        return msgspec.structs.replace(facts, name=profile.title or facts.name, device_class=kind)

    def _look(self) -> Conditions:
        deadline = Deadline(self._id, "asking for its state", STATE_S)
        parts = android.sections(run(self._link, android.state_command(), deadline).stdout)
        return read_conditions(self._facts, parts, at=datetime.now(UTC).isoformat(timespec="milliseconds"))


def read_facts(device_id: str, kind: DeviceKind, parts: Mapping[str, str]) -> DeviceFacts:
    """What a device is, from the answer to `android_signals.facts_command`."""
    props = android.properties(parts.get("getprop", ""))
    release, _, machine = parts.get("uname", "").partition(" ")
    emulated = kind == "virtual" or android.is_emulator(props)
    name = android.model_name(props) or signals.machine_name(parts) or device_id
    own_class: DeviceClass = "board" if kind == "board" else android.device_class(props)
    return DeviceFacts(
        id=device_id,
        kind=kind,
        device_class="emulated" if emulated else own_class,
        name=name,
        cpu=(None if emulated else android.soc_name(props)) or signals.cpu_name(parts),
        cores=android.processors(parts),
        architecture=machine or props.get("ro.product.cpu.abi"),
        memory_bytes=signals.memory_bytes(parts, "MemTotal"),
        os=android.android_version(props) or signals.system_name(parts) or (f"Linux {release}" if release else None),
        os_build=android.build_name(props) or release or None,
        virtual_machine=_machine_played(kind, props, parts) if emulated else signals.hypervisor(parts),
        clusters=signals.clusters(parts),
        debuggable=android.is_debuggable(props),
        own_name=name,
        unit_digest=android.unit_digest(props, parts),
    )


def _machine_played(kind: str, props: Mapping[str, str], parts: Mapping[str, str]) -> str:
    """What plays an emulated device; Android's own emulator only where there is an Android."""
    if kind == "virtual":
        return "QEMU"
    return "Android emulator" if android.android_version(props) else signals.hypervisor(parts) or "emulator"


def read_conditions(facts: DeviceFacts, parts: Mapping[str, str], *, at: str) -> Conditions:
    """How a device is, from the answer to `android_signals.state_command`."""
    busy, steal = signals.busy_and_steal_pct(signals.cpu_times(android.stat_before(parts)), signals.cpu_times(parts))
    clocks, thermal = signals.clocks(parts), android.thermal(parts.get("dumpsys thermalservice", ""))
    battery, generic = android.phone_battery(parts.get("dumpsys battery", "")), signals.battery(parts)
    celsius = signals.processor_celsius(parts)
    if celsius is None and thermal is not None:
        celsius = thermal.cpu_celsius
    saver = android.power_saver(parts)
    state = DeviceState(
        at=at,
        load_1min=signals.load_1min(parts),
        cpu_busy_pct=busy,
        steal_pct=steal,
        governor=clocks.governor,
        cpu_hz=clocks.now_hz,
        cpu_cap_hz=clocks.cap_hz,
        temperature_celsius=celsius,
        thermal_status=thermal.status if thermal else None,
        battery_pct=battery.charge_pct if battery else generic.charge_pct if generic else None,
        charging=battery.is_plugged if battery else generic.on_mains if generic else None,
        free_memory_bytes=signals.memory_bytes(parts, "MemAvailable"),
        power_mode="low-power" if saver else signals.power_mode(parts),
        skin_celsius=thermal.skin_celsius if thermal else None,
        battery_celsius=battery.celsius if battery else None,
        screen_on=android.is_awake(parts),
        foreground_app=android.foreground_app(parts),
        cluster_caps_hz=signals.cluster_caps_hz(parts),
    )
    return Conditions(
        facts=facts,
        state=state,
        capped_pct=clocks.capped_pct,
        boost=clocks.boost,
        processors_allowed=None,
        thermal_status_is_overridden=thermal is not None and thermal.is_overridden,
        home_app=android.home_app(parts),
    )


def free_bytes(text: str) -> int | None:
    """What `df -kP` says is available. Source: POSIX.1-2017, df, "-P"; long names of toybox's may break the line."""
    lines = text.strip().splitlines()
    fields = " ".join(lines[1:]).split() if len(lines) > 1 else []
    at = next((index for index, field in enumerate(fields) if re.fullmatch(r"\d+%", field)), 0)
    return int(fields[at - 1]) * 1024 if at and fields[at - 1].isdecimal() else None


def _quoted(path: PurePosixPath) -> str:
    return shlex.quote(str(path))
