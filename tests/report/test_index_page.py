"""Many runs on one page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec

from harness.report.index_page import Listed, render
from tests.fakes import records
from tests.fakes.records import FakeRun
from tests.report.test_html import HOSTILE, Page


def run_of(day: int, p50_ms: float, **changes: object) -> FakeRun:
    made = records.run([records.result(p50_ms=p50_ms)], folder=Path(f"reports/nightly-{day}"))
    plan = msgspec.structs.replace(made.plan, created_at=f"2026-11-{day:02}T08:00:00Z", **changes)
    return FakeRun(folder=made.folder, plan=plan, results=made.results)


def listed(run: FakeRun) -> Listed:
    return Listed(run.plan.run, f"{run.plan.run}/report.html", run)


def charts_of(text: str) -> list[dict[str, object]]:
    found = re.search(r'<script type="application/json" id="charts">(.*?)</script>', text, re.DOTALL)
    charts: list[dict[str, object]] = json.loads(found[1]) if found else []
    return charts


def test_the_newest_run_stands_first_and_links_to_its_page() -> None:
    page = Page(render([listed(run_of(1, 10.0)), listed(run_of(3, 9.0)), listed(run_of(2, 11.0))], version="1"))

    assert [each["href"] for each in page.attributes("a")][1:] == [f"nightly-{n}/report.html" for n in (3, 2, 1)]


def test_a_row_is_drawn_over_the_runs_that_have_it() -> None:
    (chart,) = charts_of(render([listed(run_of(2, 11.0)), listed(run_of(1, 10.0))], version="1"))

    data = chart["data"]["values"]  # type: ignore[index]
    assert [each["run"] for each in data] == ["nightly-1", "nightly-2"]
    assert {each["label"] for each in data} == {"mobilenet_v2 onnx/fp32, 1 thread on bench-01"}


def test_a_single_run_has_no_history_to_draw() -> None:
    assert charts_of(render([listed(run_of(1, 10.0))], version="1")) == []


def test_a_damaged_run_is_a_row_with_its_reason() -> None:
    page = Page(render([listed(run_of(1, 10.0)), Listed("broken", None, None, "plan.json ends early")], version="1"))

    said = " ".join(text for _, text in page.texts)
    assert "plan.json ends early" in said
    assert "1 folder could not be read" in said


def test_no_name_becomes_markup() -> None:
    plain = Page(render([listed(run_of(1, 10.0))], version="1"))
    hostile = Page(render([listed(run_of(1, 10.0, suite=HOSTILE, run=HOSTILE))], version="1"))

    def shape(page: Page) -> list[str]:
        return [tag for tag, _ in page.elements if tag != "wbr"]

    assert shape(hostile) == shape(plain)
