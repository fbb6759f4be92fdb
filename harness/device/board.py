"""Boards: any Linux machine that lets us in by ssh, a Raspberry Pi or a server with another processor."""

from __future__ import annotations

import getpass
import os
import re
import shlex
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from harness.device.adb_services import run
from harness.device.shell_device import ShellDevice
from harness.device.ssh_link import SshLink
from harness.errors import BadSetting, DeviceFileFailed, DeviceRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.device.adb_link import AdbLink, AdbStream, Deadline
    from harness.device.profile import DeviceProfile

PREFIX = "ssh://"


class SshAddress(NamedTuple):
    """Where a board is. What is None is for ~/.ssh/config to say, or ssh's own default."""

    host: str
    port: int | None
    user: str | None


def read_address(text: str) -> SshAddress:
    """`ssh://[USER@]HOST[:PORT]`; HOST may be a name from ~/.ssh/config, or `[IPv6]`.

    Raises:
        BadSetting: It is none.
    """
    found = re.fullmatch(r"ssh://(?:([^@/:\s]+)@)?(\[[0-9A-Fa-f:.]+\]|[^@/:\s\[\]]+)(?::(\d{1,5}))?/?", text)
    if found is None or not 0 < int(found[3] or 22) < 65536:
        raise BadSetting(text, None, "device", f"{text!r} is no address of a board", ("ssh://[USER@]HOST[:PORT]",))
    return SshAddress(host=found[2].strip("[]"), port=int(found[3]) if found[3] else None, user=found[1])


class BoardDevice(ShellDevice):
    """A machine with an sshd and a POSIX shell. Its work folder is ours alone, or nothing is done there.

    Args:
        device_id: What people call it.
        address: Where it is.
        profile: What the user says about it.
    """

    def __init__(self, device_id: str, address: SshAddress, profile: DeviceProfile | None = None) -> None:
        self._ssh = SshLink(device_id, address.host, port=address.port, user=address.user)
        # Not /tmp, which may be memory, or forbid programs. Users of one board do not share a folder.
        folder = PurePosixPath("/var/tmp") / f"inference-harness-{address.user or getpass.getuser()}"  # noqa: S108
        link = _OwnFolderFirst(device_id, self._ssh, lambda: self._work_folder)
        super().__init__(device_id, link, profile, kind="board", work_folder=folder, shell_name="sh")

    def _send(
        self, local: Path, temporary: PurePosixPath, remote: PurePosixPath, size: int, deadline: Deadline
    ) -> None:
        mode = 0o755 if os.access(local, os.X_OK) else 0o644
        try:
            self._ssh.put(local, str(temporary), mode, deadline, shown_as=str(remote), size=size)
        except DeviceFileFailed:
            # OpenSSH's sftp says "Failure" of a full disk and of much else; a shell there has the system's own words.
            more = f"LC_ALL=C dd if=/dev/zero bs=1024k count=1 >>{shlex.quote(str(temporary))}"
            self._file_command("push", remote, more, deadline, size)
            raise

    def _receive(self, remote: PurePosixPath, local: Path, deadline: Deadline) -> None:
        self._ssh.get(str(remote), local, deadline)


_NOT_OURS = 45
"""Nobody else's exit code."""
_OWN_FOLDER = f"""\
(umask 077; mkdir -p {{folder}}) 2>/dev/null
[ -e {{folder}} ] || [ -L {{folder}} ] || exit 0
[ -d {{folder}} ] && [ -O {{folder}} ] && [ ! -L {{folder}} ] || exit {_NOT_OURS}
chmod 700 {{folder}}
"""
"""Where it cannot be made, whoever wants to write into it is told why."""


class _OwnFolderFirst:
    """The way to a board, which sees to it before anything else that the work folder is ours.

    Anybody there knows its name, and may have made it first: programs in it would then run as us, and digests in it be
    believed.
    """

    def __init__(self, device_id: str, link: AdbLink, folder: Callable[[], PurePosixPath]) -> None:
        self._device_id, self._link, self._folder = device_id, link, folder
        self._is_ours = False

    def open(self, service: str, deadline: Deadline) -> AdbStream:
        """As the link does.

        Raises:
            DeviceRefused: The work folder belongs to somebody else.
        """
        if not self._is_ours:
            folder = str(self._folder())
            done = run(self._link, _OWN_FOLDER.format(folder=shlex.quote(folder)), deadline)
            if done.returncode == _NOT_OURS:
                problem = "it is a link, or another user's, who may have put anything in it; have it removed there"
                raise DeviceRefused(self._device_id, f"the work folder {folder}", problem)
            self._is_ours = True
        return self._link.open(service, deadline)
