from __future__ import annotations

import numpy as np
import pytest

from harness.catalog.ml_program import Unsupported
from tests.catalog.ml_program.building import agree, mb, random, run, run_one


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("indices", [[0], [2, 0, 1, 2], [[0, 2], [1, 1]]])
def test_gather_takes_slices(axis: int, indices: list[int]) -> None:
    agree(lambda x: mb.gather(x=x, indices=indices, axis=axis), lambda x: np.take(x, indices, axis), random(3, 4, 5))


def test_gather_with_a_batch_takes_other_slices_for_each() -> None:
    indices = np.array([[0, 3], [1, 1]], np.int32)

    agree(
        lambda x: mb.gather(x=x, indices=indices, axis=1, batch_dims=1),
        lambda x: np.stack([x[0][indices[0]], x[1][indices[1]]]),
        random(2, 4, 5),
    )


def test_negative_indices_count_from_the_end_up_to_ios_16() -> None:
    agree(lambda x: mb.gather(x=x, indices=[-1, 0], axis=0), lambda x: x[[-1, 0]], random(3, 4), target="iOS16")


@pytest.mark.parametrize("index", [-1, 3])
def test_indices_outside_are_refused_from_ios_17_on(index: int) -> None:
    with pytest.raises(Unsupported, match=r"gather\.indices"):
        run_one(lambda x, i: mb.gather(x=x, indices=i, axis=0), random(3, 4), np.array([index], np.int32))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_along_an_axis(axis: int) -> None:
    indices = np.random.default_rng(0).integers(0, 3, (3, 3, 3)).astype(np.int32)

    agree(
        lambda x: mb.gather_along_axis(x=x, indices=indices, axis=axis),
        lambda x: np.take_along_axis(x, indices, axis),
        random(3, 3, 3),
    )


def test_gather_nd_takes_slices_at_coordinates() -> None:
    indices = np.array([[0, 1], [2, 3]], np.int32)
    batched = np.array([[[1], [0]], [[3], [3]], [[2], [0]]], np.int32)

    agree(
        lambda x: (mb.gather_nd(x=x, indices=indices), mb.gather_nd(x=x, indices=batched, batch_dims=1)),
        lambda x: [x[[0, 2], [1, 3]], np.stack([x[i][batched[i, :, 0]] for i in range(3)])],
        random(3, 4, 5),
    )


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("axis", [0, -1])
def test_topk_and_argsort_are_in_order(axis: int, *, ascending: bool) -> None:
    x = random(5, 6)
    order = np.argsort(x if ascending else -x, axis, kind="stable")
    first = np.take(order, range(3), axis)

    values, places, everywhere = run(
        lambda x: (*mb.topk(x=x, k=3, axis=axis, ascending=ascending), mb.argsort(x=x, axis=axis, ascending=ascending)),
        x,
    )

    np.testing.assert_array_equal(places, first)
    np.testing.assert_array_equal(values, np.take_along_axis(x, first, axis))
    np.testing.assert_array_equal(everywhere, order)


def test_topk_without_an_order_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"topk\.sort"):
        run(lambda x: mb.topk(x=x, k=2, sort=False), random(3, 4))


def test_topk_can_give_the_values_alone() -> None:
    x = random(3, 4)

    found = run(lambda x: mb.topk(x=x, k=2, return_indices=False), x)

    np.testing.assert_array_equal(found[0], -np.sort(-x, -1)[:, :2])
    assert len(found) == 1
