from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.regress.other_tools import asv, criterion, google_benchmark, pyperf

RANDOM = np.random.default_rng(7)


def times(count: int, mean: float = 1.0, spread: float = 0.01) -> list[float]:
    return [float(value) for value in RANDOM.normal(mean, spread, count)]


def test_each_finds_a_slowdown_of_a_fifth_and_none_a_speed_up() -> None:
    base, slow = times(30), times(30, 1.2)

    for rule in (criterion.is_slower, google_benchmark.is_slower, asv.is_slower, pyperf.is_slower):
        assert rule(base, slow)
        assert not rule(slow, base)


def test_criterion_lets_pass_what_is_within_its_noise_threshold() -> None:
    base = times(100, spread=0.001)

    assert not criterion.is_slower(base, [value * 1.008 for value in base])
    assert criterion.is_slower(base, [value * 1.02 for value in base])


def test_criterion_alarms_at_independent_noise_in_less_than_one_of_twenty() -> None:
    alarms = sum(criterion.is_slower(times(24, spread=0.05), times(24, spread=0.05), seed=seed) for seed in range(60))

    assert alarms <= 4


def test_criterion_says_nothing_of_equal_values() -> None:
    assert not criterion.is_slower([1.0] * 10, [1.0] * 10)


def test_google_benchmark_goes_by_the_p_value_alone() -> None:
    base = [1.00, 1.01, 1.02, 1.03, 1.04, 1.05, 1.06, 1.07, 1.08]

    assert google_benchmark.is_slower(base, [value + 0.05 for value in base])
    assert not google_benchmark.is_slower(base, [value + 0.02 for value in base])


def test_asv_wants_a_tenth_and_significance() -> None:
    base = times(20, spread=0.001)

    assert not asv.is_slower(base, [value * 1.09 for value in base])
    assert asv.is_slower(base, [value * 1.12 for value in base])
    assert not asv.is_slower([1.0, 1.0, 5.0], [1.2, 1.2, 0.5])


@pytest.mark.parametrize("count", [3, 8, 20, 51])
def test_asvs_interval_holds_the_median_with_the_confidence_it_claims(count: int) -> None:
    low, high = asv.median_interval(list(range(1, count + 1)))

    rank_low = 0 if low == -np.inf else int(low)
    rank_high = count + 1 if high == np.inf else int(high)
    assert stats.binom.cdf(rank_high - 1, count, 0.5) - stats.binom.cdf(rank_low - 1, count, 0.5) >= 0.99


def test_pyperf_agrees_with_students_test_but_for_its_table() -> None:
    agreed = 0
    for _ in range(200):
        base, new = times(30), times(30, 1.004)
        exact = stats.ttest_ind(base, new)
        agreed += pyperf.is_slower(base, new) == (exact.pvalue < 0.05 and np.mean(new) > np.mean(base))

    assert agreed >= 198


def test_pyperf_refuses_samples_of_two_lengths() -> None:
    with pytest.raises(ValueError, match="3 with 2"):
        pyperf.is_slower([1, 2, 3], [1, 2])
