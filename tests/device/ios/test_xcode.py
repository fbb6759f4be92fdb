"""`devicectl` and `simctl` by a fake `xcrun` that writes what Xcode was seen to write; not yet run on a Mac."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from harness.device.ios import devicectl, simctl
from harness.device.ios.devicectl import DeviceCtl
from harness.device.ios.simctl import SimCtl
from harness.device.ios.transport import Ended, FoundPhone
from harness.errors import (
    AppMissing,
    AppRefused,
    DeviceCommandFailed,
    DeviceFileFailed,
    DeviceFull,
    DeviceLocked,
    DeviceOffline,
    DeviceUnauthorized,
    HarnessError,
)
from tests.fakes import xcrun
from tests.fakes.iphone import APP

UDID = "00008120-001A2B3C4D5E6F70"
REMOTE = PurePosixPath("/Documents/models/ab.mlpackage")


def device(
    *, platform_name: str = "iOS", reality: str = "physical", tunnel: str = "connected", pairing: str = "paired"
) -> dict[str, Any]:
    """One entry of `list devices`."""
    return {
        "connectionProperties": {"pairingState": pairing, "transportType": "wired", "tunnelState": tunnel},
        "deviceProperties": {
            "ddiServicesAvailable": True,
            "developerModeStatus": "enabled",
            "name": "Lab phone",
            "osBuildUpdate": "22F76",
            "osVersionNumber": "18.5",
        },
        "hardwareProperties": {
            "deviceType": "iPhone",
            "marketingName": "iPhone XR",
            "platform": platform_name,
            "productType": "iPhone11,8",
            "reality": reality,
            "udid": UDID,
        },
        "identifier": "0C0B2B4D-0000-4000-8000-000000000000",
        "visibilityClass": "default",
    }


class FakeMac:
    """A folder that the fake `xcrun` answers from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "container" / "Documents").mkdir(parents=True)
        self.says("devices", {"devices": [device()]})
        self.says("apps", [APP])

    def says(self, name: str, content: object) -> None:
        """What it answers from now on."""
        (self.folder / f"{name}.json").write_text(json.dumps(content))

    def fails(self, domain: str, code: int, words: str) -> None:
        """From now on every command but the list fails like this."""
        inner = {"domain": domain, "code": code, "userInfo": {"NSLocalizedDescription": {"string": words}}}
        self.says("error", {"domain": "com.apple.dt.CoreDeviceError", "code": 1, "userInfo": {"e": {"error": inner}}})

    @property
    def log(self) -> list[list[str]]:
        """Every argument list, without the file that the answer goes to."""
        lines = [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]
        return [line[: line.index("--json-output")] if "--json-output" in line else line for line in lines]

    def command(self, tool: str) -> tuple[str, ...]:
        """How its `xcrun` is started."""
        return (sys.executable, xcrun.__file__, str(self.folder), tool)


@pytest.fixture
def mac(tmp_path: Path) -> FakeMac:
    return FakeMac(tmp_path / "mac")


@pytest.fixture
def phone(mac: FakeMac) -> DeviceCtl:
    return DeviceCtl(mac.command("devicectl"), UDID, app=APP)


# --- devicectl ---


def test_a_mac_lists_phones_that_are_there_and_nothing_else(mac: FakeMac) -> None:
    others = [device(platform_name="watchOS"), device(reality="simulated"), device(tunnel="unavailable")]
    mac.says("devices", {"devices": [*others, device(tunnel="disconnected")]})

    assert devicectl.connected(mac.command("devicectl")) == (
        FoundPhone(id=UDID, name="Lab phone", product_type="iPhone11,8", os="iOS 18.5", os_build="22F76"),
    )


@pytest.mark.parametrize(
    "answer",
    [
        {"info": {"outcome": "success"}, "result": {}},
        {"info": {"outcome": "success"}, "result": {"devices": [{}]}},
        {"info": {"outcome": "success"}, "result": {"devices": [{**device(), "hardwareProperties": []}]}},
        {"info": {"outcome": "perhaps"}, "result": {"devices": []}},
        {"info": {"outcome": "success"}},
    ],
)
def test_json_of_another_shape_is_refused(answer: dict[str, Any]) -> None:
    with pytest.raises(DeviceCommandFailed, match="that this program knows"):
        devicectl.read_list(("devicectl",), answer)


def test_a_command_that_writes_no_json_is_an_error_with_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(DeviceCommandFailed, match="xcrun: error: unable to find utility"):
        devicectl.connected(("sh", "-c", "echo 'xcrun: error: unable to find utility' >&2; exit 72"))


def test_files_go_to_the_apps_container_and_come_back(mac: FakeMac, phone: DeviceCtl, tmp_path: Path) -> None:
    package = tmp_path / "m.mlpackage"
    (package / "Data").mkdir(parents=True)
    (package / "Data" / "w").write_bytes(b"weights")

    phone.put(package, REMOTE, timeout_s=30)
    fetched = phone.get(REMOTE, tmp_path / "back", timeout_s=30)
    missing = phone.get(PurePosixPath("/Documents/none"), tmp_path / "none", timeout_s=30)

    assert (fetched, missing) == (True, False)
    assert (tmp_path / "back" / "Data" / "w").read_bytes() == b"weights"
    assert not (tmp_path / "none").exists()
    assert mac.log[0] == [
        *("devicectl", "device", "copy", "to", "--device", UDID),
        *("--domain-type", "appDataContainer", "--domain-identifier", APP),
        *("--source", str(package), "--destination", "Documents/models/ab.mlpackage"),
    ]


def test_the_app_is_started_in_a_fresh_process(mac: FakeMac, phone: DeviceCtl) -> None:
    assert phone.launch(timeout_s=30) is None
    assert mac.log == [["devicectl", "device", "process", "launch", "--terminate-existing", "--device", UDID, APP]]


def test_an_app_that_cannot_be_started_is_a_reason(mac: FakeMac, phone: DeviceCtl) -> None:
    mac.fails("com.apple.dt.CoreDeviceError", 10002, "The application failed to launch.")

    assert "The application failed to launch." in (phone.launch(timeout_s=30) or "")


@pytest.mark.parametrize(
    ("domain", "code", "words", "error"),
    [
        ("com.apple.dt.CoreDeviceError", 1000, "The specified device was not found.", DeviceOffline),
        ("com.apple.dt.CoreDeviceError", 4, "A connection to this device could not be established.", DeviceOffline),
        ("com.apple.dt.CoreDeviceError", 3, "This device is not paired with this Mac.", DeviceUnauthorized),
        ("FBSOpenApplicationErrorDomain", 7, "Unable to launch because the device is Locked", DeviceLocked),
        ("ContainerLookupErrorDomain", 2, "Container lookup failed", AppMissing),
        ("NSPOSIXErrorDomain", 28, "No space left on device", DeviceFull),
        ("x", 1, "Something new", DeviceCommandFailed),
    ],
)
def test_what_is_wrong_has_its_own_error(
    domain: str, code: int, words: str, error: type[HarnessError], mac: FakeMac, phone: DeviceCtl, tmp_path: Path
) -> None:
    mac.fails(domain, code, words)

    with pytest.raises(error):
        phone.put(tmp_path, REMOTE, timeout_s=30)


def test_a_mac_installs_an_app(mac: FakeMac, phone: DeviceCtl) -> None:
    phone.install(Path("/build/Runner.app"), timeout_s=30)

    assert mac.log == [["devicectl", "device", "install", "app", "--device", UDID, "/build/Runner.app"]]


@pytest.mark.parametrize(
    ("domain", "code", "words", "error"),
    [
        ("MIInstallerErrorDomain", 13, "Failed to verify code signature: 0xe8008015", AppRefused),
        ("NSPOSIXErrorDomain", 28, "No space left on device", DeviceFull),
        ("x", 7, "Unable to install because the device is locked", DeviceLocked),
        ("com.apple.dt.CoreDeviceError", 3, "This device is not paired with this Mac.", DeviceUnauthorized),
    ],
)
def test_an_app_that_a_mac_cannot_install_has_its_own_error(
    domain: str, code: int, words: str, error: type[HarnessError], mac: FakeMac, phone: DeviceCtl
) -> None:
    mac.fails(domain, code, words)

    with pytest.raises(error):
        phone.install(Path("/build/Runner.app"), timeout_s=30)


def test_a_phone_that_is_ready_has_no_hurdles_on_a_mac(phone: DeviceCtl) -> None:
    assert phone.hurdles() == ()


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        (device(pairing="unpaired"), ["pairing"]),
        (device(tunnel="unavailable"), ["offline"]),
        ({**device(), "deviceProperties": {"developerModeStatus": "disabled"}}, ["developer-mode"]),
        ({**device(), "deviceProperties": {"ddiServicesAvailable": False}}, ["tunnel"]),
    ],
)
def test_what_is_missing_is_read_from_the_list(
    entry: dict[str, Any], names: list[str], mac: FakeMac, phone: DeviceCtl
) -> None:
    mac.says("devices", {"devices": [entry]})

    assert [hurdle.name for hurdle in phone.hurdles()] == names


def test_an_app_that_is_not_installed_is_a_hurdle_on_a_mac(mac: FakeMac, phone: DeviceCtl) -> None:
    mac.says("apps", [])

    assert [hurdle.name for hurdle in phone.hurdles()] == ["app"]


# --- simctl ---


def test_running_simulators_are_listed_and_stamped(mac: FakeMac) -> None:
    booted = {"udid": "SIM", "name": "iPhone 16", "state": "Booted", "isAvailable": True}
    off = {**booted, "udid": "OFF", "state": "Shutdown"}
    watch = {**booted, "udid": "WATCH"}
    ios, other = "com.apple.CoreSimulator.SimRuntime.iOS-18-5", "com.apple.CoreSimulator.SimRuntime.watchOS-11-5"
    mac.says("simulators", {"devices": {ios: [off, booted], other: [watch]}})

    assert simctl.connected(mac.command("simctl")) == (
        FoundPhone(id="SIM", name="iPhone 16", os="iOS 18.5 (simulator)", is_simulated=True),
    )


@pytest.mark.parametrize("stdout", ["", "[]", '{"devices": []}', '{"devices": {"a": [{}]}}'])
def test_a_list_of_simulators_of_another_shape_is_refused(stdout: str) -> None:
    ended = Ended(argv=("simctl",), returncode=0, stdout=stdout, words="")

    with pytest.raises(DeviceCommandFailed, match="printed something that this program does not know"):
        simctl.read_list(ended)


def test_a_simulators_files_are_files_of_the_mac(mac: FakeMac, tmp_path: Path) -> None:
    simulator = SimCtl(mac.command("simctl"), "SIM", app=APP)
    (tmp_path / "x.bin").write_bytes(b"values")
    remote = PurePosixPath("/Documents/inputs/x.bin")

    simulator.put(tmp_path / "x.bin", remote, timeout_s=30)
    fetched = simulator.get(remote, tmp_path / "back.bin", timeout_s=30)
    simulator.remove(remote, timeout_s=30)

    assert (fetched, (tmp_path / "back.bin").read_bytes()) == (True, b"values")
    assert simulator.get(remote, tmp_path / "again.bin", timeout_s=30) is False
    assert (simulator.hurdles(), simulator.launch(timeout_s=30)) == ((), None)


def test_a_simulators_file_that_the_mac_refuses_is_named_with_the_phone(mac: FakeMac, tmp_path: Path) -> None:
    simulator = SimCtl(mac.command("simctl"), "SIM", app=APP)
    (mac.folder / "container" / "Documents" / "a").write_bytes(b"a file")
    (tmp_path / "taken").write_bytes(b"a file")
    inside = PurePosixPath("/Documents/a/b")

    with pytest.raises(DeviceFileFailed, match="SIM: cannot push /Documents/a/b: "):
        simulator.put(Path(__file__), inside, timeout_s=30)
    with pytest.raises(DeviceFileFailed, match="SIM: cannot remove /Documents/a/b: Not a directory"):
        simulator.remove(inside, timeout_s=30)
    with pytest.raises(DeviceFileFailed, match="SIM: cannot pull /Documents/a: "):
        simulator.get(inside.parent, tmp_path / "taken" / "b", timeout_s=30)


def test_a_simulator_gets_an_app_or_says_why_not(mac: FakeMac) -> None:
    simulator = SimCtl(mac.command("simctl"), "SIM", app=APP)

    simulator.install(Path("/build/Runner.app"), timeout_s=30)

    assert mac.log == [["simctl", "install", "SIM", "/build/Runner.app"]]
    (mac.folder / "refusal").write_text("Simulator device failed to install the application.")
    with pytest.raises(AppRefused, match=r"SIM did not install Runner\.app: Simulator device failed"):
        simulator.install(Path("/build/Runner.app"), timeout_s=30)


def test_a_simulator_without_the_app_is_said_with_the_app(mac: FakeMac) -> None:
    (mac.folder / "container" / "Documents").rmdir()
    (mac.folder / "container").rmdir()
    simulator = SimCtl(mac.command("simctl"), "SIM", app=APP)

    assert [hurdle.name for hurdle in simulator.hurdles()] == ["app"]
    with pytest.raises(AppMissing):
        simulator.put(Path(__file__), REMOTE, timeout_s=30)


@pytest.mark.skipif(platform.system() == "Darwin", reason="a Mac has them")
def test_where_there_is_no_mac_there_is_no_xcode() -> None:
    assert (devicectl.find_command(), simctl.find_command()) == (None, None)
