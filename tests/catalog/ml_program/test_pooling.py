from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from harness.catalog.ml_program import Unsupported
from tests.catalog.ml_program.building import agree, mb, random, run_one

if TYPE_CHECKING:
    from numpy.typing import NDArray


def naive_pool(
    x: NDArray[Any], kernel: list[int], strides: list[int], pads: list[tuple[int, int]], *, how: str
) -> NDArray[Any]:
    """One window at a time; `mean_of_real` leaves padding out of the count."""
    fill = {"max": -np.inf, "mean": 0.0, "mean_of_real": np.nan}[how]
    reduce: Any = {"max": np.max, "mean": np.mean, "mean_of_real": np.nanmean}[how]
    x = np.pad(x, [(0, 0), (0, 0), *pads], constant_values=fill)
    sizes = [(have - k) // s + 1 for have, k, s in zip(x.shape[2:], kernel, strides, strict=True)]
    y = np.zeros((*x.shape[:2], *sizes))
    for at in np.ndindex(*sizes):
        window: tuple[Any, ...] = tuple(slice(i * s, i * s + k) for i, s, k in zip(at, strides, kernel, strict=True))
        y[(..., *at)] = reduce(x[(..., *window)], axis=tuple(range(2, x.ndim)))
    return y


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("pads", [[(0, 0), (0, 0), (0, 0)], [(1, 1), (1, 0), (0, 1)]])
def test_pooling_is_its_definition(rank: int, stride: int, pads: list[tuple[int, int]]) -> None:
    x = random(2, 3, *(7, 6, 5)[:rank])
    kernel, strides, pads = [3, 2, 3][:rank], [stride] * rank, pads[:rank]
    padding = {"pad_type": "custom", "pad": [amount for pair in pads for amount in pair]}

    agree(
        lambda x: (
            mb.max_pool(x=x, kernel_sizes=kernel, strides=strides, **padding),
            mb.avg_pool(x=x, kernel_sizes=kernel, strides=strides, **padding),
            mb.avg_pool(x=x, kernel_sizes=kernel, strides=strides, exclude_padding_from_average=True, **padding),
        ),
        lambda x: [naive_pool(x, kernel, strides, pads, how=how) for how in ("max", "mean", "mean_of_real")],
        x,
    )


@pytest.mark.parametrize("size", [6, 7, 8])
@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_pooling_pads_as_the_same_convolution(size: int, kernel: int, stride: int) -> None:
    total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    less, more = total // 2, total - total // 2

    agree(
        lambda x: (
            mb.max_pool(x=x, kernel_sizes=[kernel], strides=[stride], pad_type="same"),
            mb.max_pool(x=x, kernel_sizes=[kernel], strides=[stride], pad_type="same_lower"),
        ),
        lambda x: [naive_pool(x, [kernel], [stride], [pads], how="max") for pads in ((less, more), (more, less))],
        random(1, 2, size),
    )


@pytest.mark.parametrize("size", [5, 6, 7, 8])
@pytest.mark.parametrize(
    ("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 0), (3, 2, 1), (2, 2, 1), (3, 3, 1), (4, 3, 2)]
)
def test_ceil_mode_is_torchs(size: int, kernel: int, stride: int, pad: int) -> None:
    padding: dict[str, Any] = {"pad_type": "custom", "pad": [pad] * 4} if pad else {"pad_type": "valid"}
    common = {"kernel_sizes": [kernel] * 2, "strides": [stride] * 2, "ceil_mode": True, **padding}

    agree(
        lambda x: (
            mb.max_pool(x=x, **common),
            mb.avg_pool(x=x, exclude_padding_from_average=True, **common),
        ),
        lambda x: [
            F.max_pool2d(torch.from_numpy(x), kernel, stride, pad, ceil_mode=True).numpy(),
            F.avg_pool2d(torch.from_numpy(x), kernel, stride, pad, ceil_mode=True, count_include_pad=False).numpy(),
        ],
        random(1, 2, size, size + 1),
    )


def test_an_average_over_windows_that_hang_over_is_refused_because_their_count_is_not_defined() -> None:
    with pytest.raises(Unsupported, match=r"avg_pool\.ceil_mode .*counts padding"):
        run_one(
            lambda x: mb.avg_pool(x=x, kernel_sizes=[2], strides=[2], pad_type="valid", ceil_mode=True),
            random(1, 1, 5),
        )


def test_ceil_mode_that_changes_nothing_counts_padding_as_usual() -> None:
    agree(
        lambda x: mb.avg_pool(x=x, kernel_sizes=[2], strides=[2], pad_type="valid", ceil_mode=True),
        lambda x: naive_pool(x, [2], [2], [(0, 0)], how="mean"),
        random(1, 1, 6),
    )


def test_a_window_wholly_outside_is_refused() -> None:
    with pytest.raises(Unsupported, match="begins outside"):
        run_one(
            lambda x: mb.max_pool(x=x, kernel_sizes=[1], strides=[3], pad_type="valid", ceil_mode=True),
            random(1, 1, 5),
        )
