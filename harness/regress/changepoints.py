"""Where a series of figures moved to another level and stayed there. On plain numbers, natural logarithms of figures.

Two methods that fail in different ways have to agree, and what they agree on is looked at again in points that did not
show it. A single far point, which every shared machine has, moves neither: it is drawn in to where its neighbours are
before anything is sought.

    suspected   both methods see it; too few points came since to look again
    confirmed   the points that came since are at the new level too
    went away   they are not
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Standing: TypeAlias = Literal["suspected", "confirmed", "went away"]

MIN_MAGNITUDE: Final = 0.01
"""A smaller change is none: 1 %."""
SIGNIFICANCE: Final = 1e-5
"""Of the t test between the two sides.

Otava's 0.001 would be right for a place that was given; here the place is the best of a hundred. Of 60 series of 100
recorded comparisons of a build with itself 5 had a change at 0.001, 4 at 0.0001 and none at this.
"""
LEVEL_POINTS: Final = 3
"""So many points make a level."""
FRESH_POINTS: Final = 3
"""So many more are looked at again, at least."""
FRESH_SIGNIFICANCE: Final = 0.01
POINTS_MAX: Final = 400
"""The newest points that are looked at: the divisive method compares each with each."""

_WORTH_A_SPLIT: Final = 0.2
"""While splitting: one side may still hold two levels, which hide the difference. What was too much is joined again."""
_APART_MAX: Final = 5
"""Points that two methods may differ by and still mean the same change."""
_FAR: Final = 4.0
"""Standard deviations from its neighbours at which a single point is drawn in."""
_NEIGHBOURS: Final = 2
"""On either side: five points, of which a step of three has the majority."""
_MAD_TO_SIGMA: Final = 1.4826022185056018
_NO_NOISE: Final = 1e-4
"""Figures that agree better than this are taken as this noisy, or the first rounding would be a change."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of level.

    Attributes:
        index: The first point at the new level.
        before: The level until then, a median, in the units of the series.
        after: The level since.
        standing: What the second look said.
    """

    index: int
    before: float
    after: float
    standing: Standing

    @property
    def ratio(self) -> float:
        """New level / old level."""
        return math.exp(self.after - self.before)


def find_changes(logs: Sequence[float], *, min_magnitude: float = MIN_MAGNITUDE) -> tuple[Change, ...]:
    """The changes of level in a series with noise, in order.

    Args:
        logs: Natural logarithms, oldest first. Only the last `POINTS_MAX` are looked at.
        min_magnitude: Smallest change that is one; 0.01 is 1 %.
    """
    skipped = max(0, len(logs) - POINTS_MAX)
    raw = np.asarray(logs[skipped:], dtype=np.float64)
    if raw.size < 2 * LEVEL_POINTS:
        return ()
    values = _drawn_in(raw)
    agreed = _agreed(values)
    edges = [0, *agreed, values.size]
    changes = []
    for number, index in enumerate(agreed, start=1):
        before, after = values[edges[number - 1] : index], values[index : edges[number + 1]]
        low, high = float(np.median(before)), float(np.median(after))
        if abs(high - low) >= math.log1p(min_magnitude):
            seen = _seen_with(raw, index)
            fresh = values[seen : max(edges[number + 1], seen + FRESH_POINTS)]
            standing = _look_again(before, fresh, high - low, min_magnitude)
            changes.append(Change(index=skipped + index, before=low, after=high, standing=standing))
    return tuple(changes)


def find_steps(logs: Sequence[float], *, min_magnitude: float) -> tuple[Change, ...]:
    """The changes in a series without noise, as the size of a file is: each is there at once, and certain."""
    steps = []
    for index in range(1, len(logs)):
        before, after = logs[index - 1], logs[index]
        if abs(after - before) >= math.log1p(min_magnitude):
            steps.append(Change(index=index, before=before, after=after, standing="confirmed"))
    return tuple(steps)


def optimal_partition(values: NDArray[np.float64]) -> list[int]:
    """The levels that fit best when each one costs: where each but the first begins.

    The cost of a level is the sum of its squared deviations in units of the noise, and 3 log n for having it. The noise
    is estimated from differences of neighbours, which a change of level hardly touches.

    Source: Killick, Fearnhead and Eckley 2012, "Optimal detection of changepoints with a linear computational cost",
    JASA 107, 1590-1598 (PELT); 3 log n is the "modified BIC" of Zhang and Siegmund 2007.
    """
    n = values.size
    scaled = (values - np.median(values)) / _noise(values)
    sums = np.concatenate(([0.0], np.cumsum(scaled)))
    squares = np.concatenate(([0.0], np.cumsum(scaled**2)))
    penalty = 3 * math.log(n)
    best = np.full(n + 1, np.inf)
    best[0] = -penalty
    start_of_last = np.zeros(n + 1, dtype=np.int64)
    candidates = np.array([0])
    for end in range(LEVEL_POINTS, n + 1):
        lengths = end - candidates
        costs = best[candidates] + squares[end] - squares[candidates] - (sums[end] - sums[candidates]) ** 2 / lengths
        chosen = int(np.argmin(costs))
        best[end] = costs[chosen] + penalty
        start_of_last[end] = candidates[chosen]
        # Whatever cannot win now cannot win later (inequality 3 of the paper).
        candidates = np.append(candidates[costs <= best[end]], end - LEVEL_POINTS + 1)
        candidates = candidates[np.isfinite(best[candidates])]
    starts = []
    end = n
    while start_of_last[end] > 0:
        end = int(start_of_last[end])
        starts.append(end)
    return starts[::-1]


def divisive(values: NDArray[np.float64]) -> list[int]:
    """Split where the two sides' distributions differ most, and each side again; then join what does not differ.

    Source: Matteson and James 2014, "A nonparametric approach for multiple change point analysis of multivariate data",
    JASA 109, 334-345 (E-divisive, exponent 1); t tests in place of permutations, first lenient and then strict from the
    weakest split on, as in apache/otava, `otava/analysis.py`.
    """
    starts = _split(values, 0)
    while starts:
        edges = [0, *starts, values.size]
        p_values = [
            p_different(values[edges[i] : edges[i + 1]], values[edges[i + 1] : edges[i + 2]])
            for i in range(len(starts))
        ]
        weakest = int(np.argmax(p_values))
        if p_values[weakest] <= SIGNIFICANCE:
            break
        del starts[weakest]
    return starts


def p_different(before: NDArray[np.float64], after: NDArray[np.float64], *, alike: bool = True) -> float:
    """Two-sided p-value of "both have the same mean".

    Student's t test with one variance for both: a new level has three points at first, which say little of their own.

    Args:
        before: Points of one level.
        after: Points of the next.
        alike: Whether neighbours may resemble each other. A machine that is slow today is often slow tomorrow, and ten
            points of one mood say less than ten of ten moods: there count as many points as independent ones would.

    Source: the effective number n (1 - r) / (1 + r) for a first-order autocorrelation r; Zwiers and von Storch 1995,
    "Taking serial correlation into account in tests of the mean", Journal of Climate 8, 336-351.
    """
    residuals = np.concatenate((before - np.mean(before), after - np.mean(after)))
    r = _autocorrelation(residuals) if alike else 0.0
    kept = (1 - r) / (1 + r)
    freedom = max(residuals.size * kept - 2, 1.0)
    variance = max(float(residuals @ residuals) / (residuals.size - 2), _NO_NOISE**2)
    error = math.sqrt(variance * (1 / before.size + 1 / after.size) / kept)
    return 2 * _student_tail(freedom, abs(float(np.mean(after) - np.mean(before))) / error)


def _agreed(values: NDArray[np.float64]) -> list[int]:
    """Where both methods see a new level begin, as the divisive one places it."""
    candidates = divisive(values)
    others = optimal_partition(values) if candidates else []
    return [index for index in candidates if any(abs(index - other) <= _APART_MAX for other in others)]


def _seen_with(raw: NDArray[np.float64], index: int) -> int:
    """How many points, of the series as it grew, it took until the change was seen. All later ones are fresh.

    Lengths that grow by half are tried, so that a series is searched some ten times and not some hundred.
    """
    past = LEVEL_POINTS
    while index + past < raw.size:
        found = _agreed(_drawn_in(raw[: index + past]))
        if any(abs(index - other) <= _APART_MAX for other in found):
            return index + past
        past += max(1, past // 2)
    return raw.size


def _look_again(
    before: NDArray[np.float64], fresh: NDArray[np.float64], difference: float, min_magnitude: float
) -> Standing:
    """Judge a change by the points that came after those that showed it."""
    if fresh.size < FRESH_POINTS:
        return "suspected"
    moved = float(np.median(fresh) - np.median(before)) * math.copysign(1, difference)
    if moved < max(math.log1p(min_magnitude), abs(difference) / 2):
        return "went away"
    return "confirmed" if p_different(before, fresh) <= FRESH_SIGNIFICANCE else "suspected"


def _split(values: NDArray[np.float64], offset: int) -> list[int]:
    if values.size < 2 * LEVEL_POINTS:
        return []
    index = _furthest(values)
    # A level that is still to be found would look like points that resemble their neighbours.
    if p_different(values[:index], values[index:], alike=False) > _WORTH_A_SPLIT:
        return []
    return [*_split(values[:index], offset), offset + index, *_split(values[index:], offset + index)]


def _furthest(values: NDArray[np.float64]) -> int:
    """Where the energy distance between the left and the right side, weighted by their sizes, is largest."""
    n = values.size
    distances = np.abs(values[:, None] - values[None, :])
    # corner[i, j]: the sum over the first i rows and j columns.
    corner = np.zeros((n + 1, n + 1))
    corner[1:, 1:] = distances.cumsum(axis=0).cumsum(axis=1)
    left = np.arange(LEVEL_POINTS, n - LEVEL_POINTS + 1)
    right = n - left
    inside_left = corner[left, left]
    between = corner[left, n] - inside_left
    inside_right = corner[n, n] - 2 * corner[left, n] + inside_left
    energy = (
        2 * between / (left * right)
        - inside_left / (left * np.maximum(left - 1, 1))
        - inside_right / (right * np.maximum(right - 1, 1))
    )
    return int(left[np.argmax(energy * left * right / n)])


def _drawn_in(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each point at most `_FAR` standard deviations from the median of itself and its neighbours."""
    inner = np.median(np.lib.stride_tricks.sliding_window_view(values, 2 * _NEIGHBOURS + 1), axis=1)
    # The first and last points go by the five at that end: of those three have the majority as well.
    middle = np.pad(inner, _NEIGHBOURS, mode="edge")
    reach = _FAR * _noise(values)
    return np.clip(values, middle - reach, middle + reach)


def _noise(values: NDArray[np.float64]) -> float:
    """The standard deviation of a point, from differences of neighbours."""
    differences = np.diff(values)
    return max(_MAD_TO_SIGMA * float(np.median(np.abs(differences))) / math.sqrt(2), _NO_NOISE)


def _autocorrelation(residuals: NDArray[np.float64]) -> float:
    """Of neighbours, in [0, 0.9]; a negative one is taken as none, which is careful."""
    total = float(residuals @ residuals)
    if total == 0:
        return 0.0
    return min(max(float(residuals[:-1] @ residuals[1:]) / total, 0.0), 0.9)


def _student_tail(freedom: float, t: float) -> float:
    """The probability that Student's t exceeds `t`, for t of at least 0.

    Written out because `harness history` answers in less time than importing scipy takes; a test compares the two.

    Source: Abramowitz and Stegun, 26.7.1 and 26.5.8 (the continued fraction of the incomplete beta function).
    """
    a, b, x = freedom / 2, 0.5, freedom / (freedom + t * t)
    if x > (a + 1) / (a + b + 2):
        return 0.5 * (1 - _beta_fraction(b, a, 1 - x))
    return 0.5 * _beta_fraction(a, b, x)


def _beta_fraction(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by Lentz's method; for x below (a + 1) / (a + b + 2)."""
    if x <= 0:
        return 0.0
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    total = d
    for m in range(1, 500):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            c, d = 1 + term / c, 1 / (1 + term * d)
            total *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return math.exp(log_front) * total / a
