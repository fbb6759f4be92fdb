"""Compare two builds on one device, from their names to a stored comparison.

A build is a model or a ready file, the file made of it, and the runtime with its settings. Both are converted, proved
and put on the device before the first trial; the plan is fixed before it, too.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import msgspec

from harness.catalog.checkpoint import make_checkpoint
from harness.catalog.data import arrays_of
from harness.catalog.files import READY_SOURCES
from harness.catalog.models import find_model
from harness.checkout import path_at
from harness.convert.apple_system import system_for
from harness.convert.convert import make_artifact, right_answer, why_not
from harness.decoding import convert
from harness.deploy.push import push
from harness.deploy.runner import choose_runner
from harness.deploy.runtimes import find_library
from harness.deploy.targets import host_target
from harness.device.profile import Noise, accepted_obstacles
from harness.errors import BadData, HarnessError, Incomparable, NeverSteady, UsageError
from harness.matrix import expand
from harness.measure.interleaved import Arm, run_trials
from harness.measure.session import Question
from harness.records import SCHEMA_VERSION, ComparedSide, ComparePlan, Comparison, PythonSource, Suite, SuiteRuntime
from harness.regress.decision import MARGINS, confirm, is_settled_by_screening
from harness.regress.effect import MIN_TRIALS, noise
from harness.regress.levels import levels
from harness.regress.runs import CellComparison
from harness.regress.trials import TIMES, findings, metric_log_ratios

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from harness.device.device import Device
    from harness.records import Artifact, Cell, ModelFormat, RuntimeChoice, Setting, Trial
    from harness.regress.decision import FamilyRule, Metric, Verdict
    from harness.regress.effect import Effect
    from harness.regress.levels import Level
    from harness.regress.trials import Finding

KEYS = (
    *("artifact", "runtime", "accelerator", "threads", "affinity", "graph_optimization"),
    *("version", "library", "driver"),
)
"""What can be said of a build beside its model; any other key is an option of the runtime's own."""

Stage: TypeAlias = Literal["screening", "confirmation"]


@dataclass(frozen=True, kw_only=True)
class Build:
    """One of the two things to compare, as it is asked for.

    Attributes:
        said: As the user said it.
        reference: A model, as `harness run` takes it, or a ready file.
        artifact: `tflite/int8`...; None for a ready file as it is.
        runtime: With its settings; None for the one that usually runs such a file.
        threads: Of the runtime.
        affinity: The processors it may use: `any`, `big`, `little`, a range (`4-7`) or a mask (`0xf0`).
        version: Of the runtime; None for the one that is installed.
        library: The runtime's shared library itself; None to look it up.
    """

    said: str
    reference: str
    artifact: str | None = None
    runtime: SuiteRuntime | None = None
    threads: int = 1
    affinity: str = "any"
    version: str | None = None
    library: str | None = None


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A build that is on the device, ready for its first process."""

    build: Build
    cell: Cell
    artifact: Artifact
    arm: Arm


def parse_build(text: str, shared: Mapping[str, str] | None = None) -> Build:
    """`mobilenet_v2,artifact=tflite/int8,threads=2` as a build.

    Args:
        text: A model or file, then `key=value` pairs.
        shared: Pairs that hold where the text says nothing else.

    Raises:
        UsageError: A pair has no `=`, or its value is of the wrong type.
    """
    reference, *pairs = text.split(",")
    said = dict(shared or {})
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UsageError(f"{text}: after the model come KEY=VALUE pairs, not {pair!r}")
        said[key.strip()] = value.strip()
    threads = said.get("threads", "1")
    if not threads.isdecimal() or not int(threads):
        raise UsageError(f"{text}: threads is a number from 1 on, not {threads!r}")
    options = {key: _value(value) for key, value in said.items() if key not in KEYS}
    runtime = None
    if "runtime" in said:
        names = ("accelerator", "graph_optimization", "driver")
        settings: dict[str, object] = {key: said[key] for key in names if key in said}
        try:
            runtime = convert({**settings, "name": said["runtime"], "options": options}, SuiteRuntime)
        except msgspec.ValidationError as error:
            raise UsageError(f"{text}: {error}") from None
    elif options or {"accelerator", "graph_optimization", "driver"} & said.keys():
        raise UsageError(f"{text}: name the runtime whose settings these are: runtime=...")
    return Build(
        said=text,
        reference=reference,
        artifact=said.get("artifact"),
        runtime=runtime,
        threads=int(threads),
        affinity=said.get("affinity", "any"),
        version=said.get("version"),
        library=said.get("library"),
    )


def build_at(build: Build, ref: str) -> Build:
    """The same build from the repository's files at another commit.

    Raises:
        MissingTool: git is not installed.
        UsageError: There is no such commit or file, or its source is Python code, which cannot be had from two commits
            in one process.
    """
    path = Path(build.reference)
    if not path.suffix:
        path = Path("models") / build.reference / "model.toml"
        if not path.is_file():
            problem = f"{build.reference} is a part of this program, not of your repository: there is no other version"
            raise UsageError(f"{problem} of it at {ref}")
    there = path_at(path, ref)
    if isinstance(find_model(str(there)).spec.source, PythonSource):
        problem = "its network is code that is loaded from here, not from there"
        raise UsageError(f"{build.said} cannot be rebuilt from {ref}: {problem}; compare converted files")
    return replace(build, said=f"{build.said} at {ref}", reference=str(there))


def prepare(build: Build, device: Device, *, accept: Collection[str] = ()) -> Ready:
    """Convert a build, prove it, and put it on the device. Blocks for as long as a conversion takes.

    Args:
        build: What is asked for.
        device: Where.
        accept: Names of what stands against a stable figure there and is taken as it is.

    Raises:
        HarnessError: Whatever stands in the way: an unknown name, a failed conversion, a device that is gone.
    """
    facts = device.facts()
    is_here = facts.kind == "host"
    if build.library is not None and not is_here:
        advice = "register it (harness runtimes register) and name its version"
        raise UsageError(f"{build.said}: library= is a file of this machine, and {device.id} is another; {advice}")
    spec = find_model(build.reference).spec
    cell = _cell(build, spec.name, READY_SOURCES.get(type(spec.source)), device)
    system = system_for(facts, cell.format, cell.precision)
    reason = why_not(spec, cell.format, cell.precision, system=system)
    if reason is not None:
        raise UsageError(f"{build.said}: there is no {cell.format}/{cell.precision} of it: {reason}")
    checkpoint = make_checkpoint(spec)
    artifact = make_artifact(spec, checkpoint, cell.format, cell.precision, system=system)
    # Another machine is sent the library of this version; here the very file can be named as well.
    choice = cell.choice if is_here else msgspec.structs.replace(cell.choice, version=build.version)
    right = right_answer(artifact, checkpoint)
    question = Question(
        choice=choice,
        artifact=artifact,
        deployment=push(artifact, arrays_of(checkpoint, "inputs"), device),
        expected=right.outputs,
        reference=right.computed_by,
        tolerance=right.tolerance,
        checkpoint_outputs=right.checkpoint_outputs,
        accepted_obstacles=(*accept, *accepted_obstacles(facts)),
    )
    runner = choose_runner(device, choice)
    command = _with_library(runner.command, build, choice) if runner.driver == "bench" and is_here else runner.command
    if runner.driver != "bench" and (build.library or build.version):
        why = runner.why_not_bench or "the driver is python-worker"
        raise UsageError(f"{build.said}: only the native loop loads another library, and it cannot run here: {why}")
    return Ready(
        build=build,
        cell=cell,
        artifact=artifact,
        arm=Arm(question=question, command=command, can_serve=runner.driver == "bench"),
    )


def require_like(a: Ready, b: Ready, accept: Collection[str] = ()) -> None:
    """Refuse two builds that are not given the same work.

    Layouts and precisions of one model's inputs may differ between formats, so the sizes alone are compared.

    Raises:
        Incomparable: Their inputs are of different sizes, and `accept` does not hold `model-inputs`.
    """
    ours, theirs = (sorted(math.prod(each.shape) for each in side.artifact.inputs) for side in (a, b))
    if ours != theirs and "model-inputs" not in accept:
        sizes = [
            f"{side.build.said} ({' + '.join(map(str, each))} elements)" for side, each in ((a, ours), (b, theirs))
        ]
        raise Incomparable(sizes[0], sizes[1], ("model-inputs",))


def compare(
    a: Ready,
    b: Ready,
    device: Device,
    plan: ComparePlan,
    *,
    watch: Callable[[Trial], None] = lambda _trial: None,
) -> Comparison:
    """Run one interleaved comparison of two builds. Blocks until every trial is done.

    Raises:
        DeviceError, BadData: See `harness.measure.interleaved.run_trials`.
    """
    at = datetime.now(UTC)
    found = run_trials(a.arm, b.arm, device, plan, watch=watch)
    return Comparison(
        schema=SCHEMA_VERSION,
        at=at.isoformat(timespec="seconds"),
        device=device.facts(),
        a=ComparedSide(said=a.build.said, artifact=a.artifact, choice=a.arm.question.choice, ran=found.a_ran),
        b=ComparedSide(said=b.build.said, artifact=b.artifact, choice=b.arm.question.choice, ran=found.b_ran),
        plan=plan,
        state_before=found.state_before,
        state_after=device.state(),
        trials=found.trials,
        accepted_obstacles=found.accepted_obstacles,
        fixed_performance=found.fixed_performance,
    )


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two builds of one cell, ready."""

    name: str
    a: Ready
    b: Ready


def prepare_pairs(
    builds: Sequence[tuple[Build, Build]], device: Device, *, accept: Collection[str] = ()
) -> tuple[tuple[Pair, ...], tuple[CellComparison, ...]]:
    """Make everything that is to be compared ready, before anything is measured.

    Returns:
        The pairs, and the cells whose B cannot be made although its A can.

    Raises:
        Incomparable: See `require_like`.
        UsageError: Two of them are the same cell.
        HarnessError: Something that is not B's fault stands in the way.
    """
    pairs: list[Pair] = []
    broken: list[CellComparison] = []
    for a, b in builds:
        before = prepare(a, device, accept=accept)
        try:
            after = prepare(b, device, accept=accept)
        except BadData as error:
            name = f"{b.said} {before.cell.format}/{before.cell.precision} t{b.threads}"
            broken.append(CellComparison(name=name, status="broken", problem=str(error)))
            continue
        require_like(before, after, accept)
        if any(pair.name == after.cell.id for pair in pairs):
            raise UsageError(
                f"two of the cells are one, {after.cell.id}: what a build says of itself ({b.said}) stands above "
                "--artifact and --threads; say it in one of the two places"
            )
        pairs.append(Pair(name=after.cell.id, a=before, b=after))
    return tuple(pairs), tuple(broken)


def calibrate(
    ready: Ready, device: Device, plan: ComparePlan, *, watch: Callable[[Trial], None] = lambda _trial: None
) -> Noise:
    """Measure a device's noise: a build compared with itself.

    Raises:
        NeverSteady: Too few trials were undisturbed to tell.
        DeviceError, BadData: As `compare`.
    """
    began = time.monotonic()
    compared = compare(ready, ready, device, plan, watch=watch)
    seconds = time.monotonic() - began
    values = metric_log_ratios(compared.trials, "p50")
    found = noise(values) if len(values) >= MIN_TRIALS["trimmed t"] else None
    if found is None:
        raise NeverSteady(device.id, plan.trials, "too few trials were undisturbed to measure the noise")
    facts = compared.device
    return Noise(
        cpu=facts.cpu or facts.name,
        p50_pct=round(100 * found, 3),
        trial_s=round(seconds / plan.trials, 2),
        trials=len(values),
        model=f"{ready.artifact.model} {ready.artifact.format}/{ready.artifact.precision}",
        measured_at=compared.at,
    )


def pilot_seconds(a: Ready, b: Ready, device: Device, plan: ComparePlan) -> tuple[float, float]:
    """How long a trial takes, and how much longer one with memory, from two that do not count.

    They say nothing of the ratio to whoever plans.

    Raises:
        DeviceError, BadData: As `compare`; what cannot run at all is known from here.
    """
    took = []
    for memory_trials in (0, 1):
        began = time.monotonic()
        run_trials(a.arm, b.arm, device, msgspec.structs.replace(plan, trials=1, memory_trials=memory_trials))
        took.append(time.monotonic() - began)
    return took[0], max(took[1] - took[0], 0.0)


def gate_pairs(
    pairs: Sequence[Pair],
    device: Device,
    plan: ComparePlan,
    margins_of: Callable[[str], Mapping[Metric, float]],
    *,
    rule: FamilyRule,
    watch: Callable[[str, Trial], None] = lambda _name, _trial: None,
    keep: Callable[[str, Stage, Comparison], None] = lambda _name, _stage, _compared: None,
) -> tuple[CellComparison, ...]:
    """Judge a family of cells in two stages, the error rate of the whole family held.

    Every cell is screened with `rule.screen_trials`. One with a metric that this does not settle is measured again,
    with `rule.confirm_trials` of its own, from which alone its unsettled metrics are judged.

    Args:
        pairs: The cells.
        device: Where.
        plan: Of a trial; how many there are is the rule's.
        margins_of: Cell -> margins.
        rule: Both stages.
        watch: Told of every trial.
        keep: Given the trials of a cell's stage when they are through.

    Raises:
        DeviceError, BadData: The device or a cell's A cannot be used. A B that dies, hangs or is wrong makes its cell
            `broken`.
    """
    broken: dict[str, CellComparison] = {}

    def measured(pair: Pair, stage: Stage, stage_plan: ComparePlan) -> Comparison | None:
        try:
            compared = compare(pair.a, pair.b, device, stage_plan, watch=partial(watch, pair.name))
        except HarnessError as error:
            if error.build != "B":
                raise
            broken[pair.name] = CellComparison(name=pair.name, status="broken", problem=str(error))
            return None
        keep(pair.name, stage, compared)
        return compared

    screen, confirmation = (
        msgspec.structs.replace(plan, trials=trials, seed=plan.seed + stage)
        for stage, trials in enumerate((rule.screen_trials, rule.confirm_trials))
    )
    screened: dict[str, tuple[Finding, ...]] = {}
    taken: dict[str, dict[Metric, Level]] = {}
    for pair in pairs:
        compared = measured(pair, "screening", screen)
        if compared is not None:
            taken[pair.name] = levels(compared)
            screened[pair.name] = findings(compared, margins_of(pair.name))
    # Of an emulated device no time means anything, however often it is taken.
    judged_metrics = set(MARGINS) - (set(TIMES) if device.facts().is_emulated else set())
    family = {name: [f for f in found if f.values and f.metric in judged_metrics] for name, found in screened.items()}
    open_metrics = {
        name: [f.metric for f in found if not is_settled_by_screening(f.values, f.margin, rule)]
        for name, found in family.items()
    }
    fresh: dict[str, list[float]] = {}
    for pair in pairs:
        if open_metrics.get(pair.name) and (again := measured(pair, "confirmation", confirmation)) is not None:
            # What is judged from fresh trials is told from them.
            taken[pair.name] |= {key: level for key, level in levels(again).items() if key in open_metrics[pair.name]}
            for metric in open_metrics[pair.name]:
                fresh[f"{pair.name}\n{metric}"] = metric_log_ratios(again.trials, metric)
    judged = confirm(
        fresh,
        {key: margins_of(key.split("\n")[0])[cast("Metric", key.split("\n")[1])] for key in fresh},
        family=sum(map(len, family.values())),
        rule=rule,
    )
    return tuple(
        broken.get(pair.name)
        or CellComparison(
            name=pair.name,
            status="compared",
            findings=tuple(_judged(pair.name, finding, judged, fresh) for finding in screened[pair.name]),
            levels=taken[pair.name],
        )
        for pair in pairs
    )


def _judged(
    name: str,
    finding: Finding,
    judged: Mapping[str, tuple[Verdict, Effect | None]],
    fresh: Mapping[str, list[float]],
) -> Finding:
    """The finding after both stages."""
    key = f"{name}\n{finding.metric}"
    if key not in judged:
        return finding
    verdict, effect = judged[key]
    return replace(finding, verdict=verdict, effect=effect, values=tuple(fresh[key]))


def _cell(build: Build, model: str, ready: ModelFormat | None, device: Device) -> Cell:
    suite = Suite(
        schema=1,
        name="compare",
        models=(build.reference,),
        artifacts=(build.artifact or "source",),
        runtimes=(build.runtime,) if build.runtime else (),
        threads=(build.threads,),
        affinities=(build.affinity,),
        devices=(device.id,),
    )
    cells = expand(suite, {model: ready})
    if not cells:
        what = f"{build.artifact or 'source'} on {build.runtime.name if build.runtime else 'any runtime'}"
        raise UsageError(f"{build.said}: there is no {what}; say artifact=FORMAT/PRECISION, and a runtime that runs it")
    return cells[0]


def _with_library(command: tuple[str, ...], build: Build, choice: RuntimeChoice) -> tuple[str, ...]:
    """The command with the library that was asked for in place of the usual one."""
    path, version = build.library, build.version
    if path is None and version is None:
        return command
    if path is None:
        path = find_library(choice.runtime, target=host_target(), version=version).path
    program, *flags = command
    kept = dict(zip(flags[::2], flags[1::2], strict=True)) | {"--library": str(Path(path).absolute())}
    if version is not None:
        kept["--library-version"] = version
    return (program, *(word for pair in kept.items() for word in pair))


def _value(text: str) -> Setting:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float | str) else text
