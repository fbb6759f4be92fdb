"""adb-shell 0.4.4 with its defects mended. It subclasses that package, so it is imported only by who needs it.

| defect | seen as | mended in |
|---|---|---|
| `bulk_write` takes a partial send of its non-blocking socket for a whole one | a push hangs | `Transport.bulk_write` |
| an ended connection is read again and again until the time-out | a full processor for 10 s | `Transport.bulk_read` |
| no TCP_NODELAY | 40 ms a command | `Transport.connect` |
| reading gives up after 10 s of silence whatever the caller said | silent commands die | `Stream`, by its deadlines |
| a service that the device refuses is waited for until the time-out | an old device hangs | `Stream` |
| what a device says while it is being written to is dropped | a full disk hangs | `Stream.send` |
| a checksum of every byte, in Python, which devices since Android 9 do not want | a third of the speed | `_Packets` |
| the first version of the shell protocol | no exit code, one output | `shell,v2` (`adb_services.py`) |

Source: protocol.txt of AOSP's packages/modules/adb 34.0.5.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

from adb_shell import constants
from adb_shell.adb_device import AdbDevice, _AdbIOManager, _AdbTransactionInfo
from adb_shell.adb_message import AdbMessage, unpack
from adb_shell.exceptions import InvalidCommandError
from adb_shell.transport.tcp_transport import TcpTransport

from harness.device.adb_errors import AdbFailed, PeerClosed, mapped
from harness.device.two_way_socket import open_socket, receive_some, send_all

if TYPE_CHECKING:
    from harness.device.adb_link import Deadline

SKIP_CHECKSUM_VERSION = 0x01000001
_STARTTLS = int.from_bytes(b"STLS", "little")
"""Source: packages/modules/adb/protocol.txt of Android 11, A_STLS."""
_PIECE_BYTES = 256 * 1024
_FOREVER_S = 1e9
_OTHER_READER_S = 0.1


class Transport(TcpTransport):  # type: ignore[misc]  # adb-shell has no types
    """A TCP connection that sends all, ends at the end, and does not wait for company."""

    _connection: socket.socket | None

    def connect(self, transport_timeout_s: float | None) -> None:
        """Connect."""
        self._connection = open_socket(self._host, self._port, transport_timeout_s)

    def bulk_read(self, numbytes: int, transport_timeout_s: float | None) -> bytes:
        """What has come, at least one byte.

        Raises:
            PeerClosed: Nothing will come any more.
            TimeoutError: Nothing came in time.
        """
        data = receive_some(self._connected(), min(numbytes, _PIECE_BYTES), transport_timeout_s)
        if not data:
            problem = "the device closed the connection"
            raise PeerClosed(problem)
        return data

    def bulk_write(self, data: bytes | memoryview, transport_timeout_s: float | None) -> int:
        """Send all of it.

        Raises:
            TimeoutError: The device did not take it in time.
        """
        send_all(self._connected(), data, transport_timeout_s)
        return len(data)

    def close(self) -> None:
        """End the connection, also from another thread; whoever waits in it gets an error at once."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _connected(self) -> socket.socket:
        if self._connection is None:
            problem = "the connection is closed"
            raise PeerClosed(problem)
        return self._connection


class _Message(AdbMessage):  # type: ignore[misc]
    """A packet without a checksum."""

    @property
    def checksum(self) -> int:
        return 0


class _Packets(_AdbIOManager):  # type: ignore[misc]
    """Packets with a checksum only for devices that look at it."""

    device_version = constants.VERSION

    def _send(self, msg: Any, adb_info: Any) -> None:  # noqa: ANN401
        if msg.command == constants.ID_TO_WIRE[constants.CNXN]:
            msg.arg0 = SKIP_CHECKSUM_VERSION
        elif self.device_version >= SKIP_CHECKSUM_VERSION:
            msg.__class__ = _Message
        super()._send(msg, adb_info)

    def _read_packet_from_device(self, adb_info: Any) -> tuple[bytes, int, int, bytes]:  # noqa: ANN401
        word, arg0, arg1, size, _ = unpack(self._read_bytes_from_device(constants.MESSAGE_SIZE, adb_info))
        command = constants.WIRE_TO_ID.get(word)
        if word == _STARTTLS:
            problem = "it wants the encrypted link of wireless debugging, which an adb server has: `adb pair`"
            raise AdbFailed(problem)
        if command is None:
            problem = f"unknown command {word:#010x}"
            raise InvalidCommandError(problem)
        data = self._read_bytes_from_device(size, adb_info) if size else b""
        if command == constants.CNXN:
            self.device_version = arg0
        return command, arg0, arg1, data


class Connection(AdbDevice):  # type: ignore[misc]
    """One connection to one adbd. It carries one stream, so that nobody waits for anybody."""

    def __init__(self, host: str, port: int) -> None:
        self._wire = Transport(host, port)
        super().__init__(self._wire, banner=b"inference-harness")
        self._io_manager = _Packets(self._wire)
        self._turn = threading.Lock()
        self._reading = _AdbTransactionInfo(1, None, None, _FOREVER_S, None)
        self._writing = _AdbTransactionInfo(1, None, None, _FOREVER_S, None)

    @property
    def most_bytes(self) -> int:
        """How much one packet may carry."""
        return int(self._maxdata)

    def interrupt(self) -> None:
        """End it, from any thread. Not `close`, which waits for whoever is reading."""
        self._wire.close()

    def packet(self, deadline: Deadline) -> tuple[bytes, int, bytes]:
        """The next packet: its command, the device's number of the stream, its data."""
        self._reading.transport_timeout_s = deadline.left_s()
        command, theirs, _, data = self._io_manager._read_packet_from_device(self._reading)  # noqa: SLF001
        return command, theirs, data

    def write(self, command: bytes, theirs: int, data: bytes | memoryview, deadline: Deadline) -> None:
        """Send a packet, whole, whatever other threads send."""
        with self._turn:
            self._writing.transport_timeout_s = deadline.left_s()
            self._io_manager.send(AdbMessage(command, self._writing.local_id, theirs, data), self._writing)


class Stream:
    """One service of a device, as an `AdbStream`. Holds its connection, and ends it."""

    def __init__(self, connection: Connection, service: str, deadline: Deadline) -> None:
        self._connection = connection
        self._arrived: list[bytes] = []
        self._acknowledged = threading.Event()
        """What was sent last has arrived, so that more may be sent."""
        self._acknowledged.set()
        self._reader = threading.Lock()
        """Held by the thread that reads packets."""
        self._ended = False
        with mapped(deadline):
            connection.write(constants.OPEN, 0, service.encode() + b"\0", deadline)
            command, self._theirs, _ = connection.packet(deadline)
        if command != constants.OKAY:
            name = service.partition(":")[0]
            with mapped(deadline):
                problem = f"it has no service {name!r}"
                raise AdbFailed(problem)

    def send(self, data: bytes | memoryview, deadline: Deadline) -> None:
        """Send all of it; the device has acknowledged all but the last packet."""
        rest = memoryview(data)
        with mapped(deadline):
            while rest:
                self._await_acknowledgement(deadline)
                if self._ended:
                    problem = "the device closed the stream"
                    raise PeerClosed(problem)
                piece, rest = rest[: self._connection.most_bytes], rest[self._connection.most_bytes :]
                self._acknowledged.clear()
                self._connection.write(constants.WRTE, self._theirs, piece, deadline)

    def receive(self, deadline: Deadline) -> bytes:
        """What has come; nothing at the end of the stream."""
        with mapped(deadline), self._reader:
            while not self._arrived:
                if self._ended:
                    return b""
                self._handle_packet(deadline)
        return self._arrived.pop(0)

    def close(self) -> None:
        """End the connection."""
        self._connection.interrupt()

    def _await_acknowledgement(self, deadline: Deadline) -> None:
        while not self._acknowledged.is_set():
            if self._reader.acquire(blocking=False):
                try:
                    if not self._acknowledged.is_set():
                        self._handle_packet(deadline)
                finally:
                    self._reader.release()
            else:  # a thread in `receive` finds it, or ends and leaves the reading to us
                self._acknowledged.wait(min(deadline.left_s() or _OTHER_READER_S, _OTHER_READER_S))

    def _handle_packet(self, deadline: Deadline) -> None:
        command, _, data = self._connection.packet(deadline)
        if command == constants.OKAY:
            self._acknowledged.set()
        elif command == constants.WRTE:
            self._connection.write(constants.OKAY, self._theirs, b"", deadline)
            if data:
                self._arrived.append(data)
        elif command == constants.CLSE:
            self._ended = True
            self._acknowledged.set()
