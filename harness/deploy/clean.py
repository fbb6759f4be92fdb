"""Remove from a device what runs have left there: models and inputs are kept, so that they are sent only once."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from harness.device.device import CleansItself
from harness.errors import DeviceCommandFailed

if TYPE_CHECKING:
    from harness.device.device import Device

_AT_ONCE = 100
"""A command line has a limit, 128 KiB on old devices."""


def clean(device: Device, *, older_than_days: int, timeout_s: float = 120.0) -> tuple[PurePosixPath, ...]:
    """Remove the files in the device's work folder that were put there longer ago; 0 days removes all.

    Returns:
        What was removed.

    Raises:
        DeviceCommandFailed, DeviceRefused: The device would not.
    """
    if isinstance(device, CleansItself):
        return device.clean(older_than_days=older_than_days, timeout_s=timeout_s)
    age = ("-mtime", f"+{older_than_days - 1}") if older_than_days > 0 else ()
    there = device.shell(["test", "-d", str(device.work_folder)], timeout_s=timeout_s)
    if there.returncode != 0:
        return ()
    lines = _output(device, ("find", str(device.work_folder), "-type", "f", *age), timeout_s).splitlines()
    for start in range(0, len(lines), _AT_ONCE):
        _output(device, ("rm", "-f", *lines[start : start + _AT_ONCE]), timeout_s)
    return tuple(PurePosixPath(line) for line in lines)


def _output(device: Device, argv: tuple[str, ...], timeout_s: float) -> str:
    result = device.shell(argv, timeout_s=timeout_s)
    if result.returncode != 0:
        raise DeviceCommandFailed(device.id, argv, result.returncode, result.stderr)
    return result.stdout
