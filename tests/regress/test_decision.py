"""Verdicts, the levels of a family, and how often both are wrong on recorded noise."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.regress.decision import FamilyRule, compare_trials, confirm, decide, holm_levels, is_settled_by_screening
from harness.regress.effect import Effect, exact_effect
from tests.fakes.recorded import AA_TRIALS

RULE = FamilyRule()


def effect_between(low_pct: float, high_pct: float) -> Effect:
    """An effect whose interval has these ends."""
    low, high = math.log1p(low_pct / 100), math.log1p(high_pct / 100)
    return Effect(
        log_ratio=(low + high) / 2, low=low, high=high, confidence=0.98, trials=20, noise=0.01, method="trimmed t"
    )


# --- one cell ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (3.1, 9.0, "regression"),
        (0.1, 2.0, "small slowdown"),
        (0.1, 5.0, "small slowdown"),
        (2.9, 5.0, "small slowdown"),
        (-1.0, 2.9, "pass"),
        (-9.0, 2.9, "pass"),
        (-9.0, -0.1, "improvement"),
        (-1.0, 3.1, "inconclusive"),
        (-9.0, 9.0, "inconclusive"),
    ],
)
def test_the_interval_decides_with_a_margin_of_3_pct(low: float, high: float, verdict: str) -> None:
    assert decide(effect_between(low, high), 0.03) == verdict


def test_without_an_effect_nothing_is_concluded() -> None:
    assert decide(None, 0.03) == "inconclusive"
    assert compare_trials([0.5] * 4, 0.03) == ("inconclusive", None)


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        (1000, 1006, "regression"),
        (1000, 1005, "small slowdown"),
        (1000, 1001, "small slowdown"),
        (1000, 1000, "pass"),
        (1000, 999, "improvement"),
    ],
)
def test_a_size_is_judged_to_the_byte(a: int, b: int, verdict: str) -> None:
    assert decide(exact_effect(a, b), 0.005) == verdict


@given(st.floats(-50, 50), st.floats(0.001, 50), st.floats(0.1, 20))
def test_no_interval_is_both_a_regression_and_within_the_margin(low: float, width: float, margin: float) -> None:
    verdict = decide(effect_between(low, low + width), margin / 100)

    assert (verdict == "regression") == (low > margin or (math.isclose(low, margin) and verdict == "regression"))
    assert not (verdict in {"pass", "improvement"} and low + width > margin + 1e-9)
    assert not (verdict in {"regression", "small slowdown"} and low < -1e-9)


# --- a family ------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 0.2), min_size=1, max_size=12), st.integers(0, 20))
def test_the_levels_reject_what_holm_rejects_when_it_is_done_one_by_one(p_values: list[float], settled: int) -> None:
    named = {f"cell {number:02}": p for number, p in enumerate(p_values)}
    family = len(named) + settled
    rejected = set()
    for position, (name, p) in enumerate(sorted(named.items(), key=lambda item: (item[1], item[0]))):
        if p > 0.05 / (family - position):
            break
        rejected.add(name)

    levels = holm_levels(named, family=family, family_alpha=0.05)

    assert {name for name, p in named.items() if p <= levels[name]} == rejected


def test_no_cell_of_a_small_family_is_tested_loosely() -> None:
    assert holm_levels({"only": 0.02}, family=1, family_alpha=0.05, cell_alpha=0.005) == {"only": 0.005}


def test_a_cell_within_its_margin_is_settled_by_the_screen() -> None:
    assert is_settled_by_screening([0.001, -0.001, 0.002, -0.002, 0.0, 0.001, -0.003, 0.002, 0.0, -0.001], 0.03, RULE)


@pytest.mark.parametrize(
    "log_ratios",
    [
        [0.05 + 0.001 * i for i in range(10)],  # slower
        [0.002 + 0.0001 * i for i in range(10)],  # hardly slower, and certainly
        [0.04 * (-1) ** i for i in range(10)],  # unknown
        [0.0, 0.0, 0.0],  # too few left
    ],
)
def test_everything_else_goes_on_to_confirmation(log_ratios: list[float]) -> None:
    assert not is_settled_by_screening(log_ratios, 0.03, RULE)


def test_confirmation_judges_each_cell_at_its_level() -> None:
    slower = [math.log(1.06) + 0.001 * (i % 7 - 3) for i in range(40)]
    unclear = [0.2 * (-1) ** i * (i % 4) for i in range(40)]

    found = confirm({"a": slower, "b": unclear, "c": []}, {"a": 0.03, "b": 0.03, "c": 0.03}, family=50, rule=RULE)

    assert {key: verdict for key, (verdict, _) in found.items()} == {
        "a": "regression",
        "b": "inconclusive",
        "c": "inconclusive",
    }
    first, second, third = found["a"][1], found["b"][1], found["c"][1]
    assert first is not None
    assert first.confidence == pytest.approx(1 - 2 * 0.05 / 50)
    assert second is not None
    assert second.confidence == pytest.approx(1 - 2 * 0.05 / 49)
    assert third is None


# --- on recorded noise ---------------------------------------------------------------------------------------------


def draws(count: int, trials: int, slowdown_pct: float) -> list[list[float]]:
    """So many comparisons of so many of the recorded trials, B slowed and the sides exchanged by chance."""
    chance = random.Random(7)
    shift = math.log1p(slowdown_pct / 100)
    return [[chance.choice((-1, 1)) * v + shift for v in chance.sample(AA_TRIALS, trials)] for _ in range(count)]


def flagged(comparisons: list[list[float]]) -> float:
    """The share that is called slower, by whatever amount."""
    verdicts = [compare_trials(comparison, 0.03)[0] for comparison in comparisons]
    return sum(verdict in {"regression", "small slowdown"} for verdict in verdicts) / len(verdicts)


def test_a_build_is_called_slower_than_itself_in_at_most_1_of_100_comparisons() -> None:
    assert flagged(draws(1500, 20, 0.0)) <= 0.01


def test_20_trials_find_9_of_10_slowdowns_of_2_pct_and_nearly_all_of_3() -> None:
    assert flagged(draws(500, 20, 2.0)) >= 0.9
    assert flagged(draws(500, 20, 3.0)) >= 0.95


def test_a_slowdown_at_the_margin_is_wrongly_passed_or_failed_in_about_1_of_100() -> None:
    verdicts = [compare_trials(comparison, 0.03)[0] for comparison in draws(1000, 20, 3.0)]

    assert verdicts.count("pass") / 1000 <= 0.015
    assert verdicts.count("regression") / 1000 <= 0.015


def test_an_unchanged_build_passes_a_margin_of_3_pct() -> None:
    verdicts = [compare_trials(comparison, 0.03)[0] for comparison in draws(500, 20, 0.0)]

    assert verdicts.count("pass") + verdicts.count("improvement") >= 0.98 * 500


def two_stages(slowdown_pct: float, *, family: int, count: int) -> float:
    """The share of cells that are claimed to be slower after both stages."""
    screened = draws(count, RULE.screen_trials, slowdown_pct)
    fresh = draws(count, RULE.confirm_trials, slowdown_pct)
    claimed = 0
    for first, second in zip(screened, fresh, strict=True):
        if not is_settled_by_screening(first, 0.03, RULE):
            ((verdict, _),) = confirm({"x": second}, {"x": 0.03}, family=family, rule=RULE).values()
            claimed += verdict in {"regression", "small slowdown"}
    return claimed / count


def test_two_stages_hardly_ever_claim_a_slowdown_that_is_none() -> None:
    assert two_stages(0.0, family=1, count=2000) <= 0.001


def test_two_stages_still_find_slowdowns() -> None:
    assert two_stages(2.0, family=1, count=300) >= 0.9
    assert two_stages(3.0, family=100, count=300) >= 0.95
