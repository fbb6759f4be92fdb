"""Google Benchmark: a two-sided Mann-Whitney U test over repetitions.

Source: google/benchmark, `tools/gbench/report.py` (`calc_utest`, `UTEST_OPTIMAL_REPETITIONS`) and `tools/compare.py`
(`--alpha` 0.05). The tool colours and gives no verdict; a significant difference with a higher mean is taken as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from harness.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Sequence

ALPHA: Final = 0.05
REPETITIONS: Final = 9
"""Below so many of them the tool warns."""


def is_slower(base: Sequence[float], new: Sequence[float]) -> bool:
    """Whether the test says that they differ, and the new one's mean is higher.

    Args:
        base: The mean time of each repetition, all in one process.
        new: Of the new version.
    """
    try:
        from scipy.stats import mannwhitneyu  # noqa: PLC0415  (a second)
    except ImportError:
        raise MissingExtra("scipy", "the rules of other tools", "analysis") from None
    p = float(mannwhitneyu(base, new, alternative="two-sided").pvalue)
    return bool(p < ALPHA and np.mean(new) > np.mean(base))
