from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from harness.convert.apple_system import kind_for
from harness.device.obstacles import OBSTACLE_NAMES
from harness.device.profile import (
    DeviceProfile,
    Noise,
    accepted_obstacles,
    find_product,
    find_profile,
    keep_noise,
    profile_of,
    profile_of_device,
)
from harness.device.registry import find_device, list_devices
from harness.errors import BadSetting, DeviceUnauthorized, UnknownName
from harness.settings import read_settings
from harness.workspace import builtin_dir
from tests.fakes.adbd import FakeAdbServer, block, failed
from tests.fakes.device import FACTS

if TYPE_CHECKING:
    from pathlib import Path

    from harness.records import DeviceFacts

PHONE = 'schema = 1\nkind = "android"\ndevice_class = "phone"\naccepts = ["on-battery"]\n'
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

    assert {"host", "virtual"} <= {path.stem for path in paths}
    for path in paths:
        read_settings(path, DeviceProfile)


def test_every_product_type_is_in_one_profile_only_and_every_product_has_sources() -> None:
    paths = sorted(builtin_dir("device_profiles").glob("*.toml"))
    products = [apple for path in paths if (apple := read_settings(path, DeviceProfile).apple) is not None]
    types = [product_type for apple in products for product_type in apple.product_types]

    assert len(types) == len(set(types)) > 40
    for apple in products:
        said = " ".join(apple.sources)
        assert "the chip" in said
        assert ("GPU or CPU" in said) is ("neural_engine" in apple.core_ml_units)
        # The file that is made for a device goes by the last system alone.
        assert ("mlprogram" in apple.core_ml_formats) is (kind_for(apple.last_os) == "mlprogram")
        assert ("run on the GPU from A8 on" in said) is ("neural_engine" not in apple.core_ml_units)


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
        ('"host"', '"phone"', 2, "kind", ("host", "android", "virtual", "board", "ios")),
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

    assert {"host", "pi", "virtual", "iphone-xr"} <= set(caught.value.known)


@pytest.fixture
def nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No adb server and no virtual device, whatever runs on this machine."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ADB_SERVER_SOCKET", raising=False)
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "1")


@pytest.mark.usefixtures("nothing_else")
def test_the_host_is_the_one_device_that_is_always_there() -> None:
    assert [device.id for device in list_devices()] == ["host"]
    assert find_device("host").id == "host"


@pytest.mark.usefixtures("nothing_else")
def test_a_device_that_is_not_connected_is_said_with_those_that_are() -> None:
    with pytest.raises(UnknownName, match="no device called 'pixel'") as caught:
        find_device("pixel")

    assert caught.value.known == ("host",)


def test_a_phone_needs_no_profile_and_its_kind_may_have_one(own_folder: Path) -> None:
    assert profile_of("R5CT1234ABC") is None

    (own_folder / "android.toml").write_text(PHONE)
    assert accepted_obstacles(facts(id="R5CT1234ABC", kind="android")) == ("on-battery",)


def test_a_profile_of_its_own_goes_before_that_of_its_kind(own_folder: Path) -> None:
    (own_folder / "android.toml").write_text(PHONE)
    (own_folder / "adb-10.0.0.7-5555.toml").write_text(PHONE.replace("on-battery", "load"))

    assert accepted_obstacles(facts(id="adb://10.0.0.7:5555", kind="android")) == ("load",)


def test_what_is_known_of_every_virtual_device_is_accepted_for_each() -> None:
    assert "emulated" in accepted_obstacles(facts(id="virtual:ci", kind="virtual"))


def test_a_device_can_be_called_by_its_profiles_name(own_folder: Path) -> None:
    (own_folder / "pixel.toml").write_text(f'{PHONE}reached_by = "adb://10.0.0.7:5555"\n')

    assert find_device("pixel").id == "pixel"


@pytest.mark.parametrize("device_id", ["adb://10.0.0.7", "R5CT@farm:5037"])
def test_an_address_is_an_id(device_id: str) -> None:
    assert find_device(device_id).id == device_id


def test_a_phone_that_does_not_let_us_in_is_found_but_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = b"OKAY" + block("ABC unauthorized usb:1-1\n")
    with FakeAdbServer({"host:devices-l": answer, "host:transport:ABC": failed("device unauthorized.")}) as server:
        monkeypatch.delenv("ADB_SERVER_SOCKET", raising=False)
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server.port))
        assert "ABC" not in [device.id for device in list_devices()]
        with pytest.raises(DeviceUnauthorized):
            find_device("ABC").facts()


def test_a_profile_that_is_written_again_keeps_the_way_there_and_what_is_accepted(own_folder: Path) -> None:
    phone = facts(id="R5CT1", kind="android", device_class="phone")
    (own_folder / "galaxy.toml").write_text(profile_of_device(phone, ("on-battery",)), encoding="utf-8")
    named = msgspec.structs.replace(phone, id="galaxy")

    (own_folder / "galaxy.toml").write_text(profile_of_device(named), encoding="utf-8")

    again = find_profile("galaxy")
    assert (again.reached_by, again.accepts) == ("R5CT1", ("on-battery",))


def test_a_profile_that_is_written_again_keeps_the_noise_of_the_same_processor_only(own_folder: Path) -> None:
    noise = Noise(cpu="Tensor G3", p50_pct=0.4, trial_s=20.0, trials=30, model="mobilenet_v2", measured_at="2026-11-01")
    phone = facts(id="adb://10.0.0.7", kind="android", device_class="phone", cpu="Tensor G3")
    path = own_folder / "adb-10.0.0.7.toml"
    path.write_text(profile_of_device(phone, ("on-battery",)), encoding="utf-8")
    keep_noise(phone, noise, own_folder)

    path.write_text(profile_of_device(phone), encoding="utf-8")

    kept = find_profile(phone.id)
    assert (kept.noise, kept.accepts) == (noise, ("on-battery",))
    path.write_text(profile_of_device(msgspec.structs.replace(phone, cpu="Exynos 2200")), encoding="utf-8")
    other = find_profile(phone.id)
    assert (other.noise, other.accepts) == (None, ())


def test_an_address_of_a_server_that_is_none_is_refused() -> None:
    for asked in ("all@", "all@host:adb", "all@host:70000", "all@:5037"):
        with pytest.raises(BadSetting, match="no address of an adb server"):
            list_devices(asked)


def test_a_profile_made_from_a_device_can_be_read_again(own_folder: Path) -> None:
    phone = facts(id="adb://10.0.0.7:5555", kind="android", device_class="phone", name='the "red" Pixel ü')
    (own_folder / "red.toml").write_text(profile_of_device(phone, ("on-battery",)), encoding="utf-8")

    assert find_profile("red") == DeviceProfile(
        schema=1,
        kind="android",
        device_class="phone",
        reached_by="adb://10.0.0.7:5555",
        title='the "red" Pixel ü',
        accepts=("on-battery",),
    )


def facts(**changes: object) -> DeviceFacts:
    return msgspec.structs.replace(FACTS, **changes)


NOT_APPLES = ("galaxy-a73", "galaxy-s10", "galaxy-s23", "galaxy-tab-s7", "pixel-6", "pixel-7", "pixel-8", "pixel-9")


@pytest.mark.parametrize("name", [*NOT_APPLES, "raspberry-pi-5"])
def test_every_other_product_says_what_it_is_and_where_that_is_said(name: str) -> None:
    profile = find_profile(name)

    assert profile.product is not None
    assert profile.title
    assert profile.product.models
    assert profile.product.sources
    assert sum(cluster.cores for cluster in profile.product.clusters) in {4, 8, 9}
    assert all(1e9 < cluster.max_hz < 4e9 for cluster in profile.product.clusters if cluster.max_hz is not None)
    assert profile.reached_by == ""  # a product is nobody's own device
