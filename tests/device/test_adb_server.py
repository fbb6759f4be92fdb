"""adb servers: what they know, what they say, and that none is started unasked."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from harness.device.adb import AndroidDevice
from harness.device.adb_link import Deadline
from harness.device.adb_server import (
    AdbServer,
    ServerDevice,
    ServerLink,
    adb_program,
    connect,
    default_server,
    disconnect,
    read_device_list,
    server_devices,
)
from harness.device.adb_services import run
from harness.errors import (
    DeviceNotFound,
    DeviceOffline,
    DeviceRefused,
    DeviceTimedOut,
    DeviceUnauthorized,
    LinkLost,
    MissingExtra,
    SeveralDevices,
)
from tests.device.conftest import free_port
from tests.fakes.adbd import FakeAdbServer, block, exit_packet, failed, shell_packet

LIST = """\
R5CT1234ABC            device usb:1-1 product:panther model:Pixel_7 device:panther transport_id:1
192.168.1.5:5555       offline transport_id:4
ZY22                   unauthorized usb:1-2 transport_id:2
0123                   no permissions (user in plugdev group; are your udev rules wrong?); see [url] usb:1-3
emulator-5554          device product:sdk model:sdk_gphone64 device:emu64 transport_id:5
"""


def soon(timeout_s: float = 5.0) -> Deadline:
    return Deadline("phone", "work", timeout_s)


def test_a_list_of_devices_is_read() -> None:
    assert read_device_list(LIST) == (
        ServerDevice(serial="R5CT1234ABC", state="device", model="Pixel_7"),
        ServerDevice(serial="192.168.1.5:5555", state="offline", model=None),
        ServerDevice(serial="ZY22", state="unauthorized", model=None),
        ServerDevice(serial="0123", state="no permissions", model=None),
        ServerDevice(serial="emulator-5554", state="device", model="sdk_gphone64"),
    )
    assert read_device_list("") == ()


@pytest.mark.parametrize(
    ("variables", "server"),
    [
        ({}, "127.0.0.1:5037"),
        ({"ANDROID_ADB_SERVER_PORT": "5038"}, "127.0.0.1:5038"),
        ({"ANDROID_ADB_SERVER_ADDRESS": "farm", "ANDROID_ADB_SERVER_PORT": "x"}, "farm:5037"),
        ({"ADB_SERVER_SOCKET": "tcp:farm:5040", "ANDROID_ADB_SERVER_PORT": "1"}, "farm:5040"),
        ({"ADB_SERVER_SOCKET": "tcp:5040"}, "127.0.0.1:5040"),
        ({"ADB_SERVER_SOCKET": "localfilesystem:/x"}, "127.0.0.1:5037"),
    ],
)
def test_the_server_is_the_one_that_adb_would_ask(
    variables: dict[str, str], server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ADB_SERVER_SOCKET", "ANDROID_ADB_SERVER_ADDRESS", "ANDROID_ADB_SERVER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert str(default_server()) == server


def test_where_no_server_runs_there_are_no_devices_and_none_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_a, **_k: pytest.fail("a program was started"))
    began = time.monotonic()

    assert server_devices(AdbServer(port=free_port())) == ()
    assert time.monotonic() - began < 0.5


def test_looking_for_devices_imports_no_client() -> None:
    program = (
        "import sys; from harness.device.adb_server import *; import harness.device.adb; server_devices();"
        "sys.exit(bool({'adbutils', 'adb_shell'} & set(sys.modules)))"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


def test_a_server_that_does_not_answer_times_out() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(DeviceTimedOut):
        server_devices(AdbServer(port=silent.getsockname()[1]), timeout_s=0.3)


def test_a_device_is_reached_and_its_shell_answers() -> None:
    answers = {
        "host:transport:ABC": b"OKAY",
        "shell,v2,raw:work": b"OKAY" + shell_packet(1, b"out") + shell_packet(2, b"err") + exit_packet(2),
    }
    with FakeAdbServer(answers) as server:
        result = run(ServerLink("phone", "ABC", AdbServer(port=server.port)), "work", soon())

    assert (result.returncode, result.stdout, result.stderr) == (2, "out", "err")
    assert server.asked == ["host:transport:ABC", "shell,v2,raw:work"]


@pytest.mark.parametrize(
    ("answer", "kind", "attempts"),
    [
        (failed("device 'ABC' not found"), DeviceNotFound, 1),
        (failed("device offline"), DeviceOffline, 3),
        (failed("device unauthorized.\nTry again"), DeviceUnauthorized, 1),
        (failed("more than one device/emulator"), SeveralDevices, 1),
        (failed("closed"), LinkLost, 3),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", DeviceRefused, 1),
    ],
)
def test_what_a_server_says_about_a_device_is_told(answer: bytes, kind: type[Exception], attempts: int) -> None:
    with FakeAdbServer({"host:transport:ABC": answer}) as server, pytest.raises(kind, match="phone"):
        run(ServerLink("phone", "ABC", AdbServer(port=server.port)), "work", soon())

    assert len(server.asked) == attempts


def test_without_a_serial_the_only_device_is_taken() -> None:
    answers = {"host:transport-any": failed("more than one device/emulator")}
    with FakeAdbServer(answers) as server, pytest.raises(SeveralDevices, match="more than one"):
        run(ServerLink("any", "", AdbServer(port=server.port)), "work", soon())


def test_without_a_server_the_command_that_starts_one_is_named() -> None:
    with pytest.raises(DeviceNotFound, match="adb start-server"):
        run(ServerLink("phone", "ABC", AdbServer(port=free_port())), "work", soon())


def test_a_connection_is_only_one_if_the_server_says_so() -> None:
    answers = {
        "host:connect:good:1": b"OKAY" + block("connected to good:1"),
        "host:connect:bad:1": b"OKAY" + block("failed to connect to 'bad:1': Connection refused"),
        "host:disconnect:good:1": b"OKAY" + block("disconnected good:1"),
    }
    with FakeAdbServer(answers) as server:
        there = AdbServer(port=server.port)
        connect("good:1", there)
        disconnect("good:1", there)
        disconnect("other:1", AdbServer(port=free_port()))
        with pytest.raises(DeviceNotFound, match="Connection refused"):
            connect("bad:1", there)


def test_adb_comes_from_the_path_or_from_adbutils(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: None)
    said = subprocess.run((adb_program(), "version"), check=True, capture_output=True, text=True, timeout=30)
    assert "Android Debug Bridge" in said.stdout

    monkeypatch.setitem(sys.modules, "adbutils", None)
    with pytest.raises(MissingExtra, match="adb"):
        adb_program()


def test_a_real_server_starts_once_and_knows_no_device(adb_server: AdbServer) -> None:
    from harness.device.adb_server import start_server

    assert start_server(adb_server) == adb_server
    with pytest.raises(DeviceNotFound):
        AndroidDevice("none", ServerLink("none", "no-such-serial", adb_server)).facts()
