"""DenseNet-121 (the DenseNet-BC of the paper's ImageNet experiments, growth rate 32).

Source: Huang et al. 2017, "Densely Connected Convolutional Networks", arXiv 1608.06993, table 1. Layer names are
torchvision's, so that its checkpoints load as they are.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from harness.catalog.networks.network import Network, linear_classifier

_GROWTH_RATE = 32
_BOTTLENECK_CHANNELS = 4 * _GROWTH_RATE


def densenet121(*, num_classes: int = 1000, in_channels: int = 3) -> DenseNet:
    """Make an untrained DenseNet-121 for images of 32 pixels or more on each side, 224 by default."""
    return DenseNet((6, 12, 24, 16), num_classes=num_classes, in_channels=in_channels)


class DenseNet(Network):
    """Dense blocks with halving transitions; the embedding is the mean of the last block's features."""

    def __init__(self, layers_per_block: tuple[int, ...], *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        channels = 2 * _GROWTH_RATE
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv0=nn.Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False),
            norm0=nn.BatchNorm2d(channels),
            relu0=nn.ReLU(),
            pool0=nn.MaxPool2d(3, stride=2, padding=1),
        )
        for number, layer_count in enumerate(layers_per_block, start=1):
            layers[f"denseblock{number}"] = _dense_block(channels, layer_count)
            channels += layer_count * _GROWTH_RATE
            if number < len(layers_per_block):
                layers[f"transition{number}"] = _transition(channels, channels // 2)
                channels //= 2
        layers["norm5"] = nn.BatchNorm2d(channels)
        layers["relu5"] = nn.ReLU()
        self.features = nn.Sequential(layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.embedding_dim = channels
        self.classifier = linear_classifier(channels, num_classes)
        _init_as_published(self)

    def embed(self, x: Tensor) -> Tensor:
        """Map `[N, C, H, W]` to `[N, 1024]`."""
        return torch.flatten(self.avgpool(self.features(x)), 1)


def _dense_block(channels: int, layer_count: int) -> nn.Sequential:
    layers = {f"denselayer{index + 1}": DenseLayer(channels + index * _GROWTH_RATE) for index in range(layer_count)}
    return nn.Sequential(OrderedDict(layers))


def _transition(in_channels: int, out_channels: int) -> nn.Sequential:
    """Compress the channels by 1x1 convolution, halve the size by average pooling."""
    return nn.Sequential(
        OrderedDict(
            norm=nn.BatchNorm2d(in_channels),
            relu=nn.ReLU(),
            conv=nn.Conv2d(in_channels, out_channels, 1, bias=False),
            pool=nn.AvgPool2d(2, stride=2),
        )
    )


class DenseLayer(nn.Module):
    """Append 32 new channels, computed from all channels so far."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, _BOTTLENECK_CHANNELS, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(_BOTTLENECK_CHANNELS)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(_BOTTLENECK_CHANNELS, _GROWTH_RATE, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[N, C, H, W]` to `[N, C + 32, H, W]`; the first C channels are the input."""
        y = self.conv1(self.relu1(self.norm1(x)))
        y = self.conv2(self.relu2(self.norm2(y)))
        return torch.cat([x, y], dim=1)


def _init_as_published(network: DenseNet) -> None:
    """He normal by fan-in, biases 0. Source: the authors' Torch code, as ported in torchvision's densenet.py."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
