"""The `harness` command: puts the commands together, and turns errors into a sentence and an exit code.

Everything heavy is imported inside the command that needs it: `harness --help` has to answer at once.
"""

from __future__ import annotations

import errno
import inspect
import re
import signal
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from harness import __version__
from harness.commands import (
    compare,
    compress,
    convert,
    devices,
    doctor,
    evaluate,
    gate,
    history,
    models,
    report,
    run,
    runtimes,
    selftest,
    study,
    tool,
    virtual,
)
from harness.commands.console import note
from harness.errors import UNWRITABLE, HarnessError

if TYPE_CHECKING:
    from types import FrameType

# Plain help: the rich one costs more than half of the start-up time.
app = typer.Typer(name="harness", no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
app.command()(run.run)
app.command()(models.models)
app.add_typer(convert.app, name="convert")
app.command()(compress.compress)
app.command()(compress.distill)
app.command()(compress.train)
app.command()(compress.embed)
app.command()(evaluate.evaluate)
app.add_typer(study.app, name="study")
app.command()(report.report)
app.command()(compare.compare)
app.command()(gate.gate)
app.command()(compare.calibrate)
app.add_typer(history.app, name="history")
app.add_typer(selftest.app, name="selftest")
app.add_typer(devices.app, name="devices")
app.add_typer(runtimes.app, name="runtimes")
app.command()(tool.tool)
app.add_typer(virtual.app, name="virtual")
app.command()(doctor.doctor)


def _set_examples_apart(commands: typer.Typer) -> None:
    """Have examples begin on a line of their own: the plain help makes one line of a paragraph's."""
    for info in commands.registered_commands:
        info.help = _with_room(info.callback)
    if commands.registered_callback is not None:
        commands.registered_callback.help = _with_room(commands.registered_callback.callback)
    for group in commands.registered_groups:
        if group.typer_instance is not None:
            _set_examples_apart(group.typer_instance)


def _with_room(command: object) -> str | None:
    text = inspect.getdoc(command)
    return text and re.sub(r"^(Examples?:)\n", r"\1\n\n", text, flags=re.MULTILINE)


_set_examples_apart(app)


def _plain(text: str) -> str:
    """Text that steers no terminal, its lines kept."""
    from harness.text import clean  # noqa: PLC0415

    return "\n".join(clean(line) for line in text.splitlines())


def main() -> NoReturn:
    """The `harness` command."""
    # A job that is ended politely (a CI time-out, `kill`) cleans up like one that a person interrupts.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    except HarnessError as error:
        # A program on a device may have had the last word in it.
        note(f"error: {f'build {error.build}: ' if error.build else ''}{_plain(str(error))}")
        if error.hint:
            note(f"       {_plain(error.hint)}")
        sys.exit(error.exit_code)
    except OSError as error:
        # What the user named, and may not write. Some file systems, /proc among them, say of a folder that nobody may
        # make that it is not there.
        unwritable = {*UNWRITABLE, errno.EISDIR, errno.ENOENT, errno.ELOOP, errno.ENAMETOOLONG}
        if error.errno in unwritable and error.filename is not None:
            note(f"error: {error.filename} cannot be written or read: {error.strerror}")
            note("       Name another file or folder, or change its rights.")
            sys.exit(2)
        if error.errno != errno.ENOSPC:
            raise
        note(f"error: {error.strerror or error}: the output could not be written")
        sys.exit(3)
    sys.exit(0)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Say the version and leave.", is_eager=True)] = False,
) -> None:
    """Convert neural networks, prove the converted files, time them on devices, and report.

    Start with `harness run`: it measures three small networks on this machine.
    """
    if version:
        typer.echo(f"harness {__version__}")
        raise typer.Exit


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
