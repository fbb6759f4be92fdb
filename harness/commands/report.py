"""`harness report`: a stored run as a document."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.console import REPORTS, last_run, note, open_run, print_study, print_table
from harness.errors import UnreadableRecord, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.report.index_page import ListedStudy
    from harness.store import StoredRun


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
    index: Annotated[
        bool, typer.Option("--index", help="One page of all runs and studies in RUN, or reports/.")
    ] = False,
) -> None:
    """Make a report from a stored run or study, complete or not.

    Examples:
        harness report

        harness report reports/nightly --to html

        harness report reports/nightly --to csv -o nightly.csv

        harness report reports/nightly --figures pictures/

        harness report reports/nightly --to trace -o operators.trace.json

        harness report reports/ocular-small --to html

        harness report --index
    """
    from harness.report import FORMATS, write_report  # noqa: PLC0415

    if index and (to is not Document.TABLE or pictures is not None):
        raise UsageError("--index is a page of its own: without --to and --figures")
    if pictures is not None and (to is not Document.TABLE or output is not None):
        raise UsageError("--figures writes pictures into its folder: without --to and --output")
    if index:
        _write_index(folder or REPORTS, output)
        return
    if folder is not None and (folder / "study.json").exists():
        _write_study(folder, to, output, pictures)
        return
    stored = open_run(folder or last_run())
    if pictures is not None:
        from harness.report.pictures import write_pictures  # noqa: PLC0415

        for path in write_pictures(stored, pictures):
            note(f"wrote {path}")
        return
    if to is Document.TABLE:
        print_table(stored, output)
        return
    _require_something_to_say(stored, to)
    if output is None and to is Document.HTML:
        output = stored.folder / FORMATS[to.value].file_name
    if output is None:
        from harness.report import render  # noqa: PLC0415

        typer.echo(render(stored, to.value), nl=False)
        return
    write_report(stored, to.value, output)
    note(f"wrote {output}")


def _require_something_to_say(stored: StoredRun, to: Document) -> None:
    from harness.report.trace_file import why_empty  # noqa: PLC0415

    if to is Document.TRACE and (why := why_empty(stored)):
        raise UsageError(f"there is no trace of {stored.folder}: {why}")


def _write_index(folder: Path, output: Path | None) -> None:
    """One page of every run in a folder, whole or damaged."""
    import os  # noqa: PLC0415
    from urllib.parse import quote  # noqa: PLC0415

    from harness import __version__  # noqa: PLC0415
    from harness.report import FORMATS, write_report  # noqa: PLC0415
    from harness.report.index_page import FILE_NAME, Listed, render  # noqa: PLC0415
    from harness.workspace import write_atomically  # noqa: PLC0415

    runs = sorted(plan.parent for plan in folder.glob("*/plan.json"))
    studies = sorted(study.parent for study in folder.glob("*/study.json"))
    if not runs and not studies:
        raise UsageError(f"there is no run in {folder}; `harness run` makes one")
    to = output or folder / FILE_NAME

    def link_to(page: Path) -> str:
        """From the index; behind "./" no name is taken for a scheme."""
        return "./" + quote(Path(os.path.relpath(page, to.parent)).as_posix())

    found: list[Listed] = []
    for number, each in enumerate(runs, start=1):
        note(f"reading run {number} of {len(runs)}: {each.name}")
        try:
            stored = open_run(each)
        except UnreadableRecord as error:
            found.append(Listed(each.name, None, None, str(error)))
            continue
        page = each / FORMATS["html"].file_name
        if not page.exists() or page.stat().st_mtime < _changed_at(each):
            write_report(stored, "html", page)
        found.append(Listed(each.name, link_to(page), stored))
    listed = [_listed_study(each, link_to) for each in studies]
    write_atomically(to, render(found, version=__version__, studies=listed).encode())
    note(f"wrote {to}")


def _listed_study(folder: Path, link_to: Callable[[Path], str]) -> ListedStudy:
    """A study with its page made anew, or why it could not be read."""
    from harness.report.index_page import ListedStudy  # noqa: PLC0415
    from harness.study.claims import answer  # noqa: PLC0415
    from harness.study.folder import StudyFolder  # noqa: PLC0415
    from harness.study.page import data_of  # noqa: PLC0415
    from harness.study.report import figures_of, write_page  # noqa: PLC0415

    note(f"reading study {folder.name}")
    try:
        figures = figures_of(StudyFolder.open(folder))
    except UnreadableRecord as error:
        return ListedStudy(name=folder.name, problem=str(error))
    return ListedStudy(
        name=folder.name,
        link=link_to(write_page(folder, figures)),
        created_at=figures.study.created_at,
        data=data_of(figures.study),
        networks=len({row.variant for row in figures.rows}),
        said=answer(figures.rows, figures.redrawn).replace("**", ""),
    )


def _changed_at(run: Path) -> float:
    """When anything that its page shows was last written, in seconds since 1970."""
    return max(path.stat().st_mtime for part in ("plan.json", "cells/*", "accuracy/*") for path in run.glob(part))


def _write_study(folder: Path, to: Document, output: Path | None, pictures: Path | None) -> None:
    """A study's report: a table for the terminal, Markdown or JSON on standard output, the page in its folder."""
    from harness.report.pictures import write_charts  # noqa: PLC0415
    from harness.study import page  # noqa: PLC0415
    from harness.study.folder import StudyFolder  # noqa: PLC0415
    from harness.study.report import document, figures_of  # noqa: PLC0415
    from harness.workspace import write_atomically  # noqa: PLC0415

    if to in {Document.CSV, Document.TRACE}:
        raise UsageError(f"a study has no {to.value}; each of its runs has: harness report {folder}/runs/DEVICE")
    figures = figures_of(StudyFolder.open(folder))
    if pictures is not None:
        for path in write_charts(page.pictures(figures), pictures):
            note(f"wrote {path}")
        return
    if to is Document.TABLE and output is None:
        more = f"harness report {shlex.quote(str(folder))} --to md"
        made = folder / "report.md"
        print_study(figures, f"Everything is in {made}." if made.exists() else f"Everything: {more}")
        return
    if to is Document.HTML:
        text, output = page.render(figures), output or folder / "report.html"
    else:
        text = page.as_json(figures).decode() if to is Document.JSON else document(figures, ())
    if output is None:
        typer.echo(text, nl=False)
        return
    write_atomically(output, text.encode())
    note(f"wrote {output}")
