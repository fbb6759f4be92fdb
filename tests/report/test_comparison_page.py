"""A comparison as a page."""

from __future__ import annotations

import dataclasses

from harness.report.comparison_page import Compared, Found, render
from tests.report.test_html import HOSTILE, Page
from tests.report.test_index_page import charts_of

SLOWER = Found(
    figure="p50",
    verdict="regression",
    ratio=1.052,
    low=1.041,
    high=1.063,
    margin=0.03,
    confidence=0.995,
    a=30_000.0,
    b=31_560.0,
    trials=(1.05, 1.06, 1.045),
)
SAME = Found(figure="size", verdict="pass", ratio=1.0, low=1.0, high=1.0, margin=0.005, a=2**20, b=2**20, unit="bytes")
ROWS = (
    Compared(name="mobilenet_v2 onnx/fp32", found=(SLOWER, SAME), verdict="regression"),
    Compared(name="resnet18 onnx/fp32", found=(), verdict="incomparable", problem="device: a pixel, b host"),
)


def page_of(*rows: Compared, a: str = "monday", b: str = "tuesday") -> str:
    return render(a, b, rows, version="1", notes=("Runs apart in time carry drift.",), data={})


def test_every_figure_is_a_row_with_its_verdict_change_interval_and_margin() -> None:
    page = Page(page_of(*ROWS))

    texts = [text for _, text in page.texts]
    start = texts.index("p50")
    assert texts[start : start + 8] == [
        *("p50", "regression", "30.0 µs", "31.6 µs", "+5.20", "+4.10 to +6.30", "3", "3")
    ]
    start = texts.index("size")
    assert texts[start : start + 6] == ["size", "pass", "1.00 MiB", "1.00 MiB", "+0.00", "exact"]
    assert "99.5 % interval, %" in texts
    assert "device: a pixel, b host" in " ".join(texts)


def test_intervals_of_several_levels_say_each_its_own() -> None:
    other = dataclasses.replace(SLOWER, figure="p90", confidence=0.99916)

    texts = [text for _, text in Page(page_of(Compared(name="net", found=(SLOWER, other), verdict="regression"))).texts]

    assert {"Interval, %", "+4.10 to +6.30 (99.5 %)", "+4.10 to +6.30 (99.92 %)"} <= set(texts)


def test_the_answer_counts_rows_says_what_p50_did_at_worst_and_carries_the_warning() -> None:
    faster = dataclasses.replace(SLOWER, ratio=0.9, low=None)
    rows = (Compared(name="net", found=(faster,), verdict="improvement"), *ROWS)
    said = " ".join(text for _, text in Page(page_of(*rows)).texts)

    assert "3 comparisons: 1 improvement, 1 regression, 1 incomparable." in said
    assert "Worst change of p50: +5.20 % (+4.10 to +6.30 %), mobilenet_v2 onnx/fp32." in said
    assert "Runs apart in time carry drift." in said


def test_the_picture_has_interval_margin_and_trials_in_per_cent() -> None:
    (chart,) = charts_of(page_of(*ROWS))

    slower, same = chart["data"]["values"]  # type: ignore[index]
    assert (slower["change"], slower["low"], slower["high"], slower["margin"]) == (5.2, 4.1, 6.3, 3.0)
    assert slower["trials"] == [5.0, 6.0, 4.5]
    assert same["trials"] == []


def test_a_comparison_without_a_figure_has_no_picture() -> None:
    assert charts_of(page_of(ROWS[1])) == []


def test_no_name_becomes_markup() -> None:
    def shape(text: str) -> list[str]:
        return [tag for tag, _ in Page(text).elements if tag != "wbr"]

    hostile = page_of(
        Compared(name=HOSTILE, found=(SLOWER,), verdict=HOSTILE),
        Compared(name=HOSTILE, found=(), verdict=HOSTILE, problem=HOSTILE),
        a=HOSTILE,
    )
    plain = page_of(
        Compared(name="m", found=(SLOWER,), verdict="pass"), Compared(name="n", found=(), verdict="new", problem="x")
    )
    assert shape(hostile) == shape(plain)
