"""One run at a time on a device: a lease that its holder renews, and that others take over when it no longer does.

A lease is a small file in a folder that all users of this machine share. It holds who has the device and when that was
last renewed; whoever reads or changes it locks it for that moment. The lock itself is not the lease: the system would
keep it for a process that is stopped or hangs for ever, and drop it where a child of a dead run still works.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import secrets
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil
from filelock import FileLock

from harness.errors import DeviceBusy, HarnessError, LeaseLost, UnwritableFolder
from harness.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.device.device import Device

HEARTBEAT_S = 10.0
STALE_S = 90.0
"""Nine heartbeats: a machine that is short of memory may miss some."""
_LOCK_S = 10.0
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Holder(Record, frozen=True, kw_only=True):
    """Who has a device."""

    token: str
    device_id: str
    run: str
    user: str
    pid: int
    started: float
    """Start of the process, in seconds since 1970: a number alone may be somebody else's by now."""
    namespace: str | None
    """In which this number means the process. Source: pid_namespaces(7)."""
    renewed: float
    """In seconds since 1970."""

    def __str__(self) -> str:
        return f"run {self.run} of {self.user} (process {self.pid})"


def lease_folder() -> Path:
    """Where all users of this machine keep their leases; `HARNESS_LEASES` moves it."""
    # Not the user's own temporary folder, which macOS gives each a different one of.
    shared = Path("/tmp") if os.name == "posix" else Path(os.environ.get("PROGRAMDATA", "C:/"))  # noqa: S108
    return Path(os.environ.get("HARNESS_LEASES") or shared / "inference-harness-leases")


def identity(device: Device) -> str:
    """What tells a device from every other, however it is reached; its id where it does not say.

    The number of its system's present start: two addresses of one phone have the same.

    Raises:
        DeviceError: It cannot be asked.
    """
    found = device.shell(["cat", _BOOT_ID], timeout_s=10)
    return found.stdout.strip() if found.returncode == 0 and found.stdout.strip() else device.id


class Lease:
    """Devices that are ours. Made by `leased`."""

    def __init__(self, held: dict[Path, Holder]) -> None:
        self._held = held
        self._lost: dict[str, str] = {}
        self._over = threading.Event()

    def require(self, device_id: str) -> None:
        """See that a device is still ours.

        Raises:
            LeaseLost: This process stood still for so long that another run took it over.
        """
        self._renew()
        if device_id in self._lost:
            raise LeaseLost(device_id, self._lost[device_id])

    def _renew(self) -> None:
        for path, holder in self._held.items():
            with _opened(path):
                now = _read(path)
                if now is not None and now.token == holder.token:
                    _write(path, msgspec.structs.replace(holder, renewed=time.time()))
                elif holder.device_id not in self._lost:
                    self._lost[holder.device_id] = str(now) if now else "another run, which is over"

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT_S):
            with contextlib.suppress(OSError, HarnessError):  # a full disk: the next beat, or `require`, will tell
                self._renew()

    def _give_back(self) -> None:
        self._over.set()
        for path, holder in self._held.items():
            with contextlib.suppress(OSError, HarnessError), _opened(path):
                now = _read(path)
                if now is not None and now.token == holder.token:
                    # Emptied, not removed: somebody may be waiting for its lock.
                    _write(path, None)


@contextlib.contextmanager
def leased(
    devices: Sequence[Device], run: str, *, taken_over: Callable[[str, str], None] = lambda _device, _previous: None
) -> Iterator[Lease]:
    """Have devices for this run alone while the block lasts.

    Args:
        devices: All or none of them are leased.
        run: Name of the run, for others to read.
        taken_over: Told of each lease that was still there and does not count: the device, and whose it was.

    Raises:
        DeviceBusy: Another run has one of them, or two of them are one and the same.
        DeviceError: One cannot be reached.
        UnwritableFolder: Leases cannot be stored.
    """
    folder = _shared_folder()
    token = secrets.token_hex(8)
    mine = psutil.Process()
    held: dict[Path, Holder] = {}
    lease = Lease(held)
    try:
        for device in devices:
            holder = Holder(
                token=token,
                device_id=device.id,
                run=run,
                user=_user(),
                pid=mine.pid,
                started=mine.create_time(),
                namespace=_namespace(),
                renewed=time.time(),
            )
            # By both: an identity that changes with a restart must not let another run in under the same name.
            for key in dict.fromkeys((device.id, identity(device))):
                path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
                _take(path, holder, taken_over)
                held[path] = holder
        threading.Thread(target=lease._beat, name="lease", daemon=True).start()  # noqa: SLF001  (of this module)
        yield lease
    finally:
        lease._give_back()  # noqa: SLF001


def _take(path: Path, holder: Holder, taken_over: Callable[[str, str], None]) -> None:
    with _opened(path):
        there = _read(path)
        if there is not None and there.token == holder.token:
            raise DeviceBusy(holder.device_id, f"it is the same device as {there.device_id}")
        if there is not None:
            stale = _why_stale(there)
            if stale is None:
                raise DeviceBusy(holder.device_id, f"{there} is using it")
            taken_over(holder.device_id, f"{there}, {stale}")
        _write(path, holder)


def _why_stale(there: Holder) -> str | None:
    """Why a lease does not count, in words; None where it does."""
    if there.namespace == _namespace() and not _lives(there):
        return "which has ended without giving it back"
    silent_s = time.time() - there.renewed
    return f"which has not renewed it for {silent_s:.0f} s" if silent_s > STALE_S else None


def _lives(there: Holder) -> bool:
    if not psutil.pid_exists(there.pid):
        return False
    try:
        process = psutil.Process(there.pid)
        return abs(process.create_time() - there.started) < 2 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:  # systems may hide the processes of others; then only its heartbeat counts
        return True


def _shared_folder() -> Path:
    folder = lease_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(PermissionError):  # another user made it
            folder.chmod(0o1777)
    except OSError as error:
        raise UnwritableFolder(str(folder), error.strerror or str(error)) from error
    return folder


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[None]:
    """Hold a lease's file for a moment."""
    lock = path.with_suffix(".lock")
    try:
        with FileLock(lock, timeout=_LOCK_S, mode=0o666):
            yield
    except OSError as error:
        raise UnwritableFolder(str(path), error.strerror or str(error)) from error


def _read(path: Path) -> Holder | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Holder)
    except (FileNotFoundError, msgspec.MsgspecError):  # none, given back, or cut off by a full disk
        return None


def _write(path: Path, holder: Holder | None) -> None:
    """In place: what another user left in a shared folder can be written, and neither removed nor replaced."""
    content = b"" if holder is None else msgspec.json.encode(holder)
    exists = path.exists()
    # Without O_CREAT where it exists: Linux refuses that for files of others in such a folder (fs.protected_regular).
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | (0 if exists else os.O_CREAT | os.O_EXCL), 0o666)
    with os.fdopen(descriptor, "wb") as file:
        if not exists and os.name == "posix":
            os.fchmod(descriptor, 0o666)
        file.write(content)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a number without a name, as in containers
        return f"user {os.getuid()}"


def _namespace() -> str | None:
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115  (it leads to no path)
    except OSError:
        return None
