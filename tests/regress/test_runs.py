"""Two stored runs: refused where they are unlike, compared where they are alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np
import pytest
from scipy import stats

from harness.regress.effect import two_samples
from harness.regress.runs import CellComparison, compare_runs, refused_keys
from harness.regress.words import cell_verdict
from tests.fakes import records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.records import CellResult
    from harness.store import StoredRun


def compared(a: CellResult, b: CellResult, *, accept: tuple[str, ...] = (), **b_run: Any) -> CellComparison:
    """The only pair of two runs of one cell each."""
    before, after = records.run([a]), records.run([b], **b_run)
    (found,) = compare_runs(cast("StoredRun", before), cast("StoredRun", after), accept=accept)
    return found


def test_a_run_agrees_with_itself() -> None:
    found = compared(records.result(), records.result())

    assert {finding.verdict for finding in found.findings} == {"pass"}


def test_a_slower_run_is_a_regression() -> None:
    found = compared(records.result(p50_ms=10), records.result(p50_ms=11))

    p50 = found.findings[0]
    assert p50.verdict == "regression"
    assert p50.effect is not None
    assert p50.effect.ratio == pytest.approx(1.1, abs=0.01)


def with_canaries(p50_ms: float, canaries_ms: Sequence[float]) -> CellResult:
    """A cell of as many processes, beside each of which the fixed piece of work took so long."""
    base = records.calm_processes(p50_ms=p50_ms)
    return records.result(
        processes=[
            msgspec.structs.replace(
                base[number % len(base)],
                index=number,
                canary_before_ns=int(canary * 1e6 * (1 + 0.001 * (number % 3))),
                canary_after_ns=int(canary * 1e6),
            )
            for number, canary in enumerate(canaries_ms)
        ]
    )


def test_a_slowdown_that_the_fixed_piece_of_work_had_as_well_is_the_devices() -> None:
    found = compared(with_canaries(10, [20] * 5), with_canaries(11, [22] * 5))

    assert found.findings[0].verdict == "inconclusive"
    assert found.canary == pytest.approx(1.1, abs=0.001)


def test_one_disturbed_canary_excuses_no_slowdown() -> None:
    found = compared(with_canaries(10, [20] * 10), with_canaries(11, [20] * 9 + [60]))

    assert found.findings[0].verdict == "regression"
    assert found.canary == pytest.approx(1.0, abs=0.001)


@pytest.mark.parametrize("now_ms", [10.0, 9.0])
def test_a_build_that_a_faster_device_made_look_well_is_not_passed(now_ms: float) -> None:
    found = compared(with_canaries(10, [20] * 5), with_canaries(now_ms, [18] * 5))

    assert found.findings[0].verdict == "inconclusive"


def test_the_interval_of_the_canary_is_that_of_yuens_test() -> None:
    a, b = [20.0, 21.0, 20.5, 19.0, 60.0, 20.2], [18.0, 18.1, 17.0, 18.4, 18.2]

    found = two_samples(a, b, trim=0.2)

    slow = stats.ttest_ind(np.log(b), np.log(a), equal_var=False, trim=0.2)
    reach = abs(found.log_ratio / slow.statistic) * stats.t.ppf((1 + found.confidence) / 2, slow.df)
    assert (found.low, found.high) == pytest.approx((found.log_ratio - reach, found.log_ratio + reach))


def test_a_canary_that_is_uncertain_takes_no_pass_away() -> None:
    found = compared(with_canaries(10, [20, 30, 18, 25, 19]), with_canaries(10, [18, 26, 17, 22, 18]))

    assert found.findings[0].verdict == "pass"


@pytest.mark.parametrize(
    ("key", "changed"),
    [
        ("threads", {"threads": 2}),
        ("accelerator", {"accelerator": "xnnpack"}),
        ("power-mode", {"measured": {"state_before": records.state(power_mode="low")}}),
        ("power-mode", {"measured": {"state_before": records.state(governor="powersave")}}),
        ("memory-source", {"measured": {"memory": (records.memory(source="PSS"),)}}),
        ("page-cache", {"measured": {"page_cache": "cold"}}),
    ],
)
def test_cells_that_are_unlike_are_refused_with_both_values(key: str, changed: dict[str, Any]) -> None:
    found = compared(records.result(), records.result(**changed))

    assert found.status == "incomparable"
    assert [difference.key for difference in found.differences] == [key]
    assert found.differences[0].a != found.differences[0].b
    assert found.findings == ()
    assert refused_keys([found], ()) == (key,)


@pytest.mark.parametrize(
    ("key", "facts"),
    [("device", {"cpu": "Another"}), ("device", {"cores": 96}), ("emulation", {"device_class": "emulated"})],
)
def test_another_device_is_refused(key: str, facts: dict[str, Any]) -> None:
    found = compared(records.result(), records.result(), devices=[records.device(id="host", **facts)])

    assert [difference.key for difference in found.differences] == [key]


def test_other_inputs_are_refused() -> None:
    found = compared(records.result(), records.result(), models=[records.planned_model(seed=1)])

    assert [difference.key for difference in found.differences] == ["model-inputs"]


def test_another_timing_program_is_another_kind_of_sample() -> None:
    ran = msgspec.structs.replace(records.measurement().ran, driver="bench")
    found = compared(records.result(), records.result(measured={"ran": ran}))

    assert [difference.key for difference in found.differences] == ["sample-kind"]


def test_what_is_accepted_by_name_is_compared_and_still_told() -> None:
    found = compared(records.result(), records.result(threads=2), accept=("threads",))

    assert found.status == "compared"
    assert [(each.key, each.a, each.b) for each in found.differences] == [("threads", "1", "2")]


def test_accepting_one_difference_does_not_accept_another() -> None:
    found = compared(records.result(), records.result(threads=2, accelerator="xnnpack"), accept=("threads",))

    assert found.status == "incomparable"
    assert refused_keys([found], ("threads",)) == ("accelerator",)


def test_a_cell_that_fails_now_is_broken_and_never_a_pass() -> None:
    found = compared(records.result(), records.result(outcome=records.failure()))

    assert cell_verdict(found) == "broken"
    assert "SIGSEGV" in found.problem


def test_cells_of_one_run_alone_are_gone_or_new() -> None:
    before = records.run([records.result(), records.result(model="old")])
    after = records.run([records.result(), records.result(model="fresh")])

    found = compare_runs(cast("StoredRun", before), cast("StoredRun", after))

    assert [cell.status for cell in found] == ["compared", "gone", "new"]


def test_memory_of_one_process_each_is_good_for_a_gate_of_1_pct() -> None:
    peak = records.memory().peak_bytes

    def with_peak(share: float) -> str:
        more = records.result(measured={"memory": (records.memory(peak_bytes=int(peak * share)),)})
        return next(f.verdict for f in compared(records.result(), more).findings if f.metric == "memory")

    assert with_peak(1.0) == "pass"
    assert with_peak(1.02) == "regression"


def test_nothing_is_concluded_about_times_on_an_emulated_device() -> None:
    emulated = records.device(id="host", device_class="emulated")
    before, after = (records.run([records.result(p50_ms=ms)], devices=[emulated]) for ms in (10, 20))

    (found,) = compare_runs(cast("StoredRun", before), cast("StoredRun", after))

    assert {f.metric: f.verdict for f in found.findings} == {
        "p50": "inconclusive",
        "p90": "inconclusive",
        "cold_start": "inconclusive",
        "memory": "pass",
        "size": "pass",
    }


def test_two_versions_of_a_runtime_in_both_runs_are_paired_each_with_itself() -> None:
    def run_of(threads: int) -> StoredRun:
        cells = [
            msgspec.structs.replace(
                point := records.cell(threads=threads),
                id=f"{point.id}_{version}",
                choice=msgspec.structs.replace(point.choice, version=version),
            )
            for version in ("1.26.0", "1.27.0")
        ]
        return cast("StoredRun", records.run([records.result(of=cell) for cell in cells]))

    found = compare_runs(run_of(1), run_of(2))

    assert [cell.status for cell in found] == ["incomparable", "incomparable"]
    assert [[difference.key for difference in cell.differences] for cell in found] == [["threads"], ["threads"]]
