"""Warm-up and the timed block, on a clock that the test moves."""

from __future__ import annotations

from itertools import chain, repeat
from typing import TYPE_CHECKING

import pytest

from harness.deploy.worker.loop import iterations_per_sample, timed_block, warm_up

if TYPE_CHECKING:
    from collections.abc import Iterator

MS = 1_000_000


class Clock:
    """A clock that only an inference moves."""

    def __init__(self, durations_ns: Iterator[int]) -> None:
        self.now = 0
        self.invocations = 0
        self._durations = durations_ns

    def __call__(self) -> int:
        return self.now

    def invoke(self) -> None:
        self.invocations += 1
        self.now += next(self._durations)


def test_a_constant_time_is_steady_once_both_least_amounts_are_reached() -> None:
    clock = Clock(repeat(10 * MS))

    warm = warm_up(clock.invoke, iterations=10, seconds=0.25, cap_s=8, clock=clock)

    assert warm.steady
    # 41 close iterations come before the first second is over, and after 10 iterations and 0.25 s.
    assert len(warm.ns) == 41


def test_one_cold_first_inference_does_not_delay_steadiness_for_hundreds_of_iterations() -> None:
    clock = Clock(chain([30 * MS], repeat(10 * MS)))

    warm = warm_up(clock.invoke, iterations=10, seconds=0.25, cap_s=8, clock=clock)

    assert warm.steady
    assert len(warm.ns) < 150


def test_times_that_keep_growing_end_at_the_cap_and_are_not_steady() -> None:
    clock = Clock(iter(round(MS * 1.02**i) for i in range(1000)))

    warm = warm_up(clock.invoke, iterations=10, seconds=0.1, cap_s=2, clock=clock)

    assert not warm.steady
    assert sum(warm.ns) >= 2_000 * MS


def test_a_slow_model_is_steady_after_a_second_and_five_inferences() -> None:
    clock = Clock(repeat(300 * MS))

    warm = warm_up(clock.invoke, iterations=2, seconds=0.1, cap_s=8, clock=clock)

    assert warm.steady
    assert len(warm.ns) == 5


@pytest.mark.parametrize(("iterations", "seconds", "expected"), [(7, 0.0, 7), (1, 0.05, 5), (7, 0.05, 7), (1, 0.0, 1)])
def test_a_block_lasts_until_both_its_iterations_and_its_seconds_are_reached(
    iterations: int, seconds: float, expected: int
) -> None:
    clock = Clock(repeat(10 * MS))

    block = timed_block(clock.invoke, iterations=iterations, seconds=seconds, clock=clock)

    assert block.ns == [10 * MS] * expected
    assert clock.invocations == expected


def test_every_time_is_kept_in_the_order_it_was_taken() -> None:
    clock = Clock(iter([3, 1, 4, 1, 5]))

    assert timed_block(clock.invoke, iterations=5, seconds=0, clock=clock).ns == [3, 1, 4, 1, 5]


def test_very_short_inferences_share_a_sample_and_the_sample_is_their_sum() -> None:
    clock = Clock(repeat(50))

    block = timed_block(clock.invoke, iterations=40, seconds=0, per_sample=20, clock=clock)

    assert block.iterations_per_sample == 20
    assert block.ns == [1000, 1000]


@pytest.mark.parametrize(
    ("typical_ns", "clock_cost_ns", "expected"),
    [(5_000, 50, 1), (4_999, 50, 2), (500, 50, 10), (1, 1, 100), (1e6, 50, 1)],
)
def test_a_sample_is_never_shorter_than_a_hundred_clock_readings(
    typical_ns: float, clock_cost_ns: int, expected: int
) -> None:
    assert iterations_per_sample(typical_ns, clock_cost_ns) == expected


def test_nothing_but_the_inference_is_between_the_two_readings_of_one_sample() -> None:
    events: list[str] = []

    def clock() -> int:
        events.append("clock")
        return len(events)

    timed_block(lambda: events.append("invoke"), iterations=2, seconds=0, clock=clock)

    assert events == ["clock", "clock", "invoke", "clock", "clock", "invoke", "clock"]
