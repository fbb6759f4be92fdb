"""Which iPhones are there, and by which transport. Costs nothing where no client is installed."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import msgspec

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
    """The UDIDs of those that answer now. A client that fails or is missing is said, and hides no other device."""
    return tuple(_reached())


def open_device(device_id: str, profile: DeviceProfile | None = None) -> IosDevice:
    """The phone with this UDID, or whose UDID the profile of this name says; with what is known of its product.

    Raises:
        UnknownName: It is not connected any more.
        MissingTool: Nothing on this machine could reach one.
        BadSetting: A profile is wrong.
    """
    reached = _reached()
    udid = (profile and profile.reached_by) or device_id
    if udid not in reached and pymobiledevice3.find_command() is None and devicectl.find_command() is None:
        raise pymobiledevice3.missing()
    if udid not in reached:
        raise UnknownName("device", device_id if udid == device_id else f"{device_id} ({udid})", tuple(reached))
    found = reached[udid]
    known = profile or _profile(found.phone)
    if known.apple is None and found.phone.product_type:
        product = find_product(found.phone.product_type)
        known = msgspec.structs.replace(known, apple=product.apple if product else None)
    return IosDevice(found.phone, found.transport, known, device_id=device_id)


def _reached() -> dict[str, _Reached]:
    """Every phone by its UDID. A Mac's own client goes first; a phone is reached by one transport only."""
    app = os.environ.get(APP_VARIABLE, DEFAULT_APP)
    reached: dict[str, _Reached] = {}
    for search in _SEARCHES:
        try:
            for phone, transport in search(app):
                reached.setdefault(phone.id, _Reached(phone=phone, transport=transport))
        except DeviceError as error:  # a client that fails must not hide other devices
            _warn_once(str(error))
    return reached


@cache
def _warn_once(text: str) -> None:
    logging.getLogger(__name__).warning("iPhones: %s", text)


def _by_devicectl(app: str) -> list[tuple[FoundPhone, Transport]]:
    command = devicectl.find_command()
    if command is None:
        return []
    return [(phone, devicectl.DeviceCtl(command, phone.id, app=app)) for phone in devicectl.connected(command)]


def _by_pymobiledevice3(app: str) -> list[tuple[FoundPhone, Transport]]:
    if not pymobiledevice3.usbmuxd_answers():
        return []
    command = pymobiledevice3.find_command()
    if command is None:
        _warn_once(f"{(absent := pymobiledevice3.missing())}. {absent.hint}")
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
