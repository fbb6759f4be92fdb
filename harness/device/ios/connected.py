"""Which iPhones are there, and by which transport. Costs nothing where no client is installed."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.device.ios import devicectl, pymobiledevice3, simctl
from harness.device.ios.device import IosDevice
from harness.device.profile import PROFILE_SCHEMA, DeviceProfile, find_product, find_profile
from harness.errors import DeviceError, UnknownName

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.device.ios.transport import FoundPhone, Transport

APP_VARIABLE = "HARNESS_IOS_APP"
DEFAULT_APP = "org.inference-harness.runner"
"""The bundle identifier of `harness/deploy/ios`. Who signs it with another one says so in `HARNESS_IOS_APP`."""


@dataclass(frozen=True, kw_only=True)
class _Reached:
    phone: FoundPhone
    transport: Transport


def connected_ids() -> tuple[str, ...]:
    """The UDIDs of those that answer now. A client that fails is passed over: it must not hide other devices."""
    return tuple(_reached())


def open_device(device_id: str, profile: DeviceProfile | None = None) -> IosDevice:
    """The phone with this UDID; without a profile, with the one of the phone or of its product.

    Raises:
        UnknownName: It is not connected any more.
        BadSetting: A profile is wrong.
    """
    reached = _reached()
    if device_id not in reached:
        raise UnknownName("device", device_id, tuple(reached))
    found = reached[device_id]
    return IosDevice(found.phone, found.transport, profile or _profile(found.phone))


def _reached() -> dict[str, _Reached]:
    """Every phone by its UDID. A Mac's own client goes first; a phone is reached by one transport only."""
    app = os.environ.get(APP_VARIABLE, DEFAULT_APP)
    reached: dict[str, _Reached] = {}
    for search in _SEARCHES:
        # DeviceError: the client's own words are in `harness doctor`'s reach, a list of devices is not their place.
        with contextlib.suppress(DeviceError):
            for phone, transport in search(app):
                reached.setdefault(phone.id, _Reached(phone=phone, transport=transport))
    return reached


def _by_devicectl(app: str) -> list[tuple[FoundPhone, Transport]]:
    command = devicectl.find_command()
    if command is None:
        return []
    return [(phone, devicectl.DeviceCtl(command, phone.id, app=app)) for phone in devicectl.connected(command)]


def _by_pymobiledevice3(app: str) -> list[tuple[FoundPhone, Transport]]:
    command = pymobiledevice3.find_command() if pymobiledevice3.usbmuxd_answers() else None
    if command is None:
        return []
    return [
        (phone, pymobiledevice3.PyMobileDevice3(command, phone.id, app=app, os_version=phone.os))
        for phone in pymobiledevice3.connected(command)
    ]


def _by_simctl(app: str) -> list[tuple[FoundPhone, Transport]]:
    command = simctl.find_command()
    if command is None:
        return []
    return [(phone, simctl.SimCtl(command, phone.id, app=app)) for phone in simctl.connected(command)]


_SEARCHES: tuple[Callable[[str], list[tuple[FoundPhone, Transport]]], ...] = (
    _by_devicectl,
    _by_pymobiledevice3,
    _by_simctl,
)


def _profile(phone: FoundPhone) -> DeviceProfile:
    """The file named after the phone itself, or the one of its product, or just what its name says."""
    with contextlib.suppress(UnknownName):
        return find_profile(phone.id)
    found = find_product(phone.product_type) if phone.product_type else None
    if found is not None:
        return found
    is_tablet = re.match("iPad", phone.product_type or phone.name or "") is not None
    return DeviceProfile(schema=PROFILE_SCHEMA, kind="ios", device_class="tablet" if is_tablet else "phone")
