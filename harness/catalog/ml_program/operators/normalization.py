"""Normalisations. All compute in float32, whatever the declared type."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation

from harness.catalog.ml_program.unsupported import NotCovered

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from harness.catalog.ml_program.operators.operator import Ints


def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """Compute gamma (x - mean) / sqrt(variance + epsilon) + beta, per channel. Source: iOS15/normalization.py."""
    return F.batch_norm(x, mean, variance, gamma, beta, training=False, eps=epsilon)


def instance_norm(x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5) -> Tensor:
    """Normalise each channel of each image by its own statistics. Source: iOS15/normalization.py."""
    return F.instance_norm(x, weight=gamma, bias=beta, eps=epsilon)


def layer_norm(
    x: Tensor,
    axes: Ints | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """Normalise over `axes` (None: all); gamma and beta have the shape of those. Source: iOS15/normalization.py."""
    over = sorted(axis % x.dim() for axis in axes) if axes is not None else list(range(x.dim()))
    centred = x - x.mean(over, keepdim=True)
    y = centred * torch.rsqrt(centred.square().mean(over, keepdim=True) + epsilon)
    shape = [size if axis in over else 1 for axis, size in enumerate(x.shape)]
    y = y if gamma is None else y * gamma.reshape(shape)
    return y if beta is None else y + beta.reshape(shape)


def l2_norm(x: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Divide by sqrt(sum of squares over the last three dimensions + epsilon). Source: iOS15/normalization.py."""
    if x.dim() < 3:
        raise NotCovered("x", f"rank {x.dim()}")
    return x / torch.sqrt(x.square().sum((-3, -2, -1), keepdim=True) + epsilon)


def local_response_norm(x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Divide by (k + alpha / size * sum of neighbouring channels' squares) ** beta. Source: iOS15/normalization.py."""
    if size % 2 == 0:
        raise NotCovered("size", f"{size}: which neighbours an even window takes is not defined")
    return F.local_response_norm(x, size, alpha=alpha, beta=beta, k=k)


FUNCTIONS: dict[str, Callable[..., object]] = {
    "batch_norm": batch_norm,
    "instance_norm": instance_norm,
    "l2_norm": l2_norm,
    "layer_norm": layer_norm,
    "local_response_norm": local_response_norm,
}
