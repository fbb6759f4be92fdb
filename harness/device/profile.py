"""A device profile: the few lines of TOML that say what a device is and how it is reached."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import msgspec

from harness.device.obstacles import OBSTACLE_NAMES
from harness.errors import BadSetting, UnknownName, UnwritableFolder, UsageError
from harness.records import DeviceClass, DeviceKind, Record
from harness.settings import line_of, read_settings
from harness.workspace import data_dirs, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.records import DeviceFacts

PROFILE_SCHEMA = 1


CoreMLFormat: TypeAlias = Literal["neuralnetwork", "mlprogram"]
CoreMLUnit: TypeAlias = Literal["cpu", "gpu", "neural_engine"]


class AppleProduct(Record, frozen=True, kw_only=True):
    """A product of Apple's, as its documents describe it. Every fact has its source beside it in the file."""

    product_types: tuple[str, ...]
    """The names by which such a device calls itself: `iPhone11,8`."""
    chip: str
    core_ml_formats: tuple[CoreMLFormat, ...]
    """What its newest system can load."""
    core_ml_units: tuple[CoreMLUnit, ...]
    """What Core ML computes on there. A Neural Engine that only the system itself uses is left out."""
    sources: tuple[str, ...]
    """Where all this is said."""
    last_os: str | None = None
    """The newest system that Apple made for it, `iOS 12.5`; None while it gets new ones."""


class Noise(Record, frozen=True, kw_only=True):
    """How much one interleaved trial of a build with itself is off, as `harness calibrate` measured it."""

    cpu: str
    """On which processor: a profile may be shared by several machines."""
    p50_pct: float
    """Robust standard deviation of a trial's ratio."""
    trial_s: float
    """What a trial took."""
    trials: int
    model: str
    measured_at: str


class ProductCluster(Record, frozen=True, kw_only=True):
    """Processors of one design and clock."""

    cores: Annotated[int, msgspec.Meta(ge=1)]
    design: str
    """As its maker calls it: `Cortex-A76`. Several, where documents do not tell them apart."""
    max_hz: float | None = None
    """None where the documents disagree, or say nothing."""


class Product(Record, frozen=True, kw_only=True):
    """A product that is not Apple's, as documents describe it. Every fact has its source beside it in the file."""

    models: tuple[str, ...]
    """The names by which such a device calls itself: `ro.product.model` on Android, the device tree's on a board."""
    chip: str
    clusters: tuple[ProductCluster, ...]
    memory_gib: tuple[int, ...]
    """The sizes it was sold with."""
    sources: tuple[str, ...]
    """Where all this is said."""


class DeviceProfile(Record, frozen=True, kw_only=True):
    """A `device_profiles/ID.toml`."""

    schema: int
    kind: DeviceKind
    """How it is reached."""
    device_class: DeviceClass
    reached_by: str = ""
    """The id by which it is reached, where that is not the file's name: an adb serial, `SERIAL@HOST:PORT`,
    `adb://HOST:PORT`, `virtual:NAME`."""
    title: str = ""
    """What people call it; empty for what it calls itself."""
    accepts: tuple[str, ...] = ()
    """Obstacles that are known and taken as they are, by name; each result measured there says so."""
    apple: AppleProduct | None = None
    """What is known of an iPhone or iPad beforehand."""
    noise: Noise | None = None
    """How finely two builds can be compared there."""
    product: Product | None = None
    """What is known of any other product beforehand."""


def products() -> dict[str, DeviceProfile]:
    """Every product that is described: name of its profile -> what is known of it. The user's own go first.

    Raises:
        BadSetting: A profile is wrong.
    """
    found: dict[str, DeviceProfile] = {}
    for folder in data_dirs("device_profiles"):
        for path in sorted(folder.glob("*.toml")):
            profile = _read(path)
            if profile.apple is not None or profile.product is not None:
                found.setdefault(path.stem, profile)
    return found


def find_product(product_type: str) -> DeviceProfile | None:
    """The profile that names this product type; None where no file does. The user's own folder goes first.

    Raises:
        BadSetting: A profile on the way is wrong.
    """
    apples = ((profile, profile.apple) for profile in products().values())
    return next(
        (profile for profile, apple in apples if apple is not None and product_type in apple.product_types), None
    )


def product_called(name: str, among: Mapping[str, DeviceProfile]) -> DeviceProfile | None:
    """A product by the name of its profile, by what people call it or by what it calls itself."""
    asked = profile_file_name(name).casefold()
    for stem, profile in among.items():
        own = profile.apple.product_types if profile.apple else profile.product.models if profile.product else ()
        if asked in {profile_file_name(each).casefold() for each in (stem, profile.title, *own)}:
            return profile
    return None


def profile_of(device_id: str) -> DeviceProfile | None:
    """As `find_profile`; None where there is no such file, as for most phones.

    Raises:
        BadSetting: It is wrong.
    """
    try:
        return find_profile(device_id)
    except UnknownName:
        return None


def addresses_of_kind(kind: DeviceKind) -> dict[str, str]:
    """The profiles that say how a device of this kind is reached: name -> `reached_by`. The user's own go first.

    Raises:
        BadSetting: A profile is wrong.
    """
    found: dict[str, str] = {}
    for folder in data_dirs("device_profiles"):
        for path in sorted(folder.glob("*.toml")):
            profile = _read(path)
            if profile.kind == kind and profile.reached_by:
                found.setdefault(path.stem, profile.reached_by)
    return found


def accepted_obstacles(device: DeviceFacts) -> tuple[str, ...]:
    """What the device's own profile, or else the one of its kind, takes as it is.

    Raises:
        BadSetting: The profile is wrong.
    """
    profile = profile_of(device.id) or profile_of(device.kind)
    return profile.accepts if profile else ()


def noise_of(device: DeviceFacts) -> Noise | None:
    """What was measured of this device's noise; None where nothing was, or on another processor.

    Raises:
        BadSetting: The profile is wrong.
    """
    profile = profile_of(device.id) or profile_of(device.kind)
    noise = profile.noise if profile else None
    return noise if noise is not None and noise.cpu == _processor(device) else None


def keep_noise(device: DeviceFacts, noise: Noise, folder: Path) -> Path:
    """Write a device's noise into its profile, in place of what was measured before; the rest of the file stays.

    Args:
        device: Whose.
        noise: What was measured.
        folder: Of the user's own profiles. Without one of this device in it, the one in force is copied there.

    Returns:
        The file.

    Raises:
        UnwritableFolder, DeviceFull: It cannot be written.
    """
    path = folder / profile_file_name(device.id)
    in_force = [found / path.name for found in (folder, *data_dirs("device_profiles"))]
    text = next((each.read_text(encoding="utf-8") for each in in_force if each.is_file()), profile_of_device(device))
    kept = re.sub(r"(?ms)^\[noise\]\n.*?(?=^\[|\Z)", "", text).rstrip()
    try:
        write_atomically(path, "\n".join([kept, *_noise_table(noise), ""]).encode())
    except OSError as error:
        raise UnwritableFolder(str(folder), error.strerror or str(error)) from error
    return path


def profile_of_device(facts: DeviceFacts, accepts: tuple[str, ...] = ()) -> str:
    """A profile for a device that is connected, as a file to keep and to edit.

    How it is reached stays as a profile of its own that is in force says; and, unless its noise was measured on another
    processor, what is accepted and how noisy it was found.
    """
    text = json.dumps  # its strings are TOML's
    before = profile_of(facts.id)
    reached_by = before.reached_by if before is not None and before.reached_by else facts.id
    noise = before.noise if before is not None else None
    if before is not None and (noise is None or noise.cpu == _processor(facts)):
        accepts = accepts or before.accepts
    else:  # another device is at that address now
        noise = None
    name = facts.name if facts.os is None else f"{facts.name}, {facts.os}"
    return "\n".join(
        [
            f"# {' '.join(name.split())}",
            f"schema = {PROFILE_SCHEMA}",
            f"kind = {text(facts.kind)}",
            f"device_class = {text(facts.device_class)}",
            f"reached_by = {text(reached_by)}",
            f"title = {text(facts.name, ensure_ascii=False)}",
            f"accepts = [{', '.join(text(accepted) for accepted in accepts)}]",
            *(_noise_table(noise) if noise is not None else ()),
            "",
        ]
    )


def _processor(device: DeviceFacts) -> str:
    """What a device's noise is known by."""
    return device.cpu or device.name


def _noise_table(noise: Noise) -> list[str]:
    """Noise as the lines of a profile."""
    values = msgspec.to_builtins(noise).items()
    return ["", "[noise]", *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values)]


def find_profile(device_id: str) -> DeviceProfile:
    """What the user's own `device_profiles/ID.toml` says, or else the built-in one.

    What cannot stand in a file's name is `-` there: `adb://10.0.0.7:5555` is `adb-10.0.0.7-5555.toml`.

    Raises:
        UnknownName: There is no such file.
        BadSetting: It is wrong.
    """
    folders = data_dirs("device_profiles")
    for folder in folders:
        path = folder / profile_file_name(device_id)
        if path.is_file():
            return _read(path)
    known = sorted({path.stem for folder in folders for path in folder.glob("*.toml")})
    raise UnknownName("device profile", device_id, tuple(known))


def profile_file_name(device_id: str) -> str:
    """What the profile of a device is called: what cannot stand in a file's name is `-`."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', device_id).lstrip('.')}.toml"


def require_profile_name(name: str) -> None:
    """Refuse what `-d NAME` could not mean as a file's name.

    Raises:
        UsageError: It is none.
    """
    if profile_file_name(name) != f"{name}.toml":
        message = f"{name!r} is no name for a profile: letters, digits, '.', '_' and '-', and no '.' first"
        raise UsageError(message)


def _read(path: Path) -> DeviceProfile:
    profile = read_settings(path, DeviceProfile)
    text = path.read_text(encoding="utf-8")
    if profile.schema != PROFILE_SCHEMA:
        problem = f"this program reads version {PROFILE_SCHEMA}, not {profile.schema}"
        raise BadSetting(str(path), line_of(text, ("schema",)), "schema", problem, (str(PROFILE_SCHEMA),))
    for name in profile.accepts:
        if name not in OBSTACLE_NAMES:
            problem = f"there is no obstacle called {name!r}"
            raise BadSetting(str(path), line_of(text, ("accepts",)), "accepts", problem, OBSTACLE_NAMES)
    return profile
