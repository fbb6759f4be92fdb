"""What rows, devices, conditions and failures are called: records hold facts, and here is what a reader is told."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from harness import units
from harness.report.accuracy import by_test
from harness.report.view import threads
from harness.text import clean, count, few

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness.records import DeviceFacts, DeviceState, Evidence, Plan
    from harness.report.accuracy import Test
    from harness.report.view import DeviceRows, ModelRows, Row, View
    from harness.summary import Summary

STATUS = {
    "measured": "measured",
    "failed": "failed",
    "not_runnable": "cannot run here",
    "not_run": "not run yet",
    "simulated": "simulated",
}
EVIDENCE: Mapping[Evidence, str] = {
    "converted": "the file was read back, its names, types and weights in order; that it computes the right thing is "
    "not proved",
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
_NAMED: Final = 6
"""Of models, devices or runtimes on one line."""


def reasons(rows: Sequence[Row]) -> dict[str, tuple[Row, ...]]:
    """Why rows have no figure -> the rows it is true of; rows that were not tried yet are left out."""
    alike: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.status in {"failed", "not_runnable", "simulated"} or (row.status == "not_run" and row.result):
            alike[problem(row)].append(row)
    return {why: tuple(several) for why, several in alike.items()}


def status(row: Row, see: str = "") -> str:
    """What stands in place of figures: `cannot run here · graph-checked · 2.44 MiB · parity 6.0e-04`.

    Args:
        row: One without figures.
        see: Where its reason stands; said with what the reason is of.
    """
    artifact = row.result.artifact if row.result else None
    if row.evidence is None or artifact is None:
        return f"{STATUS[row.status]}{see}"
    parity = parity_of(row)
    parts = [] if row.status == "simulated" else [f"{STATUS[row.status]}{see}"]
    parts += [
        f"{row.evidence}{see if row.status == 'simulated' else ''}",
        units.mebibytes_said(artifact.size_bytes),
    ]
    if parity is not None:
        parts.append(f"parity {scientific(parity)}")
    return " · ".join(parts)


def parity_of(row: Row) -> float | None:
    """How far the worst output of a row's file is from the checkpoint's, when it was made; None where nobody knows."""
    artifact = row.result.artifact if row.result else None
    if artifact is None or (artifact.precision == "source" and row.evidence == "converted"):
        return None  # beside itself a file is 0 off
    return artifact.parity.relative_l2


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


def problem(row: Row) -> str:
    """Why a row has no figure, on one line: what happened, where, what to do."""
    failure = row.failure
    if failure is None:
        return clean(row.reason)
    hint = f" {clean(failure.hint)}" if failure.hint else ""
    log = f", log: {clean(failure.log)}" if failure.log and failure.log not in failure.hint else ""
    return f"{full_stop(clean(failure.message))}{hint} ({failure.stage}, {clean(failure.kind)}{log})"


def heading(plan: Plan) -> str:
    """What, when, by which build: `quick · 2026-11-23 08:15 UTC · harness 0.1.0 from commit 53f1154`."""
    commit = f" from commit {units.short_hash(clean(plan.harness_commit))}" if plan.harness_commit else ""
    return " · ".join((clean(plan.suite), moment(plan.created_at), f"harness {clean(plan.harness_version)}{commit}"))


def subject(shown: View) -> str:
    """What was measured, where and by which runtimes, on one line; the tables have those that find no room in it."""
    models = few([clean(model.name) for model in shown.plan.models], _NAMED)
    return " · ".join(part for part in (models, where(shown)) if part)


def where(shown: View) -> str:
    """`on bench-01 (AMD EPYC 7763, Debian GNU/Linux 13) · onnxruntime 1.27.0, litert 2.1.0`."""
    devices = few([_machine(device) for device in shown.devices], _NAMED)
    runtimes = few(_runtimes(shown.rows), _NAMED)
    return " · ".join(part for part in (f"on {devices}" if devices else "", runtimes) if part)


def _machine(device: DeviceRows) -> str:
    """`bench-01 (AMD EPYC 7763, Debian GNU/Linux 13)`."""
    known = [clean(part) for part in (device.facts.cpu, device.facts.os) if part] if device.facts else []
    return f"{clean(device.name)} ({', '.join(known)})" if known else clean(device.name)


def _runtimes(rows: Sequence[Row]) -> list[str]:
    """`onnxruntime 1.27.0`, as each said of itself; as it was asked for where none of its rows has a figure."""
    versions: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        versions[row.cell.choice.runtime] += [row.measured.ran.version] if row.measured else []
    asked = {row.cell.choice.runtime: row.cell.choice.title for row in rows}
    return [
        clean(f"{name} {' and '.join(dict.fromkeys(seen))}" if seen else f"{asked[name]} (no figure)")
        for name, seen in versions.items()
    ]


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
    known = (device.name if with_name else None, facts.device_class, facts.cpu, cores, facts.os, machine)
    return " · ".join(clean(part) for part in known if part)


def device_facts(facts: DeviceFacts) -> dict[str, str]:
    """What a device is, name by name; unknown ones are left out."""
    memory = None if facts.memory_bytes is None else units.mebibytes_said(facts.memory_bytes)
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
        ("Free memory", lambda state: state.free_memory_bytes, units.mebibytes_said),
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


def device_conditions(device: DeviceRows) -> dict[str, str]:
    """What a device was like while its rows were measured, and how that was done."""
    measured = [row.measured for row in device.rows if row.measured]
    sources = [row.summary.memory_source for row in device.rows if row.summary and row.summary.memory_source]
    return {
        **conditions([state for each in measured for state in (each.state_before, each.state_after)]),
        "Obstacles accepted": _listed((name for each in measured for name in each.accepted_obstacles), "none"),
        "Runtimes": _listed((f"{each.ran.runtime} {each.ran.version} ({each.ran.api})" for each in measured), "none"),
        "Timed by": _listed((each.ran.driver for each in measured), "nothing"),
        "Memory read from": _listed(sources, "nothing"),
        "Model file before loading": _listed((f"page cache {each.page_cache}" for each in measured), "unknown"),
    }


def _listed(said: Iterable[str], none: str) -> str:
    return clean(", ".join(sorted(set(said)))) or none


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


def first_of(shown: int, total: int) -> str:
    """What to say where there is room for the first of several rows only; nothing where all are there."""
    return f" The first {shown} rows of {total}; `harness report --to json` has all." if total > shown else ""


def distinct(texts: Iterable[str]) -> str:
    """Each of them once, in the order they came: `a, b`."""
    return ", ".join(dict.fromkeys(clean(text) for text in texts))


def full_stop(sentence: str) -> str:
    """A sentence that ends as one."""
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."


def _tested(rows: Sequence[Row]) -> str:
    """` (30 subjects, 600 images); computed by onnxruntime 1.27`."""
    known = [row.accuracy for row in rows if row.accuracy is not None]
    sizes = {(each.subjects, each.images) for each in known}
    counts = distinct(
        f"{count(subjects, 'subject', 'subjects')}, {count(images, 'image', 'images')}"
        for subjects, images in sorted(sizes)
    )
    return f" ({counts}); computed by {distinct(clean(each.executed_by) for each in known)}"


def _whose(rows: Sequence[Row], tests: Mapping[Test, object]) -> str:
    return f": {row_names(rows)}" if len(tests) > 1 else ""


def _range(low: float, high: float, show: Callable[[float], str]) -> str:
    return show(low) if show(low) == show(high) else f"{show(low)} to {show(high)}"


def _megahertz(hz: float) -> str:
    return f"{hz / 1e6:,.0f} MHz"
