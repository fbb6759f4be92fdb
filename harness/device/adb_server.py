"""Devices through an adb server: whatever it has found on USB, in the network and as emulators.

The protocol to the server is spoken here and not through adbutils, which starts a server of its own whenever it is
refused, ignores partial sends, drops the device's words when a push fails, and needs 23 ms a command. Its wheel is
where a current `adb` comes from when one has to be started.

Source: SERVICES.TXT and OVERVIEW.TXT of AOSP's packages/modules/adb, 36.0.0.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.device.adb_errors import AdbFailed, PeerClosed, mapped
from harness.device.adb_link import Deadline, reached
from harness.device.two_way_socket import open_socket, receive_some, send_all
from harness.errors import DeviceNotFound, DeviceRefused, DeviceTimedOut, DeviceUnauthorized, MissingExtra

if TYPE_CHECKING:
    from harness.device.adb_link import AdbStream

DEFAULT_PORT = 5037
_RECEIVE_BYTES = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class AdbServer:
    """Where an adb server listens."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class ServerDevice:
    """A device that a server knows."""

    serial: str
    state: str
    """`device` for one that answers; `offline`, `unauthorized`, `recovery`, `no permissions`..."""
    model: str | None


def default_server() -> AdbServer:
    """The server that `adb` itself would ask, by its environment variables.

    Source: adb(1): ADB_SERVER_SOCKET, ANDROID_ADB_SERVER_ADDRESS, ANDROID_ADB_SERVER_PORT.
    """
    named = re.fullmatch(r"tcp:(?:(.+):)?(\d+)", os.environ.get("ADB_SERVER_SOCKET", ""))
    if named:
        return AdbServer(host=named[1] or "127.0.0.1", port=int(named[2]))
    port = os.environ.get("ANDROID_ADB_SERVER_PORT", "")
    host = os.environ.get("ANDROID_ADB_SERVER_ADDRESS") or "127.0.0.1"
    return AdbServer(host=host, port=int(port) if port.isdecimal() else DEFAULT_PORT)


def server_devices(server: AdbServer | None = None, *, timeout_s: float = 2.0) -> tuple[ServerDevice, ...]:
    """What a server knows; nothing where none runs. Starts no server.

    Raises:
        DeviceTimedOut: The server does not answer.
    """
    try:
        return devices_of(server or default_server(), timeout_s=timeout_s)
    except DeviceNotFound:
        return ()


def devices_of(server: AdbServer, *, timeout_s: float = 10.0) -> tuple[ServerDevice, ...]:
    """What one server knows, which has to be there. Starts none.

    Raises:
        DeviceNotFound: No adb server runs there.
        DeviceTimedOut: It does not answer.
    """
    deadline = Deadline(f"adb server {server}", "listing its devices", timeout_s)
    with contextlib.closing(_ask(server, deadline, "host:devices-l")) as stream, mapped(deadline):
        return read_device_list(_block(stream, deadline))


def read_device_list(text: str) -> tuple[ServerDevice, ...]:
    """The lines of `adb devices -l`, below their heading.

    Source: append_transport in client/transport.cpp of AOSP's packages/modules/adb 36.0.0.
    """
    found = []
    for line in text.splitlines():
        match = re.match(r"(\S+)\s+(no permissions\b|\S+)(.*)", line)
        if match:
            model = re.search(r"\bmodel:(\S+)", match[3])
            found.append(ServerDevice(serial=match[1], state=match[2], model=model[1] if model else None))
    return tuple(found)


def start_server(server: AdbServer | None = None, *, timeout_s: float = 20.0) -> AdbServer:
    """Start an adb server on this machine, if none answers: with `adb` from the PATH, or the one in adbutils' wheel.

    Raises:
        MissingExtra: There is no adb.
        DeviceRefused: It did not start.
        DeviceTimedOut: It did not start in time.
    """
    server = server or default_server()
    command = (adb_program(), "-P", str(server.port), "start-server")
    try:
        ended = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        raise DeviceTimedOut(f"adb server {server}", "its start", timeout_s) from None
    if ended.returncode != 0:
        raise DeviceRefused(f"adb server {server}", "to start", ended.stderr.strip())
    return server


def connect(address: str, server: AdbServer | None = None, *, timeout_s: float = 15.0) -> None:
    """Have a server connect to a device in the network, as `adb connect` does.

    Raises:
        DeviceNotFound: Nothing answers at this address, or no server runs.
        DeviceUnauthorized: The device does not know the server's key. The server keeps it in its list and tries on.
    """
    server = server or default_server()
    deadline = Deadline(address, "adb connect", timeout_s)
    with contextlib.closing(_ask(server, deadline, f"host:connect:{address}")) as stream, mapped(deadline):
        said = _block(stream, deadline)
    # It says OKAY also where it failed; only the words tell.
    if said.startswith("failed to authenticate"):
        raise DeviceUnauthorized(address, said.strip())
    if not said.startswith(("connected to", "already connected")):
        raise DeviceNotFound(address, said.strip())


def disconnect(address: str, server: AdbServer | None = None, *, timeout_s: float = 5.0) -> None:
    """Have a server forget a device in the network."""
    server = server or default_server()
    deadline = Deadline(address, "adb disconnect", timeout_s)
    with contextlib.suppress(DeviceNotFound):
        _ask(server, deadline, f"host:disconnect:{address}").close()


def adb_program() -> str:
    """Path of `adb`.

    Raises:
        MissingExtra: It is not on the PATH, and adbutils is not installed.
    """
    found = shutil.which("adb")
    if found is not None:
        return found
    try:
        import adbutils  # noqa: PLC0415  (0.4 s)
    except ImportError:
        raise MissingExtra("adb", "an adb server", "android") from None
    name = "adb.exe" if os.name == "nt" else "adb"
    return str(Path(adbutils.__file__).parent / "binaries" / name)


class ServerLink:
    """The way to a device through an adb server.

    Args:
        device_id: For error messages.
        serial: Which device; empty for the only one there is.
        server: None for the one that `adb` itself would ask.
    """

    def __init__(self, device_id: str, serial: str, server: AdbServer | None = None) -> None:
        self._device_id, self._serial = device_id, serial
        self._server = server or default_server()

    def open(self, service: str, deadline: Deadline) -> AdbStream:
        """Connect to a service of the device."""
        # Only the way to the device is tried again: whatever the service does must not be done twice.
        stream = reached(self._device_id, lambda: self._to_device(deadline), deadline)
        try:
            with mapped(deadline):
                _request(stream, deadline, service)
        except BaseException:
            stream.close()
            raise
        return stream

    def _to_device(self, deadline: Deadline) -> _SocketStream:
        try:
            return _ask(
                self._server, deadline, f"host:transport:{self._serial}" if self._serial else "host:transport-any"
            )
        except DeviceNotFound as error:
            if error.problem != "nothing listens there":
                raise
            problem = (
                f"no adb server runs at {self._server}; start one: `harness devices --start-adb`, or adb start-server"
            )
            raise DeviceNotFound(self._device_id, problem) from None


class _SocketStream:
    """A socket as an `AdbStream`."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, data: bytes | memoryview, deadline: Deadline) -> None:
        with mapped(deadline):
            send_all(self._connection, data, deadline.left_s())

    def receive(self, deadline: Deadline) -> bytes:
        with mapped(deadline):
            return receive_some(self._connection, _RECEIVE_BYTES, deadline.left_s())

    def exactly(self, count: int, deadline: Deadline) -> bytes:
        """As many bytes, and no more: what follows belongs to the service."""
        parts = bytearray()
        while len(parts) < count:
            part = receive_some(self._connection, count - len(parts), deadline.left_s())
            if not part:
                problem = "the adb server closed the connection"
                raise PeerClosed(problem)
            parts += part
        return bytes(parts)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def _ask(server: AdbServer, deadline: Deadline, request: str) -> _SocketStream:
    with mapped(deadline, connecting=True):
        connection = open_socket(server.host, server.port, deadline.left_s())
    stream = _SocketStream(connection)
    try:
        with mapped(deadline):
            _request(stream, deadline, request)
    except BaseException:
        stream.close()
        raise
    return stream


def _request(stream: _SocketStream, deadline: Deadline, request: str) -> None:
    words = request.encode()
    stream.send(f"{len(words):04x}".encode() + words, deadline)
    answer = stream.exactly(4, deadline)
    if answer == b"FAIL":
        raise AdbFailed(_block(stream, deadline))
    if answer != b"OKAY":
        problem = f"what listens there is no adb server: it said {answer!r}"
        raise AdbFailed(problem)


def _block(stream: _SocketStream, deadline: Deadline) -> str:
    size = int(stream.exactly(4, deadline), 16)
    return stream.exactly(size, deadline).decode(errors="replace")
