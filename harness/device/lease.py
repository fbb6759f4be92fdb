"""One run at a time on a device: a lease that its holder renews, and that others take over when it no longer does.

A lease is a small file in a folder that all users of this machine share. It holds who has the device and when that was
last renewed; whoever reads or changes it locks it for that moment. The lock itself is not the lease: the system would
keep it for a process that is stopped or hangs for ever, and drop it where a child of a dead run still works.
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import hashlib
import logging
import os
import secrets
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil

from harness.decoding import decode
from harness.device.profile import profile_of
from harness.errors import DeviceBusy, HarnessError, LeaseLost, UnwritableFolder
from harness.records import Record
from harness.workspace import cache_dir

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator, Sequence

    from harness.device.device import Device

HEARTBEAT_S = 10.0
STALE_S = 90.0
"""Nine heartbeats: a machine that is short of memory may miss some."""
_LOCK_S = 10.0
_LOCAL_PREFIXES = ("virtual:", "ssh://")
"""Of names that each user gives: machines in one's cache, and hosts as one's ~/.ssh/config calls them."""
_LENGTH = 1024
"""Of a lease, in bytes; a few hundred are used."""
_log = logging.getLogger(__name__)
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
    """What tells a device from every other, however it is reached; where it does not say, the id it is reached by.

    The number of its system's present start: two addresses of one phone have the same.

    Raises:
        DeviceError: It cannot be asked.
        BadSetting: Its profile is wrong.
    """
    found = device.shell(["cat", _BOOT_ID], timeout_s=60)
    if found.returncode == 0 and found.stdout.strip():
        return found.stdout.strip()
    profile = profile_of(device.id)  # an iPhone: by its profile's name, or by its UDID, it is the same one
    return (profile and profile.reached_by) or device.id


def _keys(device: Device) -> tuple[str, ...]:
    """What a device is leased by: its names, and what it says of itself.

    By all: an identity that changes with a restart must not let another run in under the same name. A name that means
    something to one user alone counts for that user alone: another may have given it to another device.

    Raises:
        DeviceError, BadSetting: See `identity`.
    """
    profile = profile_of(device.id)
    reached_by = (profile and profile.reached_by) or device.id
    own = {name for name in (device.id, reached_by) if name.startswith(_LOCAL_PREFIXES)}
    if reached_by != device.id:
        own.add(device.id)  # the name of a profile
    mine = f"{_user()} {cache_dir().absolute()}"
    names = [f"{mine} {name}" if name in own else name for name in (device.id, reached_by)]
    return tuple(dict.fromkeys((*names, identity(device))))


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
            UnwritableFolder: The lease can no longer be opened. One that is ours and cannot be written is still ours.
        """
        self._renew()
        if device_id in self._lost:
            raise LeaseLost(device_id, self._lost[device_id])

    def _renew(self) -> None:
        for path, holder in self._held.items():
            with _opened(path) as file:
                now = _read(file)
                if now is not None and now.token == holder.token:
                    # A full disk: what is written there still says whose the device is.
                    with contextlib.suppress(OSError):
                        _write(file, msgspec.structs.replace(holder, renewed=time.time()))
                elif holder.device_id not in self._lost:
                    self._lost[holder.device_id] = str(now) if now else "another run, which is over"

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT_S):
            with contextlib.suppress(HarnessError):  # the next beat, or `require`, will tell
                self._renew()

    def _give_back(self) -> None:
        self._over.set()
        for path, holder in self._held.items():
            with contextlib.suppress(HarnessError), _opened(path) as file:
                now = _read(file)
                if now is not None and now.token == holder.token:
                    _write(file, None)  # not removed: somebody may be waiting for its lock


@contextlib.contextmanager
def leased(
    devices: Sequence[Device], run: str, *, taken_over: Callable[[str, str], None] | None = None
) -> Iterator[Lease]:
    """Have devices for this run alone while the block lasts.

    Args:
        devices: All or none of them are leased.
        run: Name of the run, for others to read.
        taken_over: Told of each lease that was still there and does not count: the device, and whose it was. None
            for the log.

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
            for key in _keys(device):
                path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
                _take(path, holder, taken_over or _log_taken_over)
                held[path] = holder
        threading.Thread(target=lease._beat, name="lease", daemon=True).start()  # noqa: SLF001  (of this module)
        yield lease
    finally:
        lease._give_back()  # noqa: SLF001


def _log_taken_over(device_id: str, previous: str) -> None:
    _log.warning("%s was taken over from %s", device_id, previous)


def _take(path: Path, holder: Holder, taken_over: Callable[[str, str], None]) -> None:
    with _opened(path) as file:
        there = _read(file)
        if there is not None and there.token == holder.token:
            raise DeviceBusy(holder.device_id, f"it is the same device as {there.device_id}")
        if there is not None:
            stale = _why_stale(there)
            if stale is None:
                raise DeviceBusy(holder.device_id, f"{there} is using it")
            taken_over(holder.device_id, f"{there}, {stale}")
        _write(file, holder)


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
def _opened(path: Path) -> Iterator[io.FileIO]:
    """A lease's file, ours alone for a moment.

    Not by filelock, which refuses files of other users in a shared folder. Such a file can be written, and neither
    removed nor replaced; and Linux opens it only without O_CREAT (fs.protected_regular in proc_sys_fs(5)).
    """
    try:
        is_new = not path.exists()
        flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | (os.O_CREAT if is_new else 0)
        # Without a buffer, which would try again at the end what could not be written.
        with os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0) as file:
            if is_new and os.name == "posix":
                os.fchmod(file.fileno(), 0o666)
            _lock(file)
            yield file
    except OSError as error:
        raise UnwritableFolder(str(path), error.strerror or str(error)) from error


def _lock(file: io.FileIO) -> None:
    """Lock a file until it is closed, by this process or by its death."""
    deadline = time.monotonic() + _LOCK_S
    while True:
        try:
            if sys.platform == "win32":
                import msvcrt  # noqa: PLC0415

                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl  # noqa: PLC0415

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.EACCES, errno.EDEADLK} or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _read(file: io.FileIO) -> Holder | None:
    file.seek(0)
    try:
        return decode(file.read(), Holder)
    except msgspec.MsgspecError:  # new, given back, or cut off by a full disk
        return None


def _write(file: io.FileIO, holder: Holder | None) -> None:
    """Write who has the device over what is there.

    Raises:
        OSError: It cannot be written; what is there stays.
    """
    if holder is None:
        file.truncate(0)
        return
    # Always of one length, and never shortened first: a disk that is full meanwhile has the space already, and a lease
    # that was emptied for what then does not fit would let another run in.
    content = msgspec.json.encode(holder).ljust(_LENGTH)
    file.seek(0)
    if file.write(content) != len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    file.truncate(len(content))


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
