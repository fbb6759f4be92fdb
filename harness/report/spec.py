"""A picture as a Vega-Lite specification: what every picture shares, and what a page and a file add to it.

    page_spec(chart)        with its data, for a page
    static_spec(chart, row) with a title and on white, for a file

A specification is plain JSON; nothing of the drawing library is loaded to make one. Source:
https://vega.github.io/vega-lite/docs/ (version 6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

Spec = dict[str, Any]
"""A part of a Vega-Lite specification: JSON."""
Datum = dict[str, str | float | int | bool | list[float | None] | None]

SCHEMA: Final = "https://vega.github.io/schema/vega-lite/v6.json"
"""A name only: nothing is fetched from there."""
STATIC_WIDTH: Final = 720
_LABEL_LENGTH: Final = 46
"""Characters."""
_CHARACTER_WIDTH: Final = 7.4
"""Pixels, in the widest fonts of a page."""
LIGHT: Final[Spec] = {
    "background": "#ffffff",
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif",
    "range": {"category": ["#2563c9", "#b4530f", "#1d7a4f", "#7d3fb3", "#0e7c86", "#a8336b", "#6b6f00", "#555f6b"]},
    "legend": {"columnPadding": 16, "labelLimit": 320},
    "axis": {
        "titleFontWeight": "normal",
        "gridColor": "#d9dee3",
        "domainColor": "#5b646e",
        "tickColor": "#5b646e",
        "labelColor": "#1a1d21",
    },
    "view": {"stroke": None},
}
"""Colours that differ in brightness too, and stay apart for the common kinds of colour blindness."""
_NAMES: Final = {f"var(--kind{number})": each for number, each in enumerate(LIGHT["range"]["category"])}
SHOWN: Final = "shown"
"""The parameter of a picture that shows one row of several."""


@dataclass(frozen=True)
class Chart:
    """One picture."""

    name: str
    """Of its file, unique in the run: `size-latency-host`."""
    device_id: str
    title: str
    says: str
    """What a reader sees in it, and what a screen reader says in its place."""
    data: tuple[Datum, ...]
    spec: Spec
    """Without its data."""


def page_spec(chart: Chart) -> Spec:
    """For a page: as wide as its place, colours by the page's theme."""
    # Another row that is chosen has names of another length: the picture is laid out anew.
    fit = {} if "vconcat" in chart.spec else {"autosize": {"type": "fit-x", "contains": "padding", "resize": True}}
    return {"$schema": SCHEMA, "description": chart.says, "data": {"values": list(chart.data)}, **fit, **chart.spec}


def static_spec(chart: Chart, row: str | None = None) -> Spec:
    """For a file: with a title, on white, of a fixed size.

    Args:
        chart: What to draw.
        row: Which of its `rows`, where it shows one of several.
    """
    title = {"text": chart.title, "anchor": "start", "fontSize": 14, "offset": 12}
    spec = page_spec(chart) | {"config": LIGHT, "padding": 12}
    if row is not None:
        title["subtitle"] = row
        spec["params"] = [_chosen(param, row) for param in chart.spec["params"]]
        spec["data"] = {"values": [datum for datum in chart.data if datum["label"] == row]}
    return with_width(cast("Spec", _with_colours(spec | {"title": title})))


def colour(number: int) -> str:
    """A colour by its number, of whichever theme a page has; files have that of `LIGHT`."""
    return f"var(--kind{number})"


def _with_colours(part: object) -> object:
    """The same with colours in place of their names, which only a page knows."""
    if isinstance(part, dict):
        return {key: value if key == "data" else _with_colours(value) for key, value in part.items()}
    if isinstance(part, list):
        return [_with_colours(each) for each in part]
    return _NAMES.get(part, part) if isinstance(part, str) else part


def rows(chart: Chart) -> tuple[str, ...]:
    """What a reader can choose from in a picture of one row of several; empty for a picture of all."""
    choices = [param["bind"]["options"] for param in chart.spec.get("params", ()) if param.get("name") == SHOWN]
    return tuple(choices[0]) if choices else ()


def _chosen(param: Spec, row: str) -> Spec:
    return param | {"value": row} if param.get("name") == SHOWN else param


def with_width(spec: Spec) -> Spec:
    """As wide as a file is, where it would have taken the width of its place."""
    return {key: STATIC_WIDTH if (key, value) == ("width", "container") else value for key, value in spec.items()}


def axis(field: str, title: str, *, is_log: bool = False, from_zero: bool = True) -> Spec:
    """A channel of numbers, with about six marks."""
    scale: Spec = {"type": "log", "nice": False, "padding": 18} if is_log else {"zero": from_zero}
    marks: Spec = {"tickCount": 6, "format": "~g"} if is_log else {}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": marks}


def names_axis(field: str, *, length: int = _LABEL_LENGTH) -> Spec:
    """A vertical channel of names in the order of the data; of a long one the middle is left out, not what differs.

    Args:
        field: Of the data.
        length: Characters that are shown of a name at most.
    """
    half = length // 2
    short = f"slice(datum.label, 0, {half}) + '…' + slice(datum.label, -{half})"
    label = f"length(datum.label) > {length} ? {short} : datum.label"
    return {
        "field": field,
        "type": "nominal",
        "title": None,
        "sort": None,
        "axis": {"labelLimit": round(length * _CHARACTER_WIDTH), "labelExpr": label},
    }


def row_choice(names: Sequence[str]) -> Spec:
    """One row at a time, chosen from a list; as files there is one of each."""
    return {"name": SHOWN, "value": names[0], "bind": {"input": "select", "options": list(names), "name": "Row "}}


def legend_choice(field: str) -> Spec:
    """One kind alone: by a click in the legend, or from a list beside it, which the page's script makes.

    Of several layers with this colour it belongs to the first, for the legend is that layer's: clicks for another one
    go nowhere.
    """
    return {"name": field, "select": {"type": "point", "fields": [field]}, "bind": "legend"}


def scaled(value: float | None, by: float) -> float | None:
    """To four significant digits: more than any picture shows, and a page half as long."""
    return None if value is None else float(f"{value / by:.4g}")
