"""From raw times to an effect: the ratio of B to A with its interval, over trials.

A trial is one fresh process of A and one of B, alive together and asked for blocks in turn, so that whatever happens to
the device happens to both. Each trial gives one number, the logarithm of a ratio; trials are independent of each other
and are what is counted. Inferences and blocks of one trial are not independent and only make its number better.

Ratios are kept as natural logarithms, in which B 3 % slower than A and A 3 % slower than B are equally far from zero.
`scipy` is imported where it is needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from harness.errors import MissingExtra
from harness.statistics import median, percentile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import ModuleType

    from numpy.typing import NDArray

Method: TypeAlias = Literal["trimmed t", "signed-rank"]

CONFIDENCE: Final = 0.995
"""Of the interval of an effect, unless a family asks for another: 0.25 % on either side.

So that a single comparison of one build with itself alarms in clearly less than 1 of 100 cases: where the level is 1 %
itself, a campaign can never show that the rate is at most that."""
TRIM: Final = 0.1
"""The share of trials cut off at either end before the mean is taken."""
MIN_TRIALS: Final[dict[Method, int]] = {"trimmed t": 5, "signed-rank": 9}
"""With fewer, the trimmed mean has two values or fewer left; and of 8 values all the signs say only 1 in 256."""

_MAD_TO_SIGMA: Final = 1.4826022185056018
"""1 / the 75 % point of the normal distribution."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What trials say about B over A.

    Attributes:
        log_ratio: The estimate, a natural logarithm: 0 is no difference.
        low: Lower end of its interval, likewise.
        high: Upper end.
        confidence: Of the interval, in (0, 1).
        trials: How many.
        noise: Robust standard deviation of one trial's log ratio; None with fewer than two trials.
        method: What estimated it.
    """

    log_ratio: float
    low: float
    high: float
    confidence: float
    trials: int
    noise: float | None
    method: Method | Literal["exact", "two samples", "assumed noise"]

    @property
    def ratio(self) -> float:
        """B / A."""
        return math.exp(self.log_ratio)

    @property
    def ratio_low(self) -> float:
        """Lower end of the interval of B / A."""
        return math.exp(self.low)

    @property
    def ratio_high(self) -> float:
        """Upper end of the interval of B / A."""
        return math.exp(self.high)


def block_median_log_ratio(blocks: Iterable[tuple[Sequence[float], Sequence[float]]]) -> float:
    """The value of a trial: the median over its blocks of log(median of B / median of A).

    Args:
        blocks: For each block all times of A and all times of B, in one unit.

    Raises:
        ValueError: There is no block, one side of a block is empty, or a time is not positive and finite.
    """
    return median([_log_ratio(median(_times(a)), median(_times(b))) for a, b in blocks])


def percentile_log_ratio(a: Sequence[float], b: Sequence[float], fraction: float) -> float:
    """The value of a trial for a percentile: over all of its times, as a block has too few for it.

    Raises:
        ValueError: A side is empty, or a time is not positive and finite.
    """
    return _log_ratio(percentile(_times(a), fraction), percentile(_times(b), fraction))


def log_ratio(a: float, b: float) -> float:
    """The value of a trial for a quantity that each side has once: log(b / a).

    Raises:
        ValueError: One of them is not positive and finite.
    """
    _times([a, b])
    return _log_ratio(a, b)


def estimate(log_ratios: Sequence[float], *, confidence: float = CONFIDENCE, method: Method = "trimmed t") -> Effect:
    """The effect and its interval over trials.

    `trimmed t` is the mean of what is left when a tenth is cut off at either end (at least one trial), with the
    standard error from the winsorised values. On a shared machine one trial in twenty is far off, by ten standard
    deviations of the rest; the plain t interval is then so wide that it sees nothing. `signed-rank` is the median of
    all pairwise means with the exact interval of Wilcoxon's test; it assumes symmetry and no distribution.

    Raises:
        ValueError: There are fewer trials than `MIN_TRIALS`, or a value is not finite.

    Source: Yuen 1974, "The two-sample trimmed t for unequal population variances", Biometrika 61, 165-170; Hollander
    and Wolfe 1999, "Nonparametric statistical methods", section 3.3.
    """
    values = _finite(log_ratios)
    if values.size < MIN_TRIALS[method]:
        problem = f"{method} needs {MIN_TRIALS[method]} trials, there are {values.size}"
        raise ValueError(problem)
    interval = _trimmed_t_interval if method == "trimmed t" else _signed_rank_interval
    middle, low, high = interval(values, confidence)
    return Effect(
        log_ratio=middle,
        low=low,
        high=high,
        confidence=confidence,
        trials=int(values.size),
        noise=noise(log_ratios),
        method=method,
    )


def exact_effect(a: float, b: float) -> Effect:
    """The effect on a quantity that is known exactly, as the size of a file is.

    Raises:
        ValueError: One of them is not positive and finite.
    """
    value = log_ratio(a, b)
    return Effect(log_ratio=value, low=value, high=value, confidence=1.0, trials=1, noise=None, method="exact")


def two_samples(a: Sequence[float], b: Sequence[float], *, confidence: float = CONFIDENCE, trim: float = 0.0) -> Effect:
    """The effect between processes that were not measured in turn: the ratio of geometric means.

    What changed on the device between the two is in it.

    Args:
        a: Values of A.
        b: Values of B.
        confidence: Of the interval.
        trim: The share of either side's values that is left out of its mean at either end.

    Raises:
        ValueError: A side has fewer than two values, or one is not positive and finite.

    Source: Welch 1947, "The generalization of Student's problem", Biometrika 34, 28-35, on logarithms; with trimmed
    means Yuen 1974, "The two-sample trimmed t for unequal population variances", Biometrika 61, 165-170.
    """
    ours, theirs = np.log(_times(a)), np.log(_times(b))
    if min(ours.size, theirs.size) < 2:
        problem = "two samples need two values each"
        raise ValueError(problem)
    (our_mean, our_part, our_freedom), (their_mean, their_part, their_freedom) = (
        _trimmed_mean(side, trim) for side in (ours, theirs)
    )
    middle, variance = their_mean - our_mean, our_part + their_part
    reach = 0.0
    if variance > 0:
        freedom = variance**2 / (our_part**2 / our_freedom + their_part**2 / their_freedom)
        reach = math.sqrt(variance) * float(_special().stdtrit(freedom, (1 + confidence) / 2))
    return Effect(
        log_ratio=middle,
        low=middle - reach,
        high=middle + reach,
        confidence=confidence,
        trials=min(ours.size, theirs.size),
        noise=None,
        method="two samples",
    )


def _trimmed_mean(values: NDArray[np.float64], trim: float) -> tuple[float, float, int]:
    """A trimmed mean, its squared error, and the degrees of freedom of that."""
    ordered = np.sort(values)
    cut = int(trim * ordered.size)
    kept = ordered[cut : ordered.size - cut]
    drawn_in = np.clip(ordered, kept[0], kept[-1])
    squared_error = (ordered.size - 1) * float(drawn_in.var(ddof=1)) / (kept.size * (kept.size - 1))
    return float(kept.mean()), squared_error, kept.size - 1


def noisy_effect(a: Sequence[float], b: Sequence[float], *, noise: float, confidence: float = CONFIDENCE) -> Effect:
    """The effect between quantities whose noise is known beforehand, from as few as one value each.

    Args:
        a: Values of A.
        b: Values of B.
        noise: Standard deviation of the logarithm of one value. Where the values themselves spread more, theirs counts.
        confidence: Of the interval.

    Raises:
        ValueError: A side is empty, or a value is not positive and finite.
    """
    ours, theirs = np.log(_times(a)), np.log(_times(b))
    spreads = [float(side.std(ddof=1)) for side in (ours, theirs) if side.size > 1]
    sigma = max([noise, *spreads])
    middle = float(theirs.mean() - ours.mean())
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * sigma * math.sqrt(1 / ours.size + 1 / theirs.size)
    return Effect(
        log_ratio=middle,
        low=middle - reach,
        high=middle + reach,
        confidence=confidence,
        trials=min(ours.size, theirs.size),
        noise=sigma,
        method="assumed noise",
    )


def shifted(effect: Effect, by: float) -> Effect:
    """The effect with every logarithm moved."""
    return replace(effect, log_ratio=effect.log_ratio + by, low=effect.low + by, high=effect.high + by)


def p_slower(log_ratios: Sequence[float], *, margin: float = 0.0, method: Method = "trimmed t") -> float:
    """One-sided p-value of "B / A is at most 1 + `margin`".

    Small values speak for a slowdown by more than the margin. It agrees with `estimate`: p is at most alpha where the
    interval of confidence 1 - 2 alpha lies above the margin.

    Raises:
        ValueError: As `estimate`.
    """
    values = _finite(log_ratios) - math.log1p(margin)
    if values.size < MIN_TRIALS[method]:
        problem = f"{method} needs {MIN_TRIALS[method]} trials, there are {values.size}"
        raise ValueError(problem)
    if method == "trimmed t":
        middle, error, freedom = _trimmed(values)
        if error == 0:
            return 0.0 if middle > 0 else 1.0
        return float(_special().stdtr(freedom, -middle / error))
    # The number of pairwise means above zero is the sum of the positive ranks, but for values of exactly zero, which
    # then speak against a slowdown.
    positive = np.count_nonzero(_walsh_averages(values) > 0)
    return min(1.0, float(_signed_rank_distribution(values.size)[positive:].sum()))


def noise(log_ratios: Sequence[float]) -> float | None:
    """The robust standard deviation of one trial: 1.4826 x the median absolute deviation.

    Returns:
        None with fewer than two values.

    Raises:
        ValueError: A value is not finite.
    """
    if len(log_ratios) < 2:
        return None
    values = _finite(log_ratios)
    return float(_MAD_TO_SIGMA * np.median(np.abs(values - np.median(values))))


def _trimmed_t_interval(values: NDArray[np.float64], confidence: float) -> tuple[float, float, float]:
    middle, error, freedom = _trimmed(values)
    reach = error * float(_special().stdtrit(freedom, (1 + confidence) / 2)) if error > 0 else 0.0
    return middle, middle - reach, middle + reach


def _trimmed(values: NDArray[np.float64]) -> tuple[float, float, int]:
    """Trimmed mean, its standard error, degrees of freedom."""
    ordered = np.sort(values)
    n = ordered.size
    cut = max(1, int(TRIM * n))
    left = n - 2 * cut
    winsorised = np.clip(ordered, ordered[cut], ordered[n - cut - 1])
    # The sum of squares by hand: numpy's variance of equal values may be 1e-35 and not 0.
    centred = winsorised - winsorised.mean() if winsorised[0] != winsorised[-1] else np.zeros(n)
    error = math.sqrt(float(centred @ centred) / (left * (left - 1)))
    # Of equal values the mean may be off by a rounding.
    middle = float(ordered[cut]) if error == 0 else float(ordered[cut : n - cut].mean())
    return middle, error, left - 1


def _signed_rank_interval(values: NDArray[np.float64], confidence: float) -> tuple[float, float, float]:
    """Hodges and Lehmann's estimate; ends are order statistics of the pairwise means."""
    averages = np.sort(_walsh_averages(values))
    below = _signed_rank_distribution(values.size).cumsum()
    # The largest k for which fewer than k of the means lie beyond the true centre with at most (1 - confidence) / 2.
    k = int(np.searchsorted(below, (1 - confidence) / 2 * (1 + 1e-12), side="right"))
    if k == 0:
        problem = f"{values.size} trials cannot give an interval of {100 * confidence:g} %"
        raise ValueError(problem)
    return float(np.median(averages)), float(averages[k - 1]), float(averages[averages.size - k])


def _walsh_averages(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The means of all pairs, of each value with itself too: n (n + 1) / 2."""
    first, second = np.triu_indices(values.size)
    return np.asarray((values[first] + values[second]) / 2)


def _signed_rank_distribution(n: int) -> NDArray[np.float64]:
    """The probability of each sum of positive ranks, 0 to n (n + 1) / 2, where either sign is equally likely."""
    probability = np.zeros(n * (n + 1) // 2 + 1)
    probability[0] = 1.0
    for rank in range(1, n + 1):
        shifted = np.concatenate((np.zeros(rank), probability[:-rank]))
        probability = (probability + shifted) / 2
    return probability


def _log_ratio(a: float, b: float) -> float:
    return math.log(b) - math.log(a)


def _times(values: Sequence[float]) -> Sequence[float]:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or not np.all(np.isfinite(array)) or np.min(array) <= 0:
        problem = "a ratio needs values that are positive and finite"
        raise ValueError(problem)
    return values


def _finite(values: Sequence[float]) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if not np.all(np.isfinite(array)):
        problem = "a trial's log ratio is not finite"
        raise ValueError(problem)
    return array


def _special() -> ModuleType:
    try:
        from scipy import special  # noqa: PLC0415
    except ImportError:
        raise MissingExtra("scipy", "comparing", "analysis") from None
    module: ModuleType = special
    return module
