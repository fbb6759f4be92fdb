"""A look at every device: what answers, and what is wrong with what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from harness.device.adb_server import AdbServer
from harness.device.registry import known_ids, list_devices, on_server
from harness.device.survey import Seen, look_at, survey
from harness.errors import DeviceError, DeviceNotFit, DeviceNotFound, DeviceOffline, DeviceUnauthorized, UnknownName
from harness.records import Obstacle
from tests.device.conftest import free_port
from tests.fakes.adbd import FakeAdbServer, block, failed
from tests.fakes.device import FACTS

if TYPE_CHECKING:
    from pathlib import Path

    from harness.device.virtual import VirtualDevice

REFUSAL = Obstacle(name="low-battery", severity="refusal", found="the battery is at 9 %", advice="Charge it.")


def test_what_does_not_let_us_in_is_seen_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "host:devices-l": b"OKAY" + block("ABC unauthorized usb:1-1\nDEF offline usb:1-2\n"),
        "host:transport:ABC": failed("device unauthorized."),
        "host:transport:DEF": failed("device offline"),
    }
    with FakeAdbServer(answers) as fake:
        monkeypatch.delenv("ADB_SERVER_SOCKET", raising=False)
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(fake.port))
        assert {"host", "ABC", "DEF"} <= set(known_ids())
        seen = {each.id: each for each in survey(("ABC", "DEF"))}

    assert isinstance(seen["ABC"].error, DeviceUnauthorized)
    assert "Allow USB debugging" in seen["ABC"].error.hint
    assert isinstance(seen["DEF"].error, DeviceOffline)
    assert seen["ABC"].unfit is seen["ABC"].error
    assert seen["ABC"].facts is None


def test_another_servers_devices_are_named_with_it() -> None:
    with FakeAdbServer({"host:devices-l": b"OKAY" + block("ABC device usb:1-1\n")}) as fake:
        server = AdbServer(port=fake.port)

        assert known_ids(server) == (f"ABC@127.0.0.1:{fake.port}",)


def test_a_server_that_was_named_has_to_answer() -> None:
    with pytest.raises(DeviceNotFound):
        survey(server=AdbServer(port=free_port()))


def test_only_bare_serials_are_sent_to_another_server() -> None:
    ways = ("host", "adb://10.0.0.7", "virtual:ci", "ABC@farm")

    assert on_server((*ways, "ABC"), AdbServer(host="farm", port=5038)) == (*ways, "ABC@farm:5038")
    assert on_server(("ABC",), None) == ("ABC",)
    assert on_server(("all",), AdbServer(host="farm", port=5038)) == ("all@farm:5038",)


def test_all_of_another_server_are_its_devices_that_let_us_in() -> None:
    listed = block("ABC device usb:1-1\nDEF offline usb:1-2\n")
    with FakeAdbServer({"host:devices-l": b"OKAY" + listed}) as fake:
        assert [device.id for device in list_devices(f"all@127.0.0.1:{fake.port}")] == [f"ABC@127.0.0.1:{fake.port}"]


def test_a_profile_gives_its_name_to_a_device_that_is_found_and_tells_of_those_in_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "device_profiles").mkdir()
    with FakeAdbServer({"host:devices-l": b"OKAY" + block("ABC device usb:1-1\nDEF device usb:1-2\n")}) as fake:
        monkeypatch.delenv("ADB_SERVER_SOCKET", raising=False)
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(fake.port))
        server = AdbServer(port=fake.port)
        ways = {"galaxy": "ABC", "unplugged": "GHI", "attic": "adb://10.0.0.7", "far": f"DEF@{server}"}
        for name, way in ways.items():
            text = f'schema = 1\nkind = "android"\ndevice_class = "phone"\nreached_by = "{way}"\n'
            (tmp_path / "device_profiles" / f"{name}.toml").write_text(text)

        here, there = [device.id for device in list_devices()], known_ids(server)

        assert set(known_ids()) == set(here)
    assert {"galaxy", "DEF", "attic", "far"} <= set(here)
    assert not {"ABC", "unplugged"} & set(here)
    assert there == (f"ABC@{server}", "far")


@pytest.mark.parametrize(("accepted", "fit"), [((), False), (("low-battery",), True)])
def test_a_refusal_makes_a_device_unfit_unless_its_profile_accepts_it(accepted: tuple[str, ...], fit: bool) -> None:
    seen = Seen(id="fake", facts=FACTS, obstacles=(REFUSAL,), accepted=accepted)

    assert (seen.unfit is None) is fit
    assert fit or isinstance(seen.unfit, DeviceNotFit)


def test_a_warning_does_not() -> None:
    assert Seen(id="fake", obstacles=(msgspec.structs.replace(REFUSAL, severity="warning"),)).unfit is None


def test_what_nobody_knows_is_an_error_and_not_a_line() -> None:
    with pytest.raises(UnknownName):
        look_at("no-such-device")


def test_a_device_that_went_away_is_a_line() -> None:
    seen = look_at("virtual:gone")

    assert isinstance(seen.error, DeviceError)


@pytest.mark.virtual
def test_a_device_over_a_real_adbd_is_seen_whole_and_fit_by_its_profile(virtual: VirtualDevice) -> None:
    (seen,) = survey((virtual.id,))

    assert seen.facts is not None
    assert seen.facts.architecture == "aarch64"
    assert seen.state is not None
    assert seen.state.free_memory_bytes is not None
    assert "emulated" in [obstacle.name for obstacle in seen.obstacles]
    assert seen.unfit is None  # device_profiles/virtual.toml says so
