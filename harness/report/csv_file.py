"""A run as CSV: one row a cell, for spreadsheets and data tools.

UTF-8, a comma between fields, a point in numbers, nothing between thousands; empty where a value is unknown. The file
begins with a byte order mark, without which Excel takes it for the system's old encoding. pandas passes over it, and so
does the csv module where the file was opened as `utf-8-sig`.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from harness.report.columns import COLUMNS, rows_of
from harness.text import clean

if TYPE_CHECKING:
    from harness.report.columns import Value
    from harness.report.view import Run

_FORMULA_STARTS = ("=", "+", "-", "@")


def render(run: Run) -> str:
    """The whole file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.name for column in COLUMNS)
    for row in rows_of(run):
        writer.writerow(_field(value) for value in row.values())
    return text.getvalue()


def _field(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A spreadsheet would run a model's name of `=HYPERLINK(...)` as a formula.
        plain = clean(value)
        return f"'{plain}" if plain.startswith(_FORMULA_STARTS) else plain
    return repr(value)
