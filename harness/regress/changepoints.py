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

from harness.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Standing: TypeAlias = Literal["suspected", "confirmed", "went away"]

MIN_MAGNITUDE: Final = 0.01
"""A smaller change is none: 1 %."""
SIGNIFICANCE: Final = 0.001
"""Of the t test between the two sides. Source: apache/otava, `--p-value` default."""
LEVEL_POINTS: Final = 3
"""So many points make a level."""
FRESH_POINTS: Final = 3
"""So many more are looked at again, at least."""
FRESH_SIGNIFICANCE: Final = 0.01
POINTS_MAX: Final = 400
"""The newest points that are looked at: the divisive method compares each with each."""

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

    Raises:
        MissingExtra: scipy is not installed.
    """
    skipped = max(0, len(logs) - POINTS_MAX)
    raw = np.asarray(logs[skipped:], dtype=np.float64)
    if raw.size < 2 * LEVEL_POINTS:
        return ()
    values = _drawn_in(raw)
    first, second = optimal_partition(values), divisive(values)
    agreed = [index for index in second if any(abs(index - other) <= _APART_MAX for other in first)]
    edges = [0, *agreed, values.size]
    changes = []
    for number, index in enumerate(agreed, start=1):
        before, after = values[edges[number - 1] : index], values[index : edges[number + 1]]
        low, high = float(np.median(before)), float(np.median(after))
        if abs(high - low) >= math.log1p(min_magnitude):
            fresh = values[index + LEVEL_POINTS : max(edges[number + 1], index + LEVEL_POINTS + FRESH_POINTS)]
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
    """Split where the two sides' distributions differ most, and each side again, while a t test says they do differ.

    Source: Matteson and James 2014, "A nonparametric approach for multiple change point analysis of multivariate data",
    JASA 109, 334-345 (E-divisive, exponent 1); the t test in place of permutations, and the removal of the weakest
    splits after the last one, as in apache/otava, `signal_processing_algorithms/analysis.py`.
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


def p_different(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """Two-sided p-value of "both have the same mean", for points of which neighbours resemble each other.

    Welch's t test, with as many points on either side as independent ones would be: a machine that is slow today is
    often slow tomorrow, and ten points of one mood say less than ten of ten moods.

    Source: the effective number n (1 - r) / (1 + r) for a first-order autocorrelation r; Zwiers and von Storch 1995,
    "Taking serial correlation into account in tests of the mean", Journal of Climate 8, 336-351.
    """
    difference = float(np.mean(after) - np.mean(before))
    residuals = np.concatenate((before - np.mean(before), after - np.mean(after)))
    kept = (1 - _autocorrelation(residuals)) / (1 + _autocorrelation(residuals))
    errors, freedoms = [], []
    for side in (before, after):
        n = max(2.0, side.size * kept)
        errors.append(max(float(np.var(side, ddof=1)) if side.size > 1 else 0.0, _NO_NOISE**2) / n)
        freedoms.append(n - 1)
    error = sum(errors)
    freedom = error**2 / sum(part**2 / f for part, f in zip(errors, freedoms, strict=True))
    return 2 * _student_tail(freedom, abs(difference) / math.sqrt(error))


def _look_again(
    before: NDArray[np.float64], fresh: NDArray[np.float64], difference: float, min_magnitude: float
) -> Standing:
    """Judge a change by the points that came after those that showed it."""
    if fresh.size < FRESH_POINTS:
        return "suspected"
    moved = float(np.median(fresh) - np.median(before)) * math.copysign(1, difference)
    stayed = moved >= max(math.log1p(min_magnitude), abs(difference) / 2)
    return "confirmed" if stayed and p_different(before, fresh) <= FRESH_SIGNIFICANCE else "went away"


def _split(values: NDArray[np.float64], offset: int) -> list[int]:
    if values.size < 2 * LEVEL_POINTS:
        return []
    index = _furthest(values)
    if p_different(values[:index], values[index:]) > SIGNIFICANCE:
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
    padded = np.pad(values, _NEIGHBOURS, mode="reflect")
    middle = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * _NEIGHBOURS + 1), axis=1)
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
    try:
        from scipy.special import stdtr  # noqa: PLC0415  (a sixth of a second, only where there is something to test)
    except ImportError:
        raise MissingExtra("scipy", "finding changes", "analysis") from None
    return float(stdtr(freedom, -t))
