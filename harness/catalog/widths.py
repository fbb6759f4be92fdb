"""Networks from which channels were removed: layers take their sizes from the stored weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn


def take_widths(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give every convolution, linear layer and BatchNorm the numbers of channels that its stored weights have.

    The values are not loaded; the parameters of a layer that changes are new. A depthwise convolution stays depthwise,
    any other one keeps its number of groups. Works where the module's `forward` does not itself count channels.

    Args:
        module: Changed in place.
        state: Its state dict, by name; layers that it does not name are left alone.
    """
    for name, layer in module.named_modules():
        weight = state.get(f"{name}.weight")
        if weight is not None:
            _resize(layer, tuple(weight.shape))


def _resize(layer: nn.Module, shape: tuple[int, ...]) -> None:
    import torch  # noqa: PLC0415
    from torch import nn  # noqa: PLC0415

    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        if layer.groups == layer.in_channels == layer.out_channels:
            layer.groups = shape[0]
        layer.out_channels, layer.in_channels = shape[0], shape[1] * layer.groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = shape
    elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
        layer.num_features = shape[0]
        layer.running_mean, layer.running_var = torch.zeros(shape[0]), torch.ones(shape[0])
    else:
        return
    if layer.weight.shape != shape:
        layer.weight = nn.Parameter(torch.empty(shape))
        if layer.bias is not None:
            layer.bias = nn.Parameter(torch.empty(shape[0]))
