"""The commands. Each parses, calls one function, prints, and exits with the code of `harness.errors`.

Only results go to standard output, so that `--format json` can be piped; progress, warnings and errors go to standard
error. Everything heavy is imported inside the command that needs it: `harness --help` has to answer at once.
"""

from __future__ import annotations

import errno
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from harness import __version__
from harness.errors import CellsFailed, HarnessError, NothingMeasured, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from harness.pipeline import Event
    from harness.records import Plan, Suite
    from harness.store import StoredRun

REPORTS = Path("reports")
INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""

# Plain help: the rich one costs more than half of the start-up time.
app = typer.Typer(name="harness", no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
devices_app = typer.Typer(rich_markup_mode=None, invoke_without_command=True)
app.add_typer(devices_app, name="devices")


class Output(StrEnum):
    """How a command prints its result."""

    TABLE = "table"
    JSON = "json"


class Document(StrEnum):
    """What `harness report` can make."""

    TABLE = "table"
    HTML = "html"
    MARKDOWN = "md"
    CSV = "csv"
    JSON = "json"


FormatOption = Annotated[Output, typer.Option("--format", help="A table for people, or JSON for programs.")]


def main() -> NoReturn:
    """The `harness` command."""
    # A job that is ended politely (a CI time-out, `kill`) cleans up like one that a person interrupts.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    except HarnessError as error:
        _note(f"error: {error}")
        if error.hint:
            _note(f"       {error.hint}")
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _note(f"error: {error.strerror or error}: the output could not be written")
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


@app.command()
def run(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SUITE | MODEL...]", help="A suite (TOML or built-in name), or models and model files."
        ),
    ] = None,
    artifact: Annotated[
        list[str] | None, typer.Option("--artifact", "-a", help="format/precision, e.g. tflite/int8. Repeatable.")
    ] = None,
    threads: Annotated[list[int] | None, typer.Option("--threads", "-t", min=1, help="Repeatable.")] = None,
    device: Annotated[list[str] | None, typer.Option("--device", "-d", help="Repeatable.")] = None,
    processes: Annotated[
        int | None, typer.Option(min=2, help="Fresh processes for each cell, neither more nor fewer.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the run; default: a new one under reports/.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with --output, or with the last run under reports/.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="With --resume: failed cells too.")] = False,
    require_accelerator: Annotated[
        bool, typer.Option("--require-accelerator", help="Any node that runs elsewhere makes its cell a failure.")
    ] = False,
    accept: Annotated[
        list[str] | None, typer.Option(help="Measure in spite of this obstacle (`harness devices`). Repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be measured, and stop.")] = False,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Measure the whole matrix: models x files x runtimes x threads x devices.

    Without an argument: the built-in suite `quick`, on this machine.

    Examples:

        harness run

        harness run mobilenet_v2 resnet18 -a onnx/fp32 -a tflite/int8 -t 1 -t 4

        harness run detector.tflite classifier.onnx

        harness run nightly.toml --output reports/nightly

        harness run --resume
    """
    from harness import pipeline  # noqa: PLC0415

    if resume:
        folder = output or _latest_run()
        plan = _open(folder).plan

        def work(watch: Callable[[Event], None]) -> StoredRun:
            return pipeline.resume(folder, retry_failed=retry_failed, watch=watch)
    else:
        suite = _suite(targets or [], artifact, threads, device, processes)
        plan = pipeline.plan_run(
            suite,
            command=("harness", *sys.argv[1:]),
            accept=accept or (),
            require_accelerator=require_accelerator,
            name=output.name if output else None,
            file=Path(targets[0]) if targets and not device and Path(targets[0]).suffix == ".toml" else None,
        )
        folder = output or REPORTS / plan.run

        def work(watch: Callable[[Event], None]) -> StoredRun:
            return pipeline.run(plan, folder, watch=watch)

    if dry_run:
        _print_plan(plan, output_format)
        return
    _finish(_watched(plan, folder, work), output_format)


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="Show this one whole.")] = None,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """List the models that can be measured by name.

    Examples:

        harness models

        harness models mobilenet_v2 --format json
    """
    from harness.catalog.models import find_model, list_models  # noqa: PLC0415
    from harness.tables import models_table, to_json  # noqa: PLC0415

    found = [find_model(name)] if name else list(list_models())
    if output_format is Output.JSON:
        typer.echo(to_json([{"origin": model.origin, "spec": model.spec} for model in found]))
    elif name:
        typer.echo(to_json(found[0].spec))
    else:
        typer.echo(models_table(found))


@app.command()
def convert(
    model: Annotated[str, typer.Argument(help="A name from `harness models`, a file, or module:factory.")],
    artifact: Annotated[
        list[str] | None, typer.Option("--artifact", "-a", help="format/precision, e.g. tflite/int8. Repeatable.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Copy the files to this folder.")] = None,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Convert one model, and compare every file with the original on the same inputs.

    Example:

        harness convert mobilenet_v2 -a onnx/int8 -a tflite/fp16 -o build/
    """
    from harness import pipeline  # noqa: PLC0415
    from harness.records import Artifact  # noqa: PLC0415
    from harness.tables import conversions_table, to_json  # noqa: PLC0415

    converted = pipeline.convert_model(model, artifact or ["onnx/fp32", "tflite/fp32"], into=output, watch=_say_step)
    typer.echo(to_json(converted) if output_format is Output.JSON else conversions_table(converted))
    failed = sum(not isinstance(made, Artifact) for made in converted.values())
    if failed:
        raise CellsFailed(failed, len(converted))


@app.command()
def report(
    folder: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="Its folder; default: the last run.")] = None,
    to: Annotated[Document, typer.Option("--to", help="What to make.")] = Document.TABLE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default: standard output, html: the run.")
    ] = None,
) -> None:
    """Make a report from a stored run, complete or not.

    Examples:

        harness report

        harness report reports/nightly --to html

        harness report reports/nightly --to csv > nightly.csv
    """
    from harness.report import FORMATS, write_report  # noqa: PLC0415

    stored = _open(folder or _latest_run())
    if to is Document.TABLE:
        _print_table(stored)
        return
    if output is None and to is Document.HTML:
        output = stored.folder / FORMATS[to.value].file_name
    if output is None:
        from harness.report import render  # noqa: PLC0415

        typer.echo(render(stored, to.value), nl=False)
        return
    write_report(stored, to.value, output)
    _note(f"wrote {output}")


@devices_app.callback()
def devices(context: typer.Context, output_format: FormatOption = Output.TABLE) -> None:
    """List what is connected, and what stands in the way of a stable figure.

    Examples:

        harness devices

        harness devices show host --format json
    """
    if context.invoked_subcommand is None:
        from harness.device.registry import list_devices  # noqa: PLC0415
        from harness.tables import device_view, devices_table, to_json  # noqa: PLC0415

        views = [device_view(device) for device in list_devices()]
        typer.echo(to_json(views) if output_format is Output.JSON else devices_table(views))


@devices_app.command("show")
def devices_show(
    device: Annotated[str, typer.Argument(help="Its id, from `harness devices`.")],
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Everything known about one device, now.

    Example:

        harness devices show host
    """
    from harness.device.registry import find_device  # noqa: PLC0415
    from harness.tables import device_text, device_view, to_json  # noqa: PLC0415

    view = device_view(find_device(device))
    typer.echo(to_json(view) if output_format is Output.JSON else device_text(view))


@app.command()
def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Also start every runtime once.")] = False,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Say what is installed, what is missing, and the command that adds it.

    Example:

        harness doctor --deep
    """
    from harness.doctor import examine  # noqa: PLC0415
    from harness.tables import findings_table, to_json  # noqa: PLC0415

    findings = examine(deep=deep)
    typer.echo(to_json(findings) if output_format is Output.JSON else findings_table(findings))


def _suite(
    targets: list[str],
    artifacts: list[str] | None,
    threads: list[int] | None,
    devices: list[str] | None,
    processes: int | None,
) -> Suite:
    """The suite a command line means: a stored one, or one made of the models it names, with the options on top."""
    import msgspec  # noqa: PLC0415

    from harness.matrix import suite_of  # noqa: PLC0415

    suite = suite_of(targets)
    changes: dict[str, object] = {}
    if artifacts:
        changes["artifacts"] = tuple(artifacts)
    if threads:
        changes["threads"] = tuple(threads)
    if devices:
        changes["devices"] = tuple(devices)
    if processes:
        changes["measure"] = msgspec.structs.replace(suite.measure, processes_min=processes, processes_max=processes)
    return msgspec.structs.replace(suite, **changes)


def _watched(plan: Plan, folder: Path, work: Callable[[Callable[[Event], None]], StoredRun]) -> StoredRun:
    """Run with progress; an interruption says how to go on."""
    from harness.live import watcher_for  # noqa: PLC0415

    _note(f"{len(plan.cells)} cells into {folder}")
    try:
        with watcher_for(plan) as watch:
            return work(watch)
    except KeyboardInterrupt:
        left = len(_open(folder).missing) if (folder / "plan.json").exists() else len(plan.cells)
        _note(f"stopped; {len(plan.cells) - left} of {len(plan.cells)} cells are stored.")
        _note(f"       To go on: harness run --resume --output {folder}")
        raise typer.Exit(INTERRUPTED) from None


def _finish(stored: StoredRun, output_format: Output) -> None:
    """Write the reports, print the result, and leave with the right code."""
    from harness.records import Failure, Measurement  # noqa: PLC0415
    from harness.report import FORMATS, render, write_report  # noqa: PLC0415

    for kind, made in FORMATS.items():
        write_report(stored, kind, stored.folder / made.file_name)
    if output_format is Output.JSON:
        typer.echo(render(stored, "json"), nl=False)
    else:
        _print_table(stored)
    _note(f"report: {stored.folder / FORMATS['html'].file_name}")
    failed = sum(isinstance(result.outcome, Failure) for result in stored.results)
    if failed:
        raise CellsFailed(failed, len(stored.plan.cells))
    if not any(isinstance(result.outcome, Measurement) for result in stored.results):
        raise NothingMeasured(len(stored.plan.cells))


def _print_table(stored: StoredRun) -> None:
    from rich.console import Console  # noqa: PLC0415

    from harness.report.terminal import table  # noqa: PLC0415

    console = Console()
    console.print(table(stored, width=console.width))


def _print_plan(plan: Plan, output_format: Output) -> None:
    from harness.tables import plan_text, to_json  # noqa: PLC0415

    typer.echo(to_json(plan) if output_format is Output.JSON else plan_text(plan))


def _say_step(event: Event) -> None:
    from harness.live import line_for  # noqa: PLC0415

    line = line_for(event)
    if line is not None:
        _note(line)


def _open(folder: Path) -> StoredRun:
    from harness.store import StoredRun  # noqa: PLC0415

    return StoredRun.open(folder)


def _latest_run() -> Path:
    from harness.store import latest_run  # noqa: PLC0415

    found = latest_run(REPORTS)
    if found is None:
        raise UsageError(f"there is no run under {REPORTS}/ here; `harness run` makes one")
    return found


def _note(text: str) -> None:
    typer.echo(text, err=True)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
