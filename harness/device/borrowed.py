"""A device for one command alone, and left in order: what every command but `harness run` measures on.

A run has a thread for each device, which waits for one that goes away (`harness.farm`). Any other command ends with its
device; what it then still owes to it is done as soon as it answers again, or told, and kept for the next command.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from harness.device import debts
from harness.device.halting import Halt, halting, tell_owed
from harness.device.lease import identity, leased
from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.device.device import Device
    from harness.device.halting import HaltingDevice

PATIENCE_S = 60.0
"""For a device that went away, at the end: a cable that is put back, and not a phone that restarts."""
_POLL_S = 2.0
_PAY_S = 10.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Borrowed:
    """A device that is ours.

    Attributes:
        device: What to measure on. It keeps in mind what could not be put in order there.
        require: Sees that it is still ours, and raises LeaseLost where another run has taken it over.
    """

    device: Device
    require: Callable[[], None]


@contextlib.contextmanager
def borrowed(device: Device, run: str, *, patience_s: float = PATIENCE_S) -> Iterator[Borrowed]:
    """Have a device for this command alone while the block lasts, and put in order at the end what it owes to it.

    Args:
        device: Which.
        run: Name of the command, for others to read.
        patience_s: How long to wait for a device that does not answer at the end. After Ctrl-C nobody waits.

    Raises:
        DeviceBusy: Another run has it.
        DeviceError: It cannot be reached.
        UnwritableFolder: Leases cannot be stored.
    """
    with leased((device,), run) as lease:
        known, wait_s = identity(device), 0.0
        ours = halting(device, Halt(), debts.owed_to(device.id, known))
        if ours.owed:
            with contextlib.suppress(HarnessError):  # it is tried again at the end
                ours.pay(timeout_s=_PAY_S)
        try:
            yield Borrowed(ours, partial(lease.require, device.id))
            wait_s = patience_s
        except Exception:
            wait_s = patience_s
            raise
        finally:
            try:
                _settle(ours, known, wait_s)
            finally:
                debts.keep(device.id, known, ours.owed)


def _settle(device: HaltingDevice, known: str, wait_s: float) -> None:
    if not device.owed:
        return
    deadline = time.monotonic() + wait_s
    try:
        while not _is_settled(device, known) and (left_s := deadline - time.monotonic()) > 0:
            _log.warning("%s is not in order; waiting up to %.0f s for it to answer", device.id, left_s)
            time.sleep(min(_POLL_S, left_s))
    finally:
        tell_owed(device)


def _is_settled(device: HaltingDevice, known: str) -> bool:
    try:
        if identity(device.device) == known:  # another device may have its address now
            device.pay(timeout_s=_PAY_S)
    except HarnessError:
        return False
    return not device.owed
