"""Virtual arm64 devices: a real adbd on a whole machine that qemu emulates, one process a device.

A whole machine and not qemu-user in a chroot: that needs root, binfmt_misc and mounts, which a container in CI rarely
has and a killed start leaves behind; it shows the host's /proc/cpuinfo, and its processes live among the host's. Here
one ordinary process holds everything. Ending it leaves nothing, and stopping it freezes the whole device.

What is measured on one says nothing about any phone's speed; its numbers are real, and so is the way over adb.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import struct
import subprocess
import time
from typing import TYPE_CHECKING

import msgspec
import psutil
from filelock import FileLock

from harness.decoding import decode
from harness.device.virtual_image import image
from harness.errors import BadSetting, DeviceNotFound, DeviceTimedOut, MissingTool
from harness.records import Record
from harness.workspace import cache_dir, require_writable, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

QEMU = "qemu-system-aarch64"
PROCESSOR = "cortex-a76"
"""A phone's big core of 2019, with half-precision and dot-product instructions; qemu knows it since 7.1."""
MACHINE = "virt,gic-version=3"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_PORT_ATTEMPTS = 5


class VirtualDevice(Record, frozen=True, kw_only=True):
    """A virtual device that runs."""

    name: str
    host: str
    """Always 127.0.0.1: its adbd asks for no key."""
    port: int
    pid: int
    memory_mib: int
    disk_mib: int
    cores: int
    image: str
    """SHA-256 of the recipe of what it booted."""

    @property
    def id(self) -> str:
        """By which `find_device` finds it."""
        return f"virtual:{self.name}"

    @property
    def address(self) -> str:
        """As `adb connect` takes it."""
        return f"{self.host}:{self.port}"


def start_virtual(
    name: str,
    *,
    memory_mib: int = 2048,
    disk_mib: int = 1024,
    cores: int = 2,
    timeout_s: float = 120.0,
    watch: Callable[[str], None] = lambda _step: None,
) -> VirtualDevice:
    """Start a virtual device and wait until its adbd answers; one that runs already is returned as it is.

    The first start on a machine makes the image, which fetches some 60 MB and takes half a minute.

    Args:
        name: What to call it.
        memory_mib: Its memory. Files on it live there, too.
        disk_mib: How much of that files may take.
        cores: How many processors it has.
        timeout_s: For the start of the machine, without the making of the image.
        watch: Told of each step that takes a while, in a few words.

    Raises:
        BadSetting: The name is none, or the files do not fit into the memory.
        UnwritableFolder: The cache cannot be written.
        MissingTool: qemu, or what makes the image, is not installed.
        DeviceNotFound: qemu ended at once; its words are in the error.
        DeviceTimedOut: adbd did not answer. The machine has been stopped.
    """
    folder = _folder(name)
    _require_disk_fits(disk_mib, memory_mib)
    require_writable(_root())
    with _alone(name):
        running = _running(name)
        if running is not None:
            if _answers(running.port, timeout_s=5):
                return running
            _end(name)  # a start that was killed, or a machine that hangs
        qemu = shutil.which(QEMU)
        if qemu is None:
            raise MissingTool(QEMU, "a virtual device", "apt-get install --no-install-recommends qemu-system-arm")
        made = image(watch)
        watch("waiting for its adbd")
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            port = _free_port()
            command = (qemu, *_arguments(name, port, memory_mib, disk_mib, cores))
            command += ("-kernel", str(made.kernel), "-initrd", str(made.initrd))
            device = VirtualDevice(
                name=name,
                host="127.0.0.1",
                port=port,
                pid=0,
                memory_mib=memory_mib,
                disk_mib=disk_mib,
                cores=cores,
                image=made.key,
            )
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / "device.json", msgspec.json.encode(device))
            try:
                return _boot(device, command, folder, timeout_s)
            except _PortTaken:
                if attempt == _PORT_ATTEMPTS:
                    raise DeviceNotFound(name, "no free port was found on 127.0.0.1") from None
            except BaseException:
                _end(name)
                raise
    raise AssertionError


def stop_virtual(name: str) -> bool:
    """End a virtual device, whatever state it is in, and forget it. Returns whether there was anything of it.

    Raises:
        BadSetting: The name is none.
    """
    _folder(name)
    with _alone(name):
        return _end(name)


def list_virtual() -> tuple[VirtualDevice, ...]:
    """Every virtual device that runs."""
    found = [_running(path.parent.name) for path in sorted(_root().glob("*/device.json"))]
    return tuple(device for device in found if device is not None)


class _PortTaken(Exception):
    """Somebody else took the port between our look and qemu's."""


def answers(device: VirtualDevice, *, timeout_s: float = 2.0) -> bool:
    """Whether its adbd answers now; one that is frozen or still boots does not."""
    return _answers(device.port, timeout_s=timeout_s)


def _root() -> Path:
    return cache_dir().absolute() / "virtual"


def require_name(name: str) -> None:
    """Raise BadSetting unless a virtual device can be called this."""
    if not _NAME.fullmatch(name):
        problem = f"{name!r} is no name for a virtual device"
        raise BadSetting(
            "the command line", None, "name", problem, ("a letter or digit, and up to 31 more, - and _ among them",)
        )


def _folder(name: str) -> Path:
    require_name(name)
    return _root() / name


def _require_disk_fits(disk_mib: int, memory_mib: int) -> None:
    needed = disk_mib + 256  # for the system itself
    if memory_mib < needed:
        problem = f"files live in memory: {disk_mib} MiB of them need {needed} MiB of memory, not {memory_mib}"
        raise BadSetting("the command line", None, "memory", problem, ())


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    root = _root()
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{name}.lock"):
        yield


def _arguments(name: str, port: int, memory_mib: int, disk_mib: int, cores: int) -> tuple[str, ...]:
    return (
        *("-name", f"harness virtual {name}", "-pidfile", str(_pidfile(name))),
        *("-M", MACHINE, "-cpu", PROCESSOR, "-accel", "tcg,thread=multi"),
        *("-smp", str(cores), "-m", str(memory_mib)),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"),
        *("-append", f"console=ttyAMA0 quiet panic=-1 harness.disk={disk_mib}m"),
        # restrict: the device reaches nothing, neither this machine nor the network; only this port leads to it.
        *("-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:5555"),
        *("-device", "virtio-net-device,netdev=net"),
    )


def _boot(device: VirtualDevice, command: tuple[str, ...], folder: Path, timeout_s: float) -> VirtualDevice:
    log = folder / "console.log"
    with log.open("wb") as console:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
        )
    try:
        device = msgspec.structs.replace(device, pid=process.pid)
        write_atomically(folder / "device.json", msgspec.json.encode(device))
        _await_adbd(device, process, log, timeout_s)
    except BaseException:
        process.kill()
        process.wait()
        raise
    # It outlives this program, on purpose; Python would warn about a child that nobody waited for.
    process.returncode = 0
    return device


def _await_adbd(device: VirtualDevice, process: subprocess.Popen[bytes], log: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not _answers(device.port, timeout_s=2):
        if process.poll() is not None:
            said = log.read_text(encoding="utf-8", errors="replace").strip()[-500:]
            if "host forwarding" in said:
                raise _PortTaken
            raise DeviceNotFound(device.name, f"{QEMU} exited with code {process.returncode}: {said}")
        if time.monotonic() > deadline:
            raise DeviceTimedOut(device.name, "its start", timeout_s)
        time.sleep(0.1)


def _answers(port: int, *, timeout_s: float) -> bool:
    """Whether an adbd says its name there. qemu itself accepts connections long before.

    Source: protocol.txt of AOSP's packages/modules/adb, 34.0.5: six words, and the payload.
    """
    payload = b"host::\0"
    word = int.from_bytes(b"CNXN", "little")
    header = struct.pack("<6I", word, 0x01000000, 4096, len(payload), sum(payload), word ^ 0xFFFFFFFF)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as link:
            link.settimeout(timeout_s)
            link.sendall(header + payload)
            return link.recv(4) in {b"CNXN", b"AUTH"}
    except OSError:
        return False


def _running(name: str) -> VirtualDevice | None:
    """What `device.json` says, if the process of that name is there."""
    try:
        device = decode((_root() / name / "device.json").read_bytes(), VirtualDevice)
    except (OSError, msgspec.MsgspecError):
        return None
    pids = [process.pid for process in _processes(name)]
    return msgspec.structs.replace(device, pid=pids[0]) if pids else None


def _end(name: str) -> bool:
    processes = list(_processes(name))
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()  # there is nothing on it that would have to be saved
    psutil.wait_procs(processes, timeout=10)
    folder = _root() / name
    was_there = bool(processes) or folder.exists()
    shutil.rmtree(folder, ignore_errors=True)
    return was_there


def _processes(name: str) -> Iterator[psutil.Process]:
    """By their command line, which names our file: a number alone may be anybody's by now."""
    wanted = str(_pidfile(name))
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            # A zombie has no command line.
            if process.name().startswith("qemu-system") and wanted in process.cmdline():
                yield process


def _pidfile(name: str) -> Path:
    return _root() / name / "pid"


def _free_port() -> int:
    # Above 5585: an adb server takes what listens between 5555 and there for an emulator, and connects by itself.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
