"""MobileNetV2 with width multiplier 1.0.

Source: Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", arXiv 1801.04381, table 2.
Layer names are torchvision's, so that its checkpoints load as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.catalog.networks.blocks import conv_norm
from harness.catalog.networks.network import (
    Network,
    init_convolutions_fan_out,
    init_linears,
    linear_classifier,
)

# Expansion t, channels c, blocks n, stride of the first block s: table 2 of the paper, row by row.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(*, num_classes: int = 1000, in_channels: int = 3) -> MobileNetV2:
    """Make an untrained MobileNetV2 1.0 for images of 32 pixels or more on each side, 224 by default."""
    return MobileNetV2(num_classes=num_classes, in_channels=in_channels)


class MobileNetV2(Network):
    """Inverted residuals with linear bottlenecks; the embedding is the mean of 1,280 features."""

    embedding_dim = 1280

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        channels = 32
        layers: list[nn.Module] = [conv_norm(in_channels, channels, stride=2, activation=nn.ReLU6)]
        for expansion, out_channels, block_count, first_stride in _STAGES:
            for index in range(block_count):
                stride = first_stride if index == 0 else 1
                layers.append(LinearBottleneck(channels, out_channels, expansion=expansion, stride=stride))
                channels = out_channels
        layers.append(conv_norm(channels, self.embedding_dim, kernel=1, activation=nn.ReLU6))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = linear_classifier(self.embedding_dim, num_classes, dropout=0.2)
        init_convolutions_fan_out(self)
        init_linears(self)

    def embed(self, x: Tensor) -> Tensor:
        """Map `[N, C, H, W]` to `[N, 1280]`."""
        return torch.flatten(self.avgpool(self.features(x)), 1)


class LinearBottleneck(nn.Module):
    """The inverted residual of the paper, table 1.

    `blocks.InvertedResidual` computes the same; this one has its layers in the flat order of torchvision's
    MobileNetV2, whose checkpoints would not load otherwise.
    """

    def __init__(self, in_channels: int, out_channels: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        expanded = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(conv_norm(in_channels, expanded, kernel=1, activation=nn.ReLU6))
        layers += [
            conv_norm(expanded, expanded, stride=stride, groups=expanded, activation=nn.ReLU6),
            nn.Conv2d(expanded, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        ]
        self.conv = nn.Sequential(*layers)
        self.adds_input = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map `[N, C, H, W]` to `[N, out_channels, H / stride, W / stride]`."""
        y: Tensor = self.conv(x)
        return x + y if self.adds_input else y
