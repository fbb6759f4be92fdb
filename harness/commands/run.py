"""`harness run`: the whole matrix."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.console import (
    INTERRUPTED,
    REPORTS,
    AcceptOption,
    AdbHostOption,
    AdbPortOption,
    FormatOption,
    Output,
    adb_server,
    last_run,
    note,
    open_run,
    print_table,
)
from harness.errors import CellsFailed, HarnessError, NothingMeasured
from harness.text import count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.events import Event
    from harness.records import Cell, Plan, Suite
    from harness.store import StoredRun


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
    affinity: Annotated[
        list[str] | None,
        typer.Option(help="Processors to use: any, big, little, a list (4-7) or a mask (0xf0). Repeatable."),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option("--device", "-d", help="Repeatable, all at once; `all` is every device that is connected."),
    ] = None,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for a device that goes away, before its cells are left out.")
    ] = 300.0,
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
    accept: AcceptOption = None,
    adb_host: AdbHostOption = None,
    adb_port: AdbPortOption = None,
    profile_ops: Annotated[
        bool,
        typer.Option(
            "--profile-ops", help="Also the time of each operator, by ONNX Runtime's or LiteRT's own profiler."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be measured, and stop.")] = False,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Measure the whole matrix: models x files x runtimes x threads x devices.

    Without an argument: the built-in suite `quick`, on this machine.

    Examples:
        harness run

        harness run mobilenet_v2 resnet18 -a onnx/fp32 -a tflite/int8 -t 1 -t 4

        harness run detector.tflite classifier.onnx

        harness run nightly.toml --output reports/nightly --profile-ops

        harness run nightly.toml --device host --device R5CT1234ABC

        harness run --resume
    """
    import msgspec  # noqa: PLC0415

    from harness import pipeline  # noqa: PLC0415
    from harness.device.registry import on_server  # noqa: PLC0415
    from harness.errors import UsageError  # noqa: PLC0415

    if resume:
        planned = {
            "a model or suite": targets,
            "--artifact": artifact,
            "--threads": threads,
            "--device": device,
            "--processes": processes,
            "--affinity": affinity,
            "--accept": accept,
            "--require-accelerator": require_accelerator,
            "--profile-ops": profile_ops,
            "--adb-host": adb_host,
            "--adb-port": adb_port,
        }
        given = [name for name, value in planned.items() if value]
        if given:
            raise UsageError(f"--resume goes on as it was planned, and takes no {', '.join(given)}")
        folder = output or last_run()
        stored = open_run(folder)
        plan, cells = stored.plan, pipeline.cells_left(stored, retry_failed=retry_failed)

        def work(watch: Callable[[Event], None]) -> StoredRun:
            return pipeline.resume(folder, retry_failed=retry_failed, patience_s=patience, watch=watch)
    else:
        suite = _suite(targets or [], artifact, threads, device, processes=processes, profile_ops=profile_ops)
        devices = on_server(suite.devices, adb_server(adb_host, adb_port))
        suite = msgspec.structs.replace(suite, devices=devices, affinities=tuple(affinity or suite.affinities))
        plan = pipeline.plan_run(
            suite,
            command=("harness", *sys.argv[1:]),
            accept=accept or (),
            require_accelerator=require_accelerator,
            name=output.name if output else None,
            file=Path(targets[0]) if targets and not device and Path(targets[0]).suffix == ".toml" else None,
        )
        folder, cells = output or REPORTS / plan.run, plan.cells

        def work(watch: Callable[[Event], None]) -> StoredRun:
            return pipeline.run(plan, folder, patience_s=patience, watch=watch)

    if dry_run:
        _print_plan(plan, output_format)
        return
    _finish(_watched(plan, cells, folder, work), output_format)


def _suite(
    targets: list[str],
    artifacts: list[str] | None,
    threads: list[int] | None,
    devices: list[str] | None,
    *,
    processes: int | None,
    profile_ops: bool,
) -> Suite:
    """The suite a command line means: a stored one, or one made of the models it names, with the options on top."""
    import msgspec  # noqa: PLC0415

    from harness.matrix import suite_of  # noqa: PLC0415
    from harness.records import PROFILE_ITERATIONS  # noqa: PLC0415

    suite = suite_of(targets)
    changes: dict[str, object] = {}
    if artifacts:
        changes["artifacts"] = tuple(artifacts)
    if threads:
        changes["threads"] = tuple(threads)
    if devices:
        changes["devices"] = tuple(devices)
    measure: dict[str, int] = {}
    if processes:
        measure |= {"processes_min": processes, "processes_max": processes}
    if profile_ops:
        measure["profile_iterations"] = suite.measure.profile_iterations or PROFILE_ITERATIONS
    changes["measure"] = msgspec.structs.replace(suite.measure, **measure)
    return msgspec.structs.replace(suite, **changes)


def _watched(
    plan: Plan, cells: Sequence[Cell], folder: Path, work: Callable[[Callable[[Event], None]], StoredRun]
) -> StoredRun:
    """Run with progress; an interruption says how to go on."""
    from harness.live import watcher_for  # noqa: PLC0415

    note(f"{count(len(cells), 'cell', 'cells')} into {folder}")
    try:
        with watcher_for(plan, cells=cells) as watch:
            return work(watch)
    except KeyboardInterrupt:
        left = len(open_run(folder).missing) if (folder / "plan.json").exists() else len(plan.cells)
        note(f"stopped; {len(plan.cells) - left} of {len(plan.cells)} cells are stored.")
        note(f"       To go on: harness run --resume --output {folder}")
        raise typer.Exit(INTERRUPTED) from None


def _finish(stored: StoredRun, output_format: Output) -> None:
    """Write the reports, print the result, and leave with the right code."""
    from harness.records import Failure, Measurement, NotRun  # noqa: PLC0415
    from harness.report import FORMATS, render, write_report  # noqa: PLC0415

    for kind, made in FORMATS.items():
        if made.is_of_profiles and not stored.plan.measure.profile_iterations:
            continue
        write_report(stored, kind, stored.folder / made.file_name)
    if output_format is Output.JSON:
        typer.echo(render(stored, "json"), nl=False)
    else:
        print_table(stored)
    note(f"report: {stored.folder / FORMATS['html'].file_name}")
    _remember(stored)
    failed = sum(isinstance(result.outcome, Failure) for result in stored.results)
    left_out = sum(isinstance(result.outcome, NotRun) for result in stored.results)
    if failed or left_out:
        raise CellsFailed(failed, len(stored.plan.cells), left_out, folder=str(stored.folder))
    if not any(isinstance(result.outcome, Measurement) for result in stored.results):
        raise NothingMeasured(len(stored.plan.cells))


def _remember(stored: StoredRun) -> None:
    """Add the run to the history; where that cannot be done, the run is no worse for it."""
    from harness.regress.history.feed import remember  # noqa: PLC0415

    try:
        remember(stored, REPORTS)
    except HarnessError as error:
        note(f"not in the history: {error}")
        note(f"       Once that is mended: harness history add {stored.folder}")


def _print_plan(plan: Plan, output_format: Output) -> None:
    from harness.pipeline import why_never  # noqa: PLC0415
    from harness.tables import plan_text, to_json  # noqa: PLC0415

    as_json = output_format is Output.JSON
    typer.echo(to_json(plan) if as_json else plan_text(plan, why_never(plan.devices, plan.cells)))
