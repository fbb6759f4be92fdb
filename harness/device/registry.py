"""Find devices by id. A new kind of device is one file beside this one and one line in the table.

host                         this machine
R5CT1234ABC, 10.0.0.7:5555   a device that the adb server here knows, by its serial
SERIAL@HOST[:PORT]           one that another adb server knows
adb://HOST[:PORT]            one in the network, without an adb server
ssh://[USER@]HOST[:PORT]     a board, by ssh; HOST may be a name from ~/.ssh/config
virtual:NAME                 one that `harness virtual start NAME` has started
00008020-001A2B3C4D5E6F70    an iPhone or iPad, or a simulator on a Mac, by its UDID
NAME                         any of these, by a device_profiles/NAME.toml whose `reached_by` says which
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.device.host import HOST_ID, HostDevice
from harness.device.profile import DeviceProfile, addresses_of_kind, find_profile, profile_of
from harness.errors import BadSetting, DeviceError, DeviceNotFound, ProductName, UnknownName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harness.device.adb_server import AdbServer
    from harness.device.device import Device
    from harness.records import DeviceKind

ALL_DEVICES = "all"
VIRTUAL_PREFIX = "virtual:"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Kind:
    connected: Callable[[], tuple[str, ...]]
    """The ids of those that are seen without asking them. Quick, and starts nothing."""
    claims: Callable[[str], bool]
    """Whether an id can only be one of these, so that what is wrong with it is for this kind to say."""
    open: Callable[[str, DeviceProfile | None], Device]
    """Makes the device. Its first call finds out whether it is there."""


def find_device(device_id: str) -> Device:
    """The device with this id.

    Raises:
        UnknownName: Nothing has this id; `ProductName` where a product is called so.
        DeviceError: Something has it, and cannot be reached.
        BadSetting: Its profile is wrong, or it is no name of a virtual device.
    """
    profile = profile_of(device_id)
    if profile is not None and profile.reached_by:  # also what is not connected: its kind says what is wrong
        return _KINDS[profile.kind].open(device_id, profile)
    known: list[str] = []
    for name, kind in _KINDS.items():
        connected = kind.connected()
        if device_id in connected or kind.claims(device_id):
            return kind.open(device_id, profile or profile_of(name))
        known += connected
    known += [told for name in _KINDS for told in _told_of(name)]
    if profile is not None and (profile.apple or profile.product):
        raise ProductName("device", device_id, tuple(known))
    raise UnknownName("device", device_id, tuple(known))


def list_devices(asked: str = ALL_DEVICES) -> tuple[Device, ...]:
    """Every device that is connected, and those in the network that profiles tell of; a profile's name goes first.

    Args:
        asked: `all`, or `all@HOST:PORT` for those of another machine's adb server.

    Raises:
        BadSetting: A profile is wrong, or `asked` is neither.
        DeviceError: That server does not answer.
    """
    if asked != ALL_DEVICES:
        from harness.device.adb_server import DEFAULT_PORT, AdbServer, devices_of  # noqa: PLC0415

        host, _, port = asked.removeprefix(f"{ALL_DEVICES}@").partition(":")
        port = port or str(DEFAULT_PORT)
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            forms = ("all@HOST", "all@HOST:PORT")
            raise BadSetting("the devices", None, asked, "is no address of an adb server", forms)
        server = AdbServer(host=host, port=int(port))
        answering = (f"{each.serial}@{server}" for each in devices_of(server) if each.state == "device")
        return tuple(find_device(found) for found in _named("android", answering))
    return tuple(
        kind.open(found, profile_of(found) or profile_of(name))
        for name, kind in _KINDS.items()
        for found in dict.fromkeys([*_named(name, kind.connected()), *_told_of(name)])
    )


def known_ids(server: AdbServer | None = None) -> tuple[str, ...]:
    """The ids of everything that is seen, also of what does not let us in now: offline, unauthorized.

    Args:
        server: Of another machine, whose devices alone are then meant.

    Raises:
        DeviceError: That server does not answer.
    """
    if server is None:
        connected = [
            found for name, kind in _KINDS.items() for found in (*_named(name, kind.connected()), *_told_of(name))
        ]
        return tuple(dict.fromkeys([*connected, *_named("android", _known_android())]))
    from harness.device.adb_server import devices_of  # noqa: PLC0415

    return _named("android", (f"{device.serial}@{server}" for device in devices_of(server)))


def on_server(device_ids: Sequence[str], server: AdbServer | None) -> tuple[str, ...]:
    """The ids in full, where a bare serial means a device of another adb server.

    `all` is then every device of that server, and nothing else. What names its own way (`host`, `adb://`,
    `virtual:NAME`, `SERIAL@HOST`, a profile that says how) stays as it is.
    """
    if server is None:
        return tuple(device_ids)
    return tuple(found if _names_its_way(found) else f"{found}@{server}" for found in device_ids)


def _named(kind: DeviceKind, found: Iterable[str]) -> tuple[str, ...]:
    """Each by its profile's name, where one says that it is reached by this id; by two names where two do."""
    if kind == "host":  # this machine has one id
        return tuple(found)
    addresses = addresses_of_kind(kind)
    names = ([name for name, address in addresses.items() if address == each] or [each] for each in found)
    return tuple(name for several in names for name in several)


def _told_of(kind: DeviceKind) -> tuple[str, ...]:
    """The profiles of devices in the network, which nothing else tells of, be they there now or not."""
    return tuple(name for name, address in addresses_of_kind(kind).items() if "://" in address or "@" in address)


def _names_its_way(device_id: str) -> bool:
    profile = profile_of(device_id)
    by_itself = any(kind.claims(device_id) for name, kind in _KINDS.items() if name != "android")
    return (
        device_id == HOST_ID
        or by_itself
        or "://" in device_id
        or "@" in device_id
        or bool(profile and profile.reached_by)
    )


# --- the kinds; what one needs is imported when it is asked for ------------------------------------------------------


def _open_host(_: str, profile: DeviceProfile | None) -> Device:
    return HostDevice(profile or find_profile(HOST_ID))


def _connected_android() -> tuple[str, ...]:
    return tuple(serial for serial, state in _known_android().items() if state == "device")


def _claims_android(device_id: str) -> bool:
    is_on_a_server = "@" in device_id and "://" not in device_id  # a board's user stands before an @, too
    return device_id.startswith("adb://") or is_on_a_server or device_id in _known_android()


def _known_android() -> dict[str, str]:
    from harness.device.adb_server import server_devices  # noqa: PLC0415

    try:
        return {device.serial: device.state for device in server_devices()}
    except DeviceError as error:  # a server that hangs must not hide the other devices
        _log.warning("%s", error)
        return {}


def _open_android(device_id: str, profile: DeviceProfile | None) -> Device:
    from harness.device.adb import AndroidDevice, link_to  # noqa: PLC0415

    return AndroidDevice(device_id, link_to((profile and profile.reached_by) or device_id, device_id), profile)


def _connected_virtual() -> tuple[str, ...]:
    from harness.device.virtual import list_virtual  # noqa: PLC0415

    return tuple(device.id for device in list_virtual())


def _open_virtual(device_id: str, profile: DeviceProfile | None) -> Device:
    from harness.device.adb import AndroidDevice  # noqa: PLC0415
    from harness.device.adb_direct import DirectLink  # noqa: PLC0415
    from harness.device.virtual import list_virtual, require_name  # noqa: PLC0415

    name = ((profile and profile.reached_by) or device_id).removeprefix(VIRTUAL_PREFIX)
    for device in list_virtual():
        if device.name == name:
            return AndroidDevice(device_id, DirectLink(device_id, device.host, device.port), profile, kind="virtual")
    require_name(name)
    raise DeviceNotFound(device_id, "it does not run", f"Start it: harness virtual start {name}")


def _open_board(device_id: str, profile: DeviceProfile | None) -> Device:
    from harness.device.board import BoardDevice, read_address  # noqa: PLC0415

    return BoardDevice(device_id, read_address((profile and profile.reached_by) or device_id), profile)


def _connected_ios() -> tuple[str, ...]:
    from harness.device.ios.connected import connected_ids  # noqa: PLC0415

    return connected_ids()


def _claims_ios(device_id: str) -> bool:
    """What can only be a UDID: of a phone since 2018, of one before, of a simulator."""
    forms = r"[0-9A-F]{8}-[0-9A-F]{16}|[0-9a-f]{40}|[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}"
    return re.fullmatch(forms, device_id) is not None


def _open_ios(device_id: str, profile: DeviceProfile | None) -> Device:
    from harness.device.ios.connected import open_device  # noqa: PLC0415

    return open_device(device_id, profile)


_KINDS: dict[DeviceKind, _Kind] = {
    "host": _Kind(connected=lambda: (HOST_ID,), claims=lambda _: False, open=_open_host),
    "android": _Kind(connected=_connected_android, claims=_claims_android, open=_open_android),
    "virtual": _Kind(
        connected=_connected_virtual, claims=lambda found: found.startswith(VIRTUAL_PREFIX), open=_open_virtual
    ),
    "board": _Kind(connected=lambda: (), claims=lambda found: found.startswith("ssh://"), open=_open_board),
    "ios": _Kind(connected=_connected_ios, claims=_claims_ios, open=_open_ios),
}
