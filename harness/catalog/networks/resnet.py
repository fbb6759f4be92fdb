"""ResNet-18, ResNet-50, and a small one to distill into.

Source: He et al. 2016, "Deep Residual Learning for Image Recognition", arXiv 1512.03385, table 1. ResNet-50 is the
"v1.5" of torchvision: the 3x3 convolution of a bottleneck strides, not the first 1x1 (NVIDIA DeepLearningExamples,
ResNet50 v1.5). Layer names are torchvision's, except that its `fc` is `classifier`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from harness.catalog.networks.network import Network, init_convolutions_fan_out, linear_classifier


def resnet10_w32(*, num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """Make an untrained ResNet with one basic block a stage and half the usual channels: a tenth of a ResNet-18."""
    return ResNet(BasicBlock, (1, 1, 1, 1), num_classes=num_classes, in_channels=in_channels, width=32)


def resnet18(*, num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """Make an untrained ResNet-18 for images of 32 pixels or more on each side, 224 by default."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes=num_classes, in_channels=in_channels)


def resnet50(*, num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """Make an untrained ResNet-50 (v1.5) for images of 32 pixels or more on each side, 224 by default."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes=num_classes, in_channels=in_channels)


class ResNet(Network):
    """Four stages of residual blocks; the embedding is the mean of the last stage's features."""

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        blocks_per_stage: tuple[int, int, int, int],
        *,
        num_classes: int,
        in_channels: int,
        width: int = 64,
    ) -> None:
        super().__init__()
        self.embedding_dim = 8 * width * block.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(block, blocks_per_stage[0], in_channels=width, width=width, stride=1)
        self.layer2 = _stage(block, blocks_per_stage[1], in_channels=width * block.expansion, width=2 * width, stride=2)
        self.layer3 = _stage(
            block, blocks_per_stage[2], in_channels=2 * width * block.expansion, width=4 * width, stride=2
        )
        self.layer4 = _stage(
            block, blocks_per_stage[3], in_channels=4 * width * block.expansion, width=8 * width, stride=2
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = linear_classifier(self.embedding_dim, num_classes)
        init_convolutions_fan_out(self)

    def embed(self, x: Tensor) -> Tensor:
        """Map `[N, C, H, W]` to `[N, 512]` (ResNet-18), `[N, 2048]` (ResNet-50) or `[N, 256]` (the small one)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return torch.flatten(self.avgpool(x), 1)


def _stage(
    block: type[BasicBlock | Bottleneck], block_count: int, *, in_channels: int, width: int, stride: int
) -> nn.Sequential:
    first = block(in_channels, width, stride=stride)
    rest = [block(width * block.expansion, width) for _ in range(block_count - 1)]
    return nn.Sequential(first, *rest)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around an identity. Source: He et al. 2016, figure 5 left."""

    expansion: ClassVar[int] = 1

    def __init__(self, in_channels: int, width: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.downsample = _shortcut(in_channels, width, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[N, C, H, W]` to `[N, width, H / stride, W / stride]`."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(y + shortcut)
        return out


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 ones, around an identity. Source: He et al. 2016, figure 5 right."""

    expansion: ClassVar[int] = 4

    def __init__(self, in_channels: int, width: int, *, stride: int = 1) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.downsample = _shortcut(in_channels, out_channels, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[N, C, H, W]` to `[N, 4 * width, H / stride, W / stride]`."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(y + shortcut)
        return out


def _shortcut(in_channels: int, out_channels: int, *, stride: int) -> nn.Sequential | None:
    """Option B of the paper: a projection where the shape changes, else the identity (None)."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
    )
