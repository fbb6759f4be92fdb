"""pyperf: Student's t test over the pooled values of all processes.

Source: psf/pyperf, `pyperf/_utils.py` (`is_significant`, `tscore`, `tdist95conf_level`), `pyperf/_compare.py`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

VALUES_A_PROCESS: Final = 3
"""After one warm-up value."""

_LIMITS: Final = (
    *(0.0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""97.5 % points of Student's t, by degrees of freedom; pyperf's own table."""
_LIMITS_BEYOND: Final = ((200, 1.960), (100, 1.984), (80, 1.990), (60, 2.000), (50, 2.009), (40, 2.021))


def is_slower(base: Sequence[float], new: Sequence[float]) -> bool:
    """Whether `pyperf compare_to` would say "slower" and not "Not significant".

    Args:
        base: All values of all processes of the old version.
        new: As many of the new one.

    Raises:
        ValueError: They are not as many, or fewer than two.
    """
    if len(base) != len(new) or len(base) < 2:
        problem = f"pyperf compares as many values with as many, not {len(base)} with {len(new)}"
        raise ValueError(problem)
    a, b = np.asarray(new, dtype=np.float64), np.asarray(base, dtype=np.float64)
    difference = float(a.mean() - b.mean())
    error = math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / a.size)
    return difference > 0 and difference >= _limit(2 * a.size - 2) * error


def _limit(freedom: int) -> float:
    for least, limit in _LIMITS_BEYOND:
        if freedom >= least:
            return limit
    return _LIMITS[min(freedom, len(_LIMITS) - 1)]
