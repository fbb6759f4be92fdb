"""What stands in the way of a stable figure, from what a device says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import DeviceNotFit, UnknownName
from harness.records import Obstacle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.records import DeviceFacts, DeviceState

BUSY_LIMIT_PCT = 10.0
"""Of all processors, for work of others. One clock tick of a 0.1 s look at 2 processors is 5 %."""
STEAL_LIMIT_PCT = 1.0
HOT_CELSIUS = 85.0
"""Mobile and desktop processors begin to lower their clocks between 85 and 100 °C."""
LOW_BATTERY_PCT = 25.0
"""Below this, systems begin to save power."""
CAPPED_PCT = 1.0
"""Rounding of frequency tables stays below this."""
THERMAL_STATUS = "thermal-status"
"""The name of the obstacle, on every kind of device. Accepted, a device is not waited for either."""
COOL_STATUSES = (None, "none", "nominal", "fair")
"""Of a device that holds nothing back: Android's word and Apple's; None where there is no such word. A phone on its
charger is `fair` for hours: it puts off what can wait, and only from `serious` on what is in front.
Source: ProcessInfo.ThermalState.
"""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What the rules below look at.

    Attributes:
        capped_pct: How far the clocks' upper limit is below what the hardware can do; None where it cannot be read.
        boost: Whether clocks may rise above the rated one; None where it cannot be read.
        processors_allowed: How many processors' time a container may use; None without such a limit.
        thermal_status_is_overridden: Whether a test has set the thermal status, so that the real one is not known.
        home_app: The package of an Android device's home screen; None where it is not known.
    """

    facts: DeviceFacts
    state: DeviceState
    capped_pct: float | None = None
    boost: bool | None = None
    processors_allowed: float | None = None
    thermal_status_is_overridden: bool = False
    home_app: str | None = None


def find_obstacles(conditions: Conditions) -> tuple[Obstacle, ...]:
    """All obstacles, the worst first."""
    found = [obstacle for rule in _RULES if (obstacle := rule(conditions)) is not None]
    worst_first = ("refusal", "warning", "note")
    return tuple(sorted(found, key=lambda obstacle: worst_first.index(obstacle.severity)))


def _emulated(now: Conditions) -> Obstacle | None:
    if not now.facts.is_emulated:
        return None
    return Obstacle(
        name="emulated",
        severity="refusal",
        found="instructions are emulated, so times say nothing about any real processor",
        advice="Use it to check numbers; take times on hardware.",
    )


def _thermal_status(now: Conditions) -> Obstacle | None:
    status = now.state.thermal_status
    if status in COOL_STATUSES:
        return None
    return Obstacle(
        name=THERMAL_STATUS,
        severity="refusal",
        found=f"the system says that it is too warm (thermal status: {status})",
        advice="Let it cool; take it out of its case and off the charger.",
    )


def _thermal_override(now: Conditions) -> Obstacle | None:
    if not now.thermal_status_is_overridden:
        return None
    return Obstacle(
        name="thermal-override",
        severity="refusal",
        found="a test has set the thermal status, so nobody knows the real one",
        advice="adb shell cmd thermalservice reset",
    )


def _debuggable(now: Conditions) -> Obstacle | None:
    if not now.facts.debuggable or now.facts.is_emulated:
        return None
    return Obstacle(
        name="debuggable-build",
        severity="refusal",
        found="its system is a build for debugging, whose checks cost time",
        advice="Install the maker's release build (ro.build.type user); compare only devices with the same build.",
    )


def _foreground_app(now: Conditions) -> Obstacle | None:
    app = now.state.foreground_app
    if app is None or now.home_app is None or app == now.home_app or now.state.screen_on is False:
        return None
    return Obstacle(
        name="foreground-app",
        severity="refusal",
        found=f"the app {app} is in front, and works beside whatever is timed",
        advice="adb shell input keyevent KEYCODE_HOME",
    )


def _low_battery(now: Conditions) -> Obstacle | None:
    charge = now.state.battery_pct
    if charge is None or charge >= LOW_BATTERY_PCT:
        return None
    return Obstacle(
        name="low-battery",
        severity="refusal",
        found=f"the battery is at {charge:.0f} %",
        advice=f"Charge it to {LOW_BATTERY_PCT:.0f} % or more: below, the system saves power.",
    )


def _on_battery(now: Conditions) -> Obstacle | None:
    if now.state.charging is not False:
        return None
    return Obstacle(
        name="on-battery",
        severity="warning",
        found="it runs on its battery",
        advice="Connect the mains adapter: on battery most systems lower their clocks.",
    )


def _load(now: Conditions) -> Obstacle | None:
    busy = now.state.cpu_busy_pct
    if busy is None or busy <= BUSY_LIMIT_PCT:
        return None
    return Obstacle(
        name="load",
        severity="warning",
        found=f"the processors are {busy:.0f} % busy with other work",
        advice="End other programs; `top` lists them.",
    )


def _steal(now: Conditions) -> Obstacle | None:
    steal = now.state.steal_pct
    if steal is None or steal <= STEAL_LIMIT_PCT:
        return None
    return Obstacle(
        name="steal",
        severity="warning",
        found=f"the hypervisor kept {steal:.1f} % of the processors' time for others",
        advice="Use dedicated processors or real hardware; blocks that lose much are repeated.",
    )


def _governor(now: Conditions) -> Obstacle | None:
    governor = now.state.governor
    if governor is None or governor == "performance":
        return None
    return Obstacle(
        name="governor",
        severity="warning",
        found=f"clocks follow the load (governor {governor})",
        advice="sudo cpupower frequency-set --governor performance",
    )


def _capped(now: Conditions) -> Obstacle | None:
    capped = now.capped_pct
    if capped is None or capped < CAPPED_PCT:
        return None
    return Obstacle(
        name="clock-cap",
        severity="warning",
        found=f"the clocks' upper limit is {capped:.0f} % below what the hardware can do",
        advice="Let it cool, or raise the limit: sudo cpupower frequency-set --max ...; compare only under one limit.",
    )


def _hot(now: Conditions) -> Obstacle | None:
    celsius = now.state.temperature_celsius
    if celsius is None or celsius < HOT_CELSIUS:
        return None
    return Obstacle(
        name="thermal",
        severity="warning",
        found=f"the processor is at {celsius:.0f} °C",
        advice="Let it cool: hot processors lower their clocks.",
    )


def _power_mode(now: Conditions) -> Obstacle | None:
    if now.state.power_mode not in {"low-power", "quiet", "cool"}:
        return None
    if now.facts.device_class in {"phone", "tablet"}:
        return Obstacle(
            name="power-mode",
            severity="refusal",
            found="its battery saver is on, which lowers the clocks",
            advice="Switch it off: adb shell settings put global low_power 0",
        )
    return Obstacle(
        name="power-mode",
        severity="warning",
        found=f"the power profile is {now.state.power_mode}",
        advice="Choose the balanced or the performance profile: powerprofilesctl set performance",
    )


def _cpu_quota(now: Conditions) -> Obstacle | None:
    allowed, cores = now.processors_allowed, now.facts.cores
    if allowed is None or (cores is not None and allowed >= cores):
        return None
    return Obstacle(
        name="cpu-quota",
        severity="warning",
        found=f"a container limits this program to the time of {allowed:g} processors, and stops it when that is spent",
        advice="Start the container without --cpus; pin it to processors with --cpuset-cpus instead.",
    )


def _virtual_machine(now: Conditions) -> Obstacle | None:
    name = now.facts.virtual_machine
    if name is None:
        return None
    return Obstacle(
        name="virtual-machine",
        severity="note",
        found=f"this is a virtual machine ({name}); its neighbours change its speed",
        advice="Trust differences measured within one run; take absolute figures on real hardware.",
    )


def _no_clock_control(now: Conditions) -> Obstacle | None:
    if now.state.cpu_cap_hz is not None or now.state.governor is not None:
        return None
    return Obstacle(
        name="no-clock-control",
        severity="note",
        found="clocks and their limits cannot be read, so throttling shows only in the times",
        advice="Nothing to do here; a run compares a fixed piece of work before and after each process instead.",
    )


def _turbo(now: Conditions) -> Obstacle | None:
    if not now.boost:
        return None
    return Obstacle(
        name="turbo",
        severity="note",
        found="clocks rise above the rated one for as long as the processor stays cool",
        advice="For figures that repeat over hours, switch boost off: "
        "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo (Intel), "
        "echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost (others).",
    )


_RULES = (
    _emulated,
    _thermal_status,
    _thermal_override,
    _debuggable,
    _foreground_app,
    _low_battery,
    _on_battery,
    _load,
    _steal,
    _governor,
    _capped,
    _hot,
    _power_mode,
    _cpu_quota,
    _virtual_machine,
    _no_clock_control,
    _turbo,
)
OBSTACLE_NAMES = (
    "emulated",
    THERMAL_STATUS,
    "thermal-override",
    "debuggable-build",
    "foreground-app",
    "low-battery",
    "on-battery",
    "load",
    "steal",
    "governor",
    "clock-cap",
    "thermal",
    "power-mode",
    "cpu-quota",
    "virtual-machine",
    "no-clock-control",
    "turbo",
)
"""Every name that can be accepted."""


def require_known(names: Iterable[str]) -> None:
    """Refuse to accept what nothing is called.

    Raises:
        UnknownName: There is no such obstacle, or none that can be accepted.
    """
    for name in names:
        if name not in OBSTACLE_NAMES:
            raise UnknownName("obstacle", name, OBSTACLE_NAMES)


def not_fit(device_id: str, obstacle: Obstacle) -> DeviceNotFit:
    """A refusal, with what to do about it. What a phone lacks to be used at all can only be mended."""
    can_be_accepted = obstacle.name in OBSTACLE_NAMES
    return DeviceNotFit(device_id, obstacle.name, obstacle.found, obstacle.advice, can_be_accepted=can_be_accepted)
