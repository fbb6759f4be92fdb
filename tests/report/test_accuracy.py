"""What a file still recognises beside what it takes: matched by digest, shown everywhere, compared with its like."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import msgspec
import pytest
from rich.console import Console

from harness.records import Classification, Estimate
from harness.report import render
from harness.report.accuracy import error_of
from harness.report.charts import charts
from harness.report.terminal import table
from harness.report.view import view
from tests.fakes import records

if TYPE_CHECKING:
    from harness.records import Accuracy, CellResult
    from harness.report.spec import Chart
    from tests.fakes.records import FakeRun

FP32, FP16, INT8 = "a1" * 32, "a2" * 32, "a3" * 32


def of_file(sha256: str, **which: object) -> CellResult:
    made = records.result(**which)  # type: ignore[arg-type]
    return msgspec.structs.replace(made, artifact=records.artifact(made.cell, sha256=sha256))


def three_files(*accuracies: Accuracy) -> FakeRun:
    results = [
        of_file(FP32, p50_ms=10.0),
        of_file(FP16, precision="fp16", p50_ms=8.0),
        of_file(INT8, precision="int8", p50_ms=4.0),
    ]
    return records.run(results, accuracies=accuracies)


def drawn(run: FakeRun) -> list[Chart]:
    return [chart for chart in charts(view(run)) if chart.name.startswith("error-latency")]


def printed(run: FakeRun, width: int) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table(run, width=width))
    return console.export_text()


def test_an_accuracy_belongs_to_every_row_of_its_very_file_and_to_no_other() -> None:
    results = [of_file(FP32), of_file(FP32, threads=2), of_file(INT8, threads=4)]

    rows = view(records.run(results, accuracies=[records.accuracy(0.05, sha256=FP32)])).rows

    assert [error.estimate.value if (error := error_of(row.accuracy)) else None for row in rows] == [0.05, 0.05, None]


def test_the_error_of_a_classifier_is_what_its_first_answer_misses() -> None:
    right = Classification(classes=10, top1=Estimate(value=0.7, low=0.6, high=0.9), top5=None)

    error = error_of(records.accuracy(verification=None, classification=right))

    assert error is not None
    assert error.metric == "top-1 error"
    assert (error.estimate.value, error.estimate.low, error.estimate.high) == pytest.approx((0.3, 0.1, 0.4))


def test_the_front_joins_the_rows_that_no_other_beats_in_both() -> None:
    beaten = records.accuracy(0.07, sha256=FP16)
    run = three_files(records.accuracy(0.04, sha256=FP32), beaten, records.accuracy(0.06, sha256=INT8))

    (chart,) = drawn(run)

    assert [(datum["error"], datum["front"]) for datum in chart.data] == [(4.0, True), (7.0, False), (6.0, True)]
    assert (chart.data[0]["low"], chart.data[0]["high"]) == (3.2, 4.8)
    assert chart.title == "Error against latency on bench-01; EER on eyes, fold 0"


def test_errors_of_different_images_are_never_in_one_picture_and_a_reader_is_told() -> None:
    other = records.accuracy(0.01, sha256=INT8, dataset="faces", dataset_sha256="34" * 32)
    run = three_files(records.accuracy(0.04, sha256=FP32), other)

    assert [len(chart.data) for chart in drawn(run)] == [1, 1]
    assert len({chart.name for chart in drawn(run)}) == 2
    assert "Errors of different tests do not compare." in printed(run, 160)


def test_a_row_whose_outputs_are_wrong_is_in_no_picture_of_errors() -> None:
    wrong = of_file(INT8, precision="int8", measured={"parity": records.parity(passed=False)})
    run = records.run([of_file(FP32), wrong], accuracies=[records.accuracy(sha256=each) for each in (FP32, INT8)])

    assert [len(chart.data) for chart in drawn(run)] == [1]


def test_synthetic_images_are_said_to_be_synthetic() -> None:
    run = three_files(records.accuracy(sha256=FP32, is_synthetic=True))

    assert "synthetic images" in drawn(run)[0].title
    assert "synthetic images" in render(run, "md")
    assert "synthetic images" in printed(run, 80)


def test_tables_have_the_error_of_tested_rows_and_nothing_for_the_others() -> None:
    run = three_files(records.accuracy(0.05, sha256=FP32))

    lines = {line.split()[0]: line for line in printed(run, 80).splitlines() if line.startswith("onnx/")}
    rows = {row["precision"]: row for row in csv.DictReader(io.StringIO(render(run, "csv")))}

    assert "5.00" in lines["onnx/fp32"]
    assert "5.00" not in lines["onnx/int8"]
    assert "| 5.00 | 4.00 to 6.00 |" in render(run, "md")
    assert [rows["fp32"][f"error{name}"] for name in ("_metric", "", "_dataset")] == ["EER", "0.05", "eyes"]
    assert (rows["int8"]["error"], rows["int8"]["file_sha256"]) == ("", INT8)
    assert "4.00 to 6.00" in render(run, "html")


@pytest.mark.parametrize("width", [80, 160])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    run = three_files(*(records.accuracy(sha256=each) for each in (FP32, FP16, INT8)))

    assert max(len(line.rstrip()) for line in printed(run, width).splitlines()) <= width


def test_a_run_whose_files_nobody_tested_has_no_column_and_no_picture() -> None:
    run = three_files()

    assert drawn(run) == []
    assert "Accuracy, %" not in render(run, "html")
    assert "error %" not in render(run, "md")
    assert "error" not in printed(run, 160)


def test_the_json_document_has_the_whole_accuracy_and_the_page_all_but_its_curve() -> None:
    accuracy = records.accuracy(0.05, sha256=FP32)
    run = three_files(accuracy)
    cell = run.plan.cells[0].id

    stored = json.loads(render(run, "json"))["accuracies"]
    text = render(run, "html")
    embedded = json.loads(text.split('id="data">', 1)[1].split("</script>", 1)[0])["accuracies"]

    assert msgspec.convert(stored[cell], type(accuracy)) == accuracy
    assert list(stored) == list(embedded) == [cell]
    assert embedded[cell]["verification"]["curve"] == []
    assert embedded[cell]["verification"]["eer"] == stored[cell]["verification"]["eer"]
