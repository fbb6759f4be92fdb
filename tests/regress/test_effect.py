"""Each estimator against a second implementation that is slow and obvious, or against SciPy."""

from __future__ import annotations

import itertools
import math
import random
import statistics as stdlib
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import mstats

from harness.regress import effect
from tests.fakes.recorded import AA_TRIALS

times = st.floats(min_value=1e3, max_value=1e10)
side = st.lists(times, min_size=1, max_size=12)
blocks = st.lists(st.tuples(side, side), min_size=1, max_size=9)
log_ratios = st.lists(st.floats(min_value=-1, max_value=1).map(lambda x: round(x, 6)), min_size=9, max_size=40)
few = st.lists(st.floats(min_value=-1, max_value=1).map(lambda x: round(x, 6)), min_size=9, max_size=10)


# --- the value of a trial ------------------------------------------------------------------------------------------


@given(blocks)
def test_the_value_of_a_trial_is_the_middle_of_its_blocks_log_ratios(
    trial: list[tuple[list[float], list[float]]],
) -> None:
    slow = stdlib.median(math.log(stdlib.median(b) / stdlib.median(a)) for a, b in trial)

    assert effect.block_median_log_ratio(trial) == pytest.approx(slow, abs=1e-9)


@given(blocks)
def test_exchanging_the_sides_changes_the_sign_alone(trial: list[tuple[list[float], list[float]]]) -> None:
    there, back = effect.block_median_log_ratio(trial), effect.block_median_log_ratio([(b, a) for a, b in trial])

    assert there == pytest.approx(-back, abs=1e-12)


@given(blocks, st.floats(min_value=0.5, max_value=2))
def test_a_side_that_is_slower_by_a_factor_shows_that_factor(
    trial: list[tuple[list[float], list[float]]], factor: float
) -> None:
    slowed = [(a, [factor * time for time in b]) for a, b in trial]

    shift = effect.block_median_log_ratio(slowed) - effect.block_median_log_ratio(trial)

    assert shift == pytest.approx(math.log(factor), abs=1e-9)


def test_a_disturbance_of_fewer_than_half_of_the_blocks_changes_nothing() -> None:
    calm = [([100.0, 101.0, 102.0], [100.0, 101.0, 102.0])] * 5
    step = [([100.0, 101.0, 102.0], [300.0, 301.0, 302.0])] * 3

    assert effect.block_median_log_ratio(calm + step) == 0


@given(side, side, st.sampled_from([0.5, 0.9]))
def test_a_percentile_ratio_is_that_of_values_that_were_seen(a: list[float], b: list[float], fraction: float) -> None:
    def seen(values: list[float]) -> float:
        return next(v for v in sorted(values) if sum(w <= v for w in values) >= fraction * len(values) - 1e-9)

    assert effect.percentile_log_ratio(a, b, fraction) == pytest.approx(math.log(seen(b) / seen(a)), abs=1e-9)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan])
def test_a_time_that_is_none_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="positive and finite"):
        effect.block_median_log_ratio([([1.0, 2.0, 3.0], [1.0, bad, 3.0])])
    with pytest.raises(ValueError, match="positive and finite"):
        effect.percentile_log_ratio([bad], [1.0], 0.9)
    with pytest.raises(ValueError, match="positive and finite"):
        effect.log_ratio(1.0, bad)


def test_a_side_without_times_is_refused() -> None:
    with pytest.raises(ValueError, match="positive and finite"):
        effect.block_median_log_ratio([([], [1.0])])


# --- over trials ---------------------------------------------------------------------------------------------------


@given(log_ratios)
def test_the_trimmed_mean_and_its_error_are_those_of_a_second_implementation(values: list[float]) -> None:
    cut = max(1, len(values) // 10)
    kept = sorted(values)[cut:-cut]
    winsorised = mstats.winsorize(np.array(values), limits=(cut / len(values), cut / len(values)))
    error = math.sqrt((len(values) - 1) * stdlib.variance(map(float, winsorised)) / (len(kept) * (len(kept) - 1)))
    reach = stats.t.ppf((1 + effect.CONFIDENCE) / 2, len(kept) - 1) * error

    found = effect.estimate(values)

    assert found.log_ratio == pytest.approx(stdlib.fmean(kept), abs=1e-9)
    assert found.low == pytest.approx(stdlib.fmean(kept) - reach, abs=1e-9)
    assert found.high == pytest.approx(stdlib.fmean(kept) + reach, abs=1e-9)


@given(few, st.sampled_from([0.9, 0.95, 0.98]))
def test_the_signed_rank_interval_holds_what_the_test_over_every_pattern_of_signs_does_not_reject(
    values: list[float], confidence: float
) -> None:
    found = effect.estimate(values, confidence=confidence, method="signed-rank")

    pairs = sorted((a + b) / 2 for a, b in itertools.combinations_with_replacement(values, 2))
    assert found.log_ratio == pytest.approx(stdlib.median(pairs), abs=1e-12)
    sums = [sum(rank for rank, up in enumerate(signs, start=1) if up) for signs in _signs(len(values))]
    # The lower end is the k-th lowest mean for the largest k that no more than half the rest of the patterns reach.
    half = (1 - confidence) / 2
    k = max(k for k in range(1, len(pairs) + 1) if sum(s < k for s in sums) / len(sums) <= half + 1e-12)
    assert [found.low, found.high] == pytest.approx([pairs[k - 1], pairs[-k]])


def _signs(n: int) -> list[tuple[bool, ...]]:
    return list(itertools.product((False, True), repeat=n))


@given(st.lists(st.floats(min_value=-1, max_value=1), min_size=9, max_size=12, unique_by=lambda x: round(abs(x), 6)))
def test_the_signed_rank_p_value_is_scipys(values: list[float]) -> None:
    values = [round(value, 6) for value in values if round(value, 6) != 0]
    if len(values) < 9:
        return

    expected = stats.wilcoxon(values, alternative="greater", method="exact").pvalue

    assert effect.p_slower(values, method="signed-rank") == pytest.approx(expected, abs=1e-12)


@given(log_ratios, st.sampled_from([0.0, 0.01, 0.03]))
def test_p_value_and_interval_agree(values: list[float], margin: float) -> None:
    methods: tuple[effect.Method, ...] = ("trimmed t", "signed-rank")
    for method in methods:
        found = effect.estimate(values, method=method)
        p = effect.p_slower(values, margin=margin, method=method)
        if abs(found.low - math.log1p(margin)) > 1e-9:
            assert (p <= (1 - effect.CONFIDENCE) / 2 + 1e-12) == (found.low > math.log1p(margin)), method


@given(log_ratios)
def test_the_interval_holds_the_estimate_and_turns_with_the_sign(values: list[float]) -> None:
    methods: tuple[effect.Method, ...] = ("trimmed t", "signed-rank")
    for method in methods:
        found = effect.estimate(values, method=method)
        turned = effect.estimate([-value for value in values], method=method)

        assert found.low <= found.log_ratio <= found.high
        assert [turned.low, turned.high] == pytest.approx([-found.high, -found.low], abs=1e-9)


@given(log_ratios)
def test_more_confidence_is_a_wider_interval(values: list[float]) -> None:
    narrow, wide = effect.estimate(values, confidence=0.9), effect.estimate(values, confidence=0.999)

    assert wide.low <= narrow.low <= narrow.high <= wide.high


@given(st.lists(st.floats(min_value=-1, max_value=1), min_size=2, max_size=40))
def test_noise_is_scipys_scaled_deviation(values: list[float]) -> None:
    expected = stats.median_abs_deviation(values, scale="normal")

    assert effect.noise(values) == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_equal_trials_give_an_interval_of_no_width() -> None:
    found = effect.estimate([0.1] * 9)

    assert (found.low, found.log_ratio, found.high, found.noise) == (0.1, 0.1, 0.1, 0.0)
    assert effect.p_slower([0.1] * 9) == 0
    assert effect.p_slower([0.1] * 9, margin=0.2) == 1


@pytest.mark.parametrize(("method", "least"), [("trimmed t", 5), ("signed-rank", 9)])
def test_too_few_trials_are_refused(method: effect.Method, least: int) -> None:
    effect.estimate([0.01 * i for i in range(least)], method=method)

    with pytest.raises(ValueError, match=f"needs {least} trials"):
        effect.estimate([0.01] * (least - 1), method=method)
    with pytest.raises(ValueError, match=f"needs {least} trials"):
        effect.p_slower([0.01] * (least - 1), method=method)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_trial_that_is_not_finite_is_refused(bad: float) -> None:
    for question in (effect.estimate, effect.p_slower, effect.noise):
        with pytest.raises(ValueError, match="not finite"):
            question([0.0, 0.1, 0.2, 0.1, 0.0, 0.1, bad])


def test_a_confidence_that_the_signs_cannot_give_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot give an interval"):
        effect.estimate([0.01 * i for i in range(9)], confidence=0.999, method="signed-rank")


def test_one_wild_trial_in_twenty_hardly_moves_the_estimate() -> None:
    calm = [0.02 + 0.001 * (i % 5 - 2) for i in range(19)]

    assert effect.estimate([*calm, 3.0]).log_ratio == pytest.approx(0.02, abs=5e-4)


@given(st.lists(times, min_size=2, max_size=9), st.lists(times, min_size=2, max_size=9))
def test_two_samples_are_compared_as_welchs_test_does(a: list[float], b: list[float]) -> None:
    assume(len({round(math.log(v), 3) for v in a}) > 1 and len({round(math.log(v), 3) for v in b}) > 1)
    found = effect.two_samples(a, b)

    slow = stats.ttest_ind(np.log(b), np.log(a), equal_var=False).confidence_interval(effect.CONFIDENCE)

    assert [found.low, found.high] == pytest.approx([float(slow.low), float(slow.high)], rel=1e-6, abs=1e-6)


def test_one_value_a_side_has_the_noise_that_is_known_of_such_values() -> None:
    found = effect.noisy_effect([100.0], [101.0], noise=0.0015)

    reach = NormalDist().inv_cdf((1 + effect.CONFIDENCE) / 2) * 0.0015 * math.sqrt(2)
    assert [found.low, found.high] == pytest.approx([math.log(1.01) - reach, math.log(1.01) + reach])
    wide = effect.noisy_effect([100.0, 110.0], [101.0], noise=0.0015)
    assert wide.noise == pytest.approx(stdlib.stdev([math.log(100), math.log(110)]))


def test_an_exact_quantity_has_an_exact_effect() -> None:
    found = effect.exact_effect(1000, 1005)

    assert found.ratio == pytest.approx(1.005)
    assert found.low == found.high == found.log_ratio


# --- on recorded noise ---------------------------------------------------------------------------------------------


def test_the_intervals_of_a_build_with_itself_hold_zero() -> None:
    # 2,000 draws of 20 of the 400 recorded trials: 99.5 % would be right if they were all there is.
    chance = random.Random(1)
    drawn = [effect.estimate(chance.sample(AA_TRIALS, 20)) for _ in range(2000)]

    held = sum(found.low <= 0 <= found.high for found in drawn) / len(drawn)

    assert 0.995 <= held <= 1.0


def test_an_injected_slowdown_is_recovered() -> None:
    slowed = [value + math.log(1.02) for value in AA_TRIALS]

    assert 100 * (effect.estimate(slowed).ratio - 1) == pytest.approx(2.0, abs=0.3)
