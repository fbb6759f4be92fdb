"""Put the app that runs jobs on a device which starts no programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.device.device import TakesApps
from harness.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from harness.device.device import Device
    from harness.records import Obstacle

INSTALL_TIMEOUT_S = 600.0
"""A phone that prepares itself for development for the first time takes minutes."""


def install_app(app: Path, device: Device, *, timeout_s: float = INSTALL_TIMEOUT_S) -> tuple[Obstacle, ...]:
    """Install a signed app, replacing an older version of it.

    Args:
        app: An `.ipa`, or the `.app` folder that Xcode leaves.
        device: An iPhone or iPad.
        timeout_s: For the whole of it.

    Returns:
        What still forbids a measurement there. `app` among it means that the app which was installed has another
        identifier than the one that jobs are sent to.

    Raises:
        UsageError: There is no such app, or the device takes none.
        AppRefused: It is not signed for this device, or is no app.
        DeviceError: The device is away, locked or full, or does not trust this machine.
    """
    if not isinstance(device, TakesApps):
        raise UsageError(f"{device.id} takes no app: programs are started there directly")
    if not app.exists():
        raise UsageError(f"there is no {app}")
    if app.suffix not in {".ipa", ".app"}:
        raise UsageError(f"{app.name} is neither an .ipa nor an .app folder")
    device.install(app.absolute(), timeout_s=timeout_s)
    return tuple(obstacle for obstacle in device.obstacles() if obstacle.severity == "refusal")
