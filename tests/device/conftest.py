from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from harness.device.adb import WORK_FOLDER, AndroidDevice
from harness.device.adb_direct import DirectLink
from harness.device.adb_link import Deadline
from harness.device.adb_server import AdbServer, ServerLink, adb_program, connect, server_devices
from harness.device.adb_services import run
from harness.device.host import HostDevice
from harness.device.virtual import VirtualDevice, start_virtual, stop_virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.device.device import ToldProgram

DISK_MIB = 96
"""Of the virtual device, so that it can be filled."""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostDevice:
    """This machine, its work folder in an empty place."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return HostDevice()


@pytest.fixture(scope="session")
def virtual() -> Iterator[VirtualDevice]:
    """A real adbd on an emulated arm64 machine. Without qemu this fails: see scripts/install-test-tools."""
    end_leftovers()
    name = f"test-{os.getpid()}"
    try:
        yield start_virtual(name, memory_mib=768, disk_mib=DISK_MIB)
    finally:
        stop_virtual(name)


@pytest.fixture(scope="session")
def adb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdbServer]:
    """An adb server of our own, which touches neither ~/.android nor a server that runs here."""
    home = tmp_path_factory.mktemp("adb-home")
    server = AdbServer(port=free_port())
    process = subprocess.Popen(
        (adb_program(), "-P", str(server.port), "nodaemon", "server"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # The second keeps it from looking for emulators, and from finding those of others.
        env={**os.environ, "HOME": str(home), "ADB_LOCAL_TRANSPORT_MAX_PORT": "5000", "TMPDIR": str(home)},
    )
    try:
        deadline = time.monotonic() + 20
        while not answers(server) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield server
    finally:
        process.kill()
        process.wait()


@pytest.fixture(params=["direct", "server"])
def phone(request: pytest.FixtureRequest, virtual: VirtualDevice, tmp_path: Path) -> Iterator[AndroidDevice]:
    """The virtual device, over each of the two ways, its work folder empty before and after."""
    device = over(request.param, request, virtual.address, tmp_path)
    device.remove(WORK_FOLDER, timeout_s=30)
    yield device
    device.remove(WORK_FOLDER, timeout_s=30)


def over(way: str, request: pytest.FixtureRequest, address: str, tmp_path: Path) -> AndroidDevice:
    """What listens at `HOST:PORT`, by one way."""
    if way == "direct":
        host, _, port = address.rpartition(":")
        return AndroidDevice("phone", DirectLink("phone", host, int(port), keys=tmp_path / "keys"), kind="virtual")
    server: AdbServer = request.getfixturevalue("adb_server")
    connect(address, server)
    until(lambda: ("device", address) in [(device.state, device.serial) for device in server_devices(server)])
    return AndroidDevice("phone", ServerLink("phone", address, server), kind="virtual")


def on(device: AndroidDevice, command: str, timeout_s: float = 30) -> str:
    """The output of a shell command there."""
    return run(device._link, command, Deadline("phone", command, timeout_s)).stdout


LISTENER = "read -r x; echo got $x; read -r x; exit $x"
"""For a shell: what `require_listening` tells it, it answers."""


def require_listening(program: ToldProgram, *, timeout_s: float) -> None:
    """Tell a `LISTENER` two lines, hear of the first, and see it end with the second."""
    lines = program.lines(timeout_s=timeout_s)
    program.tell("block 'one'")
    assert next(lines) == "got block 'one'"
    program.tell("7")
    assert program.wait(timeout_s=timeout_s) == 7


def until(found: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Wait until a function returns something true."""
    deadline = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.1)


@contextmanager
def frozen(virtual: VirtualDevice) -> Iterator[None]:
    """The whole device stands still."""
    psutil.Process(virtual.pid).send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        psutil.Process(virtual.pid).send_signal(signal.SIGCONT)


def end_leftovers() -> None:
    """End the virtual devices of test sessions that were killed, whichever cache they are in."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if not process.name().startswith("qemu-system"):
                continue
            for word in process.cmdline():
                owner = re.fullmatch(r".*/virtual/test-(?:[bk]-)?(\d+)/pid", word)
                if owner and not psutil.pid_exists(int(owner[1])):
                    process.kill()
                    shutil.rmtree(Path(word).parent, ignore_errors=True)


def answers(server: AdbServer) -> bool:
    import socket

    try:
        socket.create_connection((server.host, server.port), timeout=1).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
