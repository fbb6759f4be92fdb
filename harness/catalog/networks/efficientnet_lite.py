"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excite, with ReLU6 for swish.

Source: Tan and Le 2019, "EfficientNet", arXiv 1905.11946, table 1, with the changes of github.com/tensorflow/tpu,
models/official/efficientnet/lite. One difference: padding is symmetric, as in every other network here, where
TensorFlow's "SAME" pads an even image on the right and bottom only. Sizes, parameters and MACs are equal, but the
original's weights would have to be fine-tuned, and in TFLite each of the five strided layers gets a PAD before it.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from harness.catalog.networks.blocks import InvertedResidual, conv_norm
from harness.catalog.networks.network import (
    Network,
    init_convolutions_fan_out,
    init_linears,
    linear_classifier,
)

# Blocks, kernel, stride of the first block, expansion, channels: efficientnet_lite_builder.py, `_DEFAULT_BLOCKS_ARGS`.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def efficientnet_lite0(*, num_classes: int = 1000, in_channels: int = 3) -> EfficientNetLite:
    """Make an untrained EfficientNet-Lite0 for images of 32 pixels or more on each side, 224 by default."""
    return EfficientNetLite(num_classes=num_classes, in_channels=in_channels)


class EfficientNetLite(Network):
    """Inverted residuals with ReLU6; the embedding is the mean of 1,280 features.

    Without the reference's stochastic depth, which changes training only.
    """

    embedding_dim = 1280

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        # The reference's decay of 0.99 is torch's momentum of 0.01.
        norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)
        channels = 32
        layers: list[nn.Module] = [conv_norm(in_channels, channels, stride=2, norm=norm, activation=nn.ReLU6)]
        for block_count, kernel, first_stride, expansion, out_channels in _STAGES:
            for index in range(block_count):
                layers.append(
                    InvertedResidual(
                        channels,
                        out_channels,
                        expanded_channels=channels * expansion,
                        kernel=kernel,
                        stride=first_stride if index == 0 else 1,
                        activation=nn.ReLU6,
                        norm=norm,
                    )
                )
                channels = out_channels
        layers.append(conv_norm(channels, self.embedding_dim, kernel=1, norm=norm, activation=nn.ReLU6))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = linear_classifier(self.embedding_dim, num_classes, dropout=0.2)
        init_convolutions_fan_out(self)
        init_linears(self)

    def embed(self, x: Tensor) -> Tensor:
        """Map `[N, C, H, W]` to `[N, 1280]`."""
        return torch.flatten(self.avgpool(self.features(x)), 1)
