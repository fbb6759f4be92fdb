"""A device is waited for by its own word, within bounds."""

from __future__ import annotations

import pytest

from harness.errors import NeverSteady
from harness.measure.cooling import COOL_CAP_S, COOL_POLL_S, Cooling
from tests.fakes.device import FakeDevice, state


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every wait, which takes no time but for the clock."""
    passed: list[float] = []
    monkeypatch.setattr("harness.measure.cooling.time.sleep", passed.append)
    monkeypatch.setattr("harness.measure.cooling.time.monotonic", lambda: sum(passed))
    return passed


def test_a_cell_begins_when_the_system_says_that_it_is_cool(waits: list[float]) -> None:
    device = FakeDevice(states=[state(thermal_status=word) for word in ("severe", "light", "none")])

    assert Cooling(device).begin().thermal_status == "none"
    assert waits == [COOL_POLL_S] * 2


@pytest.mark.parametrize("word", ["none", "nominal", "fair"])
def test_the_cool_status_of_either_system_is_never_waited_for(word: str, waits: list[float]) -> None:
    watch = Cooling(FakeDevice(states=[state(thermal_status=word)]))

    watch.begin()
    watch.wait()

    assert watch.warmed() is None
    assert waits == []


def test_what_does_not_cool_is_left_to_the_preflight_within_ten_minutes(waits: list[float]) -> None:
    assert Cooling(FakeDevice(states=[state(thermal_status="severe")])).begin().thermal_status == "severe"
    assert sum(waits) == COOL_CAP_S


def test_a_status_that_is_accepted_is_not_waited_for(waits: list[float]) -> None:
    watch = Cooling(FakeDevice(states=[state(thermal_status="light")]), patient=False)

    watch.begin()
    watch.wait()

    assert watch.warmed() is None
    assert waits == []


@pytest.mark.parametrize("sensor", ["temperature_celsius", "skin_celsius"])
def test_processor_and_skin_have_to_be_as_cool_as_before(sensor: str, waits: list[float]) -> None:
    watch = Cooling(FakeDevice(states=[state(**{sensor: celsius}) for celsius in (35.0, 39.0, 38.1, 38.0)]))

    watch.begin()
    watch.wait()

    assert waits == [COOL_POLL_S] * 2


def test_what_stays_hot_is_given_up_with_the_reason() -> None:
    watch = Cooling(FakeDevice(states=[state(skin_celsius=30.0), state(skin_celsius=45.0)]))
    watch.begin()

    with pytest.raises(NeverSteady, match=r"skin at 45 °C, above 33 °C for 10 min"):
        watch.wait()


def test_a_status_that_rose_meanwhile_is_told() -> None:
    watch = Cooling(FakeDevice(states=[state(thermal_status="none"), state(thermal_status="moderate")]))
    watch.begin()

    assert watch.warmed() == "the thermal status rose to moderate"


def test_a_status_that_is_not_known_any_more_is_not_cool(waits: list[float]) -> None:
    watch = Cooling(FakeDevice(states=[state(thermal_status=word) for word in ("nominal", None, "nominal")]))
    watch.begin()

    watch.wait()

    assert waits == [COOL_POLL_S]


def test_a_device_that_knows_nothing_of_its_heat_is_not_asked_again() -> None:
    device = FakeDevice(states=[state(temperature_celsius=None)])
    watch = Cooling(device)
    watch.begin()

    watch.wait()

    assert watch.warmed() is None
    assert device.calls.count("state") == 1
