"""What every device does with files, checked on the real one and on the fake that other tests believe."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest

from harness.device.host import HostDevice
from harness.device.ios.device import IosDevice
from harness.device.ios.transport import FoundPhone
from harness.device.profile import find_profile
from harness.errors import DeviceFileFailed
from harness.workspace import sha256_tree
from tests.device.conftest import over
from tests.fakes.device import FakeDevice
from tests.fakes.iphone import UDID, FakeIphone, FolderTransport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.device.device import Device


@pytest.fixture(params=["host", "fake", "ios", pytest.param("android", marks=pytest.mark.virtual)])
def device(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """One device after the other."""
    if request.param == "android":
        android = over("direct", request, request.getfixturevalue("virtual").address, tmp_path)
        android.remove(android.work_folder, timeout_s=30)
        yield android
        return
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    if request.param == "ios":
        with FakeIphone(tmp_path / "phone") as phone:
            yield IosDevice(FoundPhone(id=UDID), FolderTransport(phone), find_profile("iphone-xr"))
    else:
        yield HostDevice() if request.param == "host" else FakeDevice()


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A file here."""
    path = tmp_path / "local.bin"
    path.write_bytes(b"content")
    return path


def test_a_pushed_file_comes_back_the_same(device: Device, local: Path, tmp_path: Path) -> None:
    remote = device.work_folder / "a" / "b.bin"

    device.push(local, remote, timeout_s=20)
    device.pull(remote, tmp_path / "back.bin", timeout_s=20)

    assert (tmp_path / "back.bin").read_bytes() == b"content"


@pytest.mark.parametrize("device", ["host", "ios"], indirect=True)
def test_a_pushed_package_has_the_digest_of_its_files_under_each_of_its_names(device: Device, tmp_path: Path) -> None:
    package = tmp_path / "m.mlpackage"
    (package / "Data").mkdir(parents=True)
    (package / "Manifest.json").write_text("{}")
    (package / "Data" / "w.bin").write_bytes(b"weights")
    old, new = device.work_folder / ".m.tmp", device.work_folder / "m.mlpackage"

    device.push(package, old, timeout_s=5)
    first = device.sha256(old, timeout_s=5)
    device.rename(old, new, timeout_s=5)

    assert first == device.sha256(new, timeout_s=5) == sha256_tree(package)
    assert device.sha256(old, timeout_s=5) is None
    (package / "Data" / "w.bin").rename(package / "w.bin")
    assert sha256_tree(package) != first


def test_a_push_replaces_what_is_there(device: Device, local: Path) -> None:
    remote = device.work_folder / "b.bin"
    device.push(local, remote, timeout_s=20)
    local.write_bytes(b"other")

    device.push(local, remote, timeout_s=20)

    assert device.sha256(remote, timeout_s=20) == hashlib.sha256(b"other").hexdigest()


def test_a_later_change_of_the_source_does_not_reach_the_device(device: Device, local: Path) -> None:
    remote = device.work_folder / "b.bin"
    device.push(local, remote, timeout_s=20)

    with local.open("r+b") as file:
        file.write(b"CHANGED")

    assert device.sha256(remote, timeout_s=20) == hashlib.sha256(b"content").hexdigest()


def test_the_digest_of_a_file_that_is_not_there_is_none(device: Device) -> None:
    assert device.sha256(device.work_folder / "none", timeout_s=20) is None


def test_a_renamed_file_has_its_new_name_only_and_replaces_what_had_it(device: Device, local: Path) -> None:
    old, new = device.work_folder / "old", device.work_folder / "new"
    device.push(local, old, timeout_s=20)
    local.write_bytes(b"in the way")
    device.push(local, new, timeout_s=20)

    device.rename(old, new, timeout_s=20)

    assert device.sha256(old, timeout_s=20) is None
    assert device.sha256(new, timeout_s=20) == hashlib.sha256(b"content").hexdigest()


def test_a_folder_can_be_made_twice_and_keeps_its_content(device: Device, local: Path) -> None:
    folder = device.work_folder / "a" / "b"
    device.make_folder(folder, timeout_s=20)
    device.push(local, folder / "c", timeout_s=20)

    device.make_folder(folder, timeout_s=20)

    assert device.sha256(folder / "c", timeout_s=20) is not None


def test_a_folder_is_removed_with_all_that_is_in_it_and_nothing_else(device: Device, local: Path) -> None:
    for name in ("a/one", "a/b/two", "ab"):
        device.push(local, device.work_folder / name, timeout_s=20)

    device.remove(device.work_folder / "a", timeout_s=20)

    left = [name for name in ("a/one", "a/b/two", "ab") if device.sha256(device.work_folder / name, timeout_s=20)]
    assert left == ["ab"]


def test_removing_what_is_not_there_does_nothing(device: Device) -> None:
    device.remove(device.work_folder / "none", timeout_s=20)


@pytest.mark.parametrize("action", ["pull", "rename"])
def test_a_file_that_is_not_there_is_a_failure_that_names_it(device: Device, action: str, tmp_path: Path) -> None:
    missing = device.work_folder / "none"

    calls = {
        "pull": lambda: device.pull(missing, tmp_path / "back", timeout_s=20),
        "rename": lambda: device.rename(missing, device.work_folder / "new", timeout_s=20),
    }

    with pytest.raises(DeviceFileFailed) as caught:
        calls[action]()

    assert (caught.value.action, caught.value.path) == (action, str(missing))
    assert not (tmp_path / "back").exists()


def test_a_command_that_does_not_exist_exits_as_in_a_shell(device: Device) -> None:
    result = device.shell(["no-such-command"], timeout_s=20)

    assert (result.returncode, result.stdout) == (127, "")
    assert "no-such-command" in result.stderr


def test_facts_carry_the_devices_id_and_the_work_folder_is_absolute(device: Device) -> None:
    assert device.facts().id == device.id
    assert PurePosixPath(device.work_folder).is_absolute()
