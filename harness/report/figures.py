"""Distributions of raw samples as SVG, drawn here: no library, no script. Colours come from the page's style sheet."""

from __future__ import annotations

import math
import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from harness import statistics, units
from harness.report import words
from harness.report.colours import FAMILIES
from harness.report.markup import Markup, element, join

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.view import DeviceRows, Row

_WIDTH: Final = 900
_ROW: Final = 32
_TOP: Final = 44
_BOTTOM: Final = 40
_LABEL_END: Final = 214
_WARM: Final = (228, 590)
"""From and to, in pixels."""
_VALUE_START: Final = 600
_COLD: Final = (716, 884)
_BIN: Final = 3
"""Width of a bin of the histogram."""
_LABEL_LENGTH: Final = 30
"""Characters that fit left of the axis."""
_HEADING: Final = 40
_TITLE_LENGTH: Final = 100
"""Characters of a title that fit on one line, in the widest of its fonts."""
_TITLE_LINE: Final = 20
_KINDS: Final = ("#2563c9", "#b4530f", "#1d7a4f", "#7d3fb3")
_STANDALONE: Final = (
    "text{font:13px system-ui,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#1a1d21}"
    ".title{font-size:15px;font-weight:600}.head{fill:#5b646e;font-weight:600}.tick,.none{fill:#5b646e}"
    ".grid{stroke:#d9dee3}.shape{opacity:.55;fill:none;stroke-width:3}.median{stroke:#1a1d21;stroke-width:1.5}"
    ".interval{fill:#1a1d21;opacity:.22}.load{opacity:.3}.dot{opacity:.75}"
    + "".join(
        f".kind{number} .load,.kind{number} .dot{{fill:{colour}}}.kind{number} .shape{{stroke:{colour}}}"
        for number, colour in enumerate(_KINDS)
    )
)
"""The page's colours, in the words that programs without a whole browser understand."""


def latencies(rows: Sequence[Row], *, title: str) -> Markup:
    """Every counted sample of one model's rows, and beside it the cold starts, which have a scale of their own.

    Args:
        rows: One line of the picture each; a row without figures says why not.
        title: Read out by a screen reader, with the medians.
    """
    measured = [row for row in rows if row.measured]
    if not measured:
        return Markup()
    warm = _Scale.of([value for row in measured for value in _samples_ms(row)], _WARM)
    cold = _Scale.from_zero(max(value for row in measured for value in _cold_ms(row)), _COLD)
    bottom = _TOP + _ROW * len(rows)
    spoken = "; ".join(f"{row.name}: {words.interval(row.summary)}" for row in rows if row.summary)
    return element(
        "svg",
        element("title", title),
        element("desc", spoken),
        _heads(warm),
        _axis(warm, bottom),
        _axis(cold, bottom),
        *(_row(row, warm, cold, index, FAMILIES[row.cell.format]) for index, row in enumerate(rows)),
        viewBox=f"0 0 {_WIDTH} {bottom + _BOTTOM}",
        role="img",
        class_="latencies",
    )


def latency_files(devices: Sequence[DeviceRows]) -> dict[str, str]:
    """The same pictures as files that stand alone: `latency-DEVICE-MODEL` -> SVG on white, with its own colours."""
    made: dict[str, str] = {}
    for device in devices:
        for model in () if device.is_emulated else device.models:
            title = f"{words.model_line(model)} on {words.device_line(device)}"
            picture = latencies(model.rows, title=title)
            if picture:
                made[f"latency-{slug(device.id)}-{slug(model.name)}"] = _standing_alone(picture, title)
    return made


def slug(name: str) -> str:
    """A name as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "unnamed"


def _standing_alone(picture: Markup, title: str) -> Markup:
    """Its height grows by a heading; a file knows nothing of the page's style sheet."""
    opening, _, rest = picture.partition(">")
    height = int(opening.split(f"0 0 {_WIDTH} ")[1].split('"')[0])
    body = Markup(rest.removesuffix("</svg>"))
    lines = textwrap.wrap(title, _TITLE_LENGTH)
    heading = _HEADING + _TITLE_LINE * (len(lines) - 1)
    return element(
        "svg",
        element("style", Markup(_STANDALONE)),
        element("rect", width=_WIDTH, height=height + heading, fill="#ffffff"),
        *(element("text", line, x=16, y=24 + _TITLE_LINE * at, class_="title") for at, line in enumerate(lines)),
        element("g", body, transform=f"translate(0 {heading})"),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_WIDTH} {height + heading}",
        width=_WIDTH,
        height=height + heading,
    )


@dataclass(frozen=True)
class _Scale:
    """From milliseconds to pixels."""

    low: float
    high: float
    is_logarithmic: bool
    ends: tuple[int, int]

    @classmethod
    def of(cls, values: Sequence[float], ends: tuple[int, int]) -> _Scale:
        """From zero, so that lengths can be compared; unless all are close together, or one would be too small."""
        low, high = min(values), max(values)
        if high > 8 * low:
            return cls(low / 1.15, high * 1.15, is_logarithmic=True, ends=ends)
        if high > 1.25 * low:
            return cls.from_zero(high, ends)
        margin = max(0.05 * (high - low), 1e-3 * high)
        return cls(low - margin, high + margin, is_logarithmic=False, ends=ends)

    @classmethod
    def from_zero(cls, high: float, ends: tuple[int, int]) -> _Scale:
        return cls(0, 1.04 * high, is_logarithmic=False, ends=ends)

    def at(self, value: float) -> float:
        if self.is_logarithmic:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.ends[0] + share * (self.ends[1] - self.ends[0])

    @property
    def said(self) -> str:
        """What a reader has to know of the axis."""
        if self.is_logarithmic:
            return "logarithmic axis"
        return "" if self.low == 0 else "axis not from 0"

    def ticks(self) -> list[float]:
        """Round values, about 70 pixels apart."""
        if self.is_logarithmic:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1, 2, 5) if self.high < 200 * self.low else (1,)
            ticks = [step * 10.0**decade for decade in decades for step in steps]
        else:
            step = _round_step((self.high - self.low) * 70 / (self.ends[1] - self.ends[0]))
            ticks = [step * number for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        return [tick for tick in ticks if self.low <= tick <= self.high]


def _round_step(rough: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= rough * 0.999)


def _samples_ms(row: Row) -> list[float]:
    processes = row.measured.processes if row.measured else ()
    counted = [process for process in processes if process.discarded is None]
    return [ns / 1e6 for process in counted for ns in statistics.samples_ns(process)]


def _cold_ms(row: Row) -> list[float]:
    processes = row.measured.processes if row.measured else ()
    return [(each.load_ns + each.first_inference_ns) / 1e6 for each in processes if each.discarded is None]


def _heads(warm: _Scale) -> Markup:
    said = f" ({warm.said})" if warm.said else ""
    return join(
        element("text", f"Warm inferences, ms{said}", x=_WARM[0], y=18, class_="head"),
        element("text", "p50", x=_VALUE_START, y=18, class_="head"),
        element("text", "Cold start, ms", x=_COLD[0], y=18, class_="head"),
    )


def _axis(scale: _Scale, bottom: int) -> Markup:
    marks = []
    for tick in scale.ticks():
        x = round(scale.at(tick), 1)
        marks.append(element("line", x1=x, x2=x, y1=_TOP - 8, y2=bottom + 4, class_="grid"))
        marks.append(element("text", f"{tick:g}", x=x, y=bottom + 20, text_anchor="middle", class_="tick"))
    return join(*marks)


def _row(row: Row, warm: _Scale, cold: _Scale, index: int, colour: int) -> Markup:
    middle = _TOP + _ROW * index + _ROW / 2
    label = row.name if len(row.name) <= _LABEL_LENGTH else f"{row.name[: _LABEL_LENGTH - 1]}…"
    name = element("text", element("title", row.name), label, x=_LABEL_END, y=middle + 4, text_anchor="end")
    if row.summary is None:
        status = element("text", words.STATUS[row.status], x=_WARM[0] + 6, y=middle + 4, class_="none")
        return element("g", name, status)
    value = f"{units.milliseconds(row.summary.p50_ns)} {words.plus_minus(row.summary)}"
    return element(
        "g",
        name,
        _shape(_samples_ms(row), warm, middle),
        _p50(row, warm, middle),
        element("text", value, x=_VALUE_START, y=middle + 4),
        _cold(row, cold, middle),
        class_=f"kind{colour % 4}",
    )


def _shape(values_ms: Sequence[float], scale: _Scale, middle: float) -> Markup:
    """A histogram mirrored at the row's middle. Its height grows with the root of the count, so that tails show."""
    pixels = np.array([scale.at(value) for value in values_ms])
    bins = np.bincount(((pixels - scale.ends[0]) // _BIN).astype(int).clip(min=0))
    steps: list[str] = []
    at, bottom = 0.0, 0.0
    for number in np.flatnonzero(bins):
        # Each bin is a stroke as wide as it, from where the last one ended, in half pixels: finer is not seen, and a
        # page of a thousand rows has a hundred thousand of them.
        half = round(max(2.0, 2 * (_ROW / 2 - 4) * math.sqrt(bins[number] / bins.max()))) / 2
        x, top = scale.ends[0] + _BIN * (int(number) + 0.5), middle - half
        move = f"m{x - at:g} {top - bottom:g}" if steps else f"M{x:g} {top:g}"
        steps.append(f"{move}v{2 * half:g}".replace(" -", "-"))
        at, bottom = x, middle + half
    return element("path", d="".join(steps), class_="shape")


def _p50(row: Row, scale: _Scale, middle: float) -> Markup:
    summary = row.summary
    if summary is None:
        return Markup()
    x = round(scale.at(summary.p50_ns / 1e6), 1)
    line = element("line", x1=x, x2=x, y1=middle - _ROW / 2 + 2, y2=middle + _ROW / 2 - 2, class_="median")
    if summary.p50_low_ns is None or summary.p50_high_ns is None:
        return line
    low, high = scale.at(summary.p50_low_ns / 1e6), scale.at(summary.p50_high_ns / 1e6)
    said = element("title", words.interval(summary))
    band = element(
        "rect",
        said,
        x=round(low, 1),
        y=middle - _ROW / 2 + 2,
        width=round(max(high - low, 1), 1),
        height=_ROW - 4,
        class_="interval",
    )
    return join(band, line)


def _cold(row: Row, scale: _Scale, middle: float) -> Markup:
    """A dot a process, and behind them the share of loading."""
    if row.summary is None:
        return Markup()
    zero, loaded = scale.at(0), scale.at(row.summary.load_ns / 1e6)
    said = f"load {units.duration(row.summary.load_ns)}, first {units.duration(row.summary.first_inference_ns)}"
    bar = element(
        "rect", element("title", said), x=zero, y=middle - 5, width=round(loaded - zero, 1), height=10, class_="load"
    )
    dots = (element("circle", cx=round(scale.at(value), 1), cy=middle, r=3.5, class_="dot") for value in _cold_ms(row))
    return join(bar, *dots)
