"""A phone that asks for a key: the adbd of the virtual device, real like everything in it, made to ask.

Debian's build has all of adbd's authentication and never uses it. One instruction decides that, a branch around what a
phone does; here it is taken out. What asks, checks signatures and refuses afterwards is adbd's own.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from adb_shell.auth.keygen import keygen

from harness.device import adb_direct
from harness.device.adb import AndroidDevice
from harness.device.adb_direct import DirectLink
from harness.device.adb_server import ServerLink, connect, server_devices
from harness.device.virtual import start_virtual, stop_virtual
from harness.device.virtual_image import Entry, archive, image
from harness.errors import DeviceUnauthorized
from tests.device.conftest import end_leftovers, on, until
from tests.fakes.models import save_dense_onnx

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.device.adb_server import AdbServer
    from harness.device.virtual import VirtualDevice

pytestmark = [pytest.mark.virtual, pytest.mark.xdist_group("virtual")]

IS_KEY_REQUIRED = struct.pack("<3I", 0x39400108, 0x36000088, 0xAA1403E0)
"""`ldrb w8, [x8]`, `tbz w8, #0, .+16`, `mov x0, x20`: `if (!auth_required)` in handle_new_connection of adb.cpp, as
Debian 13 compiled adbd 34.0.5 for arm64."""
NOP = struct.pack("<I", 0xD503201F)


@pytest.fixture(scope="module")
def known_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The keys that the device knows."""
    folder = tmp_path_factory.mktemp("known")
    keygen(str(folder / "adbkey"))
    return folder


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory, known_keys: Path) -> Iterator[VirtualDevice]:
    """A virtual device whose adbd lets in who has a key that it knows."""
    end_leftovers()
    made = image()
    adbd = made.initrd.read_bytes()
    assert adbd.count(IS_KEY_REQUIRED) == 1, "Debian has built another adbd: find anew where it decides to ask"
    adbd = adbd.replace(IS_KEY_REQUIRED, IS_KEY_REQUIRED[:4] + NOP + IS_KEY_REQUIRED[8:])
    keys = Entry(name="adb_keys", mode=0o100644, content=(known_keys / "adbkey.pub").read_bytes() + b"\n")
    cache = tmp_path_factory.mktemp("cache")
    folder = cache / "virtual-image" / made.key[:16]
    folder.mkdir(parents=True)
    (folder / "kernel").symlink_to(made.kernel)
    # The kernel unpacks one archive after the other.
    (folder / "initrd").write_bytes(adbd + archive([keys]))
    name = f"test-k-{os.getpid()}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(cache))
        try:
            yield start_virtual(name, memory_mib=512, disk_mib=32)
        finally:
            stop_virtual(name)


def test_the_key_that_it_knows_opens_a_real_adbd(asking: VirtualDevice, known_keys: Path) -> None:
    phone = AndroidDevice("phone", DirectLink("phone", asking.host, asking.port, keys=known_keys), kind="virtual")

    assert on(phone, "echo in") == "in\n"


def test_a_key_that_a_real_adbd_does_not_know_is_refused_directly(
    asking: VirtualDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adb_direct, "CONFIRMATION_S", 2.0)
    link = DirectLink("phone", asking.host, asking.port, keys=tmp_path / "keys")

    with pytest.raises(DeviceUnauthorized, match="nobody confirmed it") as caught:
        on(AndroidDevice("phone", link, kind="virtual"), "echo in")
    assert "Unlock the device" in caught.value.hint


def test_a_key_that_a_real_adbd_does_not_know_is_refused_through_a_server(
    asking: VirtualDevice, adb_server: AdbServer
) -> None:
    with pytest.raises(DeviceUnauthorized):
        connect(asking.address, adb_server)
    until(lambda: "unauthorized" in [device.state for device in server_devices(adb_server)])
    link = ServerLink("phone", asking.address, adb_server)

    with pytest.raises(DeviceUnauthorized):
        on(AndroidDevice("phone", link, kind="virtual"), "echo in")


def test_a_phone_that_does_not_know_our_key_ends_a_run_before_anything_is_made_and_is_listed_with_the_cure(
    asking: VirtualDevice, adb_server: AdbServer, tmp_path: Path
) -> None:
    save_dense_onnx(tmp_path / "dense.onnx")
    until(lambda: "unauthorized" in [device.state for device in server_devices(adb_server)])

    run = harness(tmp_path, "run", "dense.onnx", "-d", f"{asking.address}@{adb_server}")
    listed = harness(tmp_path, "devices", "-H", adb_server.host, "-P", str(adb_server.port))

    assert run.returncode == 3
    assert "Unlock the device" in run.stderr
    assert not (tmp_path / "reports").exists()
    assert listed.returncode == 0, listed.stderr
    assert "Unlock the device" in " ".join(listed.stdout.split())


def harness(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
