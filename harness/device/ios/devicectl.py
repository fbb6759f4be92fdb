"""iPhones through `xcrun devicectl`, on a Mac with Xcode 15 or newer.

What it prints is for people; its only interface for programs is the file of `--json-output`, which it writes whether
the command went well or not: `info.outcome`, then `result` or `error`. Keys and commands follow `xcrun devicectl help`
and public captures of its JSON. Nobody has run this module on a Mac yet; its tests use captures and a fake program.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from typing import TYPE_CHECKING, Any

from harness.device.ios.transport import (
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
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path, PurePosixPath

LIST_TIMEOUT_S = 30.0
QUERY_TIMEOUT_S = 30.0

_NOT_THERE = ("No such file or directory", "does not exist", "doesn’t exist", "NSPOSIXErrorDomain 2")
_GONE = ("device was not found", "not connected", "connection to this device could not be established", "timed out")
_UNTRUSTED = ("not paired", "pairing", "Trust")
_LOCKED = ("Locked", "was not, or could not be, unlocked", "passcode", "device is locked")
_FULL = ("No space left on device", "NSFileWriteOutOfSpaceError", "not enough space")
_NO_APP = ("ContainerLookupErrorDomain", "is not installed", "No application", "Unable to find application")


def find_command() -> tuple[str, ...] | None:
    """`xcrun devicectl` where there is a Mac with Xcode."""
    if platform.system() != "Darwin":
        return None
    found = shutil.which("xcrun")
    return (found, "devicectl") if found else None


def connected(command: Sequence[str]) -> tuple[FoundPhone, ...]:
    """Every phone and tablet that this Mac has paired with and that is there now.

    Raises:
        DeviceCommandFailed: The command failed, or its JSON is not what this was written for.
    """
    argv, answer = _run("ios", command, ("list", "devices"), timeout_s=LIST_TIMEOUT_S)
    return read_list(argv, answer)


def read_list(argv: tuple[str, ...], answer: dict[str, Any]) -> tuple[FoundPhone, ...]:
    """What `list devices` wrote. Watches, televisions, simulators and phones that are away are left out."""
    devices = _result(argv, answer).get("devices")
    if not isinstance(devices, list):
        raise _unknown(argv, "result.devices")
    found = []
    for device in devices:
        hardware = _part(argv, device, "hardwareProperties")
        properties = _part(argv, device, "deviceProperties")
        connection = _part(argv, device, "connectionProperties")
        if hardware.get("platform") != "iOS" or hardware.get("reality") != "physical":
            continue
        # Every property may describe a phone as it was when it was last here. `unavailable` is the one word for away.
        if connection.get("tunnelState") == "unavailable":
            continue
        udid, product = hardware.get("udid"), hardware.get("productType")
        if not isinstance(udid, str):
            raise _unknown(argv, "hardwareProperties.udid")
        system = "iPadOS" if str(product).startswith("iPad") else "iOS"
        version = properties.get("osVersionNumber")
        found.append(
            FoundPhone(
                id=udid,
                name=properties.get("name"),
                product_type=product,
                os=f"{system} {version}" if version else None,
                os_build=properties.get("osBuildUpdate"),
            )
        )
    return tuple(found)


class DeviceCtl:
    """One phone through `devicectl`. See `Transport`.

    Args:
        command: How it is started.
        device_id: The phone's UDID.
        app: The bundle identifier of the runner app.
    """

    name = "devicectl"
    can_remove = False

    def __init__(self, command: Sequence[str], device_id: str, *, app: str) -> None:
        self._command, self._device_id, self._app = tuple(command), device_id, app

    def hurdles(self) -> tuple[Hurdle, ...]:
        """See `Transport`."""
        try:
            argv, answer = _run(self._device_id, self._command, ("list", "devices"), timeout_s=LIST_TIMEOUT_S)
            device = self._own_entry(argv, answer)
            found = list(_entry_hurdles(argv, device))
            if not found and not self._app_is_installed():
                found.append(hurdle_of(self._device_id, AppMissing(self._device_id, self._app)))
        except DeviceError as error:
            return (hurdle_of(self._device_id, error),)
        return tuple(found)

    def put(self, local: Path, remote: PurePosixPath, *, timeout_s: float) -> None:
        """See `Transport`."""
        argv, answer = self._copy("to", str(local.absolute()), str(remote.relative_to("/")), timeout_s=timeout_s)
        if _failed(argv, answer):
            if any(word in _words(answer) for word in _FULL):
                raise DeviceFull(self._device_id, str(remote), None)
            raise self._error(argv, answer)

    def get(self, remote: PurePosixPath, local: Path, *, timeout_s: float) -> bool:
        """See `Transport`."""
        with scratch_folder() as scratch:
            there = scratch / remote.name
            argv, answer = self._copy("from", str(remote.relative_to("/")), str(there), timeout_s=timeout_s)
            if _failed(argv, answer):
                if any(word in _words(answer) for word in _NOT_THERE):
                    return False
                raise self._error(argv, answer)
            move_into_place(there, local)
        return True

    def remove(self, remote: PurePosixPath, *, timeout_s: float) -> None:
        """Does nothing: `devicectl` cannot remove a file. The app removes results that are an hour old."""

    def launch(self, *, timeout_s: float) -> str | None:
        """See `Transport`."""
        arguments = ("device", "process", "launch", "--terminate-existing", "--device", self._device_id, self._app)
        argv, answer = _run(self._device_id, self._command, arguments, timeout_s=timeout_s)
        if _failed(argv, answer):
            error = self._error(argv, answer)
            if isinstance(error, DeviceCommandFailed):
                return error.stderr
            raise error
        return None

    def install(self, app: Path, *, timeout_s: float) -> None:
        """See `Transport`."""
        arguments = ("device", "install", "app", "--device", self._device_id, str(app))
        argv, answer = _run(self._device_id, self._command, arguments, timeout_s=timeout_s)
        if not _failed(argv, answer):
            return
        if any(word in _words(answer) for word in _FULL):
            raise DeviceFull(self._device_id, app.name, None)
        error = self._error(argv, answer)
        raise AppRefused(self._device_id, app.name, error.stderr) if isinstance(error, DeviceCommandFailed) else error

    def _own_entry(self, argv: tuple[str, ...], answer: dict[str, Any]) -> dict[str, Any]:
        for device in _result(argv, answer).get("devices", []):
            if _part(argv, device, "hardwareProperties").get("udid") == self._device_id:
                return dict(device)
        raise offline(self._device_id, "devicectl does not list it")

    def _app_is_installed(self) -> bool:
        arguments = ("device", "info", "apps", "--device", self._device_id, "--bundle-id", self._app)
        argv, answer = _run(self._device_id, self._command, arguments, timeout_s=QUERY_TIMEOUT_S)
        if _failed(argv, answer):
            raise self._error(argv, answer)
        apps = _result(argv, answer).get("apps")
        if not isinstance(apps, list):
            raise _unknown(argv, "result.apps")
        return any(app.get("bundleIdentifier") == self._app for app in apps)

    def _copy(self, way: str, source: str, target: str, *, timeout_s: float) -> tuple[tuple[str, ...], dict[str, Any]]:
        arguments = (
            *("device", "copy", way, "--device", self._device_id),
            *("--domain-type", "appDataContainer", "--domain-identifier", self._app),
            *("--source", source, "--destination", target),
        )
        return _run(self._device_id, self._command, arguments, timeout_s=timeout_s)

    def _error(self, argv: tuple[str, ...], answer: dict[str, Any]) -> DeviceError:
        words = _words(answer)
        if any(word in words for word in _NO_APP):
            return AppMissing(self._device_id, self._app)
        if any(word in words for word in _LOCKED):
            return DeviceLocked(self._device_id, words)
        if any(word in words for word in _GONE):
            return offline(self._device_id, words)
        if any(word in words for word in _UNTRUSTED):
            return untrusted(self._device_id, words)
        return DeviceCommandFailed(self._device_id, argv, 1, words)


def _entry_hurdles(argv: tuple[str, ...], device: dict[str, Any]) -> tuple[Hurdle, ...]:
    connection, properties = _part(argv, device, "connectionProperties"), _part(argv, device, "deviceProperties")
    if connection.get("pairingState") != "paired":
        advice = "Unlock it, accept this Mac in its dialog, and open Xcode > Window > Devices once."
        return (Hurdle(name="pairing", found="it is not paired with this Mac", advice=advice),)
    if connection.get("tunnelState") == "unavailable":
        return (Hurdle(name="offline", found="it is paired with this Mac and away", advice="Plug it in."),)
    found = []
    if properties.get("developerModeStatus") == "disabled":
        advice = "Settings > Privacy & Security > Developer Mode, then restart the phone."
        found.append(Hurdle(name="developer-mode", found="Developer Mode is off", advice=advice))
    if properties.get("ddiServicesAvailable") is False and connection.get("tunnelState") == "connected":
        advice = "Keep it unlocked while Xcode prepares it, or open the app by hand."
        found.append(Hurdle(name="tunnel", found="its developer services do not run", advice=advice, blocks=False))
    return tuple(found)


def _run(
    device_id: str, command: Sequence[str], arguments: Sequence[str], *, timeout_s: float
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Run it and read its file: the whole argument list, and what the file says."""
    with scratch_folder() as scratch:
        output = scratch / "answer.json"
        argv = (*command, *arguments, "--json-output", str(output))
        ended = run_client(device_id, argv, environment=dict(os.environ), timeout_s=timeout_s)
        try:
            answer = json.loads(output.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            problem = ended.words or "it wrote no JSON"
            raise DeviceCommandFailed(device_id, ended.argv, ended.returncode, problem) from None
    if not isinstance(answer, dict) or not isinstance(answer.get("info"), dict):
        raise _unknown(ended.argv, "info")
    return ended.argv, answer


def _failed(argv: tuple[str, ...], answer: dict[str, Any]) -> bool:
    outcome = answer["info"].get("outcome")
    if outcome not in {"success", "failed"}:
        raise _unknown(argv, "info.outcome")
    return bool(outcome == "failed")


def _result(argv: tuple[str, ...], answer: dict[str, Any]) -> dict[str, Any]:
    if _failed(argv, answer):
        raise DeviceCommandFailed("ios", argv, 1, _words(answer))
    result = answer.get("result")
    if not isinstance(result, dict):
        raise _unknown(argv, "result")
    return result


def _part(argv: tuple[str, ...], device: Any, key: str) -> dict[str, Any]:  # noqa: ANN401  (foreign JSON)
    part = device.get(key) if isinstance(device, dict) else None
    if not isinstance(part, dict):
        raise _unknown(argv, f"result.devices[].{key}")
    return part


def _words(answer: dict[str, Any]) -> str:
    """Every sentence of an error and of the errors below it, the outermost first.

    Source: NSError as CoreDevice writes it: `domain`, `code`, `userInfo.KEY.string` or `userInfo.KEY.error`.
    """
    said: list[str] = []
    error = answer.get("error")
    while isinstance(error, dict):
        said.append(f"{error.get('domain')} {error.get('code')}")
        inner = None
        for entry in (error.get("userInfo") or {}).values():
            if isinstance(entry, dict) and isinstance(entry.get("string"), str):
                said.append(entry["string"])
            elif isinstance(entry, dict) and isinstance(entry.get("error"), dict):
                inner = entry["error"]
        error = inner
    return " ".join(said)


def _unknown(argv: tuple[str, ...], key: str) -> DeviceCommandFailed:
    return DeviceCommandFailed("ios", argv, 0, f"its JSON has no {key} that this program knows")
