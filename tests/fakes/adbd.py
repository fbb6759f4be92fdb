"""An adbd in this process, for what a real one cannot be made to do: ask for keys, refuse, stay silent, break off.

with FakeAdbd(services={"shell,v2,raw:true": [exit_packet(0)]}) as adbd:
    link = DirectLink("fake", "127.0.0.1", adbd.port)
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

HEADER = struct.Struct("<6I")


def words(command: bytes) -> int:
    """A command as the number that is sent."""
    return int.from_bytes(command, "little")


def shell_packet(kind: int, payload: bytes) -> bytes:
    """A packet of the shell protocol, version 2: 1 stdout, 2 stderr, 3 exit."""
    return struct.pack("<BI", kind, len(payload)) + payload


def exit_packet(code: int) -> bytes:
    """How a shell ends."""
    return shell_packet(3, bytes([code]))


class FakeAdbd:
    """Listens on 127.0.0.1.

    Args:
        services: Service -> what it sends, piece by piece, before it closes; a number is a pause in seconds; None
            breaks the connection. A service that is not here is refused.
        wants_key: Ask for a key, and accept only what `accepts_signature` accepts.
        version: What it says about itself: from 0x01000001 on, checksums are neither sent nor looked at.
        wants_tls: Ask for an encrypted link, as wireless debugging does.
        breaks_off: This many connections are closed before a word is said.
        early: Sent as soon as a stream is written to, before the write is acknowledged.

    Attributes:
        connections: How many came.
        opened: The services that were asked for.
        public_keys: Those that were shown for confirmation.
        wrong_checksums: Packets whose checksum was wrong.
    """

    def __init__(
        self,
        *,
        services: Mapping[str, Sequence[bytes | float | None]] | None = None,
        wants_key: bool = False,
        accepts_signature: Callable[[bytes, bytes], bool] = lambda _token, _signature: False,
        version: int = 0x01000001,
        breaks_off: int = 0,
        wants_tls: bool = False,
        early: bytes = b"",
    ) -> None:
        self._services = dict(services or {})
        self._wants_key, self._accepts_signature = wants_key, accepts_signature
        self._version, self._breaks_off, self._early = version, breaks_off, early
        self._wants_tls = wants_tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.opened: list[str] = []
        self.public_keys: list[bytes] = []
        self.wrong_checksums = 0
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(5)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                self.connections += 1
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), connection:
            if self.connections <= self._breaks_off:
                return
            self._greet(connection)
            while True:
                command, theirs, _, data = self._read(connection)
                if command == b"OPEN":
                    self._serve_service(connection, theirs, data.rstrip(b"\0").decode())
                elif command == b"WRTE":
                    if self._early:
                        self._send(connection, b"WRTE", 7, theirs, self._early)
                        self._early = b""
                    self._send(connection, b"OKAY", 7, theirs)

    def _greet(self, connection: socket.socket) -> None:
        self._read(connection)
        if self._wants_tls:
            self._send(connection, b"STLS", 0x01000000, 0, b"")
        token = b"t" * 20
        while self._wants_key:
            self._send(connection, b"AUTH", 1, 0, token)
            _, kind, _, data = self._read(connection)
            if kind == 2 and self._accepts_signature(token, data):
                break
            if kind == 3:
                self.public_keys.append(data)
                time.sleep(30)  # nobody confirms it
        self._send(connection, b"CNXN", self._version, 4096, b"device::features=shell_v2,cmd")

    def _serve_service(self, connection: socket.socket, theirs: int, service: str) -> None:
        self.opened.append(service)
        if service not in self._services:
            self._send(connection, b"CLSE", 0, theirs)
            return
        self._send(connection, b"OKAY", 7, theirs)
        for piece in self._services[service]:
            if piece is None:
                connection.shutdown(socket.SHUT_RDWR)
                return
            if isinstance(piece, bytes):
                self._send(connection, b"WRTE", 7, theirs, piece)
                self._read(connection)
            else:
                time.sleep(piece)
        if self._services[service]:
            self._send(connection, b"CLSE", 7, theirs)

    def _send(self, connection: socket.socket, command: bytes, arg0: int, arg1: int, data: bytes = b"") -> None:
        check = 0 if self._version >= 0x01000001 else sum(data)
        word = words(command)
        connection.sendall(HEADER.pack(word, arg0, arg1, len(data), check, word ^ 0xFFFFFFFF) + data)

    def _read(self, connection: socket.socket) -> tuple[bytes, int, int, bytes]:
        word, arg0, arg1, size, check, _ = HEADER.unpack(_exactly(connection, HEADER.size))
        data = _exactly(connection, size)
        if self._version < 0x01000001 and check != sum(data):
            self.wrong_checksums += 1
        return word.to_bytes(4, "little"), arg0, arg1, data


class FakeAdbServer:
    """An adb server that says what a test wants: request -> the raw answer; anything else is refused."""

    def __init__(self, answers: Mapping[str, bytes]) -> None:
        self._answers = dict(answers)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.asked: list[str] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, contextlib.suppress(OSError, EOFError):
                    while True:
                        request = _exactly(connection, int(_exactly(connection, 4), 16)).decode()
                        self.asked.append(request)
                        connection.sendall(self._answers.get(request, failed("unknown host service")))


def failed(text: str) -> bytes:
    """A refusal, as adb servers say it."""
    return b"FAIL" + block(text)


def block(text: str) -> bytes:
    """Text behind its length."""
    return f"{len(text):04x}{text}".encode()


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)
