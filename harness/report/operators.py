"""Which operators take most of an inference, for the rows of which that was taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.text import clean, count

if TYPE_CHECKING:
    from harness.records import OperatorTime
    from harness.report.view import DeviceRows, Row

SHOWN: Final = 20
"""Operators of one row; the whole is in the record, and in the trace."""
_ROWS_IN_WORDS: Final = 3
_OPERATORS_IN_WORDS: Final = 3


def profiled(device: DeviceRows) -> list[Row]:
    """The rows that a page has operators of: the first ones, where there are more than it has room for."""
    return _with_profile(device)[: device.room]


def number_profiled(device: DeviceRows) -> int:
    """How many rows have a profile, those that a page has no room for included."""
    return len(_with_profile(device))


def _with_profile(device: DeviceRows) -> list[Row]:
    return [row for row in device.rows if row.measured and row.measured.profile]


def longest_operators(row: Row) -> tuple[OperatorTime, ...]:
    """The operators that take most of the time, the longest first."""
    profile = row.measured.profile if row.measured else None
    operators = profile.operators if profile else ()
    return tuple(sorted(operators, key=lambda operator: -operator.median_ns)[:SHOWN])


def title_of(operator: OperatorTime) -> str:
    """Kind and name: ONNX Runtime calls a convolution `relu_25_nchwc` once it has fused the two.

    The name alone where it says the kind, as LiteRT's do: `Convolution (NHWC, F32) IGEMM #1`.
    """
    kind, name = clean(operator.kind), clean(operator.name)
    return name if name.startswith(kind) else f"{kind} {name}"


def in_words(device: DeviceRows) -> tuple[str, ...]:
    """The longest operators of the first rows in a sentence; nothing where none were timed."""
    rows = [] if device.is_emulated else _with_profile(device)
    said = [f"{clean(row.cell.model)} {row.name}: {_longest(row)}" for row in rows[:_ROWS_IN_WORDS]]
    rest = len(rows) - len(said)
    more = f"; {count(rest, 'more row', 'more rows')} on the page" if rest else ""
    return (f"Longest operators, share of their time: {'; '.join(said)}{more}.",) if said else ()


def _longest(row: Row) -> str:
    whole = all_operators_ns(row)
    return ", ".join(
        f"{title_of(each)} {100 * each.median_ns / whole if whole else 0:.0f} %"
        for each in longest_operators(row)[:_OPERATORS_IN_WORDS]
    )


def all_operators_ns(row: Row) -> float:
    """What all operators of a row take together."""
    profile = row.measured.profile if row.measured else None
    return sum(operator.median_ns for operator in profile.operators) if profile else 0.0
