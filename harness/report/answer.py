"""A run in three sentences made from its figures: what is best, what failed, what not to trust."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from harness import units
from harness.report.accuracy import by_test, ends_pct, error_of, error_pct
from harness.report.pareto import front
from harness.report.view import threads
from harness.summary import WarningKind  # noqa: TC001  (of a constant)
from harness.text import clean, count, few

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.view import DeviceRows, ModelRows, Row, View
    from harness.summary import Summary
_NAMED: Final = 4
"""In one sentence; the table has the rest."""
_SHAKY: Final[dict[WarningKind, str]] = {
    "emulated": "emulated, so that times mean nothing",
    "wrong_numbers": "with wrong outputs",
    "fallback": "partly not on the accelerator asked for",
    "placement_unknown": "of which nobody knows where on the chip they ran",
    "other_threads": "with another number of threads",
    "crowded": "with more threads than processors",
    "not_fresh": "in processes that had done other jobs before",
    "few_processes": "without an interval",
    "few_samples": "with few samples",
    "imprecise": "with a wide interval",
    "not_steady": "not settled",
    "drift": "drifting",
    "disturbed": "disturbed",
    "discarded": "with discarded processes or blocks",
    "accepted_obstacles": "taken in spite of an obstacle",
    "virtual_machine": "on a machine that is shared with others",
}
"""What is said of rows with a warning. Untrained weights have a sentence of their own; a batch's mean and a missing
profile are no reasons for distrust."""


def answer(view: View) -> tuple[str, ...]:
    """The run in one to three sentences: what is fastest, what failed, what not to trust."""
    sentences = (_best(view), _completeness(view), distrust(view))
    return tuple(sentence for sentence in sentences if sentence)


def _best(view: View) -> str:
    real = [device for device in view.devices if not device.is_emulated]
    said = [part for part in (_fastest(real), _trade_off(real) or _smaller_or_faster(real)) if part]
    both = "; ".join(said)
    return f"{both[0].upper()}{both[1:]}." if both else ""


def _fastest(real: Sequence[DeviceRows]) -> str:
    """The fastest file of each model, the fastest model first; where no model has two files, the p50 of each."""
    usable = {device.id: [found for model in device.models if (found := _usable(model))] for device in real}
    word = "fastest" if any(len(found) > 1 for models in usable.values() for found in models) else "p50"
    said = []
    for device in real:
        models = [words for _, words in sorted(map(_fastest_of, usable[device.id]))]
        if models:
            rest = len(models) - _NAMED
            more = f", and {rest} more in the table" if rest > 0 else ""
            said.append(f"on {clean(device.name)}: {', '.join(models[:_NAMED])}{more}")
    return f"{word} {'; '.join(said)}" if said else ""


def _usable(model: ModelRows) -> list[tuple[Summary, Row]]:
    """The rows of a model that computed the right thing, the fastest first."""
    found = [(row.summary, row) for row in model.rows if row.summary is not None and row.summary.parity_passed]
    return sorted(found, key=lambda pair: pair[0].p50_ns)


def _fastest_of(usable: Sequence[tuple[Summary, Row]]) -> tuple[float, str]:
    """A model's fastest row, and those that may be as fast: whose intervals overlap with its own."""
    best, row = usable[0]
    limit = best.p50_high_ns
    if limit is None:
        # Without an interval nobody knows which of two near figures is the faster one.
        tied = ", without an interval: not certain"
    else:
        ties = sum(other.p50_low_ns is None or other.p50_low_ns <= limit for other, _ in usable[1:])
        tied = f", {count(ties, 'other', 'others')} within the intervals" if ties else ""
    threaded = "" if row.threads is None else f" with {threads(row.threads)}"
    said = f"{clean(row.cell.model)} as {row.file}{threaded}"
    return best.p50_ns, f"{said} ({units.duration(best.p50_ns)}{tied})"


def _trade_off(real: Sequence[DeviceRows]) -> str:
    """The rows that no other row beats in both error and latency, where errors of trained weights are known.

    Of each its error with the interval; errors on images that a program drew are said to be that.
    """
    said = []
    for device in real:
        trained = [row for model in device.models if not model.is_untrained for row in model.rows]
        right = [row for row in trained if row.summary is not None and row.summary.parity_passed]
        for test, rows in by_test(right).items():
            points = {row.cell.id: _point(row) for row in rows}
            best = front(list(points.values()))
            named = [
                f"{clean(row.cell.model)} {row.name} ({_error(row)}, {units.duration(points[row.cell.id][0])})"
                for row in sorted(rows, key=lambda row: points[row.cell.id])
                if points[row.cell.id] in best
            ]
            if len(rows) > 1:
                drawn = " on synthetic images" if test.is_synthetic else ""
                where = f"{test.metric}{drawn} against latency on {clean(device.name)}"
                said.append(f"{where}: {few(named, _NAMED)}")
    return f"best trade-off of {'; '.join(said)}" if said else ""


def _smaller_or_faster(real: Sequence[DeviceRows]) -> str:
    """Where no errors are known: the rows that no other row beats in both size and latency."""
    said = []
    for device in real:
        usable = [pair for model in device.models for pair in _usable(model)]
        points = [((float(s.size_bytes), s.p50_ns), row) for s, row in usable if s.size_bytes is not None]
        best = front([point for point, _ in points])
        named = [
            f"{clean(row.cell.model)} {row.name} ({units.mebibytes_said(size)}, {units.duration(p50)})"
            for (size, p50), row in sorted(points, key=lambda pair: pair[0])
            if (size, p50) in best
        ]
        if len({size for (size, _), _ in points}) > 1:
            said.append(f"on {clean(device.name)}: {few(named, _NAMED)}")
    return f"best trade-off of size against latency {'; '.join(said)}, as no errors are known" if said else ""


def _error(row: Row) -> str:
    """`5.00 %, 4.00 to 6.00`: an error without its interval claims more than was found."""
    ends = ends_pct(row)
    return f"{error_pct(row)} %" + (f", {ends}" if ends else ", no interval")


def _point(row: Row) -> tuple[float, float]:
    error = error_of(row.accuracy)
    assert row.summary is not None
    assert error is not None
    return row.summary.p50_ns, error.estimate.value


def _completeness(view: View) -> str:
    total = len(view.rows)
    if total == 0:
        return "The plan has no cells."
    statuses = Counter(row.status for row in view.rows)
    parts = []
    if statuses["failed"]:
        kinds = Counter(row.failure.kind for row in view.rows if row.failure)
        named = ", ".join(f"{number} {kind.replace('_', ' ')}" for kind, number in kinds.most_common())
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


def distrust(view: View) -> str:
    """What not to trust, of how many rows, in a sentence; empty where there is nothing."""
    counted = Counter(warning.kind for row in view.rows for warning in row.warnings)
    measured = sum(row.status == "measured" for row in view.rows)
    parts = [f"{_of(counted[kind], measured)} {what}" for kind, what in _SHAKY.items() if counted[kind]]
    careful = f"Read with care: {', '.join(parts)}" if parts else ""
    untrained = sorted({clean(row.cell.model) for row in view.rows for w in row.warnings if w.kind == "untrained"})
    latency_only = ""
    if untrained:
        shown = ", ".join(untrained[:_NAMED]) + (" and others" if len(untrained) > _NAMED else "")
        latency_only = f"weights of {shown} are untrained (latency only)"
    both = "; ".join(part for part in (careful, latency_only) if part)
    return f"{both[0].upper()}{both[1:]}." if both else ""


def _of(count: int, total: int) -> str:
    return "all" if count == total and total > 1 else str(count)
