"""Counting parameters and multiply-accumulates.

The convention: one MAC is one multiplication with its addition; convolutions and linear layers count, for one image;
biases, normalisation, activations, pooling and element-wise arithmetic do not. Positions in the padding count as any
other. It is the convention of the MobileNet papers and of torchvision's "GFLOPS" column (which are GMACs).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from harness.catalog.networks.network import evaluating

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

_Convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def count_parameters(module: nn.Module) -> int:
    """Count all parameters, frozen ones included and shared ones once. Buffers are not parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(module: nn.Module, inputs: Tensor) -> int:
    """Run a module once and count its multiply-accumulates for one image.

    A layer that runs twice counts twice. Weights used outside a layer (`torch.nn.functional.conv2d` in a `forward`)
    are not seen.

    Args:
        module: Run in evaluation mode without gradients, and left as it was.
        inputs: A batch, `[N, ...]`; the count is divided by N.

    Raises:
        ValueError: A layer multiplies by weights and there is no rule for it here (a transposed convolution, say).
    """
    _refuse_uncounted_layers(module)
    total = 0

    def add(layer: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal total
        total += output.numel() * _macs_per_output(layer)

    hooks: list[RemovableHandle] = [
        layer.register_forward_hook(add) for layer in module.modules() if _multiplies(layer)
    ]
    try:
        with evaluating(module), torch.no_grad():
            module(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return total // inputs.shape[0]


def _multiplies(layer: nn.Module) -> bool:
    return isinstance(layer, (nn.Linear, *_Convolution))


def _macs_per_output(layer: nn.Module) -> int:
    """Multiply-accumulates behind one entry of a layer's output."""
    if isinstance(layer, nn.Linear):
        return layer.in_features
    assert isinstance(layer, _Convolution)  # for mypy: only what _multiplies accepts is hooked
    return layer.in_channels // layer.groups * math.prod(layer.kernel_size)


def _refuse_uncounted_layers(module: nn.Module) -> None:
    for name, layer in module.named_modules():
        # A vector scales or shifts channels; a matrix or more is a product that a count may not leave out.
        owns_a_matrix = any(parameter.dim() > 1 for parameter in layer.parameters(recurse=False))
        if owns_a_matrix and not _multiplies(layer):
            raise ValueError(f"no rule to count the MACs of {name or 'the module'}, a {type(layer).__name__}")
