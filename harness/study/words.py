"""The study in sentences: what is under way, which compression paid off where, and what becomes of the two claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import units
from harness.live import line_for as line_for_run
from harness.records import Failure
from harness.study.events import DataProgress, Evaluated, Stopping, Trained, VariantStarted
from harness.study.folder import FileResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.records import Estimate
    from harness.study.events import StudyEvent
    from harness.study.rows import StudyRow, Timing

PAPER = "Almadan and Rattani 2021, arXiv 2110.04953"
_UNSTRUCTURED = "pruned"


def line_for(event: StudyEvent) -> str | None:
    """What a person is told of a step; None where it is not worth a line."""
    match event:
        case DataProgress(done, total):
            return f"images: {done} of {total} drawn or read" if done % max(1, total // 10) == 0 else None
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


def claims(rows: Sequence[StudyRow]) -> tuple[str, ...]:
    """The paper's two claims, answered from the figures as they fell."""
    return (_which_pruning_wins(rows), *_distillation_against_pruning(rows))


def what_paid(rows: Sequence[StudyRow]) -> tuple[str, ...]:
    """For each device and runtime: what each compression bought in time, size and error."""
    return tuple(_paid(rows))


def _which_pruning_wins(rows: Sequence[StudyRow]) -> str:
    pruned = [row for row in _networks(rows) if row.kind == _UNSTRUCTURED and row.eer_before is not None]
    if not pruned:
        return "**Which pruning wins?** No pruned network was evaluated."
    sentences = []
    for ratio in sorted({row.asked_ratio for row in pruned if row.asked_ratio is not None}):
        there = sorted((row for row in pruned if row.asked_ratio == ratio), key=_eer)
        best, others = there[0], there[1:]
        text = f"at {ratio:g}x {best.method} with an EER of {share_interval(best.eer_before)} %"
        if others:
            text += " before " + ", ".join(f"{row.method} {share(row.eer_before)}" for row in others)
            if _overlap(best.eer_before, others[0].eer_before):
                text += " (the first two within each other's intervals)"
        sentences.append(text)
    at_8 = [row for row in pruned if row.asked_ratio == 8]
    verdict = ""
    if len({row.method for row in at_8}) > 1:
        best = min(at_8, key=_eer)
        agrees = best.method == "layer-magnitude"
        verdict = " The paper names layerwise magnitude at 8x; " + (
            "so do these figures." if agrees else f"here it is {best.method}."
        )
    return f"**Which pruning wins?** {_capital('; '.join(sentences))}.{verdict}"


def _distillation_against_pruning(rows: Sequence[StudyRow]) -> Iterator[str]:
    networks = [row for row in _networks(rows) if row.eer_before is not None]
    students = sorted((row for row in networks if row.kind == "student"), key=_eer)
    pruned = sorted((row for row in networks if row.kind == _UNSTRUCTURED and (row.asked_ratio or 0) >= 8), key=_eer)
    if not students or not pruned:
        yield "**Distillation or pruning?** No student, or no network pruned to 8x or more, was evaluated."
        return
    student, other = students[0], pruned[0]
    better = _eer(student) < _eer(other)
    unsure = _overlap(student.eer_before, other.eer_before)
    yield (
        f"**Distillation or pruning, in error?** The best student, {_name(student)}, has an EER of "
        f"{share_interval(student.eer_before)} %; the best network pruned to 8x or more, {other.variant}, "
        f"{share_interval(other.eer_before)} %. The paper finds distillation better; here it is "
        + ("better" if better else "worse")
        + (", but the intervals overlap." if unsure else ".")
    )
    lines = []
    for device, runtime in _places(rows):
        fast = _fastest(rows, "student", device, runtime)
        slow = _fastest(rows, _UNSTRUCTURED, device, runtime)
        if fast and slow:
            (one, one_ns), (two, two_ns) = fast, slow
            lines.append(
                f"on {device} with {runtime} the fastest student, {_name(one)} ({_file(one)}), takes "
                f"{units.duration(one_ns)} and the fastest pruned network, {two.variant} ({_file(two)}), "
                f"{units.duration(two_ns)}"
            )
    if lines:
        yield f"**Distillation or pruning, in time?** {_capital('; '.join(lines))}."
    elif any(timing.is_emulated for row in rows for timing in row.timings):
        yield "**Distillation or pruning, in time?** Only emulated devices were measured, and their times mean nothing."
    else:
        yield "**Distillation or pruning, in time?** Nothing was measured yet."


def _paid(rows: Sequence[StudyRow]) -> Iterator[str]:
    for device, runtime in _places(rows):
        timed = [(row, timing) for row in rows if (timing := _timing(row, device, runtime)) is not None]
        base = next(((r, t) for r, t in timed if r.kind == "teacher" and r.precision == "fp32"), None)
        if base is None:
            continue
        lines = []
        for row, timing in timed:
            if row is not base[0]:
                lines.append(_compared(row, timing, base))
        yield f"**{device}, {runtime}** (uncompressed: {units.duration(base[1].p50_ns)})"
        yield "\n".join(f"- {line}" for line in lines)


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
        parts.append(f"{units.three_digits(teacher.deflated_bytes / row.deflated_bytes)}x smaller deflated")
    gain = 100 * (1 - timing.p50_ns / reference.p50_ns)
    doubt = {
        True: "",
        False: " (within the intervals: no difference shown)",
        None: " (too few processes for an interval)",
    }
    speed = f"{abs(gain):.1f} % {'faster' if gain >= 0 else 'slower'}"
    parts.append(speed + doubt[_apart(timing, reference)])
    if row.eer_after is not None and teacher.eer_after is not None:
        points = 100 * (row.eer_after.value - teacher.eer_after.value)
        parts.append(f"EER {points:+.2f} points")
    return f"{_name(row)} {_file(row)}: {', '.join(parts)}"


def _apart(one: Timing, other: Timing) -> bool | None:
    """Whether the intervals of two times have nothing in common; None where one has none."""
    if None in {one.p50_low_ns, one.p50_high_ns, other.p50_low_ns, other.p50_high_ns}:
        return None
    return one.p50_high_ns < other.p50_low_ns or other.p50_high_ns < one.p50_low_ns  # type: ignore[operator]


def _overlap(one: Estimate | None, other: Estimate | None) -> bool:
    if one is None or other is None or None in {one.low, one.high, other.low, other.high}:
        return True
    return one.low <= other.high and other.low <= one.high  # type: ignore[operator]


def _networks(rows: Sequence[StudyRow]) -> list[StudyRow]:
    """One row a network."""
    return list({row.variant: row for row in reversed(rows)}.values())[::-1]


def _places(rows: Sequence[StudyRow]) -> list[tuple[str, str]]:
    """Where times were measured that mean something: an emulated device's are compared with nothing."""
    timings = (t for row in rows for t in row.timings if t.p50_ns is not None and not t.is_emulated)
    return list(dict.fromkeys((t.device, t.runtime) for t in timings))


def _timing(row: StudyRow, device: str, runtime: str) -> Timing | None:
    there = (t for t in row.timings if (t.device, t.runtime) == (device, runtime) and t.p50_ns is not None)
    return next(there, None)


def _fastest(rows: Sequence[StudyRow], kind: str, device: str, runtime: str) -> tuple[StudyRow, float] | None:
    timed = [
        (row, timing.p50_ns)
        for row in rows
        if row.kind == kind and (timing := _timing(row, device, runtime)) is not None and timing.p50_ns is not None
    ]
    by_time: Callable[[tuple[StudyRow, float]], float] = lambda pair: pair[1]  # noqa: E731
    return min(timed, key=by_time, default=None)


def _eer(row: StudyRow) -> float:
    assert row.eer_before is not None
    return row.eer_before.value


def _name(row: StudyRow) -> str:
    return row.network if row.kind == "student" else row.variant


def _file(row: StudyRow) -> str:
    return f"{row.format}/{row.precision}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
