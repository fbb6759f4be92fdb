"""Trials as they would be stored, with a ratio that is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.records import ComparedSide, ComparePlan, Comparison, Trial
from tests.fakes import records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.records import ProcessRecord

MS = 1_000_000


def process(ms: float, *, blocks: int = 16, index: int = 0) -> ProcessRecord:
    """A process of which every inference took about so long."""
    return records.process([[int(ms * MS) + step for step in (0, 100, 200)]] * blocks, index=index)


def trial(ratio: float, *, index: int = 0, memory_ratio: float | None = None) -> Trial:
    """A trial in which B took `ratio` times as long as A."""
    mib = 100 * 2**20
    has_memory = memory_ratio is not None
    return Trial(
        index=index,
        how="alive together",
        order="ABBA" * 8,
        a=(process(10, index=index),),
        b=(process(10 * ratio, index=index),),
        a_memory=records.memory(peak_bytes=mib) if has_memory else None,
        b_memory=records.memory(peak_bytes=int(mib * (memory_ratio or 1))) if has_memory else None,
    )


def comparison(trials: Sequence[Trial], *, a_mib: float = 10.0, b_mib: float = 10.0) -> Comparison:
    """A comparison of these trials."""
    one = records.measurement()
    sides = [
        ComparedSide(said=said, artifact=records.artifact(size_mib=mib), choice=records.cell().choice, ran=one.ran)
        for said, mib in (("old.onnx", a_mib), ("new.onnx", b_mib))
    ]
    return Comparison(
        schema=1,
        at="2026-11-23T08:15:00+00:00",
        device=records.device(),
        a=sides[0],
        b=sides[1],
        plan=ComparePlan(trials=max(1, len(trials))),
        state_before=records.state(),
        state_after=records.state(),
        trials=tuple(trials),
    )
