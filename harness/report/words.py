"""Every sentence of a report. Records hold facts; what they mean to a reader, and what to do, is said here."""

from __future__ import annotations

import string
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from harness import units
from harness.report.accuracy import by_test
from harness.report.view import clean, threads

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from harness.records import DeviceFacts, DeviceState, Evidence, Plan, Setting
    from harness.report.accuracy import Test
    from harness.report.view import DeviceRows, ModelRows, Row, View
    from harness.summary import Summary, WarningKind

Facts = dict[str, "Setting"]

STATUS = {
    "measured": "measured",
    "failed": "failed",
    "not_runnable": "cannot run here",
    "not_run": "not run yet",
    "simulated": "simulated",
}
EVIDENCE: Mapping[Evidence, str] = {
    "converted": "the file was read back, its names, types and weights as asked; nothing here computes it",
    "graph-checked": "our evaluator computed the file's program, operation by operation; Core ML did not, so no times",
    "coreml-numerics": "Core ML on a Mac computed the outputs; nothing was timed",
    "measured(mac)": "Core ML on a Mac computed and was timed",
    "measured(device)": "Core ML on the device computed and was timed",
    "simulated": "a simulator computed the outputs on a Mac, so no times",
}
LEGEND = (
    "p50: the median over processes of each process's median; ±: half of its 95 % interval (93.75 % with five "
    "processes). p90: nine in ten inferences took no longer; p90≤: what the true p90 does not exceed, with 99 % "
    "confidence. Cold: loading and first inference. Peak: memory of the whole process, its runtime included. Parity: "
    "relative L2 distance of the outputs from the checkpoint's."
)

EMULATED = "EMULATED: times on this device say nothing about a real one"
LATENCY_ONLY = "untrained, latency only"

_MODELS_NAMED = 4
"""In one sentence; the table has the rest."""


class Note(NamedTuple):
    """A warning in words, and the rows it is about."""

    what: str
    advice: str
    rows: tuple[Row, ...]


def answer(view: View) -> tuple[str, ...]:
    """The run in one to three sentences: what is fastest, what failed, what not to trust."""
    sentences = (_fastest(view), _completeness(view), _distrust(view))
    return tuple(sentence for sentence in sentences if sentence)


def notes(rows: Sequence[Row]) -> dict[WarningKind, Note]:
    """The warnings of these rows, one note a kind, most serious first."""
    facts: dict[WarningKind, list[Facts]] = defaultdict(list)
    about: dict[WarningKind, list[Row]] = defaultdict(list)
    for row in rows:
        for warning in row.warnings:
            facts[warning.kind].append(warning.facts)
            about[warning.kind].append(row)
    return {kind: Note(*SENTENCES[kind](facts[kind]), rows=tuple(about[kind])) for kind in SENTENCES if kind in facts}


def marks(
    found: Mapping[WarningKind, Note], rows: Sequence[Row], *, without: Collection[str] = ()
) -> dict[WarningKind, str]:
    """A letter for each note that is about some of the measured rows and not about all of them."""
    measured = sum(row.status == "measured" for row in rows)
    partial = [kind for kind, note in found.items() if kind not in without and not len(note.rows) == measured > 1]
    return dict(zip(partial, string.ascii_lowercase, strict=False))


def reasons(rows: Sequence[Row]) -> dict[str, tuple[Row, ...]]:
    """Why rows have no figure -> the rows it is true of; rows that were not tried yet are left out."""
    alike: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.status in {"failed", "not_runnable", "simulated"} or (row.status == "not_run" and row.result):
            alike[problem(row)].append(row)
    return {why: tuple(several) for why, several in alike.items()}


def status(row: Row) -> str:
    """What stands in place of figures: `graph-checked · 2.44 MiB · parity 6.0e-04 · cannot run here`."""
    artifact = row.result.artifact if row.result else None
    if row.evidence is None or artifact is None:
        return STATUS[row.status]
    distances = [output.relative_l2 for output in artifact.parity.outputs]
    parts = [row.evidence, f"{units.mebibytes(artifact.size_bytes)} MiB"]
    if distances:
        parts.append(f"parity {scientific(max(distances))}")
    if row.status != "simulated":
        parts.append(STATUS[row.status])
    return " · ".join(parts)


def evidence(rows: Sequence[Row]) -> tuple[str, ...]:
    """What each mark means and which rows carry it, a sentence a mark; nothing where no row is Core ML's."""
    marked: dict[Evidence, list[Row]] = defaultdict(list)
    for row in rows:
        if row.evidence is not None:
            marked[row.evidence].append(row)
    return tuple(
        f"{mark}: {row_names(marked[mark])}. {EVIDENCE[mark][0].upper()}{EVIDENCE[mark][1:]}."
        for mark in EVIDENCE
        if mark in marked
    )


def accuracies(rows: Sequence[Row]) -> tuple[str, ...]:
    """On what the errors of rows were found, a sentence each test, and whether they compare."""
    tests = by_test(rows)
    said = [f"Error: {test}{_tested(found)}{_whose(found, tests)}." for test, found in tests.items()]
    return (*said, "Errors of different tests do not compare.") if len(tests) > 1 else tuple(said)


def _tested(rows: Sequence[Row]) -> str:
    """` (30 subjects, 600 images); computed by onnxruntime 1.27`."""
    known = [row.accuracy for row in rows if row.accuracy is not None]
    sizes = {(each.subjects, each.images) for each in known}
    counts = _distinct(
        f"{count(subjects, 'subject', 'subjects')}, {count(images, 'image', 'images')}"
        for subjects, images in sorted(sizes)
    )
    return f" ({counts}); computed by {_distinct(clean(each.executed_by) for each in known)}"


def _whose(rows: Sequence[Row], tests: Mapping[Test, object]) -> str:
    return f": {row_names(rows)}" if len(tests) > 1 else ""


def problem(row: Row) -> str:
    """Why a row has no figure, on one line: what happened, where, what to do."""
    failure = row.failure
    if failure is None:
        return clean(row.reason)
    hint = f" {clean(failure.hint)}" if failure.hint else ""
    log = f", log: {clean(failure.log)}" if failure.log and failure.log not in failure.hint else ""
    return f"{_full_stop(clean(failure.message))}{hint} ({failure.stage}, {clean(failure.kind)}{log})"


def heading(plan: Plan) -> str:
    """What, when, by which build: `quick · 2026-11-23 08:15 UTC · harness 0.1.0`."""
    return " · ".join((clean(plan.suite), moment(plan.created_at), f"harness {clean(plan.harness_version)}"))


def moment(at: str) -> str:
    """`2026-11-23 08:15 UTC` of an ISO 8601 time in UTC."""
    day, _, time = at.partition("T")
    return clean(f"{day} {time[:5]} UTC" if time else at)


def model_line(model: ModelRows) -> str:
    """A model's name with what is known of its size."""
    result = next((row.result for row in model.rows if row.result), None)
    parts = [clean(model.name)]
    if result and result.parameters is not None:
        parts.append(f"{units.count(result.parameters)} parameters")
    if result and result.macs is not None:
        parts.append(f"{units.count(result.macs)} MACs")
    if model.is_untrained:
        parts.append(LATENCY_ONLY)
    return " · ".join(parts)


def device_line(device: DeviceRows, *, with_name: bool = True) -> str:
    """A device's name with what it is."""
    facts = device.facts
    if facts is None:
        return clean(device.id) if with_name else ""
    cores = f"{facts.cores} cores" if facts.cores else None
    machine = f"virtual machine ({facts.virtual_machine})" if facts.virtual_machine else None
    known = (facts.name if with_name else None, facts.device_class, facts.cpu, cores, facts.os, machine)
    return " · ".join(clean(part) for part in known if part)


def device_facts(facts: DeviceFacts) -> dict[str, str]:
    """What a device is, name by name; unknown ones are left out."""
    memory = None if facts.memory_bytes is None else f"{units.mebibytes(facts.memory_bytes)} MiB"
    every = {
        "Device": f"{facts.name} ({facts.id})",
        "Class": facts.device_class,
        "Processor": facts.cpu,
        "Cores": None if facts.cores is None else str(facts.cores),
        "Architecture": facts.architecture,
        "Memory": memory,
        "System": facts.os,
        "System build": facts.os_build,
        "Virtual machine": facts.virtual_machine or "no sign of one",
    }
    return {name: clean(value) for name, value in every.items() if value is not None}


def conditions(states: Sequence[DeviceState]) -> dict[str, str]:
    """The range of each condition over these moments; sensors that are not there are left out."""
    columns: tuple[tuple[str, Callable[[DeviceState], float | None], Callable[[float], str]], ...] = (
        ("Load over 1 min", lambda state: state.load_1min, lambda value: f"{value:.2f}"),
        ("Processors busy", lambda state: state.cpu_busy_pct, units.percent),
        ("Stolen by the hypervisor", lambda state: state.steal_pct, units.percent),
        ("Clock", lambda state: state.cpu_hz, _megahertz),
        ("Clock limit", lambda state: state.cpu_cap_hz, _megahertz),
        ("Temperature", lambda state: state.temperature_celsius, lambda value: f"{value:.1f} °C"),
        ("Battery", lambda state: state.battery_pct, lambda value: f"{value:.0f} %"),
        ("Free memory", lambda state: state.free_memory_bytes, lambda value: f"{units.mebibytes(value)} MiB"),
    )
    said = {}
    for name, read, show in columns:
        known = [value for value in map(read, states) if value is not None]
        if known:
            said[name] = _range(min(known), max(known), show)
    words = {
        "Governor": {state.governor for state in states},
        "Thermal status": {state.thermal_status for state in states},
        "Power mode": {state.power_mode for state in states},
        "Charging": {None if state.charging is None else "yes" if state.charging else "no" for state in states},
    }
    for name, seen in words.items():
        if seen != {None} and seen:
            said[name] = ", ".join(sorted(clean(word) if word else "unknown" for word in seen))
    return said


def interval(summary: Summary) -> str:
    """`10.1 ms (10.0 to 10.2, 95 %)`."""
    if summary.p50_low_ns is None or summary.p50_confidence_pct is None:
        return f"{units.duration(summary.p50_ns)} (no interval)"
    ends = f"{units.duration(summary.p50_low_ns)} to {units.duration(summary.p50_high_ns)}"
    return f"{units.duration(summary.p50_ns)} ({ends}, {summary.p50_confidence_pct:.0f} % confidence)"


def ends_ms(summary: Summary) -> str:
    """The interval as `10.0 to 10.2 (±0.9%)`, in ms."""
    if summary.p50_low_ns is None:
        return "–"
    low, high = units.milliseconds(summary.p50_low_ns), units.milliseconds(summary.p50_high_ns)
    return f"{low} to {high} ({plus_minus(summary)})"


def plus_minus(summary: Summary) -> str:
    """`±0.2%` with two significant digits at most, or an en dash where there is no interval."""
    half = summary.half_width_pct
    if half is None:
        return "–"
    return f"±{half:.0f}%" if half >= 9.95 else f"±{half:.1f}%"


def scientific(value: float | None) -> str:
    """A relative error: `4.4e-07`."""
    if value is None:
        return "–"
    return "0" if value == 0 else f"{value:.1e}"


def row_names(rows: Iterable[Row]) -> str:
    """Rows by model and file: `mobilenet_v2 onnx/int8 (1 and 2 threads); resnet18 ...`."""
    by_file: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in rows:
        by_file[row.cell.model, row.file] += [] if row.threads is None else [row.threads]
    named: dict[str, list[str]] = defaultdict(list)
    for (model, file), counts in by_file.items():
        several = f"{' and '.join(str(count) for count in counts)} threads"
        said = f" ({threads(counts[0]) if len(counts) == 1 else several})" if counts else ""
        named[clean(model)].append(f"{file}{said}")
    return "; ".join(f"{model} {', '.join(files)}" for model, files in named.items())


def threads_of(row: Row) -> str:
    """How many threads were asked for, or an en dash."""
    return "–" if row.threads is None else str(row.threads)


def count(number: float, one: str, many: str) -> str:
    """`1 cell`, `3 cells`."""
    return f"{number:.0f} {one if number == 1 else many}"


# --- warnings: facts of all rows concerned -> what is the matter, what to do ----------------------------------------


def _emulated(_: Sequence[Facts]) -> tuple[str, str]:
    return (
        "The processor is emulated: these times say nothing about a real one.",
        "Such a run proves that files load and compute the right numbers, no more.",
    )


def _wrong_numbers(facts: Sequence[Facts]) -> tuple[str, str]:
    worst = max(_numbers(facts, "relative_l2"))
    return (
        f"The outputs are not those of the checkpoint (relative error up to {scientific(worst)}).",
        "Do not use these times: something else was computed.",
    )


def _fallback(facts: Sequence[Facts]) -> tuple[str, str]:
    shares = _distinct(
        f"{fact.get('delegated', '?')} of {fact.get('total', '?')} nodes on {fact['asked']}" for fact in facts
    )
    reasons = _distinct(str(fact["reason"]) for fact in facts if "reason" in fact)
    because = f" Reason: {_full_stop(reasons)}" if reasons else ""
    return (
        f"Not all of the model ran where it was asked to: {shares}.{because}",
        "`--require-accelerator` makes this an error.",
    )


def _placement_unknown(facts: Sequence[Facts]) -> tuple[str, str]:
    asked, reasons = (_distinct(str(fact[key]) for fact in facts) for key in ("asked", "reason"))
    return (
        f"Nobody knows which part of the model ran where ({asked} was asked for). Reason: {_full_stop(reasons)}",
        "Take these for times of the device, not of one of its units.",
    )


def _other_threads(facts: Sequence[Facts]) -> tuple[str, str]:
    pairs = _distinct(f"{fact['ran']} ran where {fact['asked']} were asked for" for fact in facts)
    return (f"The number of threads is another: {pairs}.", "Do not read this as scaling with threads.")


def _untrained(_: Sequence[Facts]) -> tuple[str, str]:
    return (
        "Latency only: the weights are untrained.",
        "Times and sizes hold for trained weights as well; an accuracy would mean nothing.",
    )


def _few_processes(facts: Sequence[Facts]) -> tuple[str, str]:
    needed = facts[0]["needed"]
    return (
        f"Fewer than {needed} processes count, so that no interval can be given.",
        f"Set processes_min to {needed} or more.",
    )


def _few_samples(facts: Sequence[Facts]) -> tuple[str, str]:
    fewest, needed = min(_numbers(facts, "samples")), facts[0]["needed"]
    return (
        f"As few as {fewest:.0f} samples: below {needed} the p90 is a rough guess.",
        "Raise blocks or block_s.",
    )


def _imprecise(facts: Sequence[Facts]) -> tuple[str, str]:
    widest = max(_numbers(facts, "half_width_pct"))
    ends = {fact["stopped_by"] for fact in facts}
    settings = [name for name, end in (("budget_s", "budget"), ("processes_max", "processes")) if end in ends]
    more = f"raise {' and '.join(settings)}, or " if settings else ""
    return (
        f"The interval is wider than the ±{facts[0]['target_pct']:g} % asked for (up to ±{widest:.1f} %).",
        f"Differences smaller than that are not shown by this run; {more}quieten the device.",
    )


def _not_steady(facts: Sequence[Facts]) -> tuple[str, str]:
    return (
        f"The warm-up ended before the times settled, in {_share(facts)} processes.",
        "Raise warmup_cap_s, or look for what slows the device down.",
    )


def _drift(facts: Sequence[Facts]) -> tuple[str, str]:
    slopes = _numbers(facts, "pct_per_min")
    extreme = max(slopes, key=abs)
    return (
        f"The times drifted while they were taken (up to {extreme:+.0f} % a minute).",
        "Heat or another program; see the conditions, and let the device cool.",
    )


def _disturbed(facts: Sequence[Facts]) -> tuple[str, str]:
    return (
        f"Beside {_share(facts)} processes a fixed piece of work ran more than 10 % slower than it does undisturbed.",
        "Something else used the processor, or its clock was lower; close other programs and repeat.",
    )


def _discarded(facts: Sequence[Facts]) -> tuple[str, str]:
    processes, blocks = sum(_numbers(facts, "processes")), sum(_numbers(facts, "blocks"))
    lost = f"{count(processes, 'process', 'processes')} and {count(blocks, 'block', 'blocks')}"
    return (
        f"Disturbed and discarded: {lost}.",
        "They are in no figure; the raw record keeps them with the reason.",
    )


def _batched(facts: Sequence[Facts]) -> tuple[str, str]:
    most = max(_numbers(facts, "iterations_per_sample"))
    return (
        f"One inference is too short for the clock: each sample is the mean of up to {most:.0f}.",
        "p90 and the minimum are those of such means, and hide the spread of single inferences.",
    )


def _accepted_obstacles(facts: Sequence[Facts]) -> tuple[str, str]:
    names = _distinct(str(fact["names"]) for fact in facts)
    return (f"Measured although something stood in the way: {names}.", "It was accepted by name when the run began.")


def _virtual_machine(facts: Sequence[Facts]) -> tuple[str, str]:
    names = _distinct(str(fact["name"]) for fact in facts)
    return (
        f"The device is a virtual machine ({names}): others may use the same processor.",
        "Compare rows of this run with each other, not with those of other days or machines.",
    )


SENTENCES: Mapping[WarningKind, Callable[[Sequence[Facts]], tuple[str, str]]] = {
    "emulated": _emulated,
    "wrong_numbers": _wrong_numbers,
    "fallback": _fallback,
    "placement_unknown": _placement_unknown,
    "other_threads": _other_threads,
    "untrained": _untrained,
    "few_processes": _few_processes,
    "few_samples": _few_samples,
    "imprecise": _imprecise,
    "not_steady": _not_steady,
    "drift": _drift,
    "disturbed": _disturbed,
    "discarded": _discarded,
    "batched": _batched,
    "accepted_obstacles": _accepted_obstacles,
    "virtual_machine": _virtual_machine,
}


# --- the answer ----------------------------------------------------------------------------------------------------


def _fastest(view: View) -> str:
    real = [device for device in view.devices if not device.is_emulated]
    said = []
    for device in real:
        models = [words for model in device.models if (words := _fastest_of(model))]
        if models:
            rest = len(models) - _MODELS_NAMED
            more = f", and {rest} more in the table" if rest > 0 else ""
            said.append(f"on {clean(device.name)}: {', '.join(models[:_MODELS_NAMED])}{more}")
    return f"Fastest {'; '.join(said)}." if said else ""


def _fastest_of(model: ModelRows) -> str:
    """A model's fastest row, and those that may be as fast: whose intervals overlap with its own."""
    usable = [(row.summary, row) for row in model.rows if row.summary is not None and row.summary.parity_passed]
    if len(usable) < 2:
        return ""
    usable.sort(key=lambda pair: pair[0].p50_ns)
    best, row = usable[0]
    limit = best.p50_high_ns
    if limit is None:
        # Without an interval nobody knows which of two near figures is the faster one.
        tied = ", without an interval: not certain"
    else:
        ties = sum(other.p50_low_ns is None or other.p50_low_ns <= limit for other, _ in usable[1:])
        tied = f", {count(ties, 'other', 'others')} within the intervals" if ties else ""
    which = f"{clean(model.name)} as {row.file}" + ("" if row.threads is None else f" with {threads(row.threads)}")
    return f"{which} ({units.duration(best.p50_ns)}{tied})"


def _completeness(view: View) -> str:
    total = len(view.rows)
    if total == 0:
        return "The plan has no cells."
    statuses = Counter(row.status for row in view.rows)
    parts = []
    if statuses["failed"]:
        kinds = Counter(row.failure.kind for row in view.rows if row.failure)
        named = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        parts.append(f"{statuses['failed']} failed ({clean(named)})")
    if statuses["not_runnable"]:
        parts.append(f"{statuses['not_runnable']} cannot run here")
    if statuses["simulated"]:
        parts.append(f"{statuses['simulated']} simulated, without times")
    if statuses["not_run"]:
        parts.append(f"{statuses['not_run']} {'has' if statuses['not_run'] == 1 else 'have'} not been run yet")
    if not parts:
        return f"All {total} cells were measured." if total > 1 else "The one cell was measured."
    return f"Of {count(total, 'cell', 'cells')}, {', '.join(parts)}."


def _distrust(view: View) -> str:
    counted = Counter(warning.kind for row in view.rows for warning in row.warnings)
    measured = sum(row.status == "measured" for row in view.rows)
    shaky: dict[WarningKind, str] = {
        "emulated": "emulated, so that times mean nothing",
        "wrong_numbers": "with wrong outputs",
        "fallback": "partly not on the accelerator asked for",
        "other_threads": "with another number of threads",
        "few_processes": "without an interval",
        "imprecise": "with a wide interval",
        "not_steady": "not settled",
        "drift": "drifting",
        "disturbed": "disturbed",
        "accepted_obstacles": "taken in spite of an obstacle",
    }
    parts = [f"{_of(counted[kind], measured)} {what}" for kind, what in shaky.items() if counted[kind]]
    careful = f"Read with care: {', '.join(parts)}" if parts else ""
    untrained = sorted({clean(row.cell.model) for row in view.rows for w in row.warnings if w.kind == "untrained"})
    latency_only = ""
    if untrained:
        shown = ", ".join(untrained[:_MODELS_NAMED]) + (" and others" if len(untrained) > _MODELS_NAMED else "")
        latency_only = f"weights of {shown} are untrained (latency only)"
    both = "; ".join(part for part in (careful, latency_only) if part)
    return f"{both[0].upper()}{both[1:]}." if both else ""


def _of(count: int, total: int) -> str:
    return "all" if count == total and total > 1 else str(count)


def _share(facts: Sequence[Facts]) -> str:
    return f"{sum(_numbers(facts, 'processes')):.0f} of {sum(_numbers(facts, 'of')):.0f}"


def _numbers(facts: Sequence[Facts], name: str) -> list[float]:
    return [float(fact[name]) for fact in facts]


def _distinct(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(clean(text) for text in texts))


def _range(low: float, high: float, show: Callable[[float], str]) -> str:
    return show(low) if show(low) == show(high) else f"{show(low)} to {show(high)}"


def _megahertz(hz: float) -> str:
    return f"{hz / 1e6:,.0f} MHz"


def _full_stop(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."
