"""The real client against the fake phone: what it prints is read, and what it says when something is wrong."""

from __future__ import annotations

import zipfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.device.ios import pymobiledevice3
from harness.device.ios.pymobiledevice3 import PyMobileDevice3, read_list
from harness.device.ios.transport import Ended, FoundPhone
from harness.errors import (
    AppMissing,
    AppRefused,
    DeviceCommandFailed,
    DeviceFull,
    DeviceLocked,
    DeviceOffline,
    DeviceUnauthorized,
)
from tests.fakes.iphone import APP, UDID

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.iphone import FakeIphone

MODEL = PurePosixPath("/Documents/models/abc.mlpackage")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A small model package: a folder with a folder in it."""
    folder = tmp_path / "m.mlpackage"
    (folder / "Data" / "weights").mkdir(parents=True)
    (folder / "Manifest.json").write_text("{}")
    (folder / "Data" / "weights" / "weight.bin").write_bytes(bytes(range(256)) * 40_000)
    return folder


def ended(stdout: str) -> Ended:
    """A command that printed this."""
    return Ended(argv=("pymobiledevice3", "usbmux", "list"), returncode=0, stdout=stdout, words="")


# --- listing ---


def test_a_phone_on_a_cable_is_listed_with_what_it_says_of_itself(client: tuple[str, ...]) -> None:
    assert pymobiledevice3.connected(client) == (
        FoundPhone(id=UDID, name="Fake iPhone", product_type="iPhone11,8", os="iOS 18.5", os_build="22F76"),
    )


def test_without_a_cable_nothing_is_listed(client: tuple[str, ...], phone: FakeIphone) -> None:
    phone.attached = False

    assert pymobiledevice3.connected(client) == ()


def test_without_a_daemon_nothing_is_listed(client: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USBMUXD_SOCKET_ADDRESS", "127.0.0.1:1")

    assert pymobiledevice3.connected(client) == ()


def test_an_untrusting_phone_is_listed_all_the_same(client: tuple[str, ...], phone: FakeIphone) -> None:
    phone.paired = False

    assert [found.id for found in pymobiledevice3.connected(client)] == [UDID]


def test_a_phone_on_cable_and_network_is_one_phone() -> None:
    entry = '{"UniqueDeviceID": "A", "DeviceName": "n", "ProductType": "iPad7,11", "ProductVersion": "18.5"}'

    (found,) = read_list(ended(f"[{entry}, {entry}]"))

    assert (found.id, found.os, found.os_build) == ("A", "iPadOS 18.5", None)


@pytest.mark.parametrize(
    "stdout", ["", "No devices", "{}", '["A"]', '[{"DeviceName": "n"}]', '[{"UniqueDeviceID": 1}]']
)
def test_a_list_of_another_shape_is_refused(stdout: str) -> None:
    with pytest.raises(DeviceCommandFailed, match="printed something that this program does not know"):
        read_list(ended(stdout))


# --- files ---


def test_a_package_arrives_and_comes_back_with_every_byte(
    transport: PyMobileDevice3, phone: FakeIphone, package: Path, tmp_path: Path
) -> None:
    transport.put(package, MODEL, timeout_s=60)
    fetched = transport.get(MODEL, tmp_path / "back", timeout_s=60)

    names = ["Data/weights/weight.bin", "Manifest.json"]
    for folder in (phone.documents / "models" / "abc.mlpackage", tmp_path / "back"):
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        assert files == names
        assert all((folder / name).read_bytes() == (package / name).read_bytes() for name in names)
    assert fetched is True


def test_a_file_replaces_the_file_that_has_its_name(
    transport: PyMobileDevice3, phone: FakeIphone, tmp_path: Path
) -> None:
    (tmp_path / "one").write_bytes(b"longer content")
    (tmp_path / "two").write_bytes(b"short")

    transport.put(tmp_path / "one", PurePosixPath("/Documents/jobs/1/job.json"), timeout_s=60)
    transport.put(tmp_path / "two", PurePosixPath("/Documents/jobs/1/job.json"), timeout_s=60)

    assert (phone.documents / "jobs" / "1" / "job.json").read_bytes() == b"short"


def test_what_is_not_there_is_not_fetched_and_leaves_no_file(transport: PyMobileDevice3, tmp_path: Path) -> None:
    assert transport.get(PurePosixPath("/Documents/results/1/done.json"), tmp_path / "done", timeout_s=60) is False
    assert not (tmp_path / "done").exists()


def test_a_folder_is_removed_with_all_that_is_in_it_and_a_second_time_nothing_happens(
    transport: PyMobileDevice3, phone: FakeIphone, package: Path
) -> None:
    transport.put(package, MODEL, timeout_s=60)

    transport.remove(MODEL, timeout_s=60)
    transport.remove(MODEL, timeout_s=60)

    assert list((phone.documents / "models").iterdir()) == []


# --- what can be wrong ---


def test_a_full_phone_is_said_with_what_would_have_been_needed(
    transport: PyMobileDevice3, phone: FakeIphone, package: Path
) -> None:
    phone.capacity_bytes = 1_000_000

    with pytest.raises(DeviceFull) as caught:
        transport.put(package, MODEL, timeout_s=60)

    assert (caught.value.device, caught.value.needed_bytes) == (UDID, 256 * 40_000 + 2)


def test_a_cable_that_comes_out_in_the_middle_is_a_phone_that_is_gone(
    transport: PyMobileDevice3, phone: FakeIphone, package: Path
) -> None:
    phone.unplug_after_writes = 1

    with pytest.raises(DeviceOffline, match="Connection was terminated abruptly"):
        transport.put(package, MODEL, timeout_s=60)
    with pytest.raises(DeviceOffline, match="Device not found"):
        transport.get(MODEL, package, timeout_s=60)


def test_a_phone_without_the_app_is_said_with_the_app(
    transport: PyMobileDevice3, phone: FakeIphone, package: Path
) -> None:
    phone.app = None

    with pytest.raises(AppMissing, match=f"the app {APP} is not installed"):
        transport.put(package, MODEL, timeout_s=60)


def test_a_locked_phone_is_said_to_be_locked(transport: PyMobileDevice3, phone: FakeIphone, package: Path) -> None:
    phone.locked = True

    with pytest.raises(DeviceLocked, match="Device is password protected"):
        transport.put(package, MODEL, timeout_s=60)
    assert [hurdle.name for hurdle in transport.hurdles()] == ["locked"]


def test_an_untrusting_phone_is_told_from_one_that_does_not_answer(
    transport: PyMobileDevice3, phone: FakeIphone, package: Path
) -> None:
    phone.paired = False

    (hurdle,) = transport.hurdles()

    assert (hurdle.name, hurdle.blocks) == ("pairing", True)
    assert hurdle.advice == "Unlock it, and accept this computer in the dialog it shows."
    assert hurdle.found == "nobody has answered its dialog, Trust This Computer?"
    with pytest.raises(DeviceUnauthorized, match="nobody has answered its dialog"):
        transport.put(package, MODEL, timeout_s=6)


def test_a_phone_that_is_ready_has_no_hurdles(transport: PyMobileDevice3) -> None:
    assert transport.hurdles() == ()


# --- installing ---


@pytest.fixture
def runner(tmp_path: Path) -> Path:
    """An app as Xcode exports it: a zip."""
    path = tmp_path / "Runner.ipa"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("Payload/Runner.app/Runner", bytes(100_000))
    return path


@pytest.mark.usefixtures("client")
def test_the_command_sends_an_app_installs_it_leaves_nothing_lying_about_and_says_what_is_missing(
    phone: FakeIphone, runner: Path
) -> None:
    phone.app, phone.developer_mode = None, False

    done = CliRunner().invoke(app, ["devices", "install-app", UDID, str(runner)])

    assert done.stdout.splitlines()[0] == f"{UDID}: Runner.ipa is installed"
    assert [line.partition(":")[0].strip() for line in done.stdout.splitlines()[1:]] == ["developer-mode"]
    assert phone.installed == runner.read_bytes()
    assert [path for path in phone.media.rglob("*") if path.is_file()] == []


def test_an_app_that_the_phone_does_not_trust_is_refused_in_the_phones_own_words(
    transport: PyMobileDevice3, phone: FakeIphone, runner: Path
) -> None:
    words = "Failed to verify code signature: 0xe8008015 (A valid provisioning profile was not found.)"
    phone.refuses_apps = ("ApplicationVerificationFailed", words)

    with pytest.raises(AppRefused) as refused:
        transport.install(runner, timeout_s=60)

    assert str(refused.value) == f"{UDID} did not install Runner.ipa: ApplicationVerificationFailed: {words}"
    assert refused.value.hint.startswith("Sign it for this very device")


def test_a_phone_without_space_for_the_app_is_full_and_one_that_is_locked_is_locked(
    transport: PyMobileDevice3, phone: FakeIphone, runner: Path
) -> None:
    phone.capacity_bytes = 10

    with pytest.raises(DeviceFull) as full:
        transport.install(runner, timeout_s=60)
    phone.locked = True
    with pytest.raises(DeviceLocked):
        transport.install(runner, timeout_s=60)

    assert (full.value.path, full.value.needed_bytes) == ("Runner.ipa", runner.stat().st_size)
    assert phone.installed is None


@pytest.mark.parametrize(
    ("version", "names"), [("iOS 15.8", []), ("iOS 17.2", ["tunnel"]), ("iOS 17.4", []), (None, [])]
)
def test_only_the_first_versions_of_ios_17_need_a_tunnel(
    version: str | None, names: list[str], client: tuple[str, ...]
) -> None:
    transport = PyMobileDevice3(client, UDID, app=APP, os_version=version)

    assert [hurdle.name for hurdle in transport.hurdles()] == names


def test_a_phone_of_an_unknown_version_is_asked_for_developer_mode_all_the_same(
    client: tuple[str, ...], phone: FakeIphone
) -> None:
    phone.developer_mode = False
    transport = PyMobileDevice3(client, UDID, app=APP, os_version=None)

    assert [hurdle.name for hurdle in transport.hurdles()] == ["developer-mode"]


def test_a_client_that_is_not_there_is_one_sentence_with_the_command_that_installs_it() -> None:
    missing = pymobiledevice3.missing()

    assert str(missing) == "an iPhone on this host needs pymobiledevice3, which is not installed"
    assert missing.hint == "Install it: scripts/install-ios-tools"
