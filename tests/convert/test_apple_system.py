"""Which Core ML file a system loads."""

from __future__ import annotations

import pytest

from harness.convert.apple_system import kind_for, limit_of, target_of, why_not_on, why_too_new
from harness.device.profile import find_profile


@pytest.mark.parametrize(
    ("system", "target"),
    [
        (None, 16),
        ("Debian GNU/Linux 12 (bookworm)", 16),
        ("iOS 12.5", 12),
        ("iPadOS 15.8", 15),
        ("iOS 18.5", 16),
        ("iOS 26.1", 16),
        ("macOS 12.6", 15),
        ("macOS 15.1", 16),
        ("macOS 26.0", 16),
    ],
)
def test_a_package_is_made_for_ios_16_or_for_what_is_older(system: str | None, target: int) -> None:
    assert target_of(system) == target


def test_the_older_of_what_a_device_has_and_what_it_can_have_decides() -> None:
    assert limit_of("iOS 14.2", "iOS 18") == "iOS 14.2"
    assert limit_of("iOS 15.8", "iOS 15.8") == "iOS 15.8"
    assert limit_of("iOS 26.1", None) is None
    assert limit_of(None, None) is None


def test_a_system_before_ios_15_gets_a_neural_network_of_the_older_kind() -> None:
    assert kind_for("iOS 14.8") == "neuralnetwork"
    assert kind_for("iOS 15.0") == kind_for(None) == "mlprogram"


@pytest.mark.parametrize(
    ("system", "precision", "said"),
    [
        ("iOS 12.5", "fp32", "iOS 12.5 loads no Core ML file that coremltools still converts to: those need iOS 13"),
        ("iOS 14.8", "fp16", "iOS 14.8 loads neural networks of the older kind only"),
        ("iOS 15.8", "int8_weights", "iOS 15.8 loads no compressed weights: they need iOS 16"),
    ],
)
def test_what_a_system_cannot_load_is_said_in_a_sentence(system: str, precision: str, said: str) -> None:
    assert said in (why_not_on(system, precision) or "nothing")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("specification", "system", "loads"),
    [
        (9, "iOS 17.5", False),
        (9, "iOS 18.0", True),
        (9, "macOS 14.6", False),
        (9, "macOS 15.0", True),
        (10, "iPadOS 18.5", False),
        (10, "macOS 26.1", True),
        (9, "Debian GNU/Linux 12 (bookworm)", True),
        (11, "iOS 26.0", True),
        (9, None, True),
    ],
)
def test_a_ready_package_of_a_newer_specification_is_refused_where_that_is_known(
    specification: int, system: str | None, loads: bool
) -> None:
    reason = why_too_new(specification, system)

    assert (reason is None) is loads
    if reason is not None:
        assert reason.startswith(f"{system} does not load it: its specification {specification} needs")


@pytest.mark.parametrize(
    ("device", "fp32", "palette"),
    [
        ("iphone-6", False, False),
        ("ipad-air-2", True, False),
        ("iphone-x", True, True),
        ("iphone-xr", True, True),
        ("ipad-7", True, True),
    ],
)
def test_what_each_device_of_the_study_loads_follows_from_its_last_system(
    device: str, fp32: bool, palette: bool
) -> None:
    apple = find_profile(device).apple
    assert apple is not None
    system = limit_of(apple.last_os)

    assert (why_not_on(system, "fp32") is None, why_not_on(system, "palette4") is None) == (fp32, palette)
