"""What it costs to be right: files as points of a cost and an error, and the front that no other file beats.

The one picture of its kind, of a run and of a study alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.report.colours import coloured, shaped
from harness.report.spec import Chart, Datum, Spec, axis, legend_choice, scaled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.records import Estimate


@dataclass(frozen=True)
class Point:
    """One file."""

    label: str
    kind: str
    """By which it is coloured."""
    file: str
    """By which it is shaped."""
    cost: float
    """In the unit of the picture's axis."""
    error: Estimate
    more: Datum = field(default_factory=dict)
    """What the page's data tell besides."""


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other is at least as good as in both and better in one; both are better when smaller."""
    kept: list[tuple[float, float]] = []
    for cost, error in sorted(set(points)):
        if not kept or error < kept[-1][1]:
            kept.append((cost, error))
    return kept


def pareto(
    points: Sequence[Point],
    *,
    name: str,
    device_id: str,
    title: str,
    cost: str,
    error: str,
    one: str,
    colours: Mapping[str, int],
) -> Chart | None:
    """Error against a cost; None without points.

    Args:
        points: Of one kind of error, found on the same images.
        name: Of the picture's file.
        device_id: Where the cost was measured; empty where it is the file's own.
        title: What it shows.
        cost: Title of the horizontal axis, with its unit.
        error: Name of the error: `EER`.
        one: What a point is: `file`.
        colours: Kind -> the number of its colour, on all pictures of a page the same.
    """
    if not points:
        return None
    colour = coloured("kind", colours, {point.kind for point in points})
    shape = shaped("file", {point.file for point in points})
    best = front([(point.cost, point.error.value) for point in points])
    made = tuple(
        {
            "label": point.label,
            "kind": point.kind,
            "file": point.file,
            "cost": scaled(point.cost, 1),
            "error": scaled(100 * point.error.value, 1),
            "low": None if point.error.low is None else scaled(100 * point.error.low, 1),
            "high": None if point.error.high is None else scaled(100 * point.error.high, 1),
            "front": (point.cost, point.error.value) in best,
            **point.more,
        }
        for point in points
    )
    return Chart(
        name=name,
        device_id=device_id,
        title=title,
        says=(
            f"Each point is one {one}; down and to the left is better. The dashed line joins the {one}s that no other "
            "beats in both; the bars are the intervals of their error. The list, or a click in the legend, shows one "
            "kind alone."
        ),
        data=made,
        spec={"width": "container", "height": 360, "layer": _layers(cost, f"{error}, %", one, colour, shape)},
    )


def _layers(cost: str, error: str, one: str, colour: Spec, shape: Spec) -> list[Spec]:
    shared: Spec = {"x": axis("cost", f"{cost} (logarithmic)", is_log=True), "y": axis("error", error)}
    of_front: Spec = {"transform": [{"filter": "datum.front"}]}
    tooltip = [
        {"field": "label", "title": one},
        {"field": "cost", "title": cost, "format": ".4~g"},
        {"field": "error", "title": error, "format": ".4~g"},
        {"field": "low", "title": "from, %", "format": ".4~g"},
        {"field": "high", "title": "to, %", "format": ".4~g"},
    ]
    return [
        of_front
        | {
            "mark": {
                "type": "line",
                "interpolate": "step-after",
                "strokeDash": [4, 3],
                "color": "#888888",
                "aria": False,
            },
            "encoding": shared,
        },
        of_front
        | {
            "params": [legend_choice("kind")],
            "mark": {"type": "rule", "opacity": 0.45, "strokeWidth": 2},
            "encoding": shared | {"y": axis("low", error), "y2": {"field": "high"}, "color": colour},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 70},
            "encoding": shared
            | {
                "color": colour,
                "shape": shape,
                "opacity": {"condition": {"param": "kind", "value": 0.9}, "value": 0.08},
                "tooltip": tooltip,
            },
        },
    ]
