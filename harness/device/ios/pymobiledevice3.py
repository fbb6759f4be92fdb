"""iPhones through the command line of pymobiledevice3, on any host.

It is an external program under the GPL: this project starts it and reads what it prints, and neither imports it nor
depends on it. `scripts/install-ios-tools` puts it into a virtual environment of its own.

Source: pymobiledevice3 11.45.0, `--help` of each command; its error messages are those of its `exceptions.py`, printed
as `DATE HOST MODULE[PID] ERROR MESSAGE` on standard error.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from harness.device.ios.transport import (
    ClientTimedOut,
    Ended,
    FoundPhone,
    Hurdle,
    hurdle_of,
    move_into_place,
    offline,
    run_client,
    scratch_folder,
    untrusted,
)
from harness.errors import (
    AppMissing,
    AppRefused,
    DeviceCommandFailed,
    DeviceError,
    DeviceFull,
    DeviceLocked,
    MissingTool,
)
from harness.workspace import cache_dir

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COMMAND_VARIABLE = "HARNESS_PYMOBILEDEVICE3"
INSTALL = "scripts/install-ios-tools"
LIST_TIMEOUT_S = 20.0
QUERY_TIMEOUT_S = 15.0

_USBMUXD_SOCKET = Path("/var/run/usbmuxd")
_NOT_THERE = ("OBJECT_NOT_FOUND", "No such file on the device")
_GONE = (
    "Device not found",
    "Device is not connected",
    "Connection was terminated abruptly",
    "The device closed the stream",
    "Failed to connect to service port",
    "usbmuxd does not know the device",
    "Talking to usbmuxd failed",
    "Failed to connect to usbmuxd socket",
)
_DIALOG_WAITS = "waiting user pairing dialog"
_UNTRUSTED = (
    "Device is not paired",
    "does not trust this computer",
    "pairing record. Pair it again",
    "Trust dialog",
    "refused to trust this computer",
    "Pairing with the device failed",
    _DIALOG_WAITS,
)
_FULL = "NO_SPACE_LEFT"
_LOCKED = ("protected with a passcode", "password protected", "Unlock the device", "PasswordProtected")


def find_command() -> tuple[str, ...] | None:
    """Its command line: the one that `HARNESS_PYMOBILEDEVICE3` names, ours in the cache, or the one in PATH."""
    chosen = os.environ.get(COMMAND_VARIABLE)
    if chosen:
        return (chosen,)
    own = installed_at() / "bin" / "pymobiledevice3"
    if own.is_file():
        return (str(own),)
    found = shutil.which("pymobiledevice3")
    return (found,) if found else None


def installed_at() -> Path:
    """The virtual environment that `scripts/install-ios-tools` makes."""
    return cache_dir().absolute() / "tools" / "pymobiledevice3"


def usbmuxd_answers() -> bool:
    """Whether there is a daemon that could know of phones; without one the client need not be started."""
    return "USBMUXD_SOCKET_ADDRESS" in os.environ or "PYMOBILEDEVICE3_USBMUX" in os.environ or _USBMUXD_SOCKET.exists()


def connected(command: Sequence[str]) -> tuple[FoundPhone, ...]:
    """Every phone that usbmuxd knows.

    Raises:
        DeviceCommandFailed: The client printed something else than it does in the version this was written for.
        DeviceTimedOut: It did not end.
    """
    full = _run("ios", command, ("usbmux", "list"), timeout_s=LIST_TIMEOUT_S)
    if full.returncode == 0:
        return read_list(full)
    if "Failed to connect to usbmuxd socket" in full.words:
        return ()
    # One phone that answers no question makes the whole command fail. Without questions all have at least a number, and
    # each is asked alone.
    simple = _run("ios", command, ("usbmux", "list", "--simple"), timeout_s=LIST_TIMEOUT_S)
    if simple.returncode != 0:
        raise DeviceCommandFailed("ios", simple.argv, simple.returncode, simple.words)
    return tuple(_asked_alone(command, found) for found in _strings(simple))


def _asked_alone(command: Sequence[str], udid: str) -> FoundPhone:
    told = _run(udid, command, ("lockdown", "info", "--udid", udid), timeout_s=LIST_TIMEOUT_S)
    entry = _json(told) if told.returncode == 0 else None
    return _phone_of(udid, entry, told) if isinstance(entry, dict) else FoundPhone(id=udid)


def read_list(ended: Ended) -> tuple[FoundPhone, ...]:
    """What `usbmux list` printed: a JSON list of objects. A phone on USB and Wi-Fi is listed twice, and taken once."""
    entries = _json(ended)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _unknown_output(ended)
    phones: dict[str, FoundPhone] = {}
    for entry in entries:
        udid = entry.get("UniqueDeviceID") or entry.get("Identifier")
        if not isinstance(udid, str):
            raise _unknown_output(ended)
        phones.setdefault(udid, _phone_of(udid, entry, ended))
    return tuple(phones.values())


def _phone_of(udid: str, entry: Mapping[str, Any], ended: Ended) -> FoundPhone:
    found = {key: entry.get(key) for key in ("DeviceName", "ProductType", "ProductVersion", "BuildVersion")}
    if not all(value is None or isinstance(value, str) for value in found.values()):
        raise _unknown_output(ended)
    system = "iPadOS" if str(found["ProductType"]).startswith("iPad") else "iOS"
    return FoundPhone(
        id=udid,
        name=found["DeviceName"],
        product_type=found["ProductType"],
        os=f"{system} {found['ProductVersion']}" if found["ProductVersion"] else None,
        os_build=found["BuildVersion"],
    )


class PyMobileDevice3:
    """One phone through the client. See `Transport`.

    Args:
        command: How the client is started.
        device_id: The phone's UDID.
        app: The bundle identifier of the runner app.
        os_version: As the phone was listed, `iOS 18.5`; decides which hurdles there can be.
        query_timeout_s: For a question that a phone answers at once, if it answers at all.
    """

    name = "pymobiledevice3"
    can_remove = True

    def __init__(
        self,
        command: Sequence[str],
        device_id: str,
        *,
        app: str,
        os_version: str | None,
        query_timeout_s: float = QUERY_TIMEOUT_S,
    ) -> None:
        self._query_timeout_s = query_timeout_s
        self._command, self._device_id, self._app = tuple(command), device_id, app
        self._os_version = tuple(int(part) for part in re.findall(r"\d+", os_version or ""))

    def hurdles(self) -> tuple[Hurdle, ...]:
        """See `Transport`. Takes two commands, a second each."""
        try:
            installed = self._app_is_installed()
            # A version that is not known may be any: whoever has no such mode says so.
            may_develop = () < self._os_version < (16,) or self._developer_mode()
        except DeviceError as error:
            return (hurdle_of(self._device_id, error),)
        found = [] if installed else [hurdle_of(self._device_id, AppMissing(self._device_id, self._app))]
        if not may_develop:
            found.append(
                Hurdle(
                    name="developer-mode",
                    found="Developer Mode is off, so a development build of the app does not start",
                    advice="Settings > Privacy & Security > Developer Mode, then restart the phone.",
                )
            )
        if (17,) <= self._os_version < (17, 4):
            found.append(
                Hurdle(
                    name="tunnel",
                    found="iOS 17.0 to 17.3 lets a computer start apps through a privileged tunnel only",
                    advice="Run `sudo pymobiledevice3 remote tunneld`, update the phone, or open the app by hand.",
                    blocks=False,
                )
            )
        return tuple(found)

    def put(self, local: Path, remote: PurePosixPath, *, timeout_s: float) -> None:
        """See `Transport`."""
        # A file goes only into a folder that is there, a folder only into one of its own name: so every put is the
        # push of a first-level folder that holds just what is sent.
        _, top, *rest = remote.relative_to("/").parts
        with scratch_folder() as scratch:
            inside = scratch.joinpath(top, *rest)
            inside.parent.mkdir(parents=True, exist_ok=True)
            _mirror(local, inside)
            self._do("push", str(scratch / top), "Documents", timeout_s=timeout_s, sent=(local, remote))

    def get(self, remote: PurePosixPath, local: Path, *, timeout_s: float) -> bool:
        """See `Transport`."""
        with scratch_folder() as scratch:
            # Into an existing folder both a file and a folder arrive under their own name.
            ended = self._app_command("pull", _relative(remote), str(scratch), timeout_s=timeout_s)
            if ended.returncode != 0:
                if any(word in ended.words for word in _NOT_THERE):
                    return False
                raise self._failed(ended)
            move_into_place(scratch / remote.name, local)
        return True

    def remove(self, remote: PurePosixPath, *, timeout_s: float) -> None:
        """See `Transport`."""
        ended = self._app_command("rm", _relative(remote), timeout_s=timeout_s)
        if ended.returncode != 0 and not any(word in ended.words for word in _NOT_THERE):
            raise self._failed(ended)

    def launch(self, *, timeout_s: float) -> str | None:
        """See `Transport`. Through Apple's developer service, which needs Developer Mode, its disk image and a tunnel.

        Written against the client's own help. No fake answers this protocol, so no test has proved it.
        """
        arguments = ("developer", "dvt", "launch", "--udid", self._device_id, self._app)
        try:
            ended = _run(self._device_id, self._command, arguments, timeout_s=timeout_s)
        except ClientTimedOut as error:
            return error.words or str(error)
        if ended.returncode == 0 and "Process launched with pid" in ended.stdout:
            return None
        if any(word in ended.words for word in (*_GONE, *_UNTRUSTED, *_LOCKED)):
            raise self._failed(ended)
        return _message(ended.words) or f"`developer dvt launch` exited {ended.returncode}"

    def install(self, app: Path, *, timeout_s: float) -> None:
        """See `Transport`."""
        ended = self._run("apps", "install", "--udid", self._device_id, str(app), timeout_s=timeout_s)
        if ended.returncode == 0:
            return
        if _FULL in ended.words:
            raise DeviceFull(self._device_id, app.name, _size(app))
        raise self._because(ended.words) or AppRefused(self._device_id, app.name, _complaint(ended.words))

    def _app_is_installed(self) -> bool:
        arguments = ("apps", "query", "--udid", self._device_id, self._app)
        ended = self._run(*arguments, timeout_s=self._query_timeout_s)
        if ended.returncode != 0:
            raise self._failed(ended)
        answer = _json(ended)
        if not isinstance(answer, dict):
            raise _unknown_output(ended)
        return self._app in answer

    def _developer_mode(self) -> bool:
        arguments = ("amfi", "developer-mode-status", "--udid", self._device_id)
        ended = self._run(*arguments, timeout_s=self._query_timeout_s)
        if ended.returncode != 0:
            raise self._failed(ended)
        answer = _json(ended)
        if not isinstance(answer, bool):
            raise _unknown_output(ended)
        return answer

    def _do(self, verb: str, *arguments: str, timeout_s: float, sent: tuple[Path, PurePosixPath]) -> None:
        ended = self._app_command(verb, *arguments, timeout_s=timeout_s)
        if ended.returncode == 0:
            return
        local, remote = sent
        if _FULL in ended.words:
            raise DeviceFull(self._device_id, str(remote), _size(local))
        raise self._failed(ended)

    def _app_command(self, verb: str, *arguments: str, timeout_s: float) -> Ended:
        options = ("--documents", "--udid", self._device_id)
        return self._run("apps", verb, *options, self._app, *arguments, timeout_s=timeout_s)

    def _run(self, *arguments: str, timeout_s: float) -> Ended:
        try:
            return _run(self._device_id, self._command, arguments, timeout_s=timeout_s)
        except ClientTimedOut as error:
            # A phone that shows its trust dialog keeps the client waiting for ever.
            raise self._because(error.words) or error from None

    def _failed(self, ended: Ended) -> DeviceError:
        error = self._because(ended.words)
        return error or DeviceCommandFailed(self._device_id, ended.argv, ended.returncode, _message(ended.words))

    def _because(self, words: str) -> DeviceError | None:
        said = _message(words)
        if any(word in words for word in _GONE):
            return offline(self._device_id, said)
        if any(word in words for word in _UNTRUSTED):
            waits = _DIALOG_WAITS in words
            return untrusted(self._device_id, "nobody has answered its dialog, Trust This Computer?" if waits else said)
        if any(word in words for word in _LOCKED):
            return DeviceLocked(self._device_id, said)
        if "No app with bundle ID" in words:
            return AppMissing(self._device_id, self._app)
        return None


def missing() -> MissingTool:
    """The one sentence for a host without it."""
    return MissingTool("pymobiledevice3", "an iPhone on this host", INSTALL)


def _run(device_id: str, command: Sequence[str], arguments: Sequence[str], *, timeout_s: float) -> Ended:
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "1000"}
    environment.pop("PYTHONPATH", None)  # it has an interpreter and packages of its own
    return run_client(device_id, (*command, "--no-color", *arguments), environment=environment, timeout_s=timeout_s)


def _complaint(words: str) -> str:
    """Its errors alone, where a command also told how far it was."""
    lines = words.split(" | ")
    return _message(" | ".join([line for line in lines if re.search(r"\[\d+\] ERROR ", line)] or lines))


def _message(words: str) -> str:
    """The client's sentence, without the log's time, host and module, and without its advice to run it again."""
    lines = [re.sub(r"^\S+ \S+ \S+ [\w.]+\[\d+\] [A-Z]+ ", "", line) for line in words.split(" | ")]
    return " ".join(line for line in lines if not line.startswith("Run again with -v"))


def _strings(ended: Ended) -> list[str]:
    answer = _json(ended)
    if not isinstance(answer, list) or not all(isinstance(entry, str) for entry in answer):
        raise _unknown_output(ended)
    return list(dict.fromkeys(answer))


def _json(ended: Ended) -> object:
    try:
        return json.loads(ended.stdout)
    except ValueError:
        raise _unknown_output(ended) from None


def _unknown_output(ended: Ended) -> DeviceCommandFailed:
    problem = f"it printed something that this program does not know: {ended.stdout[:200]!r}"
    return DeviceCommandFailed("ios", ended.argv, ended.returncode, problem)


def _relative(remote: PurePosixPath) -> str:
    return str(remote.relative_to("/"))


def _mirror(local: Path, inside: Path) -> None:
    """The same content under another name, without a second copy where the system can do that."""
    try:
        inside.symlink_to(local.absolute(), target_is_directory=local.is_dir())
    except OSError:  # Windows without the right to make links
        if local.is_dir():
            shutil.copytree(local, inside)
        else:
            shutil.copyfile(local, inside)


def _size(local: Path) -> int:
    files = [path for path in local.rglob("*") if path.is_file()] if local.is_dir() else [local]
    return sum(path.stat().st_size for path in files)
