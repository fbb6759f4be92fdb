"""The pictures of a run: what there is to draw of each device.

In the order in which a reader asks. Emulated devices have no pictures of times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from harness.report.accuracy import by_test, error_of
from harness.report.colours import COLOURS, FAMILIES, PARTS, coloured, of_models, of_runtimes
from harness.report.figures import slug
from harness.report.pareto import Point, front, pareto
from harness.report.row_charts import operators, over_time
from harness.report.spec import Chart, Datum, Spec, axis, legend_choice, names_axis, scaled
from harness.report.view import threads
from harness.text import clean
from harness.text import count as count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness.report.view import DeviceRows, Row, View

_T = TypeVar("_T")
_LINES: Final = 60
"""Lines that one picture has room to name."""


def charts(shown: View) -> tuple[Chart, ...]:
    """Every picture that the run has something for."""
    models = of_models([clean(model.name) for model in shown.plan.models])
    return tuple(
        chart
        for device in shown.devices
        if not device.is_emulated
        for chart in (
            _size_latency(device, models),
            *_errors(device, models),
            _runtimes(device),
            _threads(device, models),
            *_memory(device),
            over_time(device),
            operators(device),
        )
        if chart is not None
    )


# --- what is drawn -------------------------------------------------------------------------------------------------


def _size_latency(device: DeviceRows, models: Mapping[str, int]) -> Chart | None:
    """Size against latency, with the files of each model that no other file of it beats in both."""
    rows = [row for row in _good(device) if row.summary and row.summary.size_bytes]
    if len({(row.cell.model, row.file) for row in rows}) < 2:
        return None
    fronts = _fronts(rows)
    data = [_datum(row) | {"front": row.cell.id in fronts} for row in rows]
    by = _coloured_by(rows)
    shared: Spec = {
        "x": axis("size_mib", "file, MiB (logarithmic)", is_log=True),
        "y": axis("p50_ms", "p50, ms (logarithmic)", is_log=True),
        "color": _colour(by, models, data),
    }
    line: Spec = {
        "params": [legend_choice(by)],
        "transform": [{"filter": "datum.front"}],
        "mark": {"type": "line", "strokeDash": [4, 3], "opacity": 0.7},
        "encoding": shared | {"detail": {"field": "model"}},
    }
    points: Spec = {
        "mark": {"type": "point", "filled": True, "size": 70},
        "encoding": shared
        | {
            "shape": {"field": "format", "type": "nominal", "title": None},
            "opacity": {"condition": {"param": by, "value": 0.9}, "value": 0.08},
            "tooltip": _tooltip(),
        },
    }
    return Chart(
        name=f"size-latency-{slug(device.id)}",
        device_id=device.id,
        title=f"File size against latency on {clean(device.name)}",
        says=(
            "Each point is one measured row; down and to the left is better. The dashed line joins, for each model, "
            "the rows that no other row of it beats in both."
        ),
        data=tuple(data),
        spec={"width": "container", "height": 320, "layer": [line, points]},
    )


def _errors(device: DeviceRows, models: Mapping[str, int]) -> list[Chart | None]:
    """Error against latency, a picture for each kind of error and each set of images: others do not compare."""
    untrained = {model.name for model in device.models if model.is_untrained}
    rows = [row for row in _good(device) if row.cell.model not in untrained]
    by = _coloured_by(rows)
    several = by_test(rows)
    return [
        pareto(
            [
                Point(
                    label=f"{clean(row.cell.model)} {row.name}",
                    kind=clean(row.cell.model) if by == "model" else row.cell.format,
                    file=f"{row.cell.format}/{row.cell.precision}",
                    cost=_p50_ms(row),
                    error=error.estimate,
                )
                for row in found
                if (error := error_of(row.accuracy)) is not None
            ],
            name=f"error-latency-{slug(device.id)}" + (f"-{number}" if len(several) > 1 else ""),
            device_id=device.id,
            title=f"Error against latency on {clean(device.name)}; {test}",
            cost="p50, ms",
            error=test.metric,
            one="row",
            colours=models if by == "model" else FAMILIES,
        )
        for number, (test, found) in enumerate(several.items(), start=1)
    ]


def _runtimes(device: DeviceRows) -> Chart | None:
    """One line a model, precision, number of threads and affinity: where each runtime stands on it."""
    rows = _good(device)
    names, lines = _runtime_names(rows), _runtime_lines(rows)
    by_line: dict[str, list[Row]] = {}
    for row in rows:
        by_line.setdefault(lines[row.cell.id], []).append(row)
    compared = [group for group in by_line.values() if len({names[row.cell.id] for row in group}) > 1]
    if not compared:
        return None
    several, left_out = _most(compared, lambda group: max(_p50_ms(row) for row in group))
    data = [
        _datum(row) | {"line": lines[row.cell.id], "runtime": names[row.cell.id]} for group in several for row in group
    ]
    y = names_axis("line")
    formats = {names[row.cell.id]: row.cell.format for row in sorted(rows, key=lambda row: names[row.cell.id])}
    colour = coloured("runtime", of_runtimes(formats), {datum["runtime"] for datum in data})
    span: Spec = {
        "mark": {"type": "rule", "opacity": 0.35, "strokeWidth": 2},
        "encoding": {
            "y": y,
            "x": {"aggregate": "min", "field": "p50_ms", "type": "quantitative", "scale": {"type": "log"}},
            "x2": {"aggregate": "max", "field": "p50_ms"},
        },
    }
    return Chart(
        name=f"runtimes-{slug(device.id)}",
        device_id=device.id,
        title=f"Runtime against runtime on {clean(device.name)}",
        says="One line a model, precision, number of threads and choice of processors. The dots are p50, the bars "
        "their intervals." + _left_out(left_out, "slowest", "lines"),
        data=tuple(data),
        spec={
            "width": "container",
            "height": 20 * len(several),
            "layer": [span, *_dots_with_intervals(y, colour, x_title="p50, ms (logarithmic)", is_log=True)],
        },
    )


def _threads(device: DeviceRows, models: Mapping[str, int]) -> Chart | None:
    """How latency falls with threads, beside the line of a perfect division of the work."""
    by_file: dict[tuple[str, str], dict[int, Row]] = {}
    for row in _good(device):
        by_file.setdefault((row.cell.model, row.file), {})[row.cell.choice.threads] = row
    of_several = [by_threads for by_threads in by_file.values() if len(by_threads) > 1 and 1 in by_threads]
    if not of_several:
        return None
    several, left_out = _most(of_several, lambda by_threads: _p50_ms(by_threads[1]))
    cores = device.facts.cores if device.facts else None
    data: list[Datum] = [
        _datum(row)
        | {
            "speedup": scaled(_p50_ms(by_threads[1]) / _p50_ms(row), 1),
            "of": f"{clean(row.cell.model)} {row.file}",
            "ideal": count if cores is None else min(count, cores),
        }
        for by_threads in several
        for count, row in sorted(by_threads.items())
    ]
    x: Spec = {"field": "threads", "type": "ordinal", "title": "threads", "axis": {"labelAngle": 0}}
    ideal: Spec = {
        "mark": {"type": "line", "strokeDash": [2, 4], "color": "#888888"},
        "encoding": {"x": x, "y": {"aggregate": "max", "field": "ideal", "type": "quantitative"}},
    }
    by = _coloured_by([row for by_threads in several for row in by_threads.values()])
    lines: Spec = {
        "params": [legend_choice(by)],
        "mark": {"type": "line", "point": True},
        "encoding": {
            "x": x,
            "y": axis("speedup", "times as fast as one thread"),
            "color": _colour(by, models, data),
            "strokeDash": {
                "field": "format",
                "type": "nominal",
                "title": None,
                "legend": {"symbolType": "stroke", "symbolSize": 400},
            },
            "detail": {"field": "of"},
            "opacity": {"condition": {"param": by, "value": 0.9}, "value": 0.08},
            "tooltip": [*_tooltip(), {"field": "speedup", "title": "times one thread", "format": ".2f"}],
        },
    }
    return Chart(
        name=f"threads-{slug(device.id)}",
        device_id=device.id,
        title=f"Scaling with threads on {clean(device.name)}",
        says="How many times as fast as one thread; the dotted line is a perfect division of the work"
        + ("." if cores is None else f" among {count_of(cores, 'processor', 'processors')}.")
        + _left_out(left_out, "slowest", "files"),
        data=tuple(data),
        spec={"width": "container", "height": 280, "layer": [ideal, lines]},
    )


def _memory(device: DeviceRows) -> list[Chart]:
    """What the runtime alone took, and what the model added, a picture for each source: figures of others differ."""
    by_source: dict[str, list[Row]] = {}
    for row in _good(device):
        if row.summary and row.summary.peak_memory_bytes is not None and row.summary.model_memory_bytes is not None:
            by_source.setdefault(clean(str(row.summary.memory_source)), []).append(row)
    compared = {source: rows for source, rows in by_source.items() if len(rows) > 1}
    return [
        _memory_of(device, rows, source, f"-{number}" if len(compared) > 1 else "")
        for number, (source, rows) in enumerate(compared.items(), start=1)
    ]


def _memory_of(device: DeviceRows, rows: Sequence[Row], source: str, suffix: str) -> Chart:
    several, left_out = _most(rows, lambda row: (row.summary and row.summary.peak_memory_bytes) or 0)
    data: list[Datum] = []
    for row in several:
        base, summary = _datum(row), row.summary
        assert summary is not None
        assert summary.peak_memory_bytes is not None
        assert summary.model_memory_bytes is not None
        alone = scaled(summary.peak_memory_bytes - summary.model_memory_bytes, 2**20)
        added = scaled(summary.model_memory_bytes, 2**20)
        data += [base | {"part": "runtime alone", "mib": alone}, base | {"part": "model", "mib": added}]
    return Chart(
        name=f"memory-{slug(device.id)}{suffix}",
        device_id=device.id,
        title=f"Peak memory on {clean(device.name)}" + (f", read from {source}" if suffix else ""),
        says=f"Peak memory of a process that was not timed, read from {source}."
        + _left_out(left_out, "largest", "rows"),
        data=tuple(data),
        spec={
            "width": "container",
            "height": 16 * len(several),
            "mark": {"type": "bar"},
            "encoding": {
                "y": names_axis("label"),
                "x": axis("mib", "MiB"),
                "color": coloured("part", PARTS, PARTS),
                "order": {"field": "part", "sort": "descending"},
                "tooltip": [*_tooltip(), {"field": "part"}, {"field": "mib", "title": "MiB", "format": ".1f"}],
            },
        },
    )


# --- parts of them -------------------------------------------------------------------------------------------------


def _most(several: Sequence[_T], weight: Callable[[_T], float]) -> tuple[list[_T], int]:
    """The heaviest, as many as a picture can name, in the order they came; and how many are left out."""
    kept = sorted(range(len(several)), key=lambda index: -weight(several[index]))[:_LINES]
    return [several[index] for index in sorted(kept)], len(several) - len(kept)


def _colour(by: str, models: Mapping[str, int], data: Sequence[Datum]) -> Spec:
    return coloured(by, models if by == "model" else FAMILIES, {datum[by] for datum in data})


def _coloured_by(rows: Iterable[Row]) -> str:
    """Colours stop telling models apart where there are more models than colours."""
    return "model" if len({row.cell.model for row in rows}) <= COLOURS else "format"


def _left_out(count: int, which: str, what: str) -> str:
    return f" The {_LINES} {which} {what} of {_LINES + count}; the table has all." if count else ""


def _p50_ms(row: Row) -> float:
    assert row.summary is not None
    return row.summary.p50_ns / 1e6


def _good(device: DeviceRows) -> list[Row]:
    """Rows with figures of the right function: a fast wrong answer is in no picture."""
    return [row for row in device.rows if row.summary is not None and row.summary.parity_passed]


def _datum(row: Row) -> Datum:
    summary = row.summary
    assert summary is not None
    return {
        "label": f"{clean(row.cell.model)} {row.name}",
        "model": clean(row.cell.model),
        "format": row.cell.format,
        "threads": row.cell.choice.threads,
        "p50_ms": scaled(summary.p50_ns, 1e6),
        "low_ms": scaled(summary.p50_low_ns, 1e6),
        "high_ms": scaled(summary.p50_high_ns, 1e6),
        "size_mib": scaled(summary.size_bytes, 2**20),
        "peak_mib": scaled(summary.peak_memory_bytes, 2**20),
    }


def _fronts(rows: Iterable[Row]) -> frozenset[str]:
    """Ids of the rows that no other row of their model beats in both size and latency."""
    by_model: dict[str, dict[str, tuple[float, float]]] = {}
    for row in rows:
        if row.summary is not None and row.summary.size_bytes is not None:
            by_model.setdefault(row.cell.model, {})[row.cell.id] = (float(row.summary.size_bytes), row.summary.p50_ns)
    return frozenset(
        cell_id
        for points in by_model.values()
        for best in [front(list(points.values()))]
        for cell_id, point in points.items()
        if point in best
    )


def _runtime_names(rows: Iterable[Row]) -> dict[str, str]:
    """By cell id, the runtime with its accelerator, and of its settings those in which its own rows differ."""
    by_runtime: dict[str, list[Row]] = {}
    for row in rows:
        choice = row.cell.choice
        name = choice.title if choice.accelerator == "cpu" else f"{choice.title} {choice.accelerator}"
        by_runtime.setdefault(name, []).append(row)
    found = {}
    for name, several in by_runtime.items():
        settings = {row.cell.id: _settings(row) for row in several}
        common = set.intersection(*(set(each) for each in settings.values()))
        for cell_id, each in settings.items():
            found[cell_id] = clean(" ".join((name, *(said for said in each if said not in common))))
    return found


def _settings(row: Row) -> list[str]:
    choice = row.cell.choice
    options = [f"{key}={value}" for key, value in sorted(choice.options.items())]
    return [choice.graph_optimization, *options, f"by {choice.driver}"]


def _runtime_lines(rows: Sequence[Row]) -> dict[str, str]:
    """By cell id, what runtimes are compared on; the processors where there is a choice of them."""
    one_affinity = len({row.cell.choice.affinity for row in rows}) == 1
    found = {}
    for row in rows:
        parts = [f"{row.cell.model} {row.cell.precision}"]
        parts += [] if row.threads is None else [threads(row.threads)]
        parts += [] if one_affinity else [f"on {row.cell.choice.affinity} processors"]
        found[row.cell.id] = clean(", ".join(parts))
    return found


def _dots_with_intervals(y: Spec, colour: Spec, *, x_title: str, is_log: bool) -> list[Spec]:
    rule: Spec = {
        "mark": {"type": "rule", "strokeWidth": 4, "opacity": 0.5},
        "encoding": {"y": y, "x": axis("low_ms", x_title, is_log=is_log), "x2": {"field": "high_ms"}, "color": colour},
    }
    dot: Spec = {
        "mark": {"type": "point", "filled": True, "size": 60},
        "encoding": {
            "y": y,
            "x": axis("p50_ms", x_title, is_log=is_log),
            "color": colour,
            "tooltip": _tooltip(),
        },
    }
    return [rule, dot]


def _tooltip() -> list[Spec]:
    return [
        {"field": "label", "title": "row"},
        {"field": "p50_ms", "title": "p50, ms", "format": ".4~g"},
        {"field": "low_ms", "title": "from, ms", "format": ".4~g"},
        {"field": "high_ms", "title": "to, ms", "format": ".4~g"},
        {"field": "size_mib", "title": "file, MiB", "format": ".3~g"},
        {"field": "peak_mib", "title": "peak, MiB", "format": ".3~g"},
    ]
