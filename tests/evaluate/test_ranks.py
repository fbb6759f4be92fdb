"""Top-1 and top-5 against hand-computed cases and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import DegenerateScores
from harness.evaluate.ranks import classify


def test_a_case_worked_out_by_hand() -> None:
    logits = np.asarray([[0, 5, 1, 2, 3, 4], [9, 0, 0, 0, 0, 0], [5, 4, 3, 2, 1, 0]], dtype=np.float32)

    found = classify(logits, np.asarray([1, 0, 5]))

    assert found.top1.value == pytest.approx(2 / 3)
    assert found.top5 is not None
    assert found.top5.value == pytest.approx(2 / 3)


def test_shares_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import top_k_accuracy_score

    generator = np.random.default_rng(0)
    logits, labels = generator.standard_normal((300, 12)), generator.integers(0, 12, 300)
    logits[np.arange(300), labels] += 1

    found = classify(logits, labels)

    assert found.top5 is not None
    assert found.top1.value == pytest.approx(top_k_accuracy_score(labels, logits, k=1, labels=np.arange(12)))
    assert found.top5.value == pytest.approx(top_k_accuracy_score(labels, logits, k=5, labels=np.arange(12)))


def test_the_same_answer_for_everything_is_right_by_chance_only() -> None:
    found = classify(np.zeros((10, 10), dtype=np.float32), np.arange(10))

    assert found.top1.value == pytest.approx(0.1)


def test_among_five_classes_the_first_five_say_nothing() -> None:
    assert classify(np.eye(5), np.arange(5)).top5 is None


def test_labels_that_the_network_does_not_know_are_refused() -> None:
    with pytest.raises(DegenerateScores, match="it knows 3 classes, and the data have 4"):
        classify(np.zeros((4, 3)), np.arange(4))


def test_logits_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(DegenerateScores, match="not finite"):
        classify(np.full((2, 3), np.nan), np.arange(2))
