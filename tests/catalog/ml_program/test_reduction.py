from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from harness.catalog.ml_program import Unsupported
from tests.catalog.ml_program.building import agree, mb, random, run, run_one

if TYPE_CHECKING:
    from collections.abc import Callable

FORMULAS: dict[str, Callable[..., Any]] = {
    "reduce_l1_norm": lambda x, **how: np.abs(x).sum(**how),
    "reduce_l2_norm": lambda x, **how: np.sqrt((x**2).sum(**how)),
    "reduce_log_sum": lambda x, **how: np.log(x.sum(**how)),
    "reduce_log_sum_exp": lambda x, **how: np.log(np.exp(x).sum(**how)),
    "reduce_max": np.max,
    "reduce_mean": np.mean,
    "reduce_min": np.min,
    "reduce_prod": np.prod,
    "reduce_sum": np.sum,
    "reduce_sum_square": lambda x, **how: (x**2).sum(**how),
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("axes", [[0], [-1], [1, 2], [0, -1], None])
@pytest.mark.parametrize("keep_dims", [True, False])
def test_a_reduction_is_numpys(name: str, axes: list[int] | None, *, keep_dims: bool) -> None:
    x = np.abs(random(2, 3, 4)) + np.float32(0.5)
    axis = None if axes is None else tuple(axes)

    agree(
        lambda x: getattr(mb, name)(x=x, axes=axes, keep_dims=keep_dims),
        lambda x: FORMULAS[name](x, axis=axis, keepdims=keep_dims),
        x,
    )


@pytest.mark.parametrize("name", ["reduce_sum", "reduce_max", "reduce_min", "reduce_prod"])
def test_integers_are_reduced_exactly(name: str) -> None:
    x = random(3, 4, dtype="int32")

    found = run_one(lambda x: getattr(mb, name)(x=x, axes=[1], keep_dims=False), x)

    np.testing.assert_array_equal(found, FORMULAS[name](x, axis=1))


def test_a_mean_of_integers_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"reduce_mean\.x"):
        run_one(lambda x: mb.reduce_mean(x=x, axes=[0]), random(4, dtype="int32"))


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("keep_dims", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int32"])
def test_the_place_of_the_extreme_is_the_first_one(axis: int, dtype: str, *, keep_dims: bool) -> None:
    x = random(3, 4, 5, dtype="int32").astype(dtype)  # with many ties

    largest, smallest = run(
        lambda x: (
            mb.reduce_argmax(x=x, axis=axis, keep_dims=keep_dims),
            mb.reduce_argmin(x=x, axis=axis, keep_dims=keep_dims),
        ),
        x,
    )

    assert largest.dtype == np.int32
    np.testing.assert_array_equal(largest, np.argmax(x, axis, keepdims=keep_dims))
    np.testing.assert_array_equal(smallest, np.argmin(x, axis, keepdims=keep_dims))
