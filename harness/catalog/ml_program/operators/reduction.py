"""Reductions. Source: iOS15/reduction.py, the class of the same name; iOS17 adds `output_dtype` and dtypes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.catalog.ml_program.unsupported import NotCovered

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.catalog.ml_program.operators.operator import Ints


def _reduction(
    function: Callable[[Tensor, list[int], bool], Tensor], *, only_real: bool = False
) -> Callable[..., Tensor]:
    def operation(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
        if only_real and not x.is_floating_point():
            raise NotCovered("x", f"{x.dtype}: how the result is rounded is not defined")
        over = list(range(x.dim())) if axes is None else sorted({axis % x.dim() for axis in axes})
        return function(x, over, keep_dims)

    return operation


def _prod(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in reversed(axes):
        x = torch.prod(x, axis, keepdim=keep)
    return x


def reduce_argmax(
    x: Tensor,
    axis: int = -1,
    keep_dims: bool = False,
    output_dtype: str = "int32",
) -> Tensor:
    """Index of the largest value, of the first where there are several."""
    _refuse_dtype(output_dtype)
    return torch.argmax(x, axis, keepdim=keep_dims)


def reduce_argmin(
    x: Tensor,
    axis: int = -1,
    keep_dims: bool = False,
    output_dtype: str = "int32",
) -> Tensor:
    """Index of the smallest value, of the first where there are several."""
    _refuse_dtype(output_dtype)
    return torch.argmin(x, axis, keepdim=keep_dims)


def _refuse_dtype(output_dtype: str) -> None:
    if output_dtype not in {"int32", "uint16"}:
        raise NotCovered("output_dtype", repr(output_dtype))


FUNCTIONS: dict[str, Callable[..., object]] = {
    "reduce_argmax": reduce_argmax,
    "reduce_argmin": reduce_argmin,
    "reduce_l1_norm": _reduction(lambda x, axes, keep: x.abs().sum(axes, keepdim=keep)),
    "reduce_l2_norm": _reduction(lambda x, axes, keep: x.square().sum(axes, keepdim=keep).sqrt(), only_real=True),
    "reduce_log_sum": _reduction(lambda x, axes, keep: x.sum(axes, keepdim=keep).log(), only_real=True),
    "reduce_log_sum_exp": _reduction(lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep), only_real=True),
    "reduce_max": _reduction(lambda x, axes, keep: torch.amax(x, axes, keepdim=keep)),
    "reduce_mean": _reduction(lambda x, axes, keep: torch.mean(x, axes, keepdim=keep), only_real=True),
    "reduce_min": _reduction(lambda x, axes, keep: torch.amin(x, axes, keepdim=keep)),
    "reduce_prod": _reduction(_prod),
    "reduce_sum": _reduction(lambda x, axes, keep: x.sum(axes, keepdim=keep)),
    "reduce_sum_square": _reduction(lambda x, axes, keep: x.square().sum(axes, keepdim=keep)),
}
