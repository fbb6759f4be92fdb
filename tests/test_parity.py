from __future__ import annotations

import numpy as np
import pytest

from harness.errors import NonFiniteOutput, ParityFailed, WrongInput
from harness.parity import TOLERANCES, compare, require, tolerance_for
from harness.records import Parity, Task, Tolerance

STRICT = Tolerance(relative_l2=1e-3, cosine=0.999)


def compared(
    found: object, expected: object, *, tolerance: Tolerance = STRICT, task: Task | None = "classification"
) -> Parity:
    return compare(
        {"y": np.asarray(found, dtype=np.float32)},
        {"scores": np.asarray(expected, dtype=np.float32)},
        tolerance=tolerance,
        executed_by="a runtime",
        reference="torch",
        task=task,
    )


def test_equal_outputs_have_no_error_and_pass() -> None:
    parity = compared([[1, 2, 3], [3, 2, 1]], [[1, 2, 3], [3, 2, 1]])

    output = parity.outputs[0]
    assert (output.max_abs, output.relative_l2, output.top1_agreement) == (0.0, 0.0, 1.0)
    assert output.cosine == pytest.approx(1.0, abs=1e-15)
    assert parity.passed
    assert parity.samples == 2


def test_the_metrics_are_those_of_their_definitions() -> None:
    output = compared([[3, 4], [0, 2]], [[3, 0], [0, 2]]).outputs[0]

    assert output.max_abs == 4.0
    assert output.relative_l2 == pytest.approx(4 / np.sqrt(13))  # sqrt(16) / sqrt(9 + 4)
    assert output.cosine == pytest.approx(3 / 5)  # the first sample: (3, 4) against (3, 0)
    assert output.top1_agreement == 0.5


def test_a_difference_in_the_eighth_digit_of_large_values_is_not_lost_in_the_sum() -> None:
    expected = np.full((1, 1_000_000), 1.0, dtype=np.float32)
    found = expected + np.float32(1.2e-7)

    assert compared(found, expected).outputs[0].relative_l2 == pytest.approx(1.19e-7, rel=0.01)


def test_the_first_output_beyond_its_limit_is_named_with_metric_value_and_limit() -> None:
    parity = compare(
        {"a": np.ones((2, 20)), "b": np.full((2, 20), 1.5), "c": np.full((2, 20), 9.0)},
        {"a": np.ones((2, 20)), "b": np.ones((2, 20)), "c": np.ones((2, 20))},
        tolerance=STRICT,
        executed_by="a runtime",
        reference="torch",
    )

    with pytest.raises(ParityFailed) as raised:
        require(parity, "net to onnx/fp32")

    error = raised.value
    assert (error.where, error.tensor, error.metric, error.limit) == ("net to onnx/fp32", "b", "relative L2", 1e-3)
    assert error.found == pytest.approx(0.5)
    assert not parity.passed


def test_outputs_are_paired_by_order_where_a_converter_renamed_them_and_reported_under_their_own_names() -> None:
    expected = {"total": np.ones((1, 2)), "difference": np.zeros((1, 3))}

    parity = compare(
        {"out_1": np.ones((1, 2)), "out_0": np.zeros((1, 3))},
        expected,
        tolerance=STRICT,
        executed_by="a runtime",
        reference="torch",
    )

    assert [output.tensor for output in parity.outputs] == ["total", "difference"]
    assert parity.passed


def test_outputs_of_the_same_names_are_paired_by_name_in_any_order() -> None:
    expected = {"a": np.ones((1, 2)), "b": np.zeros((1, 2))}
    found = {"b": np.zeros((1, 2)), "a": np.ones((1, 2))}

    assert compare(found, expected, tolerance=STRICT, executed_by="r", reference="t").passed


def test_nan_and_infinity_are_counted_and_refused() -> None:
    with pytest.raises(NonFiniteOutput) as raised:
        compared([[1, np.nan, np.inf]], [[1, 2, 3]])

    assert raised.value.args == ("a runtime", "scores", 2, 3)


@pytest.mark.parametrize("found", [np.ones((1, 4)), np.ones((2, 3)), np.ones(3)])
def test_another_shape_is_refused(found: np.ndarray) -> None:
    with pytest.raises(WrongInput, match="scores"):
        compared(found, np.ones((1, 3)))


def test_a_missing_output_is_refused() -> None:
    with pytest.raises(WrongInput, match="2 outputs"):
        compare(
            {"a": np.ones((1, 2))},
            {"a": np.ones((1, 2)), "b": np.ones((1, 2))},
            tolerance=STRICT,
            executed_by="r",
            reference="t",
        )


def test_a_tie_in_the_reference_is_no_disagreement() -> None:
    assert compared([[1, 1.0000001, 0]], [[1.0000001, 1, 0]]).outputs[0].top1_agreement == 1.0


def test_a_swap_of_two_distinct_scores_is_a_disagreement() -> None:
    assert compared([[1, 1.001, 0]], [[1.001, 1, 0]]).outputs[0].top1_agreement == 0.0


@pytest.mark.parametrize("task", ["embedding", "detection", "other"])
def test_top1_has_no_meaning_outside_classification(task: Task) -> None:
    assert compared([[1, 2]], [[1, 2]], task=task).outputs[0].top1_agreement is None


def test_top1_has_no_meaning_for_a_single_score() -> None:
    assert compared([[1], [2]], [[1], [2]]).outputs[0].top1_agreement is None


def test_an_output_of_zeros_equals_zeros_and_nothing_else() -> None:
    assert compared([[0, 0]], [[0, 0]]).passed
    assert not compared([[0, 1e-3]], [[0, 0]]).passed


def test_a_score_near_zero_that_changes_its_sign_is_judged_by_its_size_and_not_by_its_direction() -> None:
    tolerance = Tolerance(relative_l2=0.1, cosine=0.9)

    parity = compared([[-0.001], [5.0]], [[0.001], [5.0]], tolerance=tolerance)

    assert parity.outputs[0].cosine == -1.0
    assert parity.passed


def test_one_wrong_sample_of_many_fails_by_its_direction() -> None:
    expected = np.tile(np.arange(1, 33, dtype=np.float32), (100, 1))
    found = expected.copy()
    found[17] = found[17, ::-1]

    parity = compared(found, expected, tolerance=Tolerance(relative_l2=0.4, cosine=0.92))

    assert parity.outputs[0].relative_l2 < 0.1
    with pytest.raises(ParityFailed, match="cosine"):
        require(parity, "net")


def test_integer_outputs_are_compared_as_numbers() -> None:
    parity = compare(
        {"labels": np.array([[3], [200]], dtype=np.uint8)},
        {"labels": np.array([[3], [201]], dtype=np.uint8)},
        tolerance=STRICT,
        executed_by="r",
        reference="t",
    )

    assert parity.outputs[0].max_abs == 1.0


def test_a_top1_limit_is_judged_where_one_is_set() -> None:
    tolerance = Tolerance(relative_l2=None, cosine=None, top1_agreement=0.9)

    with pytest.raises(ParityFailed, match=r"top-1 agreement is 0\.5, the limit is 0\.9"):
        require(compared([[1, 2], [2, 1]], [[1, 2], [1, 2]], tolerance=tolerance), "net")


def test_every_precision_has_a_tolerance_and_less_precision_is_given_no_less_room() -> None:
    limits = [TOLERANCES[precision].relative_l2 for precision in ("fp32", "fp16", "int8")]

    assert limits == [1e-4, 5e-2, 0.4]


@pytest.mark.parametrize(("stored", "precision"), [("float32", "fp32"), ("float16", "fp16"), ("integer", "int8")])
def test_a_ready_file_is_judged_as_what_it_stores(stored: str, precision: str) -> None:
    assert tolerance_for("tflite", "source", stored_as=stored) == TOLERANCES[precision]  # type: ignore[index]
