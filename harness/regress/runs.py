"""Compare two stored runs, cell by cell: refused where they are unlike, by processes where they are alike.

The two runs were made at different times, so whatever changed on the device meanwhile is in every ratio. The canary, a
fixed piece of work beside every process, says how much of it: a slowdown that is gone after dividing by the canary's is
not claimed, and neither is a pass or an improvement that is gone after it, where the canary certainly changed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from harness.records import Failure, Measurement
from harness.regress.decision import MARGINS, Metric, Verdict, decide
from harness.regress.effect import Effect, exact_effect, noisy_effect, shifted, two_samples
from harness.regress.levels import levels_of_runs
from harness.regress.trials import TIMES, Finding
from harness.statistics import median, percentile, samples_ns
from harness.summary import is_simulated

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from harness.records import Cell, CellResult, DeviceFacts, Plan, ProcessRecord
    from harness.regress.levels import Level
    from harness.store import StoredRun

MEMORY_NOISE: Final = 0.0015
"""Of the peak of one process, as a standard deviation of its logarithm, where too few processes tell it.

Source: 30 processes of one build on a shared virtual machine agreed within 0.11 % (one standard deviation)."""


_CANARY_TRIM: Final = 0.2
"""The share of processes that is left out at either end: one of five."""
_OPEN: Final[Verdict] = "inconclusive"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Something in which two cells have to agree and do not."""

    key: str
    a: str
    b: str


@dataclass(frozen=True, kw_only=True)
class CellComparison:
    """What became of one cell.

    Attributes:
        name: Of the cell, for people.
        status: `compared`; `incomparable`; `broken`, measured before and failing now; `gone`, measured before and not
            in the new run; `new`, without anything to compare with.
        findings: Where it was compared.
        levels: What either side takes by itself, where it was compared.
        differences: Where it is incomparable; also those that were accepted.
        canary: How much slower a fixed piece of work ran in the second run, as a ratio; None where it is not known.
        problem: Why it is broken.
    """

    name: str
    status: str
    findings: tuple[Finding, ...] = ()
    levels: Mapping[Metric, Level] = field(default_factory=dict)
    differences: tuple[Difference, ...] = ()
    canary: float | None = None
    problem: str = ""


def compare_runs(
    a: StoredRun,
    b: StoredRun,
    margins_of: Callable[[str], Mapping[Metric, float]] = lambda _cell: MARGINS,
    *,
    accept: Collection[str] = (),
) -> tuple[CellComparison, ...]:
    """Every cell of either run.

    Args:
        a: The run that is compared with.
        b: The run that is compared.
        margins_of: Cell's id -> margins.
        accept: Keys in which cells may differ.
    """
    pairs = _pairs(a.results, b.results)
    paired = {id(result) for pair in pairs for result in pair}
    found = [_compare(one, other, a.plan, b.plan, margins_of, frozenset(accept)) for one, other in pairs]
    found += [
        CellComparison(name=result.cell.id, status="gone")
        for result in a.results
        if id(result) not in paired and isinstance(result.outcome, Measurement)
    ]
    found += [
        CellComparison(name=result.cell.id, status="new")
        for result in b.results
        if id(result) not in paired and isinstance(result.outcome, Measurement)
    ]
    return tuple(found)


def refused_keys(cells: Iterable[CellComparison], accept: Collection[str]) -> tuple[str, ...]:
    """In what incomparable cells differ that was not accepted."""
    keys = [d.key for cell in cells if cell.status == "incomparable" for d in cell.differences if d.key not in accept]
    return tuple(dict.fromkeys(keys))


def differences(a: CellResult, b: CellResult, a_plan: Plan, b_plan: Plan) -> tuple[Difference, ...]:
    """In what two measured cells are unlike, so that a ratio of theirs would not be one of builds."""
    ours, theirs = _identity(a, a_plan), _identity(b, b_plan)
    return tuple(
        Difference(key=key, a=_text(ours[key]), b=_text(theirs[key])) for key in ours if ours[key] != theirs[key]
    )


def _compare(
    a: CellResult,
    b: CellResult,
    a_plan: Plan,
    b_plan: Plan,
    margins_of: Callable[[str], Mapping[Metric, float]],
    accept: frozenset[str],
) -> CellComparison:
    name = b.cell.id
    if not isinstance(a.outcome, Measurement):
        status = "new" if isinstance(b.outcome, Measurement) else "not measured"
        return CellComparison(name=name, status=status)
    if not isinstance(b.outcome, Measurement):
        problem = b.outcome.message if isinstance(b.outcome, Failure) else b.outcome.reason
        return CellComparison(name=name, status="broken", problem=problem)
    a_device, b_device = _device(a, a_plan), _device(b, b_plan)
    if is_simulated(b_device):
        return CellComparison(name=name, status="not measured")  # it has no times
    unlike = differences(a, b, a_plan, b_plan)
    if any(difference.key not in accept for difference in unlike):
        return CellComparison(name=name, status="incomparable", differences=unlike)
    is_emulated = a_device.is_emulated or b_device.is_emulated
    canary = _canary_effect(a.outcome, b.outcome)
    return CellComparison(
        name=name,
        status="compared",
        findings=tuple(
            replace(finding, verdict="inconclusive") if is_emulated and finding.metric in TIMES else finding
            for finding in _findings(a, b, a.outcome, b.outcome, margins_of(name), canary)
        ),
        levels=levels_of_runs(a, b),
        differences=unlike,
        canary=canary.ratio if canary else None,
    )


def _findings(
    a: CellResult,
    b: CellResult,
    before: Measurement,
    after: Measurement,
    margins: Mapping[Metric, float],
    canary: Effect | None,
) -> tuple[Finding, ...]:
    found = []
    timed: dict[Metric, Callable[[ProcessRecord], float]] = {"p50": _p50, "p90": _p90, "cold_start": _cold}
    for metric, value in timed.items():
        ours, theirs = _values(before, value), _values(after, value)
        effect = two_samples(ours, theirs) if min(len(ours), len(theirs)) >= 2 else None
        finding = _finding(metric, effect, margins)
        if canary is not None and effect is not None:
            without = decide(shifted(effect, -canary.log_ratio), finding.margin)
            is_certain = canary.low > 0 or canary.high < 0
            finding = replace(finding, verdict=_of_the_build(finding.verdict, without, is_certain=is_certain))
        found.append(finding)
    peaks = [[record.peak_bytes for record in one.memory] for one in (before, after)]
    if all(peaks):
        found.append(_finding("memory", noisy_effect(peaks[0], peaks[1], noise=MEMORY_NOISE), margins))
    if a.artifact and b.artifact:
        effect = exact_effect(a.artifact.size_bytes, b.artifact.size_bytes)
        found.append(_finding("size", effect, margins))
    return tuple(found)


def _of_the_build(verdict: Verdict, without: Verdict, *, is_certain: bool) -> Verdict:
    """What may be claimed of the build, of a device that may have changed.

    Args:
        verdict: As measured.
        without: After dividing by what a fixed piece of work took.
        is_certain: Whether that changed at all.
    """
    slower: frozenset[Verdict] = frozenset({"regression", "small slowdown"})
    if verdict in slower:
        # Only what the fixed piece of work did not suffer as well.
        if without not in slower:
            return _OPEN
        return without if verdict == "regression" else verdict
    if is_certain and (without in slower or (verdict == "improvement" and without != "improvement")):
        return _OPEN
    return verdict


def _finding(metric: Metric, effect: Effect | None, margins: Mapping[Metric, float]) -> Finding:
    margin = margins.get(metric, MARGINS[metric])
    return Finding(metric=metric, verdict=decide(effect, margin), effect=effect, margin=margin, values=())


def _p50(process: ProcessRecord) -> float:
    return median(samples_ns(process))


def _p90(process: ProcessRecord) -> float:
    return percentile(samples_ns(process), 0.9)


def _cold(process: ProcessRecord) -> float:
    return float(process.load_ns + process.first_inference_ns)


def _values(measured: Measurement, value: Callable[[ProcessRecord], float]) -> list[float]:
    return [value(process) for process in measured.processes if process.discarded is None and samples_ns(process)]


def _canary_effect(before: Measurement, after: Measurement) -> Effect | None:
    """How the fixed piece of work changed, by trimmed means: a neighbour in one of them must not excuse a build."""
    ours, theirs = (
        [
            median([ns for ns in (process.canary_before_ns, process.canary_after_ns) if ns])
            for process in one.processes
            # One that was disturbed, and done again for that, says nothing of the others.
            if process.discarded is None and (process.canary_before_ns or process.canary_after_ns)
        ]
        for one in (before, after)
    )
    return two_samples(ours, theirs, trim=_CANARY_TRIM) if min(len(ours), len(theirs)) >= 2 else None


# --- which cells belong together, and whether they may be compared -------------------------------------------------


def _pairs(a: Sequence[CellResult], b: Sequence[CellResult]) -> list[tuple[CellResult, CellResult]]:
    """Cells of one id; of the others, those that are alone in meaning the same file, by and by less strictly.

    First with the same version of a runtime on the same device, then with the same runtime, then on whichever device.
    What was measured with another number of threads has another id. It is paired all the same, so that it is refused
    by name and not silently passed over.
    """
    left_a, left_b = list(a), list(b)
    found = []
    keys: tuple[Callable[[Cell], object], ...] = (
        lambda cell: cell.id,
        lambda cell: (cell.device_id, cell.model, cell.format, cell.precision, cell.choice.title),
        lambda cell: (cell.device_id, cell.model, cell.format, cell.precision, cell.choice.runtime),
        lambda cell: (cell.model, cell.format, cell.precision, cell.choice.runtime),
    )
    for key in keys:
        ours, theirs = _alone(left_a, key), _alone(left_b, key)
        for shared in [each for each in ours if each in theirs]:
            found.append((ours[shared], theirs[shared]))
            left_a.remove(ours[shared])
            left_b.remove(theirs[shared])
    return found


def _alone(results: Iterable[CellResult], key: Callable[[Cell], object]) -> dict[object, CellResult]:
    results = list(results)
    counts = Counter(key(result.cell) for result in results)
    return {key(result.cell): result for result in results if counts[key(result.cell)] == 1}


def _device(result: CellResult, plan: Plan) -> DeviceFacts:
    return next(facts for facts in plan.devices if facts.id == result.cell.device_id)


def _identity(result: CellResult, plan: Plan) -> dict[str, Any]:
    """What has to be the same on both sides. Key -> value."""
    measured = result.outcome
    assert isinstance(measured, Measurement)
    facts = _device(result, plan)
    spec = next(model.spec for model in plan.models if model.name == result.cell.model)
    artifact, state = result.artifact, measured.state_before
    tensors = [(each.name, each.shape, each.dtype) for each in artifact.inputs] if artifact else []
    blocks = [block for process in measured.processes for block in process.blocks]
    return {
        "emulation": facts.is_emulated,
        "device": (facts.kind, facts.cpu, facts.cores, facts.architecture, facts.virtual_machine),
        # A host is called by its network name, which a cloud makes up anew each time.
        "device-name": facts.name if facts.kind != "host" else None,
        "model-inputs": (tensors, msgspec.to_builtins(spec.inputs), spec.seed, spec.check_samples),
        "threads": measured.ran.threads if measured.ran.threads is not None else result.cell.choice.threads,
        "accelerator": result.cell.choice.accelerator,
        "nodes-by-accelerator": measured.ran.fallback_reason is not None,
        "graph-optimization": result.cell.choice.graph_optimization,
        "options": dict(result.cell.choice.options),
        "power-mode": (state.power_mode, state.governor),
        "memory-source": sorted({record.source for record in measured.memory}),
        "runner-version": measured.ran.driver_version,
        "sample-kind": (measured.ran.driver, any(block.iterations_per_sample > 1 for block in blocks)),
        "page-cache": measured.page_cache,
    }


def _text(value: object) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(_text(each) for each in value) or "none"
    return "not known" if value is None else str(value)
