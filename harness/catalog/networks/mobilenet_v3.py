"""MobileNetV3, small and large, with width multiplier 1.0.

Source: Howard et al. 2019, "Searching for MobileNetV3", arXiv 1905.02244v5, tables 1 and 2. Layer names are
torchvision's, except that its `classifier.0` is `projection.0` and its `classifier.3` is `classifier.1`: what the
paper's last layer but one computes is the embedding.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from harness.catalog.networks.blocks import InvertedResidual, conv_norm, divisible_by_8
from harness.catalog.networks.network import (
    Network,
    init_convolutions_fan_out,
    init_linears,
    linear_classifier,
)


def mobilenet_v3_small(*, num_classes: int = 1000, in_channels: int = 3) -> MobileNetV3:
    """Make an untrained MobileNetV3-Small 1.0 for images of 32 pixels or more on each side, 224 by default."""
    return MobileNetV3(_SMALL, embedding_dim=1024, num_classes=num_classes, in_channels=in_channels)


def mobilenet_v3_large(*, num_classes: int = 1000, in_channels: int = 3) -> MobileNetV3:
    """Make an untrained MobileNetV3-Large 1.0 for images of 32 pixels or more on each side, 224 by default."""
    return MobileNetV3(_LARGE, embedding_dim=1280, num_classes=num_classes, in_channels=in_channels)


class _Row(NamedTuple):
    """One `bneck` row of the paper's tables, in their column order."""

    kernel: int
    expanded_channels: int
    out_channels: int
    squeezes: bool
    activation: type[nn.Module]
    stride: int


_RE, _HS = nn.ReLU, nn.Hardswish
_SMALL = (
    _Row(3, 16, 16, True, _RE, 2),
    _Row(3, 72, 24, False, _RE, 2),
    _Row(3, 88, 24, False, _RE, 1),
    _Row(5, 96, 40, True, _HS, 2),
    _Row(5, 240, 40, True, _HS, 1),
    _Row(5, 240, 40, True, _HS, 1),
    _Row(5, 120, 48, True, _HS, 1),
    _Row(5, 144, 48, True, _HS, 1),
    _Row(5, 288, 96, True, _HS, 2),
    _Row(5, 576, 96, True, _HS, 1),
    _Row(5, 576, 96, True, _HS, 1),
)
_LARGE = (
    _Row(3, 16, 16, False, _RE, 1),
    _Row(3, 64, 24, False, _RE, 2),
    _Row(3, 72, 24, False, _RE, 1),
    _Row(5, 72, 40, True, _RE, 2),
    _Row(5, 120, 40, True, _RE, 1),
    _Row(5, 120, 40, True, _RE, 1),
    _Row(3, 240, 80, False, _HS, 2),
    _Row(3, 200, 80, False, _HS, 1),
    _Row(3, 184, 80, False, _HS, 1),
    _Row(3, 184, 80, False, _HS, 1),
    _Row(3, 480, 112, True, _HS, 1),
    _Row(3, 672, 112, True, _HS, 1),
    _Row(5, 672, 160, True, _HS, 2),
    _Row(5, 960, 160, True, _HS, 1),
    _Row(5, 960, 160, True, _HS, 1),
)


class MobileNetV3(Network):
    """Inverted residuals with squeeze-and-excite and hard swish; the embedding follows one projection."""

    def __init__(self, rows: tuple[_Row, ...], *, embedding_dim: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        # The reference implementation's decay of 0.99 is torch's momentum of 0.01.
        norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)
        channels = 16
        layers: list[nn.Module] = [conv_norm(in_channels, channels, stride=2, norm=norm, activation=nn.Hardswish)]
        for row in rows:
            layers.append(
                InvertedResidual(
                    channels,
                    row.out_channels,
                    expanded_channels=row.expanded_channels,
                    kernel=row.kernel,
                    stride=row.stride,
                    activation=row.activation,
                    norm=norm,
                    squeezed_channels=divisible_by_8(row.expanded_channels // 4) if row.squeezes else None,
                )
            )
            channels = row.out_channels
        layers.append(conv_norm(channels, 6 * channels, kernel=1, norm=norm, activation=nn.Hardswish))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.projection = nn.Sequential(nn.Linear(6 * channels, embedding_dim), nn.Hardswish())
        self.embedding_dim = embedding_dim
        self.classifier = linear_classifier(embedding_dim, num_classes, dropout=0.2)
        init_convolutions_fan_out(self)
        init_linears(self.classifier)
        # The paper's table has a 1x1 convolution here, so it starts like one. 0.01, as for a classifier, would leave
        # an untrained network with logits of 0.0001.
        init_linears(self.projection, std=math.sqrt(2 / embedding_dim))

    def embed(self, x: Tensor) -> Tensor:
        """Map `[N, C, H, W]` to `[N, 1024]` (small) or `[N, 1280]` (large)."""
        pooled = torch.flatten(self.avgpool(self.features(x)), 1)
        embedding: Tensor = self.projection(pooled)
        return embedding
