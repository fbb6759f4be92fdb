"""A self-test's report as a page: how often the detector alarms for nothing, what it finds, what other rules do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from harness.regress.selftest.outcome import INTERLEAVED
from harness.regress.selftest.report import judgements, report_heading, report_tables
from harness.report import shell
from harness.report.markup import Markup, breakable, element
from harness.report.spec import Chart, Datum, axis, legend_choice
from harness.text import clean, count

if TYPE_CHECKING:
    from harness.regress.selftest.report import RateTold, SelftestReport

_OURS: Final = "this program"
_HOW_TO_READ: Final = (
    "Each comparison is of two builds of one model, alive together. Where the second one is the first, every alarm is "
    "false. Where work was added to it, the share called slower is the power. The vertical lines, and `true rate`, are "
    "the one-sided 95 % limits of the rate, after Clopper and Pearson. The rules of the other tools are written after "
    "their sources and judge the same recorded times."
)


def render(report: SelftestReport, *, version: str) -> str:
    """The whole page."""
    picture = operating_curve(report)
    drawn = [] if picture is None else [picture]
    return shell.page(
        title=f"Self-test on {clean(report.machine)}",
        name="selftest",
        version=clean(version),
        header=_header(report),
        main=(*shell.places(drawn), *(_table(title, rows) for title, rows in report_tables(report))),
        footer=element(
            "footer",
            element("h2", "How to read this", id="how-to-read"),
            element("p", _HOW_TO_READ, class_="legend"),
            *_damaged(report),
        ),
        data=report,
        drawn=drawn,
    )


def operating_curve(report: SelftestReport) -> Chart | None:
    """How often a slowdown is found, over its size; None before anything was compared."""
    data = _points(report)
    if not data:
        return None
    # A colour for each tool and a stroke for each order: for all of them together there are too few colours.
    colour = {"field": "tool", "type": "nominal", "title": None, "sort": list(dict.fromkeys(d["tool"] for d in data))}
    stroke = {
        "field": "order",
        "type": "nominal",
        "title": None,
        "sort": [INTERLEAVED],
        "legend": {"symbolType": "stroke", "symbolSize": 400},
    }
    x = axis("dose_pct", "slowdown put into the second build, % (0: none)")
    y = axis("found_pct", "called slower, %")
    return Chart(
        name="operating-curve",
        device_id="",
        title=f"How often a slowdown is found; {clean(report.model)} on {clean(report.machine)}",
        says=(
            "At 0 every alarm is false. Each line is one rule on the same recorded times; the vertical lines are the "
            "limits of the true rate."
        ),
        data=tuple(data),
        spec={
            "width": "container",
            "height": 360,
            "layer": [
                {
                    "params": [legend_choice("tool")],
                    "mark": {"type": "rule", "opacity": 0.35, "strokeWidth": 2},
                    "encoding": {"x": x, "y": axis("low_pct", "called slower, %"), "y2": {"field": "high_pct"}}
                    | {"color": colour, "detail": {"field": "order"}},
                },
                {
                    "mark": {"type": "line", "point": True},
                    "encoding": {
                        "x": x,
                        "y": y,
                        "color": colour,
                        "strokeDash": stroke,
                        "opacity": {"condition": {"param": "tool", "value": 0.9}, "value": 0.1},
                        "tooltip": [
                            {"field": "rule"},
                            {"field": "dose_pct", "title": "slowdown, %"},
                            {"field": "found_pct", "title": "called slower, %", "format": ".1f"},
                            {"field": "of", "title": "comparisons"},
                        ],
                    },
                },
            ],
        },
    )


def _points(report: SelftestReport) -> list[Datum]:
    """One point a rule and dose, of extra work in every inference; dose 0 is a build with itself."""
    found = [
        _point(_OURS, INTERLEAVED, one.dose, one.slower)
        for one in report.scenarios
        if one.metric == "p50" and one.kind in {"aa", "spin"} and one.done
    ]
    doses = {one.name: one.dose for one in report.scenarios if one.metric == "p50" and one.kind in {"aa", "spin"}}
    for rule in report.rules:
        if not rule.rule.startswith(_OURS):
            rates = [(doses[at], rate) for at, rate in rule.rates.items() if at in doses and rate.of]
            found += [_point(rule.rule, rule.order, dose, rate) for dose, rate in rates]
    return sorted(found, key=lambda datum: (str(datum["tool"]) != _OURS, str(datum["rule"]), datum["dose_pct"]))


def _point(tool: str, order: str, dose: float, rate: RateTold) -> Datum:
    return {
        "tool": clean(tool),
        "order": clean(order),
        "rule": f"{clean(tool)}, {clean(order)}",
        "dose_pct": round(100 * dose, 4),
        "found_pct": round(100 * rate.count / rate.of, 3),
        "low_pct": round(100 * rate.at_least, 3),
        "high_pct": round(100 * rate.at_most, 3),
        "of": rate.of,
    }


def _header(report: SelftestReport) -> Markup:
    judged = judgements(report)
    met = [text for text, ok in judged if ok]
    missed = [text for text, ok in judged if ok is False]
    unknown = [text for text, ok in judged if ok is None]
    said = [f"{count(len(met), 'demand is', 'demands are')} met of {len(judged)}."]
    if missed:
        said.append(f"Not met: {'; '.join(missed)}.")
    if unknown:
        said.append(f"Too little is measured to say: {'; '.join(unknown)}.")
    return element(
        "header",
        element("h1", "How often this program is wrong about a slowdown"),
        element("p", clean(report_heading(report)), class_="quiet"),
        shell.answer(*(element("p", clean(text)) for text in said)),
        shell.tools(placeholder="spin 2 %"),
    )


def _table(title: str, rows: list[tuple[str, ...]]) -> Markup:
    names, *lines = rows
    heads = tuple(shell.Head(title=name) for name in names)
    return element(
        "section",
        element("h2", title),
        shell.table(title, heads, (_line(line) for line in lines)),
    )


def _line(cells: tuple[str, ...]) -> Markup:
    first, *others = cells
    return element(
        "tr",
        element("th", breakable(clean(first)), scope="row", class_="text long"),
        *(element("td", breakable(clean(cell)), data_v=_value(cell), class_="text") for cell in others),
        data_text=clean(" ".join(cells)).lower(),
    )


def _value(cell: str) -> str | None:
    """What a cell is sorted by, where it begins with a number; None sorts by its text."""
    number = re.match(r"[+-]?\d+(\.\d+)?", cell)
    return number[0].lstrip("+") if number else ("" if cell == "–" else None)


def _damaged(report: SelftestReport) -> list[Markup]:
    return [
        element("p", f"Left out: {clean(where)}: {clean(problem)}", class_="legend")
        for where, problem in report.damaged
    ]
