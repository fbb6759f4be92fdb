"""The pictures of a run: what there is to draw of each device.

In the order in which a reader asks. Emulated devices have no pictures of times.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeVar

from harness import statistics
from harness.report.figures import slug
from harness.report.spec import LIGHT, Chart, Datum, Spec, axis, legend_choice, row_choice, scaled, with_width
from harness.report.view import clean, threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harness.records import Block, ProcessRecord
    from harness.report.view import DeviceRows, Row, View

_T = TypeVar("_T")
_LINES: Final = 60
"""Lines that one picture has room to name."""
_OPERATORS: Final = 20
"""Of one row; the whole is in the record, and in the trace."""
_BLOCK_ROWS: Final = 60
"""Rows whose blocks are embedded for the picture over time; beyond that the page would outgrow its use."""


def charts(shown: View) -> tuple[Chart, ...]:
    """Every picture that the run has something for."""
    return tuple(
        chart
        for device in shown.devices
        if not device.is_emulated
        for draw in _DRAWN
        if (chart := draw(device)) is not None
    )


# --- what is drawn -------------------------------------------------------------------------------------------------


def _size_latency(device: DeviceRows) -> Chart | None:
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
        "color": {"field": by, "type": "nominal", "title": None},
    }
    line: Spec = {
        "transform": [{"filter": "datum.front"}],
        "mark": {"type": "line", "strokeDash": [4, 3], "opacity": 0.7},
        "encoding": shared | {"detail": {"field": "model"}},
    }
    points: Spec = {
        "params": [legend_choice(by)],
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


def _runtimes(device: DeviceRows) -> Chart | None:
    """One line a model, precision and number of threads: where each runtime stands on it."""
    by_line: dict[str, list[Row]] = {}
    for row in _good(device):
        by_line.setdefault(_runtime_line(row), []).append(row)
    compared = [group for group in by_line.values() if len({_runtime(row) for row in group}) > 1]
    if not compared:
        return None
    several, left_out = _most(compared, lambda group: max(_p50_ms(row) for row in group))
    data = [_datum(row) | {"line": _runtime_line(row), "runtime": _runtime(row)} for group in several for row in group]
    y: Spec = {"field": "line", "type": "nominal", "title": None, "sort": None, "axis": {"labelLimit": 260}}
    colour: Spec = {"field": "runtime", "type": "nominal", "title": None}
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
        says="One line a model, precision and number of threads. The dots are p50, the bars their intervals."
        + _left_out(left_out, "slowest", "lines"),
        data=tuple(data),
        spec={
            "width": "container",
            "height": 20 * len(several),
            "layer": [span, *_dots_with_intervals(y, colour, x_title="p50, ms (logarithmic)", is_log=True)],
        },
    )


def _threads(device: DeviceRows) -> Chart | None:
    """How latency falls with threads, beside the line of a perfect division of the work."""
    by_file: dict[tuple[str, str], dict[int, Row]] = {}
    for row in _good(device):
        by_file.setdefault((row.cell.model, row.file), {})[row.cell.choice.threads] = row
    of_several = [by_threads for by_threads in by_file.values() if len(by_threads) > 1 and 1 in by_threads]
    if not of_several:
        return None
    several, left_out = _most(of_several, lambda by_threads: _p50_ms(by_threads[1]))
    data: list[Datum] = [
        _datum(row)
        | {
            "speedup": scaled(_p50_ms(by_threads[1]) / _p50_ms(row), 1),
            "of": f"{clean(row.cell.model)} {row.file}",
            "ideal": count,
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
            "color": {"field": by, "type": "nominal", "title": None},
            "strokeDash": {"field": "format", "type": "nominal", "title": None},
            "detail": {"field": "of"},
            "opacity": {"condition": {"param": by, "value": 0.9}, "value": 0.08},
            "tooltip": [*_tooltip(), {"field": "speedup", "title": "times one thread", "format": ".2f"}],
        },
    }
    return Chart(
        name=f"threads-{slug(device.id)}",
        device_id=device.id,
        title=f"Scaling with threads on {clean(device.name)}",
        says="How many times as fast as one thread; the dotted line is a perfect division of the work."
        + _left_out(left_out, "slowest", "files"),
        data=tuple(data),
        spec={"width": "container", "height": 280, "layer": [ideal, lines]},
    )


def _memory(device: DeviceRows) -> Chart | None:
    """What the runtime alone took, and what the model added. Only rows of one source: others do not compare."""
    rows = [row for row in _good(device) if row.summary and row.summary.peak_memory_bytes is not None]
    sources = {row.summary.memory_source for row in rows if row.summary}
    if len(rows) < 2 or len(sources) != 1:
        return None
    several, left_out = _most(rows, lambda row: (row.summary and row.summary.peak_memory_bytes) or 0)
    data: list[Datum] = []
    for row in several:
        base, summary = _datum(row), row.summary
        if summary is None or summary.peak_memory_bytes is None or summary.model_memory_bytes is None:
            continue
        alone = scaled(summary.peak_memory_bytes - summary.model_memory_bytes, 2**20)
        added = scaled(summary.model_memory_bytes, 2**20)
        data += [base | {"part": "runtime alone", "mib": alone}, base | {"part": "model", "mib": added}]
    return Chart(
        name=f"memory-{slug(device.id)}",
        device_id=device.id,
        title=f"Peak memory on {clean(device.name)}",
        says=f"Peak memory of a process that was not timed, read from {clean(str(sources.pop()))}."
        + _left_out(left_out, "largest", "rows"),
        data=tuple(data),
        spec={
            "width": "container",
            "height": 16 * len(several),
            "mark": {"type": "bar"},
            "encoding": {
                "y": {"field": "label", "type": "nominal", "title": None, "sort": None, "axis": {"labelLimit": 300}},
                "x": axis("mib", "MiB"),
                "color": {"field": "part", "type": "nominal", "title": None, "sort": "descending"},
                "order": {"field": "part", "sort": "descending"},
                "tooltip": [*_tooltip(), {"field": "part"}, {"field": "mib", "title": "MiB", "format": ".1f"}],
            },
        },
    )


def _over_time(device: DeviceRows) -> Chart | None:
    """Each block's median over the minutes of its cell, with temperature and clock limit where the device has them."""
    rows = [row for row in device.rows if row.measured][:_BLOCK_ROWS]
    data = [datum for row in rows for datum in _blocks(row)]
    if not data:
        return None
    names = list(dict.fromkeys(str(datum["label"]) for datum in data))
    x = axis("seconds", "seconds since the cell's first block")
    marks: list[Spec] = [
        {
            "height": 220,
            "width": "container",
            "mark": {"type": "point", "filled": True, "size": 45},
            "encoding": {
                "x": x,
                "y": axis("p50_ms", "block median, ms", from_zero=False),
                "color": {"field": "process", "type": "nominal", "legend": None},
                "shape": {"field": "counted", "type": "nominal", "title": None},
                "tooltip": [
                    {"field": "process"},
                    {"field": "p50_ms", "title": "ms", "format": ".3f"},
                    {"field": "celsius", "title": "°C"},
                    {"field": "cap_mhz", "title": "clock limit, MHz"},
                ],
            },
        }
    ]
    for field, title in (("celsius", "temperature, °C"), ("cap_mhz", "clock limit, MHz")):
        if any(datum[field] is not None for datum in data):
            line = {"x": x, "y": axis(field, title, from_zero=False)}
            marks.append({"height": 70, "width": "container", "mark": "line", "encoding": line})
    spec: Spec = {
        "params": [row_choice(names)],
        "transform": [{"filter": "datum.label == shown"}],
    }
    # A single picture must not be a concatenation of one: those do not take the width of their place.
    spec |= marks[0] if len(marks) == 1 else {"vconcat": [with_width(mark) for mark in marks]}
    return Chart(
        name=f"over-time-{slug(device.id)}",
        device_id=device.id,
        title=f"Latency over time within a row on {clean(device.name)}",
        says="Each point is the median of one block; one colour a process. A trend means heat, or another program.",
        data=tuple(data),
        spec=spec,
    )


def _operators(device: DeviceRows) -> Chart | None:
    """Where the time of an inference goes: the operators that take most of it, and where each ran."""
    rows = [row for row in device.rows if row.measured and row.measured.profile][:_BLOCK_ROWS]
    data = [datum for row in rows for datum in _operator_times(row)]
    if not data:
        return None
    names = list(dict.fromkeys(str(datum["label"]) for datum in data))
    return Chart(
        name=f"operators-{slug(device.id)}",
        device_id=device.id,
        title=f"Time of each operator on {clean(device.name)}",
        says=(
            f"The {_OPERATORS} operators of a row that take longest, in a process in which they were timed, which "
            "slows the whole down. Their names are the runtime's, after it has fused and rewritten the graph."
        ),
        data=tuple(data),
        spec={
            "width": "container",
            "height": 18 * _OPERATORS,
            "params": [row_choice(names)],
            "transform": [{"filter": "datum.label == shown"}],
            "mark": {"type": "bar"},
            "encoding": {
                "y": {"field": "operator", "type": "nominal", "title": None, "sort": None, "axis": {"labelLimit": 300}},
                "x": axis("share_pct", "share of the operators' time, %"),
                "color": {"field": "accelerator", "type": "nominal", "title": None},
                "tooltip": [
                    {"field": "operator"},
                    {"field": "kind"},
                    {"field": "accelerator", "title": "ran on"},
                    {"field": "us", "title": "µs", "format": ".4~g"},
                    {"field": "share_pct", "title": "%", "format": ".1f"},
                ],
            },
        },
    )


_DRAWN: Final[Sequence[Callable[[DeviceRows], Chart | None]]] = (
    _size_latency,
    _runtimes,
    _threads,
    _memory,
    _over_time,
    _operators,
)
"""A new picture is a line here and a function above."""


# --- parts of them -------------------------------------------------------------------------------------------------


def _most(several: Sequence[_T], weight: Callable[[_T], float]) -> tuple[list[_T], int]:
    """The heaviest, as many as a picture can name, in the order they came; and how many are left out."""
    kept = sorted(range(len(several)), key=lambda index: -weight(several[index]))[:_LINES]
    return [several[index] for index in sorted(kept)], len(several) - len(kept)


def _coloured_by(rows: Iterable[Row]) -> str:
    """Colours stop telling models apart where there are more models than colours."""
    return "model" if len({row.cell.model for row in rows}) <= len(LIGHT["range"]["category"]) else "format"


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


def _operator_times(row: Row) -> list[Datum]:
    profile = row.measured.profile if row.measured else None
    if profile is None:
        return []
    whole = sum(operator.median_ns for operator in profile.operators)
    longest = sorted(profile.operators, key=lambda operator: -operator.median_ns)[:_OPERATORS]
    return [
        {
            "label": f"{clean(row.cell.model)} {row.name}",
            "operator": clean(operator.name),
            "kind": clean(operator.kind),
            "accelerator": clean(operator.accelerator),
            "us": scaled(operator.median_ns, 1e3),
            "share_pct": scaled(100 * operator.median_ns, whole) if whole else None,
        }
        for operator in longest
    ]


def _blocks(row: Row) -> list[Datum]:
    if row.measured is None:
        return []
    processes = [process for process in row.measured.processes if process.blocks]
    if not processes:
        return []
    began = min(process.blocks[0].start_ns for process in processes)
    label = f"{clean(row.cell.model)} {row.name}"
    return [
        {"label": label, **_block(process, block, began)}
        for process in processes
        for block in process.blocks
        if block.ns
    ]


def _block(process: ProcessRecord, block: Block, began_ns: int) -> Datum:
    discarded = process.discarded or block.discarded
    return {
        "process": f"{process.index + 1}",
        "seconds": round((block.start_ns - began_ns) / 1e9, 2),
        "p50_ms": scaled(statistics.median(block.ns) / block.iterations_per_sample, 1e6),
        "counted": "discarded" if discarded else "counted",
        "celsius": block.conditions.temperature_celsius,
        "cap_mhz": scaled(block.conditions.cpu_cap_hz, 1e6),
    }


def _fronts(rows: Iterable[Row]) -> frozenset[str]:
    """Ids of the rows that no other row of their model beats in both size and latency."""
    by_model: dict[str, list[tuple[float, float, str]]] = {}
    for row in rows:
        if row.summary is not None and row.summary.size_bytes is not None:
            point = (float(row.summary.size_bytes), row.summary.p50_ns, row.cell.id)
            by_model.setdefault(row.cell.model, []).append(point)
    kept = set()
    for points in by_model.values():
        fastest = math.inf
        for _, p50, cell_id in sorted(points):
            if p50 < fastest:
                fastest = p50
                kept.add(cell_id)
    return frozenset(kept)


def _runtime(row: Row) -> str:
    choice = row.cell.choice
    return choice.title if choice.accelerator == "cpu" else f"{choice.title} {choice.accelerator}"


def _runtime_line(row: Row) -> str:
    said = "" if row.threads is None else f", {threads(row.threads)}"
    return f"{clean(row.cell.model)} {row.cell.precision}{said}"


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
