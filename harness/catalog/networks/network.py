"""What every built-in network offers, and how an untrained one is given usable numbers.

A network is images in, logits out, with the embedding before the classifier reachable by itself: pruning must know
which layer not to touch, distillation and verification work on embeddings.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Network(nn.Module, ABC):
    """An image network with a removable classifier.

    Attributes:
        classifier: The head, embedding to logits. `nn.Identity` when built with `num_classes=0`.
        embedding_dim: D, the length of one embedding.
        head: The layers, by name, that are thrown away where embeddings are deployed. Never pruned.
        keep: Further layers that are never pruned.
    """

    classifier: nn.Module
    embedding_dim: int
    head: ClassVar[tuple[str, ...]] = ("classifier",)
    keep: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """Compute what the classifier sees.

        Args:
            x: Images, `[N, C, H, W]`, float.

        Returns:
            Embeddings, `[N, D]`, not normalised and without dropout.
        """

    def forward(self, x: Tensor) -> Tensor:
        """Classify images.

        Args:
            x: Images, `[N, C, H, W]`, float.

        Returns:
            Logits, `[N, num_classes]`; the embeddings, `[N, D]`, when the network was built with `num_classes=0`.
        """
        logits: Tensor = self.classifier(self.embed(x))
        return logits


class Projected(Network):
    """A network whose embedding is a projection of another one's, as verification networks have it.

    One linear layer to the length that is stored and compared, and a BatchNorm that gives every entry the same say in a
    cosine.

    Source: Deng et al. 2019, "ArcFace", arXiv 1801.07698, section 3.1 ("option E", here without its dropout).

    Attributes:
        trunk: The other network, without its classifier.
        projection: Its embedding to this one.
    """

    keep: ClassVar[tuple[str, ...]] = ("projection",)

    def __init__(self, trunk: Network, *, embedding_dim: int, num_classes: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.embedding_dim = embedding_dim
        # Without a bias: the norm would take it out again.
        self.projection = nn.Sequential(
            nn.Linear(trunk.embedding_dim, embedding_dim, bias=False), nn.BatchNorm1d(embedding_dim)
        )
        self.classifier = linear_classifier(embedding_dim, num_classes)

    def embed(self, x: Tensor) -> Tensor:
        """Map `[N, C, H, W]` to `[N, embedding_dim]`."""
        embedding: Tensor = self.projection(self.trunk.embed(x))
        return embedding


def linear_classifier(embedding_dim: int, num_classes: int, *, dropout: float | None = None) -> nn.Module:
    """Make the usual head: one linear layer, after dropout where the paper trains with it.

    Args:
        embedding_dim: Length of one embedding.
        num_classes: Length of the logits; 0 makes the head that changes nothing.
        dropout: Probability that training zeroes an entry of the embedding; None leaves the layer out.

    Raises:
        ValueError: `num_classes` is negative.
    """
    refuse_negative(num_classes)
    if num_classes == 0:
        return nn.Identity()
    if dropout is None:
        return nn.Linear(embedding_dim, num_classes)
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(embedding_dim, num_classes))


def refuse_negative(num_classes: int) -> None:
    """Raise ValueError for a negative number of classes; torch's own message would not name it."""
    if num_classes < 0:
        raise ValueError(f"num_classes is {num_classes}; give 0 (no classifier) or more")


def init_convolutions_fan_out(module: nn.Module) -> None:
    """Draw every convolution's weights from He's normal distribution, by fan-out; biases become 0.

    torch's own `kaiming_normal_(mode="fan_out")` ignores groups: a depthwise layer of 960 channels would start
    31 times too small, and the output of an untrained MobileNet would vanish.

    Args:
        module: Changed in place; only `nn.Conv2d` layers are.

    Source: He et al. 2015, "Delving Deep into Rectifiers", equation 14, with the fan-out of one group.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.out_channels // layer.groups * math.prod(layer.kernel_size)
            nn.init.normal_(layer.weight, std=math.sqrt(2.0 / fan_out))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def init_linears(module: nn.Module, *, std: float = 0.01) -> None:
    """Draw every linear layer's weights from N(0, std^2); biases become 0. Changes `module` in place.

    Source: torchvision's mobilenetv2.py, for the default.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)


def settle_batchnorm(module: nn.Module, batches: Sequence[Tensor]) -> None:
    """Replace every BatchNorm's running statistics by what it really sees on these images.

    A new BatchNorm assumes mean 0 and variance 1, so in an untrained network it normalises nothing: activations grow
    from block to block (ResNet-50) or fade (MobileNetV3), and an int8 version of it has little to agree with.
    Afterwards each layer passes on about unit variance, as in a trained network. The result depends on the weights
    and the images alone: dropout stays off and no random number is drawn. A network without BatchNorm (LightCNN,
    SqueezeNet) is not run.

    Args:
        module: Changed in place: running means and variances, nothing else. Training flags are put back.
        batches: Images as the network will see them, each `[N, C, H, W]` with N of 2 or more. The statistics are
            the plain average over the batches.

    Raises:
        ValueError: There is no batch.
    """
    if not batches:
        raise ValueError("settle_batchnorm needs at least one batch of images")
    norms = [layer for layer in module.modules() if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    try:
        with evaluating(module), torch.no_grad():
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # torch's spelling of a cumulative average
                norm.training = True
            for batch in batches:
                module(batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Hold a module and all below it in evaluation mode, then give each its own training flag back."""
    flags = [(layer, layer.training) for layer in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for layer, was_training in flags:
            layer.training = was_training  # not .train(): that would also set the layers below
