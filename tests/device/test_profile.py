from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.device.obstacles import OBSTACLE_NAMES
from harness.device.profile import DeviceProfile, find_product, find_profile
from harness.device.registry import find_device, list_devices
from harness.errors import BadSetting, UnknownName
from harness.settings import read_settings
from harness.workspace import builtin_dir

if TYPE_CHECKING:
    from pathlib import Path

BOARD = 'schema = 1\nkind = "host"\ndevice_class = "board"\ntitle = "the board"\naccepts = ["governor", "turbo"]\n'


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own device_profiles/ folder, where the user works."""
    folder = tmp_path / "device_profiles"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_host_comes_with_a_profile() -> None:
    assert find_profile("host") == DeviceProfile(schema=1, kind="host", device_class="host")


def test_every_built_in_profile_can_be_read() -> None:
    paths = sorted(builtin_dir("device_profiles").glob("*.toml"))

    assert "host" in [path.stem for path in paths]
    for path in paths:
        read_settings(path, DeviceProfile)


def test_every_product_type_is_in_one_profile_only_and_every_product_has_sources() -> None:
    paths = sorted(builtin_dir("device_profiles").glob("*.toml"))
    products = [apple for path in paths if (apple := read_settings(path, DeviceProfile).apple) is not None]
    types = [product_type for apple in products for product_type in apple.product_types]

    assert len(types) == len(set(types)) > 40
    assert all(apple.sources for apple in products)


@pytest.mark.parametrize(
    ("product_type", "chip", "last_os", "formats", "units"),
    [
        ("iPhone7,2", "Apple A8", "iOS 12.5", ("neuralnetwork",), ("cpu", "gpu")),
        ("iPad5,4", "Apple A8X", "iPadOS 15.8", ("neuralnetwork", "mlprogram"), ("cpu", "gpu")),
        ("iPhone10,6", "Apple A11 Bionic", "iOS 16.7", ("neuralnetwork", "mlprogram"), ("cpu", "gpu")),
        ("iPad7,11", "Apple A10 Fusion", "iPadOS 18", ("neuralnetwork", "mlprogram"), ("cpu", "gpu")),
        ("iPhone11,8", "Apple A12 Bionic", "iOS 18", ("neuralnetwork", "mlprogram"), ("cpu", "gpu", "neural_engine")),
        ("iPhone18,3", "Apple A19", None, ("neuralnetwork", "mlprogram"), ("cpu", "gpu", "neural_engine")),
    ],
)
def test_a_product_is_known_by_what_it_calls_itself(
    product_type: str, chip: str, last_os: str | None, formats: tuple[str, ...], units: tuple[str, ...]
) -> None:
    profile = find_product(product_type)

    assert profile is not None
    assert profile.apple is not None
    assert (profile.apple.chip, profile.apple.last_os) == (chip, last_os)
    assert (profile.apple.core_ml_formats, profile.apple.core_ml_units) == (formats, units)


def test_a_product_that_no_profile_names_is_none() -> None:
    assert find_product("iPhone99,9") is None


def test_the_users_own_profile_replaces_the_built_in_one(own_folder: Path) -> None:
    (own_folder / "host.toml").write_text(BOARD)

    device = find_device("host")

    assert (device.facts().device_class, device.facts().name) == ("board", "the board")
    assert find_profile("host").accepts == ("governor", "turbo")


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "allowed"),
    [
        ("turbo", "turbot", 5, "accepts", OBSTACLE_NAMES),
        ("schema = 1", "schema = 2", 1, "schema", ("1",)),
        ('"board"', '"desk"', 3, "device_class", ("phone", "tablet", "board", "host", "emulated")),
        ('"host"', '"phone"', 2, "kind", ("host", "ios")),
    ],
)
def test_what_is_wrong_in_a_profile_is_said_with_what_would_be_right(
    old: str, new: str, line: int, key: str, allowed: tuple[str, ...], own_folder: Path
) -> None:
    (own_folder / "host.toml").write_text(BOARD.replace(old, new))

    with pytest.raises(BadSetting) as caught:
        find_profile("host")

    assert (caught.value.file, caught.value.line, caught.value.key) == (str(own_folder / "host.toml"), line, key)
    assert caught.value.allowed == allowed


def test_a_profile_that_is_not_there_is_said_with_those_that_are(own_folder: Path) -> None:
    (own_folder / "pi.toml").write_text(BOARD)

    with pytest.raises(UnknownName, match="no device profile called 'pixel'") as caught:
        find_profile("pixel")

    assert {"host", "pi", "iphone-xr"} <= set(caught.value.known)


def test_the_host_is_the_one_device_that_is_always_there() -> None:
    assert [device.id for device in list_devices()] == ["host"]
    assert find_device("host").id == "host"


def test_a_device_that_is_not_connected_is_said_with_those_that_are() -> None:
    with pytest.raises(UnknownName, match="no device called 'pixel'") as caught:
        find_device("pixel")

    assert caught.value.known == ("host",)
