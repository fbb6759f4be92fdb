"""From raw samples to figures: a second, plain implementation, and one test a warning."""

from __future__ import annotations

import statistics as stdlib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records import MeasurePlan
from harness.summary import canary_baselines, summarise, summarise_all, warnings
from tests.fakes import records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.records import CellResult, ProcessRecord
    from harness.summary import CellWarning, Summary

MS = 1_000_000


def figures(processes: Sequence[ProcessRecord] | None = None, **how: Any) -> Summary:
    summary = summarise(records.result(processes=processes, **how))
    assert summary is not None
    return summary


def warned(result: CellResult, **of_run: Any) -> dict[str, CellWarning]:
    run = records.run([result], **of_run)
    summary = summarise_all(run.results, run.plan.devices)[result.cell.id]
    return {warning.kind: warning for warning in warnings(summary, result, run.plan)}


def steady(count: int = 5, blocks: int = 4, samples: int = 25) -> list[ProcessRecord]:
    """Processes of which every sample is exactly 10 ms."""
    return [records.process([[10 * MS] * samples] * blocks, index=index) for index in range(count)]


# --- figures -------------------------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.integers(1, 10**9), min_size=1, max_size=20), min_size=1, max_size=8))
def test_the_figures_are_those_of_a_plain_calculation(samples: list[list[int]]) -> None:
    summary = figures([records.process([each], index=index) for index, each in enumerate(samples)])

    every = sorted(ns for each in samples for ns in each)
    assert summary.p50_ns == pytest.approx(stdlib.median([stdlib.median(each) for each in samples]))
    assert summary.min_ns == every[0]
    assert summary.p90_ns == next(ns for ns in every if sum(e <= ns for e in every) >= 0.9 * len(every) - 1e-9)
    assert summary.samples == len(every)
    assert summary.processes == len(samples)
    assert summary.throughput_per_s == pytest.approx(1e9 * len(every) / sum(every))


def test_every_process_counts_alike_however_many_samples_it_has() -> None:
    quick = [records.process([[10 * MS] * 1000], index=index) for index in range(2)]
    slow = [records.process([[20 * MS] * 10], index=index) for index in range(2, 5)]

    assert figures([*quick, *slow]).p50_ns == 20 * MS


def test_batches_count_as_the_inferences_they_are() -> None:
    batch = records.block([50_000, 70_000], iterations_per_sample=10)

    summary = figures([records.process([batch], index=index) for index in range(5)])

    assert summary.p50_ns == 6000
    assert summary.min_ns == 5000
    assert summary.iterations_per_sample == 10
    assert summary.samples == 10
    assert summary.throughput_per_s == pytest.approx(10 * 2 / 120_000 * 1e9)
    assert summary.p90_early_stopping_ns is None


def test_what_was_discarded_is_counted_and_in_no_figure() -> None:
    spoilt = records.block([900 * MS] * 50, discarded="throttled")
    kept = [records.process([[10 * MS] * 25, spoilt], index=index) for index in range(5)]
    repeated = records.process([[500 * MS] * 25], index=5, discarded="disturbed", load_ns=10**12)
    unusable = records.process([spoilt], index=6)

    summary = figures([*kept, repeated, unusable])

    assert (summary.processes, summary.processes_discarded) == (5, 2)
    assert (summary.blocks, summary.blocks_discarded) == (5, 5)
    assert summary.samples == 125
    assert summary.p50_ns == summary.p90_ns == 10 * MS
    assert summary.load_ns == 42 * MS


def test_a_cell_of_which_nothing_counts_has_no_figures() -> None:
    lost = records.process([[1]], discarded="disturbed")

    assert summarise(records.result(processes=[lost])) is None


@pytest.mark.parametrize("outcome", [records.failure(), records.not_runnable()])
def test_a_cell_without_a_measurement_has_no_figures_and_no_warnings(outcome: Any) -> None:
    result = records.result(outcome=outcome)

    assert summarise(result) is None
    assert warned(result) == {}


def test_cold_start_is_loading_and_first_inference_of_the_same_process() -> None:
    processes = [
        records.process([[10 * MS]], index=index, load_ns=load * MS, first_inference_ns=first * MS)
        for index, (load, first) in enumerate([(10, 100), (50, 20), (90, 30)])
    ]

    summary = figures(processes)

    assert summary.load_ns == 50 * MS
    assert summary.first_inference_ns == 30 * MS
    assert summary.cold_start_ns == 110 * MS
    assert summary.cold_over_warm == 3.0


def test_startup_is_unknown_where_no_process_knew_it() -> None:
    assert figures([records.process([[1]], startup_ns=None)]).startup_ns is None


def test_memory_is_the_median_over_passes_of_one_source() -> None:
    passes = tuple(records.memory(peak_bytes=peak, baseline_bytes=10) for peak in (100, 300, 200))

    summary = figures(measured={"memory": passes})

    assert (summary.peak_memory_bytes, summary.model_memory_bytes) == (200, 190)
    assert summary.memory_source == "VmHWM (clear_refs)"


@pytest.mark.parametrize("passes", [(), (records.memory(), records.memory(source="another"))])
def test_memory_of_no_source_or_of_two_is_unknown(passes: Any) -> None:
    summary = figures(measured={"memory": passes})

    assert (summary.peak_memory_bytes, summary.model_memory_bytes, summary.memory_source) == (None, None, None)


def test_parity_is_that_of_the_worst_output() -> None:
    good = records.parity().outputs[0]
    outputs = (good, msgspec.structs.replace(good, tensor="boxes", relative_l2=0.25))

    assert figures(measured={"parity": records.parity(outputs=outputs)}).parity_relative_l2 == 0.25


def test_drift_is_a_percentage_of_p50_a_minute() -> None:
    # One second apart, 1 % of 10 ms slower each: the clock of the device counts, not the wall.
    processes = [records.process([[10 * MS + index * MS // 10] * 5], index=index) for index in range(5)]

    summary = figures(processes)

    assert summary.drift_pct_per_min == pytest.approx(100 * 6 / 10.2)


def test_an_undisturbed_canary_of_the_run_judges_all_its_cells() -> None:
    slow_all_along = [
        msgspec.structs.replace(process, canary_before_ns=30 * MS, canary_after_ns=30 * MS) for process in steady()
    ]
    first = records.result(processes=steady())
    second = records.result(processes=slow_all_along, threads=2)

    by_cell = summarise_all([first, second], ())

    assert canary_baselines([first, second]) == {("host", "python-worker"): 20 * MS}
    assert [summary.disturbed_processes for summary in by_cell.values() if summary] == [0, 5]


def test_one_canary_faster_than_all_others_does_not_call_them_slow() -> None:
    lucky = [msgspec.structs.replace(p, canary_before_ns=20 * MS, canary_after_ns=20 * MS) for p in steady()]
    lucky[0] = msgspec.structs.replace(lucky[0], canary_before_ns=10 * MS)
    cells = [records.result(processes=lucky), records.result(processes=lucky[1:], threads=2)]

    assert [summary.disturbed_processes for summary in summarise_all(cells, ()).values() if summary] == [0, 0]


def test_a_canary_of_another_device_judges_nothing_here() -> None:
    other = records.result(
        processes=[msgspec.structs.replace(p, canary_before_ns=MS, canary_after_ns=MS) for p in steady()],
        device_id="another",
    )

    here = summarise_all([other, records.result(processes=steady())], ())

    assert [summary.disturbed_processes for summary in here.values() if summary] == [0, 0]


@pytest.mark.parametrize(("after", "disturbed"), [(22 * MS, 0), (22 * MS + 1, 1), (None, 0)])
def test_a_process_is_disturbed_beyond_a_tenth_above_the_baseline(after: int | None, disturbed: int) -> None:
    first, *rest = steady()
    first = msgspec.structs.replace(first, canary_after_ns=after)

    assert figures([first, *rest]).disturbed_processes == disturbed


# --- warnings ------------------------------------------------------------------------------------------------------


def test_a_calm_precise_trained_cell_on_a_real_machine_has_no_warnings() -> None:
    assert warned(records.result(processes=steady())) == {}


def test_warnings_come_most_serious_first() -> None:
    result = records.result(processes=steady(count=4))

    found = warned(
        result,
        devices=[records.device(virtual_machine="KVM")],
        models=[records.planned_model(trained=False)],
    )

    assert list(found) == ["untrained", "few_processes", "virtual_machine"]


def test_an_emulated_device_is_said_to_be_one() -> None:
    assert "emulated" in warned(records.result(), devices=[records.device(device_class="emulated")])


@pytest.mark.parametrize("trained", [True, None])
def test_weights_that_may_be_trained_are_not_called_untrained(trained: bool | None) -> None:
    assert "untrained" not in warned(records.result(), models=[records.planned_model(trained=trained)])


def test_nodes_that_ran_elsewhere_are_a_fallback() -> None:
    ran = msgspec.structs.replace(
        records.measurement().ran,
        nodes_by_accelerator={"xnnpack": 60, "builtin": 6},
        nodes_total=66,
        nodes_delegated=60,
        fallback_reason="6 nodes have dynamic shapes",
    )

    found = warned(records.result(measured={"ran": ran}, accelerator="xnnpack"))

    assert found["fallback"].facts == {
        "asked": "xnnpack",
        "ran": "builtin 6, xnnpack 60",
        "delegated": 60,
        "total": 66,
        "reason": "6 nodes have dynamic shapes",
    }


def test_a_runtime_that_does_not_count_nodes_is_not_accused_of_a_fallback() -> None:
    ran = msgspec.structs.replace(records.measurement().ran, nodes_total=None, nodes_delegated=None)

    assert "fallback" not in warned(records.result(measured={"ran": ran}))


def test_a_system_that_does_not_tell_where_operations_run_is_said() -> None:
    ran = msgspec.structs.replace(records.measurement().ran, nodes_total=None, placement_missing="older than iOS 17.4")

    found = warned(records.result(measured={"ran": ran}, accelerator="cpu_and_ne"))

    assert found["placement_unknown"].facts == {"asked": "cpu_and_ne", "reason": "older than iOS 17.4"}


def test_an_accelerator_of_which_a_runtime_tells_nothing_is_said() -> None:
    untold = msgspec.structs.replace(
        records.measurement().ran, runtime="onnxruntime", version="1.20.0", nodes_total=None, nodes_delegated=None
    )

    found = warned(records.result(measured={"ran": untold}, accelerator="xnnpack"))

    assert found["placement_unknown"].facts == {
        "asked": "xnnpack",
        "reason": "onnxruntime 1.20.0 does not tell where its nodes run",
    }
    assert "placement_unknown" not in warned(records.result(measured={"ran": untold}, accelerator="cpu"))


def test_a_process_that_had_done_other_jobs_before_is_not_fresh() -> None:
    first, *rest = steady()

    found = warned(records.result(processes=[msgspec.structs.replace(first, jobs_before=3), *rest]))

    assert found["not_fresh"].facts == {"processes": 1, "of": 5}


@pytest.mark.parametrize(("ran_threads", "is_warned"), [(1, True), (2, False), (None, False)])
def test_another_number_of_threads_is_warned_of_where_it_is_known(ran_threads: int | None, is_warned: bool) -> None:
    ran = msgspec.structs.replace(records.measurement().ran, threads=ran_threads)

    assert ("other_threads" in warned(records.result(measured={"ran": ran}, threads=2))) == is_warned


def test_an_interval_wider_than_asked_for_is_imprecise() -> None:
    spread = [records.process([[10 * MS + index * MS] * 20], index=index) for index in range(5)]

    found = warned(records.result(processes=spread, measured={"stopped_by": "budget"}))

    assert found["imprecise"].facts["stopped_by"] == "budget"
    assert found["imprecise"].facts["half_width_pct"] == pytest.approx(100 * 2 / 12)
    assert "imprecise" not in warned(
        records.result(processes=spread), measure=MeasurePlan(target_half_width_pct=100 * 2 / 12 + 0.01)
    )


def test_too_few_samples_for_a_p90_are_said() -> None:
    assert warned(records.result(processes=steady(samples=3, blocks=4)))["few_samples"].facts == {
        "samples": 60,
        "needed": 64,
    }


def test_processes_that_never_settled_are_counted() -> None:
    first, *rest = steady()

    found = warned(records.result(processes=[msgspec.structs.replace(first, steady=False), *rest]))

    assert found["not_steady"].facts == {"processes": 1, "of": 5}


@pytest.mark.parametrize(("medians_ms", "drifts"), [((10, 11, 12, 13, 14), True), ((10, 11, 12, 14, 13), False)])
def test_drift_is_warned_of_only_where_chance_is_an_unlikely_reason(medians_ms: Any, drifts: bool) -> None:
    processes = [records.process([[ms * MS] * 20], index=index) for index, ms in enumerate(medians_ms)]

    assert ("drift" in warned(records.result(processes=processes))) == drifts


@pytest.mark.parametrize(("ns_a_second", "drifts"), [(1500, False), (1834, True), (-1834, True)])
def test_drift_below_one_per_cent_a_minute_is_not_warned_of(ns_a_second: int, drifts: bool) -> None:
    # A straight line has no uncertainty: 1,500 ns of 10 ms each second are 0.9 % a minute, 1,834 ns are 1.1 %.
    line = [records.process([[10 * MS + index * ns_a_second] * 20], index=index) for index in range(5)]

    assert ("drift" in warned(records.result(processes=line))) == drifts


def test_discarded_blocks_are_warned_of() -> None:
    spoilt = records.block([1], discarded="throttled")
    processes = [*steady(), records.process([[10 * MS] * 25, spoilt], index=5)]

    assert warned(records.result(processes=processes))["discarded"].facts == {"processes": 0, "blocks": 1}


def test_wrong_outputs_are_the_first_thing_said_of_a_real_device() -> None:
    found = warned(records.result(measured={"parity": records.parity(passed=False)}, processes=steady(count=3)))

    assert next(iter(found)) == "wrong_numbers"


def test_an_obstacle_that_was_accepted_is_not_forgotten() -> None:
    found = warned(records.result(measured={"accepted_obstacles": ("battery_saver", "load")}))

    assert found["accepted_obstacles"].facts == {"names": "battery_saver, load"}


def test_batches_are_said_to_be_batches() -> None:
    batch = records.block([100] * 100, iterations_per_sample=8)

    found = warned(records.result(processes=[records.process([batch], index=index) for index in range(5)]))

    assert found["batched"].facts == {"iterations_per_sample": 8}
