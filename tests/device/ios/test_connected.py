"""Which phones are found: what it costs where there are none, and that a client that fails hides nothing else."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.device.ios import pymobiledevice3
from harness.device.ios.connected import _warn_once, connected_ids, open_device
from harness.device.profile import accepted_obstacles, profile_of_device
from harness.device.registry import find_device, list_devices
from harness.errors import MissingTool, UnknownName
from tests.fakes.iphone import UDID

if TYPE_CHECKING:
    from tests.fakes.iphone import FakeIphone

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="a Mac asks its own clients as well")


@pytest.fixture
def broken_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A client that leaves a file behind when it is started, and prints rubbish."""
    started = tmp_path / "started"
    client = tmp_path / "client"
    client.write_text(f"#!/bin/sh\ntouch {started}\necho rubbish\n")
    client.chmod(0o755)
    monkeypatch.setenv(pymobiledevice3.COMMAND_VARIABLE, str(client))
    return started


@pytest.mark.skipif(Path("/var/run/usbmuxd").exists(), reason="a daemon runs here")
def test_without_a_daemon_no_client_is_started(broken_client: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("USBMUXD_SOCKET_ADDRESS", raising=False)
    monkeypatch.delenv("PYMOBILEDEVICE3_USBMUX", raising=False)

    assert connected_ids() == ()
    assert not broken_client.exists()


def test_a_client_that_prints_rubbish_does_not_hide_other_devices(
    broken_client: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USBMUXD_SOCKET_ADDRESS", "127.0.0.1:1")

    assert "host" in [device.id for device in list_devices()]
    assert broken_client.exists()


def test_a_client_that_is_named_and_not_there_does_not_hide_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USBMUXD_SOCKET_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv(pymobiledevice3.COMMAND_VARIABLE, "/no/such/client")

    assert connected_ids() == ()


@pytest.mark.usefixtures("client", "phone")
def test_a_profile_named_after_the_phone_goes_before_the_one_of_its_product(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "device_profiles").mkdir()
    text = 'schema = 1\nkind = "ios"\ndevice_class = "phone"\ntitle = "Lab 7"\n'
    (tmp_path / "device_profiles" / f"{UDID}.toml").write_text(text)
    monkeypatch.chdir(tmp_path)

    assert open_device(UDID).facts().name == "Lab 7"


@pytest.mark.usefixtures("client", "phone")
def test_a_phone_is_meant_by_the_name_of_a_profile_that_says_its_udid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "device_profiles").mkdir()
    text = profile_of_device(find_device(UDID).facts(), ("on-battery",))
    (tmp_path / "device_profiles" / "lab7.toml").write_text(text)
    monkeypatch.chdir(tmp_path)

    facts = find_device("lab7").facts()

    assert facts.id == "lab7"
    assert (facts.cpu, facts.newest_os) == (find_device(UDID).facts().cpu, find_device(UDID).facts().newest_os)
    assert facts.cpu is not None
    assert accepted_obstacles(facts) == ("on-battery",)


def test_one_phone_that_does_not_trust_us_leaves_the_others_their_names(tmp_path: Path) -> None:
    client = tmp_path / "client"
    known = '{"UniqueDeviceID": "A", "DeviceName": "Lab 7", "ProductType": "iPhone11,8", "ProductVersion": "18.5"}'
    client.write_text(f"""#!/bin/sh
    case "$*" in
        *--simple*) echo '["A", "B"]' ;;
        *"info --udid A"*) echo '{known}' ;;
        *) echo 'PairingDialogResponsePendingError()' >&2; exit 1 ;;
    esac
    """)
    client.chmod(0o755)

    found = pymobiledevice3.connected((str(client),))

    assert [(phone.id, phone.name, phone.os) for phone in found] == [("A", "Lab 7", "iOS 18.5"), ("B", None, None)]


def test_a_daemon_without_a_client_is_one_clear_sentence(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("USBMUXD_SOCKET_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr(pymobiledevice3, "find_command", lambda: None)
    _warn_once.cache_clear()

    assert connected_ids() == connected_ids() == ()
    (record,) = caplog.records
    assert "pymobiledevice3" in record.getMessage()


@pytest.mark.parametrize("udid", ["00008020-001A2B3C4D5E6F70", "a" * 40, "00000000-0000-0000-0000-00000000000A"])
def test_a_phone_that_is_named_where_no_client_is_installed_names_the_client(
    udid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pymobiledevice3, "find_command", lambda: None)

    with pytest.raises(MissingTool) as caught:
        find_device(udid)

    assert pymobiledevice3.INSTALL in caught.value.hint
    assert caught.value.exit_code == 4


@pytest.mark.usefixtures("client")
def test_a_product_that_no_profile_knows_is_called_what_it_calls_itself(phone: FakeIphone) -> None:
    phone.values |= {"ProductType": "iPad99,1", "DeviceName": "Prototype"}

    facts = open_device(UDID).facts()

    assert (facts.name, facts.device_class, facts.cpu, facts.os) == ("Prototype", "tablet", None, "iPadOS 18.5")


@pytest.mark.usefixtures("client")
def test_a_phone_that_has_gone_is_unknown(phone: FakeIphone) -> None:
    phone.attached = False

    with pytest.raises(UnknownName, match=UDID):
        open_device(UDID)
