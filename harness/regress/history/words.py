"""A history as text, at most 80 columns wide where the names allow it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from harness import statistics, units
from harness.regress.history.point import CAUSE_FIELDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.regress.history.story import Cause, ChangeTold, ModelTold, Series, Story

_BARS: Final = "▁▂▃▄▅▆▇█"
_BARS_MAX: Final = 20
_BARS_SPAN_MIN: Final = 1.02
"""Less than 2 % from the lowest to the highest is drawn as small as it is."""
_STANDINGS: Final = {
    "confirmed": "confirmed",
    "suspected": "suspected; a few more runs will tell",
    "went away": "went away again",
    "machine": "the machine's: a fixed piece of work beside it changed likewise",
}
_SHORT_HASH: Final = 12


def models_text(models: Sequence[ModelTold]) -> str:
    """One line a model."""
    rows = [("model", "points", "runs", "first", "last", "reference")]
    rows += [
        (
            told.model,
            f"{told.points:,}",
            f"{told.runs:,}",
            told.first_at[:10],
            told.last_at[:10],
            str(told.reference) if told.reference else "–",
        )
        for told in models
    ]
    return "\n".join(_aligned(rows))


def story_text(story: Story) -> str:
    """The series, then every change with what came with it."""
    whose = f"{story.model} · {story.metric} · {sum(len(one.values) for one in story.series):,} points"
    if story.points_not_shown:
        whose += f", {story.points_not_shown:,} not shown"
    rows = [("series", "points", "latest", "ratio", "trend")]
    rows += [
        (
            one.label,
            f"{len(one.values):,}",
            quantity(one.values[-1], story.metric),
            "–" if one.ratios[-1] is None else f"{one.ratios[-1]:.3f}",
            _trend(one.values),
        )
        for one in story.series
    ]
    lines = [whose, "", *_aligned(rows), "", f"ratio: to {story.reference}" if story.reference else _NO_REFERENCE]
    changes = sorted(((change, one) for one in story.series for change in one.changes), key=lambda pair: pair[0].at)
    lines += ["", "changes" if changes else "no changes", *(line for pair in changes for line in change_lines(*pair))]
    return "\n".join(lines)


_NO_REFERENCE: Final = "ratio: no reference is pinned (`harness history pin`)"


def change_lines(change: ChangeTold, series: Series) -> list[str]:
    """One change and what came with it."""
    lines = [
        f"{change.at[:10]}  {series.label}: {100 * (change.ratio - 1):+.1f} %, in run {change.run}",
        f"            {_STANDINGS[change.standing]}",
    ]
    causes = sorted(change.causes, key=lambda cause: CAUSE_FIELDS.index(cause.field))
    lines += [f"            {cause_text(cause)}" for cause in causes]
    return lines if causes else [*lines, "            nothing that is recorded changed with it"]


def cause_text(cause: Cause) -> str:
    """`runtime version: 1.24.0 -> 1.25.0`."""
    before, after = (
        text[:_SHORT_HASH] if cause.field.endswith("sha256") or cause.field == "revision" else text
        for text in (cause.before, cause.after)
    )
    return f"{cause.field.replace('_', ' ')}: {before} -> {after}"


def quantity(value: float, metric: str) -> str:
    """A value of the metric with its unit."""
    return units.mebibytes_said(value) if metric in {"memory", "size"} else units.duration(value)


def _trend(values: Sequence[float]) -> str:
    """Bars from the lowest to the highest; of more points than bars, each is a median."""
    bars = min(len(values), _BARS_MAX)
    edges = [len(values) * number // bars for number in range(bars + 1)]
    levels = [statistics.median(values[begin:end]) for begin, end in itertools.pairwise(edges)]
    low = min(levels)
    span = max(max(levels) - low, (_BARS_SPAN_MIN - 1) * low)
    return "".join(_BARS[min(int((level - low) / span * len(_BARS)), len(_BARS) - 1)] for level in levels)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of their own width: the first and the last to the left, figures to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    last = len(widths) - 1
    return [
        "  ".join(
            cell.ljust(width) if column in {0, last} else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
