from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.catalog.ml_program.building import agree, like, mb, random

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_erf = np.vectorize(math.erf)
X = np.concatenate([random(1, 4, 50) * 3, np.array([[[-30.0, -3, -0.5, 0, 0.5, 3, 6, 30]] * 4])], -1).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "parameters", "formula"),
    [
        ("relu", {}, lambda x: np.maximum(x, 0)),
        ("relu6", {}, lambda x: np.clip(x, 0, 6)),
        ("leaky_relu", {"alpha": 0.25}, lambda x: np.where(x > 0, x, 0.25 * x)),
        ("leaky_relu", {"alpha": 2.0}, lambda x: np.where(x > 0, x, 2 * x)),
        ("elu", {"alpha": 0.5}, lambda x: np.where(x > 0, x, 0.5 * np.expm1(x))),
        ("sigmoid", {}, lambda x: 1 / (1 + np.exp(-x))),
        ("sigmoid_hard", {"alpha": 0.25, "beta": 0.5}, lambda x: np.clip(0.25 * x + 0.5, 0, 1)),
        ("silu", {}, lambda x: x / (1 + np.exp(-x))),
        ("softplus", {}, lambda x: np.logaddexp(0, x)),
        ("softsign", {}, lambda x: x / (1 + np.abs(x))),
        ("tanh", {}, np.tanh),
        ("scaled_tanh", {"alpha": 1.5, "beta": 0.25}, lambda x: 1.5 * np.tanh(0.25 * x)),
        ("clamped_relu", {"alpha": 0.25, "beta": 2.0}, lambda x: np.minimum(2, np.where(x >= 0, x, 0.25 * x))),
        ("clamped_relu", {"alpha": 0.25, "beta": -1.0}, lambda x: np.minimum(-1, np.where(x >= 0, x, 0.25 * x))),
        ("linear_activation", {"alpha": -1.5, "beta": 0.5}, lambda x: -1.5 * x + 0.5),
        ("thresholded_relu", {"alpha": 0.5}, lambda x: np.where(x >= 0.5, x, 0)),
        ("thresholded_relu", {"alpha": -3.0}, lambda x: np.where(x >= -3, x, 0)),
        ("gelu", {"mode": "EXACT"}, lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2)))),
        (
            "gelu",
            {"mode": "TANH_APPROXIMATION"},
            lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        ),
        ("gelu", {"mode": "SIGMOID_APPROXIMATION"}, lambda x: x / (1 + np.exp(-1.702 * x))),
        ("gelu", {}, lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2)))),
    ],
)
def test_an_activation_is_its_formula(
    name: str, parameters: dict[str, Any], formula: Callable[[NDArray[Any]], NDArray[Any]]
) -> None:
    agree(
        lambda x: getattr(mb, name)(
            x=x, **{key: value if isinstance(value, str) else like(x, value) for key, value in parameters.items()}
        ),
        formula,
        X,
    )


def test_prelu_has_one_slope_a_channel() -> None:
    alpha = random(4, seed=1)

    agree(
        lambda x: mb.prelu(x=x, alpha=alpha),
        lambda x: np.where(x > 0, x, alpha.reshape(1, -1, 1, 1) * x),
        random(2, 4, 3, 5),
    )


def test_parametric_softplus_has_two_factors_a_channel() -> None:
    alpha, beta = random(4, seed=1), random(4, seed=2)

    agree(
        lambda x: mb.softplus_parametric(x=x, alpha=alpha, beta=beta),
        lambda x: alpha.reshape(1, -1, 1, 1) * np.logaddexp(0, beta.reshape(1, -1, 1, 1) * x),
        random(2, 4, 3, 5),
    )


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax(axis: int) -> None:
    def reference(x: NDArray[Any]) -> NDArray[Any]:
        y = np.exp(x - x.max(axis, keepdims=True))
        return np.asarray(y / y.sum(axis, keepdims=True))

    agree(lambda x: mb.softmax(x=x, axis=axis), reference, random(3, 4, 5) * 5)
