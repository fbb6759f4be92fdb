"""Activations. Source of all: iOS15/activation.py, the class of the same name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation

from harness.catalog.ml_program.unsupported import NotCovered

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return F.relu(x)


def relu6(x: Tensor) -> Tensor:
    """min(max(x, 0), 6)."""
    return F.relu6(x)


def leaky_relu(x: Tensor, alpha: float) -> Tensor:
    """Scale negative values by alpha."""
    return torch.where(x >= 0, x, alpha * x)


def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """Scale negative values by the alpha of their channel, `[C]`."""
    return torch.where(x > 0, x, _per_channel(alpha, x, "alpha") * x)


def elu(x: Tensor, alpha: float) -> Tensor:
    """Replace negative values by alpha (e^x - 1)."""
    return F.elu(x, alpha)


def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    """Gaussian error linear unit, exact or in one of its two approximations."""
    if mode == "EXACT":
        return F.gelu(x)
    if mode == "TANH_APPROXIMATION":
        return F.gelu(x, approximate="tanh")
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    raise NotCovered("mode", repr(mode))


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e^-x)."""
    return torch.sigmoid(x)


def sigmoid_hard(x: Tensor, alpha: float, beta: float) -> Tensor:
    """min(max(alpha x + beta, 0), 1)."""
    return torch.clamp(alpha * x + beta, 0, 1)


def silu(x: Tensor) -> Tensor:
    """Multiply x by sigmoid(x)."""
    return F.silu(x)


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Exponentials that sum to 1 along an axis."""
    return torch.softmax(x, axis)


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x)."""
    return F.softplus(x)


def softplus_parametric(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """Alpha log(1 + e^(beta x)), both of the channel, `[C]`."""
    return _per_channel(alpha, x, "alpha") * F.softplus(_per_channel(beta, x, "beta") * x)


def softsign(x: Tensor) -> Tensor:
    """Divide x by 1 + |x|."""
    return F.softsign(x)


def scaled_tanh(x: Tensor, alpha: float, beta: float) -> Tensor:
    """Alpha tanh(beta x)."""
    return alpha * torch.tanh(beta * x)


def clamped_relu(x: Tensor, alpha: float, beta: float) -> Tensor:
    """min(beta, x) where x is not negative, min(beta, alpha x) where it is."""
    return torch.clamp(torch.where(x >= 0, x, alpha * x), max=beta)


def linear_activation(x: Tensor, alpha: float, beta: float) -> Tensor:
    """Alpha x + beta."""
    return alpha * x + beta


def thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    """Zero below alpha; alpha itself stays."""
    return torch.where(x >= alpha, x, torch.zeros_like(x))


def _per_channel(parameter: Tensor, x: Tensor, name: str) -> Tensor:
    if x.dim() < 3 or parameter.shape != x.shape[1:2]:
        raise NotCovered(name, f"shape {list(parameter.shape)} with an input of shape {list(x.shape)}")
    return parameter.reshape(1, -1, *[1] * (x.dim() - 2))


FUNCTIONS: dict[str, Callable[..., object]] = {
    "clamped_relu": clamped_relu,
    "elu": elu,
    "gelu": gelu,
    "leaky_relu": leaky_relu,
    "linear_activation": linear_activation,
    "prelu": prelu,
    "relu": relu,
    "relu6": relu6,
    "scaled_tanh": scaled_tanh,
    "sigmoid": sigmoid,
    "sigmoid_hard": sigmoid_hard,
    "silu": silu,
    "softmax": softmax,
    "softplus": softplus,
    "softplus_parametric": softplus_parametric,
    "softsign": softsign,
    "thresholded_relu": thresholded_relu,
}
