from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from harness.catalog.ml_program import Unsupported
from tests.catalog.ml_program.building import agree, like, mb, random, run_one

GAMMA, BETA, MEAN = random(4, seed=1), random(4, seed=2), random(4, seed=3)
VARIANCE = np.abs(random(4, seed=4)) + 0.1


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 4, 5, 3), (1, 4, 2, 3, 2)])
@pytest.mark.parametrize("epsilon", [1e-5, 1e-2])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm(shape: tuple[int, ...], epsilon: float, *, affine: bool) -> None:
    scale = {"gamma": GAMMA, "beta": BETA} if affine else {}
    along = (1, -1, *[1] * (len(shape) - 2))

    agree(
        lambda x: mb.batch_norm(x=x, mean=MEAN, variance=VARIANCE, epsilon=np.float32(epsilon), **scale),
        lambda x: (
            (x - MEAN.reshape(along))
            / np.sqrt(VARIANCE.reshape(along) + epsilon)
            * (GAMMA.reshape(along) if affine else 1)
            + (BETA.reshape(along) if affine else 0)
        ),
        random(*shape),
    )


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 4, 5, 3)])
@pytest.mark.parametrize("affine", [True, False])
def test_instance_norm(shape: tuple[int, ...], *, affine: bool) -> None:
    scale = {"gamma": GAMMA, "beta": BETA} if affine else {}
    over = tuple(range(2, len(shape)))
    along = (1, -1, *[1] * (len(shape) - 2))

    agree(
        lambda x: mb.instance_norm(x=x, epsilon=np.float32(1e-3), **scale),
        lambda x: (
            (x - x.mean(over, keepdims=True))
            / np.sqrt(x.var(over, keepdims=True) + 1e-3)
            * (GAMMA.reshape(along) if affine else 1)
            + (BETA.reshape(along) if affine else 0)
        ),
        random(*shape),
    )


@pytest.mark.parametrize("axes", [[-1], [2], [1, 2], [-1, -2], [0, 1, 2], [1], [0, 2]])
@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm_over_any_axes(axes: list[int], *, affine: bool) -> None:
    over = tuple(sorted(axis % 3 for axis in axes))
    shape = [(2, 3, 4)[axis] for axis in over]
    kept = [size if axis in over else 1 for axis, size in enumerate((2, 3, 4))]
    gamma, beta = random(*shape, seed=1), random(*shape, seed=2)
    scale = {"gamma": gamma, "beta": beta} if affine else {}

    agree(
        lambda x: mb.layer_norm(x=x, axes=axes, epsilon=np.float32(1e-3), **scale),
        lambda x: (
            (x - x.mean(over, keepdims=True))
            / np.sqrt(x.var(over, keepdims=True) + 1e-3)
            * (gamma.reshape(kept) if affine else 1)
            + (beta.reshape(kept) if affine else 0)
        ),
        random(2, 3, 4),
    )


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 4, 5), (2, 2, 3, 1, 4)])
def test_l2_norm_is_over_the_last_three_dimensions(shape: tuple[int, ...]) -> None:
    agree(
        lambda x: mb.l2_norm(x=x, epsilon=like(x, 1e-2)),
        lambda x: x / np.sqrt((x**2).sum((-3, -2, -1), keepdims=True) + 1e-2),
        random(*shape),
    )


@pytest.mark.parametrize("size", [1, 3, 5])
def test_local_response_norm_is_torchs(size: int) -> None:
    agree(
        lambda x: mb.local_response_norm(x=x, size=size, alpha=like(x, 0.5), beta=like(x, 0.75), k=like(x, 2.0)),
        lambda x: F.local_response_norm(torch.from_numpy(x), size, 0.5, 0.75, 2.0).numpy(),
        random(2, 7, 3, 4),
    )


def test_a_local_response_over_an_even_number_of_channels_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"local_response_norm\.size"):
        run_one(lambda x: mb.local_response_norm(x=x, size=4), random(1, 8, 2, 2))
