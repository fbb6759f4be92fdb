"""Many runs on one page."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.report.index_page import Listed, ListedStudy, render
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

    links = [each["href"] for each in page.attributes("a") if not (each["href"] or "").startswith("#")]
    assert list(dict.fromkeys(links)) == [f"nightly-{n}/report.html" for n in (3, 2, 1)]


def test_a_row_is_drawn_over_the_runs_that_have_it() -> None:
    (chart,) = charts_of(render([listed(run_of(2, 11.0)), listed(run_of(1, 10.0))], version="1"))

    data = chart["data"]["values"]  # type: ignore[index]
    assert [each["run"] for each in data] == ["nightly-1", "nightly-2"]
    assert {each["label"] for each in data} == {"mobilenet_v2 onnx/fp32, 1 thread on bench-01"}


def test_its_axis_is_in_utc_as_the_table_is() -> None:
    (chart,) = charts_of(render([listed(run_of(2, 11.0)), listed(run_of(1, 10.0))], version="1"))

    axes = [layer["encoding"]["x"] for layer in chart["layer"]]  # type: ignore[attr-defined]
    assert {(x["title"], x["scale"]["type"]) for x in axes} == {("UTC", "utc")}


def test_a_single_run_has_no_history_to_draw() -> None:
    assert charts_of(render([listed(run_of(1, 10.0))], version="1")) == []


def test_a_damaged_run_is_a_row_with_its_reason() -> None:
    page = Page(render([listed(run_of(1, 10.0)), Listed("broken", None, None, "plan.json ends early")], version="1"))

    said = " ".join(text for _, text in page.texts)
    assert "plan.json ends early" in said
    assert "1 folder could not be read" in said
    assert "why" in [each.get("class") for each in page.attributes("td")], "a long reason goes on in the next line"


def test_what_was_never_run_is_said_beside_what_failed() -> None:
    made = run_of(1, 10.0)
    cells = (*made.plan.cells, *(records.cell(threads=threads) for threads in (2, 3)))
    partial = dataclasses.replace(made, plan=msgspec.structs.replace(made.plan, cells=cells))

    said = " ".join(text for _, text in Page(render([listed(partial)], version="1")).texts)

    assert "1 run with 3 cells; 0 failed, 2 not run yet." in said


def test_no_name_becomes_markup() -> None:
    plain = Page(render([listed(run_of(1, 10.0))], version="1"))
    hostile = Page(render([listed(run_of(1, 10.0, suite=HOSTILE, run=HOSTILE))], version="1"))

    def shape(page: Page) -> list[str]:
        return [tag for tag, _ in page.elements if tag != "wbr"]

    assert shape(hostile) == shape(plain)


def trends_in(text: str) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    trends: list[dict[str, Any]] = json.loads(found[1])["trends"]
    return trends


def test_a_trend_has_the_last_figure_its_change_and_how_far_all_runs_differ() -> None:
    text = render([listed(run_of(day, p50_ms)) for day, p50_ms in ((1, 10.0), (3, 9.0), (2, 12.0))], version="1")

    (trend,) = trends_in(text)
    said = [shown for _, shown in Page(text).texts]

    assert [point["run"] for point in trend["points"]] == ["nightly-1", "nightly-2", "nightly-3"]
    assert trend["change_pct"] == pytest.approx(-25, abs=0.5)
    assert trend["spread_pct"] == pytest.approx(14.8, abs=0.2)
    assert f"{trend['change_pct']:+.1f}" in said
    assert "9.06" in said


def test_a_row_that_was_measured_once_has_no_trend() -> None:
    assert trends_in(render([listed(run_of(1, 10.0))], version="1")) == []


def test_two_devices_of_one_name_are_not_one_trend() -> None:
    runs = [run_of(day, 10.0) for day in (1, 2)]
    others = [run_of(day, 20.0, devices=(records.device(id="host", cpu="another"),)) for day in (3, 4)]

    trends = trends_in(render([listed(run) for run in (*runs, *others)], version="1"))

    assert [len(trend["points"]) for trend in trends] == [2, 2]
    assert len({trend["label"] for trend in trends}) == 2
    assert any("cpu another" in trend["label"] for trend in trends)


def test_an_emulated_device_has_no_trend() -> None:
    emulated = (records.device(id="host", device_class="emulated"),)

    assert trends_in(render([listed(run_of(day, 10.0, devices=emulated)) for day in (1, 2)], version="1")) == []


def test_a_study_is_listed_with_its_answer_and_a_damaged_one_with_its_reason() -> None:
    studies = [
        ListedStudy(
            name="ocular-small",
            link="./ocular-small/report.html",
            created_at="2026-11-26T08:00:00+00:00",
            data="synthetic images",
            networks=25,
            said="Which pruning wins? None.",
        ),
        ListedStudy(name="ocular-broken", problem="study.json ends early"),
    ]

    page = Page(render([listed(run_of(1, 10.0))], version="1", studies=studies))

    said = " ".join(text for _, text in page.texts)
    assert "Which pruning wins? None." in said
    assert "study.json ends early" in said
    assert "2 studies" in said
    assert "./ocular-small/report.html" in [each["href"] for each in page.attributes("a")]
