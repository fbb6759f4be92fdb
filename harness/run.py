"""A stored run as it is used from Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.store import StoredRun

if TYPE_CHECKING:
    import pandas as pd


class Run(StoredRun):
    """What `harness.load` returns: the plan, the results, and a table of them."""

    def frame(self) -> pd.DataFrame:
        """One row a cell, the figures of the reports in columns that end in their unit.

        Raises:
            MissingExtra: pandas is not installed.
        """
        from harness.report.frame import frame  # noqa: PLC0415  (pandas takes 0.3 s)

        return frame(self)
