"""Stage 6: say it. A stored run becomes a table, a page, or a file that other programs read.

    view         what all of them show: one row a cell with its figures and warnings, grouped by device
    words        what rows, devices, conditions and failures are called
    cautions     warnings in sentences; answer has the run in three of them
    terminal     a table for a terminal
    markdown · html · csv_file · json_file · trace_file
    accuracy     the error of a row's file, and on which images it was found
    operators    where the time of an inference goes; operator_tables says it as tables
    colours      which colour means what on a page
    figures      latency distributions as SVG, for the page
    charts       pictures that can be explored; row_charts those within one row, pareto errors against costs;
                 pictures has their library, and makes files of all
    index_page   many runs on one page, trends the same row in all of them
    shell        what all pages have around what they say
    frame        a pandas data frame

Nothing here reads a run's files or measures anything, and rich, pandas and NumPy are loaded when first needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from harness.errors import UnknownName
from harness.workspace import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.report.view import Run

__all__ = ["FORMATS", "Format", "render", "write_report"]


@dataclass(frozen=True)
class Format:
    """A kind of file that a run can become."""

    file_name: str
    """Its name in the run's folder."""
    module: str
    """Has `render(run) -> str`."""
    is_of_profiles: bool = False
    """Says something only of a run in which the time of each operator was taken."""
    encoding: str = "utf-8"
    """Of the file. As text it has no byte order mark, which is for files only."""


FORMATS = {
    "html": Format("report.html", "harness.report.html"),
    "md": Format("report.md", "harness.report.markdown"),
    "csv": Format("report.csv", "harness.report.csv_file", encoding="utf-8-sig"),
    "json": Format("report.json", "harness.report.json_file"),
    "trace": Format("operators.trace.json", "harness.report.trace_file", is_of_profiles=True),
}
"""A new format is a line here and a module with `render`."""


def render(run: Run, to: str) -> str:
    """A run as the text of one of `FORMATS`.

    Raises:
        UnknownName: There is no such format.
    """
    if to not in FORMATS:
        raise UnknownName("report format", to, tuple(FORMATS))
    writer = cast("Callable[[Run], str]", import_module(FORMATS[to].module).render)
    return writer(run)


def write_report(run: Run, to: str, path: Path) -> None:
    """Write a run as one of `FORMATS`; the file is whole or not there.

    Raises:
        UnknownName: There is no such format.
        OSError: The file cannot be written.
    """
    write_atomically(path, render(run, to).encode(FORMATS[to].encoding))
