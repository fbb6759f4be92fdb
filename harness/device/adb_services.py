"""What is said to a device's services once a stream to them is open: shell, version 2, and file transfer.

Source: shell_protocol.h and SYNC.TXT of AOSP's packages/modules/adb 34.0.5. Shell version 2 came with Android 7.
"""

from __future__ import annotations

import contextlib
import struct
import time
from typing import TYPE_CHECKING

from harness.device.adb_errors import AdbFailed, mapped
from harness.device.device import ShellResult
from harness.errors import LinkLost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from harness.device.adb_link import AdbLink, AdbStream, Deadline

STDIN, STDOUT, STDERR, EXIT = 0, 1, 2, 3
_BLOCK_BYTES = 64 * 1024
"""What adbd takes in one block of a file."""
_BLOCKS = 16
"""Sent at once: fewer, larger packets."""


class ShellPackets:
    """Takes a shell's stream apart: each packet is a number, a length and its data."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The packets that are complete with this data."""
        self._buffer += data
        while len(self._buffer) >= 5:
            kind, size = struct.unpack_from("<BI", self._buffer)
            if len(self._buffer) < 5 + size:
                return
            yield kind, bytes(self._buffer[5 : 5 + size])
            del self._buffer[: 5 + size]


def shell_packet(kind: int, payload: bytes) -> bytes:
    """One packet of a shell's stream."""
    return struct.pack("<BI", kind, len(payload)) + payload


def run(link: AdbLink, command: str, deadline: Deadline) -> ShellResult:
    """Run a command of the device's shell to its end."""
    packets, output = ShellPackets(), {STDOUT: bytearray(), STDERR: bytearray()}
    with contextlib.closing(link.open(f"shell,v2,raw:{command}", deadline)) as stream:
        while data := stream.receive(deadline):
            for kind, payload in packets.feed(data):
                if kind == EXIT:
                    stdout, stderr = (bytes(output[kind]).decode(errors="replace") for kind in (STDOUT, STDERR))
                    return ShellResult(returncode=exit_code(payload), stdout=stdout, stderr=stderr)
                output.get(kind, bytearray()).extend(payload)
    raise LinkLost(deadline.device, deadline.what, "the shell ended without an exit code")


def exit_code(payload: bytes) -> int:
    """What a shell says: above 128 it was a signal, which is minus its number here."""
    code = payload[0] if payload else 255
    return 128 - code if 128 < code < 128 + 65 else code


def send_file(stream: AdbStream, source: IO[bytes], remote: str, mode: int, deadline: Deadline) -> None:
    """Write a file on the device, through a stream to `sync:`.

    Raises:
        AdbFailed: The device says why not.
    """
    with mapped_but_words(deadline):
        name = f"{remote},{mode}".encode()
        stream.send(b"SEND" + struct.pack("<I", len(name)) + name, deadline)
        buffer = bytearray(_BLOCKS * (_BLOCK_BYTES + 8))
        view = memoryview(buffer)
        while filled := _fill(view, source):
            stream.send(view[:filled], deadline)
        stream.send(b"DONE" + struct.pack("<I", int(time.time())), deadline)
        _Reader(stream, deadline).status()


def _fill(view: memoryview, source: IO[bytes]) -> int:
    """Blocks of the source, each behind its heading. Returns how much of `view` they take."""
    filled = 0
    for _ in range(_BLOCKS):
        size = _read_into(source, view[filled + 8 : filled + 8 + _BLOCK_BYTES])
        if size == 0:
            break
        struct.pack_into("<4sI", view, filled, b"DATA", size)
        filled += 8 + size
        if size < _BLOCK_BYTES:
            break
    return filled


def _read_into(source: IO[bytes], view: memoryview) -> int:
    count: int = source.readinto(view)  # type: ignore[attr-defined]  # files have it, IO does not say so
    return count


def receive_file(stream: AdbStream, remote: str, target: IO[bytes], deadline: Deadline) -> None:
    """Read a file from the device, through a stream to `sync:`.

    Raises:
        AdbFailed: The device says why not.
    """
    with mapped_but_words(deadline):
        name = remote.encode()
        stream.send(b"RECV" + struct.pack("<I", len(name)) + name, deadline)
        reader = _Reader(stream, deadline)
        while (size := reader.block()) is not None:
            reader.copy(size, target)


@contextlib.contextmanager
def mapped_but_words(deadline: Deadline) -> Iterator[None]:
    """As `mapped`; but what a device says about a file is for the caller, who knows which file."""
    try:
        with mapped(deadline):
            try:
                yield
            except AdbFailed as error:
                raise _Said(str(error)) from error
    except _Said as error:
        raise AdbFailed(str(error)) from error.__cause__


class _Said(Exception):
    """An `AdbFailed` on its way past `mapped`."""


class _Reader:
    """Reads exactly as much as is wanted."""

    def __init__(self, stream: AdbStream, deadline: Deadline) -> None:
        self._stream, self._deadline = stream, deadline
        self._rest = memoryview(b"")

    def status(self) -> None:
        """OKAY, or the device's words."""
        kind, size = struct.unpack("<4sI", self._exactly(8))
        if kind != b"OKAY":
            self._fail(kind, size)

    def block(self) -> int | None:
        """The size of the next block of a file, None after the last."""
        kind, size = struct.unpack("<4sI", self._exactly(8))
        if kind == b"DONE":
            return None
        if kind != b"DATA":
            self._fail(kind, size)
        return int(size)

    def copy(self, size: int, target: IO[bytes]) -> None:
        while size:
            piece = self._some(size)
            target.write(piece)
            size -= len(piece)

    def _fail(self, kind: bytes, size: int) -> None:
        if kind != b"FAIL" or size > _BLOCK_BYTES:
            problem = f"it answered {kind!r} where a file transfer has FAIL, DATA, DONE and OKAY"
            raise AdbFailed(problem)
        raise AdbFailed(self._exactly(size).decode(errors="replace"))

    def _exactly(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            parts += self._some(size - len(parts))
        return bytes(parts)

    def _some(self, most: int) -> memoryview:
        if not self._rest:
            self._rest = memoryview(self._stream.receive(self._deadline))
            if not self._rest:
                raise LinkLost(self._deadline.device, self._deadline.what, "the device closed the stream")
        piece, self._rest = self._rest[:most], self._rest[most:]
        return piece
