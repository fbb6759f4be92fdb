"""Operations that move, repeat, join or cut elements, or make new ones.

Source: iOS15/tensor_transformation.py and iOS15/tensor_operation.py, the class of the same name; iOS17 adds dtypes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation

from harness.catalog.ml_program.operators.window import padded
from harness.catalog.ml_program.unsupported import NotCovered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from harness.catalog.ml_program.operators.operator import Bools, Ints, Tensors


def reshape(x: Tensor, shape: Ints) -> Tensor:
    """One -1 is computed; a 0 keeps the size of the same dimension, where the rank stays."""
    if 0 in shape and len(shape) != x.dim():
        raise NotCovered("shape", f"{list(shape)} for an input of rank {x.dim()}")
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape)])


def transpose(x: Tensor, perm: Ints) -> Tensor:
    """Order the dimensions anew."""
    return x.permute(perm)


def expand_dims(x: Tensor, axes: Ints) -> Tensor:
    """Insert dimensions of size 1; axes count in the result."""
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    """Remove dimensions of size 1; those of another size stay, as in PyTorch."""
    return x.squeeze() if axes is None else x.squeeze(axes)


def flatten2d(x: Tensor, axis: int = 1) -> Tensor:
    """Two dimensions: the product of those before the axis, and of the rest. Source: iOS15/tensor_operation.py."""
    axis = axis % x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1)


def slice_by_index(
    x: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Tensor:
    """NumPy's slicing, dimension by dimension; a squeezed dimension is indexed at `begin`."""
    rank = x.dim()
    stride = stride or (1,) * rank
    no = (False,) * rank
    begin_mask, end_mask, squeeze_mask = begin_mask or no, end_mask or no, squeeze_mask or no
    squeezed = []
    for axis in range(rank):
        size = x.shape[axis]
        if squeeze_mask[axis]:
            if begin_mask[axis] or not -size <= begin[axis] < size:
                raise NotCovered("squeeze_mask", f"with begin {begin[axis]} of {size}")
            x = x.narrow(axis, begin[axis] % size, 1)
            squeezed.append(axis)
            continue
        first = None if begin_mask[axis] else begin[axis]
        last = None if end_mask[axis] else end[axis]
        chosen = range(*slice(first, last, stride[axis]).indices(size))
        x = x.index_select(axis, torch.tensor(chosen, dtype=torch.int64))
    return x.squeeze(squeezed)


def crop(x: Tensor, crop_height: Ints, crop_width: Ints) -> Tensor:
    """Rows and columns less at either end of an image. Source: iOS15/image_resizing.py, `crop`."""
    (top, bottom), (left, right) = crop_height, crop_width
    height, width = x.shape[-2:]
    if x.dim() != 4 or min(top, bottom, left, right) < 0 or top + bottom >= height or left + right >= width:
        raise NotCovered("crop", f"{list(crop_height)} and {list(crop_width)} of {list(x.shape)}")
    return x[..., top : height - bottom, left : width - right]


def slice_by_size(x: Tensor, begin: Ints, size: Ints) -> Tensor:
    """`size[i]` elements from `begin[i]` on; -1 takes all that remain."""
    for axis, (first, length) in enumerate(zip(begin, size, strict=True)):
        start = first % x.shape[axis] if first < 0 else first
        if length == 0 or length < -1 or start + length > x.shape[axis]:
            raise NotCovered("size", f"{length} from {first} of {x.shape[axis]}")
        x = x.narrow(axis, start, x.shape[axis] - start if length == -1 else length)
    return x


def concat(values: Tensors, axis: int, interleave: bool = False) -> Tensor:
    """Join along an axis; interleaved, the values take turns along it."""
    if not interleave:
        return torch.cat(values, axis)
    if len({value.shape for value in values}) != 1:
        raise NotCovered("interleave", "values of unequal shapes")
    axis %= values[0].dim()
    return torch.stack(values, axis + 1).flatten(axis, axis + 1)


def stack(values: Tensors, axis: int) -> Tensor:
    """Join along a new axis."""
    return torch.stack(values, axis)


def split(x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Ints | None = None) -> Sequence[Tensor]:
    """Cut along an axis, into equal parts or parts of given sizes."""
    if split_sizes is None:
        if num_splits is None or x.shape[axis] % num_splits:
            raise NotCovered("num_splits", f"{num_splits} of {x.shape[axis]}")
        split_sizes = (x.shape[axis] // num_splits,) * num_splits
    if num_splits not in {None, len(split_sizes)}:
        raise NotCovered("num_splits", f"{num_splits} with {len(split_sizes)} sizes")
    return torch.split(x, list(split_sizes), axis)


def pad(x: Tensor, pad: Ints, mode: str = "constant", constant_val: Tensor | None = None) -> Tensor:
    """Pad the last len(pad) / 2 dimensions."""
    if len(pad) % 2 or len(pad) > 2 * x.dim() or min(pad, default=0) < 0:
        raise NotCovered("pad", f"{list(pad)} for rank {x.dim()}")
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)]
    if mode == "constant":
        return padded(x, pairs, 0 if constant_val is None else constant_val.item())
    if mode not in {"reflect", "replicate"}:
        raise NotCovered("mode", repr(mode))
    for axis, (before, after) in enumerate(pairs, start=x.dim() - len(pairs)):
        size = x.shape[axis]
        if max(before, after) > (size - 1 if mode == "reflect" else size):
            raise NotCovered("pad", f"{before} and {after} of {size} with mode {mode!r}")
        index = torch.arange(-before, size + after)
        if mode == "reflect":
            index = index.abs()
            index = torch.where(index >= size, 2 * (size - 1) - index, index)
        x = x.index_select(axis, index.clamp(0, size - 1))
    return x


def tile(x: Tensor, reps: Ints) -> Tensor:
    """Repeat the whole tensor along each dimension."""
    if len(reps) != x.dim():
        raise NotCovered("reps", f"{list(reps)} for rank {x.dim()}")
    return x.repeat(reps)


def reverse(x: Tensor, axes: Ints | None = None) -> Tensor:
    """Turn the order along axes around; None: along all."""
    return x.flip(list(range(x.dim())) if axes is None else list(axes))


def band_part(x: Tensor, lower: int = -1, upper: int = -1) -> Tensor:
    """Zero all but a band around the diagonal of the last two dimensions; -1 keeps a whole triangle."""
    rows = torch.arange(x.shape[-2])[:, None]
    columns = torch.arange(x.shape[-1])[None, :]
    kept = torch.ones(x.shape[-2:], dtype=torch.bool)
    if lower >= 0:
        kept &= rows - columns <= lower
    if upper >= 0:
        kept &= columns - rows <= upper
    return torch.where(kept, x, torch.zeros_like(x))


def depth_to_space(x: Tensor, block_size: int) -> Tensor:
    """Channels to pixels, the block's position being the slower part of the channel (TensorFlow's order)."""
    n, channels, height, width = x.shape
    y = x.reshape(n, block_size, block_size, channels // block_size**2, height, width)
    return y.permute(0, 3, 4, 1, 5, 2).reshape(n, -1, height * block_size, width * block_size)


def space_to_depth(x: Tensor, block_size: int) -> Tensor:
    """Pixels to channels, the inverse of `depth_to_space`."""
    n, channels, height, width = x.shape
    y = x.reshape(n, channels, height // block_size, block_size, width // block_size, block_size)
    return y.permute(0, 3, 5, 1, 2, 4).reshape(n, -1, height // block_size, width // block_size)


def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """`torch.nn.PixelShuffle`."""
    return F.pixel_shuffle(x, upscale_factor)


def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """`torch.nn.PixelUnshuffle`. Source: iOS16/tensor_transformation.py."""
    return F.pixel_unshuffle(x, downscale_factor)


def shape(x: Tensor) -> Tensor:
    """Give the sizes of the dimensions."""
    return torch.tensor(x.shape, dtype=torch.int64)


def fill(shape: Ints, value: Tensor | None = None) -> Tensor:
    """Make a tensor of one value; None is 0.0."""
    return (torch.zeros(()) if value is None else value.reshape(())).expand(shape)


def fill_like(ref_tensor: Tensor, value: Tensor | None = None) -> Tensor:
    """Make a tensor of one value, of another's shape. Source: iOS16/tensor_operation.py."""
    return fill(tuple(ref_tensor.shape), value)


def range_1d(start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    """Count from start, without reaching end."""
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


def cumsum(
    x: Tensor,
    axis: int = 0,
    exclusive: bool = False,
    reverse: bool = False,
) -> Tensor:
    """Sum up along an axis; exclusive, each entry leaves itself out; reversed, from the end."""
    x = x.flip(axis) if reverse else x
    y = torch.cumsum(x, axis)
    y = y - x if exclusive else y
    return y.flip(axis) if reverse else y


def one_hot(
    indices: Tensor,
    one_hot_vector_size: int,
    axis: int = -1,
    on_value: Tensor | None = None,
    off_value: Tensor | None = None,
) -> Tensor:
    """A new axis with `on_value` at the index. Indices outside are refused."""
    if indices.numel() and (int(indices.min()) < 0 or int(indices.max()) >= one_hot_vector_size):
        raise NotCovered("indices", f"outside 0 to {one_hot_vector_size - 1}")
    hot = F.one_hot(indices, one_hot_vector_size).to(torch.bool)
    on = torch.tensor(1) if on_value is None else on_value
    off = torch.tensor(0) if off_value is None else off_value
    return torch.where(hot, on, off).movedim(-1, axis)


FUNCTIONS: dict[str, Callable[..., object]] = {
    "band_part": band_part,
    "concat": concat,
    "crop": crop,
    "cumsum": cumsum,
    "depth_to_space": depth_to_space,
    "expand_dims": expand_dims,
    "fill": fill,
    "fill_like": fill_like,
    "flatten2d": flatten2d,
    "one_hot": one_hot,
    "pad": pad,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "range_1d": range_1d,
    "reshape": reshape,
    "reverse": reverse,
    "shape": shape,
    "slice_by_index": slice_by_index,
    "slice_by_size": slice_by_size,
    "space_to_depth": space_to_depth,
    "split": split,
    "squeeze": squeeze,
    "stack": stack,
    "tile": tile,
    "transpose": transpose,
}
