"""quantize and dequantize, of activations. Source: iOS17/quantization_ops.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from harness.catalog.ml_program.unsupported import NotCovered

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_LIMITS = {"int8": (-128, 127), "uint8": (0, 255)}


def quantize(
    input: Tensor,  # noqa: A002 - MIL's own name
    scale: Tensor,
    output_dtype: str,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    """clip(round(input / scale) + zero_point), halves to even."""
    if output_dtype not in _LIMITS:
        raise NotCovered("output_dtype", repr(output_dtype))
    steps = torch.round(input / along(scale, input, axis))
    if zero_point is not None:
        steps = steps + along(zero_point, input, axis)
    return torch.clamp(steps, *_LIMITS[output_dtype]).to(torch.int64)


def dequantize(
    input: Tensor,  # noqa: A002
    scale: Tensor,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    """Scale times (input - zero_point)."""
    steps = input if zero_point is None else input - along(zero_point, input, axis)
    return steps * along(scale, input, axis)


def along(parameter: Tensor, data: Tensor, axis: int | None) -> Tensor:
    """Shape a scalar, or a vector with one entry for each index of `axis`, to broadcast against `data`.

    Raises:
        NotCovered: It is neither.
    """
    if parameter.numel() == 1:
        return parameter.reshape([1] * data.dim())
    if axis is None or parameter.dim() != 1 or parameter.shape[0] != data.shape[axis]:
        raise NotCovered("scale", f"shape {list(parameter.shape)} along axis {axis} of {list(data.shape)}")
    shape = [1] * data.dim()
    shape[axis] = -1
    return parameter.reshape(shape)


FUNCTIONS: dict[str, Callable[..., object]] = {"dequantize": dequantize, "quantize": quantize}
