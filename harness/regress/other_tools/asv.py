"""asv: a U test at 0.002, or intervals that do not overlap, and then a factor of 1.1.

Source: airspeed-velocity/asv, `asv/_stats.py` (`is_different`), `asv/commands/compare.py` (`_is_result_better`, factor
1.1) and asv_runner, `asv_runner/statistics.py` (`quantile_ci`, `compute_stats`: intervals of 99 %).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from harness.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Sequence

P_THRESHOLD: Final = 0.002
FACTOR: Final = 1.1
INTERVAL_ALPHA: Final = 0.01


def is_slower(base: Sequence[float], new: Sequence[float], *, factor: float = FACTOR) -> bool:
    """Whether `asv continuous` would mark the benchmark as worse.

    Args:
        base: Samples of all rounds of the old version.
        new: Of the new one.
        factor: How many times as slow is slower.
    """
    return _is_different(base, new) and float(np.median(base)) < float(np.median(new)) / factor


def _is_different(a: Sequence[float], b: Sequence[float]) -> bool:
    if 1 / math.comb(len(a) + len(b), min(len(a), len(b))) < P_THRESHOLD:
        try:
            from scipy.stats import mannwhitneyu  # noqa: PLC0415  (a second)
        except ImportError:
            raise MissingExtra("scipy", "the rules of other tools", "analysis") from None
        return float(mannwhitneyu(a, b, alternative="two-sided").pvalue) < P_THRESHOLD
    (low_a, high_a), (low_b, high_b) = median_interval(a), median_interval(b)
    return high_a < low_b or low_a > high_b


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 99 % interval of the median as asv has it; an end that the values cannot give is infinite.

    asv then takes a posterior's end. From six values a side on the U test decides, and it never comes to that.
    """
    ordered = sorted(values)
    low, high, below = -math.inf, math.inf, 0.0
    for k, value in enumerate(ordered):
        below += math.comb(len(ordered), k) / 2 ** len(ordered)
        if below <= INTERVAL_ALPHA / 2:
            low = value
        if below >= 1 - INTERVAL_ALPHA / 2:
            high = value
            break
    return low, high
