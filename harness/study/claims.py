"""The paper's two claims, answered from the figures as they fell.

Which networks are compared is chosen on validation subjects; how they compare is told from others, on whom nothing was
trained or chosen. Two networks are tested on the same subjects, so that their difference is taken draw by draw of
the bootstrap: the intervals of the two by themselves are wider, and may overlap where the difference is plain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import units
from harness.evaluate.rates import estimate
from harness.study.words import apart, capital, file_of, name_of, places, points, share, share_interval, timing_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.records import Estimate
    from harness.study.rows import StudyRow, Timing
    from harness.study.variants import Kind

    Redrawn = Mapping[str, Sequence[float]]

PAPER = "Almadan and Rattani 2021, arXiv 2110.04953"
HOW_CHOSEN = (
    "Networks are chosen on validation subjects and compared on others. A difference has the 95 % interval that "
    "drawing the same subjects again for both gives, each difference by itself."
)
_WHICH = "**Which pruning wins?**"
_PAPERS_METHOD, _PAPERS_RATIO = "layer-magnitude", 8.0


def claims(rows: Sequence[StudyRow], redrawn: Redrawn) -> tuple[str, ...]:
    """The two claims, in sentences.

    Args:
        rows: The study's figures.
        redrawn: EERs of each network where the subjects were drawn again, by variant; see `rows.redrawn_of`.
    """
    networks = _networks(rows)
    return (
        _which_pruning_wins(networks, redrawn),
        *_distillation_against_pruning(networks, redrawn),
        *_what_the_teacher_adds(networks, redrawn),
        *_in_time(rows, networks),
    )


def answer(rows: Sequence[StudyRow], redrawn: Redrawn) -> str:
    """The first claim in a sentence, where the study has the paper's ratio; all that is known of it where it has not.

    Args:
        rows: See `claims`.
        redrawn: Likewise.
    """
    networks = _networks(rows)
    for ratio, best, others in _pruned(networks):
        if ratio == _PAPERS_RATIO and others:
            return f"{_WHICH}{_verdict(best, others, redrawn)}"
    return _which_pruning_wins(networks, redrawn)


def in_short(rows: Sequence[StudyRow], redrawn: Redrawn) -> tuple[str, ...]:
    """Either claim in a sentence, for whoever reads no more; every figure is in `claims`.

    Args:
        rows: See `claims`.
        redrawn: Likewise.
    """
    networks = _networks(rows)
    student, other = _chosen(networks, "student"), _chosen(networks, "pruned", "structured")
    if student is None or other is None:
        return (answer(rows, redrawn), *_distillation_against_pruning(networks, redrawn))
    found = difference(student, other, redrawn)
    errs = {-1: "errs less than", 1: "errs more than", 0: "is not shown to err less or more than"}[_sign(found)]
    times = [
        f"on {place[0]} with {place[1]} {_faster(one, two)}"
        for place in places(rows)
        for _, one, two in _same_file(rows, student, other, place)
    ]
    in_time = f"; in time, {', '.join(times)}" if times else ""
    second = (
        f"**Distillation or pruning?** The chosen student, {name_of(student)}, {errs} the chosen pruned network, "
        f"{other.variant} (EER {points(found)} points){in_time}."
    )
    return answer(rows, redrawn), second


def difference(one: StudyRow, other: StudyRow, redrawn: Redrawn) -> Estimate | None:
    """How much more often one network errs than another, with its interval; None where one was not evaluated."""
    if one.eer_before is None or other.eer_before is None:
        return None
    pairs = zip(redrawn.get(one.variant, ()), redrawn.get(other.variant, ()), strict=False)
    return estimate(one.eer_before.value - other.eer_before.value, [a - b for a, b in pairs])


def _which_pruning_wins(networks: Sequence[StudyRow], redrawn: Redrawn) -> str:
    sentences = []
    verdict = ""
    for ratio, best, others in _pruned(networks):
        how = "is chosen" if others else "alone was tried"
        text = f"at {ratio:g}x {best.method} {how}, with an EER of {share_interval(best.eer_before)} %"
        if others:
            text += "; against it " + ", ".join(
                f"{row.method} {_said(difference(row, best, redrawn))}" for row in others
            )
        sentences.append(text)
        if ratio == _PAPERS_RATIO and others:
            verdict = _verdict(best, others, redrawn)
    if not sentences:
        return f"{_WHICH} No pruned network was evaluated."
    return f"{_WHICH} {'. '.join(capital(text) for text in sentences)}.{verdict}"


def _pruned(networks: Sequence[StudyRow]) -> Iterator[tuple[float, StudyRow, list[StudyRow]]]:
    """At each ratio, the least first: the network that is chosen, and the others, the least wrong first."""
    pruned = [row for row in networks if row.kind == "pruned"]
    for ratio in sorted({row.asked_ratio for row in pruned if row.asked_ratio is not None}):
        there = [row for row in pruned if row.asked_ratio == ratio]
        best = min(there, key=_eer_on_validation)
        yield ratio, best, sorted((row for row in there if row is not best), key=_eer)


def _verdict(best: StudyRow, others: Sequence[StudyRow], redrawn: Redrawn) -> str:
    said = " The paper names layerwise magnitude at 8x; "
    papers = next((row for row in others if row.method == _PAPERS_METHOD), None)
    if best.method == _PAPERS_METHOD:
        nearest = difference(others[0], best, redrawn)
        return f"{said}here it is chosen, too" + (
            "." if _sign(nearest) > 0 else f", but {others[0].method} is not shown to be worse."
        )
    if papers is not None and _sign(difference(papers, best, redrawn)) <= 0:
        return f"{said}here it is {best.method}, but layerwise magnitude is not shown to be worse."
    rivals = [row.method for row in others if _sign(difference(row, best, redrawn)) <= 0]
    return f"{said}here it is {best.method}" + (
        f", and {' and '.join(rivals)} is not shown to be worse." if rivals else "."
    )


def _distillation_against_pruning(networks: Sequence[StudyRow], redrawn: Redrawn) -> Iterator[str]:
    student, other = _chosen(networks, "student"), _chosen(networks, "pruned", "structured")
    if student is None or other is None:
        missing = "No student" if student is None else "No network pruned to 8x or more"
        yield f"**Distillation or pruning?** {missing} was evaluated."
        return
    found = difference(student, other, redrawn)
    fell = {-1: "here it is better", 1: "here it is worse", 0: "here no difference is shown"}[_sign(found)]
    yield (
        f"**Distillation or pruning, in error?** The chosen student, {name_of(student)}, has an EER of "
        f"{share_interval(student.eer_before)} %; the network chosen of those pruned to 8x or more, {other.variant}, "
        f"{share_interval(other.eer_before)} %: {_said(found)}. The paper finds distillation better; {fell}."
        + _untold(student, networks)
    )


def _untold(student: StudyRow, networks: Sequence[StudyRow]) -> str:
    """What a comparison of a student with a pruned network cannot tell, where nobody trained it without a teacher."""
    if any(row.kind == "control" and row.network == student.network for row in networks):
        return ""
    return (
        f" How much of it is the teacher's, and how much {student.network}'s own layers and recipe, is not told apart: "
        "it was not trained on labels alone."
    )


def _what_the_teacher_adds(networks: Sequence[StudyRow], redrawn: Redrawn) -> Iterator[str]:
    """A student may be good because its layers are: what came of it without a teacher is the measure."""
    students = {row.network: row for row in networks if row.kind == "student"}
    for control in networks:
        student = students.get(control.network)
        if control.kind == "control" and student is not None:
            yield (
                f"**What does the teacher add?** {control.network}, trained as long on labels alone, has an EER of "
                f"{share_interval(control.eer_before)} %; with the teacher {share(student.eer_before)} %: "
                f"{_said(difference(student, control, redrawn))}."
            )


def _in_time(rows: Sequence[StudyRow], networks: Sequence[StudyRow]) -> Iterator[str]:
    head = "**Distillation or pruning, in time?**"
    lines = [line for place in places(rows) for line in _compared_in_time(rows, networks, place)]
    if lines:
        yield f"{head} The paper finds distillation faster. {'. '.join(capital(line) for line in lines)}."
    elif any(timing.is_emulated for row in rows for timing in row.timings):
        yield f"{head} Only emulated devices were measured, and their times mean nothing."
    else:
        yield f"{head} Nothing was measured yet."


def _compared_in_time(rows: Sequence[StudyRow], networks: Sequence[StudyRow], place: tuple[str, str]) -> Iterator[str]:
    """The two networks that were chosen, in the same kind of file; and the fastest of each way to compress, in each."""
    student, other = _chosen(networks, "student"), _chosen(networks, "pruned", "structured")
    where = f"on {place[0]} with {place[1]}"
    if student is not None and other is not None:
        for file, one, two in _same_file(rows, student, other, place):
            yield (
                f"{where} the chosen student takes {_took(one)} and the chosen pruned network, {other.variant}, "
                f"{_took(two)} (both {file}): {_faster(one, two)}"
            )
    for file in dict.fromkeys(file_of(row) for row in rows if timing_of(row, *place) is not None):
        fastest = list(_fastest(rows, file, place))
        if len(fastest) > 1:
            yield f"the fastest as {file} {where}: {'; '.join(fastest)}"


def _fastest(rows: Sequence[StudyRow], file: str, place: tuple[str, str]) -> Iterator[str]:
    """Of each way to compress, among those of which there is such a file."""
    for name, kind in (("student", "student"), ("with channels taken out", "structured"), ("with zeros", "pruned")):
        timed = [
            (t, row)
            for row in rows
            if row.kind == kind and file_of(row) == file and (t := timing_of(row, *place)) is not None
        ]
        if timed:
            timing, row = min(timed, key=lambda pair: pair[0].p50_ns or 0.0)
            yield f"{name} {name_of(row)} at {_took(timing)}"


def _same_file(
    rows: Sequence[StudyRow], student: StudyRow, other: StudyRow, place: tuple[str, str]
) -> Iterator[tuple[str, Timing, Timing]]:
    """The first kind of file that both were timed in there, with what either took; nothing where there is none."""
    ones, others = _timings(rows, student, place), _timings(rows, other, place)
    file = next((file for file in ones if file in others), None)
    if file is not None:
        yield file, ones[file], others[file]


def _timings(rows: Sequence[StudyRow], network: StudyRow, place: tuple[str, str]) -> dict[str, Timing]:
    """What each file of one network took there."""
    return {
        file_of(row): timing
        for row in rows
        if row.variant == network.variant and (timing := timing_of(row, *place)) is not None
    }


def _chosen(networks: Sequence[StudyRow], *kinds: Kind) -> StudyRow | None:
    """The best on validation subjects; of pruned ones among those of at least the ratio that the paper names."""
    among = [
        row
        for row in networks
        if row.kind in kinds and (row.kind == "student" or (row.asked_ratio or 0) >= _PAPERS_RATIO)
    ]
    return min(among, key=_eer_on_validation, default=None)


def _faster(student: Timing, other: Timing) -> str:
    """What the intervals of two times show."""
    are_apart = apart(student, other)
    if are_apart is None:
        return "too few processes to tell"
    if not are_apart:
        return "no difference is shown"
    assert student.p50_ns is not None
    assert other.p50_ns is not None
    return f"the student is {'faster' if student.p50_ns < other.p50_ns else 'slower'}"


def _took(timing: Timing) -> str:
    assert timing.p50_ns is not None
    said = units.duration(timing.p50_ns)
    if timing.p50_low_ns is None or timing.p50_high_ns is None:
        return f"{said} (no interval: too few processes)"
    return f"{said} ({units.duration(timing.p50_low_ns)} to {units.duration(timing.p50_high_ns)})"


def _said(found: Estimate | None) -> str:
    return f"{points(found)} points" + ("" if _sign(found) else ", no difference shown")


def _sign(found: Estimate | None) -> int:
    """1: errs more, and the interval says so; -1: less; 0: not shown."""
    if found is None or found.low is None or found.high is None:
        return 0
    return (found.low > 0) - (found.high < 0)


def _networks(rows: Sequence[StudyRow]) -> list[StudyRow]:
    """One row for each network that was evaluated."""
    checkpoints: dict[str, StudyRow] = {}
    for row in rows:
        checkpoints.setdefault(row.variant, row)
    return [row for row in checkpoints.values() if row.eer_before is not None and row.eer_validation is not None]


def _eer(row: StudyRow) -> float:
    assert row.eer_before is not None
    return row.eer_before.value


def _eer_on_validation(row: StudyRow) -> float:
    assert row.eer_validation is not None
    return row.eer_validation.value
