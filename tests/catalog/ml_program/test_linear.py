from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.catalog.ml_program.building import agree, mb, random


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_linear_multiplies_by_the_transposed_weight(shape: tuple[int, ...], *, has_bias: bool) -> None:
    weight, bias = random(4, 5, seed=1), random(4, seed=2)
    parameters = {"weight": weight, "bias": bias} if has_bias else {"weight": weight}

    agree(lambda x: mb.linear(x=x, **parameters), lambda x: x @ weight.T + (bias if has_bias else 0), random(*shape))


@pytest.mark.parametrize(("x", "y"), [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((5, 1, 3, 4), (2, 4, 3))])
@pytest.mark.parametrize("transpose_x", [True, False])
@pytest.mark.parametrize("transpose_y", [True, False])
def test_matmul_broadcasts_and_transposes(
    x: tuple[int, ...], y: tuple[int, ...], *, transpose_x: bool, transpose_y: bool
) -> None:
    a, b = random(*x), random(*y, seed=1)
    a = a.swapaxes(-1, -2) if transpose_x else a
    b = b.swapaxes(-1, -2) if transpose_y else b

    agree(
        lambda x, y: mb.matmul(x=x, y=y, transpose_x=transpose_x, transpose_y=transpose_y),
        lambda x, y: np.matmul(
            x.swapaxes(-1, -2) if transpose_x else x,
            y.swapaxes(-1, -2) if transpose_y else y,
        ),
        np.ascontiguousarray(a),
        np.ascontiguousarray(b),
    )


@pytest.mark.parametrize(
    ("equation", "x", "y"),
    [("nchw,nwhu->nchu", (2, 3, 4, 5), (2, 5, 4, 6)), ("chw,whu->chu", (2, 3, 4), (4, 3, 5))],
)
def test_einsum(equation: str, x: tuple[int, ...], y: tuple[int, ...]) -> None:
    agree(
        lambda x, y: mb.einsum(values=(x, y), equation=equation),
        lambda x, y: np.einsum(equation, x, y),
        random(*x),
        random(*y, seed=1),
    )


@pytest.mark.parametrize("masked", [True, False])
def test_attention_is_a_softmax_over_scaled_products(*, masked: bool) -> None:
    mask = random(3, 4, seed=3)

    def reference(q: Any, k: Any, v: Any) -> Any:
        scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1]) + (mask.astype(q.dtype) if masked else 0)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        return weights / weights.sum(-1, keepdims=True) @ v

    agree(
        lambda q, k, v: mb.scaled_dot_product_attention(
            query=q, key=k, value=v, **({"attn_mask": mb.cast(x=mask, dtype=_name(q))} if masked else {})
        ),
        reference,
        random(2, 3, 8),
        random(2, 4, 8, seed=1),
        random(2, 4, 5, seed=2),
        target="iOS18",
    )


def _name(variable: object) -> str:
    return "fp16" if "fp16" in str(variable) else "fp32"
