"""From stored trials to findings."""

from __future__ import annotations

import math

import msgspec
import pytest

from harness.records import Trial
from harness.regress.trials import findings, metric_log_ratios, trial_log_ratio
from tests.fakes import records, trials
from tests.fakes.trials import MS


def test_a_trial_says_by_how_much_b_was_slower() -> None:
    value = trial_log_ratio(trials.trial(1.05), "p50")

    assert value == pytest.approx(math.log(1.05), abs=1e-4)


def test_every_metric_that_was_measured_is_found_and_no_other() -> None:
    with_memory = trials.comparison([trials.trial(1.0, memory_ratio=1.0)] * 7)
    without = trials.comparison([trials.trial(1.0)] * 7)

    assert [finding.metric for finding in findings(with_memory)] == ["p50", "p90", "cold_start", "memory", "size"]
    assert [finding.metric for finding in findings(without)] == ["p50", "p90", "cold_start", "size"]


def test_each_metric_has_its_own_margin() -> None:
    compared = trials.comparison([trials.trial(1.05, memory_ratio=1.02)] * 7, b_mib=10.1)

    verdicts = {finding.metric: finding.verdict for finding in findings(compared)}

    assert verdicts == {
        "p50": "regression",
        "p90": "small slowdown",
        "cold_start": "small slowdown",
        "memory": "regression",
        "size": "regression",
    }


def test_the_first_half_of_a_trial_may_be_disturbed_and_the_second_still_says_it() -> None:
    calm = trials.trial(1.05)
    loud = records.block([90 * MS] * 3, discarded="the hypervisor took 60 % of a processor's time")
    process = msgspec.structs.replace(calm.b[0], blocks=(*[loud] * 8, *calm.b[0].blocks[8:]))
    half = msgspec.structs.replace(calm, b=(process,))
    most = msgspec.structs.replace(
        calm, b=(msgspec.structs.replace(process, blocks=(*[loud] * 10, *calm.b[0].blocks[10:])),)
    )

    assert trial_log_ratio(half, "p50") == pytest.approx(math.log(1.05), abs=1e-4)
    assert trial_log_ratio(most, "p50") is None


def test_a_disturbed_process_takes_its_trial_out_and_is_counted() -> None:
    loud = trials.trial(3.0)
    process = msgspec.structs.replace(loud.b[0], discarded="9 of 16 blocks: steal")
    compared = trials.comparison([*[trials.trial(1.0)] * 9, msgspec.structs.replace(loud, b=(process,))])

    p50 = findings(compared)[0]

    assert len(p50.values) == 9
    assert p50.disturbed == 1
    assert p50.verdict == "pass"


def test_with_too_few_trials_left_nothing_is_concluded() -> None:
    p50 = findings(trials.comparison([trials.trial(2.0)] * 4))[0]

    assert p50.verdict == "inconclusive"
    assert p50.effect is None


def test_whole_processes_are_compared_by_the_means_of_the_logarithms_of_their_medians() -> None:
    trial = Trial(
        index=0,
        how="whole processes",
        order="ABBA",
        a=(trials.process(10), trials.process(12)),
        b=(trials.process(11), trials.process(13)),
    )

    expected = (math.log(11) + math.log(13) - math.log(10) - math.log(12)) / 2
    assert metric_log_ratios([trial], "p50") == [pytest.approx(expected, abs=1e-4)]


def test_nothing_is_concluded_about_times_on_an_emulated_device() -> None:
    compared = trials.comparison([trials.trial(2.0)] * 7)
    emulated = msgspec.structs.replace(compared, device=records.device(device_class="emulated"))

    verdicts = {finding.metric: finding.verdict for finding in findings(emulated)}

    assert verdicts == {"p50": "inconclusive", "p90": "inconclusive", "cold_start": "inconclusive", "size": "pass"}
