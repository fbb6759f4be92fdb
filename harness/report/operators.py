"""Which operators take most of an inference, for the rows of which that was taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from harness.records import OperatorTime
    from harness.report.view import DeviceRows, Row

SHOWN: Final = 20
"""Operators of one row; the whole is in the record, and in the trace."""


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


def all_operators_ns(row: Row) -> float:
    """What all operators of a row take together."""
    profile = row.measured.profile if row.measured else None
    return sum(operator.median_ns for operator in profile.operators) if profile else 0.0
