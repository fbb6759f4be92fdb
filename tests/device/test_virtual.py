"""Virtual devices: their images, their start and their end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from typing import TYPE_CHECKING

import psutil
import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.device import virtual as machine
from harness.device import virtual_image
from harness.device.registry import find_device, list_devices
from harness.device.virtual import list_virtual, start_virtual, stop_virtual
from harness.device.virtual_image import Entry, archive, debian_mirror, mirror_in
from harness.errors import BadSetting, DeviceNotFound, DeviceTimedOut, MissingTool
from tests.device.conftest import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.device.virtual import VirtualDevice


@pytest.fixture
def name() -> Iterator[str]:
    """A name of our own, and nothing of it left behind."""
    chosen = f"test-b-{os.getpid()}"
    yield chosen
    stop_virtual(chosen)


@pytest.mark.parametrize("wrong", ["", "../x", "a b", "-a", "x" * 40, "a/b"])
def test_a_name_that_could_leave_its_folder_is_refused(wrong: str) -> None:
    with pytest.raises(BadSetting, match="is no name"):
        start_virtual(wrong)
    with pytest.raises(BadSetting, match="is no name"):
        stop_virtual(wrong)


def test_files_have_to_fit_into_memory(name: str) -> None:
    with pytest.raises(BadSetting, match="files live in memory"):
        start_virtual(name, memory_mib=512, disk_mib=512)


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("deb http://deb.example/debian bookworm main\n", "http://deb.example/debian"),
        ("deb [arch=amd64 signed-by=/k] https://deb.example/debian/ bookworm main\n", "https://deb.example/debian/"),
        ("# deb http://old.example/debian x main\ndeb-src http://src.example/debian x main\n", None),
        (
            "Types: deb\nURIs: http://sec.example/debian-security\n\nTypes: deb\nURIs: http://a.example/debian\n",
            "http://a.example/debian",
        ),
        ("deb http://archive.example/ubuntu noble main\n", None),
        ("", None),
    ],
)
def test_the_mirror_is_read_from_apts_sources(text: str, uri: str | None) -> None:
    assert mirror_in(text) == uri


def test_a_mirror_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DEBIAN_MIRROR", "http://mine.example/debian")

    assert debian_mirror() == "http://mine.example/debian"


def test_an_archive_is_laid_out_as_the_kernel_wants_it() -> None:
    made = archive([Entry(name="a", mode=0o100644, content=b"hello"), Entry(name="d", mode=0o040755)])

    assert made.startswith(b"070701" + b"00000001" + b"000081a4" + b"00000000" * 2 + b"00000001" + b"00000000")
    assert made[54:62] == b"00000005"
    assert made[110:120] == b"a\0hello\0\0\0"[:2] + b"hello\0\0\0"
    assert len(made) % 4 == 0
    assert b"TRAILER!!!" in made


def test_a_missing_qemu_is_named_with_the_command_that_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = virtual_image.Image(key="k", kernel=tmp_path / "k", initrd=tmp_path / "i")
    monkeypatch.setattr(machine, "image", lambda _watch: made)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(MissingTool, match="qemu-system-aarch64") as caught:
        start_virtual(name)

    assert "apt-get install" in caught.value.hint


def test_a_missing_apt_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HARNESS_DEBIAN_MIRROR", "http://mine.example/debian")
    (tmp_path / "dpkg-deb").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(MissingTool, match="apt-get"):
        virtual_image.image()

    assert list((tmp_path / "cache" / "virtual-image").glob("*/*")) == []


def test_nothing_runs_where_nothing_was_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))

    assert list_virtual() == ()
    assert stop_virtual("none") is False
    with pytest.raises(DeviceNotFound, match="does not run") as caught:
        find_device("virtual:none")
    assert caught.value.hint == "Start it: harness virtual start none"


@pytest.mark.virtual
def test_a_device_that_runs_is_not_started_again(virtual: VirtualDevice) -> None:
    assert start_virtual(virtual.name) == virtual


@pytest.mark.virtual
def test_the_commands_say_where_it_is_and_whether_it_answers(virtual: VirtualDevice) -> None:
    started = CliRunner().invoke(app, ["virtual", "start", virtual.name, "--format", "json"])
    listed = CliRunner().invoke(app, ["virtual", "list"])

    assert [(each["id"], each["answers"]) for each in json.loads(started.stdout)] == [(virtual.id, True)]
    assert f"harness run ... -d {virtual.id}" in started.stderr
    assert f"{virtual.id} " in listed.stdout
    assert virtual.address in listed.stdout


@pytest.mark.virtual
def test_one_that_stands_still_does_not_answer(virtual: VirtualDevice) -> None:
    with frozen(virtual):
        assert machine.answers(virtual, timeout_s=0.5) is False


@pytest.mark.virtual
def test_it_listens_on_this_machine_only(virtual: VirtualDevice) -> None:
    listening = [
        (connection.laddr.ip, connection.laddr.port)
        for connection in psutil.Process(virtual.pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]

    assert listening == [("127.0.0.1", virtual.port)]


@pytest.mark.virtual
def test_devices_are_found_by_id_and_listed(virtual: VirtualDevice) -> None:
    device = find_device(virtual.id)

    facts = device.facts()
    assert (facts.id, facts.kind, facts.device_class) == (f"virtual:{virtual.name}", "virtual", "emulated")
    assert device.id in [found.id for found in list_devices()]


@pytest.mark.virtual
def test_a_second_device_runs_beside_the_first_and_leaves_nothing_when_it_stops(
    virtual: VirtualDevice, name: str
) -> None:
    second = start_virtual(name, memory_mib=512, disk_mib=32)
    assert second.port != virtual.port
    assert {virtual.name, name} <= {device.name for device in list_virtual()}
    psutil.Process(second.pid).suspend()  # a machine that hangs is ended all the same

    assert stop_virtual(name) is True

    assert not psutil.pid_exists(second.pid) or psutil.Process(second.pid).status() == psutil.STATUS_ZOMBIE
    assert name not in {device.name for device in list_virtual()}
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", second.port), timeout=2)
    assert not machine._folder(name).exists()
    assert stop_virtual(name) is False


@pytest.mark.virtual
def test_a_start_that_takes_too_long_leaves_nothing(virtual: VirtualDevice, name: str) -> None:
    with pytest.raises(DeviceTimedOut, match="its start"):
        start_virtual(name, memory_mib=512, disk_mib=32, timeout_s=0.2)

    assert list(machine._processes(name)) == []


@pytest.mark.virtual
def test_what_a_killed_start_left_is_found_and_ended(virtual: VirtualDevice, name: str) -> None:
    folder = machine._folder(name)
    folder.mkdir(parents=True)
    command = psutil.Process(virtual.pid).cmdline()
    pidfile = str(machine._pidfile(name))
    arguments = [pidfile if part == str(machine._pidfile(virtual.name)) else part for part in command]
    arguments = [part.replace(f":{virtual.port}-", f":{machine._free_port()}-") for part in arguments]
    orphan = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    assert stop_virtual(name) is True
    assert orphan.wait(timeout=10) is not None
    assert list(machine._processes(name)) == []
