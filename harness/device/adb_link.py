"""What the adb code stands on: a way to a device's adbd, and one byte stream to one of its services.

There are two ways, `adb_server.py` and `adb_direct.py`; everything else is the same for both.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Protocol, TypeVar

from harness.device.retries import note
from harness.errors import DeviceError, DeviceTimedOut

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("harness.device.adb")

_PAUSES_S = (0.2, 1.0)
OPEN_ATTEMPTS = len(_PAUSES_S) + 1
"""To reach a device that was there a moment ago: its adbd may be starting, a cable may have moved."""

_Result = TypeVar("_Result")


class Deadline:
    """When a call has to be over.

    Args:
        device: For the error message.
        what: For the error message.
        timeout_s: From now on; None for no limit.
    """

    def __init__(self, device: str, what: str, timeout_s: float | None) -> None:
        self.device, self.what, self._timeout_s = device, what, timeout_s
        self._end = None if timeout_s is None else time.monotonic() + timeout_s

    def left_s(self) -> float | None:
        """What is left, more than 0; None where there is no limit.

        Raises:
            DeviceTimedOut: Nothing is.
        """
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise self.passed()
        return left

    def passed(self) -> DeviceTimedOut:
        """The error for a deadline that has passed."""
        return DeviceTimedOut(self.device, self.what, self._timeout_s or 0.0)


class AdbStream(Protocol):
    """A connection to one service on a device. One thread may send while another receives; any may close it."""

    def send(self, data: bytes | memoryview, deadline: Deadline) -> None:
        """Send all of it.

        Raises:
            DeviceTimedOut: The other side did not take it in time.
            LinkLost: The connection ended.
        """
        ...

    def receive(self, deadline: Deadline) -> bytes:
        """What has come, at least one byte; nothing once the other side has closed the stream.

        Raises:
            DeviceTimedOut: Nothing came in time.
            LinkLost: The connection ended.
        """
        ...

    def close(self) -> None:
        """End the connection, from any thread; a `receive` that waits elsewhere ends."""
        ...


class AdbLink(Protocol):
    """A way to one device."""

    def open(self, service: str, deadline: Deadline) -> AdbStream:
        """Connect to a service of its adbd: `shell,v2,raw:COMMAND`, `sync:`...

        Raises:
            DeviceNotFound: Nothing is there.
            DeviceOffline: It does not answer now.
            DeviceUnauthorized: It does not know our key.
            SeveralDevices: More than one is meant.
            DeviceRefused: It has no such service.
            DeviceTimedOut: It took too long.
            LinkLost: The connection ended in the middle.
        """
        ...


def reached(device: str, attempt: Callable[[], _Result], deadline: Deadline) -> _Result:
    """What `attempt` returns. It only makes contact, so it may be repeated: nothing has been asked of the device yet.

    Errors that trying again can help are tried again, a bounded number of times; each is written to the log, and noted
    for the record of what is measured.
    """
    for pause_s in _PAUSES_S:
        try:
            return attempt()
        except DeviceError as error:
            if not error.transient or isinstance(error, DeviceTimedOut) or (deadline.left_s() or pause_s) < pause_s:
                raise
            log.warning("%s: %s; trying again in %g s", device, error, pause_s)
            note(device, str(error))
            time.sleep(pause_s)
    return attempt()
