from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from harness.regress.changepoints import (
    LEVEL_POINTS,
    Change,
    _furthest,
    _noise,
    _student_tail,
    divisive,
    find_changes,
    find_steps,
    optimal_partition,
    p_different,
)

NOISE = 0.01


def noisy(levels: list[tuple[int, float]], seed: int = 0) -> list[float]:
    """So many points at each level, in logarithms, with normal noise of 1 %."""
    random = np.random.default_rng(seed)
    return [float(level + random.normal(0, NOISE)) for count, level in levels for _ in range(count)]


def test_noise_alone_has_no_change() -> None:
    assert [find_changes(noisy([(100, 1.0)], seed)) for seed in range(40)] == [()] * 40


def test_a_lasting_step_is_found_where_it_is_and_as_large_as_it_is() -> None:
    (change,) = find_changes(noisy([(60, 0.0), (40, math.log(1.05))]))

    assert abs(change.index - 60) <= 1
    assert change.ratio == pytest.approx(1.05, abs=0.005)
    assert change.standing == "confirmed"


def test_two_steps_are_two_changes_in_order() -> None:
    found = find_changes(noisy([(40, 0.0), (40, 0.06), (40, -0.03)]))

    assert [round(change.ratio, 1) for change in found] == [1.1, 0.9]
    assert [change.standing for change in found] == ["confirmed", "confirmed"]


def test_a_step_of_the_last_nights_is_suspected_until_more_have_come() -> None:
    before = noisy([(40, 0.0)])

    fresh = [find_changes([*before, *noisy([(count, 0.08)], seed=1)]) for count in range(1, 8)]

    standings = [[change.standing for change in found] for found in fresh]
    assert "confirmed" not in {standing for found in standings[:5] for standing in found}
    assert standings[2:5] == [["suspected"]] * 3
    assert standings[6] == ["confirmed"]


def test_what_confirms_a_change_came_after_it_was_seen() -> None:
    confirmed = 0
    for seed in range(30):
        values = noisy([(40, 0.0), (14, 0.02)], seed)
        for change in find_changes(values):
            if change.standing == "confirmed":
                confirmed += 1
                earlier = find_changes(values[:-3])
                assert any(abs(one.index - change.index) <= 5 for one in earlier), seed

    assert confirmed >= 10


def test_what_was_back_within_days_went_away() -> None:
    found = find_changes(noisy([(40, 0.0), (4, 0.10), (40, 0.0)], seed=1))

    assert found
    assert "went away" in {change.standing for change in found}
    assert found[0].standing == "went away"


def test_single_far_points_are_not_changes() -> None:
    values = noisy([(100, 0.0)])
    for index in (10, 30, 50, 97, 99):
        values[index] += 1.0

    assert find_changes(values) == ()


def test_a_change_below_the_smallest_that_counts_is_none() -> None:
    exact = [0.0] * 30 + [math.log1p(0.008)] * 30

    assert find_changes(exact) == ()
    assert [change.index for change in find_changes(exact, min_magnitude=0.005)] == [30]


def test_moods_of_a_machine_count_for_fewer_points_than_they_are() -> None:
    random = np.random.default_rng(5)
    false = 0
    for _ in range(40):
        mood = [0.0]
        for _ in range(99):
            mood.append(0.6 * mood[-1] + random.normal(0, NOISE))
        false += any(change.standing == "confirmed" for change in find_changes(mood))

    assert false <= 4


@pytest.mark.parametrize("values", [[], [1.0], [1.0] * 5, [0.0, 0.0, 0.0, 9.0, 9.0]])
def test_too_few_points_have_no_levels(values: list[float]) -> None:
    assert find_changes(values) == ()


def test_only_the_newest_points_are_looked_at_and_their_index_is_that_of_all() -> None:
    (change,) = find_changes(noisy([(50, 0.5), (400, 0.0), (60, 0.1)]))

    assert abs(change.index - 450) <= 1


def test_exact_figures_change_by_themselves() -> None:
    assert find_steps([1.0, 1.0, 1.1, 1.1001], min_magnitude=0.005) == (
        Change(index=2, before=1.0, after=1.1, standing="confirmed"),
    )


@pytest.mark.parametrize("seed", range(8))
def test_the_partition_is_the_best_of_all(seed: int) -> None:
    """Every way to cut a short series, one after the other."""
    values = np.asarray(noisy([(5, 0.0), (4, 0.03), (5, 0.0)], seed))
    scaled = (values - np.median(values)) / _noise(values)
    n = values.size

    def cost(cuts: tuple[int, ...]) -> float:
        edges = [0, *cuts, n]
        parts = [scaled[a:b] for a, b in itertools.pairwise(edges)]
        if any(part.size < LEVEL_POINTS for part in parts):
            return math.inf
        return float(sum(((part - part.mean()) ** 2).sum() for part in parts)) + 3 * math.log(n) * len(cuts)

    every = [cuts for count in range(4) for cuts in itertools.combinations(range(1, n), count)]

    assert cost(tuple(optimal_partition(values))) == pytest.approx(min(cost(cuts) for cuts in every))


@pytest.mark.parametrize("seed", range(8))
def test_the_split_is_where_the_energy_distance_is_largest(seed: int) -> None:
    values = np.asarray(noisy([(9, 0.0), (7, 0.02)], seed))

    def energy(at: int) -> float:
        left, right = values[:at], values[at:]
        between = np.mean([abs(a - b) for a in left for b in right])
        within = [np.mean([abs(a - b) for a, b in itertools.permutations(side, 2)]) for side in (left, right)]
        return float((2 * between - sum(within)) * left.size * right.size / values.size)

    candidates = range(LEVEL_POINTS, values.size - LEVEL_POINTS + 1)

    assert energy(_furthest(values)) == pytest.approx(max(energy(at) for at in candidates))


def test_the_p_value_of_independent_points_is_that_of_students_test() -> None:
    # Neighbours of opposite sign: no positive autocorrelation, so every point counts.
    a = np.array([1.0, -1.0, 2.0, -2.0, 1.5, -1.5])
    b = np.array([3.0, 0.5, 4.0, 1.0])

    assert p_different(a, b) == pytest.approx(stats.ttest_ind(a, b, equal_var=True).pvalue, rel=1e-9)


@given(st.floats(0.7, 500), st.floats(0, 60))
@settings(max_examples=200, deadline=None)
def test_the_tail_of_students_t_is_scipys(freedom: float, t: float) -> None:
    assert _student_tail(freedom, t) == pytest.approx(float(special.stdtr(freedom, -t)), rel=1e-6, abs=1e-300)


@given(st.lists(st.floats(-1, 1), min_size=0, max_size=60), st.floats(-5, 5))
@settings(max_examples=60, deadline=None)
def test_a_series_that_is_shifted_or_turned_over_changes_at_the_same_places(values: list[float], shift: float) -> None:
    found = find_changes(values)

    assert all(LEVEL_POINTS <= change.index <= len(values) - LEVEL_POINTS for change in found)
    turned = find_changes([-value for value in values])
    assert [change.index for change in turned] == [change.index for change in found]


def test_equal_values_are_split_nowhere() -> None:
    assert divisive(np.zeros(50)) == []
    assert optimal_partition(np.zeros(50)) == []
