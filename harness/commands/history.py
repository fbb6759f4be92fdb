"""`harness history`: what became of a model's figures, run after run."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from harness.commands.console import REPORTS, FormatOption, Output, note, open_run
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from harness.regress.history.folder import HistoryFolder

    _Told = TypeVar("_Told")


class Shown(StrEnum):
    """What of a measurement is followed."""

    P50 = "p50"
    P90 = "p90"
    COLD = "cold"
    MEMORY = "memory"
    SIZE = "size"


class _ModelOrCommand(TyperGroup):
    """`harness history MODEL` is short for `harness history show MODEL`, unless the model is called like a command."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["show", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_ModelOrCommand, rich_markup_mode=None, no_args_is_help=False)


@app.callback()
def history() -> None:
    """What became of a model's figures, run after run: `harness history MODEL`.

    Every `harness run` adds to it. It is a folder of files, reports/history, which HARNESS_HISTORY moves.

    Examples:
        harness history

        harness history mobilenet_v2

        harness history mobilenet_v2 --metric memory --picture memory.svg
    """


@app.command("show")
def show(
    model: Annotated[str | None, typer.Argument(help="Its name; none: a list of all.")] = None,
    metric: Annotated[Shown, typer.Option(help="What is followed.")] = Shown.P50,
    last: Annotated[int, typer.Option(min=1, max=400, help="So many points of each series, the newest.")] = 100,
    picture: Annotated[Path | None, typer.Option(help="Draw it, as .svg, .png or .pdf.")] = None,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Show a model's series, their changes and what changed with them. The word `show` may be left out.

    Example:
        harness history show mobilenet_v2 --metric cold
    """
    from harness.regress.history.picture import draw, require_kind  # noqa: PLC0415
    from harness.regress.history.story import list_models, tell  # noqa: PLC0415
    from harness.regress.history.words import models_text, story_text  # noqa: PLC0415
    from harness.tables import to_json  # noqa: PLC0415

    if picture is not None:
        require_kind(picture)
    folder = _history()
    if model is None:
        if picture is not None:
            raise UsageError("--picture: of which model? Name one")
        models = _asked(folder, list_models)
        typer.echo(to_json(models) if output_format is Output.JSON else models_text(models))
        if not models:
            note(f"nothing is stored in {folder.folder} yet; `harness run` adds to it")
    else:
        story = _asked(folder, lambda asked: tell(asked, model, metric.value, last=last))
        typer.echo(to_json(story) if output_format is Output.JSON else story_text(story))
        if picture is not None:
            no_room = draw(story, picture)
            note(f"wrote {picture}" + (f"; {no_room} series had no room" if no_room else ""))
    folder.pack_if_many()


@app.command("add")
def add(runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Their folders.")]) -> None:
    """Add stored runs that are not in it: made before there was a history, or on another machine.

    Example:
        harness history add reports/2026-* reports/baselines/quick
    """
    from harness.regress.history.feed import remember  # noqa: PLC0415

    for run in runs:
        note(f"{run}: {remember(open_run(run), REPORTS, made_here=False)} points")


@app.command("export")
def export(
    to: Annotated[Path, typer.Argument(help="A .csv or .parquet file.")],
    model: Annotated[str | None, typer.Option(help="Of this one only.")] = None,
) -> None:
    """Write all points as CSV or Parquet.

    Example:
        harness history export history.parquet
    """
    from harness.regress.history.exchange import export_points  # noqa: PLC0415

    rows = _asked(_history(), lambda folder: export_points(folder, to, model=model))
    note(f"wrote {rows:,} points to {to}")


@app.command("import")
def import_(files: Annotated[list[Path], typer.Argument(metavar="FILE...", help=".csv or .parquet.")]) -> None:
    """Add what `harness history export` wrote, here or on another machine.

    Example:
        harness history import history.parquet
    """
    from harness.regress.history.exchange import import_points  # noqa: PLC0415

    folder = _history()
    for file in files:
        read = import_points(folder, file)
        note(f"{file}: {read.rows:,} points, {read.new:,} of them new")


@app.command("pin")
def pin(
    model: Annotated[str, typer.Argument(help="Whose figures are to be shown as ratios.")],
    run: Annotated[str | None, typer.Option(help="To those of this earlier run, by its name.")] = None,
    to: Annotated[str | None, typer.Option(metavar="MODEL", help="To those of this model in the same run.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="To none any more.")] = False,
) -> None:
    """Pin the reference build of a model.

    A model that is measured in the same runs is the better reference: keep the file of a release, and name it in the
    suite beside the current one. What slows the machine slows both, and does not look like a change.

    Examples:
        harness history pin detector --to detector_1_0

        harness history pin detector --run 2026-11-01-nightly
    """
    from harness.regress.history.pins import Pin, write_pin  # noqa: PLC0415
    from harness.regress.history.story import require_measured  # noqa: PLC0415

    if sum((run is not None, to is not None, remove)) != 1:
        raise UsageError("a pin is one of --run, --to and --remove")
    folder = _history()
    chosen = None if remove else Pin(run=run, model=to)
    if chosen is not None:
        _asked(folder, lambda asked: require_measured(asked, model, chosen))
    write_pin(folder.folder, model, chosen)
    note(f"{model}: {f'ratios to {chosen}' if chosen else 'no reference'}")


def _history() -> HistoryFolder:
    from harness.regress.history.folder import HistoryFolder, history_dir  # noqa: PLC0415

    return HistoryFolder(history_dir(REPORTS))


def _asked(folder: HistoryFolder, question: Callable[[HistoryFolder], _Told]) -> _Told:
    """Ask, and name the files that could not be read for it."""
    try:
        return question(folder)
    finally:
        for damage in folder.damaged:
            note(f"left out: {folder.folder / damage.file}: {damage.problem}")
