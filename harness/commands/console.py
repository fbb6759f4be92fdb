"""What the commands share: how they print, and how they find a stored run.

Only results go to standard output, so that `--format json` can be piped; progress, warnings and errors go to standard
error.
"""

from __future__ import annotations

from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.device.adb_server import AdbServer
    from harness.events import Event
    from harness.store import StoredRun
    from harness.study.page import StudyDocument

REPORTS = Path("reports")
_FILE_WIDTH = 120
"""Columns of a table that is written into a file."""
INTERRUPTED = 130
"""Exit code: 128 and the number of SIGINT."""


class Output(StrEnum):
    """How a command prints its result."""

    TABLE = "table"
    JSON = "json"


FormatOption = Annotated[Output, typer.Option("--format", help="A table for people, or JSON for programs.")]


def _known_obstacles(names: list[str] | None) -> list[str] | None:
    from harness.device.obstacles import require_known  # noqa: PLC0415

    require_known(names or ())
    return names


AcceptOption = Annotated[
    list[str] | None,
    typer.Option(
        "--accept",
        help="Measure in spite of this obstacle (`harness devices`). Repeatable.",
        callback=_known_obstacles,
    ),
]

AdbHostOption = Annotated[
    str | None, typer.Option("--adb-host", "-H", help="Of the adb server whose devices bare serials mean.")
]
AdbPortOption = Annotated[
    int | None, typer.Option("--adb-port", "-P", min=1, max=65535, help="Of that server; 5037 where none is said.")
]


def adb_server(host: str | None, port: int | None) -> AdbServer | None:
    """The adb server that `-H` and `-P` name; None without them, for the one that `adb` itself would ask."""
    if host is None and port is None:
        return None
    from harness.device.adb_server import DEFAULT_PORT, AdbServer  # noqa: PLC0415

    return AdbServer(host=host or "127.0.0.1", port=port or DEFAULT_PORT)


def note(text: str) -> None:
    """Say something to the person, on standard error."""
    typer.echo(text, err=True)


def say_step(event: Event) -> None:
    """Tell of a step as a line, where it is worth one."""
    from harness.live import line_for  # noqa: PLC0415

    line = line_for(event)
    if line is not None:
        note(line)


@contextmanager
def saying_how_to_go_on(how: str) -> Iterator[None]:
    """End an interrupted command with a word on what was kept."""
    try:
        yield
    except KeyboardInterrupt:
        note(f"stopped; {how}")
        raise typer.Exit(INTERRUPTED) from None


def open_run(folder: Path) -> StoredRun:
    """A stored run.

    Raises:
        UnreadableRecord: There is none in this folder.
    """
    from harness.store import StoredRun  # noqa: PLC0415

    return StoredRun.open(folder)


def last_run() -> Path:
    """The folder of the newest run under reports/.

    Raises:
        UsageError: There is none.
    """
    from harness.store import latest_run  # noqa: PLC0415

    found = latest_run(REPORTS)
    if found is None:
        raise UsageError(f"there is no run under {REPORTS}/ here; `harness run` makes one")
    return found


def print_study(figures: StudyDocument, more: str) -> None:
    """Print a study's table and sentences, as wide as the terminal.

    Args:
        figures: Of the study.
        more: Where all the rest of it is.
    """
    from rich.console import Console  # noqa: PLC0415

    from harness.study.terminal import table  # noqa: PLC0415

    console = Console()
    console.print(table(figures, more, width=console.width))


def print_table(stored: StoredRun, to: Path | None = None) -> None:
    """Print a run's table, as wide as the terminal, or write it into a file as plain text.

    Raises:
        OSError: The file cannot be written.
    """
    from io import StringIO  # noqa: PLC0415

    from rich.console import Console  # noqa: PLC0415

    from harness.report.terminal import table  # noqa: PLC0415
    from harness.workspace import write_atomically  # noqa: PLC0415

    if to is None:
        console = Console()
        console.print(table(stored, width=console.width))
        return
    written = StringIO()
    Console(file=written, width=_FILE_WIDTH, color_system=None).print(table(stored, width=_FILE_WIDTH))
    write_atomically(to, "".join(f"{line.rstrip()}\n" for line in written.getvalue().splitlines()).encode())
    note(f"wrote {to}")
