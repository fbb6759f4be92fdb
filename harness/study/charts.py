"""What a study's page and pictures draw: error against time, against size and against compression; DET curves."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Final

from harness.report.figures import slug
from harness.report.pareto import Point, pareto
from harness.report.spec import Chart, Datum, Spec, axis, legend_choice, scaled
from harness.study.words import file_of
from harness.text import clean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.records import Estimate, Verification
    from harness.study.rows import StudyRow
    from harness.study.variants import Kind

HOW: Final[Mapping[Kind, str]] = {
    "untrained": "untrained",
    "teacher": "uncompressed",
    "pruned": "pruned weights",
    "structured": "pruned channels",
    "control": "trained on labels alone",
    "student": "distilled",
}
_KINDS: Final = {how: number for number, how in enumerate(HOW.values())}
"""A kind of network -> the number of its colour."""
_LEAST: Final = 1e-4
"""A rate of 0 lies infinitely far out on a DET curve's axis; it is drawn here."""
_COLOURS: Final = 8
"""Of the page and of files, before they come again."""
_TICKS: Final = (0.001, 0.01, 0.05, 0.1, 0.2, 0.4)


def charts(rows: Sequence[StudyRow], curves: Mapping[str, Verification], data: str) -> tuple[Chart, ...]:
    """Every picture there are figures for.

    Args:
        rows: The study's figures.
        curves: Of the networks that the DET picture shows, by name.
        data: What the networks were tested on, for the captions.
    """
    devices = dict.fromkeys(t.device for row in rows for t in row.timings if not t.is_emulated)
    found = [_against_latency(rows, device, data) for device in devices]
    found += [_against_size(rows, data), _against_ratio(rows, data), _det(curves, rows, data)]
    return tuple(chart for chart in found if chart is not None)


def shown_in_det(rows: Sequence[StudyRow]) -> tuple[str, ...]:
    """Names of all networks, but of those that were pruned the one of each kind and ratio that is chosen only."""
    best: dict[tuple[str, object], StudyRow] = {}
    for row in rows:
        key = (row.kind, row.asked_ratio if row.kind in {"pruned", "structured"} else row.network)
        known = best.get(key)
        if row.eer_before is not None and (known is None or _chosen_by(row) < _chosen_by(known)):
            best[key] = row
    return tuple(dict.fromkeys(row.variant for row in best.values()))


def _chosen_by(row: StudyRow) -> float:
    """As the claims choose: by the error on validation subjects; by that on the others where it is not known."""
    found = row.eer_validation or row.eer_before
    return float("inf") if found is None else found.value


def _against_latency(rows: Sequence[StudyRow], device: str, data: str) -> Chart | None:
    points = [
        _point(row, row.eer_after, timing.p50_ns / 1e6, {"runtime": clean(timing.runtime)})
        for row in rows
        for timing in row.timings
        if timing.device == device and timing.p50_ns is not None and row.eer_after is not None
    ]
    return pareto(
        points,
        name=f"eer-latency-{slug(device)}",
        device_id="",
        title=f"Error against latency on {clean(device)}; {data}",
        cost="p50, ms",
        error="EER",
        one="file",
        colours=_KINDS,
    )


def _against_size(rows: Sequence[StudyRow], data: str) -> Chart | None:
    points = [
        _point(row, row.eer_after, row.deflated_bytes / 1e6, {})
        for row in rows
        if row.deflated_bytes is not None and row.eer_after is not None
    ]
    return pareto(
        points,
        name="eer-size",
        device_id="",
        title=f"Error against size; {data}",
        cost="deflated file, MB",
        error="EER",
        one="file",
        colours=_KINDS,
    )


def _point(row: StudyRow, error: Estimate, cost: float, more: Datum) -> Point:
    file = file_of(row)
    return Point(f"{clean(row.variant)} {file}", HOW[row.kind], file, cost, error, more)


def _against_ratio(rows: Sequence[StudyRow], data: str) -> Chart | None:
    """What each way to prune costs as it takes more away, beside the network it began with."""
    networks = {row.variant: row for row in rows if row.eer_before is not None}
    made: list[Datum] = [
        {
            "method": row.method,
            "label": row.variant,
            "ratio": row.asked_ratio,
            "eer": scaled(100 * row.eer_before.value, 1),
            "low": None if row.eer_before.low is None else scaled(100 * row.eer_before.low, 1),
            "high": None if row.eer_before.high is None else scaled(100 * row.eer_before.high, 1),
        }
        for row in networks.values()
        if row.kind in {"pruned", "structured"} and row.eer_before is not None
    ]
    if len({datum["ratio"] for datum in made}) < 2:
        return None
    teacher = next((row.eer_before for row in networks.values() if row.kind == "teacher"), None)
    x = axis("ratio", "parameters before over parameters left, as asked for (logarithmic)", is_log=True)
    layers: list[Spec] = [
        {
            "params": [legend_choice("method")],
            "mark": {"type": "rule", "opacity": 0.4, "strokeWidth": 2},
            "encoding": {"x": x, "y": axis("low", "EER, %"), "y2": {"field": "high"}, "color": _colour("method")},
        },
        {
            "mark": {"type": "line", "point": True},
            "encoding": {
                "x": x,
                "y": axis("eer", "EER, %"),
                "color": _colour("method"),
                "opacity": {"condition": {"param": "method", "value": 0.9}, "value": 0.08},
                "tooltip": [{"field": "label", "title": "network"}, {"field": "eer", "title": "EER, %"}],
            },
        },
    ]
    if teacher is not None:
        rule = {"datum": scaled(100 * teacher.value, 1), "type": "quantitative"}
        mark = {"type": "rule", "strokeDash": [2, 4], "color": "#888888", "aria": False}
        layers.append({"mark": mark, "encoding": {"y": rule}})
    return Chart(
        name="eer-ratio",
        device_id="",
        title=f"Error against compression; {data}",
        says=(
            "Each line is one way to prune, after fine-tuning and before conversion, with intervals; the dotted "
            "line is the uncompressed network."
        ),
        data=tuple(made),
        spec={"width": "container", "height": 320, "layer": layers},
    )


def _det(curves: Mapping[str, Verification], rows: Sequence[StudyRow], data: str) -> Chart | None:
    """Both error rates over all thresholds, on axes on which normal scores make straight lines."""
    kinds = {row.variant: HOW[row.kind] for row in rows}
    deviate = NormalDist().inv_cdf
    made: list[Datum] = [
        {
            "label": f"{clean(name)}, EER {100 * verification.eer.value:.2f} %",
            "how": kinds[name],
            "x": round(deviate(_inside(point.fmr)), 4),
            "y": round(deviate(_inside(point.fnmr)), 4),
            "fmr": scaled(100 * point.fmr, 1),
            "fnmr": scaled(100 * point.fnmr, 1),
            "threshold": scaled(point.threshold, 1),
            "order": number,
        }
        for name, verification in curves.items()
        for number, point in enumerate(verification.curve)
    ]
    if not made:
        return None
    ends = [round(deviate(_LEAST), 4), round(deviate(0.6), 4)]

    def rate(field: str, title: str) -> Spec:
        marks = {
            "values": [round(deviate(tick), 4) for tick in _TICKS],
            "labelExpr": "format(100 * cumulativeNormal(datum.value), '.1~f') + ' %'",
        }
        return {
            "field": field,
            "type": "quantitative",
            "title": title,
            "scale": {"domain": ends, "nice": False, "zero": False},
            "axis": marks,
        }

    names = list(dict.fromkeys(str(datum["label"]) for datum in made))
    return Chart(
        name="det",
        device_id="",
        title=f"DET curves; {data}",
        says=(
            "How often a stranger is accepted against how often the right person is refused, over all thresholds; "
            "down and to the left is better. Checkpoints: the uncompressed network, the best of each kind of pruning "
            "at each ratio, every student."
        ),
        data=tuple(made),
        spec={
            "width": "container",
            "height": 420,
            "params": [legend_choice("label")],
            "mark": {"type": "line", "clip": True, "strokeWidth": 1.8},
            "encoding": {
                "x": rate("x", "false match rate (normal deviates)"),
                "y": rate("y", "false non-match rate (normal deviates)"),
                "order": {"field": "order"},
                "color": _named(names),
                # Colours come again after eight curves: the next eight have dashes, in the legend as in the picture.
                "strokeDash": _named(names, range=_dashes(len(names))),
                "opacity": {"condition": {"param": "label", "value": 0.9}, "value": 0.08},
                "tooltip": [
                    {"field": "label", "title": "network"},
                    {"field": "fmr", "title": "false matches, %", "format": ".3~g"},
                    {"field": "fnmr", "title": "false non-matches, %", "format": ".3~g"},
                    {"field": "threshold", "format": ".3~g"},
                ],
            },
        },
    )


def _colour(field: str) -> Spec:
    return {"field": field, "type": "nominal", "title": None}


def _named(names: Sequence[str], **scale: object) -> Spec:
    """A channel that tells curves apart by their names. Equal legends of two channels become one."""
    legend = {"orient": "bottom", "columns": 2, "labelLimit": 320}
    domain = {"domain": names, **scale}
    return {"field": "label", "type": "nominal", "title": None, "scale": domain, "legend": legend}


def _dashes(count: int) -> list[list[int]]:
    patterns = ([1, 0], [6, 3], [2, 2], [8, 2, 2, 2])
    return [patterns[(number // _COLOURS) % len(patterns)] for number in range(count)]


def _inside(rate: float) -> float:
    return min(max(rate, _LEAST), 1 - _LEAST)
