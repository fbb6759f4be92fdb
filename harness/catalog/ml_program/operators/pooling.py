"""max_pool and avg_pool. `l2_pool` is left out: its definition does not say what becomes of padding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation

from harness.catalog.ml_program.operators.window import padded, pads_of
from harness.catalog.ml_program.unsupported import NotCovered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from harness.catalog.ml_program.operators.operator import Ints
    from harness.catalog.ml_program.operators.window import Pads

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def max_pool(
    x: Tensor,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """Largest value of each window; padding never wins. Source: iOS15/pool.py, class max_pool."""
    strides = strides or (1,) * len(kernel_sizes)
    pads, _ = _window(x, kernel_sizes, pad_type, strides, pad, ceil_mode=ceil_mode)
    return _MAX[len(kernel_sizes)](padded(x, pads, float("-inf")), kernel_sizes, strides)


def avg_pool(
    x: Tensor,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Tensor:
    """Mean of each window; padding counts as zeros, or not at all. Source: iOS15/pool.py, class avg_pool."""
    strides = strides or (1,) * len(kernel_sizes)
    pads, overhang = _window(x, kernel_sizes, pad_type, strides, pad, ceil_mode=ceil_mode)
    if overhang and not exclude_padding_from_average:
        raise NotCovered("ceil_mode", "a window that ends outside, in an average that counts padding")
    average = _AVERAGE[len(kernel_sizes)]
    y = average(padded(x, pads), kernel_sizes, strides)
    if exclude_padding_from_average and any(any(pair) for pair in pads):
        y = y / average(padded(torch.ones_like(x), pads), kernel_sizes, strides)
    return y


def _window(
    x: Tensor, kernel: Sequence[int], pad_type: str, strides: Sequence[int], pad: Ints | None, *, ceil_mode: bool
) -> tuple[Pads, bool]:
    """The padding, enlarged at the end where `ceil_mode` needs it; and whether it did.

    Source: _utils.py, spatial_dimensions_out_shape.
    """
    rank = len(kernel)
    if rank not in _MAX or x.dim() != rank + 2:
        raise NotCovered("kernel_sizes", f"{rank} sizes with an input of rank {x.dim()}")
    # A file may carry `pad` beside another pad_type; it has no meaning there.
    sizes = x.shape[2:]
    pads = pads_of(pad_type, pad, sizes=sizes, kernel=kernel, strides=strides, dilations=(1,) * rank)
    if not ceil_mode:
        return pads, False
    if pad_type not in {"valid", "custom"} or any(before != after for before, after in pads):
        raise NotCovered("ceil_mode", f"with pad_type {pad_type} and padding {pads}")
    enlarged = []
    for size, window, stride, (before, after) in zip(sizes, kernel, strides, pads, strict=True):
        count = (size + before + after - window + stride - 1) // stride + 1
        if (count - 1) * stride >= size + before:
            if not before:
                raise NotCovered("ceil_mode", "a window that begins outside")
            count -= 1
        enlarged.append((before, max(after, (count - 1) * stride + window - size - before)))
    return enlarged, enlarged != pads


FUNCTIONS: dict[str, Callable[..., object]] = {"max_pool": max_pool, "avg_pool": avg_pool}
