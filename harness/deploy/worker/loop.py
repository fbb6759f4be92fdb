"""The timed loop: warm up until the times settle, then blocks with nothing between one inference and the next."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FAST_WEIGHT = 0.1
SLOW_WEIGHT = 0.005
CLOSE = 0.04
CLOSE_FOR_ITERATIONS = 40
CLOSE_FOR_S = 1.0
LEAST_FOR_SLOW = 5
"""Settled: a fast and a slow moving average within 4 % of each other for 40 iterations in a row.

Source: androidx.benchmark's WarmupManager (same weights, share and count). Two things differ. Both averages are
corrected for their start (as in Kingma & Ba 2015, section 3), since the uncorrected slow one still remembers the cold
first iteration after hundreds. And for inferences of many milliseconds, where 40 take too long, being close for one
second and at least 5 iterations is enough.
"""


@dataclass(frozen=True)
class WarmedUp:
    """Every warm-up time, and whether they settled before the cap."""

    ns: list[int]
    steady: bool


@dataclass(frozen=True)
class Timed:
    """One block."""

    start_ns: int
    iterations_per_sample: int
    ns: list[int]


def warm_up(
    invoke: Callable[[], None],
    *,
    iterations: int,
    seconds: float,
    cap_s: float,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> WarmedUp:
    """Run until the times have settled, at least `iterations` and `seconds`, at most `cap_s`."""
    times: list[int] = []
    fast = slow = 0.0
    fast_left = slow_left = 1.0
    close_since: int | None = None
    close_count = 0
    began = clock()
    while True:
        before = clock()
        invoke()
        after = clock()
        taken = after - before
        times.append(taken)
        fast += FAST_WEIGHT * (taken - fast)
        slow += SLOW_WEIGHT * (taken - slow)
        fast_left *= 1 - FAST_WEIGHT
        slow_left *= 1 - SLOW_WEIGHT
        steady_value = slow / (1 - slow_left)
        if abs(fast / (1 - fast_left) - steady_value) <= CLOSE * steady_value:
            close_since = before if close_since is None else close_since
            close_count += 1
        else:
            close_since, close_count = None, 0
        lasted_s = (after - began) / 1e9
        enough = len(times) >= iterations and lasted_s >= seconds
        close_s = 0.0 if close_since is None else (after - close_since) / 1e9
        settled = close_count > CLOSE_FOR_ITERATIONS or (close_count >= LEAST_FOR_SLOW and close_s >= CLOSE_FOR_S)
        if enough and settled:
            return WarmedUp(times, steady=True)
        if lasted_s >= cap_s:
            return WarmedUp(times, steady=False)


def timed_block(
    invoke: Callable[[], None],
    *,
    iterations: int,
    seconds: float,
    per_sample: int = 1,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Timed:
    """Time inferences one by one until `iterations` of them and `seconds` are both reached.

    With `per_sample` above 1 that many run between two readings of the clock, and a sample is their sum.
    """
    times: list[int] = []
    keep = times.append
    start = clock()
    deadline = start + round(seconds * 1e9)
    if per_sample == 1:
        while True:
            before = clock()
            invoke()
            after = clock()
            keep(after - before)
            if after >= deadline and len(times) >= iterations:
                return Timed(start, 1, times)
    while True:
        before = clock()
        for _ in range(per_sample):
            invoke()
        after = clock()
        keep(after - before)
        if after >= deadline and len(times) * per_sample >= iterations:
            return Timed(start, per_sample, times)


def iterations_per_sample(typical_ns: float, clock_cost_ns: int) -> int:
    """How many inferences one sample needs so that reading the clock stays below 1 % of it."""
    return max(1, -(-100 * clock_cost_ns // max(1, round(typical_ns))))
