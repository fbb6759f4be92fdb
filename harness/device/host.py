"""This machine as a device: its files, its programs, its state. Linux and macOS; Windows as far as it goes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import secrets
import shutil
import sys
import time
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from harness.device import signals
from harness.device.local_process import LocalProgram, run_to_end
from harness.device.obstacles import Conditions, find_obstacles
from harness.device.profile import DeviceProfile, find_profile
from harness.errors import DeviceFileFailed, DeviceFull, DeviceTimedOut
from harness.records import DeviceFacts, DeviceState
from harness.workspace import cache_dir, sha256_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import IO

    from harness.device.device import RunningProgram, ShellResult
    from harness.records import Obstacle

HOST_ID = "host"
LOOK_S = 0.1
"""How long `state` looks at the processors: ten clock ticks each, which a cell pays twice."""
_PIECE_BYTES = 4 * 2**20
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]


class HostDevice:
    """The machine this program runs on.

    Args:
        profile: What the user says about it; None reads `device_profiles/host.toml`.
        look_s: How long one look at the processors lasts. Below 0.1 s a single clock tick weighs 5 % and more.
    """

    def __init__(self, profile: DeviceProfile | None = None, *, look_s: float = LOOK_S) -> None:
        self._profile = profile or find_profile(HOST_ID)
        self._look_s = look_s
        # Absolute, because programs are started in it: a relative path of ours means something else there.
        self._folder = cache_dir().absolute() / "device" / HOST_ID

    @property
    def id(self) -> str:
        """`host`."""
        return HOST_ID

    @property
    def work_folder(self) -> PurePosixPath:
        """In the cache."""
        return PurePosixPath(self._folder.as_posix())

    def facts(self) -> DeviceFacts:
        """What the machine is, found out once: that takes 10 ms."""
        return self._facts

    def state(self) -> DeviceState:
        """Its condition over the next `look_s` seconds."""
        return self._look().state

    def obstacles(self) -> tuple[Obstacle, ...]:
        """What stands in the way of a stable figure. Takes `look_s` seconds."""
        return find_obstacles(self._look())

    def push(self, local: Path, remote: PurePosixPath, *, timeout_s: float) -> None:
        """Copy a file or package into place; missing folders are made.

        Never a hard link: that would be free, and a later write into the source would then change what is deployed
        and timed.
        """
        deadline = _Deadline(f"push {remote}", timeout_s)
        with _mapped("push", remote, _size(local)):
            for file in _files(local):
                target = Path(remote) / file.relative_to(local)  # for a file: itself
                target.parent.mkdir(parents=True, exist_ok=True)
                _copy(file, target, deadline)

    def pull(self, remote: PurePosixPath, local: Path, *, timeout_s: float) -> None:
        """Copy a file to where it is wanted."""
        deadline = _Deadline(f"pull {remote}", timeout_s)
        with _mapped("pull", remote, _size(Path(remote))):
            _copy(Path(remote), local, deadline)

    def sha256(self, remote: PurePosixPath, *, timeout_s: float) -> str | None:
        """SHA-256 of a file, None where there is none; of a package, over its files' names and digests."""
        if Path(remote).is_dir():
            with _mapped("read", remote):
                return sha256_tree(Path(remote))
        deadline = _Deadline(f"sha256 {remote}", timeout_s)
        digest = hashlib.sha256()
        with _mapped("read", remote):
            try:
                with Path(remote).open("rb") as file:
                    for piece in _pieces(file, deadline):
                        digest.update(piece)
            except FileNotFoundError:
                return None
        return digest.hexdigest()

    def rename(self, source: PurePosixPath, target: PurePosixPath, *, timeout_s: float) -> None:  # noqa: ARG002
        """Give a file another name in one step."""
        with _mapped("rename", source):
            Path(source).replace(target)

    def make_folder(self, remote: PurePosixPath, *, timeout_s: float) -> None:  # noqa: ARG002
        """Make a folder with its parents."""
        with _mapped("make the folder", remote):
            Path(remote).mkdir(parents=True, exist_ok=True)

    def remove(self, remote: PurePosixPath, *, timeout_s: float) -> None:  # noqa: ARG002
        """Remove a file, or a folder with all that is in it."""
        path = Path(remote)
        with _mapped("remove", remote, None), contextlib.suppress(FileNotFoundError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def shell(self, argv: Sequence[str], *, timeout_s: float) -> ShellResult:
        """Run a command to its end; 127 and 126 for one that cannot be started, as a shell says it."""
        return run_to_end(HOST_ID, argv, environment=_environment({}), timeout_s=timeout_s)

    def start(self, argv: Sequence[str], *, environment: Mapping[str, str]) -> RunningProgram:
        """Start a program in the work folder, so that a stray file where the user works cannot shadow a module."""
        with _mapped("make the folder", self.work_folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        return LocalProgram(HOST_ID, argv, environment=_environment(environment), folder=self._folder)

    def start_told(self, argv: Sequence[str], *, environment: Mapping[str, str]) -> LocalProgram:
        """As `start`; its standard input stays open, to be told lines."""
        with _mapped("make the folder", self.work_folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        return LocalProgram(HOST_ID, argv, environment=_environment(environment), folder=self._folder, is_told=True)

    def worker_command(self) -> tuple[str, ...]:
        """Our Python worker in the interpreter that runs this."""
        return (sys.executable, "-m", "harness.deploy.worker")

    @cached_property
    def _facts(self) -> DeviceFacts:
        if sys.platform == "linux":
            facts = _linux_facts(signals.read_files(signals.FACT_FILES))
        else:
            facts = _other_facts()
        # A profile may call this machine a board; it cannot make real hardware of an emulator.
        kind = facts.device_class if facts.is_emulated else self._profile.device_class
        name = self._profile.title or facts.name
        return msgspec.structs.replace(facts, name=name, own_name=facts.name, device_class=kind)

    def _look(self) -> Conditions:
        look = _linux_conditions if sys.platform == "linux" else _other_conditions
        return look(self._facts, self._look_s)


@contextlib.contextmanager
def _mapped(action: str, path: PurePosixPath, size_bytes: int | None = None) -> Iterator[None]:
    """The one place where errors of the file system become ours."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DeviceFull(HOST_ID, str(path), size_bytes) from error
        raise DeviceFileFailed(HOST_ID, action, str(path), error.strerror or str(error)) from error


class _Deadline:
    def __init__(self, what: str, timeout_s: float) -> None:
        self._what, self._timeout_s = what, timeout_s
        self._end = time.monotonic() + timeout_s

    def check(self) -> None:
        if time.monotonic() > self._end:
            raise DeviceTimedOut(HOST_ID, self._what, self._timeout_s)


def _copy(source: Path, target: Path, deadline: _Deadline) -> None:
    """Copy to a temporary name beside the target, then take its name; nothing is left behind on failure."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with source.open("rb") as reading, temporary.open("xb") as writing:
            for piece in _pieces(reading, deadline):
                writing.write(piece)
        if os.access(source, os.X_OK):  # a program stays one
            temporary.chmod(temporary.stat().st_mode | 0o111)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _files(local: Path) -> list[Path]:
    """Every file of a package; a file is the only one of itself."""
    return sorted(path for path in local.rglob("*") if path.is_file()) if local.is_dir() else [local]


def _pieces(file: IO[bytes], deadline: _Deadline) -> Iterator[bytes]:
    while piece := file.read(_PIECE_BYTES):
        deadline.check()
        yield piece


def _size(path: Path) -> int | None:
    try:
        return sum(file.stat().st_size for file in _files(path))
    except OSError:
        return None


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    everything = {**os.environ, **extra}
    # Our own modules are found also where this is a checkout that nobody installed.
    path = [str(_PACKAGE_ROOT), everything.get("PYTHONPATH", "")]
    everything["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    # Last, so that nothing switches it back on: ONNX Runtime 1.32 for Linux writes to ~/.cache and asks the network.
    everything["ORT_DISABLE_TELEMETRY"] = "1"
    return everything


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


# --- Linux ---------------------------------------------------------------------------------------------------------


def _linux_facts(files: signals.SystemText) -> DeviceFacts:
    machine, hypervisor = signals.machine_name(files), signals.hypervisor(files)
    word = _systemd_detect_virt() if hypervisor in {signals.UNKNOWN_HYPERVISOR, "QEMU"} else ""
    system = platform.uname()
    return DeviceFacts(
        id=HOST_ID,
        kind="host",
        # systemd tells qemu that emulates every instruction from qemu over KVM: by a CPU leaf that Python cannot read.
        device_class="emulated" if word == "qemu" else "host",
        name=machine or system.node,
        cpu=signals.cpu_name(files),
        cores=os.cpu_count(),
        architecture=system.machine or None,
        memory_bytes=signals.memory_bytes(files, "MemTotal"),
        os=signals.system_name(files) or "Linux",
        os_build=f"{system.release} {system.version}",
        virtual_machine=signals.hypervisor_in_systemds_words(word) or hypervisor,
        clusters=signals.clusters(files),
    )


def _systemd_detect_virt() -> str:
    command = shutil.which("systemd-detect-virt")
    if command is None:
        return ""
    try:
        result = run_to_end(HOST_ID, (command, "--vm"), environment=_environment({}), timeout_s=2)
    except DeviceTimedOut:
        return ""
    return result.stdout.strip()


def _linux_conditions(facts: DeviceFacts, look_s: float) -> Conditions:
    before = signals.cpu_times(signals.read_files(("/proc/stat",)))
    time.sleep(look_s)
    files = signals.read_files(signals.STATE_FILES)
    busy, steal = signals.busy_and_steal_pct(before, signals.cpu_times(files))
    clocks, battery = signals.clocks(files), signals.battery(files)
    state = DeviceState(
        at=_now(),
        load_1min=signals.load_1min(files),
        cpu_busy_pct=busy,
        steal_pct=steal,
        governor=clocks.governor,
        cpu_hz=clocks.now_hz,
        cpu_cap_hz=clocks.cap_hz,
        temperature_celsius=signals.processor_celsius(files),
        thermal_status=None,
        battery_pct=battery.charge_pct if battery else None,
        charging=battery.on_mains if battery else None,
        free_memory_bytes=signals.memory_bytes(files, "MemAvailable"),
        power_mode=signals.power_mode(files),
        cluster_caps_hz=signals.cluster_caps_hz(files),
    )
    return Conditions(
        facts=facts,
        state=state,
        capped_pct=clocks.capped_pct,
        boost=clocks.boost,
        processors_allowed=signals.processors_allowed(files),
    )


# --- macOS and Windows ---------------------------------------------------------------------------------------------


def _other_facts() -> DeviceFacts:
    import psutil  # noqa: PLC0415  (Linux does without it)

    system = platform.uname()
    is_mac = sys.platform == "darwin"
    return DeviceFacts(
        id=HOST_ID,
        kind="host",
        # An x86 Python on Apple silicon runs through a translator.
        device_class="emulated" if is_mac and _sysctl("sysctl.proc_translated") == "1" else "host",
        name=(_sysctl("hw.model") if is_mac else None) or system.node,
        cpu=(_sysctl("machdep.cpu.brand_string") if is_mac else system.processor) or None,
        cores=os.cpu_count(),
        architecture=system.machine or None,
        memory_bytes=psutil.virtual_memory().total,
        os=f"macOS {platform.mac_ver()[0]}" if is_mac else f"{system.system} {system.release}",
        os_build=(_sysctl("kern.osversion") if is_mac else system.version) or None,
        virtual_machine=signals.UNKNOWN_HYPERVISOR if is_mac and _sysctl("kern.hv_vmm_present") == "1" else None,
    )


def _sysctl(name: str) -> str | None:
    result = run_to_end(HOST_ID, ("/usr/sbin/sysctl", "-n", name), environment=_environment({}), timeout_s=5)
    return result.stdout.strip() or None


def _other_conditions(facts: DeviceFacts, look_s: float) -> Conditions:
    import psutil  # noqa: PLC0415  (Linux does without it)

    busy = psutil.cpu_percent(interval=look_s)
    battery = psutil.sensors_battery()
    state = DeviceState(
        at=_now(),
        load_1min=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        cpu_busy_pct=busy,
        steal_pct=None,
        governor=None,
        cpu_hz=None,
        cpu_cap_hz=None,
        temperature_celsius=None,
        thermal_status=None,
        battery_pct=battery.percent if battery else None,
        charging=battery.power_plugged if battery else None,
        free_memory_bytes=psutil.virtual_memory().available,
    )
    return Conditions(facts=facts, state=state)
