"""From trials, as they are stored, to the values that effects are estimated from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from harness.regress.decision import MARGINS, Metric, Verdict, compare_trials, decide
from harness.regress.effect import CONFIDENCE, Effect, block_median_log_ratio, exact_effect, log_ratio
from harness.regress.effect import percentile_log_ratio as percentile_ratio
from harness.statistics import median, samples_ns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.records import Block, Comparison, ProcessRecord, Trial

TIMES: Final[frozenset[Metric]] = frozenset({"p50", "p90", "cold_start"})
"""Of which nothing is concluded on a device that emulates every instruction."""
BLOCKS_A_TURN = 2
"""ABBA has two of either side."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a comparison says about one metric.

    Attributes:
        metric: Which.
        verdict: What to make of it.
        effect: B over A; None where too few trials count.
        margin: How much larger B may be: 0.03 is 3 %.
        values: The log ratio of each trial that counts; empty for an exact quantity.
        disturbed: Trials that do not count.
    """

    metric: Metric
    verdict: Verdict
    effect: Effect | None
    margin: float
    values: tuple[float, ...]
    disturbed: int = 0


def findings(
    comparison: Comparison, margins: Mapping[Metric, float] = MARGINS, *, confidence: float = CONFIDENCE
) -> tuple[Finding, ...]:
    """Effect and verdict of every metric that was measured, in one stage."""
    found: list[Finding] = []
    for metric in MARGINS:
        margin = margins.get(metric, MARGINS[metric])
        if metric == "size":
            effect = exact_effect(comparison.a.artifact.size_bytes, comparison.b.artifact.size_bytes)
            found.append(
                Finding(metric=metric, verdict=decide(effect, margin), effect=effect, margin=margin, values=())
            )
            continue
        trials = [trial for trial in comparison.trials if metric != "memory" or trial.a_memory is not None]
        if not trials:
            continue
        values = metric_log_ratios(trials, metric)
        verdict, measured = compare_trials(values, margin, confidence=confidence)
        if comparison.device.is_emulated and metric in TIMES:
            verdict = "inconclusive"
        found.append(
            Finding(
                metric=metric,
                verdict=verdict,
                effect=measured,
                margin=margin,
                values=tuple(values),
                disturbed=len(trials) - len(values),
            )
        )
    return tuple(found)


def metric_log_ratios(trials: Sequence[Trial], metric: Metric) -> list[float]:
    """The value of each trial that counts and has this metric, in order.

    Args:
        trials: As they were stored.
        metric: Any but `size`, of which there are no trials.
    """
    return [value for trial in trials if (value := trial_log_ratio(trial, metric)) is not None]


def trial_log_ratio(trial: Trial, metric: Metric) -> float | None:
    """What one trial says: log(B / A).

    Returns:
        None where it does not say it: the metric was not measured, or more than half of a process was disturbed.
    """
    if metric == "memory":
        if trial.a_memory is None or trial.b_memory is None:
            return None
        return log_ratio(trial.a_memory.peak_bytes, trial.b_memory.peak_bytes)
    if any(process.discarded is not None for process in (*trial.a, *trial.b)):
        return None
    if metric == "cold_start":
        return log_ratio(cold_start_ns(trial.a), cold_start_ns(trial.b))
    if metric == "p90":
        return percentile_ratio(all_samples_ns(trial.a), all_samples_ns(trial.b), 0.9)
    if trial.how == "alive together":
        return _turns_log_ratio(trial)
    return _mean_log_median(trial.b) - _mean_log_median(trial.a)


def _turns_log_ratio(trial: Trial) -> float | None:
    """Over the turns of ABBA or BAAB in which no block was disturbed."""
    (a,), (b,) = trial.a, trial.b
    turns = zip(_turns(a.blocks), _turns(b.blocks), strict=True)
    counted = [
        (_times(ours), _times(theirs))
        for ours, theirs in turns
        if all(block.discarded is None for block in (*ours, *theirs))
    ]
    # With fewer than half, the median is not that of the trial any more.
    return block_median_log_ratio(counted) if 2 * len(counted) >= len(a.blocks) / BLOCKS_A_TURN else None


def _turns(blocks: Sequence[Block]) -> list[Sequence[Block]]:
    return [blocks[start : start + BLOCKS_A_TURN] for start in range(0, len(blocks), BLOCKS_A_TURN)]


def _times(blocks: Sequence[Block]) -> list[float]:
    return [ns / block.iterations_per_sample for block in blocks for ns in block.ns]


def all_samples_ns(processes: Sequence[ProcessRecord]) -> list[float]:
    """Every inference of one side of a trial that counts."""
    return [ns for process in processes for ns in samples_ns(process)]


def _mean_log_median(processes: Sequence[ProcessRecord]) -> float:
    return sum(math.log(median(samples_ns(process))) for process in processes) / len(processes)


def cold_start_ns(processes: Sequence[ProcessRecord]) -> float:
    """Loading and first inference of one side of a trial."""
    return median([process.load_ns + process.first_inference_ns for process in processes])
