"""`harness report`: a stored run as a document."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.console import last_run, note, open_run, print_table


class Document(StrEnum):
    """What `harness report` can make."""

    TABLE = "table"
    HTML = "html"
    MARKDOWN = "md"
    CSV = "csv"
    JSON = "json"
    TRACE = "trace"


def report(
    folder: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="Its folder; default: the last run.")] = None,
    to: Annotated[Document, typer.Option("--to", help="What to make.")] = Document.TABLE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default: standard output, html: the run.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option("--figures", help="Write every picture into this folder, as SVG and PNG.")
    ] = None,
) -> None:
    """Make a report from a stored run, complete or not.

    Examples:
        harness report

        harness report reports/nightly --to html

        harness report reports/nightly --to csv > nightly.csv

        harness report reports/nightly --figures pictures/

        harness report reports/nightly --to trace -o operators.trace.json
    """
    from harness.report import FORMATS, write_report  # noqa: PLC0415

    stored = open_run(folder or last_run())
    if pictures is not None:
        from harness.report.pictures import write_pictures  # noqa: PLC0415

        for path in write_pictures(stored, pictures):
            note(f"wrote {path}")
        return
    if to is Document.TABLE:
        print_table(stored)
        return
    if output is None and to is Document.HTML:
        output = stored.folder / FORMATS[to.value].file_name
    if output is None:
        from harness.report import render  # noqa: PLC0415

        typer.echo(render(stored, to.value), nl=False)
        return
    write_report(stored, to.value, output)
    note(f"wrote {output}")
