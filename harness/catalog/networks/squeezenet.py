"""SqueezeNet 1.0 and 1.1.

Source: Iandola et al. 2016, "SqueezeNet", arXiv 1602.07360, table 1 (1.0); github.com/forresti/SqueezeNet,
SqueezeNet_v1.1/README.md (1.1: smaller first filters, earlier pooling). Layer names are torchvision's, so that its
checkpoints load as they are; like torchvision, 1.0 does not pad its first convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.catalog.networks.network import Network, refuse_negative


def squeezenet1_0(*, num_classes: int = 1000, in_channels: int = 3) -> SqueezeNet:
    """Make an untrained SqueezeNet 1.0 for images of 21 pixels or more on each side, 224 by default."""
    features = nn.Sequential(
        nn.Conv2d(in_channels, 96, 7, stride=2),
        nn.ReLU(),
        _pool(),
        Fire(96, squeezed=16, expanded=64),
        Fire(128, squeezed=16, expanded=64),
        Fire(128, squeezed=32, expanded=128),
        _pool(),
        Fire(256, squeezed=32, expanded=128),
        Fire(256, squeezed=48, expanded=192),
        Fire(384, squeezed=48, expanded=192),
        Fire(384, squeezed=64, expanded=256),
        _pool(),
        Fire(512, squeezed=64, expanded=256),
    )
    return SqueezeNet(features, num_classes=num_classes)


def squeezenet1_1(*, num_classes: int = 1000, in_channels: int = 3) -> SqueezeNet:
    """Make an untrained SqueezeNet 1.1 for images of 17 pixels or more on each side, 224 by default."""
    features = nn.Sequential(
        nn.Conv2d(in_channels, 64, 3, stride=2),
        nn.ReLU(),
        _pool(),
        Fire(64, squeezed=16, expanded=64),
        Fire(128, squeezed=16, expanded=64),
        _pool(),
        Fire(128, squeezed=32, expanded=128),
        Fire(256, squeezed=32, expanded=128),
        _pool(),
        Fire(256, squeezed=48, expanded=192),
        Fire(384, squeezed=48, expanded=192),
        Fire(384, squeezed=64, expanded=256),
        Fire(512, squeezed=64, expanded=256),
    )
    return SqueezeNet(features, num_classes=num_classes)


def _pool() -> nn.MaxPool2d:
    # Caffe rounds pooled sizes up, and at 224 pixels the second pooling of 1.0 depends on it (54 -> 27).
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


class SqueezeNet(Network):
    """Fire modules, then a convolutional classifier; the embedding is the mean of the last 512 features.

    The classifier reads the feature map, not the embedding: each place is classified, then the logits are averaged.
    They are 0 or more, since the paper has a ReLU after the last convolution.
    """

    embedding_dim = 512

    def __init__(self, features: nn.Sequential, *, num_classes: int) -> None:
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = _convolutional_classifier(self.embedding_dim, num_classes)
        _init_as_published(self)

    def embed(self, x: Tensor) -> Tensor:
        """Map `[N, C, H, W]` to `[N, 512]`."""
        return torch.flatten(self.avgpool(self.features(x)), 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[N, C, H, W]` to logits `[N, num_classes]`, or to the embeddings without a classifier."""
        if isinstance(self.classifier, nn.Identity):
            return self.embed(x)
        logits: Tensor = self.classifier(self.features(x))
        return logits


class Fire(nn.Module):
    """Squeeze to few channels, expand by 1x1 and 3x3 filters side by side. Source: the paper, section 3.2."""

    def __init__(self, in_channels: int, *, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map `[N, C, H, W]` to `[N, 2 * expanded, H, W]`."""
        x = self.relu(self.squeeze(x))
        return torch.cat([self.relu(self.expand1x1(x)), self.relu(self.expand3x3(x))], dim=1)


def _convolutional_classifier(channels: int, num_classes: int) -> nn.Module:
    refuse_negative(num_classes)
    if num_classes == 0:
        return nn.Identity()
    return nn.Sequential(
        nn.Dropout(0.5),
        nn.Conv2d(channels, num_classes, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def _init_as_published(network: SqueezeNet) -> None:
    """He uniform by fan-in everywhere; N(0, 0.01^2) for the classifier. Source: torchvision's squeezenet.py."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for layer in network.classifier.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.01)
