"""Warnings in words: what is the matter with which rows, and what to do about it."""

from __future__ import annotations

import string
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from harness.report.words import distinct, full_stop, scientific
from harness.text import count

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from harness.records import Setting
    from harness.report.view import Row
    from harness.summary import WarningKind

Facts = dict[str, "Setting"]


class Note(NamedTuple):
    """A warning in words, and the rows it is about."""

    what: str
    advice: str
    rows: tuple[Row, ...]


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


# --- facts of all rows concerned -> what is the matter, what to do ----------------------------------------------------


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


def _unit(fact: Facts) -> str:
    """What was asked for. Core ML's `all` reads as the word that it is."""
    return "any compute unit but the CPU" if fact["asked"] == "all" else str(fact["asked"])


def _fallback(facts: Sequence[Facts]) -> tuple[str, str]:
    shares = distinct(
        f"{fact.get('delegated', '?')} of {fact.get('total', '?')} nodes on {_unit(fact)}" for fact in facts
    )
    reasons = distinct(str(fact["reason"]) for fact in facts if "reason" in fact)
    because = f" Reason: {full_stop(reasons)}" if reasons else ""
    return (
        f"Not all of the model ran where it was asked to: {shares}.{because}",
        "`--require-accelerator` makes this an error.",
    )


def _placement_unknown(facts: Sequence[Facts]) -> tuple[str, str]:
    asked, reasons = (distinct(str(fact[key]) for fact in facts) for key in ("asked", "reason"))
    return (
        f"Nobody knows which part of the model ran where ({asked} was asked for). Reason: {full_stop(reasons)}",
        "Take these for times of the device, not of one of its units.",
    )


def _other_threads(facts: Sequence[Facts]) -> tuple[str, str]:
    pairs = distinct(f"{fact['ran']} ran where {fact['asked']} were asked for" for fact in facts)
    return (f"The number of threads is another: {pairs}.", "Do not read this as scaling with threads.")


def _crowded(facts: Sequence[Facts]) -> tuple[str, str]:
    pairs = distinct(
        f"{fact['threads']} threads on {count(int(fact['cores']), 'processor', 'processors')}" for fact in facts
    )
    return (
        f"More threads than processors: {pairs}.",
        "They wait for each other; such times say little of the model, and vary.",
    )


def _untrained(_: Sequence[Facts]) -> tuple[str, str]:
    return (
        "Latency only: the weights are untrained.",
        "Times and sizes hold for trained weights as well; an accuracy would mean nothing.",
    )


def _not_fresh(facts: Sequence[Facts]) -> tuple[str, str]:
    return (
        f"Not fresh: {_share(facts)} processes had done other jobs before, since somebody opened the app by hand.",
        "Their cold start is none. Where this program can start the app itself, each job gets a process of its own.",
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


def _unprofiled(facts: Sequence[Facts]) -> tuple[str, str]:
    reasons = distinct(str(fact["reason"]) for fact in facts)
    return (
        f"How long each operator takes is not known. Reason: {full_stop(reasons)}",
        "The other figures do not depend on it.",
    )


def _accepted_obstacles(facts: Sequence[Facts]) -> tuple[str, str]:
    names = distinct(str(fact["names"]) for fact in facts)
    return (f"Measured although something stood in the way: {names}.", "It was accepted by name when the run began.")


def _virtual_machine(facts: Sequence[Facts]) -> tuple[str, str]:
    names = distinct(str(fact["name"]) for fact in facts)
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
    "crowded": _crowded,
    "untrained": _untrained,
    "not_fresh": _not_fresh,
    "few_processes": _few_processes,
    "few_samples": _few_samples,
    "imprecise": _imprecise,
    "not_steady": _not_steady,
    "drift": _drift,
    "disturbed": _disturbed,
    "discarded": _discarded,
    "batched": _batched,
    "unprofiled": _unprofiled,
    "accepted_obstacles": _accepted_obstacles,
    "virtual_machine": _virtual_machine,
}


def _share(facts: Sequence[Facts]) -> str:
    return f"{sum(_numbers(facts, 'processes')):.0f} of {sum(_numbers(facts, 'of')):.0f}"


def _numbers(facts: Sequence[Facts], name: str) -> list[float]:
    return [float(fact[name]) for fact in facts]
