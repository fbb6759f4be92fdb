"""A comparison as a page: what was found of each row and figure, its interval against the margin, every trial.

It takes verdicts as they were decided and computes none.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from harness.report import shell, words
from harness.report.markup import Markup, breakable, element
from harness.report.spec import Chart, Datum, Spec
from harness.report.view import clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LINES: Final = 80
"""Rows of the picture: those that moved furthest."""
_HEADS: Final = (
    shell.Head(title="Row"),
    shell.Head(title="Figure"),
    shell.Head(title="Verdict"),
    shell.Head(title="B / A, %", is_number=True),
    shell.Head(title="Interval, %", is_number=True),
    shell.Head(title="Margin, %", is_number=True),
    shell.Head(title="Trials", is_number=True),
)
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
        trials: B / A of each trial, in order; none where runs are compared as they are stored.
    """

    figure: str
    verdict: str
    ratio: float | None
    low: float | None
    high: float | None
    margin: float
    trials: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One row: a cell of both runs, or two builds.

    Attributes:
        name: What it is.
        found: Its figures.
        problem: Why there are none.
    """

    name: str
    found: tuple[Found, ...]
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
        shell.answer(*(element("p", text) for text in (_answer(rows), *map(clean, notes)))),
        shell.tools(placeholder="regression int8"),
    )


def _answer(rows: Sequence[Compared]) -> str:
    counted = Counter(found.verdict for row in rows for found in row.found)
    counted.update({"without a figure": sum(not row.found for row in rows)})
    said = ", ".join(f"{number} {verdict}" for verdict, number in counted.most_common() if number)
    return f"{words.count(len(rows), 'row', 'rows')} compared: {said}." if said else "Nothing was compared."


def _table(rows: Sequence[Compared]) -> Markup:
    return shell.table("Comparison", _HEADS, (line for row in rows for line in _lines(row)))


def _lines(row: Compared) -> Iterator[Markup]:
    name = element("th", breakable(clean(row.name)), scope="row", class_="text long")
    if not row.found:
        why = element("td", element("p", element("strong", "no figure"), f": {clean(row.problem)}"), colspan=6)
        yield element("tr", name, why, class_="failed", data_text=clean(f"{row.name} {row.problem}").lower())
    for found in row.found:
        yield element(
            "tr",
            name,
            element("td", found.figure, class_="text"),
            element("td", found.verdict, class_="text wrong" if found.verdict in _GRAVE else "text"),
            element("td", _change(found.ratio), data_v=shell.sortable(found.ratio), class_="p50"),
            element("td", _interval(found), data_v=shell.sortable(found.low)),
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
    y: Spec = {"field": "line", "type": "nominal", "title": None, "sort": None, "axis": {"labelLimit": 320}}
    title = "B / A - 1, % (right of 0 is more: slower, larger)"

    def x(field: str) -> Spec:
        return {"field": field, "type": "quantitative", "title": title, "scale": {"zero": True}}

    colour: Spec = {"field": "verdict", "type": "nominal", "title": None}
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


def _interval(found: Found) -> str:
    return "–" if found.low is None or found.high is None else f"{_change(found.low)} to {_change(found.high)}"


def _footer() -> Markup:
    said = (
        "Above zero is more: slower, larger. A verdict is of the whole interval, not of the dot: all of a regression's "
        "lies beyond the margin, all of a small slowdown's above zero, all of an improvement's below it; a pass holds "
        "zero and ends before the margin; what the interval cannot tell is inconclusive."
    )
    return element("footer", element("h2", "How to read this"), element("p", said, class_="legend"))
