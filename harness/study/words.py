"""The study in words: what is under way, and which compression paid off where."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import units
from harness.live import line_for as line_for_run
from harness.records import Failure
from harness.study.events import DataProgress, Evaluated, Stopping, Trained, VariantStarted
from harness.study.folder import FileResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.records import Estimate, Evidence
    from harness.study.events import StudyEvent
    from harness.study.rows import StudyRow, Timing

UNCOMPRESSED = ("fp32", "fp16")
"""Precisions of which the uncompressed file is the measure, the first that a device ran: an iPhone's is fp16."""


def line_for(event: StudyEvent) -> str | None:
    """What a person is told of a step; None where it is not worth a line."""
    match event:
        case DataProgress(done, total):
            # The first at once: large images take minutes before a tenth of them is there.
            is_told = done == 1 or done % max(1, total // 10) == 0
            return f"images: {done} of {total} drawn or read" if is_told else None
        case VariantStarted("train", variant, fold, number, total):
            return f"[{number}/{total}] training {variant.name} (fold {fold})"
        case VariantStarted(_, variant, fold, number, total):
            return f"[{number}/{total}] converting and evaluating {variant.name} (fold {fold})"
        case Trained(variant, epoch):
            rate = f"{epoch.images / epoch.seconds:.0f} images/s"
            where = f"{variant.name}, epoch {epoch.number} of {epoch.epochs}"
            return f"    {where}: loss {epoch.loss:.3f}, {epoch.seconds:.0f} s, {rate}"
        case Evaluated(result):
            file = f"{result.format}/{result.precision}" if isinstance(result, FileResult) else "checkpoint"
            name = f"{result.variant.name} {file}"
            accuracy, problem = result.accuracy, result.problem
            if accuracy is not None and accuracy.verification is not None:
                return f"    {name}: EER {share(accuracy.verification.eer)} %"
            return f"    {name}: {problem.message if isinstance(problem, Failure) else 'not possible here'}"
        case Stopping():
            return "stopping: the files under way are finished first, which may take a minute"
        case _:
            return line_for_run(event)


def share(estimate: Estimate | None, *, digits: int = 2) -> str:
    """Per cent without the sign."""
    return "–" if estimate is None else f"{100 * estimate.value:.{digits}f}"


def share_interval(estimate: Estimate | None) -> str:
    """Per cent, with the interval in brackets where there is one."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return share(estimate)
    return f"{share(estimate)} ({100 * estimate.low:.2f}–{100 * estimate.high:.2f})"


def points(difference: Estimate | None) -> str:
    """A difference of two shares in points of a hundred, with its interval in brackets where there is one."""
    if difference is None:
        return "–"
    said = f"{100 * difference.value:+.2f}"
    if difference.low is None or difference.high is None:
        return said
    return f"{said} ({100 * difference.low:+.2f} to {100 * difference.high:+.2f})"


def what_paid(rows: Sequence[StudyRow]) -> tuple[str, ...]:
    """For each device and runtime: what each compression bought in time, size and error."""
    return tuple(_paid(rows))


def _paid(rows: Sequence[StudyRow]) -> Iterator[str]:
    for device, runtime in places(rows):
        timed = [(row, timing) for row in rows if (timing := timing_of(row, device, runtime)) is not None]
        base = _uncompressed(timed)
        if base is None:
            continue
        lines = []
        for row, timing in timed:
            if row is not base[0]:
                lines.append(_compared(row, timing, base))
        head = f"**{device}, {runtime}** (uncompressed, {file_of(base[0])}: {units.duration(base[1].p50_ns)})"
        said = _same_work(timed, base[0])
        yield f"{head}. {capital(said)}." if said else f"{head}."
        yield "\n".join(f"- {line}" for line in lines)


def same_work(rows: Sequence[StudyRow]) -> tuple[str, ...]:
    """For each device and runtime, how far times of files differ that do the same work."""
    found = []
    for device, runtime in places(rows):
        timed = [(row, timing) for row in rows if (timing := timing_of(row, device, runtime)) is not None]
        base = _uncompressed(timed)
        if base is not None and (said := _same_work(timed, base[0])):
            found.append(f"On {device} with {runtime}, {file_of(base[0])}: {said}.")
    return tuple(found)


def _uncompressed(timed: Sequence[tuple[StudyRow, Timing]]) -> tuple[StudyRow, Timing] | None:
    whole = [pair for pair in timed if pair[0].kind == "teacher" and pair[0].precision in UNCOMPRESSED]
    return min(whole, key=lambda pair: UNCOMPRESSED.index(pair[0].precision or ""), default=None)


def _same_work(timed: Sequence[tuple[StudyRow, Timing]], base: StudyRow) -> str:
    """How far times of files differ that a dense runtime computes alike: less than that is no difference."""
    alike = [
        timing.p50_ns
        for row, timing in timed
        if timing.p50_ns is not None and file_of(row) == file_of(base) and row.kind in {"teacher", "pruned"}
    ]
    if len(alike) < 3:
        return ""
    low, high = units.duration(min(alike)), units.duration(max(alike))
    return (
        f"its work and that of the {len(alike) - 1} files whose zeros a dense runtime computes like any number is the "
        f"same, and took from {low} to {high}: differences within that are the machine's"
    )


def _compared(row: StudyRow, timing: Timing, base: tuple[StudyRow, Timing]) -> str:
    teacher, reference = base
    assert timing.p50_ns is not None
    assert reference.p50_ns is not None
    parts = []
    if teacher.nonzero_parameters and row.nonzero_parameters:
        fewer = teacher.nonzero_parameters / row.nonzero_parameters
        if fewer >= 1.05:
            parts.append(f"{units.three_digits(fewer)}x fewer weights")
    if teacher.deflated_bytes and row.deflated_bytes:
        smaller = teacher.deflated_bytes / row.deflated_bytes
        factor, which = (smaller, "smaller") if smaller >= 1 else (1 / smaller, "larger")
        parts.append(f"{units.three_digits(factor)}x {which} deflated")
    gain = 100 * (1 - timing.p50_ns / reference.p50_ns)
    doubt = {
        True: "",
        False: " (within the intervals: no difference shown)",
        None: " (too few processes for an interval)",
    }
    speed = f"{abs(gain):.1f} % {'faster' if gain >= 0 else 'slower'}"
    # Whether Core ML skips zeros is Apple's affair; the other two compute with them.
    if row.kind == "pruned" and row.format != "coreml" and file_of(row) == file_of(teacher):
        parts.append(f"{speed} (the same work: the machine's)")
    else:
        parts.append(speed + doubt[apart(timing, reference)])
    if row.eer_after is not None and teacher.eer_after is not None:
        points = 100 * (row.eer_after.value - teacher.eer_after.value)
        parts.append(f"EER {points:+.2f} points")
    return f"{name_of(row)} {file_of(row)}: {', '.join(parts)}"


def apart(one: Timing, other: Timing) -> bool | None:
    """Whether the intervals of two times have nothing in common; None where one has none."""
    if None in {one.p50_low_ns, one.p50_high_ns, other.p50_low_ns, other.p50_high_ns}:
        return None
    return one.p50_high_ns < other.p50_low_ns or other.p50_high_ns < one.p50_low_ns  # type: ignore[operator]


def places(rows: Sequence[StudyRow]) -> list[tuple[str, str]]:
    """Devices and runtimes whose times mean something: an emulated device's are compared with nothing."""
    timings = (t for row in rows for t in row.timings if t.p50_ns is not None and not t.is_emulated)
    return list(dict.fromkeys((t.device, t.runtime) for t in timings))


def timing_of(row: StudyRow, device: str, runtime: str) -> Timing | None:
    """What a file took there; None where it was not timed."""
    there = (t for t in row.timings if (t.device, t.runtime) == (device, runtime) and t.p50_ns is not None)
    return next(there, None)


def name_of(row: StudyRow) -> str:
    """A student goes by the name of its network."""
    return row.network if row.kind == "student" else row.variant


def file_of(row: StudyRow) -> str:
    """As `format/precision`; a network of which no file was made is its checkpoint."""
    return f"{row.format}/{row.precision}" if row.format else "checkpoint"


def evidence_of(row: StudyRow, timing: Timing | None = None) -> Evidence | None:
    """How far a Core ML file is proved: where it ran, if it did, and otherwise when it was made."""
    return (timing.evidence if timing else None) or row.evidence


def capital(text: str) -> str:
    """The text as a sentence begins."""
    return text[:1].upper() + text[1:]
