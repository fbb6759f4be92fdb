"""What each side of a comparison takes by itself, beside the ratio: +5 % of 30 µs and of 3 s are not the same news.

Verdicts come from the ratios of trials alone. The ratio of two levels is near that of the trials, and not equal to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from harness.regress.decision import MARGINS, Metric
from harness.regress.trials import all_samples_ns, cold_start_ns, trial_log_ratio
from harness.statistics import median, percentile, samples_ns
from harness.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.records import CellResult, Comparison, MemoryRecord, ProcessRecord, Trial

UNITS: Final[Mapping[Metric, Literal["ns", "bytes"]]] = {
    "p50": "ns",
    "p90": "ns",
    "cold_start": "ns",
    "memory": "bytes",
    "size": "bytes",
}


@dataclass(frozen=True, kw_only=True)
class Level:
    """One figure of either side.

    Attributes:
        a: Of what is compared with, in the unit that `UNITS` says.
        b: Of what is compared, likewise.
    """

    a: float
    b: float


def levels(comparison: Comparison) -> dict[Metric, Level]:
    """The median over the trials that count, of each metric that was measured; the size of the two files."""
    found: dict[Metric, Level] = {}
    for metric in MARGINS:
        if metric == "size":
            a, b = comparison.a.artifact.size_bytes, comparison.b.artifact.size_bytes
            found[metric] = Level(a=a, b=b)
            continue
        counted = [trial for trial in comparison.trials if trial_log_ratio(trial, metric) is not None]
        if counted:
            ours, theirs = zip(*(_sides(trial, metric) for trial in counted), strict=True)
            found[metric] = Level(a=median(ours), b=median(theirs))
    return found


def levels_of_runs(a: CellResult, b: CellResult) -> dict[Metric, Level]:
    """The figures of two stored cells, as the reports of their runs say them."""
    before, after = summarise(a), summarise(b)
    if before is None or after is None:
        return {}
    pairs: dict[Metric, tuple[float | None, float | None]] = {
        "p50": (before.p50_ns, after.p50_ns),
        "p90": (before.p90_ns, after.p90_ns),
        "cold_start": (before.cold_start_ns, after.cold_start_ns),
        "memory": (before.peak_memory_bytes, after.peak_memory_bytes),
        "size": (before.size_bytes, after.size_bytes),
    }
    return {
        metric: Level(a=ours, b=theirs)
        for metric, (ours, theirs) in pairs.items()
        if ours is not None and theirs is not None
    }


def _sides(trial: Trial, metric: Metric) -> tuple[float, float]:
    if metric == "memory":
        return _peak(trial.a_memory), _peak(trial.b_memory)
    timed: dict[Metric, Callable[[Sequence[ProcessRecord]], float]] = {
        "p50": _p50,
        "p90": _p90,
        "cold_start": cold_start_ns,
    }
    return timed[metric](trial.a), timed[metric](trial.b)


def _peak(record: MemoryRecord | None) -> float:
    assert record is not None
    return record.peak_bytes


def _p50(processes: Sequence[ProcessRecord]) -> float:
    return median([median(samples_ns(process)) for process in processes])


def _p90(processes: Sequence[ProcessRecord]) -> float:
    return percentile(all_samples_ns(processes), 0.9)
