"""The pictures of what happens within one row, chosen from a list: its blocks over time, the time of its operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness import statistics
from harness.report import words
from harness.report.figures import slug
from harness.report.operators import SHOWN, all_operators_ns, longest_operators, number_profiled, profiled, title_of
from harness.report.spec import Chart, Datum, Spec, axis, names_axis, row_choice, scaled, with_width
from harness.text import clean

if TYPE_CHECKING:
    from harness.records import Block, ProcessRecord
    from harness.report.view import DeviceRows, Row

_LIMIT: Final = " The clock limit is the lowest of the processors' upper limits"
_ITS_CLOCK: Final = "; the clock is that of the processor on which a block ended."
_NO_CLOCK: Final = "; a clock that stays below its limit is not seen in it."


_PANELS = {"celsius": "temperature, °C", "cpu_mhz": "clock, MHz", "cap_mhz": "clock limit, MHz"}
"""Of what may explain a latency over time, a panel each where the device has it."""


def over_time(device: DeviceRows) -> Chart | None:
    """Each block's median over the minutes of its cell, with temperature and clock where the device has them."""
    measured = [row for row in device.rows if row.measured]
    rows = measured[: device.room]
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
                    {"field": "cpu_mhz", "title": "clock, MHz"},
                    {"field": "cap_mhz", "title": "clock limit, MHz"},
                ],
            },
        }
    ]
    for field, title in _PANELS.items():
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
        says="Each point is the median of one block; one colour a process. A trend means heat, or another program."
        + _about_clocks(data)
        + words.first_of(len(rows), len(measured)),
        data=tuple(data),
        spec=spec,
    )


def _about_clocks(data: list[Datum]) -> str:
    if all(datum["cap_mhz"] is None for datum in data):
        return ""
    return _LIMIT + (_NO_CLOCK if all(datum["cpu_mhz"] is None for datum in data) else _ITS_CLOCK)


def operators(device: DeviceRows) -> Chart | None:
    """Where the time of an inference goes: the operators that take most of it, and where each ran."""
    data = [datum for row in profiled(device) for datum in _operator_times(row)]
    if not data:
        return None
    names = list(dict.fromkeys(str(datum["label"]) for datum in data))
    return Chart(
        name=f"operators-{slug(device.id)}",
        device_id=device.id,
        title=f"Time of each operator on {clean(device.name)}",
        says=(
            f"The {SHOWN} operators of a row that take longest, in a process in which they were timed, which "
            "slows the whole down. Kinds and names are the runtime's, after it has fused and rewritten the graph."
            + words.first_of(device.room, number_profiled(device))
        ),
        data=tuple(data),
        spec={
            "width": "container",
            "height": 18 * SHOWN,
            "params": [row_choice(names)],
            "transform": [{"filter": "datum.label == shown"}],
            "mark": {"type": "bar"},
            "encoding": {
                "y": names_axis("title"),
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


def _operator_times(row: Row) -> list[Datum]:
    whole = all_operators_ns(row)
    return [
        {
            "label": f"{clean(row.cell.model)} {row.name}",
            "operator": clean(operator.name),
            "title": title_of(operator),
            "kind": clean(operator.kind),
            "accelerator": clean(operator.accelerator),
            "us": scaled(operator.median_ns, 1e3),
            "share_pct": scaled(100 * operator.median_ns, whole) if whole else None,
        }
        for operator in longest_operators(row)
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
        "cpu_mhz": scaled(block.conditions.cpu_hz, 1e6),
        "cap_mhz": scaled(block.conditions.cpu_cap_hz, 1e6),
    }
