"""The shell's packets and file transfer, on a stream that a test plays."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.device.adb_errors import AdbFailed
from harness.device.adb_link import Deadline
from harness.device.adb_services import ShellPackets, exit_code, receive_file, send_file
from harness.errors import LinkLost
from tests.fakes.adbd import shell_packet

if TYPE_CHECKING:
    from pathlib import Path


class PlayedStream:
    """Answers what a test says, in these pieces, and keeps what is sent."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces, self.sent = list(pieces), bytearray()

    def send(self, data: bytes | memoryview, deadline: Deadline) -> None:
        self.sent += data

    def receive(self, deadline: Deadline) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    def close(self) -> None:
        """Nothing to end."""


def soon() -> Deadline:
    return Deadline("phone", "push /there", 5)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=50)), max_size=10),
    st.lists(st.integers(1, 60), max_size=20),
)
def test_packets_are_the_same_however_they_are_cut(packets: list[tuple[int, bytes]], cuts: list[int]) -> None:
    data = b"".join(shell_packet(kind, payload) for kind, payload in packets)
    reader, found = ShellPackets(), list[tuple[int, bytes]]()
    for cut in [*cuts, len(data)]:
        found += reader.feed(data[:cut])
        data = data[cut:]

    assert found == packets


@pytest.mark.parametrize(("payload", "code"), [(b"\0", 0), (b"\x03", 3), (bytes([139]), -11), (bytes([255]), 255)])
def test_an_exit_code_above_128_is_a_signal(payload: bytes, code: int) -> None:
    assert exit_code(payload) == code


def test_a_file_is_sent_in_blocks_and_its_name_carries_its_mode(tmp_path: Path) -> None:
    content = bytes(range(256)) * 300
    (tmp_path / "f").write_bytes(content)
    stream = PlayedStream(b"OK", b"AY\0\0", b"\0\0")

    with (tmp_path / "f").open("rb", buffering=0) as file:
        send_file(stream, file, "/there", 0o100755, soon())

    name = b"/there,33261"
    expected = b"SEND" + struct.pack("<I", len(name)) + name
    expected += b"DATA" + struct.pack("<I", 65536) + content[:65536]
    expected += b"DATA" + struct.pack("<I", len(content) - 65536) + content[65536:]
    assert bytes(stream.sent[:-8]) == expected
    assert bytes(stream.sent[-8:-4]) == b"DONE"


def test_what_the_device_says_about_a_push_is_kept(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    stream = PlayedStream(b"FAIL" + struct.pack("<I", 4), b"no", b"pe")

    with (tmp_path / "f").open("rb", buffering=0) as file, pytest.raises(AdbFailed, match=r"^nope$"):
        send_file(stream, file, "/there", 0o100644, soon())


def test_a_file_is_received_however_its_blocks_are_cut() -> None:
    target = io.BytesIO()
    data = b"DATA" + struct.pack("<I", 5) + b"hello" + b"DATA" + struct.pack("<I", 1) + b"!" + b"DONE\0\0\0\0"

    receive_file(PlayedStream(*[data[i : i + 3] for i in range(0, len(data), 3)]), "/there", target, soon())

    assert target.getvalue() == b"hello!"


def test_a_stream_that_ends_in_mid_file_is_a_lost_link() -> None:
    data = b"DATA" + struct.pack("<I", 5) + b"he"

    with pytest.raises(LinkLost):
        receive_file(PlayedStream(data), "/there", io.BytesIO(), soon())


def test_an_answer_that_is_in_no_protocol_is_said() -> None:
    with pytest.raises(AdbFailed, match="it answered"):
        receive_file(PlayedStream(b"HTTP/1.1 400 Bad"), "/there", io.BytesIO(), soon())
