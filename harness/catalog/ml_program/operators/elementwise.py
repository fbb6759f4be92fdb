"""Elementwise operations with one, two or three operands, broadcast as NumPy does.

Source: iOS15/elementwise_unary.py and iOS15/elementwise_binary.py, the class of the same name; `select` is in
iOS15/control_flow.py, `identity` in iOS15/tensor_operation.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.catalog.ml_program.unsupported import NotCovered

if TYPE_CHECKING:
    from collections.abc import Callable


def _unary(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def operation(x: Tensor) -> Tensor:
        return function(x)

    return operation


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def operation(x: Tensor, y: Tensor) -> Tensor:
        if x.dtype != y.dtype:
            raise NotCovered("y", f"{y.dtype} with {x.dtype}")
        return function(x, y)

    return operation


def _logical(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def operation(x: Tensor, y: Tensor) -> Tensor:
        if x.dtype != torch.bool or y.dtype != torch.bool:
            raise NotCovered("x", f"{x.dtype} and {y.dtype} instead of booleans")
        return function(x, y)

    return operation


def real_div(x: Tensor, y: Tensor) -> Tensor:
    """Divide. Refused for integers: the definition gives a real quotient the integers' type."""
    if not x.is_floating_point() or not y.is_floating_point():
        raise NotCovered("x", f"{x.dtype} / {y.dtype}")
    return x / y


def logical_not(x: Tensor) -> Tensor:
    """Negate."""
    if x.dtype != torch.bool:
        raise NotCovered("x", f"{x.dtype} instead of booleans")
    return ~x


def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    """min(max(x, alpha), beta)."""
    return torch.clamp(x, alpha, beta)


def threshold(x: Tensor, alpha: Tensor) -> Tensor:
    """max(x, alpha)."""
    return torch.maximum(x, alpha.to(x.dtype))


# The default epsilon of these three depends on the declared type; coremltools always writes it down.
def inverse(x: Tensor, epsilon: float) -> Tensor:
    """1 / (x + epsilon)."""
    return 1 / (x + epsilon)


def log(x: Tensor, epsilon: float) -> Tensor:
    """Natural logarithm of x + epsilon."""
    return torch.log(x + epsilon)


def rsqrt(x: Tensor, epsilon: float) -> Tensor:
    """1 / sqrt(x + epsilon)."""
    return torch.rsqrt(x + epsilon)


_CASTS = {
    "fp16": "float",
    "fp32": "float",
    "int8": "int",
    "uint8": "int",
    "int16": "int",
    "uint16": "int",
    "int32": "int",
    "bool": "bool",
}


def cast(x: Tensor, dtype: str) -> Tensor:
    """Convert. Towards zero from real to integer; anything but zero is true. Rounding comes with the declared type."""
    kind = _CASTS.get(dtype)
    if kind is None:
        raise NotCovered("dtype", repr(dtype))
    if kind == "bool":
        return x != 0
    if kind == "float":
        return x.to(torch.float32)
    if x.is_floating_point() and not bool(torch.isfinite(x).all()):
        raise NotCovered("x", "NaN or infinity as an integer")
    return x.to(torch.int64)


def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Take `a` where `cond` is true, `b` elsewhere."""
    if cond.dtype != torch.bool:
        raise NotCovered("cond", f"{cond.dtype} instead of booleans")
    return torch.where(cond, a, b)


def _floor_divide(x: Tensor, y: Tensor) -> Tensor:
    return torch.div(x, y, rounding_mode="floor")


_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "acos": torch.acos,
    "asin": torch.asin,
    "atan": torch.atan,
    "atanh": torch.atanh,
    "ceil": torch.ceil,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "erf": torch.erf,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "floor": torch.floor,
    "identity": torch.clone,
    "round": torch.round,  # halves to even, as the definition's own np.round
    "sign": torch.sign,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tan": torch.tan,
    "tanh": torch.tanh,
}
_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "equal": torch.eq,
    "floor_div": _floor_divide,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "mod": torch.remainder,  # the sign of the divisor, as Python's %
    "mul": torch.mul,
    "not_equal": torch.ne,
    "pow": torch.pow,
    "sub": torch.sub,
}
_LOGICAL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
}

FUNCTIONS: dict[str, Callable[..., object]] = {
    **{name: _unary(function) for name, function in _UNARY.items()},
    **{name: _binary(function) for name, function in _BINARY.items()},
    **{name: _logical(function) for name, function in _LOGICAL.items()},
    "cast": cast,
    "clip": clip,
    "inverse": inverse,
    "log": log,
    "logical_not": logical_not,
    "real_div": real_div,
    "rsqrt": rsqrt,
    "select": select,
    "threshold": threshold,
}
