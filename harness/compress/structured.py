"""Structured pruning: whole channels are taken out, so that a dense runtime has less to do."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from harness.errors import ImpossibleRatio, MissingExtra, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.compress.parts import Parts

_HIGHEST_SHARE = 0.99
_HALVINGS = 7
"""Of the interval that the share of channels is searched in: finer than rounding to 8 channels can follow."""


def prune_channels(module: nn.Module, parts: Parts, example: Tensor, *, ratio: float, round_to: int = 8) -> nn.Module:
    """Take out the channels of the smallest weights, and all that hangs on them, until a ratio is reached.

    The same share of every layer goes. Layers keep a multiple of `round_to` channels, as runtimes compute them in
    blocks of 4 to 16: a layer of 61 channels can be slower than one of 64.

    Args:
        module: Not changed.
        parts: Outputs of the head and of what is kept stay.
        example: One image, `[1, C, H, W]`, to see which layers hang together.
        ratio: Parameters of `module` / parameters of the result, at least.
        round_to: Channels a layer keeps are a multiple of this.

    Returns:
        A smaller module of the same class, its weights those that were left.

    Raises:
        ImpossibleRatio: The smallest one that can be made is larger.
        UsageError: Torch-Pruning does not understand the module; LightCNN is one of those.
        MissingExtra: Torch-Pruning is not installed.
    """
    if round_to < 1:
        raise UsageError(f"channels cannot be rounded to a multiple of {round_to}")
    if ratio == 1:
        return module
    before = _size(module)
    low, high, best = 0.0, _HIGHEST_SHARE, require_channels(module, parts, example, ratio=ratio, round_to=round_to)
    for _ in range(_HALVINGS):
        share = (low + high) / 2
        tried = _without(module, parts, example, share, round_to)
        if _size(tried) * ratio > before:
            low = share
        else:
            high, best = share, tried
    return best


def require_channels(module: nn.Module, parts: Parts, example: Tensor, *, ratio: float, round_to: int = 8) -> nn.Module:
    """Make the smallest module there is, and refuse a ratio beyond it. Arguments and errors as for `prune_channels`."""
    before = _size(module)
    smallest = _without(module, parts, example, _HIGHEST_SHARE, round_to)
    if _size(smallest) >= before:
        raise UsageError(
            f"no channels can be taken out of this network where those that stay are a multiple of {round_to}; give a "
            "smaller --round-to"
        )
    if _size(smallest) * ratio > before:
        raise ImpossibleRatio(ratio, before / _size(smallest), before, _size(smallest))
    return smallest


def _without(module: nn.Module, parts: Parts, example: Tensor, share: float, round_to: int) -> nn.Module:
    try:
        import torch_pruning  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtra("torch-pruning", "taking out channels", "compress") from error

    from torch import nn  # noqa: PLC0415

    smaller = copy.deepcopy(module).eval()
    # Torch-Pruning leaves a layer whole that rounding would leave without channels, and then more of the smallest
    # networks would stay: no layer is asked for fewer than one block. The half is against rounding errors.
    shares = {
        layer: max(0.0, min(share, 1 - (round_to + 0.5) / layer.weight.shape[0]))
        for layer in smaller.modules()
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)
    }
    try:
        pruner = torch_pruning.pruner.BasePruner(
            smaller,
            example,
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=share,
            pruning_ratio_dict=shares,
            max_pruning_ratio=1.0,
            ignored_layers=[layer for name, layer in smaller.named_modules() if name and parts.is_kept(name)],
            round_to=round_to,
        )
        pruner.step()
        smaller(example)
    except Exception as error:  # it has no errors of its own: whatever its tracing runs into comes through
        raise UsageError(
            f"Torch-Pruning cannot take channels out of this network ({type(error).__name__}: {error}); the methods "
            "that make single weights zero can"
        ) from error
    return smaller


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
