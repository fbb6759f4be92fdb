"""How many trials an effect takes, and what so many trials can see: said before the first sample is taken."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

from harness.regress.effect import CONFIDENCE, MIN_TRIALS

ALPHA: Final = (1 - CONFIDENCE) / 2
"""Wrong claims on either side: half of what the interval leaves out."""
POWER: Final = 0.9
"""How often an effect that is called visible has to be found."""
HEAVY_TAILS: Final = 3.0
"""How many times as many trials as for normally distributed noise of the same robust standard deviation.

One trial in twenty on a shared machine is far off, and the trimmed mean with its wider error is less efficient than
the plain one would be on the rest. Replays of recorded noise (`tests/regress/test_planning.py`) find at least 90 % of
what is called visible with this factor, and do not without it.
"""
_CUT: Final = 4
"""One trial at least is cut off at either end before the mean, and two more for the error being estimated itself."""
DEFAULT_NOISE: Final = 0.03
"""The robust standard deviation of a trial's log ratio that is assumed of a device that was not calibrated."""


def trials_needed(noise: float, effect: float, *, alpha: float = ALPHA, power: float = POWER) -> int:
    """How many trials find a slowdown of `effect` (0.03 is 3 %) with probability `power`.

    The same number passes an unchanged build under a margin of `effect` as often: both ask for an interval that is
    narrower than the effect on one side.

    Source: n = ((z_alpha + z_power) noise / log(1 + effect))^2, times `HEAVY_TAILS`, and `_CUT`.
    """
    if effect <= 0:
        problem = "no number of trials shows an effect of nothing"
        raise ValueError(problem)
    needed = HEAVY_TAILS * (_z(alpha, power) * noise / math.log1p(effect)) ** 2
    return max(MIN_TRIALS["trimmed t"], _CUT + math.ceil(needed - 1e-9))


def smallest_effect(noise: float, trials: int, *, alpha: float = ALPHA, power: float = POWER) -> float:
    """The smallest slowdown (0.03 is 3 %) that so many trials find with probability `power`."""
    return math.expm1(_z(alpha, power) * noise * math.sqrt(HEAVY_TAILS / (trials - _CUT)))


def _z(alpha: float, power: float) -> float:
    normal = NormalDist()
    return normal.inv_cdf(1 - alpha) + normal.inv_cdf(power)
