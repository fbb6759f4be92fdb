"""`harness devices` as it is typed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.device.profile import find_profile
from harness.errors import DeviceNotFound, ProductName, UnknownName, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "1")  # nobody's
    return tmp_path


def harness(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=True)


def test_the_list_says_whether_a_device_is_fit() -> None:
    done = harness("devices", "--format", "json")

    (host,) = json.loads(done.stdout)
    assert host["id"] == "host"
    assert host["fit"] is True
    assert host["error"] is None


def test_the_table_is_80_columns_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = harness("devices")

    table = done.stdout.partition("host: ")[0]
    assert table.startswith("id ")
    assert max(len(line) for line in table.splitlines()) <= 80


def test_another_adb_server_has_to_be_there() -> None:
    assert isinstance(harness("devices", "-P", "1").exception, DeviceNotFound)


@pytest.mark.parametrize("name", ["iphone-xr", "iPhone XR", "iphone11,8"])
def test_a_product_that_is_not_connected_is_shown_from_its_profile(name: str) -> None:
    done = harness("devices", "show", name)

    assert "not connected" in done.stdout
    assert "A12" in done.stdout


@pytest.mark.parametrize(
    ("name", "chip"), [("iPhone 16", "A18"), ("iPhone 15 Pro", "A17 Pro"), ("Pixel 9", "Tensor G4")]
)
def test_a_product_that_shares_its_profile_is_known_by_its_own_name(name: str, chip: str) -> None:
    assert chip in harness("devices", "show", name).stdout


def test_a_name_that_nothing_has_is_told_what_is_described() -> None:
    done = harness("devices", "show", "pixl-9")

    assert isinstance(done.exception, UnknownName)
    assert "Known: host" in done.exception.hint
    assert "Products that are described: galaxy-a73, " in done.exception.hint
    assert "pixel-9" in done.exception.hint


def test_a_product_is_shown_as_a_record_too() -> None:
    assert json.loads(harness("devices", "show", "iphone-xr", "--format", "json").stdout)["profile"]["apple"]


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("iphone-6", "none can be made for it iOS 12.5 loads no Core ML file that coremltools still converts to"),
        (
            "ipad-air-2",
            "made for it: fp32, fp16 not int8_weights, palette8, palette6, palette4, sparse: iPadOS 15.8 loads no",
        ),
        ("iphone-xr", "made for it: fp32, fp16, int8_weights, palette8, palette6, palette4, sparse"),
    ],
)
def test_which_core_ml_files_can_be_made_for_a_product_is_shown_with_the_reason(device: str, said: str) -> None:
    shown = harness("devices", "show", device).stdout
    view = json.loads(harness("devices", "show", device, "--format", "json").stdout)

    assert said in " ".join(shown.partition("Core ML files")[2].split())
    assert (view["core_ml_files"]["fp32"] is None) is (device != "iphone-6")


def test_a_boards_processors_are_shown() -> None:
    shown = harness("devices", "show", "raspberry-pi-5").stdout

    assert "4 x Cortex-A76, 2,400 MHz" in shown
    assert "BCM2712" in shown


def test_the_name_of_a_product_is_no_device_to_run_on() -> None:
    done = harness("run", "squeezenet1_1", "--dry-run", "-d", "iphone-15")

    assert isinstance(done.exception, ProductName)
    assert done.exception.exit_code == 2
    assert "its own id" in done.exception.hint
    assert "host" in done.exception.hint


def test_a_profile_is_named_as_a_file_can_be(here: Path) -> None:
    done = harness("devices", "profile", "host", "--name", "../bad")

    assert isinstance(done.exception, UsageError)
    assert "no name for a profile" in str(done.exception)
    assert list(here.rglob("*bad*")) == []


def test_what_nobody_knows_is_not_shown() -> None:
    assert isinstance(harness("devices", "show", "pixel-0").exception, UnknownName)


def test_a_profile_is_written_once(here: Path) -> None:
    done = harness("devices", "profile", "host", "--name", "mine")

    assert done.stdout.strip() == "device_profiles/mine.toml"
    assert find_profile("mine").reached_by == "host"
    assert isinstance(harness("devices", "profile", "host", "--name", "mine").exception, UsageError)
    assert harness("devices", "profile", "host", "--name", "mine", "--force").exit_code == 0


def test_clean_removes_what_was_sent(here: Path) -> None:
    sent = here / "cache" / "device" / "host" / "models" / "x"
    sent.parent.mkdir(parents=True)
    sent.write_bytes(b"x")

    assert "0 files" in harness("devices", "clean", "host").stdout
    assert "1 files" in harness("devices", "clean", "host", "--older-than", "0").stdout
    assert not sent.exists()
