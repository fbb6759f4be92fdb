"""The built-in networks: what there is, how to make one, and the published figures each is tested against.

Importing this package does not import torch; `NetworkInfo.build` does.

    >>> NETWORKS["light_cnn29"].input_shape
    (1, 1, 128, 128)
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.catalog.networks.network import Network

__all__ = ["NETWORKS", "NetworkInfo", "Published"]


@dataclass(frozen=True, kw_only=True)
class Published:
    """A figure from the literature.

    Attributes:
        value: Parameters, or multiply-accumulates for one image of the default shape.
        tolerance: How far a correct count may be from `value`; 0 when it was published to the last digit.
        source: Who published it, and where.
        note: Why a correct count differs by more than rounding; empty where it does not.
        num_classes: The head it was published with; 0 for none.
    """

    value: int
    tolerance: int
    source: str
    note: str = ""
    num_classes: int = 1000

    def agrees_with(self, counted: int) -> bool:
        """Tell whether a count is this figure, within what its rounding explains."""
        return abs(counted - self.value) <= self.tolerance


@dataclass(frozen=True, kw_only=True)
class NetworkInfo:
    """One built-in network.

    Attributes:
        name: What users call it.
        factory: `module:function` that makes it.
        input_shape: `(N, C, H, W)` that the published figures are for.
        parameters: Published parameter counts.
        macs: Published multiply-accumulate counts; empty when none was found.
        fixed_size: Whether a layer is as large as the image, which therefore has to be known.
    """

    name: str
    factory: str
    input_shape: tuple[int, int, int, int]
    parameters: tuple[Published, ...]
    macs: tuple[Published, ...]
    fixed_size: bool = False

    def build(
        self,
        *,
        num_classes: int = 1000,
        in_channels: int | None = None,
        image_size: int | None = None,
        embedding: int | None = None,
    ) -> Network:
        """Make the network, untrained: `torch.manual_seed` before it decides the weights.

        The running statistics of its BatchNorms are those of a new layer; see `network.settle_batchnorm`.

        Args:
            num_classes: Length of the logits; 0 leaves the classifier out, and the output is the embedding.
            in_channels: C of the images; None takes that of `input_shape`.
            image_size: H and W of the images; None takes that of `input_shape`. Only a network of `fixed_size` cares.
            embedding: Length of an embedding that is projected from the network's own; None leaves that as it is.

        Raises:
            ModuleNotFoundError: torch is not installed.
            ValueError: `num_classes` is negative, or no network can be made for this `image_size`.
        """
        module, function = self.factory.split(":")
        factory: Callable[..., Network] = getattr(importlib.import_module(module), function)
        arguments = {"in_channels": self.input_shape[1] if in_channels is None else in_channels}
        if self.fixed_size:
            arguments["image_size"] = self.input_shape[2] if image_size is None else image_size
        if embedding is None:
            return factory(num_classes=num_classes, **arguments)
        from harness.catalog.networks.network import Projected  # noqa: PLC0415  (needs torch)

        return Projected(factory(num_classes=0, **arguments), embedding_dim=embedding, num_classes=num_classes)


def _exact(value: int, source: str) -> Published:
    return Published(value=value, tolerance=0, source=source)


def _torchvision(gmacs: float, weights: str) -> Published:
    """One entry of torchvision's "GFLOPS": GMACs with three decimals, at 224 x 224."""
    return Published(value=round(gmacs * 1e9), tolerance=500_000, source=f'torchvision 0.29.2, {weights}, "_ops"')


_IMAGENET = (1, 3, 224, 224)
# The paper's totals are met to 0.1 % when the 3x3 layer after the first pooling is counted with 96 inputs. It has 48:
# max-feature-map halves them. The authors' code has what is counted here.
_LIGHT_CNN_NOTE = "82,944 too many in one layer (inputs not halved), biases not counted, rows truncated to thousands"


def _light_cnn_paper(value: int) -> Published:
    return Published(
        value=value,
        tolerance=83_000,
        source="Wu et al. 2018, arXiv 1511.02683v4, #Param",
        note=_LIGHT_CNN_NOTE,
        num_classes=0,
    )


_ALL = (
    NetworkInfo(
        name="resnet10_w32",
        factory="harness.catalog.networks.resnet:resnet10_w32",
        input_shape=_IMAGENET,
        # A student for distillation, not a network of the literature: nobody has published its figures.
        parameters=(),
        macs=(),
    ),
    NetworkInfo(
        name="resnet18",
        factory="harness.catalog.networks.resnet:resnet18",
        input_shape=_IMAGENET,
        parameters=(_exact(11_689_512, 'torchvision 0.29.2, ResNet18_Weights, "num_params"'),),
        macs=(
            _torchvision(1.814, "ResNet18_Weights"),
            Published(value=1_800_000_000, tolerance=50_000_000, source="He et al. 2016, arXiv 1512.03385, table 1"),
        ),
    ),
    NetworkInfo(
        name="resnet50",
        factory="harness.catalog.networks.resnet:resnet50",
        input_shape=_IMAGENET,
        parameters=(_exact(25_557_032, 'torchvision 0.29.2, ResNet50_Weights, "num_params"'),),
        # Not the paper's 3.8e9: that network strides in the 1x1 convolutions, this one (v1.5) in the 3x3.
        macs=(_torchvision(4.089, "ResNet50_Weights"),),
    ),
    NetworkInfo(
        name="mobilenet_v2",
        factory="harness.catalog.networks.mobilenet_v2:mobilenet_v2",
        input_shape=_IMAGENET,
        parameters=(
            _exact(3_504_872, 'torchvision 0.29.2, MobileNet_V2_Weights, "num_params"'),
            Published(
                value=3_400_000,
                tolerance=110_000,
                source="Sandler et al. 2018, arXiv 1801.04381, table 4",
                note="truncated, and without the 34,112 parameters of BatchNorm: 3.47 million",
            ),
        ),
        macs=(
            _torchvision(0.301, "MobileNet_V2_Weights"),
            Published(value=300_000_000, tolerance=1_000_000, source="Sandler et al. 2018, arXiv 1801.04381, table 4"),
        ),
    ),
    NetworkInfo(
        name="mobilenet_v3_small",
        factory="harness.catalog.networks.mobilenet_v3:mobilenet_v3_small",
        input_shape=_IMAGENET,
        parameters=(
            _exact(2_542_856, 'torchvision 0.29.2, MobileNet_V3_Small_Weights, "num_params"'),
            Published(value=2_500_000, tolerance=50_000, source="Howard et al. 2019, arXiv 1905.02244v5, table 3"),
        ),
        macs=(
            _torchvision(0.057, "MobileNet_V3_Small_Weights"),
            Published(value=56_000_000, tolerance=1_000_000, source="Howard et al. 2019, arXiv 1905.02244v5, table 3"),
        ),
    ),
    NetworkInfo(
        name="mobilenet_v3_large",
        factory="harness.catalog.networks.mobilenet_v3:mobilenet_v3_large",
        input_shape=_IMAGENET,
        parameters=(
            _exact(5_483_032, 'torchvision 0.29.2, MobileNet_V3_Large_Weights, "num_params"'),
            Published(
                value=5_400_000,
                tolerance=100_000,
                source="Howard et al. 2019, arXiv 1905.02244v5, table 3",
                note="truncated",
            ),
        ),
        macs=(
            _torchvision(0.217, "MobileNet_V3_Large_Weights"),
            Published(
                value=217_000_000,
                tolerance=500_000,
                source="tensorflow/models, research/slim/nets/mobilenet/README.md",
            ),
            Published(
                value=219_000_000,
                tolerance=3_000_000,
                source="Howard et al. 2019, arXiv 1905.02244v5, table 3",
                note="the authors' code gives 217 million, see their README",
            ),
        ),
    ),
    NetworkInfo(
        name="light_cnn9",
        factory="harness.catalog.networks.light_cnn:light_cnn9",
        input_shape=(1, 1, 128, 128),
        parameters=(_light_cnn_paper(5_556_000),),
        macs=(),
        fixed_size=True,
    ),
    NetworkInfo(
        name="light_cnn29",
        factory="harness.catalog.networks.light_cnn:light_cnn29",
        input_shape=(1, 1, 128, 128),
        parameters=(
            _light_cnn_paper(12_637_000),
            Published(
                value=12_600_000,
                tolerance=50_000,
                source="Chen et al. 2018, arXiv 1804.07573, section 1",
                num_classes=0,
            ),
        ),
        macs=(),
        fixed_size=True,
    ),
    NetworkInfo(
        name="efficientnet_lite0",
        factory="harness.catalog.networks.efficientnet_lite:efficientnet_lite0",
        input_shape=_IMAGENET,
        parameters=(
            _exact(4_652_008, "tensorflow/tpu, models/official/efficientnet/lite/efficientnet_lite_builder_test.py"),
        ),
        macs=(
            Published(
                value=407_000_000,
                tolerance=22_000_000,
                source="tensorflow/tpu, models/official/efficientnet/lite/README.md",
                note="taken from a profile; the surplus is about 3 operations for each of the 6.7 million outputs of "
                "convolutions, as BatchNorm and activation would be, which are not MACs here",
            ),
        ),
    ),
    NetworkInfo(
        name="squeezenet1_0",
        factory="harness.catalog.networks.squeezenet:squeezenet1_0",
        input_shape=_IMAGENET,
        parameters=(
            _exact(1_248_424, 'torchvision 0.29.2, SqueezeNet1_0_Weights, "num_params"'),
            _exact(1_248_424, "Iandola et al. 2016, arXiv 1602.07360, table 1"),
        ),
        macs=(_torchvision(0.819, "SqueezeNet1_0_Weights"),),
    ),
    NetworkInfo(
        name="squeezenet1_1",
        factory="harness.catalog.networks.squeezenet:squeezenet1_1",
        input_shape=_IMAGENET,
        parameters=(_exact(1_235_496, 'torchvision 0.29.2, SqueezeNet1_1_Weights, "num_params"'),),
        macs=(_torchvision(0.349, "SqueezeNet1_1_Weights"),),
    ),
    NetworkInfo(
        name="densenet121",
        factory="harness.catalog.networks.densenet:densenet121",
        input_shape=_IMAGENET,
        parameters=(_exact(7_978_856, 'torchvision 0.29.2, DenseNet121_Weights, "num_params"'),),
        macs=(_torchvision(2.834, "DenseNet121_Weights"),),
    ),
)

NETWORKS: Mapping[str, NetworkInfo] = MappingProxyType({info.name: info for info in _ALL})
"""Every built-in network by name."""
