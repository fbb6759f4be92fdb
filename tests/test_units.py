from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import units

UNKNOWN = "–"


@pytest.mark.parametrize(
    ("ns", "shown"),
    [
        (0, "0 ns"),
        (0.5, "0.500 ns"),
        (850, "850 ns"),
        (999.4, "999 ns"),
        (999.5, "1.00 µs"),
        (12_345, "12.3 µs"),
        (4_560_000, "4.56 ms"),
        (999_499_999, "999 ms"),
        (999_500_000, "1.00 s"),
        (1_234_000_000, "1.23 s"),
        (-4_560_000, "-4.56 ms"),
        (3_600e9, "3,600 s"),
    ],
)
def test_a_duration_has_three_digits_and_the_unit_that_fits(ns: float, shown: str) -> None:
    assert units.duration(ns) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.00001, "0.0000100"),
        (0.0123, "0.0123"),
        (0.5, "0.500"),
        (0.9994, "0.999"),
        (0.9996, "1.00"),
        (9.994, "9.99"),
        (9.996, "10.0"),
        (99.94, "99.9"),
        (99.96, "100"),
        (999.6, "1,000"),
        (1234.4, "1,234"),
        (-1234.4, "-1,234"),
        (math.inf, "inf"),
        (math.nan, "nan"),
    ],
)
def test_three_digits_are_counted_on_the_rounded_figure(value: float, shown: str) -> None:
    assert units.three_digits(value) == shown


@given(st.floats(min_value=1e-9, max_value=1e12))
def test_three_digits_never_use_powers_of_ten_and_are_within_half_of_the_last_digit(value: float) -> None:
    shown = units.three_digits(value)

    assert "e" not in shown
    assert float(shown.replace(",", "")) == pytest.approx(value, rel=0.005)


def test_what_is_unknown_is_a_dash_and_never_a_zero() -> None:
    shown = [
        units.duration(None),
        units.milliseconds(None),
        units.mebibytes(None),
        units.percent(None),
        units.count(None),
    ]

    assert shown == [UNKNOWN] * 5


def test_columns_hold_numbers_without_their_unit() -> None:
    assert units.milliseconds(12_345_678) == "12.3"
    assert units.mebibytes(14 * 2**20) == "14.0"


def test_a_percentage_has_its_sign_and_the_digits_that_are_asked_for() -> None:
    assert units.percent(1.26) == "1.3 %"
    assert units.percent(0.126, digits=2) == "0.13 %"


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (999, "999"), (999.6, "1.00 k"), (1_000, "1.00 k"), (3_504_872, "3.50 M"), (4.09e9, "4.09 G")],
)
def test_a_large_count_has_a_prefix(number: float, shown: str) -> None:
    assert units.count(number) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.4, "0 s"),
        (8, "8 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 00 min"),
        (3900, "1 h 05 min"),
    ],
)
def test_a_wait_is_told_in_the_two_largest_units(seconds: float, shown: str) -> None:
    assert units.elapsed(seconds) == shown


@pytest.mark.parametrize(
    ("size_bytes", "said"), [(None, UNKNOWN), (0, "0 MiB"), (1005, "1005 B"), (1024, "0.0010 MiB"), (2**20, "1.00 MiB")]
)
def test_a_size_in_a_sentence_has_one_unit(size_bytes: float | None, said: str) -> None:
    assert units.mebibytes_said(size_bytes) == said
