"""LightCNN-9 and LightCNN-29 (version 1), face networks that are much used for irises and eyes.

Source: Wu et al. 2018, "A Light CNN for Deep Face Representation with Noisy Labels", arXiv 1511.02683v4, and the
authors' code, github.com/AlfredXiangWu/LightCNN, light_cnn.py. Version 1 of the 29 layers is the paper's: maximum
pooling and a max-feature-map on the fully connected layer (version 2 adds average pooling and drops the latter).
Layer names are those of the authors' `network_29layers`, except that `fc2` is `classifier.1`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from harness.catalog.networks.network import Network, init_linears, linear_classifier

_POOLINGS = 4


def light_cnn9(*, num_classes: int = 1000, in_channels: int = 1, image_size: int = 128) -> LightCNN:
    """Make an untrained LightCNN-9.

    Args:
        num_classes: Length of the logits, or 0.
        in_channels: 1, grey images, in the paper.
        image_size: Side of the square images in pixels, a multiple of 16. The fully connected layer fixes it.

    Raises:
        ValueError: `image_size` is not a multiple of 16.
    """
    return LightCNN((0, 0, 0, 0), num_classes=num_classes, in_channels=in_channels, image_size=image_size)


def light_cnn29(*, num_classes: int = 1000, in_channels: int = 1, image_size: int = 128) -> LightCNN:
    """Make an untrained LightCNN-29, version 1. Arguments and errors as for `light_cnn9`."""
    return LightCNN((1, 2, 3, 4), num_classes=num_classes, in_channels=in_channels, image_size=image_size)


class LightCNN(Network):
    """Convolutions whose activation is the larger of two feature maps; the embedding has 256 entries.

    No BatchNorm and no ReLU anywhere. LightCNN-9 is LightCNN-29 without the residual blocks.
    """

    embedding_dim = 256

    def __init__(
        self,
        residual_blocks: tuple[int, int, int, int],
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
    ) -> None:
        super().__init__()
        # With this, the authors' ceil_mode=True never matters, and no exporter has to support it.
        if image_size <= 0 or image_size % 2**_POOLINGS:
            raise ValueError(f"image_size is {image_size}; four poolings need a positive multiple of 16")
        self.conv1 = MaxFeatureMapConv(in_channels, 48, kernel=5)
        self.pool1 = nn.MaxPool2d(2, stride=2)
        self.block1 = _residual_blocks(48, residual_blocks[0])
        self.group1 = ConvGroup(48, 96)
        self.pool2 = nn.MaxPool2d(2, stride=2)
        self.block2 = _residual_blocks(96, residual_blocks[1])
        self.group2 = ConvGroup(96, 192)
        self.pool3 = nn.MaxPool2d(2, stride=2)
        self.block3 = _residual_blocks(192, residual_blocks[2])
        self.group3 = ConvGroup(192, 128)
        self.block4 = _residual_blocks(128, residual_blocks[3])
        self.group4 = ConvGroup(128, 128)
        self.pool4 = nn.MaxPool2d(2, stride=2)
        self.fc = MaxFeatureMapLinear(128 * (image_size // 2**_POOLINGS) ** 2, self.embedding_dim)
        self.classifier = linear_classifier(self.embedding_dim, num_classes, dropout=0.5)
        _init_scale_preserving(self)

    def embed(self, x: Tensor) -> Tensor:
        """Map `[N, C, H, W]` to `[N, 256]`."""
        x = self.pool1(self.conv1(x))
        x = self.pool2(self.group1(self.block1(x)))
        x = self.pool3(self.group2(self.block2(x)))
        x = self.group3(self.block3(x))
        x = self.pool4(self.group4(self.block4(x)))
        embedding: Tensor = self.fc(torch.flatten(x, 1))
        return embedding


def _residual_blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))


class ResidualBlock(nn.Module):
    """Two 3x3 max-feature-map convolutions around an identity, with nothing after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = MaxFeatureMapConv(channels, channels, kernel=3)
        self.conv2 = MaxFeatureMapConv(channels, channels, kernel=3)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[N, C, H, W]` to the same shape."""
        y: Tensor = self.conv2(self.conv1(x))
        return x + y


class ConvGroup(nn.Module):
    """A 1x1 and a 3x3 max-feature-map convolution: a layer of the network in network."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv_a = MaxFeatureMapConv(in_channels, in_channels, kernel=1)
        self.conv = MaxFeatureMapConv(in_channels, out_channels, kernel=3)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[N, C, H, W]` to `[N, out_channels, H, W]`."""
        y: Tensor = self.conv(self.conv_a(x))
        return y


class MaxFeatureMapConv(nn.Module):
    """Convolve to twice the channels, keep the larger of channel k and channel k + C.

    Source: Wu et al. 2018, equation 2 (MFM 2/1).
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int) -> None:
        super().__init__()
        self.filter = nn.Conv2d(in_channels, 2 * out_channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[N, C, H, W]` to `[N, out_channels, H, W]`."""
        return _max_of_halves(self.filter(x))


class MaxFeatureMapLinear(nn.Module):
    """Compute twice the features, keep the larger of feature k and feature k + D."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.filter = nn.Linear(in_features, 2 * out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[N, in_features]` to `[N, out_features]`."""
        return _max_of_halves(self.filter(x))


def _max_of_halves(x: Tensor) -> Tensor:
    first, second = torch.chunk(x, 2, dim=1)
    return torch.maximum(first, second)


def _init_scale_preserving(network: LightCNN) -> None:
    """Draw weights uniformly with variance 1 / fan-in, biases 0; start residual branches and logits small.

    That is Caffe's "xavier", with which the authors trained, and it keeps the scale: the larger of two independent
    centred normal variables has their second moment (torch's default would shrink it 1.7 times a layer). Without a
    BatchNorm the sums of ten residual blocks would still multiply it by 50, so each branch starts smaller by the
    root of their number.

    Source: Zhang et al. 2019, "Fixup Initialization", section 3, for two layers a branch.
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    branches = [layer.conv2.filter for layer in network.modules() if isinstance(layer, ResidualBlock)]
    with torch.no_grad():
        for last_of_branch in branches:
            last_of_branch.weight /= math.sqrt(len(branches))
    init_linears(network.classifier)
