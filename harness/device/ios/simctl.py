"""The iOS simulator of a Mac through `xcrun simctl`. It computes on the Mac: it proves a path, never a time.

Written against `xcrun simctl help`; nobody has run it on a Mac yet. The tests use a fake program.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import shutil
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from harness.device.ios.transport import FoundPhone, Hurdle, hurdle_of, offline, run_client
from harness.errors import AppMissing, AppRefused, DeviceCommandFailed, DeviceFileFailed, DeviceFull, DeviceOffline

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.device.ios.transport import Ended

LIST_TIMEOUT_S = 60.0
"""The first call after a start of the Mac wakes a service."""


def find_command() -> tuple[str, ...] | None:
    """`xcrun simctl` where there is a Mac with Xcode."""
    if platform.system() != "Darwin":
        return None
    found = shutil.which("xcrun")
    return (found, "simctl") if found else None


def connected(command: Sequence[str]) -> tuple[FoundPhone, ...]:
    """Every simulated phone and tablet that is running."""
    return read_list(_run("ios", command, ("list", "devices", "booted", "--json"), timeout_s=LIST_TIMEOUT_S))


def read_list(ended: Ended) -> tuple[FoundPhone, ...]:
    """What `list devices --json` printed: `devices`, by the runtime's identifier."""
    try:
        by_runtime = json.loads(ended.stdout)["devices"]
        entries = [(runtime, device) for runtime, devices in by_runtime.items() for device in devices]
        booted = [(runtime, device) for runtime, device in entries if device["state"] == "Booted"]
        return tuple(
            FoundPhone(
                id=device["udid"],
                name=device["name"],
                os=f"iOS {version[1].replace('-', '.')} (simulator)",
                is_simulated=True,
            )
            for runtime, device in booted
            if (version := re.search(r"SimRuntime\.iOS-([\d-]+)$", runtime))
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        problem = f"it printed something that this program does not know: {ended.stdout[:200]!r}"
        raise DeviceCommandFailed("ios", ended.argv, ended.returncode, problem) from None


class SimCtl:
    """One simulated phone. See `Transport`: its files are files of this Mac."""

    name = "simctl"
    can_remove = True

    def __init__(self, command: Sequence[str], device_id: str, *, app: str) -> None:
        self._command, self._device_id, self._app = tuple(command), device_id, app

    def hurdles(self) -> tuple[Hurdle, ...]:
        """See `Transport`."""
        try:
            self._container(LIST_TIMEOUT_S)
        except (AppMissing, DeviceOffline) as error:
            return (hurdle_of(self._device_id, error),)
        return ()

    def put(self, local: Path, remote: PurePosixPath, *, timeout_s: float) -> None:
        """See `Transport`."""
        there = self._path(remote, timeout_s)
        with self._file("push", remote):
            there.parent.mkdir(parents=True, exist_ok=True)
            if local.is_dir():
                shutil.copytree(local, there, dirs_exist_ok=True)
            else:
                shutil.copyfile(local, there)

    def get(self, remote: PurePosixPath, local: Path, *, timeout_s: float) -> bool:
        """See `Transport`."""
        there = self._path(remote, timeout_s)
        with self._file("pull", remote):
            if not there.exists():
                return False
            local.parent.mkdir(parents=True, exist_ok=True)
            if there.is_dir():
                shutil.copytree(there, local, dirs_exist_ok=True)
            else:
                shutil.copyfile(there, local)
        return True

    def remove(self, remote: PurePosixPath, *, timeout_s: float) -> None:
        """See `Transport`."""
        there = self._path(remote, timeout_s)
        with self._file("remove", remote):
            if there.is_dir():
                shutil.rmtree(there)
            else:
                there.unlink(missing_ok=True)

    def launch(self, *, timeout_s: float) -> str | None:
        """See `Transport`."""
        arguments = ("launch", "--terminate-running-process", self._device_id, self._app)
        ended = _run(self._device_id, self._command, arguments, timeout_s=timeout_s)
        return None if ended.returncode == 0 else ended.words

    def install(self, app: Path, *, timeout_s: float) -> None:
        """See `Transport`."""
        ended = _run(self._device_id, self._command, ("install", self._device_id, str(app)), timeout_s=timeout_s)
        if ended.returncode != 0:
            raise AppRefused(self._device_id, app.name, ended.words)

    @contextmanager
    def _file(self, action: str, remote: PurePosixPath) -> Iterator[None]:
        """Say of a simulated phone's file what this Mac's file system says."""
        try:
            yield
        except OSError as error:
            if action == "push" and error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise DeviceFull(self._device_id, str(remote), None) from error
            raise DeviceFileFailed(self._device_id, action, str(remote), error.strerror or str(error)) from error

    def _path(self, remote: PurePosixPath, timeout_s: float) -> Path:
        return self._container(timeout_s) / remote.relative_to("/")

    def _container(self, timeout_s: float) -> Path:
        # Asked each time: a new installation of the app has another one.
        arguments = ("get_app_container", self._device_id, self._app, "data")
        ended = _run(self._device_id, self._command, arguments, timeout_s=timeout_s)
        if ended.returncode != 0:
            if "No such file or directory" in ended.words or "NSPOSIXErrorDomain, code=2" in ended.words:
                raise AppMissing(self._device_id, self._app)
            raise offline(self._device_id, ended.words or f"`simctl get_app_container` exited {ended.returncode}")
        return Path(ended.stdout.strip())


def _run(device_id: str, command: Sequence[str], arguments: Sequence[str], *, timeout_s: float) -> Ended:
    return run_client(device_id, (*command, *arguments), environment=dict(os.environ), timeout_s=timeout_s)
