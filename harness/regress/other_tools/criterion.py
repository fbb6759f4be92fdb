"""criterion.rs: a bootstrapped t test, then the interval of the change of the mean against a noise threshold.

Source: bheisler/criterion.rs, `src/analysis/compare.rs` (`t_test`, `estimates`), `src/stats/univariate/mixed.rs`,
`src/report.rs` (`compare_to_threshold`); the defaults of `src/lib.rs`: significance 0.05, noise threshold 1 %,
confidence 0.95, 100,000 resamples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SIGNIFICANCE: Final = 0.05
NOISE_THRESHOLD: Final = 0.01
CONFIDENCE: Final = 0.95
RESAMPLES: Final = 2000
"""A fiftieth of criterion's: p is then exact to 0.005 at its limit, and a campaign takes minutes, not hours."""


def is_slower(base: Sequence[float], new: Sequence[float], *, seed: int = 0) -> bool:
    """Whether criterion would say "Performance has regressed".

    Args:
        base: Times of one process of the old version, each a mean over iterations.
        new: Of the new one.
        seed: Of the resampling.
    """
    a, b = np.asarray(new, dtype=np.float64), np.asarray(base, dtype=np.float64)
    random = np.random.default_rng(seed)
    observed = float(_t(a[None, :], b[None, :])[0])
    both = np.concatenate((a, b))
    drawn = both[random.integers(0, both.size, (RESAMPLES, both.size))]
    null = _t(drawn[:, : a.size], drawn[:, a.size :])
    below = int(np.count_nonzero(null < observed))
    p = 2 * min(below, RESAMPLES - below) / RESAMPLES
    if p >= SIGNIFICANCE:
        return False
    means_a = a[random.integers(0, a.size, (RESAMPLES, a.size))].mean(axis=1)
    means_b = b[random.integers(0, b.size, (RESAMPLES, b.size))].mean(axis=1)
    return bool(np.quantile(means_a / means_b - 1, (1 - CONFIDENCE) / 2) > NOISE_THRESHOLD)


def _t(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Welch's t of each row; of rows without any spread 0, as they say nothing."""
    spread = np.sqrt(a.var(axis=1, ddof=1) / a.shape[1] + b.var(axis=1, ddof=1) / b.shape[1])
    difference = a.mean(axis=1) - b.mean(axis=1)
    return np.asarray(np.divide(difference, spread, out=np.zeros_like(difference), where=spread > 0))
