"""The same row, run after run: its last figure, what changed since the run before, and all of them as a picture.

Rows are the same where they agree in everything that may be drawn as one line: file, runtime and its settings, device
and the state it was put in, what timed it. Versions may differ, being what a reader wants to see the effect of.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from harness import statistics, units
from harness.records import Record
from harness.report import shell
from harness.report.markup import Markup, breakable, element
from harness.report.spec import Chart, Datum, Spec, axis, row_choice, scaled
from harness.series import Series, series_of
from harness.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.report.view import DeviceRows, Row, View

_DRAWN: Final = 200
"""Trends that can be chosen in the picture: those measured most often."""
_BEFORE: Final = "The run before, ms"
_HEADS: Final = (
    *(shell.Head(title=title) for title in ("Model", "File", "Device", "Last run")),
    shell.Head(title="p50", group="Last run, ms", is_number=True, style="p50"),
    shell.Head(title="interval", group="Last run, ms", is_number=True),
    shell.Head(title="p50", group=_BEFORE, is_number=True),
    shell.Head(title="interval", group=_BEFORE, is_number=True),
    shell.Head(title="of p50", group="Change, %", is_number=True),
    shell.Head(title="runs", group="All runs", is_number=True),
    shell.Head(title="spread, %", group="All runs", is_number=True),
)
HOW_TO_READ: Final = (
    "Change: p50 of the last run against that of the run before. The intervals are those within each run. Spread: "
    "standard deviation over mean of the p50 of all runs, which tells how far runs differ anyhow."
)


class _Same(NamedTuple):
    """What the points of a trend agree in."""

    series: Series
    is_batched: bool
    """Whether a sample is the mean of several inferences; such are not compared with single times."""


class TrendPoint(Record, frozen=True, kw_only=True):
    """The row in one run."""

    run: str
    at: str
    """When the run was planned."""
    version: str
    """Of the runtime."""
    p50_ns: float
    p50_low_ns: float | None
    p50_high_ns: float | None


class Trend(Record, frozen=True, kw_only=True):
    """A row that at least two runs have measured."""

    label: str
    model: str
    file: str
    device: str
    points: tuple[TrendPoint, ...]
    """The oldest run first."""
    change_pct: float
    """Of p50, from the last run but one to the last."""
    spread_pct: float | None
    """Standard deviation / mean of the p50 of all runs."""


def trends_of(views: Iterable[View]) -> tuple[Trend, ...]:
    """Rows that several runs have measured on the same device; those whose p50 changed most come first.

    Emulated devices have none, and wrong outputs are no point.
    """
    points: dict[_Same, list[tuple[TrendPoint, DeviceRows, Row]]] = defaultdict(list)
    for shown in sorted(views, key=lambda each: each.plan.created_at):
        for device in shown.devices:
            for row in () if device.is_emulated else device.rows:
                summary, measured, result = row.summary, row.measured, row.result
                if summary is None or measured is None or result is None or device.facts is None:
                    continue
                if not summary.parity_passed:
                    continue
                same = _Same(series_of(result, device.facts), summary.iterations_per_sample > 1)
                point = TrendPoint(
                    run=clean(shown.plan.run),
                    at=shown.plan.created_at,
                    version=clean(f"{measured.ran.runtime} {measured.ran.version}"),
                    p50_ns=summary.p50_ns,
                    p50_low_ns=summary.p50_low_ns,
                    p50_high_ns=summary.p50_high_ns,
                )
                points[same].append((point, device, row))
    several = {key: found for key, found in points.items() if len(found) > 1}
    labels = _labels({key: found[-1][1:] for key, found in several.items()})
    made = [_trend(labels[key], found) for key, found in several.items()]
    return tuple(sorted(made, key=lambda trend: -abs(trend.change_pct)))


def table(trends: Sequence[Trend], links: Mapping[str, str | None]) -> Markup | None:
    """A row a trend; None where no row was measured twice.

    Args:
        trends: As `trends_of` finds them.
        links: Run -> its own page.
    """
    if not trends:
        return None
    return element(
        "section",
        element("h2", "The same row, run after run"),
        shell.table("Trends", _HEADS, (_line(trend, links) for trend in trends)),
    )


def chart(trends: Sequence[Trend]) -> Chart | None:
    """The p50 of one row in every run that has it."""
    often = sorted(trends, key=lambda trend: -len(trend.points))[:_DRAWN]
    if not often:
        return None
    names = sorted(trend.label for trend in often)
    data: tuple[Datum, ...] = tuple(
        {
            "label": trend.label,
            "run": point.run,
            "at": point.at,
            "p50_ms": scaled(point.p50_ns, 1e6),
            "low_ms": scaled(point.p50_low_ns, 1e6),
            "high_ms": scaled(point.p50_high_ns, 1e6),
            "version": point.version,
        }
        for trend in sorted(often, key=lambda trend: trend.label)
        for point in trend.points
    )
    # As the tables: in UTC, whatever the viewer's clock.
    scale: Spec = {"type": "utc", "padding": 12}
    x: Spec = {"field": "at", "type": "temporal", "title": "UTC", "axis": {"tickCount": 6}, "scale": scale}
    shared = {"x": x, "color": {"field": "version", "type": "nominal", "title": "runtime"}}
    tooltip = [
        {"field": "run"},
        {"field": "p50_ms", "title": "p50, ms", "format": ".4~g"},
        {"field": "version", "title": "runtime"},
    ]
    return Chart(
        name="runs",
        device_id="",
        title="One row in all its runs",
        says="p50 with its interval within each run. Runs of different days differ by more than these intervals show.",
        data=data,
        spec={
            "width": "container",
            "height": 280,
            "params": [row_choice(names)],
            "transform": [{"filter": "datum.label == shown"}],
            "layer": [
                {
                    "mark": {"type": "rule", "strokeWidth": 4, "opacity": 0.5},
                    "encoding": shared | {"y": axis("low_ms", "p50, ms", from_zero=False), "y2": {"field": "high_ms"}},
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 60},
                    "encoding": shared | {"y": axis("p50_ms", "p50, ms", from_zero=False), "tooltip": tooltip},
                },
            ],
        },
    )


def _trend(label: str, found: Sequence[tuple[TrendPoint, DeviceRows, Row]]) -> Trend:
    points = tuple(point for point, _, _ in found)
    _, device, row = found[-1]
    return Trend(
        label=label,
        model=clean(row.cell.model),
        file=row.name,
        device=clean(device.name),
        points=points,
        change_pct=100 * (points[-1].p50_ns / points[-2].p50_ns - 1),
        spread_pct=statistics.cv_pct([point.p50_ns for point in points]),
    )


def _labels(newest: Mapping[_Same, tuple[DeviceRows, Row]]) -> dict[_Same, str]:
    """What each is called; where that is the same for two, what tells them apart is added."""
    by_label: dict[str, list[_Same]] = defaultdict(list)
    for key, (device, row) in newest.items():
        by_label[f"{clean(row.cell.model)} {row.name} on {clean(device.name)}"].append(key)
    labels = {}
    for label, alike in by_label.items():
        told = {key: _told(key) for key in alike}
        differ = [name for name in told[alike[0]] if len({each[name] for each in told.values()}) > 1]
        for key in alike:
            apart = ", ".join(f"{name} {clean(told[key][name])}" for name in differ)
            labels[key] = f"{label} ({apart})" if apart else label
    return labels


def _told(same: _Same) -> dict[str, str]:
    fields = msgspec.structs.asdict(same.series) | {"batched": same.is_batched}
    return {name.replace("_", " "): str(value) for name, value in fields.items()}


def _line(trend: Trend, links: Mapping[str, str | None]) -> Markup:
    last, before = trend.points[-1], trend.points[-2]
    link = links.get(last.run)
    run = element("a", breakable(last.run), href=link) if link else breakable(last.run)
    figures = (
        (units.milliseconds(last.p50_ns), last.p50_ns),
        (units.milliseconds_between(last.p50_low_ns, last.p50_high_ns), last.p50_low_ns),
        (units.milliseconds(before.p50_ns), before.p50_ns),
        (units.milliseconds_between(before.p50_low_ns, before.p50_high_ns), before.p50_low_ns),
        (f"{trend.change_pct:+.1f}", trend.change_pct),
        (str(len(trend.points)), len(trend.points)),
        ("–" if trend.spread_pct is None else f"{trend.spread_pct:.1f}", trend.spread_pct),
    )
    return element(
        "tr",
        element("th", breakable(trend.model), scope="row", class_=shell.name_style(trend.model)),
        element("td", breakable(trend.file), class_="text"),
        element("td", trend.device, class_="text"),
        element("td", run, class_=shell.name_style(last.run)),
        *(
            element(
                "td",
                said,
                data_v=shell.sortable(value),
                class_=shell.cell_style(_HEADS, number),
            )
            for number, (said, value) in enumerate(figures, start=4)
        ),
        class_="measured",
        data_text=f"{trend.label} {last.run}".lower(),
    )
