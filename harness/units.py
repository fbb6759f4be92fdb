"""Quantities as people read them. Records hold plain numbers in base units; only these functions round."""

from __future__ import annotations

import math

_UNKNOWN = "–"


def duration(ns: float | None) -> str:
    """A time with three significant digits: `850 ns`, `12.3 µs`, `4.56 ms`, `1.23 s`."""
    if ns is None:
        return _UNKNOWN
    for factor, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        # 0.9995: a figure that rounds to 1000 of a unit is shown as 1 of the next.
        if abs(ns) >= factor * 0.9995:
            return f"{three_digits(ns / factor)} {unit}"
    return f"{three_digits(ns)} ns"


def milliseconds(ns: float | None) -> str:
    """Milliseconds without the unit, for a column that has it in its head; below a microsecond with one of its own."""
    if ns is None:
        return _UNKNOWN
    return f"{ns:.0f} ns" if 0 < abs(ns) < 1e3 else _narrow(ns / 1e6)


def milliseconds_between(low_ns: float | None, high_ns: float | None) -> str:
    """The ends of an interval, as `milliseconds` has them; one that lacks an end is unknown."""
    return _UNKNOWN if low_ns is None or high_ns is None else f"{milliseconds(low_ns)} to {milliseconds(high_ns)}"


def mebibytes(size_bytes: float | None) -> str:
    """MiB (1,048,576 bytes) without the unit, for a column that has it in its head; below a KiB with one of its own."""
    if size_bytes is None:
        return _UNKNOWN
    return f"{size_bytes:.0f} B" if 0 < abs(size_bytes) < 2**10 else _narrow(size_bytes / 2**20)


def mebibytes_said(size_bytes: float | None) -> str:
    """With its unit, for a sentence: `13.6 MiB`, `1005 B`."""
    said = mebibytes(size_bytes)
    return said if size_bytes is None or said.endswith("B") else f"{said} MiB"


def short_hash(digest: str) -> str:
    """As many digits of a commit or a digest as git shows: `53f1154`."""
    return digest[:7]


def megabytes(size_bytes: float | None) -> str:
    """MB (1,000,000 bytes) without the unit, for a column that has it in its head."""
    return _UNKNOWN if size_bytes is None else three_digits(size_bytes / 1e6)


def percent(fraction_pct: float | None, *, digits: int = 1) -> str:
    """A percentage with its sign: `1.3 %`."""
    return _UNKNOWN if fraction_pct is None else f"{fraction_pct:.{digits}f} %"


def count(number: float | None) -> str:
    """A large count: `3.50 M`, `11.7 M`, `301 M`, `4.09 G`."""
    if number is None:
        return _UNKNOWN
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(number) >= factor * 0.9995:
            return f"{three_digits(number / factor)}{unit}"
    return three_digits(number)


def elapsed(seconds: float) -> str:
    """A wait: `8 s`, `3 min 20 s`, `1 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _narrow(value: float) -> str:
    """Three digits, or two where three would be wider than a column: 0.0068 and not 0.00682."""
    return f"{value:.4f}" if 0 < abs(value) < 0.00995 else three_digits(value)


def three_digits(value: float) -> str:
    """Three significant digits, never in powers of ten: `0.0123`, `1.23`, `12.3`, `1,234`."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    # Counted on the rounded figure: 9.996 has one digit before the point, 10.0 has two.
    exponent = int(f"{value:.2e}".partition("e")[2])
    return f"{value:,.{max(0, 2 - exponent)}f}"
