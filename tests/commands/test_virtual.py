"""`harness virtual` as it is typed, where nothing runs; `tests/device/test_virtual.py` has the real ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.device import registry, virtual
from harness.device.lease import leased
from harness.device.virtual import VirtualDevice
from harness.errors import BadSetting, DeviceBusy, DeviceTimedOut, MissingTool, UnknownName, UsageError
from tests.fakes.device import FACTS, FakeDevice

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def harness(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_an_empty_list_says_how_to_start_one() -> None:
    assert "harness virtual start NAME" in harness("virtual", "list").stdout
    assert json.loads(harness("virtual", "list", "--format", "json").stdout) == []


def test_what_does_not_run_cannot_be_stopped() -> None:
    assert isinstance(harness("virtual", "stop", "none").exception, UnknownName)
    assert isinstance(harness("virtual", "stop").exception, UsageError)
    assert harness("virtual", "stop", "--all").exit_code == 0


def test_a_device_that_a_run_measures_on_is_stopped_by_force_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = [
        VirtualDevice(
            name=name, host="127.0.0.1", port=1, pid=1, memory_mib=512, disk_mib=64, cores=1, image="an image"
        )
        for name in ("one", "two", "frozen")
    ]
    stopped: list[str] = []

    def stop(name: str) -> bool:
        stopped.append(name)
        return True

    devices = {m.id: FakeDevice(facts=msgspec.structs.replace(FACTS, id=m.id)) for m in machines}
    devices["virtual:frozen"].fail_on("shell", DeviceTimedOut("virtual:frozen", "cat", 60), times=99)
    monkeypatch.setattr(virtual, "list_virtual", lambda: tuple(machines))
    monkeypatch.setattr(virtual, "answers", lambda machine: machine.name != "frozen")
    monkeypatch.setattr(virtual, "stop_virtual", stop)
    monkeypatch.setattr(registry, "find_device", devices.__getitem__)

    with leased([devices["virtual:two"]], "nightly"):
        refused = harness("virtual", "stop", "--all")
        assert isinstance(refused.exception, DeviceBusy)
        assert "run nightly of" in str(refused.exception)
        assert "--force" in refused.exception.hint
        assert stopped == []

        assert harness("virtual", "stop", "one").exit_code == 0
        assert harness("virtual", "stop", "two", "--force").exit_code == 0
    assert harness("virtual", "stop", "--all").exit_code == 0

    assert stopped == ["one", "two", "one", "two", "frozen"]


def test_a_start_without_qemu_names_the_package(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(cache))

    error = harness("virtual", "start", "ci").exception

    assert isinstance(error, MissingTool)
    assert "qemu-system-arm" in error.hint


def test_files_have_to_fit_into_the_memory() -> None:
    assert isinstance(harness("virtual", "start", "ci", "--memory", "256", "--disk", "512").exception, BadSetting)
