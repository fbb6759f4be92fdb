"""Which phones are found: what it costs where there are none, and that a client that fails hides nothing else."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.device.ios import pymobiledevice3
from harness.device.ios.connected import connected_ids, open_device
from harness.device.registry import list_devices
from harness.errors import UnknownName
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
