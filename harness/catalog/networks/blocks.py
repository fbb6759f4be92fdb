"""Building blocks that MobileNetV2, MobileNetV3 and EfficientNet-Lite share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable


def conv_norm(
    in_channels: int,
    out_channels: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    groups: int = 1,
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    activation: Callable[[], nn.Module] | None,
) -> nn.Sequential:
    """Make convolution, BatchNorm, activation; the size is kept, or halved (rounded up) by `stride=2`.

    Args:
        in_channels: Channels of the input `[N, C, H, W]`.
        out_channels: Channels of the output.
        kernel: Side of the kernel, odd.
        stride: Step of the convolution.
        groups: `in_channels` makes the convolution depthwise.
        norm: Makes the normalisation for that many channels.
        activation: Makes the activation; None for a linear output.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
        norm(out_channels),
    ]
    if activation is not None:
        layers.append(activation())
    return nn.Sequential(*layers)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, optionally weigh the channels, project; add the input where shapes allow.

    Source: Sandler et al. 2018, "MobileNetV2", section 3.4; squeeze-and-excite as in Howard et al. 2019,
    "Searching for MobileNetV3", section 5.3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        expanded_channels: int,
        kernel: int,
        stride: int,
        activation: Callable[[], nn.Module],
        norm: Callable[[int], nn.Module],
        squeezed_channels: int | None = None,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if expanded_channels != in_channels:
            layers.append(conv_norm(in_channels, expanded_channels, kernel=1, norm=norm, activation=activation))
        layers.append(
            conv_norm(
                expanded_channels,
                expanded_channels,
                kernel=kernel,
                stride=stride,
                groups=expanded_channels,
                norm=norm,
                activation=activation,
            )
        )
        if squeezed_channels is not None:
            layers.append(SqueezeExcitation(expanded_channels, squeezed_channels))
        layers.append(conv_norm(expanded_channels, out_channels, kernel=1, norm=norm, activation=None))
        self.block = nn.Sequential(*layers)
        self.adds_input = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map `[N, C, H, W]` to `[N, out_channels, H / stride, W / stride]`."""
        y: Tensor = self.block(x)
        return x + y if self.adds_input else y


class SqueezeExcitation(nn.Module):
    """Scale each channel by a gate computed from all channels' means.

    Source: Hu et al. 2018, "Squeeze-and-Excitation Networks", section 3, with the hard sigmoid of MobileNetV3.
    """

    def __init__(self, channels: int, squeezed_channels: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed_channels, 1)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(squeezed_channels, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Scale `[N, C, H, W]`; the shape stays."""
        gate: Tensor = self.gate(self.fc2(self.relu(self.fc1(self.avgpool(x)))))
        return x * gate


def divisible_by_8(channels: float) -> int:
    """Round a channel count to a multiple of 8, never more than 10 % down.

    Source: tensorflow/models, research/slim/nets/mobilenet/mobilenet.py, `_make_divisible`.
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
