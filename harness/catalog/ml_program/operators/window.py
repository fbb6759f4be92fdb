"""Padding of sliding windows, shared by convolution and pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation

from harness.catalog.ml_program.unsupported import NotCovered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

Pads: TypeAlias = "list[tuple[int, int]]"


def pads_of(
    pad_type: str,
    pad: Sequence[int] | None,
    *,
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> Pads:
    """How many elements go before and after each spatial dimension.

    `same` makes the output ceil(size / stride); an odd surplus goes after, with `same_lower` before.

    Raises:
        NotCovered: Another `pad_type`, or a `pad` of the wrong length.

    Source: _utils.py, aggregated_pad, for the totals; NeuralNetwork.proto, SamePadding.asymmetryMode (bottom-right
    heavy as in TensorFlow), for where an odd surplus goes.
    """
    if pad_type == "valid":
        return [(0, 0)] * len(sizes)
    if pad_type == "custom":
        if pad is None or len(pad) != 2 * len(sizes):
            raise NotCovered("pad", f"{pad} with pad_type custom and {len(sizes)} spatial dimensions")
        return [(pad[2 * i], pad[2 * i + 1]) for i in range(len(sizes))]
    if pad_type not in {"same", "same_lower"}:
        raise NotCovered("pad_type", repr(pad_type))
    pads = []
    for size, window, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + (window - 1) * dilation + 1 - size)
        less, more = total // 2, total - total // 2
        pads.append((less, more) if pad_type == "same" else (more, less))
    return pads


def padded(x: Tensor, pads: Pads, value: float = 0.0) -> Tensor:
    """Pad the last dimensions of `x` with a constant. Negative amounts crop."""
    if not any(any(pair) for pair in pads):
        return x
    return F.pad(x, [amount for pair in reversed(pads) for amount in pair], value=value)
