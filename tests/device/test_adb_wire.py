"""What is mended in adb-shell. Each test shows the defect on the package as it comes, then that ours has not got it."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

import pytest
from adb_shell.adb_device import AdbDeviceTcp
from adb_shell.exceptions import AdbTimeoutError, InvalidChecksumError, TcpTimeoutException
from adb_shell.transport.tcp_transport import TcpTransport

from harness.device.adb_direct import DirectLink
from harness.device.adb_errors import AdbFailed, PeerClosed
from harness.device.adb_link import Deadline
from harness.device.adb_services import run, send_file
from harness.device.adb_wire import Connection, Transport
from harness.errors import DeviceRefused, DeviceTimedOut, LinkLost
from tests.fakes.adbd import FakeAdbd, exit_packet, shell_packet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND = "shell,v2,raw:work"


def soon(timeout_s: float = 5.0) -> Deadline:
    return Deadline("fake", "a test", timeout_s)


def link(adbd: FakeAdbd, tmp_path: Path) -> DirectLink:
    return DirectLink("fake", "127.0.0.1", adbd.port, keys=tmp_path / "keys")


@contextlib.contextmanager
def stock(adbd: FakeAdbd, **settings: float) -> Iterator[AdbDeviceTcp]:
    device = AdbDeviceTcp("127.0.0.1", adbd.port, **{"default_transport_timeout_s": 5.0, **settings})
    try:
        device.connect()
        yield device
    finally:
        device.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Something to connect to, that never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.parametrize(("transport", "sends_all"), [(TcpTransport, False), (Transport, True)])
def test_a_send_that_does_not_fit_into_the_socket_is_continued(
    transport: type[TcpTransport], sends_all: bool, listener: socket.socket
) -> None:
    ours = transport("127.0.0.1", listener.getsockname()[1])
    ours.connect(5.0)
    theirs, _ = listener.accept()
    much = b"x" * 32 * 2**20
    received = 0

    def read_slowly() -> None:
        nonlocal received
        time.sleep(0.2)
        while data := theirs.recv(2**20):
            received += len(data)

    reader = threading.Thread(target=read_slowly)
    reader.start()
    sent = ours.bulk_write(much, 5.0)
    ours.close()
    reader.join()
    theirs.close()

    assert (sent == len(much)) is sends_all
    assert (received == len(much)) is sends_all


@pytest.mark.parametrize(("transport", "ends"), [(TcpTransport, False), (Transport, True)])
def test_the_end_of_the_stream_is_an_error_and_not_an_empty_read_for_ever(
    transport: type[TcpTransport], ends: bool, listener: socket.socket
) -> None:
    ours = transport("127.0.0.1", listener.getsockname()[1])
    ours.connect(5.0)
    listener.accept()[0].close()

    with pytest.raises(PeerClosed) if ends else contextlib.nullcontext():
        assert ours.bulk_read(24, 5.0) == b""

    ours.close()


@pytest.mark.parametrize(("transport", "delay"), [(TcpTransport, 0), (Transport, 1)])
def test_small_packets_are_sent_at_once(transport: type[TcpTransport], delay: int, listener: socket.socket) -> None:
    ours = transport("127.0.0.1", listener.getsockname()[1])
    ours.connect(5.0)

    assert bool(ours._connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) is bool(delay)

    ours.close()
    listener.accept()[0].close()


def test_a_silent_command_lives_as_long_as_the_caller_said(tmp_path: Path) -> None:
    with FakeAdbd(services={COMMAND: [1.0, exit_packet(0)], "shell:work": [1.0, b"x"]}, version=0x01000000) as adbd:
        with stock(adbd, default_transport_timeout_s=0.3) as device, pytest.raises(TcpTimeoutException):
            device.shell("work", timeout_s=5.0)

        assert run(link(adbd, tmp_path), "work", soon()).returncode == 0


def test_a_command_that_says_nothing_ends_at_its_time_out(tmp_path: Path) -> None:
    with FakeAdbd(services={COMMAND: [3.0]}) as adbd:
        began = time.monotonic()
        with pytest.raises(DeviceTimedOut) as caught:
            run(link(adbd, tmp_path), "work", soon(0.5))

        assert caught.value.timeout_s == 0.5
        assert 0.4 < time.monotonic() - began < 2


def test_a_service_that_is_refused_is_an_error_at_once(tmp_path: Path) -> None:
    with FakeAdbd(version=0x01000000) as adbd:
        with stock(adbd) as device, pytest.raises((AdbTimeoutError, TcpTimeoutException)):
            device.shell("work", transport_timeout_s=0.5, read_timeout_s=0.5)

        began = time.monotonic()
        with pytest.raises(DeviceRefused, match="no service 'shell,v2,raw'"):
            run(link(adbd, tmp_path), "work", soon())
        assert time.monotonic() - began < 2


def test_a_command_has_an_exit_code_and_two_outputs(tmp_path: Path) -> None:
    pieces = [shell_packet(1, b"out"), shell_packet(2, b"err") + shell_packet(1, b"put"), exit_packet(3)]
    with FakeAdbd(services={COMMAND: pieces, "shell:work": [b"outerrput"]}, version=0x01000000) as adbd:
        with stock(adbd) as device:
            assert device.shell("work") == "outerrput"

        result = run(link(adbd, tmp_path), "work", soon())

    assert (result.returncode, result.stdout, result.stderr) == (3, "output", "err")


def test_devices_that_send_no_checksums_are_understood(tmp_path: Path) -> None:
    with FakeAdbd(services={COMMAND: [exit_packet(0)]}, version=0x01000001) as adbd:
        with pytest.raises(InvalidChecksumError), stock(adbd):
            pass

        assert run(link(adbd, tmp_path), "work", soon()).returncode == 0


def test_devices_that_want_checksums_get_them(tmp_path: Path) -> None:
    with FakeAdbd(services={COMMAND: [exit_packet(0)]}, version=0x01000000) as adbd:
        run(link(adbd, tmp_path), "work", soon())

        assert adbd.wrong_checksums == 0


def test_what_a_device_says_while_it_is_written_to_is_heard(tmp_path: Path) -> None:
    local = tmp_path / "file"
    local.write_bytes(b"x" * 100_000)
    said = b"No space left on device"
    failure = b"FAIL" + struct.pack("<I", len(said)) + said
    with (
        FakeAdbd(services={"sync:": []}, version=0x01000000, early=failure) as adbd,
        stock(adbd) as device,
        pytest.raises((AdbTimeoutError, TcpTimeoutException)),
    ):
        device.push(str(local), "/there", transport_timeout_s=0.5, read_timeout_s=0.5)
    with FakeAdbd(services={"sync:": []}, early=failure) as adbd, local.open("rb", buffering=0) as file:
        stream = link(adbd, tmp_path).open("sync:", soon())
        with contextlib.closing(stream), pytest.raises(AdbFailed, match="No space left"):
            send_file(stream, file, "/there", 0o100644, soon())


def test_a_connection_that_breaks_in_the_middle_is_a_lost_link(tmp_path: Path) -> None:
    with FakeAdbd(services={COMMAND: [shell_packet(1, b"half"), None]}) as adbd:
        began = time.monotonic()
        with pytest.raises(LinkLost):
            run(link(adbd, tmp_path), "work", soon())
        assert time.monotonic() - began < 2


def test_closing_from_another_thread_ends_a_read_that_waits(tmp_path: Path) -> None:
    with FakeAdbd(services={COMMAND: [20.0]}) as adbd:
        stream = link(adbd, tmp_path).open(COMMAND, soon())
        threading.Timer(0.2, stream.close).start()
        began = time.monotonic()
        with pytest.raises(LinkLost):
            stream.receive(Deadline("fake", "a test", None))
        assert time.monotonic() - began < 2


def test_a_connection_that_is_closed_says_so() -> None:
    with pytest.raises(PeerClosed):
        Connection("127.0.0.1", 1)._wire.bulk_read(1, 1.0)
