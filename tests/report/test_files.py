"""CSV, JSON, Markdown and the data frame: what other programs read."""

from __future__ import annotations

import codecs
import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import msgspec
import pandas as pd
import pytest

from harness.errors import MissingExtra, UnknownName
from harness.report import FORMATS, render, write_report
from harness.report.columns import COLUMNS, rows_of
from harness.report.frame import frame
from harness.report.json_file import Document
from harness.report.view import view
from harness.summary import Summary
from tests.fakes import records

if TYPE_CHECKING:
    from tests.fakes.records import FakeRun

# In no order of size, so that nothing drifts.
MEDIANS = (10_020_000, 10_000_000, 10_040_000, 10_010_000, 10_030_000)


def small_run(model: str = "mobilenet_v2") -> FakeRun:
    """One cell of each outcome."""
    processes = [records.process([[ns] * 25], index=index) for index, ns in enumerate(MEDIANS)]
    return records.run(
        [
            records.result(model=model, processes=processes),
            records.result(model=model, precision="int8", outcome=records.failure(message="it said\nno, twice")),
            records.result(model=model, format="tflite", outcome=records.not_runnable(), no_artifact=True),
        ],
        missing=[records.cell(model=model, threads=2)],
        models=[records.planned_model(model, trained=False)],
    )


# --- all -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", FORMATS)
def test_every_format_copes_with_every_outcome_and_with_none(to: str) -> None:
    failures = [records.result(threads=n, outcome=records.failure(), no_artifact=True) for n in (1, 2)]

    for run in (small_run(), records.run([]), records.run(failures), records.run([], missing=[records.cell()])):
        assert render(run, to).endswith("\n")


@pytest.mark.parametrize("to", FORMATS)
def test_a_report_is_the_same_every_time(to: str) -> None:
    assert render(small_run(), to) == render(small_run(), to)


def test_a_report_is_written_where_it_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "new" / FORMATS["csv"].file_name

    write_report(small_run(), "csv", path)

    assert path.read_text(encoding="utf-8-sig") == render(small_run(), "csv")


@pytest.mark.parametrize("to", FORMATS)
def test_only_the_file_for_spreadsheets_begins_with_a_byte_order_mark(tmp_path: Path, to: str) -> None:
    write_report(small_run(), to, tmp_path / "report")

    assert (tmp_path / "report").read_bytes().startswith(codecs.BOM_UTF8) is (to == "csv")
    assert "\ufeff" not in render(small_run(), to), "programs that read standard output need none"


def test_an_unknown_format_is_refused_by_name() -> None:
    with pytest.raises(UnknownName, match="there is no report format called 'pdf'"):
        render(small_run(), "pdf")


def test_nothing_heavy_is_loaded_before_it_is_needed() -> None:
    code = "import sys, harness.report; print(sorted({'rich', 'numpy', 'pandas', 'msgspec'} & set(sys.modules)))"

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "[]"


# --- CSV -----------------------------------------------------------------------------------------------------------


def test_the_csv_file_gives_back_every_value() -> None:
    read = list(csv.DictReader(io.StringIO(render(small_run(), "csv"))))

    expected = rows_of(small_run())
    assert [list(row) for row in read] == [[column.name for column in COLUMNS]] * 4
    for found, row in zip(read, expected, strict=True):
        for column in COLUMNS:
            value = row[column.name]
            text = found[column.name]
            if value is None:
                assert text == ""
            elif isinstance(value, bool):
                assert text == str(value).lower()
            elif isinstance(value, (int, float)):
                assert float(text) == value
            else:
                assert text == " ".join(value.split())


def test_the_csv_file_names_the_device_and_its_processor() -> None:
    (first, *_) = csv.DictReader(io.StringIO(render(small_run(), "csv")))

    assert (first["device"], first["device_name"], first["processor"]) == ("host", "bench-01", "AMD EPYC 7763")


def test_pandas_reads_the_csv_file_without_being_told_anything(tmp_path: Path) -> None:
    write_report(small_run("réseau"), "csv", tmp_path / "report.csv")

    read = pd.read_csv(tmp_path / "report.csv")

    assert list(read.columns) == [column.name for column in COLUMNS]
    assert set(read["model"]) == {"réseau"}
    assert read["p50_ns"].dtype == "float64"
    assert read["p50_ns"].tolist()[0] == 10_020_000
    assert read["p50_ns"].isna().tolist() == [False, True, True, True]
    assert read["trained"].dtype == bool
    assert read["threads"].tolist() == [1, 1, 1, 2]


def test_the_csv_module_reads_the_file_as_the_mark_says(tmp_path: Path) -> None:
    write_report(small_run("réseau"), "csv", tmp_path / "report.csv")

    with (tmp_path / "report.csv").open(encoding="utf-8-sig", newline="") as file:
        read = list(csv.DictReader(file))

    assert [(row["run"], row["model"]) for row in read] == [("2026-11-23-quick", "réseau")] * 4


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@x"])
def test_a_name_is_never_a_formula(name: str) -> None:
    (first, *_) = csv.DictReader(io.StringIO(render(small_run(name), "csv")))

    assert first["model"] == f"'{name}"


def test_names_with_commas_quotes_and_line_breaks_stay_in_their_field() -> None:
    (first, *_) = csv.DictReader(io.StringIO(render(small_run('a,"b"\r\nc; 模型'), "csv")))

    assert first["model"] == 'a,"b" c; 模型'


def test_each_figure_has_its_column_under_its_own_name() -> None:
    assert set(Summary.__struct_fields__) <= {column.name for column in COLUMNS}
    assert len({column.name for column in COLUMNS}) == len(COLUMNS)


# --- data frame ----------------------------------------------------------------------------------------------------


def test_the_frame_has_a_row_a_cell_and_a_type_a_column() -> None:
    found = frame(small_run())

    assert found["status"].tolist() == ["measured", "failed", "not_runnable", "not_run"]
    assert found["p50_ns"].dtype == "float64"
    assert found["samples"].dtype == "Int64"
    assert found["trained"].dtype == "boolean"
    assert found["failure_kind"].tolist()[1] == "runner_died"
    assert isinstance(found["started_at"].dtype, pd.DatetimeTZDtype)
    assert found["started_at"].isna().tolist() == [False, False, False, True]
    assert found["samples"].isna().tolist() == [False, True, True, True]


def test_a_frame_of_nothing_has_the_same_columns_and_types() -> None:
    assert frame(records.run([])).dtypes.drop("started_at").equals(frame(small_run()).dtypes.drop("started_at"))


def test_a_missing_pandas_is_one_sentence_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)

    with pytest.raises(MissingExtra, match="a data frame needs pandas") as raised:
        frame(small_run())

    assert "inference-harness[analysis]" in raised.value.hint


# --- JSON ----------------------------------------------------------------------------------------------------------


def test_the_document_holds_the_record_and_every_figure() -> None:
    run = small_run()

    document = msgspec.json.decode(render(run, "json"), type=Document)

    assert document.plan == run.plan
    assert document.results == run.results
    rows = view(run).rows
    assert document.summaries == {row.cell.id: row.summary for row in rows}
    assert document.warnings == {row.cell.id: row.warnings for row in rows}
    assert len(document.summaries) == 4
    assert document.statuses == {row.cell.id: row.status for row in rows}
    assert sorted(document.statuses.values()) == ["failed", "measured", "not_run", "not_runnable"]
    failed, not_runnable = document.reasons.values()
    assert failed.startswith("it said no, twice. By hand: ")
    assert not_runnable == "litert has no build for this machine"


def test_the_document_follows_its_own_json_schema() -> None:
    schema = msgspec.json.schema(Document)

    jsonschema.validate(json.loads(render(small_run(), "json")), schema)


# --- Markdown ------------------------------------------------------------------------------------------------------


def test_a_small_run_as_markdown() -> None:
    assert render(small_run(), "md") == (Path(__file__).parent / "small_run.md").read_text(encoding="utf-8")


def test_a_table_of_markdown_has_as_many_cells_in_each_line_whatever_the_names() -> None:
    text = render(small_run("a|b `c` <script>[x](http://y) *z* \\ $k$ @user #1\n_w_"), "md")

    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [line.replace("\\\\", "").replace("\\|", "").count("|") for line in lines]
    assert len(lines) == 6
    assert set(cells) == {13}
    assert "<script>" not in text
    assert "[x](" not in text.replace("\\[x\\](", "")
    assert "&#64;user" in text, "no mention, and no backslash that would end the entity"
    assert "http:&#47;/y" in text, "no link"
    assert "\\_w\\_" in text
