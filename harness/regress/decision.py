"""From an effect to a verdict, for one cell and for a family of cells. On plain numbers.

A margin is how much slower (larger) B may be than A: 0.03 is 3 %. The interval of the effect decides:

    regression      the whole interval is above the margin
    small slowdown  the whole interval is above zero, and not all of it above the margin
    improvement     the whole interval is below zero
    pass            the interval ends below the margin, and holds zero
    inconclusive    none of these: the trials cannot tell no difference from one beyond the margin

With the usual interval of 99.5 %, each wrong claim (a regression or slowdown of what is not slower, a pass of what is
slower than the margin) is made in at most 1 of 400 comparisons.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from harness.regress.effect import CONFIDENCE, MIN_TRIALS, Effect, Method, estimate, p_slower

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Verdict: TypeAlias = Literal["regression", "small slowdown", "pass", "improvement", "inconclusive"]

Metric: TypeAlias = Literal["p50", "p90", "cold_start", "memory", "size"]
"""What is compared: the median and the 90th percentile of one inference, loading and first inference together, peak
memory of the process, bytes of the file."""

MARGINS: Final[dict[Metric, float]] = {"p50": 0.03, "p90": 0.10, "cold_start": 0.10, "memory": 0.01, "size": 0.005}
_ROUNDING: Final = 1e-12


def decide(effect: Effect | None, margin: float) -> Verdict:
    """The verdict on one effect; None, where too few trials were left to estimate it, is inconclusive."""
    if effect is None:
        return "inconclusive"
    # An exact figure may equal its margin, that much was allowed; logarithms of it are then a rounding apart.
    limit = math.log1p(margin) + _ROUNDING
    if effect.low > limit:
        return "regression"
    if effect.low > 0:
        return "small slowdown"
    if effect.high < 0:
        return "improvement"
    if effect.high < limit or effect.low == effect.high:
        return "pass"
    return "inconclusive"


def compare_trials(
    log_ratios: Sequence[float], margin: float, *, confidence: float = CONFIDENCE, method: Method = "trimmed t"
) -> tuple[Verdict, Effect | None]:
    """Effect and verdict of one cell, in one stage: every planned trial at once, looked at only then."""
    effect = None
    if len(log_ratios) >= MIN_TRIALS[method]:
        effect = estimate(log_ratios, confidence=confidence, method=method)
    return decide(effect, margin), effect


@dataclass(frozen=True, kw_only=True)
class FamilyRule:
    """How a family of hypotheses (each a cell and a metric) is judged in two stages.

    Every cell is screened with few trials. One that is clearly within the margin or clearly faster is settled there;
    each other one is confirmed with trials of its own, in which no screening trial counts. What is claimed after
    confirmation is claimed with the error rate of the whole family held.

    Attributes:
        screen_trials: Trials of each cell in the first stage.
        screen_alpha: A cell whose one-sided p-value is at most this goes on to the second.
        confirm_trials: Fresh trials of each cell in the second stage.
        family_alpha: Probability that anything is wrongly claimed to be slower, over the whole family.
        cell_alpha: Nor is any one cell tested less strictly than this, however small the family.
    """

    screen_trials: int = 20
    screen_alpha: float = 0.10
    confirm_trials: int = 100
    family_alpha: float = 0.05
    cell_alpha: float = 0.005


def is_settled_by_screening(log_ratios: Sequence[float], margin: float, rule: FamilyRule) -> bool:
    """Whether the first stage suffices for a cell: nothing speaks for a slowdown, and the margin is certainly kept.

    The screen by itself never claims a slowdown.
    """
    verdict, effect = compare_trials(log_ratios, margin)
    if effect is None:
        return False
    return p_slower(log_ratios) > rule.screen_alpha and verdict in {"pass", "improvement"}


def confirm(
    confirmations: Mapping[str, Sequence[float]], margins: Mapping[str, float], *, family: int, rule: FamilyRule
) -> dict[str, tuple[Verdict, Effect | None]]:
    """Verdicts of the cells that went on to the second stage, from their fresh trials alone.

    Holm's procedure on "slower by at most its margin" gives each hypothesis its level; the interval at that level gives
    the verdict, so that both always agree. Where "not slower at all" is true, "slower by at most the margin" is true as
    well, so the levels hold the rate of wrongly claimed small slowdowns too.

    Args:
        confirmations: Hypothesis -> log ratios of its fresh trials.
        margins: Hypothesis -> margin.
        family: How many hypotheses were screened, those that were settled there included.
        rule: The error rates.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6, 65-70.
    """
    enough = {key: values for key, values in confirmations.items() if len(values) >= MIN_TRIALS["trimmed t"]}
    p_values = {key: p_slower(values, margin=margins[key]) for key, values in enough.items()}
    levels = holm_levels(p_values, family=family, family_alpha=rule.family_alpha, cell_alpha=rule.cell_alpha)
    return {
        key: compare_trials(values, margins[key], confidence=1 - 2 * levels[key] if key in levels else CONFIDENCE)
        for key, values in confirmations.items()
    }


def holm_levels(
    p_values: Mapping[str, float], *, family: int, family_alpha: float, cell_alpha: float = 1.0
) -> dict[str, float]:
    """The level at which Holm's procedure tests each hypothesis.

    A hypothesis is rejected where its p-value is at most its level. All that follow the first one that is not rejected
    are tested at the level of that one, and none of them can be rejected.

    Args:
        p_values: Hypothesis -> p-value; those of the family that are not named count as 1.
        family: How many hypotheses there are in all.
        family_alpha: Probability of any wrong rejection.
        cell_alpha: An upper limit for every level.
    """
    levels: dict[str, float] = {}
    left = family
    for key in sorted(p_values, key=lambda name: (p_values[name], name)):
        levels[key] = min(cell_alpha, family_alpha / left)
        if p_values[key] <= levels[key]:
            left -= 1
    return levels
