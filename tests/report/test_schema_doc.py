"""reports/README.md describes what is stored: generated from the records, and checked against them once more."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from harness import records
from harness.summary import CellWarning, Summary

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "reports" / "README.md").read_text(encoding="utf-8")
STORED = [
    record
    for record in vars(records).values()
    if isinstance(record, type)
    and issubclass(record, records.Record)
    and record
    not in {
        *(records.Record, records.Suite, records.SuiteRuntime, records.Checkpoint, records.Compression),
        records.ToolSummary,
        *(records.DatasetSpec, records.Estimate, records.RatePoint),
        *(records.Verification, records.Classification, records.Accuracy),
    }
]
"""A suite is what the user writes, checkpoints stay in the cache, what a runtime's own tool says is only printed,
what was recognised is a study's, in a folder of its own; everything else is in a run's folder."""
WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}


def test_the_tables_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts" / "schema_doc.py", "--check"], check=False)

    assert done.returncode == 0, "run scripts/schema_doc.py"


@pytest.mark.parametrize("record", [*STORED, Summary, CellWarning], ids=lambda record: record.__name__)
def test_every_field_is_described_with_its_type(record: type[msgspec.Struct]) -> None:
    section = re.search(rf"^### {record.__name__}\n(.*?)(?=^##|\Z)", README, re.MULTILINE | re.DOTALL)
    assert section is not None, "the record is not described"
    for field in msgspec.structs.fields(record):
        line = re.search(rf"^\| `{field.encode_name}` \| ([^|]*) \|", section[1], re.MULTILINE)
        assert line is not None, field.name
        if field.type in WORDS:
            assert line[1] == WORDS[field.type]
        if field.encode_name.endswith(("_ns", "_bytes", "_pct", "_hz")):
            assert re.search(rf"^\| `{field.encode_name}` \| [^|]* \| (ns|bytes|%|Hz) \|", section[1], re.MULTILINE)


def test_the_layout_of_a_run_is_described() -> None:
    for name in ("plan.json", "cells/CELL.json", "run.lock", "logs/", "report.html", "report.csv", "report.json"):
        assert name in README
