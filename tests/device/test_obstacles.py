from __future__ import annotations

from typing import Any

import msgspec
import pytest

from harness.device import obstacles
from harness.device.obstacles import OBSTACLE_NAMES, Conditions, find_obstacles
from tests.fakes.device import FACTS, state


def conditions(**changes: Any) -> Conditions:
    """Those of a quiet device, but for what is named."""
    own = ("capped_pct", "boost", "processors_allowed", "thermal_status_is_overridden", "home_app")
    named = {name: changes.pop(name) for name in own if name in changes}
    facts = {
        name: changes.pop(name)
        for name in ("device_class", "virtual_machine", "cores", "debuggable")
        if name in changes
    }
    return Conditions(facts=msgspec.structs.replace(FACTS, **facts), state=state(**changes), **named)


EACH: dict[str, tuple[str, dict[str, Any], str]] = {
    "emulated": ("refusal", {"device_class": "emulated"}, "instructions are emulated"),
    "thermal-status": ("refusal", {"thermal_status": "moderate"}, "thermal status: moderate"),
    "thermal-override": ("refusal", {"thermal_status_is_overridden": True}, "nobody knows the real one"),
    "debuggable-build": ("refusal", {"debuggable": True}, "a build for debugging"),
    "foreground-app": (
        "refusal",
        {"foreground_app": "org.game", "home_app": "org.home"},
        "the app org.game is in front",
    ),
    "low-battery": ("refusal", {"battery_pct": 24.4, "charging": True}, "the battery is at 24 %"),
    "on-battery": ("warning", {"battery_pct": 90.0, "charging": False}, "runs on its battery"),
    "load": ("warning", {"cpu_busy_pct": 10.1}, "10 % busy with other work"),
    "steal": ("warning", {"steal_pct": 2.56}, "kept 2.6 % of the processors' time"),
    "governor": ("warning", {"governor": "powersave"}, "governor powersave"),
    "clock-cap": ("warning", {"capped_pct": 25.3}, "25 % below what the hardware can do"),
    "thermal": ("warning", {"temperature_celsius": 85.0}, "at 85 °C"),
    "power-mode": ("warning", {"power_mode": "low-power"}, "profile is low-power"),
    "cpu-quota": ("warning", {"processors_allowed": 1.5, "cores": 4}, "the time of 1.5 processors"),
    "virtual-machine": ("note", {"virtual_machine": "KVM"}, "virtual machine (KVM)"),
    "no-clock-control": ("note", {"governor": None, "cpu_cap_hz": None}, "cannot be read"),
    "turbo": ("note", {"boost": True}, "rise above the rated one"),
}


def test_a_quiet_machine_has_none() -> None:
    assert find_obstacles(conditions()) == ()


@pytest.mark.parametrize("name", EACH)
def test_each_obstacle_is_found_for_its_own_reason_and_says_what_to_do(name: str) -> None:
    severity, changes, found = EACH[name]

    (obstacle,) = find_obstacles(conditions(**changes))

    assert (obstacle.name, obstacle.severity) == (name, severity)
    assert found in obstacle.found
    assert obstacle.advice


def test_every_name_that_can_be_accepted_is_one_that_can_be_found() -> None:
    assert set(OBSTACLE_NAMES) == set(EACH)
    assert len(OBSTACLE_NAMES) == len(obstacles._RULES)


@pytest.mark.parametrize(
    "changes",
    [
        {"cpu_busy_pct": 10.0},
        {"steal_pct": 1.0},
        {"temperature_celsius": 84.9},
        {"battery_pct": 25.0, "charging": True},
        {"capped_pct": 0.9},
        {"power_mode": "balanced"},
        {"power_mode": "performance"},
        {"processors_allowed": 4.0, "cores": 4},
        {"boost": False},
        {"thermal_status": "none"},
        {"governor": None},
        {"cpu_cap_hz": None},
    ],
)
def test_what_is_at_its_limit_or_harmless_is_no_obstacle(changes: dict[str, Any]) -> None:
    assert find_obstacles(conditions(**changes)) == ()


def test_what_is_unknown_is_no_obstacle() -> None:
    unknown = dict.fromkeys(
        ("load_1min", "cpu_busy_pct", "steal_pct", "temperature_celsius", "battery_pct", "charging", "power_mode")
    )

    assert find_obstacles(conditions(**unknown)) == ()


def test_the_worst_come_first() -> None:
    everything: dict[str, Any] = {}
    for _, changes, _ in EACH.values():
        everything |= changes
    everything |= {"governor": "powersave", "cpu_cap_hz": 1e9, "charging": False, "battery_pct": 9.0}

    severities = [obstacle.severity for obstacle in find_obstacles(conditions(**everything))]

    assert severities == ["refusal"] * 5 + ["warning"] * 8 + ["note"] * 2


@pytest.mark.parametrize(
    "changes",
    [
        {"foreground_app": "org.home", "home_app": "org.home"},
        {"foreground_app": "org.game", "home_app": None},
        {"foreground_app": "org.game", "home_app": "org.home", "screen_on": False},
    ],
)
def test_only_an_app_that_is_known_to_be_in_front_stands_in_the_way(changes: dict[str, Any]) -> None:
    assert find_obstacles(conditions(**changes)) == ()


@pytest.mark.parametrize("kind", ["phone", "tablet"])
def test_battery_saver_refuses_a_phone(kind: str) -> None:
    (obstacle,) = find_obstacles(conditions(device_class=kind, power_mode="low-power"))

    assert (obstacle.name, obstacle.severity) == ("power-mode", "refusal")
