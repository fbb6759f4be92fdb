"""The runner app, brought to a phone by a command, and refused where it cannot go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.deploy.install_app import install_app
from harness.device.host import HostDevice
from harness.device.ios.device import IosDevice
from harness.device.ios.transport import FoundPhone, Hurdle
from harness.device.profile import DeviceProfile, find_profile
from harness.errors import UsageError
from tests.fakes.iphone import UDID, FakeIphone, FolderTransport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def transport(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FolderTransport]:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    with FakeIphone(tmp_path / "phone") as phone:
        yield FolderTransport(phone)


@pytest.fixture
def phone(transport: FolderTransport) -> IosDevice:
    profile = DeviceProfile(schema=1, kind="ios", device_class="phone")
    return IosDevice(FoundPhone(id=UDID, os="iOS 18.5"), transport, profile)


@pytest.fixture
def runner(tmp_path: Path) -> Path:
    (tmp_path / "Runner.app").mkdir()
    return tmp_path / "Runner.app"


def test_an_app_is_installed_and_nothing_is_missing_any_more(
    phone: IosDevice, transport: FolderTransport, runner: Path
) -> None:
    assert install_app(runner, phone) == ()
    assert transport.log == ["install Runner.app"]


def test_an_app_with_another_identifier_leaves_the_app_missing(
    phone: IosDevice, transport: FolderTransport, runner: Path
) -> None:
    transport.missing = (Hurdle(name="app", found="the app org.example is not installed", advice="Install it."),)

    assert [obstacle.name for obstacle in install_app(runner, phone)] == ["app"]


@pytest.mark.parametrize(("name", "problem"), [("none.ipa", "there is no .*none.ipa"), ("a.zip", "neither an .ipa")])
def test_what_is_no_app_is_refused_before_the_phone_is_asked(
    name: str, problem: str, phone: IosDevice, transport: FolderTransport, tmp_path: Path
) -> None:
    (tmp_path / "a.zip").touch()

    with pytest.raises(UsageError, match=problem):
        install_app(tmp_path / name, phone)

    assert transport.log == []


def test_a_device_that_starts_programs_takes_no_app(runner: Path) -> None:
    with pytest.raises(UsageError, match="host takes no app"):
        install_app(runner, HostDevice(find_profile("host")))
