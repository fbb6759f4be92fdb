"""conv and conv_transpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation

from harness.catalog.ml_program.operators.window import padded, pads_of
from harness.catalog.ml_program.unsupported import NotCovered

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from harness.catalog.ml_program.operators.operator import Ints

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    """Convolve `[N, C, *D]` with `[out, C / groups, *K]`. Source: iOS15/conv.py, class conv; iOS17 adds dtypes."""
    rank = weight.dim() - 2
    if rank not in _CONV or x.dim() != weight.dim():
        raise NotCovered("weight", f"rank {weight.dim()} with an input of rank {x.dim()}")
    strides, dilations = strides or (1,) * rank, dilations or (1,) * rank
    pads = pads_of(pad_type, pad, sizes=x.shape[2:], kernel=weight.shape[2:], strides=strides, dilations=dilations)
    return _CONV[rank](padded(x, pads), weight, bias, strides, 0, dilations, groups)


def conv_transpose(  # noqa: PLR0917 - by keyword in practice
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    pad: Ints | None = None,
    output_shape: Ints | None = None,
    pad_type: str = "valid",
    strides: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    """Convolve `[N, C, *D]` transposed with `[C, out / groups, *K]`.

    `pad` is taken away from the full result. An `output_shape` larger than what then remains adds zeros at the end,
    before the bias (PyTorch's `output_padding`).

    Source: iOS15/conv.py, class conv_transpose.
    """
    rank = weight.dim() - 2
    if rank not in _CONV_TRANSPOSE or x.dim() != weight.dim():
        raise NotCovered("weight", f"rank {weight.dim()} with an input of rank {x.dim()}")
    strides, dilations = strides or (1,) * rank, dilations or (1,) * rank
    full = _CONV_TRANSPOSE[rank](x, weight, None, strides, 0, 0, groups, dilations)
    spatial = full.shape[2:]
    if pad_type == "same":
        wanted = tuple(size * stride for size, stride in zip(x.shape[2:], strides, strict=True))
        cut = [max(0, have - want) for have, want in zip(spatial, wanted, strict=True)]
        before = [surplus // 2 for surplus in cut]
    elif pad_type == "custom":
        if pad is None or len(pad) != 2 * rank:
            raise NotCovered("pad", f"{pad} with pad_type custom")
        before = list(pad[::2])
        wanted = tuple(have - pad[2 * i] - pad[2 * i + 1] for i, have in enumerate(spatial))
    elif pad_type == "valid":
        before, wanted = [0] * rank, tuple(spatial)
    else:
        raise NotCovered("pad_type", repr(pad_type))
    if output_shape is not None:
        if pad_type == "same" and tuple(output_shape[2:]) != wanted:
            # Several inputs sizes give one output size; which end is cut is not said.
            raise NotCovered("output_shape", f"{list(output_shape)} with pad_type same")
        wanted = tuple(output_shape[2:])
    after = [have - first - want for have, first, want in zip(spatial, before, wanted, strict=True)]
    y = padded(full, [(-first, -last) for first, last in zip(before, after, strict=True)])
    return y if bias is None else y + bias.reshape(1, -1, *[1] * rank)


FUNCTIONS: dict[str, Callable[..., object]] = {"conv": conv, "conv_transpose": conv_transpose}
