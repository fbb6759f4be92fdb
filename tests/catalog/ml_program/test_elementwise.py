from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from harness.catalog.ml_program import Unsupported
from tests.catalog.ml_program.building import agree, like, mb, random, run, run_one

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Unary = Callable[[NDArray[Any]], NDArray[Any]]
    Binary = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]

ANY = random(2, 3, 4) * 2
POSITIVE = np.abs(ANY) + np.float32(0.1)
UNIT = np.tanh(ANY) * np.float32(0.9)


@pytest.mark.parametrize(
    ("name", "formula", "x"),
    [
        ("abs", np.abs, ANY),
        ("acos", np.arccos, UNIT),
        ("asin", np.arcsin, UNIT),
        ("atan", np.arctan, ANY),
        ("atanh", np.arctanh, UNIT),
        ("ceil", np.ceil, ANY),
        ("cos", np.cos, ANY),
        ("cosh", np.cosh, ANY),
        ("erf", np.vectorize(math.erf), ANY),
        ("exp", np.exp, ANY),
        ("exp2", np.exp2, ANY),
        ("floor", np.floor, ANY),
        ("identity", lambda x: x, ANY),
        ("round", np.round, np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.4, -0.6], np.float32)),
        ("sign", np.sign, np.array([-2, 0, 3], np.float32)),
        ("sin", np.sin, ANY),
        ("sinh", np.sinh, ANY),
        ("sqrt", np.sqrt, POSITIVE),
        ("square", np.square, ANY),
        ("tan", np.tan, UNIT),
        ("tanh", np.tanh, ANY),
    ],
)
def test_a_function_of_one_operand(name: str, formula: Unary, x: NDArray[Any]) -> None:
    agree(lambda x: getattr(mb, name)(x=x), formula, x)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("inverse", lambda x: 1 / (x + 0.25)),
        ("log", lambda x: np.log(x + 0.25)),
        ("rsqrt", lambda x: 1 / np.sqrt(x + 0.25)),
    ],
)
def test_epsilon_is_added_first(name: str, formula: Unary) -> None:
    agree(lambda x: getattr(mb, name)(x=x, epsilon=like(x, 0.25)), formula, POSITIVE)


def test_clip_and_threshold() -> None:
    agree(
        lambda x: (mb.clip(x=x, alpha=like(x, -0.5), beta=like(x, 1.5)), mb.threshold(x=x, alpha=like(x, 0.25))),
        lambda x: [np.clip(x, -0.5, 1.5), np.maximum(x, 0.25)],
        ANY,
    )


@pytest.mark.parametrize("shapes", [((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (3, 1)), ((1, 4), (2, 3, 1)), ((2, 3), (1,))])
@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("add", np.add),
        ("sub", np.subtract),
        ("mul", np.multiply),
        ("real_div", np.divide),
        ("maximum", np.maximum),
        ("minimum", np.minimum),
        ("pow", lambda x, y: np.power(np.abs(x) + 0.5, y)),
        ("floor_div", np.floor_divide),
        ("mod", np.mod),
    ],
)
def test_a_function_of_two_operands_broadcasts(
    name: str, formula: Binary, shapes: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    # Quarters: exact in both types, so that quotients fall on the same side of a whole number.
    x, y = (np.round(random(*shape, seed=seed) * 8) / 4 for seed, shape in enumerate(shapes))
    y = np.where(y == 0, 0.75, y).astype(np.float32)

    def build(x: Any, y: Any) -> Any:
        x = mb.add(x=mb.abs(x=x), y=like(x, 0.5)) if name == "pow" else x
        return getattr(mb, name)(x=x, y=y)

    agree(build, formula, x.astype(np.float32), y)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("add", np.add),
        ("sub", np.subtract),
        ("mul", np.multiply),
        ("maximum", np.maximum),
        ("minimum", np.minimum),
        ("floor_div", np.floor_divide),
        ("mod", np.mod),
    ],
)
def test_integers_stay_integers(name: str, formula: Binary) -> None:
    x, y = random(20, dtype="int32"), random(20, dtype="int32", seed=1)
    y = np.where(y == 0, 5, y).astype(np.int32)

    found = run_one(lambda x, y: getattr(mb, name)(x=x, y=y), x, y)

    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, formula(x, y))


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("equal", np.equal),
        ("not_equal", np.not_equal),
        ("greater", np.greater),
        ("greater_equal", np.greater_equal),
        ("less", np.less),
        ("less_equal", np.less_equal),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int32"])
def test_a_comparison_is_a_boolean(name: str, formula: Binary, dtype: str) -> None:
    x, y = (random(30, dtype="int32", seed=seed).astype(dtype) for seed in (0, 1))
    x[:5] = y[:5]

    found = run_one(lambda x, y: mb.cast(x=getattr(mb, name)(x=x, y=y), dtype="int32"), x, y)

    np.testing.assert_array_equal(found, formula(x, y))


@pytest.mark.parametrize(
    ("name", "formula"),
    [("logical_and", np.logical_and), ("logical_or", np.logical_or), ("logical_xor", np.logical_xor)],
)
def test_logic(name: str, formula: Binary) -> None:
    x, y = random(20, dtype="int32"), random(20, dtype="int32", seed=1)

    def build(x: Any, y: Any) -> Any:
        result = getattr(mb, name)(x=mb.greater(x=x, y=0), y=mb.greater(x=y, y=0))
        return mb.cast(x=result, dtype="int32"), mb.cast(x=mb.logical_not(x=result), dtype="int32")

    found, negated = run(build, x, y)

    np.testing.assert_array_equal(found, formula(x > 0, y > 0))
    np.testing.assert_array_equal(negated, ~formula(x > 0, y > 0))


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("int32", [-2, -1, 0, 0, 1, 2]),
        ("bool", [1, 1, 0, 1, 1, 1]),
        ("fp16", [-2.75, -1.5, 0, 0.1, 1.5, 2.75]),
        ("int8", [-2, -1, 0, 0, 1, 2]),
    ],
)
def test_a_cast_goes_towards_zero_and_takes_anything_but_zero_for_true(to: str, expected: list[float]) -> None:
    x = np.array([-2.75, -1.5, 0, 0.1, 1.5, 2.75], np.float32)

    found = run_one(lambda x: mb.cast(x=mb.cast(x=x, dtype=to), dtype="fp32"), x)

    assert found.dtype == np.float32
    wanted = np.array(expected, np.float16).astype(np.float32) if to == "fp16" else np.array(expected, np.float32)
    np.testing.assert_array_equal(found, wanted)


def test_a_cast_that_does_not_fit_is_refused() -> None:
    with pytest.raises(Unsupported, match="outside int8"):
        run_one(lambda x: mb.cast(x=mb.cast(x=x, dtype="int8"), dtype="fp32"), np.array([300.0], np.float32))


def test_infinity_has_no_integer() -> None:
    with pytest.raises(Unsupported, match=r"cast\.x"):
        run_one(lambda x: mb.cast(x=x, dtype="int32"), np.array([np.inf], np.float32))


def test_select_takes_from_one_or_the_other() -> None:
    agree(
        lambda x, y: mb.select(cond=mb.greater(x=x, y=y), a=x, b=y),
        lambda x, y: np.where(x > y, x, y),
        random(3, 4),
        random(3, 4, seed=1),
    )


def test_a_real_quotient_of_integers_is_refused() -> None:
    with pytest.raises(Unsupported, match="real_div"):
        run_one(lambda x, y: mb.real_div(x=x, y=y), random(3, dtype="int32"), np.ones(3, np.int32))


def test_an_integer_result_outside_its_type_is_refused() -> None:
    with pytest.raises(Unsupported, match="outside int32"):
        run_one(lambda x: mb.mul(x=x, y=x), np.array([100_000], np.int32))
