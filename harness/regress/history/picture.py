"""A history as a picture: a panel a series, with the levels, and the changes with what came with them."""

from __future__ import annotations

import itertools
import math
from datetime import datetime
from typing import TYPE_CHECKING, Final

from harness import statistics
from harness.errors import MissingExtra, UnwritableFolder, UsageError
from harness.regress.history.words import cause_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from harness.regress.history.story import Series, Story

KINDS: Final = (".svg", ".png", ".pdf")
PANELS_MAX: Final = 24
"""The series with the most changes first, where there are more."""
_COLOURS: Final = {"confirmed": "#c0392b", "suspected": "#d68910", "went away": "#95a5a6", "machine": "#95a5a6"}
_CAUSES_SHOWN: Final = 2


def require_kind(to: Path) -> None:
    """Refuse a name that does not say which kind of picture it is.

    Raises:
        UsageError: It ends otherwise than in one of `KINDS`.
    """
    if to.suffix not in KINDS:
        raise UsageError(f"{to}: a picture is written as {', '.join(KINDS)}")


def draw(story: Story, to: Path) -> int:
    """Write the picture.

    Args:
        story: What is drawn.
        to: A file that ends in one of `KINDS`.

    Returns:
        How many series had no room.

    Raises:
        UsageError: The name ends otherwise, or there is no point of this figure.
        UnwritableFolder: The file cannot be written.
        MissingExtra: matplotlib is not installed.
    """
    require_kind(to)
    if not story.series:
        raise UsageError(f"there is nothing to draw: {story.metric} of {story.model} was never measured")
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  (optional, and slow)
    except ImportError:
        raise MissingExtra("matplotlib", "drawing a history", "analysis") from None
    chosen = sorted(story.series, key=lambda one: -len(one.changes))[:PANELS_MAX]
    columns = min(2, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    figure = Figure(figsize=(7 * columns, 2.6 * rows + 0.6), layout="constrained")
    figure.suptitle(f"{story.model}: {story.metric}")
    for number, series in enumerate(chosen, start=1):
        _panel(figure.add_subplot(rows, columns, number), series, story)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(to, metadata={"Date": None} if to.suffix == ".svg" else None)
    except OSError as error:
        raise UnwritableFolder(str(to.parent), error.strerror or str(error)) from error
    return len(story.series) - len(chosen)


def _panel(axes: Axes, series: Series, story: Story) -> None:
    from matplotlib.dates import date2num  # noqa: PLC0415  (`draw` has found it)

    in_ratios = story.reference is not None and all(ratio is not None for ratio in series.ratios)
    unit_size, unit = (
        (1.0, "ratio") if in_ratios else (2**20, "MiB") if story.metric in {"memory", "size"} else (1e6, "ms")
    )
    at = [
        float(date2num(datetime.fromisoformat(text)))  # type: ignore[no-untyped-call]
        for text in series.at
    ]
    axes.xaxis_date()
    shown = [ratio or math.nan for ratio in series.ratios] if in_ratios else [v / unit_size for v in series.values]
    if not in_ratios:
        reach = [
            _reaches(series.values, series.lows, -1 / unit_size),
            _reaches(series.values, series.highs, 1 / unit_size),
        ]
        axes.errorbar(at, shown, yerr=reach, fmt="none", ecolor="#b8cfe0", elinewidth=1)
    axes.plot(at, shown, ".", color="#2874a6", markersize=4)
    edges = [0, *(change.index for change in series.changes), len(at)]
    for begin, end in itertools.pairwise(edges):
        level = statistics.median(shown[begin:end])
        axes.plot([at[begin], at[end - 1]], [level, level], color="#1b4f72", linewidth=1)
    for change in series.changes:
        axes.axvline(at[change.index], color=_COLOURS[change.standing], linewidth=1)
        words = [f"{100 * (change.ratio - 1):+.1f} % {change.standing}"]
        words += [cause_text(cause) for cause in change.causes[:_CAUSES_SHOWN]]
        axes.annotate(
            "\n".join(words),
            (at[change.index], 1),
            xycoords=("data", "axes fraction"),
            xytext=(2, -2),
            textcoords="offset points",
            va="top",
            fontsize=6,
            color=_COLOURS[change.standing],
        )
    axes.set_title(series.label, fontsize=9)
    axes.set_ylabel(unit, fontsize=8)
    axes.margins(y=0.3)
    axes.tick_params(labelsize=7)
    axes.tick_params(axis="x", rotation=30)


def _reaches(values: Sequence[float], ends: Sequence[float | None], scale: float) -> list[float]:
    """How far each interval reaches from its value, one way; 0 where there is none."""
    return [0.0 if end is None else max(0.0, (end - value) * scale) for value, end in zip(values, ends, strict=True)]
