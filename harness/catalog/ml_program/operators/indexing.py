"""Gathering and sorting.

Source: iOS15/scatter_gather.py, and what iOS16/scatter_gather.py and iOS17/scatter_gather.py add; `argsort` is in
iOS15/tensor_operation.py, `topk` there and in iOS16/tensor_operation.py and iOS17/tensor_operation.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from harness.catalog.ml_program.unsupported import NotCovered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor


def gather(
    x: Tensor,
    indices: Tensor,
    axis: int = 0,
    batch_dims: int = 0,
    validate_indices: bool | None = None,
) -> Tensor:
    """Take slices along an axis. Result: D[:axis] + N[batch_dims:] + D[axis + 1:]."""
    axis %= x.dim()
    indices = _within(indices, x.shape[axis], validate_indices)
    if batch_dims == 0:
        taken = x.index_select(axis, indices.reshape(-1))
        return taken.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    if not 0 < batch_dims <= min(axis, indices.dim()):
        raise NotCovered("batch_dims", batch_dims)
    parts = [gather(part, index, axis - 1, batch_dims - 1) for part, index in zip(x, indices, strict=True)]
    return torch.stack(parts)


def gather_along_axis(
    x: Tensor,
    indices: Tensor,
    axis: int = 0,
    validate_indices: bool | None = None,
) -> Tensor:
    """Take one value for each index along an axis; the result has the shape of `indices`."""
    if indices.dim() != x.dim():
        raise NotCovered("indices", f"rank {indices.dim()} with an input of rank {x.dim()}")
    return torch.gather(x, axis, _within(indices, x.shape[axis], validate_indices))


def gather_nd(
    x: Tensor,
    indices: Tensor,
    batch_dims: int = 0,
    validate_indices: bool | None = None,
) -> Tensor:
    """Take slices at coordinates along the last dimension of `indices`."""
    if batch_dims:
        pairs = zip(x, indices, strict=True)
        return torch.stack([gather_nd(part, index, batch_dims - 1, validate_indices) for part, index in pairs])
    columns = [
        _within(column, x.shape[dimension], validate_indices) for dimension, column in enumerate(indices.unbind(-1))
    ]
    return x[tuple(columns)]


def topk(
    x: Tensor,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> Sequence[Tensor]:
    """The k largest (ascending: smallest) values and where they are, in order; of equal values the first."""
    if not sort:
        raise NotCovered("sort", "False: no order is defined")
    if output_indices_dtype not in {"int32", "uint16"}:
        raise NotCovered("output_indices_dtype", repr(output_indices_dtype))
    values, indices = torch.sort(x, dim=axis, descending=not ascending, stable=True)
    values, indices = values.narrow(axis, 0, k), indices.narrow(axis, 0, k)
    return (values, indices) if return_indices else (values,)


def argsort(x: Tensor, axis: int = -1, ascending: bool = False) -> Tensor:
    """Where the sorted values were; of equal values the first comes first."""
    return torch.sort(x, dim=axis, descending=not ascending, stable=True).indices


def _within(indices: Tensor, size: int, validate_indices: bool | None) -> Tensor:
    """Indices into 0 to size - 1.

    Up to iOS 16, which has no `validate_indices`, negative ones count from the end; later they are undefined.
    """
    if not indices.numel():
        return indices
    low = -size if validate_indices is None else 0
    if int(indices.min()) < low or int(indices.max()) >= size:
        raise NotCovered("indices", f"outside {low} to {size - 1}")
    return torch.where(indices < 0, indices + size, indices)


FUNCTIONS: dict[str, Callable[..., object]] = {
    "argsort": argsort,
    "gather": gather,
    "gather_along_axis": gather_along_axis,
    "gather_nd": gather_nd,
    "topk": topk,
}
