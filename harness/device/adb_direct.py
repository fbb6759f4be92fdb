"""Devices in the network, reached without an adb server: one TCP connection a service, by adb-shell."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from harness.device.adb_errors import mapped
from harness.device.adb_link import reached
from harness.errors import BadSetting, DeviceTimedOut, DeviceUnauthorized, LinkLost, MissingExtra
from harness.workspace import cache_dir

if TYPE_CHECKING:
    from harness.device.adb_link import AdbStream, Deadline
    from harness.device.adb_wire import Connection

PREFIX = "adb://"
DEFAULT_PORT = 5555
CONFIRMATION_S = 10.0
"""How long a person has to confirm a new key on the device's screen, if the call's own time-out is not shorter."""


def read_address(device_id: str) -> tuple[str, int]:
    """Host and port of `adb://HOST:PORT`.

    Raises:
        BadSetting: It is none.
    """
    match = re.fullmatch(r"adb://(\[[0-9a-fA-F:]+\]|[^:/\s\[\]]+)(?::(\d{1,5}))?", device_id)
    if match is None or not 0 < int(match[2] or DEFAULT_PORT) < 2**16:
        raise BadSetting("a device's id", None, device_id, "is no address", ("adb://HOST", "adb://HOST:PORT"))
    return match[1].strip("[]"), int(match[2] or DEFAULT_PORT)


def key_folder() -> Path:
    """Where our key for devices is: `HARNESS_ADB_KEYS`, or in the cache. Never ~/.android, unless that is named."""
    chosen = os.environ.get("HARNESS_ADB_KEYS")
    return Path(chosen) if chosen else cache_dir() / "adb"


class DirectLink:
    """The way to an adbd that listens in the network.

    Args:
        device_id: For error messages.
        host: Name or address.
        port: Of its adbd.
        keys: Folder of the RSA key; made there when a device first asks for one. None for `key_folder()`.
    """

    def __init__(self, device_id: str, host: str, port: int = DEFAULT_PORT, *, keys: Path | None = None) -> None:
        self._device_id, self._host, self._port = device_id, host, port
        self._keys = keys or key_folder()

    def open(self, service: str, deadline: Deadline) -> AdbStream:
        """Connect to a service of the device."""
        try:
            from harness.device.adb_wire import Stream  # noqa: PLC0415  (0.1 s, and optional)
        except ImportError:
            raise MissingExtra("adb-shell", "a device reached without an adb server", "android") from None
        # Only the way to the device is tried again: whatever the service does must not be done twice.
        connection = reached(self._device_id, lambda: self._connect(deadline), deadline)
        try:
            return Stream(connection, service, deadline)
        except BaseException:
            connection.close()
            raise

    def _connect(self, deadline: Deadline) -> Connection:
        from harness.device.adb_wire import Connection  # noqa: PLC0415

        connection = Connection(self._host, self._port)
        left_s = deadline.left_s()
        asked: list[object] = []
        try:
            with mapped(deadline, connecting=True):
                connection.connect(
                    rsa_keys=[_Signer(self._keys)],
                    transport_timeout_s=left_s,
                    read_timeout_s=left_s,
                    auth_timeout_s=min(left_s or CONFIRMATION_S, CONFIRMATION_S),
                    auth_callback=asked.append,
                )
        except BaseException as error:
            connection.close()
            if asked and isinstance(error, DeviceTimedOut | LinkLost):
                problem = f"it does not know the key in {self._keys}, and nobody confirmed it"
                raise DeviceUnauthorized(self._device_id, problem) from error
            raise
        return connection


class _Signer:
    """Our key as adb-shell wants it; made and read only when a device asks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._signer: Any = None

    def Sign(self, data: bytes) -> bytes:  # noqa: N802  (adb-shell's name)
        """Sign a token."""
        signed: bytes = self._loaded().Sign(data)
        return signed

    def GetPublicKey(self) -> bytes:  # noqa: N802
        """What the device shows to its user."""
        key: bytes = self._loaded().GetPublicKey()
        return key

    def _loaded(self) -> Any:  # noqa: ANN401  (a class of adb-shell, which has no types)
        if self._signer is None:
            from adb_shell.auth.sign_cryptography import CryptographySigner  # noqa: PLC0415

            self._signer = CryptographySigner(str(make_key(self._folder)))
        return self._signer


def make_key(folder: Path) -> Path:
    """The private key in a folder, made if there is none; only its owner may read it.

    Raises:
        MissingExtra: adb-shell is not installed.
    """
    try:
        from adb_shell.auth.keygen import keygen  # noqa: PLC0415
    except ImportError:
        raise MissingExtra("adb-shell", "a key for devices", "android") from None
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key, making = folder / "adbkey", folder / "adbkey.making"
    with FileLock(folder / ".lock"):
        if not key.is_file():
            making.touch(mode=0o600)
            keygen(str(making))
            making.with_name("adbkey.making.pub").replace(folder / "adbkey.pub")
            making.replace(key)
    return key
