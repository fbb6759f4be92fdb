"""Android devices, and whatever else runs an adbd, over either way to it (`adb_link.py`)."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from harness.device.adb_direct import PREFIX, DirectLink, read_address
from harness.device.adb_errors import AdbFailed, file_error
from harness.device.adb_server import DEFAULT_PORT, AdbServer, ServerLink
from harness.device.adb_services import receive_file, send_file
from harness.device.shell_device import ShellDevice

if TYPE_CHECKING:
    from harness.device.adb_link import AdbLink, Deadline
    from harness.device.profile import DeviceProfile
    from harness.records import DeviceKind

WORK_FOLDER = PurePosixPath("/data/local/tmp/inference-harness")
"""The only place where adb's user may both write and execute."""
_SHELL = "/system/bin/sh"


def link_to(address: str, device_id: str | None = None) -> AdbLink:
    """The way to a device: `adb://HOST:PORT` directly, `SERIAL` by the adb server here, `SERIAL@HOST:PORT` by another.

    Raises:
        BadSetting: The address is none.
    """
    device_id = device_id or address
    if address.startswith(PREFIX):
        return DirectLink(device_id, *read_address(address))
    serial, _, where = address.rpartition("@")
    remote = re.fullmatch(r"([^:]+)(?::(\d+))?", where) if serial else None
    if remote is None:
        return ServerLink(device_id, address)
    return ServerLink(device_id, serial, AdbServer(host=remote[1], port=int(remote[2] or DEFAULT_PORT)))


class AndroidDevice(ShellDevice):
    """A device whose adbd can be reached.

    Args:
        device_id: What people call it.
        link: The way to it; None for what the id says.
        profile: What the user says about it.
        kind: `virtual` for one that this program emulates.
    """

    def __init__(
        self,
        device_id: str,
        link: AdbLink | None = None,
        profile: DeviceProfile | None = None,
        *,
        kind: DeviceKind = "android",
    ) -> None:
        link = link or link_to(device_id)
        super().__init__(device_id, link, profile, kind=kind, work_folder=WORK_FOLDER, shell_name=_SHELL)

    def _send(
        self, local: Path, temporary: PurePosixPath, remote: PurePosixPath, size: int, deadline: Deadline
    ) -> None:
        mode = 0o755 if os.access(local, os.X_OK) else 0o644
        try:
            with (
                local.open("rb", buffering=0) as file,
                contextlib.closing(self._link.open("sync:", deadline)) as stream,
            ):
                send_file(stream, file, str(temporary), 0o100000 | mode, deadline)
        except AdbFailed as error:
            raise file_error(self._id, "push", str(remote), str(error), size) from error

    def _receive(self, remote: PurePosixPath, local: Path, deadline: Deadline) -> None:
        try:
            with local.open("xb") as file, contextlib.closing(self._link.open("sync:", deadline)) as stream:
                receive_file(stream, str(remote), file, deadline)
        except AdbFailed as error:
            raise file_error(self._id, "pull", str(remote), str(error)) from error
