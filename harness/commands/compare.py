"""`harness compare` and `harness calibrate`: two builds in turn, two stored runs, a device with itself."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.comparisons import summary, titles, write_page
from harness.commands.console import AcceptOption, FormatOption, Output, note, open_run
from harness.errors import Incomparable, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.comparison import Ready
    from harness.device.device import Device
    from harness.records import ComparePlan, Trial
    from harness.regress.decision import Metric
    from harness.regress.words import Known

ArtifactOption = Annotated[str | None, typer.Option("--artifact", "-a", help="format/precision of both.")]
TrialsOption = Annotated[int, typer.Option(min=7, max=1000, help="Pairs of fresh processes.")]


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="What is compared with: a build, or the folder of a run.")],
    b: Annotated[str, typer.Argument(metavar="B", help="What is compared.")],
    artifact: ArtifactOption = None,
    threads: Annotated[int | None, typer.Option("--threads", "-t", min=1, help="Of both.")] = None,
    runtime: Annotated[str | None, typer.Option(help="Of both.")] = None,
    device: Annotated[str, typer.Option("--device", "-d")] = "host",
    trials: TrialsOption = 100,
    seed: Annotated[int, typer.Option(help="Of the order of everything.")] = 0,
    margin: Annotated[
        list[str] | None, typer.Option(help="METRIC=PER_CENT, e.g. p50=2: how much larger B may be. Repeatable.")
    ] = None,
    accept: Annotated[
        list[str] | None, typer.Option(help="Compare although they differ in this, or the device has it.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Keep the trials, as JSON.")] = None,
    page: Annotated[Path | None, typer.Option(help="Write a page with the picture of it here.")] = None,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Compare two builds on one device, or two stored runs.

    A build is a model or a file, then what is particular to it: artifact=, runtime=, threads=, affinity=,
    accelerator=, graph_optimization=, version= (of the runtime), library= (the runtime's own file), or an
    option of the runtime.

    Two builds are measured in turn, in fresh processes that are alive together; two runs are compared as they are
    stored, and refused where device, threads, inputs and the like differ.

    Examples:
        harness compare old.tflite new.tflite

        harness compare mobilenet_v2,artifact=onnx/fp32 mobilenet_v2,artifact=tflite/fp32

        harness compare detector.onnx detector.onnx,threads=2 --trials 300 --margin p50=2

        harness compare reports/monday reports/tuesday --accept power-mode --page tuesday.html
    """
    if (Path(a) / "plan.json").is_file() or (Path(b) / "plan.json").is_file():
        _compare_runs(Path(a), Path(b), margin or [], accept or [], page, output_format)
        return
    from harness.comparison import compare as compare_builds  # noqa: PLC0415
    from harness.comparison import parse_build, prepare, require_like  # noqa: PLC0415
    from harness.device.borrowed import borrowed  # noqa: PLC0415
    from harness.device.registry import find_device  # noqa: PLC0415
    from harness.records import ComparePlan  # noqa: PLC0415
    from harness.regress.gate_files import finding_json  # noqa: PLC0415
    from harness.regress.levels import levels  # noqa: PLC0415
    from harness.regress.trials import findings  # noqa: PLC0415
    from harness.regress.words import builds_text, comparison_text, measured_text  # noqa: PLC0415
    from harness.tables import to_json  # noqa: PLC0415
    from harness.workspace import require_output, write_atomically  # noqa: PLC0415

    margins = _margins(margin or [])
    shared = {"artifact": artifact, "threads": threads and str(threads), "runtime": runtime}
    said = {key: value for key, value in shared.items() if value}
    builds = [parse_build(text, said) for text in (a, b)]
    found_device = find_device(device)
    for option, file in (("--output", output), ("--page", page)):
        if file is not None:
            require_output(file.parent, chosen_by=option)
    plan = ComparePlan(trials=trials, seed=seed)
    with borrowed(found_device, f"compare {b} with {a}") as ours:
        ready = [prepare(build, ours.device, accept=accept or ()) for build in builds]
        require_like(ready[0], ready[1], accept or ())
        announce(ready[0], ready[1], ours.device, plan, margins["p50"])
        watch = progress(plan.trials, ours.require)
        compared = compare_builds(ready[0], ready[1], ours.device, plan, watch=watch)
    if output is not None:
        write_atomically(output, to_json(compared).encode())
        note(f"wrote {output}")
    found, taken = findings(compared, margins), levels(compared)
    if output_format is Output.JSON:
        told = [finding_json(each, taken.get(each.metric)) for each in found]
        typer.echo(to_json({"comparison": compared, "findings": told}))
    else:
        typer.echo(comparison_text(compared, found))
    # Last: a page that cannot be written must not take the verdict with it.
    if page is not None:
        from harness.regress.gate import GateResult  # noqa: PLC0415
        from harness.regress.runs import CellComparison  # noqa: PLC0415

        cell = CellComparison(name=f"{b} against {a}", status="compared", findings=tuple(found), levels=taken)
        where = measured_text((compared.device,), compared.at)
        notes = (where, *builds_text(compared))
        write_page(GateResult(a=a, b=b, cells=(cell,), inconclusive="pass", notes=notes), page)


def calibrate(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Its id, as `harness devices` shows it.")] = "host",
    model: Annotated[str, typer.Option(help="What is compared with itself.")] = "mobilenet_v2",
    artifact: ArtifactOption = "tflite/fp32",
    trials: TrialsOption = 100,
    accept: AcceptOption = None,
    profiles: Annotated[Path, typer.Option(help="Folder of your device profiles.")] = Path("device_profiles"),
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Measure a device's noise: a build compared with itself. Store it in the device's profile.

    Says what slowdown can be found there in which time.

    Example:
        harness calibrate host --trials 200
    """
    from harness.comparison import calibrate as measure_noise  # noqa: PLC0415
    from harness.comparison import parse_build, prepare  # noqa: PLC0415
    from harness.device.borrowed import borrowed  # noqa: PLC0415
    from harness.device.profile import keep_noise  # noqa: PLC0415
    from harness.device.registry import find_device  # noqa: PLC0415
    from harness.records import ComparePlan  # noqa: PLC0415
    from harness.regress.words import detectable, noise_text  # noqa: PLC0415
    from harness.tables import to_json  # noqa: PLC0415

    found_device = find_device(device)
    build = parse_build(model, {"artifact": artifact} if artifact else {})
    plan = ComparePlan(trials=trials, memory_trials=0)
    with borrowed(found_device, f"calibrate with {model}") as ours:
        ready = prepare(build, ours.device, accept=accept or ())
        note(f"{ready.artifact.model} compared with itself, {trials} trials")
        noise = measure_noise(ready, ours.device, plan, watch=progress(trials, ours.require))
    path = keep_noise(found_device.facts(), noise, profiles)
    if output_format is Output.JSON:
        rows = detectable(noise.p50_pct / 100, noise.trial_s)
        typer.echo(to_json({"device": device, "noise": noise, "detectable": rows}))
    else:
        typer.echo(noise_text(device, noise.p50_pct / 100, noise.trial_s))
    note(f"wrote {path}")


def known_of(a: Ready, b: Ready, device: Device, plan: ComparePlan) -> Known:
    """What is known before a comparison begins, after a trial or two.

    Raises:
        DeviceError, BadData: The device, or a build, cannot be used.
    """
    from harness.comparison import pilot_seconds  # noqa: PLC0415
    from harness.device.profile import noise_of  # noqa: PLC0415
    from harness.measure.interleaved import can_be_alive_together  # noqa: PLC0415
    from harness.regress.planning import DEFAULT_NOISE  # noqa: PLC0415
    from harness.regress.words import Known  # noqa: PLC0415

    noise = noise_of(device.facts())
    trial_s, memory_s = pilot_seconds(a, b, device, plan)
    return Known(
        device=device.id,
        noise=noise.p50_pct / 100 if noise else DEFAULT_NOISE,
        is_calibrated=noise is not None,
        trial_s=trial_s,
        memory_s=memory_s,
        takes_turns=not can_be_alive_together(a.arm, b.arm, device),
    )


def announce(a: Ready, b: Ready, device: Device, plan: ComparePlan, margin: float) -> None:
    """Say what a comparison will be able to see, and how long it takes, before it begins."""
    from harness.regress.planning import trials_needed  # noqa: PLC0415
    from harness.regress.words import plan_text  # noqa: PLC0415

    known = known_of(a, b, device, plan)
    note(plan_text(plan, known))
    needed = trials_needed(known.noise, margin)
    if needed > plan.trials and not known.takes_turns:
        note(f"The margin of {100 * margin:g} % needs {needed} trials here; with fewer expect `inconclusive`.")


def progress(total: int, require: Callable[[], None]) -> Callable[[Trial], None]:
    """What tells of every tenth part of the trials, and ends them if the device is not ours any more.

    Args:
        total: How many trials there are.
        require: Raises LeaseLost where another run has taken the device over; it is then in the trial, too.
    """

    def tell(trial: Trial) -> None:
        require()
        if (trial.index + 1) % max(1, total // 10) == 0:
            note(f"{trial.index + 1} of {total} trials")

    return tell


def _compare_runs(
    a: Path, b: Path, margin: list[str], accept: list[str], page: Path | None, output_format: Output
) -> None:
    from harness.regress.gate import GateResult  # noqa: PLC0415
    from harness.regress.gate_files import as_json  # noqa: PLC0415
    from harness.regress.runs import compare_runs, refused_keys  # noqa: PLC0415
    from harness.regress.words import apart_text, cells_text, measured_text, run_text  # noqa: PLC0415
    from harness.tables import to_json  # noqa: PLC0415

    margins = _margins(margin)
    before, after = open_run(a), open_run(b)
    named = titles(before, after)
    cells = compare_runs(before, after, lambda _cell: margins, accept=accept)
    warning = apart_text(before.plan.created_at, after.plan.created_at)
    where = [
        text
        for name, run in ((str(a), before), (str(b), after))
        for text in (measured_text(run.plan.devices, run.plan.created_at, name), run_text(run.plan, name))
    ]
    result = GateResult(a=str(a), b=str(b), cells=cells, inconclusive="pass", gone="pass", notes=(warning, *where))
    if output_format is Output.JSON:
        typer.echo(to_json(as_json(result)))
    else:
        typer.echo(f"{cells_text(cells, named)}\n\n{textwrap.fill(summary(cells, named), 80)}")
    note(warning)
    if page is not None:  # last, as above
        write_page(result, page, named)
    keys = refused_keys(cells, accept)
    if keys or not any(cell.status == "compared" for cell in cells):
        raise Incomparable(str(a), str(b), keys)


def _margins(said: list[str]) -> dict[Metric, float]:
    from harness.regress.decision import MARGINS  # noqa: PLC0415

    found = dict(MARGINS)
    for text in said:
        key, _, value = text.partition("=")
        metric = next((each for each in MARGINS if each == key), None)
        try:
            percent = float(value)
        except ValueError:
            percent = 0.0
        if metric is None or not 0 < percent <= 1000:
            raise UsageError(f"--margin is METRIC=PER_CENT with one of {', '.join(MARGINS)}, not {text!r}")
        found[metric] = percent / 100
    return found
