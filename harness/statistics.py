"""The estimators, each on plain numbers: what is reported, how sure it is, what stands out.

Inferences of one process are not independent of each other (they share its memory layout, its clocks, its luck), so
processes are what is counted wherever this module says how sure a figure is. Times may be in any unit; a function
whose result has one says so in its name.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from harness.records import ProcessRecord

MIN_PROCESSES: Final = 5
"""Below this no interval is given: the widest that four values allow holds the median in 87.5 % of cases only."""

_MAD_TO_SIGMA: Final = 1.4826022185056018
"""1 / the 75 % point of the normal distribution: the MAD of normal values times this is their standard deviation."""
_Z_95: Final = 1.959963984540054
"""The 97.5 % point of the normal distribution."""


class Interval(NamedTuple):
    """Between `low` and `high`, with the confidence that was really reached."""

    low: float
    high: float
    confidence_pct: float


class Outliers(NamedTuple):
    """Values beyond Tukey's fences, on either side. Counted, never dropped."""

    mild: int
    severe: int


class Slope(NamedTuple):
    """A change of value per unit of time, with its 95 % interval."""

    value: float
    low: float
    high: float


def samples_ns(process: ProcessRecord) -> list[float]:
    """The times of one process that count, in run order, in ns for one inference."""
    return [ns / block.iterations_per_sample for block in process.blocks if block.discarded is None for ns in block.ns]


def process_median_ns(process: ProcessRecord) -> float | None:
    """The p50 of one process by itself; None where every block was discarded."""
    samples = samples_ns(process)
    return median(samples) if samples else None


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the middle two."""
    return float(np.median(_array(values)))


def median_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval | None:
    """Where the median of the population lies that `values` were drawn from.

    The interval's ends are order statistics: of n independent values, the k-th lowest and the k-th highest enclose the
    median with a probability that the binomial distribution gives, whatever the population looks like. The probability
    moves in steps with k; between two steps the ends are interpolated.

    Nothing is drawn at random and the interval always holds the sample's own median. Five values cannot say more than
    their whole range, which is right in 93.75 % of cases; `confidence_pct` then says that.

    Why this and not a bootstrap: `tests/bench/interval_coverage.py` measures how often a nominal 95 % interval holds
    the true median, for seven kinds of populations from calm to bimodal, with 5, 6, 7, 8, 10, 15 and 20 processes,
    4,000 repetitions each. Lowest and highest found:

        order statistics, interpolated (this)          93.1 to 96.0 %
        bootstrap of the median, percentile            86.4 to 94.9 %, the worst with 7 processes
        bootstrap of the median, BCa                   86.5 to 94.9 %, likewise
        t on logarithms of the process medians         24.1 to 97.6 %, fails where processes have two modes
        bootstrap of the geometric mean, BCa            7.9 to 92.8 %

    With 10 processes that resemble a normal distribution the t interval is a tenth narrower; where one process in
    seven is slowed by something else, it is twice as wide. Adding processes until the interval is within ±1 %, 5 to
    10 of them, costs little: 92.8 to 95.2 %.

    Args:
        values: One independent value a process.
        confidence: Wanted, in (0, 1).

    Returns:
        None with fewer than `MIN_PROCESSES` values.

    Source: Hettmansperger and Sheather 1986, "Confidence intervals based on interpolated order statistics",
    Statistics and Probability Letters 4, 75-79.
    """
    ordered = np.sort(_array(values))
    n = ordered.size
    if n < MIN_PROCESSES:
        return None
    # k counts from 1: [k-th lowest, k-th highest].
    k = 1
    while 2 * (k + 1) <= n and _enclosed(n, k + 1) >= confidence:
        k += 1
    outer = _enclosed(n, k)
    low, high = float(ordered[k - 1]), float(ordered[n - k])
    if outer <= confidence or 2 * (k + 1) > n:
        return Interval(low, high, 100 * outer)
    share = (outer - confidence) / (outer - _enclosed(n, k + 1))
    inward = (n - k) * share / (k + (n - 2 * k) * share)
    return Interval(
        _between(low, float(ordered[k]), inward), _between(high, float(ordered[n - k - 1]), inward), 100 * confidence
    )


def half_width_pct(process_medians: Sequence[float]) -> float | None:
    """Half the width of the reported interval, in per cent of the reported median.

    A measuring session stops on this, and a report shows it: it is one figure, from one estimator.

    Returns:
        None with fewer than `MIN_PROCESSES` values.
    """
    interval = median_interval(process_medians)
    if interval is None:
        return None
    return 100 * (interval.high - interval.low) / 2 / median(process_medians)


def percentile(values: Sequence[float], fraction: float) -> float:
    """The lowest value that at least `fraction` of all values do not exceed.

    Always a value that was seen; nothing is interpolated. (Definition 1 in Hyndman and Fan 1996, "Sample quantiles in
    statistical packages"; `inverted_cdf` in NumPy.)
    """
    return float(np.quantile(_array(values), fraction, method="inverted_cdf"))


def early_stopping_percentile(
    values: Sequence[float], fraction: float = 0.9, *, confidence: float = 0.99
) -> float | None:
    """A value that the true percentile does not exceed, with the given confidence.

    The raw percentile of few values is too low about half of the time. This estimate goes up by as many values as the
    binomial distribution asks for: the largest t is sought for which t or fewer values above the percentile would be
    seen with a probability of at most 1 - `confidence`, and the t-th highest value is the answer.

    The binomial distribution takes the values as independent, which inferences of one process are only roughly.

    Returns:
        None with too few values: 64 are needed for 90 %, 662 for 99 %.

    Source: MLPerf LoadGen, mlcommons/inference, loadgen/early_stopping.cc (tolerance 0).
    """
    ordered = np.sort(_array(values))
    n = ordered.size
    # log P(0 above), then the ratios P(k above) / P(k - 1 above); in logarithms because 0.9 ** 10,000 is 0 in float64.
    k = np.arange(1, n + 1)
    ratios = np.log((n - k + 1) / k) + math.log((1 - fraction) / fraction)
    log_probability = np.concatenate(([n * math.log(fraction)], n * math.log(fraction) + np.cumsum(ratios)))
    cumulative = np.cumsum(np.exp(log_probability))
    t = int(np.searchsorted(cumulative, 1 - confidence, side="right")) - 1
    return float(ordered[n - t]) if t >= 1 else None


def cv_pct(values: Sequence[float]) -> float | None:
    """The coefficient of variation: sample standard deviation (n - 1) in per cent of the mean.

    Used between processes: there are few, and a single stray one has to show.

    Returns:
        None with fewer than two values.
    """
    array = _array(values)
    return None if array.size < 2 else float(100 * np.std(array, ddof=1) / np.mean(array))


def robust_cv_pct(values: Sequence[float]) -> float | None:
    """The spread of the bulk: 1.4826 x median absolute deviation, in per cent of the median.

    Used within a process: there are many values, and the few far ones are told by p90 and by the outlier counts. For
    normally distributed values it is the coefficient of variation.

    Returns:
        None with fewer than two values.
    """
    array = _array(values)
    if array.size < 2:
        return None
    middle = np.median(array)
    return float(100 * _MAD_TO_SIGMA * np.median(np.abs(array - middle)) / middle)


def outliers(values: Sequence[float]) -> Outliers:
    """Count the values more than 1.5 (mild) and more than 3 (severe) interquartile ranges outside the quartiles.

    Quartiles are interpolated (NumPy's default). Severe ones are not counted as mild.

    Source: Tukey 1977, "Exploratory Data Analysis", section 2D.
    """
    array = _array(values)
    q1, q3 = np.quantile(array, [0.25, 0.75])
    outside = np.maximum(q1 - array, array - q3)
    severe = int(np.count_nonzero(outside > 3 * (q3 - q1)))
    return Outliers(mild=int(np.count_nonzero(outside > 1.5 * (q3 - q1))) - severe, severe=severe)


def theil_sen(times: Sequence[float], values: Sequence[float]) -> Slope | None:
    """The median of the slopes between all pairs of points, and Sen's 95 % interval for it.

    One value in four may be wild without moving it far. The interval takes the points as independent.

    Returns:
        None with fewer than `MIN_PROCESSES` points (four points in order happen by chance once in twelve times), or
        where all times are equal.

    Source: Sen 1968, "Estimates of the regression coefficient based on Kendall's tau", JASA 63, 1379-1389.
    """
    x, y = _array(times), _array(values)
    if x.size < MIN_PROCESSES:
        return None
    first, second = np.triu_indices(x.size, k=1)
    apart = x[second] - x[first]
    slopes = np.sort((y[second] - y[first])[apart != 0] / apart[apart != 0])
    if slopes.size == 0:
        return None
    # Ties in both at once are taken off twice; with hardly anything but ties there is nothing left.
    reach = _Z_95 * math.sqrt(max(_kendall_spread(x.size) - _ties(x) - _ties(y), 0) / 18)
    lowest = max(round((slopes.size - reach) / 2) - 1, 0)
    highest = min(round((slopes.size + reach) / 2), slopes.size - 1)
    return Slope(float(np.median(slopes)), float(slopes[lowest]), float(slopes[highest]))


def _array(values: Sequence[float]) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        problem = "a statistic of no values at all"
        raise ValueError(problem)
    return array


def _enclosed(n: int, k: int) -> float:
    """The probability that the k-th lowest and the k-th highest of n values enclose the population's median."""
    return 1 - 2 * float(sum(math.comb(n, i) for i in range(k)) / 2**n)


def _between(start: float, end: float, share: float) -> float:
    # start + share * (end - start) can miss `end` by a rounding, and then not hold the median between equal values.
    return start if start == end else (1 - share) * start + share * end


def _kendall_spread(n: int) -> int:
    return n * (n - 1) * (2 * n + 5)


def _ties(values: NDArray[np.float64]) -> int:
    counts = np.unique(values, return_counts=True)[1]
    return sum(_kendall_spread(int(count)) for count in counts)
