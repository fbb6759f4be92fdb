"""Error rates against hand-computed cases and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import DegenerateScores
from harness.evaluate.pairs import Scores, compare
from harness.evaluate.rates import curve_of, verify


def scores_of(genuine: list[float], impostor: list[float]) -> Scores:
    """Pairs of subjects that do not matter: all of 0, and of 0 and 1."""
    return Scores(
        genuine=np.asarray(genuine, dtype=np.float64),
        impostor=np.asarray(impostor, dtype=np.float64),
        genuine_subject=np.zeros(len(genuine), dtype=np.int64),
        impostor_subjects=np.tile(np.asarray([0, 1]), (len(impostor), 1)),
        subjects=2,
        pairing="all pairs",
    )


def test_scores_that_do_not_overlap_have_no_errors() -> None:
    curve = curve_of(scores_of([0.8, 0.9], [0.1, 0.2]))

    assert (curve.eer(), curve.auc(), curve.fnmr_at(0.01)) == (0.0, 1.0, 0.0)


def test_scores_the_wrong_way_round_are_all_errors() -> None:
    curve = curve_of(scores_of([0.1, 0.2], [0.8, 0.9]))

    assert (curve.eer(), curve.auc(), curve.fnmr_at(0.01)) == (1.0, 0.0, 1.0)


def test_a_case_worked_out_by_hand() -> None:
    # At 0.5: impostors 0.6 match (1 of 4), genuine 0.4 does not (1 of 4).
    curve = curve_of(scores_of([0.4, 0.7, 0.8, 0.9], [0.1, 0.2, 0.3, 0.6]))

    assert curve.eer() == 0.25
    assert curve.auc() == 15 / 16
    assert curve.fnmr_at(0.25) == 0.0
    assert curve.fnmr_at(0.01) == 0.25


@pytest.mark.parametrize("impostors", [100, 1000])
def test_exactly_the_allowed_rate_of_false_matches_is_allowed(impostors: int) -> None:
    curve = curve_of(scores_of([0.5, 0.95], [0.9, *np.linspace(0, 0.1, impostors - 1)]))

    assert curve.fnmr_at(1 / impostors) == 0.0
    assert curve.fnmr_at(0.5 / impostors) == 0.5


def test_equal_scores_of_both_kinds_count_half() -> None:
    curve = curve_of(scores_of([0.5, 0.5], [0.5, 0.5]))

    assert (curve.eer(), curve.auc()) == (0.5, 0.5)


@settings(max_examples=60, deadline=None)
@given(
    genuine=st.lists(st.integers(-20, 20), min_size=1, max_size=40),
    impostor=st.lists(st.integers(-20, 20), min_size=1, max_size=40),
)
def test_rates_are_those_of_scikit_learn(genuine: list[int], impostor: list[int]) -> None:
    from scipy.optimize import brentq
    from sklearn.metrics import roc_auc_score, roc_curve

    curve = curve_of(scores_of([score / 20 for score in genuine], [score / 20 for score in impostor]))
    is_genuine = [1] * len(genuine) + [0] * len(impostor)
    both = [score / 20 for score in (*genuine, *impostor)]
    fpr, tpr, _ = roc_curve(is_genuine, both, drop_intermediate=False)

    np.testing.assert_allclose(curve.fmr[::-1], fpr)
    np.testing.assert_allclose(1 - curve.fnmr[::-1], tpr, atol=1e-12)
    assert curve.auc() == pytest.approx(roc_auc_score(is_genuine, both))
    # Where the line runs straight up, FMR is no function to look up: follow the line by its length instead.
    along = np.arange(len(fpr), dtype=np.float64)
    crossing = brentq(lambda at: 1 - np.interp(at, along, tpr) - np.interp(at, along, fpr), 0, along[-1])
    assert curve.eer() == pytest.approx(np.interp(crossing, along, fpr), abs=1e-9)


def test_intervals_hold_the_figure_and_shrink_with_more_subjects() -> None:
    few, many = (verify(_noisy(subjects), embedding_length=8, samples=50) for subjects in (10, 80))

    for verification in (few, many):
        eer = verification.eer
        assert eer.low is not None
        assert eer.high is not None
        assert eer.low <= eer.value <= eer.high
    assert _width(many.eer) < _width(few.eer)


def test_a_subject_drawn_twice_counts_twice() -> None:
    from harness.evaluate.rates import _Curves

    scores = _noisy(4)
    counts = np.asarray([2, 0, 1, 1])
    repeated_genuine = np.repeat(scores.genuine, counts[scores.genuine_subject])
    repeated_impostor = np.repeat(scores.impostor, counts[scores.impostor_subjects].prod(axis=1))

    weighted = _Curves(scores).of(counts)
    spelled_out = curve_of(scores_of(list(repeated_genuine), list(repeated_impostor)))

    assert weighted is not None
    assert weighted.eer() == pytest.approx(spelled_out.eer())
    assert weighted.auc() == pytest.approx(spelled_out.auc())


def test_a_rate_that_too_few_impostors_can_show_is_unknown() -> None:
    verification = verify(scores_of([0.9] * 3, [0.1] * 200), embedding_length=2, samples=5)

    assert verification.fnmr_at_fmr_1e2 is not None
    assert verification.fnmr_at_fmr_1e3 is None


def test_the_stored_curve_ends_where_everybody_and_nobody_matches() -> None:
    curve = verify(_noisy(20), embedding_length=8, samples=2).curve

    assert (curve[0].fmr, curve[0].fnmr) == (1.0, 0.0)
    assert all(np.isfinite(point.threshold) for point in curve)
    assert [point.fmr for point in curve] == sorted((point.fmr for point in curve), reverse=True)


def test_only_images_of_different_sessions_are_compared() -> None:
    embeddings = np.random.default_rng(0).standard_normal((8, 4))
    scores = compare(embeddings, np.repeat([0, 1], 4), np.tile([0, 0, 1, 1], 2))

    assert scores.pairing == "across sessions"
    assert (len(scores.genuine), len(scores.impostor)) == (8, 8)


def test_with_one_session_all_images_are_compared() -> None:
    embeddings = np.random.default_rng(0).standard_normal((6, 4))
    scores = compare(embeddings, np.repeat([0, 1], 3), np.zeros(6, dtype=np.int64))

    assert scores.pairing == "all pairs"
    assert (len(scores.genuine), len(scores.impostor)) == (6, 9)


def test_the_score_is_the_cosine() -> None:
    scores = compare(
        np.asarray([[3.0, 0.0], [5.0, 0.0], [0.0, 2.0]]), np.asarray([0, 0, 1]), np.zeros(3, dtype=np.int64)
    )

    assert scores.genuine.tolist() == [1.0]
    assert scores.impostor.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("embeddings", "said"),
    [
        (np.full((4, 2), np.nan), "not finite"),
        (np.zeros((4, 2)), "4 of 4 embeddings are zero"),
        (np.ones((4, 2)), "point the same way"),
    ],
)
def test_embeddings_that_tell_nobody_apart_are_refused(embeddings: np.ndarray, said: str) -> None:
    with pytest.raises(DegenerateScores, match=said):
        compare(embeddings, np.asarray([0, 0, 1, 1]), np.zeros(4, dtype=np.int64), what="net")


def test_one_subject_alone_cannot_be_verified() -> None:
    with pytest.raises(DegenerateScores, match="two subjects"):
        compare(np.eye(3), np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64))


def _noisy(subjects: int) -> Scores:
    generator = np.random.default_rng(subjects)
    subject = np.repeat(np.arange(subjects), 4)
    embeddings = generator.standard_normal((subjects, 8))[subject] + 0.9 * generator.standard_normal((len(subject), 8))
    return compare(embeddings, subject, np.tile([0, 0, 1, 1], subjects))


def _width(estimate: object) -> float:
    return estimate.high - estimate.low  # type: ignore[attr-defined,no-any-return]
