"""From raw samples to the figures of a report. Computed whenever they are shown, never stored with the samples.

What was discarded while measuring (a block that was disturbed, a process that had to be repeated) is in no figure; it
is counted beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from harness import statistics
from harness.records import CellResult, Evidence, Measurement, Record, Setting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.records import DeviceFacts, MeasurePlan, Plan, ProcessRecord, RuntimeChoice, RuntimeRan

DISTURBED_CANARY_RATIO: Final = 1.10
"""A process is disturbed if the fixed piece of work beside it took longer than this times an undisturbed one.

Source: androidx.benchmark, ThrottleDetector.
"""
DRIFT_LIMIT_PCT_PER_MIN: Final = 1.0
EARLY_STOPPING_SAMPLES: Final = 64
"""Below this no p90 can be given with confidence."""

WarningKind: TypeAlias = Literal[
    "emulated",
    "wrong_numbers",
    "fallback",
    "placement_unknown",
    "other_threads",
    "crowded",
    "untrained",
    "not_fresh",
    "few_processes",
    "few_samples",
    "imprecise",
    "not_steady",
    "drift",
    "disturbed",
    "discarded",
    "batched",
    "unprofiled",
    "accepted_obstacles",
    "virtual_machine",
]
"""In the order in which a reader should hear of them."""


class CellWarning(Record, frozen=True, kw_only=True):
    """A reason not to trust a figure, or to read it with care. `harness.report.cautions` has the sentences."""

    kind: WarningKind
    facts: dict[str, Setting] = {}  # noqa: RUF012  (msgspec copies it)


class Summary(Record, frozen=True, kw_only=True):
    """The figures of one measured cell."""

    p50_ns: float
    """The median over processes of the median within each process: every process counts alike."""
    p50_low_ns: float | None
    """Lower end of the interval of p50 over processes; None with fewer than 5."""
    p50_high_ns: float | None
    p50_confidence_pct: float | None
    """95, or 93.75 where there are only 5 processes."""
    half_width_pct: float | None
    """Half the interval's width in per cent of p50."""
    p90_ns: float
    """The lowest sample that nine in ten samples do not exceed, over all samples."""
    p90_early_stopping_ns: float | None
    """What the true p90 does not exceed, with 99 % confidence; None below 64 samples, or where samples are batches."""
    min_ns: float
    within_cv_pct: float | None
    """1.4826 x MAD / median of one process, the median over processes."""
    between_cv_pct: float | None
    """Standard deviation / mean of the process medians."""
    samples: int
    iterations_per_sample: int
    """1, unless one inference was too short for the clock: then each sample is the mean of so many."""
    processes: int
    """Counted ones."""
    processes_discarded: int
    blocks: int
    blocks_discarded: int
    """Of the counted processes."""
    startup_ns: float | None
    """From starting the program until its runtime was loaded; the median over processes, as the next two."""
    load_ns: float
    first_inference_ns: float
    cold_start_ns: float
    """Loading and first inference together."""
    cold_over_warm: float
    """First inference / p50."""
    throughput_per_s: float
    """Inferences one after the other: their number / the time of all of them."""
    peak_memory_bytes: float | None
    """Of a process that was not timed, its runtime included; the median over such processes."""
    model_memory_bytes: float | None
    """Peak less what the runtime alone took."""
    memory_source: str | None
    size_bytes: int | None
    deflated_bytes: int | None
    parity_relative_l2: float | None
    """Of the worst output."""
    parity_passed: bool
    not_steady_processes: int
    """Whose warm-up ended before the times settled."""
    disturbed_processes: int
    """Where the fixed piece of work before or after was slower than 1.10 x an undisturbed one of the run."""
    drift_pct_per_min: float | None
    """Theil-Sen slope of the process medians; None with fewer than 5 processes."""
    drift_low_pct_per_min: float | None
    drift_high_pct_per_min: float | None
    mild_outliers: int
    """Samples beyond 1.5 interquartile ranges of their own process; they count in every figure."""
    severe_outliers: int
    """Beyond 3."""


def summarise(result: CellResult, *, canary_baseline_ns: float | None = None) -> Summary | None:
    """Compute the figures of one cell from its raw samples.

    Args:
        result: The stored cell.
        canary_baseline_ns: What an undisturbed canary takes in this run, from `canary_baselines`; None goes by this
            cell's own canaries.

    Returns:
        None where nothing was measured: a failure, a cell that cannot run, or one of which every block was discarded.
    """
    outcome = result.outcome
    if not isinstance(outcome, Measurement):
        return None
    counted = [process for process in outcome.processes if _counts(process)]
    if not counted:
        return None
    by_process = [statistics.samples_ns(process) for process in counted]
    medians = [statistics.median(samples) for samples in by_process]
    samples = [sample for samples in by_process for sample in samples]
    blocks = [block for process in counted for block in process.blocks if block.discarded is None]
    p50 = statistics.median(medians)
    interval = statistics.median_interval(medians)
    batch = max(block.iterations_per_sample for block in blocks)
    spreads = [statistics.robust_cv_pct(samples) for samples in by_process]
    startups = [process.startup_ns for process in counted if process.startup_ns is not None]
    first = statistics.median([process.first_inference_ns for process in counted])
    outside = [statistics.outliers(samples) for samples in by_process]
    drift = statistics.theil_sen([_middle_min(process) for process in counted], medians)
    baseline = canary_baseline_ns or canary_baselines([result]).get(_canary_of(result))
    peak, model, source = _memory(outcome)
    return Summary(
        p50_ns=p50,
        p50_low_ns=interval.low if interval else None,
        p50_high_ns=interval.high if interval else None,
        p50_confidence_pct=interval.confidence_pct if interval else None,
        half_width_pct=statistics.half_width_pct(medians),
        p90_ns=statistics.percentile(samples, 0.9),
        p90_early_stopping_ns=statistics.early_stopping_percentile(samples) if batch == 1 else None,
        min_ns=min(samples),
        within_cv_pct=_median_of_known(spreads),
        between_cv_pct=statistics.cv_pct(medians),
        samples=len(samples),
        iterations_per_sample=batch,
        processes=len(counted),
        processes_discarded=len(outcome.processes) - len(counted),
        blocks=len(blocks),
        blocks_discarded=sum(len(process.blocks) for process in counted) - len(blocks),
        startup_ns=statistics.median(startups) if startups else None,
        load_ns=statistics.median([process.load_ns for process in counted]),
        first_inference_ns=first,
        cold_start_ns=statistics.median([process.load_ns + process.first_inference_ns for process in counted]),
        cold_over_warm=first / p50,
        throughput_per_s=1e9
        * sum(len(block.ns) * block.iterations_per_sample for block in blocks)
        / sum(sum(block.ns) for block in blocks),
        peak_memory_bytes=peak,
        model_memory_bytes=model,
        memory_source=source,
        size_bytes=result.artifact.size_bytes if result.artifact else None,
        deflated_bytes=result.artifact.deflated_bytes if result.artifact else None,
        parity_relative_l2=outcome.parity.relative_l2,
        parity_passed=outcome.parity.passed is True,
        not_steady_processes=sum(not process.steady for process in counted),
        disturbed_processes=sum(_is_disturbed(process, baseline) for process in counted),
        drift_pct_per_min=100 * drift.value / p50 if drift else None,
        drift_low_pct_per_min=100 * drift.low / p50 if drift else None,
        drift_high_pct_per_min=100 * drift.high / p50 if drift else None,
        mild_outliers=sum(each.mild for each in outside),
        severe_outliers=sum(each.severe for each in outside),
    )


def summarise_all(results: Sequence[CellResult], devices: Iterable[DeviceFacts]) -> dict[str, Summary | None]:
    """The figures of every cell of a run by cell id, each judged by the whole run's canaries.

    Args:
        results: All of the run.
        devices: Of the run. What was measured on a simulated one has no figures.
    """
    baselines = canary_baselines(results)
    simulated = {device.id for device in devices if is_simulated(device)}
    return {
        result.cell.id: None
        if result.cell.device_id in simulated
        else summarise(result, canary_baseline_ns=baselines.get(_canary_of(result)))
        for result in results
    }


def warnings(summary: Summary | None, result: CellResult, plan: Plan) -> tuple[CellWarning, ...]:
    """What a reader of a cell's figures has to know, most serious first.

    Returns:
        Nothing where there is no figure to be careful with.
    """
    outcome = result.outcome
    if summary is None or not isinstance(outcome, Measurement):
        return ()
    model = next((model for model in plan.models if model.name == result.cell.model), None)
    device = next((device for device in plan.devices if device.id == result.cell.device_id), None)
    found = [
        *_about_the_device(device),
        *_about_what_ran(outcome.ran, result.cell.choice),
        *_about_room(device, outcome.ran, result.cell.choice),
        *_about_the_start(outcome.processes),
        *_about_the_amount(summary, plan.measure, outcome.stopped_by),
        *_about_the_times(summary),
    ]
    if outcome.profile_missing:
        found.append(CellWarning(kind="unprofiled", facts={"reason": outcome.profile_missing}))
    if not summary.parity_passed:
        found.append(CellWarning(kind="wrong_numbers", facts={"relative_l2": summary.parity_relative_l2 or 0.0}))
    if model is not None and model.spec.trained is False:
        found.append(CellWarning(kind="untrained"))
    if outcome.accepted_obstacles:
        found.append(CellWarning(kind="accepted_obstacles", facts={"names": ", ".join(outcome.accepted_obstacles)}))
    order = WarningKind.__args__  # type: ignore[attr-defined]  # of a Literal, its words
    return tuple(sorted(found, key=lambda warning: order.index(warning.kind)))


def evidence(result: CellResult, device: DeviceFacts | None) -> Evidence | None:
    """How far a row of Core ML, or of an iPhone, is proved; None for every other row, and where nothing is.

    Args:
        result: The stored cell.
        device: Where it ran or was to run.
    """
    is_phone = device is not None and device.kind == "ios"
    if isinstance(result.outcome, Measurement) and is_phone:
        return "simulated" if is_simulated(device) else "measured(device)"
    if isinstance(result.outcome, Measurement) and result.cell.format == "coreml":
        return "measured(mac)"
    return result.artifact.parity.evidence if result.artifact is not None else None


def is_simulated(device: DeviceFacts | None) -> bool:
    """Whether another kind of machine plays the device: then a cell has no times, whatever was stored."""
    return device is not None and device.kind == "ios" and device.is_emulated


def canary_baselines(results: Iterable[CellResult]) -> dict[tuple[str, str], float]:
    """What the fixed piece of work takes where nothing disturbs it, by device and timing program.

    Each timing program has its own piece of work. The time that one in ten does not exceed is taken, and not the very
    shortest: of 240 on a quiet virtual machine one was 10 % faster than all others, and would have called them slow.
    """
    times: dict[tuple[str, str], list[float]] = {}
    for result in results:
        if isinstance(result.outcome, Measurement):
            for process in result.outcome.processes:
                found = (process.canary_before_ns, process.canary_after_ns)
                times.setdefault(_canary_of(result), []).extend(ns for ns in found if ns is not None)
    return {key: statistics.percentile(values, 0.1) for key, values in times.items() if values}


def _canary_of(result: CellResult) -> tuple[str, str]:
    driver = result.outcome.ran.driver if isinstance(result.outcome, Measurement) else ""
    return result.cell.device_id, driver


def _counts(process: ProcessRecord) -> bool:
    return process.discarded is None and bool(statistics.samples_ns(process))


def _middle_min(process: ProcessRecord) -> float:
    """When the process ran, in minutes of the device's clock."""
    return statistics.median([block.start_ns for block in process.blocks if block.discarded is None]) / 60e9


def _is_disturbed(process: ProcessRecord, baseline_ns: float | None) -> bool:
    canaries = [ns for ns in (process.canary_before_ns, process.canary_after_ns) if ns is not None]
    return baseline_ns is not None and any(ns > DISTURBED_CANARY_RATIO * baseline_ns for ns in canaries)


def _memory(outcome: Measurement) -> tuple[float | None, float | None, str | None]:
    """Peak, peak less baseline, source. Figures of two sources are never put together."""
    sources = {record.source for record in outcome.memory}
    if len(sources) != 1:
        return None, None, None
    return (
        statistics.median([record.peak_bytes for record in outcome.memory]),
        statistics.median([record.peak_bytes - record.baseline_bytes for record in outcome.memory]),
        sources.pop(),
    )


def _median_of_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _about_the_device(device: DeviceFacts | None) -> list[CellWarning]:
    if device is None:
        return []
    if device.is_emulated:
        return [CellWarning(kind="emulated", facts={"device": device.name})]
    if device.virtual_machine is not None:
        return [CellWarning(kind="virtual_machine", facts={"name": device.virtual_machine})]
    return []


def _about_what_ran(ran: RuntimeRan, asked: RuntimeChoice) -> list[CellWarning]:
    found = []
    partly = ran.nodes_total is not None and ran.nodes_delegated is not None and ran.nodes_delegated < ran.nodes_total
    if partly or ran.fallback_reason is not None:
        facts: dict[str, Setting] = {"asked": asked.accelerator, "ran": _nodes(ran.nodes_by_accelerator)}
        _add_known(facts, delegated=ran.nodes_delegated, total=ran.nodes_total, reason=ran.fallback_reason)
        found.append(CellWarning(kind="fallback", facts=facts))
    untold = ran.placement_missing
    if untold is None and ran.nodes_total is None and asked.accelerator != "cpu":
        # Every runtime here can compute all on the CPU; what else computed is what nobody knows.
        untold = f"{ran.runtime} {ran.version} does not tell where its nodes run"
    if untold is not None:
        unknown: dict[str, Setting] = {"asked": asked.accelerator, "reason": untold}
        found.append(CellWarning(kind="placement_unknown", facts=unknown))
    if ran.threads is not None and ran.threads != asked.threads:
        found.append(CellWarning(kind="other_threads", facts={"asked": asked.threads, "ran": ran.threads}))
    return found


def _about_room(device: DeviceFacts | None, ran: RuntimeRan, asked: RuntimeChoice) -> list[CellWarning]:
    """Threads beyond the processors wait for each other."""
    cores, threads = device.cores if device else None, ran.threads or asked.threads
    if cores is None or threads <= cores:
        return []
    return [CellWarning(kind="crowded", facts={"threads": threads, "cores": cores})]


def _about_the_start(processes: Sequence[ProcessRecord]) -> list[CellWarning]:
    counted = [process for process in processes if _counts(process)]
    used = sum(process.jobs_before > 0 for process in counted)
    return [CellWarning(kind="not_fresh", facts={"processes": used, "of": len(counted)})] if used else []


def _about_the_amount(summary: Summary, plan: MeasurePlan, stopped_by: str) -> list[CellWarning]:
    found = []
    if summary.half_width_pct is None:
        facts: dict[str, Setting] = {"processes": summary.processes, "needed": statistics.MIN_PROCESSES}
        found.append(CellWarning(kind="few_processes", facts=facts))
    elif summary.half_width_pct > plan.target_half_width_pct:
        facts = {
            "half_width_pct": summary.half_width_pct,
            "target_pct": plan.target_half_width_pct,
            "stopped_by": stopped_by,
        }
        found.append(CellWarning(kind="imprecise", facts=facts))
    if summary.samples < EARLY_STOPPING_SAMPLES:
        facts = {"samples": summary.samples, "needed": EARLY_STOPPING_SAMPLES}
        found.append(CellWarning(kind="few_samples", facts=facts))
    if summary.iterations_per_sample > 1:
        facts = {"iterations_per_sample": summary.iterations_per_sample}
        found.append(CellWarning(kind="batched", facts=facts))
    return found


def _about_the_times(summary: Summary) -> list[CellWarning]:
    found = []
    of = summary.processes
    if summary.not_steady_processes:
        facts: dict[str, Setting] = {"processes": summary.not_steady_processes, "of": of}
        found.append(CellWarning(kind="not_steady", facts=facts))
    if summary.disturbed_processes:
        facts = {"processes": summary.disturbed_processes, "of": of}
        found.append(CellWarning(kind="disturbed", facts=facts))
    if summary.processes_discarded or summary.blocks_discarded:
        facts = {"processes": summary.processes_discarded, "blocks": summary.blocks_discarded}
        found.append(CellWarning(kind="discarded", facts=facts))
    if _drifts(summary):
        facts = {"pct_per_min": summary.drift_pct_per_min or 0.0, "limit_pct_per_min": DRIFT_LIMIT_PCT_PER_MIN}
        found.append(CellWarning(kind="drift", facts=facts))
    return found


def _drifts(summary: Summary) -> bool:
    """Whether the whole interval of the slope is beyond the limit, on one side.

    The slope alone will not do: a cell lasts seconds, so that the ordinary differences between processes look like
    tens of per cent a minute.
    """
    low, high = summary.drift_low_pct_per_min, summary.drift_high_pct_per_min
    return low is not None and high is not None and (low > DRIFT_LIMIT_PCT_PER_MIN or high < -DRIFT_LIMIT_PCT_PER_MIN)


def _nodes(by_accelerator: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(by_accelerator.items()))


def _add_known(facts: dict[str, Setting], **values: Setting | None) -> None:
    facts.update({name: value for name, value in values.items() if value is not None})
