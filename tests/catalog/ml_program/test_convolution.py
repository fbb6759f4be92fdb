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


def naive_conv(
    x: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    *,
    strides: tuple[int, ...],
    pads: list[tuple[int, int]],
    dilations: tuple[int, ...],
    groups: int,
) -> NDArray[Any]:
    """The definition, one output element at a time."""
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    kernel = weight.shape[2:]
    sizes = [
        (have - (k - 1) * d - 1) // s + 1 for have, k, d, s in zip(x.shape[2:], kernel, dilations, strides, strict=True)
    ]
    outputs, inputs = weight.shape[:2]
    y = np.zeros((x.shape[0], outputs, *sizes))
    for at in np.ndindex(*sizes):
        window = x[
            (
                slice(None),
                slice(None),
                *(
                    slice(i * s, i * s + (k - 1) * d + 1, d)
                    for i, s, k, d in zip(at, strides, kernel, dilations, strict=True)
                ),
            )
        ]
        for out in range(outputs):
            first = out // (outputs // groups) * inputs
            y[(slice(None), out, *at)] = (window[:, first : first + inputs] * weight[out]).sum(
                tuple(range(1, weight.ndim))
            )
    return y if bias is None else y + bias.reshape(1, -1, *[1] * len(kernel))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    ("strides", "dilations", "groups"), [(1, 1, 1), (2, 1, 1), (1, 2, 1), (2, 1, 2), (1, 1, 4), (3, 2, 2)]
)
def test_convolution_is_its_definition(rank: int, strides: int, dilations: int, groups: int) -> None:
    x, bias = random(2, 4, *(7, 8, 6)[:rank]), random(8, seed=2)
    weight = random(8, 4 // groups, *(3, 2, 3)[:rank], seed=1)
    pads = [(1, 2), (0, 1), (2, 0)][:rank]

    agree(
        lambda x: mb.conv(
            x=x,
            weight=weight.astype(np.float32),
            bias=bias,
            strides=[strides] * rank,
            dilations=[dilations] * rank,
            groups=groups,
            pad_type="custom",
            pad=[amount for pair in pads for amount in pair],
        ),
        lambda x: naive_conv(
            x, weight, bias, strides=(strides,) * rank, pads=pads, dilations=(dilations,) * rank, groups=groups
        ),
        x,
    )


@pytest.mark.parametrize("size", [7, 8, 9])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("pad_type", "extra_first"), [("same", False), ("same_lower", True)])
def test_same_padding_gives_ceil_of_size_by_stride_and_puts_the_odd_one_where_it_says(
    size: int, kernel: int, stride: int, pad_type: str, *, extra_first: bool
) -> None:
    x, weight = random(1, 1, size), random(1, 1, kernel, seed=1)
    total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    half = (total + 1) // 2 if extra_first else total // 2

    found = run_one(lambda x: mb.conv(x=x, weight=weight, strides=[stride], pad_type=pad_type), x)

    expected = naive_conv(x, weight, None, strides=(stride,), pads=[(half, total - half)], dilations=(1,), groups=1)
    assert found.shape[-1] == -(-size // stride)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_no_bias_and_no_parameters_are_a_valid_convolution() -> None:
    weight = random(3, 2, 2, 2, seed=1)

    agree(
        lambda x: mb.conv(x=x, weight=weight),
        lambda x: naive_conv(x, weight, None, strides=(1, 1), pads=[(0, 0)] * 2, dilations=(1, 1), groups=1),
        random(1, 2, 4, 5),
    )


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    ("stride", "padding", "groups", "dilation"), [(1, 0, 1, 1), (2, 1, 1, 1), (2, 1, 2, 1), (3, 2, 1, 2)]
)
def test_transposed_convolution_is_torchs(rank: int, stride: int, padding: int, groups: int, dilation: int) -> None:
    x, bias = random(2, 4, *(5, 4, 3)[:rank]), random(6, seed=2)
    weight = random(4, 6 // groups, *(3, 4, 3)[:rank], seed=1)
    torchs = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]

    agree(
        lambda x: mb.conv_transpose(
            x=x,
            weight=weight,
            bias=bias,
            strides=[stride] * rank,
            pad_type="custom",
            pad=[padding] * 2 * rank,
            dilations=[dilation] * rank,
            groups=groups,
        ),
        lambda x: torchs(
            torch.from_numpy(x),
            torch.from_numpy(weight).double(),
            torch.from_numpy(bias).double(),
            stride,
            padding,
            0,
            groups,
            dilation,
        ).numpy(),
        x,
    )


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (4, 2), (2, 2), (3, 3), (2, 3), (5, 2)])
def test_same_transposed_convolution_multiplies_the_size_and_is_the_gradient_of_the_same_convolution(
    kernel: int, stride: int
) -> None:
    x, weight = random(1, 1, 5), random(1, 1, kernel, seed=1)
    size = 5 * stride
    total = max(0, (5 - 1) * stride + kernel - size)
    image = torch.zeros(1, 1, size, requires_grad=True)
    padded = F.pad(image, (total // 2, total - total // 2))
    F.conv1d(padded, torch.from_numpy(weight), stride=stride).backward(torch.from_numpy(x))  # type: ignore[no-untyped-call]
    assert image.grad is not None

    found = run_one(lambda x: mb.conv_transpose(x=x, weight=weight, strides=[stride], pad_type="same"), x)

    np.testing.assert_allclose(found, image.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_an_output_shape_larger_than_the_padding_leaves_is_torchs_output_padding() -> None:
    x, weight, bias = random(1, 2, 4, 5), random(2, 3, 3, 3, seed=1), random(3, seed=2)

    agree(
        lambda x: mb.conv_transpose(
            x=x,
            weight=weight,
            bias=bias,
            strides=[2, 2],
            pad_type="custom",
            pad=[1, 1, 1, 1],
            output_shape=[1, 3, 8, 10],
        ),
        lambda x: F.conv_transpose2d(
            torch.from_numpy(x), torch.from_numpy(weight).double(), torch.from_numpy(bias).double(), 2, 1, 1
        ).numpy(),
        x,
    )


def test_an_output_shape_that_same_padding_does_not_give_is_refused() -> None:
    weight = random(1, 1, 3, seed=1)

    with pytest.raises(Unsupported, match=r"conv_transpose\.output_shape"):
        run_one(
            lambda x: mb.conv_transpose(x=x, weight=weight, strides=[2], pad_type="same", output_shape=[1, 1, 9]),
            random(1, 1, 5),
        )
