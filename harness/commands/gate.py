"""`harness gate`: one line for CI."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.comparisons import titles, write_page
from harness.commands.console import FormatOption, Output, note, open_run
from harness.errors import GateFailed, HarnessError, Incomparable, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from harness.comparison import Pair
    from harness.device.device import Device
    from harness.records import ComparePlan
    from harness.regress.decision import FamilyRule
    from harness.regress.gate import GateResult, GateSettings
    from harness.regress.runs import CellComparison
    from harness.store import StoredRun


def gate(
    candidate: Annotated[str, typer.Argument(metavar="CANDIDATE", help="A build, or with --baseline a run's folder.")],
    against: Annotated[str | None, typer.Option(help="The build that it is measured in turn with.")] = None,
    ref: Annotated[str | None, typer.Option(help="The same build from this commit's files, measured in turn.")] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="A stored run, as under reports/baselines/; apart in time, and less certain.")
    ] = None,
    artifact: Annotated[
        list[str] | None, typer.Option("--artifact", "-a", help="format/precision, e.g. tflite/int8. Repeatable.")
    ] = None,
    threads: Annotated[list[int] | None, typer.Option("--threads", "-t", min=1, help="Repeatable.")] = None,
    device: Annotated[str, typer.Option("--device", "-d")] = "host",
    settings: Annotated[
        Path | None, typer.Option(help="Margins, a TOML; default: gate.toml here, where there is one.")
    ] = None,
    inconclusive: Annotated[
        str | None, typer.Option(help="What an inconclusive cell means, pass or fail; overrides the TOML.")
    ] = None,
    accept: Annotated[list[str] | None, typer.Option(help="Compare although they differ in this. Repeatable.")] = None,
    screen_trials: Annotated[int, typer.Option(min=7, help="Of every cell.")] = 20,
    confirm_trials: Annotated[int, typer.Option(min=7, help="Fresh ones, of cells that screening leaves open.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the order of everything.")] = 0,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML here.")] = None,
    comment: Annotated[Path | None, typer.Option(help="Write Markdown for a pull request's comment here.")] = None,
    page: Annotated[Path | None, typer.Option(help="Write a page with the picture of it here.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder in which to keep the trials, as JSON.")
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Make the run the new baseline, after showing what that changes.")
    ] = False,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Fail where a build is slower, larger or hungrier than its baseline by more than is allowed.

    Leaves with 0 when it passes, 1 on a regression or a cell that no longer runs, 2 where nothing can be compared.
    Under GitHub Actions it also writes the step's summary and annotations.

    Examples:
        harness gate new.tflite --against old.tflite

        harness gate models/mine/detector.tflite --ref origin/main --junit gate.xml --comment gate.md

        harness gate reports/today --baseline reports/baselines/quick --inconclusive fail

        harness gate reports/today --baseline reports/baselines/quick --update
    """
    chosen = [name for name, value in (("--against", against), ("--ref", ref), ("--baseline", baseline)) if value]
    if len(chosen) != 1:
        raise UsageError("say one of --against, --ref and --baseline: what to compare with")
    if update and baseline is None:
        raise UsageError("--update changes a stored baseline: say which, with --baseline")
    if output is not None and baseline is not None:
        raise UsageError("--output keeps trials, and two stored runs are compared without any")
    rules = _settings(settings, inconclusive)
    runs: tuple[StoredRun, ...] = ()
    if baseline is not None:
        if update and not (baseline / "plan.json").exists():
            _keep(open_run(Path(candidate)), baseline, None, accept or [])
            return
        before, after = runs = (open_run(baseline), open_run(Path(candidate)))
        result, keys = _against_run(before, after, rules, accept or [])
    else:
        keys = ()
        result = _against_build(
            candidate,
            against,
            ref,
            [{"artifact": one} for one in artifact or ()] or [{}],
            [{"threads": str(one)} for one in threads or (1,)],
            device,
            rules,
            (screen_trials, confirm_trials, seed),
            accept or [],
            output,
        )
    _tell(result, output_format, junit, comment)
    if page is not None:  # last: a page that cannot be written must not take the verdict with it
        write_page(result, page, titles(*runs))
    if update:
        _keep(runs[1], runs[0].folder, result, accept or [])
        return
    if result.exit_code == 1:
        failed = sum(result.state(cell) == "failed" for cell in result.cells)
        raise GateFailed(failed, len(result.cells))
    if result.exit_code == 2:
        raise Incomparable(result.a, result.b, keys)


def _settings(path: Path | None, inconclusive: str | None) -> GateSettings:
    import msgspec  # noqa: PLC0415

    from harness.regress.gate import GateSettings, read_gate  # noqa: PLC0415

    usual = Path("gate.toml")
    found = read_gate(path or usual) if path or usual.is_file() else GateSettings()
    if inconclusive is None:
        return found
    if inconclusive not in {"pass", "fail"}:
        raise UsageError(f"--inconclusive is pass or fail, not {inconclusive!r}")
    return msgspec.structs.replace(found, inconclusive=inconclusive)


def _against_run(
    before: StoredRun, after: StoredRun, rules: GateSettings, accept: list[str]
) -> tuple[GateResult, tuple[str, ...]]:
    from harness.regress.runs import compare_runs, refused_keys  # noqa: PLC0415
    from harness.regress.words import apart_text, measured_text  # noqa: PLC0415

    if after.missing:
        left = len(after.missing)
        raise UsageError(
            f"{after.folder} is not complete: {left} of {len(after.plan.cells)} cells are missing; --resume it first"
        )
    cells = compare_runs(before, after, rules.margins_of, accept=accept)
    notes = (
        apart_text(before.plan.created_at, after.plan.created_at),
        measured_text(before.plan.devices, before.plan.created_at, str(before.folder)),
        measured_text(after.plan.devices, after.plan.created_at, str(after.folder)),
    )
    result = _result(str(before.folder), str(after.folder), cells, rules, notes)
    return result, refused_keys(cells, accept)


def _result(
    a: str, b: str, cells: tuple[CellComparison, ...], rules: GateSettings, notes: tuple[str, ...]
) -> GateResult:
    from harness.regress.gate import GateResult  # noqa: PLC0415

    idle = rules.idle_patterns(cell.name for cell in cells)
    if idle:
        notes = (*notes, f"No cell is called {', '.join(map(repr, idle))}, as [[cells]] of the settings has it.")
    return GateResult(a=a, b=b, cells=cells, inconclusive=rules.inconclusive, gone=rules.gone, notes=notes)


def _against_build(
    candidate: str,
    against: str | None,
    ref: str | None,
    artifacts: list[dict[str, str]],
    threads: list[dict[str, str]],
    device: str,
    rules: GateSettings,
    amounts: tuple[int, int, int],
    accept: list[str],
    output: Path | None,
) -> GateResult:
    from harness.comparison import build_at, gate_pairs, parse_build, prepare_pairs  # noqa: PLC0415
    from harness.device.borrowed import borrowed  # noqa: PLC0415
    from harness.device.registry import find_device  # noqa: PLC0415
    from harness.records import ComparePlan, Comparison, Trial  # noqa: PLC0415
    from harness.regress.decision import FamilyRule  # noqa: PLC0415
    from harness.regress.words import family_text, measured_text  # noqa: PLC0415
    from harness.tables import to_json  # noqa: PLC0415
    from harness.workspace import require_writable, write_atomically  # noqa: PLC0415

    screen, confirmation, seed = amounts
    found_device, began = find_device(device), datetime.now(UTC).isoformat(timespec="seconds")
    builds = []
    for shared in [{**one, **other} for one in artifacts for other in threads]:
        b = parse_build(candidate, shared)
        a = build_at(b, ref) if ref is not None else parse_build(against or "", shared)
        builds.append((a, b))
    rule = FamilyRule(screen_trials=screen, confirm_trials=confirmation)
    plan = ComparePlan(trials=confirmation, seed=seed)
    done: dict[str, int] = {}

    def tell(name: str, _trial: Trial, require: Callable[[], None]) -> None:
        require()  # another run on the device would be in the trial, too
        done[name] = done.get(name, 0) + 1
        if done[name] % 10 == 0:
            note(f"{name}: {done[name]} trials")

    def keep(name: str, stage: str, compared: Comparison) -> None:
        if output is not None:
            write_atomically(output / f"{name}-{stage}.json", to_json(compared).encode())

    if output is not None:
        require_writable(output)
    with borrowed(found_device, f"gate {candidate}") as ours:
        pairs, broken = prepare_pairs(builds, ours.device, accept=accept)
        if pairs:
            _announce(pairs, ours.device, plan, rule)
        watch = partial(tell, require=ours.require)
        cells = gate_pairs(pairs, ours.device, plan, rules.margins_of, rule=rule, watch=watch, keep=keep)
    if output is not None:
        note(f"kept the trials in {output}")
    a_said = against if against is not None else f"{candidate} at {ref}"
    notes = (family_text(rule, len(cells)), measured_text((found_device.facts(),), began))
    return _result(a_said, candidate, (*cells, *broken), rules, notes)


def _announce(pairs: Sequence[Pair], device: Device, plan: ComparePlan, rule: FamilyRule) -> None:
    """Say what the gate will be able to see, and how long it takes, by the first pair; B may fail, as it may later."""
    from harness.commands.compare import known_of  # noqa: PLC0415
    from harness.regress.decision import MARGINS  # noqa: PLC0415
    from harness.regress.words import family_plan_text  # noqa: PLC0415

    try:
        known = known_of(pairs[0].a, pairs[0].b, device, plan)
    except HarnessError as error:
        if error.build != "B":
            raise
        note(f"{pairs[0].name}: B does not run, and nobody knows how long this takes: {error}")
        return
    metrics = len(MARGINS) - 1  # the size of a file has no noise
    note(family_plan_text(rule, known, cells=len(pairs), metrics=metrics, memory_trials=plan.memory_trials))


def _tell(result: GateResult, output_format: Output, junit: Path | None, comment: Path | None) -> None:
    from harness.regress import gate_files  # noqa: PLC0415
    from harness.regress.words import cells_text  # noqa: PLC0415
    from harness.tables import to_json  # noqa: PLC0415
    from harness.workspace import write_atomically  # noqa: PLC0415

    if output_format is Output.JSON:
        typer.echo(to_json(gate_files.as_json(result)))
    else:
        typer.echo(cells_text(result.cells))
    for text in (*result.notes, f"gate {result.word}"):
        note(text)
    for path, content in ((junit, gate_files.junit(result)), (comment, gate_files.markdown(result))):
        if path is not None:
            write_atomically(path, content.encode())
            note(f"wrote {path}")
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in gate_files.annotation_lines(result):
            note(line)
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(gate_files.markdown(result))


def _keep(run: StoredRun, baseline: Path, result: GateResult | None, accept: Collection[str]) -> None:
    """Make a run the baseline, and say so.

    Raises:
        UsageError: It would switch a gate off, or hold another device against the next run, which nobody asked for.
        Incomparable: It is unlike the one that it would replace, in what was not accepted.
    """
    from harness.records import Failure  # noqa: PLC0415
    from harness.regress.runs import refused_keys  # noqa: PLC0415
    from harness.store import keep_run  # noqa: PLC0415

    failed = [result.cell.id for result in run.results if isinstance(result.outcome, Failure)]
    if failed and "broken" not in accept:
        raise UsageError(
            f"{run.folder} is no baseline: {', '.join(failed)} failed, and would never be compared again; mend it, or "
            "take it all the same with --accept broken"
        )
    cells = result.cells if result is not None else ()
    keys = refused_keys(cells, accept)
    if keys:
        raise Incomparable(str(baseline), str(run.folder), keys)
    kept = keep_run(run, baseline)
    gone = [cell.name for cell in cells if cell.status == "gone"]
    without = f", without {', '.join(gone)}" if gone else ""
    note(f"baseline changed: {baseline} is now {run.folder} ({kept} cells{without}); review and commit it")
