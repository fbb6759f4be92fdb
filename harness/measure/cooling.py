"""Wait by the thermometer and by the system's own word, never by the clock alone, until a device is cool."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from harness.device.obstacles import COOL_STATUSES
from harness.errors import NeverSteady

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.device.device import Device
    from harness.records import DeviceState

COOL_MARGIN_CELSIUS = 3.0
"""Source: Krun (Barrett et al. 2017, section 4): start a process only within 3 degrees of the first one's start."""
COOL_POLL_S = 5.0
COOL_CAP_S = 600.0


class Cooling:
    """The heat of one device over one cell. A device that knows nothing of its heat is never waited for.

    Args:
        device: Which.
        patient: Wait until its thermal status is none. False takes the status as it is.
        told: Told what is too hot, before each wait.
    """

    def __init__(
        self, device: Device, *, patient: bool = True, told: Callable[[str], None] = lambda _reason: None
    ) -> None:
        self._device, self._patient, self._told = device, patient, told
        self._reference: DeviceState | None = None
        self._status_says_something = False

    def begin(self) -> DeviceState:
        """The state in which the cell begins, which later ones are compared with; waits for the status only.

        A status that does not go back in time is left to the preflight, which refuses it by name.
        """
        state = self._device.state()
        deadline = time.monotonic() + COOL_CAP_S
        while self._patient and state.thermal_status not in COOL_STATUSES and time.monotonic() < deadline:
            self._told(f"thermal status {state.thermal_status}")
            time.sleep(COOL_POLL_S)
            state = self._device.state()
        self._reference = state
        self._status_says_something = state.thermal_status is not None
        return state

    def wait(self) -> None:
        """Return once the device is about as cool as when the cell began.

        Raises:
            NeverSteady: It is still too hot after ten minutes.
        """
        before = self._reference
        assert before is not None, "begin() comes first"
        if before.temperature_celsius is None and before.skin_celsius is None and not self._status_says_something:
            return
        deadline = time.monotonic() + COOL_CAP_S
        while (reason := self._too_hot(before, self._device.state())) is not None:
            if time.monotonic() > deadline:
                raise NeverSteady(self._device.id, 1, f"{reason} for {COOL_CAP_S / 60:.0f} min")
            self._told(reason)
            time.sleep(COOL_POLL_S)

    def warmed(self) -> str | None:
        """Why what was just timed does not count: the system has begun to hold the processor back. None if not."""
        if not self._status_says_something or not self._patient:
            return None
        status = self._device.state().thermal_status
        return None if status in COOL_STATUSES else f"the thermal status rose to {status}"

    def _too_hot(self, before: DeviceState, now: DeviceState) -> str | None:
        status = now.thermal_status
        # Who never told its status is never waited for; who did, and does not now, may be hot.
        fell_silent = status is None and self._status_says_something
        if self._patient and (fell_silent or status not in COOL_STATUSES):
            return f"thermal status {status or 'unknown'}"
        pairs = (
            ("processor", before.temperature_celsius, now.temperature_celsius),
            ("skin", before.skin_celsius, now.skin_celsius),
        )
        for name, reference, celsius in pairs:
            if reference is not None and celsius is not None and celsius > reference + COOL_MARGIN_CELSIUS:
                return f"{name} at {celsius:.0f} °C, above {reference + COOL_MARGIN_CELSIUS:.0f} °C"
        return None
