"""Resizing of the last two dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from harness.catalog.ml_program.unsupported import NotCovered

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from harness.catalog.ml_program.operators.operator import Ints


def resize_bilinear(
    x: Tensor, target_size_height: int = 1, target_size_width: int = 1, sampling_mode: str = "DEFAULT"
) -> Tensor:
    """Interpolate linearly on the grid that `sampling_mode` names. Source: iOS15/image_resizing.py, Notes."""
    return _bilinear(x, (target_size_height, target_size_width), sampling_mode)


def upsample_bilinear(
    x: Tensor,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Tensor:
    """Interpolate linearly; the scale is recomputed from the output size. Source: iOS16/image_resizing.py."""
    height, width = x.shape[-2:]
    centres = (not align_corners) if half_pixel_centers is None else half_pixel_centers
    if align_corners and centres:
        raise NotCovered("half_pixel_centers", "true together with align_corners")
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if centres else "DEFAULT"
    # float32, as the parameter is: 0.1 times 10 must not become 0.
    return _bilinear(x, (_scaled(height, scale_factor_height), _scaled(width, scale_factor_width)), mode)


def resize_nearest_neighbor(x: Tensor, target_size_height: int, target_size_width: int) -> Tensor:
    """Repeat pixels, by whole factors: nothing says which is nearest otherwise. Source: iOS15/image_resizing.py."""
    return _nearest(x, (target_size_height, target_size_width), "target_size_height")


def upsample_nearest_neighbor(x: Tensor, scale_factor_height: float = 1, scale_factor_width: float = 1) -> Tensor:
    """Repeat pixels, by whole factors: nothing says which is nearest otherwise. Source: iOS15/image_resizing.py."""
    height, width = x.shape[-2:]
    size = (_scaled(height, scale_factor_height), _scaled(width, scale_factor_width))
    return _nearest(x, size, "scale_factor_height")


def resize(
    x: Tensor,
    shape: Ints,
    resized_dims: int,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    """Either of the above, to the last entries of `shape`; 0 keeps a size. Source: iOS17/image_resizing.py."""
    if resized_dims != 2:
        raise NotCovered("resized_dims", resized_dims)
    height, width = (wanted or have for wanted, have in zip(shape[-2:], x.shape[-2:], strict=True))
    if interpolation_mode == "LINEAR":
        return _bilinear(x, (height, width), sampling_mode)
    if interpolation_mode == "NEAREST_NEIGHBOR" and sampling_mode in {"DEFAULT", "UNALIGN_CORNERS"}:
        return _nearest(x, (height, width), "shape")
    raise NotCovered("interpolation_mode", f"{interpolation_mode!r} with sampling mode {sampling_mode!r}")


def _scaled(size: int, factor: float) -> int:
    return int(torch.floor(torch.tensor(factor, dtype=torch.float32) * size))


def _nearest(x: Tensor, size: tuple[int, int], parameter: str) -> Tensor:
    for axis, wanted in zip((-2, -1), size, strict=True):
        if wanted % x.shape[axis]:
            raise NotCovered(parameter, f"{x.shape[axis]} to {wanted}, which is not a whole factor")
        x = x.repeat_interleave(wanted // x.shape[axis], axis)
    return x


def _bilinear(x: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    if x.dim() < 3:
        raise NotCovered("x", f"rank {x.dim()}")
    for axis, wanted in zip((-2, -1), size, strict=True):
        have = x.shape[axis]
        points = _grid(have, wanted, mode)
        low = points.floor().clamp(0, have - 1).to(torch.int64)
        high = (low + 1).clamp(max=have - 1)
        shape = [1] * x.dim()
        shape[axis] = wanted
        share = (points - low).to(torch.float32).reshape(shape)
        x = x.index_select(axis, low) * (1 - share) + x.index_select(axis, high) * share
    return x


def _grid(have: int, wanted: int, mode: str) -> Tensor:
    """Where each output pixel is read, in input pixels. Source: iOS15/image_resizing.py, resize_bilinear, Notes."""
    steps = torch.arange(wanted, dtype=torch.float64)
    if mode in {"STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"}:
        points = steps * ((have - 1) / (wanted - 1)) if wanted > 1 else torch.zeros(1, dtype=torch.float64)
        if wanted == 1 and mode == "ALIGN_CORNERS":
            points += (have - 1) / 2
    elif mode == "DEFAULT":
        # The definition's (have - have / wanted) / (wanted - 1), without dividing by zero.
        points = steps * (have / wanted)
    elif mode == "OFFSET_CORNERS":
        delta = max(1, have - 1) / wanted
        points = 0.5 * delta + steps * delta
    elif mode == "UNALIGN_CORNERS":
        points = (steps + 0.5) * (have / wanted) - 0.5
    else:
        raise NotCovered("sampling_mode", repr(mode))
    return points.clamp(0, have - 1)


FUNCTIONS: dict[str, Callable[..., object]] = {
    "resize": resize,
    "resize_bilinear": resize_bilinear,
    "resize_nearest_neighbor": resize_nearest_neighbor,
    "upsample_bilinear": upsample_bilinear,
    "upsample_nearest_neighbor": upsample_nearest_neighbor,
}
