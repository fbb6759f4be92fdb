from __future__ import annotations

import os
import time
from pathlib import Path, PurePosixPath

import pytest

from harness.deploy.clean import clean
from harness.device.device import ShellResult
from harness.device.host import HostDevice
from harness.device.ios.device import IosDevice
from harness.device.ios.transport import FoundPhone
from harness.device.profile import find_profile
from harness.errors import DeviceCommandFailed, DeviceRefused
from tests.fakes.device import FakeDevice
from tests.fakes.iphone import UDID, FakeIphone, FolderTransport

OLD, NEW = "models/old.onnx", "models/new.onnx"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostDevice:
    """A device with an old and a new file."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    device = HostDevice()
    for name, days in ((OLD, 40), (NEW, 1)):
        path = Path(device.work_folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        os.utime(path, (time.time() - days * 86400,) * 2)
    return device


def done(text: str) -> ShellResult:
    return ShellResult(returncode=0, stdout=text, stderr="")


def names(device: HostDevice) -> list[str]:
    return sorted(path.name for path in Path(device.work_folder).rglob("*") if path.is_file())


def test_a_phone_is_cleaned_of_what_this_machine_has_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model.onnx").write_text("model")
    with FakeIphone(tmp_path / "phone") as phone:
        transport = FolderTransport(phone)
        device = IosDevice(FoundPhone(id=UDID), transport, find_profile("iphone-xr"))
        temporary, model = device.work_folder / "models" / ".new", device.work_folder / "models" / "model.onnx"
        device.push(tmp_path / "model.onnx", temporary, timeout_s=5)
        device.rename(temporary, model, timeout_s=5)
        assert transport.get(model, tmp_path / "there", timeout_s=5)

        assert clean(device, older_than_days=7) == ()
        assert clean(device, older_than_days=0) == (model,)

        assert not transport.get(model, tmp_path / "gone", timeout_s=5)
        monkeypatch.setattr(transport, "can_remove", False)
        with pytest.raises(DeviceRefused, match="deleting the app"):
            clean(device, older_than_days=0)


def test_old_files_go_and_new_ones_stay(host: HostDevice) -> None:
    assert clean(host, older_than_days=30) == (host.work_folder / OLD,)
    assert names(host) == ["new.onnx"]


def test_everything_goes_when_no_age_is_asked_for(host: HostDevice) -> None:
    assert len(clean(host, older_than_days=0)) == 2
    assert names(host) == []


def test_where_nothing_was_put_there_is_nothing_to_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))

    assert clean(HostDevice(), older_than_days=0) == ()


def test_a_device_that_refuses_is_said() -> None:
    refused = ShellResult(returncode=1, stdout="", stderr="rm: Permission denied")
    device = FakeDevice(commands={"test": done(""), "find": done("/fake/a\n"), "rm": refused})

    with pytest.raises(DeviceCommandFailed, match="Permission denied"):
        clean(device, older_than_days=0)


def test_many_files_are_removed_in_several_commands() -> None:
    found = "".join(f"/fake/{number}\n" for number in range(250))
    device = FakeDevice(commands={"test": done(""), "find": done(found), "rm": done("")})

    assert len(clean(device, older_than_days=7)) == 250
    assert len([entry for entry in device.log if entry.startswith("shell rm ")]) == 3
    assert clean(device, older_than_days=7)[0] == PurePosixPath("/fake/0")
