"""A comparison as a page: what was found of each row and figure, its interval against the margin, every trial.

It takes verdicts as they were decided and computes none.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from harness import units
from harness.report import shell
from harness.report.colours import coloured
from harness.report.markup import Markup, breakable, element
from harness.report.spec import Chart, Datum, Spec, names_axis
from harness.text import clean, count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LINES: Final = 80
"""Rows of the picture: those that moved furthest."""
_VERDICTS: Final = {"regression": 5, "small slowdown": 1, "pass": 2, "improvement": 0, "inconclusive": 7}
"""Each has its colour, whichever others are there."""
_NAME_LENGTH: Final = 64
"""Characters: rows of one model differ at the end of their names."""
_GRAVE: Final = ("regression", "incomparable", "failed")


@dataclass(frozen=True, kw_only=True)
class Found:
    """One figure of one row.

    Attributes:
        figure: p50, memory, size...
        verdict: As it was decided.
        ratio: B / A; None where there is none.
        low: Lower end of its interval.
        high: Upper end.
        margin: What counts as a regression, as a share: 0.03.
        confidence: Of the interval, in (0, 1); None where the figure is exact, or has no interval.
        a: What A takes by itself, in `unit`; None where it is not known.
        b: What B takes.
        unit: Of both.
        trials: B / A of each trial, in order; none where runs are compared as they are stored.
    """

    figure: str
    verdict: str
    ratio: float | None
    low: float | None
    high: float | None
    margin: float
    confidence: float | None = None
    a: float | None = None
    b: float | None = None
    unit: Literal["ns", "bytes"] = "ns"
    trials: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One row: a cell of both runs, or two builds.

    Attributes:
        name: What it is.
        found: Its figures.
        verdict: Of the row, as it was decided: the gravest of its figures, or why it has none.
        problem: Why there are none.
    """

    name: str
    found: tuple[Found, ...]
    verdict: str
    problem: str = ""


def render(a: str, b: str, rows: Sequence[Compared], *, version: str, notes: Sequence[str] = (), data: object) -> str:
    """The whole page.

    Args:
        a: What was compared with: a build or a run, as the user named it.
        b: What was compared.
        rows: In the order of the table.
        version: Of this program.
        notes: How far to trust it.
        data: The record of the comparison, as JSON.
    """
    drawn = [picture] if (picture := _intervals(rows)) is not None else []
    return shell.page(
        title=f"{clean(b)} against {clean(a)}",
        name="comparison",
        version=clean(version),
        header=_header(clean(a), clean(b), rows, notes),
        main=(_table(rows), *shell.places(drawn)),
        footer=_footer(),
        data=data,
        drawn=drawn,
    )


def _header(a: str, b: str, rows: Sequence[Compared], notes: Sequence[str]) -> Markup:
    return element(
        "header",
        element("h1", f"{b} against {a}"),
        shell.answer(*(element("p", text) for text in (answer(rows), *map(clean, notes)))),
        shell.tools(placeholder="regression int8"),
    )


def answer(rows: Sequence[Compared]) -> str:
    """How many comparisons have which verdict, and which became slowest against what it was."""
    if not rows:
        return "Nothing was compared."
    counted = ", ".join(f"{number} {verdict}" for verdict, number in Counter(row.verdict for row in rows).most_common())
    return f"{count(len(rows), 'comparison', 'comparisons')}: {counted}.{_worst(rows)}"


def _worst(rows: Sequence[Compared]) -> str:
    changed = [
        (found.ratio, found, row) for row in rows for found in row.found if found.figure == "p50" and found.ratio
    ]
    if not changed:
        return ""
    ratio, found, row = max(changed, key=lambda each: each[0])
    within = "no interval" if found.low is None else f"{_interval(found, with_level=False)} %"
    return f" Worst change of p50: {_change(ratio)} % ({within}), {clean(row.name)}."


def _table(rows: Sequence[Compared]) -> Markup:
    levels = {found.confidence for row in rows for found in row.found if found.confidence is not None}
    one = levels.pop() if len(levels) == 1 else None
    heads = (
        *(shell.Head(title=title) for title in ("Row", "Figure", "Verdict")),
        *(shell.Head(title=title, is_number=True) for title in ("A", "B", "B / A, %")),
        shell.Head(title="Interval, %" if one is None else f"{_level(one)} interval, %", is_number=True),
        *(shell.Head(title=title, is_number=True) for title in ("Margin, %", "Trials")),
    )
    return shell.table("Comparison", heads, (line for row in rows for line in _lines(row, with_level=one is None)))


def _lines(row: Compared, *, with_level: bool) -> Iterator[Markup]:
    name = element("th", breakable(clean(row.name)), scope="row", class_="text long")
    if not row.found:
        why = element(
            "td", element("p", element("strong", "no figure"), f": {clean(row.problem)}"), colspan=8, class_="why"
        )
        yield element("tr", name, why, class_="failed", data_text=clean(f"{row.name} {row.problem}").lower())
    for found in row.found:
        yield element(
            "tr",
            name,
            element("td", found.figure, class_="text"),
            element("td", found.verdict, class_="text wrong" if found.verdict in _GRAVE else "text"),
            element("td", _amount(found.a, found.unit), data_v=shell.sortable(found.a)),
            element("td", _amount(found.b, found.unit), data_v=shell.sortable(found.b)),
            element("td", _change(found.ratio), data_v=shell.sortable(found.ratio), class_="p50"),
            element("td", _interval(found, with_level=with_level), data_v=shell.sortable(found.low)),
            element("td", f"{100 * found.margin:g}", data_v=found.margin),
            element("td", str(len(found.trials)) if found.trials else "–", data_v=len(found.trials) or ""),
            class_="measured",
            data_text=clean(f"{row.name} {found.figure} {found.verdict}").lower(),
        )


def _intervals(rows: Sequence[Compared]) -> Chart | None:
    """Each ratio with its interval against no change and against its margin; behind it the trials."""
    lines = [(row, found) for row in rows for found in row.found if found.ratio is not None]
    furthest = sorted(lines, key=lambda line: -abs((line[1].ratio or 1) - 1))[:_LINES]
    shown = [line for line in lines if line in furthest]
    if not shown:
        return None
    data = tuple(_datum(row, found) for row, found in shown)
    y = names_axis("line", length=_NAME_LENGTH)
    title = "B / A - 1, % (right of 0 is more: slower, larger)"

    def x(field: str) -> Spec:
        return {"field": field, "type": "quantitative", "title": title, "scale": {"zero": True}}

    colour = coloured("verdict", _VERDICTS, {found.verdict for _, found in shown})
    trials: list[Spec] = []
    if any(found.trials for _, found in shown):
        trials = [
            {
                "transform": [{"flatten": ["trials"]}],
                "mark": {"type": "tick", "opacity": 0.35, "height": 10},
                "encoding": {"y": y, "x": x("trials"), "color": colour},
            }
        ]
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "color": "#888888", "aria": False},
            "encoding": {"x": {"datum": 0, "type": "quantitative"}},
        },
        *trials,
        {
            "mark": {"type": "tick", "color": "#888888", "thickness": 2, "height": 14},
            "encoding": {"y": y, "x": x("margin")},
        },
        {
            "mark": {"type": "rule", "strokeWidth": 4},
            "encoding": {"y": y, "x": x("low"), "x2": {"field": "high"}, "color": colour},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 60},
            "encoding": {
                "y": y,
                "x": x("change"),
                "color": colour,
                "tooltip": [
                    {"field": "line"},
                    {"field": "verdict"},
                    {"field": "change", "title": "%", "format": "+.2f"},
                    {"field": "low", "title": "from, %", "format": "+.2f"},
                    {"field": "high", "title": "to, %", "format": "+.2f"},
                    {"field": "margin", "title": "margin, %", "format": "+.2f"},
                ],
            },
        },
    ]
    return Chart(
        name="comparison",
        device_id="",
        title="How much changed, and how surely",
        says=(
            "A dot is the ratio, the bar its interval, a grey mark the margin, the thin marks single trials. A bar "
            "wholly right of its margin is a regression."
        ),
        data=data,
        spec={"width": "container", "height": 26 * len(shown), "layer": layers},
    )


def _datum(row: Compared, found: Found) -> Datum:
    return {
        "line": f"{clean(row.name)} · {found.figure}",
        "verdict": found.verdict,
        "change": _percent(found.ratio),
        "low": _percent(found.low),
        "high": _percent(found.high),
        "margin": round(100 * found.margin, 4),
        "trials": [_percent(ratio) for ratio in found.trials],
    }


def _percent(ratio: float | None) -> float | None:
    return None if ratio is None else round(100 * (ratio - 1), 4)


def _change(ratio: float | None) -> str:
    return "–" if ratio is None else f"{100 * (ratio - 1):+.2f}"


def _interval(found: Found, *, with_level: bool) -> str:
    if found.low is None or found.high is None:
        return "–"
    if found.confidence is None:
        return "exact"
    level = f" ({_level(found.confidence)})" if with_level else ""
    return f"{_change(found.low)} to {_change(found.high)}{level}"


def _level(confidence: float) -> str:
    """`99.5 %`; that of a family of cells has more digits."""
    return f"{100 * confidence:.4g} %"


def _amount(value: float | None, unit: Literal["ns", "bytes"]) -> str:
    if unit == "ns" or value is None:
        return units.duration(value)
    return units.mebibytes_said(value)


def _footer() -> Markup:
    said = (
        "A and B are what either side takes by itself: over interleaved trials the median of those that count, of "
        "stored runs their own figures. The ratio is taken trial by trial, and need not be theirs to the last digit. "
        "Above zero is more: slower, larger. A verdict is of the whole interval, not of the dot: all of a regression's "
        "lies beyond the margin, all of a small slowdown's above zero, all of an improvement's below it; a pass holds "
        "zero and ends before the margin; what the interval cannot tell is inconclusive."
    )
    return element("footer", element("h2", "How to read this", id="how-to-read"), element("p", said, class_="legend"))
