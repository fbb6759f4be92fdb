"""What is said to be visible is found; replays of recorded noise are the proof."""

from __future__ import annotations

import math
import random
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.regress import planning
from harness.regress.decision import compare_trials
from harness.regress.effect import noise
from tests.fakes.recorded import AA_TRIALS

noises = st.floats(0.001, 0.2)


@given(noises, st.floats(0.003, 0.5))
def test_the_number_of_trials_is_the_first_that_sees_the_effect(sigma: float, wanted: float) -> None:
    trials = planning.trials_needed(sigma, wanted)
    # As exact as floating point: of 160,000 trials, one more or less moves the effect by a few millionths of itself.
    sees = (n for n in range(max(5, trials - 1), 10**9) if planning.smallest_effect(sigma, n) <= wanted * (1 + 1e-12))
    slow = next(sees)

    assert trials == max(5, slow)


@given(noises, st.integers(5, 500))
def test_more_trials_see_smaller_effects(sigma: float, trials: int) -> None:
    assert planning.smallest_effect(sigma, 4 * trials) < planning.smallest_effect(sigma, trials)


@given(noises, st.integers(5, 500))
def test_a_visible_effect_is_as_likely_found_as_the_normal_distribution_says(sigma: float, trials: int) -> None:
    normal = NormalDist()
    error = sigma * math.sqrt(planning.HEAVY_TAILS / (trials - 4))
    threshold = normal.inv_cdf(1 - planning.ALPHA) * error

    found = 1 - NormalDist(math.log1p(planning.smallest_effect(sigma, trials)), error).cdf(threshold)

    assert found == pytest.approx(0.9)


def test_an_effect_of_nothing_is_never_visible() -> None:
    with pytest.raises(ValueError, match="nothing"):
        planning.trials_needed(0.01, 0.0)


@pytest.mark.parametrize("trials", [10, 20, 40])
def test_what_is_called_visible_is_found_in_9_of_10_comparisons_on_recorded_noise(trials: int) -> None:
    sigma = noise(AA_TRIALS)
    assert sigma is not None
    shift = math.log1p(planning.smallest_effect(sigma, trials))
    chance = random.Random(3)

    found = 0
    for _ in range(300):
        drawn = [chance.choice((-1, 1)) * value + shift for value in chance.sample(AA_TRIALS, trials)]
        found += compare_trials(drawn, 0.0)[0] == "regression"

    assert found >= 0.9 * 300
