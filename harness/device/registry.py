"""Find devices by id. A new kind of device is one file beside this one and one line in the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.device.host import HOST_ID, HostDevice
from harness.device.ios import connected as ios
from harness.device.profile import find_profile
from harness.errors import UnknownName

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.device.device import Device
    from harness.records import DeviceKind


@dataclass(frozen=True, kw_only=True)
class _Kind:
    connected: Callable[[], tuple[str, ...]]
    """The ids of those that answer now."""
    open: Callable[[str], Device]


_KINDS: dict[DeviceKind, _Kind] = {
    "host": _Kind(connected=lambda: (HOST_ID,), open=lambda device_id: HostDevice(find_profile(device_id))),
    "ios": _Kind(connected=ios.connected_ids, open=ios.open_device),
}


def find_device(device_id: str) -> Device:
    """The connected device with this id.

    Raises:
        UnknownName: Nothing that is connected has this id.
        BadSetting: Its profile is wrong.
    """
    known: list[str] = []
    for kind in _KINDS.values():
        connected = kind.connected()
        if device_id in connected:
            return kind.open(device_id)
        known += connected
    raise UnknownName("device", device_id, tuple(known))


def list_devices() -> tuple[Device, ...]:
    """Every device that is connected.

    Raises:
        BadSetting: A profile is wrong.
    """
    return tuple(kind.open(found) for kind in _KINDS.values() for found in kind.connected())
