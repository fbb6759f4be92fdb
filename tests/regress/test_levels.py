"""What each side of a comparison takes by itself."""

from __future__ import annotations

import msgspec
import pytest

from harness.regress.levels import Level, levels, levels_of_runs
from harness.summary import summarise
from tests.fakes import records, trials

MIB = 2**20


def test_each_side_is_the_median_of_the_trials_that_count() -> None:
    loud = trials.trial(9.0)
    discarded = msgspec.structs.replace(loud, b=(msgspec.structs.replace(loud.b[0], discarded="steal"),))
    several = [trials.trial(ratio, memory_ratio=1.5) for ratio in (1.0, 1.2, 1.4)]

    found = levels(trials.comparison([*several, discarded], a_mib=10.0, b_mib=20.0))

    assert found["p50"].a == pytest.approx(10e6, rel=1e-4)
    assert found["p50"].b == pytest.approx(12e6, rel=1e-4)
    assert found["p90"].b == pytest.approx(12e6, rel=1e-4)
    assert found["cold_start"].a == pytest.approx(42e6 + 30e6, rel=1e-4), "load and first inference"
    assert found["memory"] == Level(a=100 * MIB, b=150 * MIB)
    assert found["size"] == Level(a=10 * MIB, b=20 * MIB)


def test_what_was_not_measured_has_no_level() -> None:
    assert set(levels(trials.comparison([trials.trial(1.0)]))) == {"p50", "p90", "cold_start", "size"}


def test_of_stored_runs_they_are_the_figures_of_their_reports() -> None:
    a, b = records.result(p50_ms=10.0), records.result(p50_ms=12.0)
    before, after = summarise(a), summarise(b)
    assert before is not None
    assert after is not None

    found = levels_of_runs(a, b)

    assert found["p50"] == Level(a=before.p50_ns, b=after.p50_ns)
    assert found["memory"] == Level(a=92 * MIB, b=92 * MIB)
    assert levels_of_runs(a, records.result(outcome=records.failure())) == {}
