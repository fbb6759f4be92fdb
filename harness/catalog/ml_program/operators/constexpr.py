"""Compressed constants: quantized, palettized and sparse weights, and their combinations.

Each has one form up to iOS 17 (packed bytes and a `shape`; iOS16/constexpr_ops.py) and another from iOS 18 on (typed
elements; iOS18/compression.py). The signature holds both, what is given decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.catalog.ml_program.operators.quantization import along
from harness.catalog.ml_program.unsupported import NotCovered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from harness.catalog.ml_program.operators.operator import Ints


def constexpr_affine_dequantize(quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: int) -> Tensor:
    """Scale times (quantized_data - zero_point). Source: iOS16/constexpr_ops.py."""
    return (quantized_data - along(zero_point, quantized_data, axis)) * along(scale, quantized_data, axis)


def constexpr_blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """Scale times (data - offset), one of each for data.shape / scale.shape elements. Source: iOS18/compression.py."""
    shifted = data if offset is None else data - _repeated(offset, data.shape, "offset")
    return shifted * _repeated(scale, data.shape, "scale")


def constexpr_lut_to_dense(
    indices: Tensor, lut: Tensor, shape: Ints | None = None, vector_axis: int | None = None
) -> Tensor:
    """Look every index up in its block's palette. Source: iOS16/constexpr_ops.py, iOS18/compression.py."""
    if shape is not None:
        if lut.dim() != 1 or vector_axis is not None:
            raise NotCovered("lut", f"shape {list(lut.shape)} with packed indices")
        bits = lut.numel().bit_length() - 1
        return lut[_unpacked(indices, bits, shape)]
    if lut.dim() != indices.dim() + 2:
        raise NotCovered("lut", f"rank {lut.dim()} with indices of rank {indices.dim()}")
    entries, length = lut.shape[-2:]
    blocks = _repeated(lut.reshape(*lut.shape[:-2], entries * length), (*indices.shape, entries * length), "lut")
    vectors = torch.stack(
        [torch.gather(blocks, -1, indices[..., None] * length + i)[..., 0] for i in range(length)], -1
    )
    if length == 1:
        return vectors[..., 0]
    if vector_axis is None:
        raise NotCovered("vector_axis", f"it is not given for vectors of {length}")
    axis = vector_axis % indices.dim()
    return torch.movedim(vectors, -1, axis + 1).flatten(axis, axis + 1)


def constexpr_sparse_to_dense(nonzero_data: Tensor, mask: Tensor, shape: Ints | None = None) -> Tensor:
    """Put the values, in row-major order, where the mask is 1. Source: iOS16/constexpr_ops.py, iOS18/compression.py."""
    if shape is not None:
        mask = _unpacked(mask, 1, shape)
    return _scattered(nonzero_data, mask)


def constexpr_lut_to_sparse(
    indices_mask: Tensor, indices_nonzero_data: Tensor, lut: Tensor, vector_axis: int | None = None
) -> Sequence[Tensor]:
    """Look the indices that the mask keeps up; gives the mask and the values. Source: iOS18/compression.py."""
    dense = constexpr_lut_to_dense(_scattered(indices_nonzero_data, indices_mask), lut, vector_axis=vector_axis)
    mask = indices_mask
    if lut.shape[-1] > 1:
        assert vector_axis is not None
        mask = mask.repeat_interleave(lut.shape[-1], vector_axis)
    return mask, dense[mask != 0]


def constexpr_sparse_blockwise_shift_scale(
    data_mask: Tensor, nonzero_data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> Sequence[Tensor]:
    """Dequantize the values that the mask keeps; gives the mask and the values. Source: iOS18/compression.py."""
    dense = constexpr_blockwise_shift_scale(_scattered(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]


def constexpr_cast(source_val: Tensor, output_dtype: str) -> Tensor:
    """Widen fp16 to fp32. Source: iOS16/constexpr_ops.py, iOS18/compression.py."""
    if output_dtype != "fp32":
        raise NotCovered("output_dtype", repr(output_dtype))
    return source_val


def _unpacked(data: Tensor, bits: int, shape: Ints) -> Tensor:
    """Unsigned integers from bytes, packed from the least significant bit."""
    count = int(np.prod(shape))
    stream = np.unpackbits(data.numpy().astype(np.uint8), bitorder="little")
    if stream.size < count * bits:
        raise NotCovered("shape", f"{list(shape)} needs {count * bits} bits, there are {stream.size}")
    fields = stream[: count * bits].reshape(count, bits).astype(np.int16)
    return torch.from_numpy((fields @ (1 << np.arange(bits)).astype(np.int16)).astype(np.int64)).reshape(shape)


def _scattered(values: Tensor, mask: Tensor) -> Tensor:
    kept = mask != 0
    if int(kept.sum()) != values.numel():
        raise NotCovered("mask", f"{int(kept.sum())} ones for {values.numel()} values")
    dense = torch.zeros(mask.shape, dtype=values.dtype)
    dense[kept] = values
    return dense


def _repeated(blocks: Tensor, shape: Sequence[int], name: str) -> Tensor:
    """Repeat one entry a block until the shape is reached."""
    if blocks.dim() != len(shape) or any(whole % part for whole, part in zip(shape, blocks.shape, strict=True)):
        raise NotCovered(name, f"shape {list(blocks.shape)} for data of shape {list(shape)}")
    for axis, whole in enumerate(shape):
        if 1 < blocks.shape[axis] < whole:
            blocks = blocks.repeat_interleave(whole // blocks.shape[axis], axis)
    return blocks.expand(*shape)


FUNCTIONS: dict[str, Callable[..., object]] = {
    "constexpr_affine_dequantize": constexpr_affine_dequantize,
    "constexpr_blockwise_shift_scale": constexpr_blockwise_shift_scale,
    "constexpr_cast": constexpr_cast,
    "constexpr_lut_to_dense": constexpr_lut_to_dense,
    "constexpr_lut_to_sparse": constexpr_lut_to_sparse,
    "constexpr_sparse_blockwise_shift_scale": constexpr_sparse_blockwise_shift_scale,
    "constexpr_sparse_to_dense": constexpr_sparse_to_dense,
}
