from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.device.ios import pymobiledevice3
from harness.device.ios.connected import DEFAULT_APP
from harness.device.ios.pymobiledevice3 import PyMobileDevice3
from tests.fakes.iphone import APP, UDID, FakeIphone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CLIENT = pymobiledevice3.find_command()
"""Found before any test moves the cache."""

assert APP == DEFAULT_APP


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[FakeIphone]:
    """An iPhone XR on a cable, its app open."""
    with FakeIphone(tmp_path / "phone") as phone:
        yield phone


@pytest.fixture
def client(phone: FakeIphone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The real pymobiledevice3, which finds the fake phone and nothing else."""
    if _CLIENT is None:
        pytest.fail(
            "these tests talk to a fake iPhone through the real pymobiledevice3, which is not installed here: "
            f"run {pymobiledevice3.INSTALL}, or name it in {pymobiledevice3.COMMAND_VARIABLE}"
        )
    monkeypatch.setenv("USBMUXD_SOCKET_ADDRESS", phone.address)
    monkeypatch.setenv(pymobiledevice3.COMMAND_VARIABLE, _CLIENT[0])
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # it keeps pairing records there
    return _CLIENT


@pytest.fixture
def transport(client: tuple[str, ...]) -> PyMobileDevice3:
    """The fake phone through the real client."""
    return PyMobileDevice3(client, UDID, app=APP, os_version="iOS 18.5", query_timeout_s=6)
