"""Each estimator against a second implementation that is slow and obvious, or against SciPy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness import statistics
from tests.fakes import records

times = st.floats(min_value=1e3, max_value=1e10)
several = st.lists(times, min_size=1, max_size=60)
enough = st.lists(times, min_size=5, max_size=30)


# --- the median and its interval -----------------------------------------------------------------------------------


@given(several)
def test_the_median_has_as_many_values_on_either_side(values: list[float]) -> None:
    found = statistics.median(values)

    assert sum(value < found for value in values) <= len(values) / 2
    assert sum(value > found for value in values) <= len(values) / 2


def test_the_median_of_an_even_number_is_halfway_between_the_middle_two() -> None:
    assert statistics.median([4.0, 1.0, 3.0, 9.0]) == 3.5


@given(enough)
def test_the_interval_holds_the_median_of_the_sample(values: list[float]) -> None:
    interval = statistics.median_interval(values)

    assert interval is not None
    assert min(values) <= interval.low <= statistics.median(values) <= interval.high <= max(values)


@given(enough)
def test_the_interval_does_not_depend_on_the_order(values: list[float]) -> None:
    assert statistics.median_interval(values) == statistics.median_interval(sorted(values))


@given(enough, st.floats(min_value=0.01, max_value=100))
def test_the_interval_scales_with_the_values(values: list[float], factor: float) -> None:
    once = statistics.median_interval(values)
    scaled = statistics.median_interval([factor * value for value in values])

    assert once is not None
    assert scaled is not None
    assert scaled.low == pytest.approx(factor * once.low)
    assert scaled.high == pytest.approx(factor * once.high)


def test_five_processes_say_no_more_than_their_range_and_how_sure_that_is() -> None:
    assert statistics.median_interval([3.0, 1.0, 4.0, 1.5, 9.0]) == (1.0, 9.0, 93.75)


def test_four_processes_have_no_interval() -> None:
    assert statistics.median_interval([1.0, 2.0, 3.0, 4.0]) is None
    assert statistics.half_width_pct([1.0, 2.0, 3.0, 4.0]) is None


def test_a_stray_process_does_not_widen_the_interval_of_nine() -> None:
    calm = [10.0, 10.01, 10.02, 10.03, 10.04, 10.05, 10.06, 10.07]

    interval = statistics.median_interval([*calm, 30.0])

    assert interval is not None
    assert interval.high < 10.1


@pytest.mark.parametrize("n", range(6, 31))
def test_the_interpolated_interval_is_that_of_hettmansperger_and_sheather(n: int) -> None:
    values = np.sort(np.random.default_rng(n).lognormal(size=n))

    interval = statistics.median_interval(values.tolist())

    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(_interpolated_by_scipy(values))
    assert interval.confidence_pct == 95


def _interpolated_by_scipy(values: np.ndarray) -> tuple[float, float]:
    """The formulas as the paper has them, counting d = k - 1 from 0 and with SciPy's binomial distribution."""
    n = len(values)
    d = max(d for d in range(n // 2) if stats.binom.cdf(n - d - 1, n, 0.5) - stats.binom.cdf(d, n, 0.5) >= 0.95)
    outer = stats.binom.cdf(n - d - 1, n, 0.5) - stats.binom.cdf(d, n, 0.5)
    inner = stats.binom.cdf(n - d - 2, n, 0.5) - stats.binom.cdf(d + 1, n, 0.5)
    k, share = d + 1, (outer - 0.95) / (outer - inner)
    inward = (n - k) * share / (k + (n - 2 * k) * share)
    return (
        (1 - inward) * values[d] + inward * values[d + 1],
        (1 - inward) * values[n - 1 - d] + inward * values[n - 2 - d],
    )


@pytest.mark.parametrize("n", [5, 6, 7, 8, 10, 15, 20])
def test_the_interval_holds_the_true_median_as_often_as_it_says(n: int) -> None:
    # Two modes, the shape on which the usual intervals fail; the true median is known from the distribution.
    rng = np.random.default_rng(7)
    slow_share, sigma, step = 0.35, 0.003, 0.04
    truth = _median_of_two_modes(slow_share, sigma, step)
    draws = sigma * rng.standard_normal((2000, n)) + step * (rng.random((2000, n)) < slow_share)
    intervals = [statistics.median_interval(np.exp(row).tolist()) for row in draws]

    held = np.mean([found is not None and found.low <= math.exp(truth) <= found.high for found in intervals])

    assert 0.92 <= held <= 0.975


def _median_of_two_modes(slow_share: float, sigma: float, step: float) -> float:
    grid = np.linspace(-5 * sigma, step + 5 * sigma, 200_001)
    below = (1 - slow_share) * stats.norm.cdf(grid / sigma) + slow_share * stats.norm.cdf((grid - step) / sigma)
    return float(grid[np.searchsorted(below, 0.5)])


@given(enough)
def test_the_half_width_is_that_of_the_reported_interval(values: list[float]) -> None:
    interval = statistics.median_interval(values)

    assert interval is not None
    expected = (interval.high - interval.low) / 2 / statistics.median(values) * 100
    assert statistics.half_width_pct(values) == pytest.approx(expected)


# --- percentiles ---------------------------------------------------------------------------------------------------


@given(several, st.sampled_from([0.5, 0.9, 0.99]))
def test_a_percentile_is_the_lowest_value_that_enough_do_not_exceed(values: list[float], fraction: float) -> None:
    found = statistics.percentile(values, fraction)

    # 1e-9: 0.9 x 10 values is a little more than 9 in binary.
    suffices = [value for value in values if sum(v <= value for v in values) >= fraction * len(values) - 1e-9]
    assert found == min(suffices)


def test_the_p90_of_ten_values_is_the_ninth() -> None:
    assert statistics.percentile([float(value) for value in range(1, 11)], 0.9) == 9


@pytest.mark.parametrize(("fraction", "needed"), [(0.9, 64), (0.99, 662)])
def test_early_stopping_needs_as_many_samples_as_loadgen(fraction: float, needed: int) -> None:
    assert statistics.early_stopping_percentile([1.0] * (needed - 1), fraction) is None
    assert statistics.early_stopping_percentile([1.0] * needed, fraction) == 1.0


def test_early_stopping_reports_the_eightieth_highest_of_1024() -> None:
    values = [float(value) for value in range(1, 1025)]

    assert statistics.early_stopping_percentile(values) == 1024 - 80 + 1


@given(st.integers(min_value=1, max_value=3000), st.sampled_from([0.5, 0.9, 0.97, 0.99]))
def test_early_stopping_agrees_with_the_binomial_distribution(n: int, fraction: float) -> None:
    values = [float(value) for value in range(n)]

    assert statistics.early_stopping_percentile(values, fraction) == _early_stopping_by_scipy(values, fraction)


def _early_stopping_by_scipy(ordered: list[float], fraction: float) -> float | None:
    n, t = len(ordered), 0
    while stats.binom.cdf(t + 1, n, 1 - fraction) <= 0.01:
        t += 1
    at_all = stats.binom.cdf(t, n, 1 - fraction) <= 0.01
    return ordered[n - t] if t >= 1 and at_all else None


def test_early_stopping_survives_a_hundred_thousand_samples() -> None:
    values = np.arange(100_000.0)

    found = statistics.early_stopping_percentile(values.tolist())

    assert found is not None
    assert 90_000 < found < 90_400


# --- spread --------------------------------------------------------------------------------------------------------


@given(st.lists(times, min_size=2, max_size=60))
def test_the_variation_is_the_sample_standard_deviation_over_the_mean(values: list[float]) -> None:
    mean = math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))

    assert statistics.cv_pct(values) == pytest.approx(100 * spread / mean, rel=1e-6, abs=1e-6)


@given(st.lists(times, min_size=2, max_size=60))
def test_the_robust_variation_is_that_of_scipy(values: list[float]) -> None:
    expected = 100 * stats.median_abs_deviation(values, scale="normal") / np.median(values)

    assert statistics.robust_cv_pct(values) == pytest.approx(expected)


def test_one_value_varies_in_no_known_way() -> None:
    assert statistics.cv_pct([1.0]) is None
    assert statistics.robust_cv_pct([1.0]) is None


def test_outliers_are_counted_by_tukeys_fences_on_both_sides() -> None:
    # Quartiles 10 and 20: mild beyond -5 and 35, severe beyond -20 and 50.
    bulk = [10.0] * 20 + [15.0] * 10 + [20.0] * 20

    assert statistics.outliers(bulk) == (0, 0)
    assert statistics.outliers([*bulk, 35.0, 36.0, 50.0, -4.0]) == (2, 0)
    assert statistics.outliers([*bulk, 51.0, -6.0, -21.0]) == (1, 2)


@given(st.lists(times, min_size=4, max_size=60))
def test_outliers_agree_with_the_definition_written_out(values: list[float]) -> None:
    q1, q3 = np.quantile(values, [0.25, 0.75])
    reach = q3 - q1
    outside = [max(q1 - value, value - q3) for value in values]

    severe = sum(beyond > 3 * reach for beyond in outside)
    mild = sum(1.5 * reach < beyond <= 3 * reach for beyond in outside)

    assert statistics.outliers(values) == (mild, severe)


# --- drift ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 40)), min_size=5, max_size=25))
def test_the_slope_is_that_of_scipy(points: list[tuple[int, int]]) -> None:
    # Whole numbers from a small range: ties in time and in value are common.
    x, y = [float(point[0]) for point in points], [float(point[1]) for point in points]

    found = statistics.theil_sen(x, y)

    if len(set(x)) == 1:
        assert found is None
        return
    with np.errstate(invalid="ignore"):
        expected = stats.theilslopes(y, x)
    assert found is not None
    assert found.value == pytest.approx(expected[0])
    if math.isfinite(expected[2]):
        assert (found.low, found.high) == pytest.approx((expected[2], expected[3]))


@given(enough, st.floats(min_value=-10, max_value=10))
def test_the_slope_of_a_line_is_its_own_whatever_one_point_does(values: list[float], slope: float) -> None:
    x = [float(index) for index in range(len(values) + 4)]
    y = [slope * each for each in x]
    y[2] = 1e6

    found = statistics.theil_sen(x, y)

    assert found is not None
    assert found.value == pytest.approx(slope, abs=1e-9)


def test_four_points_have_no_slope() -> None:
    assert statistics.theil_sen([1, 2, 3, 4], [1, 2, 3, 4]) is None


def test_five_points_drift_only_if_all_are_in_order() -> None:
    orders = itertools.permutations([1.0, 2.0, 3.0, 4.0, 5.0])
    found = [statistics.theil_sen([0, 1, 2, 3, 4], order) for order in orders]

    certain = [slope for slope in found if slope is not None and (slope.low > 0 or slope.high < 0)]

    assert len(certain) == 2


# --- one process ---------------------------------------------------------------------------------------------------


def test_the_median_of_a_process_counts_neither_discarded_blocks_nor_batches_as_one() -> None:
    process = records.process(
        [
            records.block([1000, 3000], iterations_per_sample=10),
            records.block([9_999_999], discarded="throttled"),
            records.block([2000], iterations_per_sample=10),
        ]
    )

    assert statistics.samples_ns(process) == [100, 300, 200]
    assert statistics.process_median_ns(process) == 200


def test_a_process_of_discarded_blocks_has_no_median() -> None:
    process = records.process([records.block([5], discarded="throttled")])

    assert statistics.process_median_ns(process) is None


def test_a_statistic_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        statistics.median([])
