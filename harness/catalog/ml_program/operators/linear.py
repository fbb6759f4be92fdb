"""Matrix products."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation

from harness.catalog.ml_program.unsupported import NotCovered

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from harness.catalog.ml_program.operators.operator import Tensors


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply x by the transpose of weight, add the bias. Source: iOS15/linear.py, class linear."""
    return F.linear(x, weight, bias)


def matmul(
    x: Tensor,
    y: Tensor,
    transpose_x: bool = False,
    transpose_y: bool = False,
) -> Tensor:
    """Batched product, broadcast as NumPy does; transposing a vector does nothing. Source: iOS15/linear.py."""
    x = x.transpose(-1, -2) if transpose_x and x.dim() > 1 else x
    y = y.transpose(-1, -2) if transpose_y and y.dim() > 1 else y
    return torch.matmul(x, y)


def einsum(values: Tensors, equation: str) -> Tensor:
    """Sum of products of two operands. Source: iOS15/linear.py, class einsum."""
    if len(values) != 2:
        raise NotCovered("values", f"{len(values)} operands")
    return torch.einsum(equation, *values)


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(E) + mask) v. Source: iOS18/transformers.py."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask)


FUNCTIONS: dict[str, Callable[..., object]] = {
    "einsum": einsum,
    "linear": linear,
    "matmul": matmul,
    "scaled_dot_product_attention": scaled_dot_product_attention,
}
