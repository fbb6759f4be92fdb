"""Keys, and contact with a device that asks for one."""

from __future__ import annotations

import logging
import socket
import stat
import time
from typing import TYPE_CHECKING

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, utils
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from harness.device import adb_direct, retries, two_way_socket
from harness.device.adb_direct import DirectLink, key_folder, make_key, read_address
from harness.device.adb_link import Deadline
from harness.device.adb_services import run
from harness.errors import DeviceNotFound, DeviceRefused, DeviceTimedOut, DeviceUnauthorized, LinkLost
from tests.fakes.adbd import FakeAdbd, exit_packet

if TYPE_CHECKING:
    from pathlib import Path

WORK = {"shell,v2,raw:work": [exit_packet(0)]}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def soon(timeout_s: float = 10.0) -> Deadline:
    return Deadline("phone", "work", timeout_s)


@pytest.mark.parametrize(
    ("device_id", "address"),
    [("adb://h", ("h", 5555)), ("adb://10.0.0.7:1", ("10.0.0.7", 1)), ("adb://[fe80::1]:6", ("fe80::1", 6))],
)
def test_an_address_has_a_host_and_a_port(device_id: str, address: tuple[str, int]) -> None:
    assert read_address(device_id) == address


def test_a_device_that_asks_for_no_key_gets_none_made(keys: Path) -> None:
    with FakeAdbd(services=WORK) as adbd:
        run(DirectLink("phone", "127.0.0.1", adbd.port, keys=keys), "work", soon())

    assert not keys.exists()


def test_a_device_that_knows_the_key_lets_us_in(keys: Path) -> None:
    with FakeAdbd(services=WORK, wants_key=True, accepts_signature=lambda t, s: signed(keys, t, s)) as adbd:
        result = run(DirectLink("phone", "127.0.0.1", adbd.port, keys=keys), "work", soon())

        assert (result.returncode, adbd.public_keys) == (0, [])


def test_a_device_that_does_not_know_the_key_is_shown_it_and_then_given_up(
    keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adb_direct, "CONFIRMATION_S", 0.5)
    with FakeAdbd(services=WORK, wants_key=True) as adbd:
        began = time.monotonic()
        with pytest.raises(DeviceUnauthorized, match="nobody confirmed it") as caught:
            run(DirectLink("phone", "127.0.0.1", adbd.port, keys=keys), "work", soon())

        assert time.monotonic() - began < 5
        assert adbd.public_keys == [(keys / "adbkey.pub").read_bytes() + b"\0"]
        assert "Unlock the device" in caught.value.hint
        assert (adbd.connections, adbd.opened) == (1, [])


def test_a_device_that_breaks_off_at_first_is_tried_again(keys: Path, caplog: pytest.LogCaptureFixture) -> None:
    retries.taken("phone")
    with FakeAdbd(services=WORK, breaks_off=1) as adbd:
        result = run(DirectLink("phone", "127.0.0.1", adbd.port, keys=keys), "work", soon())

        assert (result.returncode, adbd.connections, adbd.opened) == (0, 2, ["shell,v2,raw:work"])
    assert [record.levelno for record in caplog.records if record.name.startswith("harness")] == [logging.WARNING]
    (noted,) = retries.taken("phone")
    assert "phone" in noted
    assert retries.taken("phone") == ()


def test_a_command_that_broke_off_is_never_sent_a_second_time(keys: Path) -> None:
    retries.taken("phone")
    with FakeAdbd(services={"shell,v2,raw:work": [None]}) as adbd:
        with pytest.raises(LinkLost):
            run(DirectLink("phone", "127.0.0.1", adbd.port, keys=keys), "work", soon())

        assert retries.taken("phone") == ()
        assert adbd.opened == ["shell,v2,raw:work"]


def test_a_device_that_wants_an_encrypted_link_says_who_has_one(keys: Path) -> None:
    with (
        FakeAdbd(services=WORK, wants_tls=True) as adbd,
        pytest.raises(DeviceRefused, match="wireless debugging") as caught,
    ):
        run(DirectLink("phone", "127.0.0.1", adbd.port, keys=keys), "work", soon())

    assert "makes no sense" not in str(caught.value)
    assert "adb pair" in str(caught.value)


def test_an_address_where_nobody_answers_is_not_waited_for_as_long_as_for_a_device_at_work(
    keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(two_way_socket, "CONNECT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        callers = []
        for _ in range(4):  # what does not fit into its queue gets no answer, as from a device that is switched off
            caller = socket.socket()
            caller.setblocking(False)
            caller.connect_ex(full.getsockname())
            callers.append(caller)
        with pytest.raises(DeviceNotFound, match="nobody answers at"):
            run(DirectLink("phone", "127.0.0.1", full.getsockname()[1], keys=keys), "work", soon(60))
        for caller in callers:
            caller.close()


def test_an_address_where_nobody_speaks_times_out(keys: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        link = DirectLink("phone", "127.0.0.1", silent.getsockname()[1], keys=keys)
        with pytest.raises(DeviceTimedOut):
            run(link, "work", soon(0.5))


def test_a_key_is_made_once_and_only_its_owner_reads_it(keys: Path) -> None:
    first = make_key(keys).read_bytes()

    assert make_key(keys).read_bytes() == first
    assert stat.S_IMODE((keys / "adbkey").stat().st_mode) == 0o600
    assert {path.name for path in keys.iterdir()} - {".lock"} == {"adbkey", "adbkey.pub"}


def test_keys_are_in_the_cache_unless_another_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.delenv("HARNESS_ADB_KEYS", raising=False)
    assert key_folder() == tmp_path / "adb"

    monkeypatch.setenv("HARNESS_ADB_KEYS", str(tmp_path / "mine"))
    assert key_folder() == tmp_path / "mine"


def signed(keys: Path, token: bytes, signature: bytes) -> bool:
    key = load_pem_private_key((keys / "adbkey").read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    try:
        key.public_key().verify(signature, token, padding.PKCS1v15(), utils.Prehashed(hashes.SHA1()))
    except InvalidSignature:
        return False
    return True
