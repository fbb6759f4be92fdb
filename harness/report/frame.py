"""A run as a pandas data frame, one row a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import MissingExtra
from harness.report.columns import COLUMNS, rows_of

if TYPE_CHECKING:
    import pandas as pd

    from harness.report.view import Run

_DTYPES = {"text": "string", "whole": "Int64", "number": "float64", "yes_no": "boolean"}


def frame(run: Run) -> pd.DataFrame:
    """Every planned cell with its figures; missing where a value is unknown.

    The columns are those of the CSV file, described in reports/README.md: `model`, `format`, `precision`, `threads`,
    `device`, `status`, `warnings`..., then every field of `harness.summary.Summary` under its own name, in its unit.

    Raises:
        MissingExtra: pandas is not installed.
    """
    try:
        import pandas as pd  # noqa: PLC0415  (half a second, and optional)
    except ImportError:
        raise MissingExtra("pandas", "a data frame", "analysis") from None
    rows = rows_of(run)
    columns = {}
    for column in COLUMNS:
        values = [row[column.name] for row in rows]
        if column.kind == "time":
            columns[column.name] = pd.to_datetime(pd.Series(values, dtype="string"), utc=True)
        else:
            columns[column.name] = pd.Series(values, dtype=_DTYPES[column.kind])
    return pd.DataFrame(columns)
