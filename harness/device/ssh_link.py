"""The way to a board: one ssh connection, kept open, that carries commands and files.

A command is told in the packets of adb's shell protocol, so that everything above is the same as for a phone.
asyncssh reads ~/.ssh/config, known_hosts, keys and the agent, as `ssh` does. It runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import importlib
import shlex
import signal
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from harness.device.adb_errors import file_error
from harness.device.adb_link import reached
from harness.device.adb_services import EXIT, STDERR, STDIN, STDOUT, ShellPackets, shell_packet
from harness.errors import (
    DeviceError,
    DeviceNotFound,
    DeviceRefused,
    DeviceUnauthorized,
    LinkLost,
    MissingExtra,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path
    from types import ModuleType

    import asyncssh

    from harness.device.adb_link import AdbStream, Deadline

_COMMAND = "shell,v2,raw:"
_CONNECT_S = 20.0
_KEEPALIVE_S = 5.0
"""A board that does not answer three of these in a row has gone."""
_PIECE_BYTES = 64 * 1024
_QUEUED_PIECES = 64
_Result = TypeVar("_Result")


class SshLink:
    """The way to one board. Connects when it is first used, and again after the connection was lost.

    Args:
        device_id: For error messages.
        host: Name or address.
        port: None for what ~/.ssh/config says, or 22.
        user: None for what ~/.ssh/config says, or the present one.
    """

    def __init__(self, device_id: str, host: str, *, port: int | None = None, user: str | None = None) -> None:
        self._device_id, self._host, self._port, self._user = device_id, host, port, user
        self._connection: asyncssh.SSHClientConnection | None = None
        self._lock = threading.Lock()

    def open(self, service: str, deadline: Deadline) -> AdbStream:
        """Start a command, `shell,v2,raw:COMMAND`.

        Raises:
            DeviceError: The board cannot be reached, or does not let us in.
        """
        command = f"exec sh -c {shlex.quote(service.removeprefix(_COMMAND))}"
        connection = self._connected(deadline)
        process = self._do(connection.create_process(command, encoding=None), deadline)
        return _SshStream(self, process)

    def put(self, local: Path, remote: str, mode: int, deadline: Deadline, *, shown_as: str, size: int) -> None:
        """Write a file there."""
        connection = self._connected(deadline)

        async def work() -> None:
            async with connection.start_sftp_client() as sftp:
                await sftp.put(str(local), remote)
                await sftp.chmod(remote, mode)

        self._do_file("push", shown_as, work(), deadline, size)

    def get(self, remote: str, local: Path, deadline: Deadline) -> None:
        """Fetch a file."""
        connection = self._connected(deadline)

        async def work() -> None:
            async with connection.start_sftp_client() as sftp:
                await sftp.get(remote, str(local))

        self._do_file("pull", remote, work(), deadline)

    def close(self) -> None:
        """End the connection, and all that runs through it."""
        with self._lock:
            if self._connection is not None:
                _loop().call_soon_threadsafe(self._connection.abort)
                self._connection = None

    def _connected(self, deadline: Deadline) -> asyncssh.SSHClientConnection:
        with self._lock:
            if self._connection is None or self._connection.is_closed():
                self._connection = reached(self._device_id, lambda: self._connect(deadline), deadline)
            return self._connection

    def _connect(self, deadline: Deadline) -> asyncssh.SSHClientConnection:
        options: dict[str, Any] = {
            "keepalive_interval": _KEEPALIVE_S,
            "connect_timeout": _CONNECT_S,
            "login_timeout": _CONNECT_S,
        }
        if self._port is not None:
            options["port"] = self._port
        if self._user is not None:
            options["username"] = self._user
        connecting: Awaitable[asyncssh.SSHClientConnection] = _asyncssh().connect(self._host, **options)
        return self._do(connecting, deadline, connecting=True)

    def _do_file(
        self, action: str, path: str, work: Awaitable[None], deadline: Deadline, size: int | None = None
    ) -> None:
        client = _asyncssh()
        try:
            self._do(work, deadline)
        except client.SFTPError as error:
            raise file_error(self._device_id, action, path, str(error.reason), size) from error

    def _do(self, work: Awaitable[_Result], deadline: Deadline, *, connecting: bool = False) -> _Result:
        """Wait for a coroutine; what goes wrong in it is one of our errors, but for files."""
        future = asyncio.run_coroutine_threadsafe(_awaited(work), _loop())
        try:
            return future.result(deadline.left_s())
        except (TimeoutError, concurrent.futures.TimeoutError):
            future.cancel()
            raise deadline.passed() from None
        except (DeviceError, KeyboardInterrupt):
            future.cancel()
            raise
        except Exception as error:
            found = self._error(error, deadline, connecting=connecting)
            if found is None:
                raise
            raise found from error

    def _error(self, error: Exception, deadline: Deadline, *, connecting: bool) -> DeviceError | None:
        """The one place where foreign errors become ours; None for one that is somebody else's."""
        client, device = _asyncssh(), self._device_id
        if isinstance(error, client.SFTPError) and not isinstance(error, client.SFTPConnectionLost):
            return None
        if isinstance(error, client.PermissionDenied):
            return DeviceUnauthorized(device, error.reason, f"Let our key in: ssh-copy-id {self._where}")
        if isinstance(error, client.HostKeyNotVerifiable):
            problem = "its host key is not known here, or another one than before"
            advice = f"look at it, and accept it by hand if it is the board's: ssh {self._where}"
            return DeviceRefused(device, "a connection we can trust", f"{problem}; {advice}")
        if isinstance(error, client.ChannelOpenError):
            return DeviceRefused(device, deadline.what, str(error))
        if isinstance(error, client.ConnectionLost | ConnectionResetError):  # while connecting: an sshd that is busy
            return LinkLost(device, deadline.what, str(error))
        if isinstance(error, client.Error | OSError | EOFError):
            if not connecting:
                return LinkLost(device, deadline.what, str(error))
            problem = "nothing listens there" if isinstance(error, ConnectionRefusedError) else str(error)
            return DeviceNotFound(device, problem, f"Is it switched on, and does its sshd run? Try: ssh {self._where}")
        return None

    @property
    def _where(self) -> str:
        """As `ssh` takes it."""
        port = f"-p {self._port} " if self._port is not None else ""
        return f"{port}{self._user}@{self._host}" if self._user else f"{port}{self._host}"


class _SshStream:
    """A command's input and output as packets of adb's shell protocol."""

    def __init__(self, link: SshLink, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._link, self._process = link, process
        self._sent = ShellPackets()
        self._packets: asyncio.Queue[bytes] = asyncio.Queue(_QUEUED_PIECES)
        self._pump = asyncio.run_coroutine_threadsafe(self._pumped(), _loop())

    def send(self, data: bytes | memoryview, deadline: Deadline) -> None:
        """Hand packets of the command's input on. What a command that has ended is sent is lost."""
        for kind, payload in self._sent.feed(bytes(data)):
            if kind == STDIN:
                self._link._do(self._written(payload), deadline)  # noqa: SLF001

    def receive(self, deadline: Deadline) -> bytes:
        """The next packet; nothing at the end."""
        return self._link._do(self._packets.get(), deadline)  # noqa: SLF001

    def close(self) -> None:
        """End the command's input, by which it knows, and the reading."""
        _loop().call_soon_threadsafe(self._process.close)
        self._pump.cancel()
        asyncio.run_coroutine_threadsafe(self._ended(), _loop())

    async def _written(self, payload: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionError):
            self._process.stdin.write(payload)
            await self._process.stdin.drain()

    async def _pumped(self) -> None:
        with contextlib.suppress(Exception):  # a lost connection is an end without an exit code
            await asyncio.gather(self._copied(self._process.stdout, STDOUT), self._copied(self._process.stderr, STDERR))
            await self._process.wait_closed()
            code = _exit_byte(self._process)
            if code is not None:
                await self._packets.put(shell_packet(EXIT, bytes([code])))
        await self._packets.put(b"")

    async def _copied(self, reader: asyncssh.SSHReader[bytes], kind: int) -> None:
        while data := await reader.read(_PIECE_BYTES):
            await self._packets.put(shell_packet(kind, data))

    async def _ended(self) -> None:
        """A `receive` that waits in another thread finds the end."""
        while self._packets.full():
            self._packets.get_nowait()
        self._packets.put_nowait(b"")


def _exit_byte(process: asyncssh.SSHClientProcess[bytes]) -> int | None:
    """As a shell says it: above 128 for a signal; None where the connection ended first."""
    if process.exit_signal is not None:
        return 128 + getattr(signal, f"SIG{process.exit_signal[0]}", signal.SIGKILL)
    code: int | None = process.exit_status
    return None if code is None or code < 0 else code


async def _awaited(work: Awaitable[_Result]) -> _Result:
    """A coroutine of what can only be awaited."""
    return await work


_started: list[asyncio.AbstractEventLoop] = []
_starting = threading.Lock()


def _loop() -> asyncio.AbstractEventLoop:
    """The loop in which all connections live, started with the first of them."""
    with _starting:
        if not _started:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="ssh", daemon=True).start()
            _started.append(loop)
        return _started[0]


def _asyncssh() -> ModuleType:
    try:
        return importlib.import_module("asyncssh")  # 0.3 s
    except ImportError:
        raise MissingExtra("asyncssh", "a board that is reached by ssh", "boards") from None
