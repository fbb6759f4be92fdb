"""What is still owed to a device when a command ends, kept for the next one that uses it."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from harness.decoding import decode
from harness.device.halting import Owed
from harness.errors import HarnessError
from harness.records import Record
from harness.workspace import cache_dir, write_atomically

if TYPE_CHECKING:
    from pathlib import Path


class _Debt(Record, frozen=True, kw_only=True):
    """What the file holds."""

    device_id: str
    identity: str
    """The device's, as `harness.device.lease.identity` tells it."""
    paths: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]


def owed_to(device_id: str, identity: str) -> Owed:
    """What earlier commands still owe to a device; nothing where nobody knows.

    Commands end programs and a mode, and hold until the system starts again; files and folders of ours stay.

    Args:
        device_id: The device.
        identity: As `harness.device.lease.identity` tells it now.
    """
    try:
        debt = decode(_path(device_id).read_bytes(), _Debt)
    except (OSError, msgspec.MsgspecError):  # there is none, or it is damaged: it was told in the log as well
        return Owed()
    commands = set(debt.commands) if debt.identity == identity else set()
    return Owed(paths={PurePosixPath(path) for path in debt.paths}, commands=commands)


def keep(device_id: str, identity: str, owed: Owed) -> None:
    """Keep what is owed to a device, in place of what was kept before; nothing forgets it.

    What cannot be kept is no reason to fail: it was told in the log as well.
    """
    path = _path(device_id)
    with contextlib.suppress(OSError, HarnessError):
        if not owed:
            path.unlink(missing_ok=True)
            return
        debt = _Debt(
            device_id=device_id,
            identity=identity,
            paths=tuple(sorted(str(path) for path in owed.paths)),
            commands=tuple(sorted(owed.commands)),
        )
        write_atomically(path, msgspec.json.encode(debt))


def _path(device_id: str) -> Path:
    return cache_dir() / "owed" / f"{hashlib.sha256(device_id.encode()).hexdigest()[:24]}.json"
