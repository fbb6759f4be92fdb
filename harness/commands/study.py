"""`harness study`: many compressions of one network, what each costs in error and what it buys on each device."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.console import REPORTS, AcceptOption, FormatOption, Output, note, print_study, saying_how_to_go_on
from harness.errors import DeviceError

if TYPE_CHECKING:
    from harness.study.events import StudyEvent

app = typer.Typer(no_args_is_help=True)


class ProfileOption(StrEnum):
    """How large the study is."""

    SMOKE = "smoke"
    SMALL = "small"
    FULL = "full"


class StepOption(StrEnum):
    """The last step to do."""

    TRAIN = "train"
    EVALUATE = "evaluate"
    MEASURE = "measure"


@app.callback()
def _root() -> None:  # keeps `ocular` a command of its own while it is the only one
    """Compress one network in many ways, and compare what comes out.

    Example:
        harness study ocular --profile smoke
    """


@app.command()
def ocular(
    profile: Annotated[
        ProfileOption, typer.Option(help="smoke: a test, minutes. small: 40 minutes on 2 cores. full: needs a GPU.")
    ] = ProfileOption.SMALL,
    data: Annotated[
        str | None,
        typer.Option(help="A folder <subject>/<session>/<image>, or synthetic:...; default: synthetic images."),
    ] = None,
    device: Annotated[list[str] | None, typer.Option("--device", "-d", help="Repeatable; default: host.")] = None,
    until: Annotated[
        StepOption, typer.Option(help="Stop after this step. Measuring wants a quiet machine: it can be done later.")
    ] = StepOption.MEASURE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the study; default: one under reports/.")
    ] = None,
    accept: AcceptOption = None,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Train an eye-recognition network, prune, distill and quantize it, and measure what each gains and loses.

    What is done is kept: the same command again goes on where it was, and does nothing twice.

    Examples:
        harness study ocular --profile smoke

        harness study ocular --profile small --until evaluate

        harness study ocular --profile small --device host --device adb:R58N

        harness study ocular --profile full --data ~/ufpr-periocular
    """
    from harness.study.profiles import PROFILES  # noqa: PLC0415
    from harness.study.report import write_page, write_report  # noqa: PLC0415
    from harness.study.study import measure, run_study  # noqa: PLC0415
    from harness.tables import to_json  # noqa: PLC0415

    devices, accepted = tuple(device or ("host",)), tuple(accept or ())
    not_measured: DeviceError | None = None
    with saying_how_to_go_on("what is made is kept, and the same command goes on"):
        folder = run_study(
            output or REPORTS / f"ocular-{profile.value}",
            PROFILES[profile.value],
            data=data,
            devices=devices,
            accept=accepted,
            until="train" if until is StepOption.TRAIN else "evaluate",
            watch=_say,
        )
        if until is StepOption.MEASURE:
            try:
                command = (Path(sys.argv[0]).name, *sys.argv[1:])
                measure(folder, devices, accept=accepted, command=command, watch=_say)
            except DeviceError as error:  # the report of what is there is written all the same
                not_measured = error
    written = write_report(folder)
    if output_format is Output.JSON:
        typer.echo(to_json(written.figures.rows))
    else:
        print_study(written.figures, f"Everything is in {written.path}.")
    for path in (written.path, write_page(folder.path, written.figures)):
        note(f"written: {path}")
    if until is not StepOption.MEASURE or not_measured is not None:
        again = ["harness", "study", "ocular", "--profile", profile.value, "--output", str(folder.path)]
        again += ["--data", data] if data else []
        for option, values in (("--device", device), ("--accept", accept)):
            for value in values or ():
                again += [option, value]
        note(f"left to do{'' if not_measured is None else ', measuring'}: {shlex.join(again)}")
    if not_measured is not None:
        raise not_measured


def _say(event: StudyEvent) -> None:
    from harness.study.words import line_for  # noqa: PLC0415

    line = line_for(event)
    if line is not None:
        note(line)
