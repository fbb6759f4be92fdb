"""Every operation that the evaluator knows: type -> function. One file a group; importing this imports torch.

A function's signature is what the operation takes (`operator.py`), its docstring names the definition it follows: a
file below `coremltools/converters/mil/mil/ops/defs` of coremltools 9.0, unless it says otherwise. Where two versions
of an operation differ, both are covered or one is refused. What a definition leaves open is refused too.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from harness.catalog.ml_program.operators import (
    activation,
    constexpr,
    convolution,
    elementwise,
    indexing,
    linear,
    normalization,
    pooling,
    quantization,
    reduction,
    resize,
    shape,
)
from harness.catalog.ml_program.operators.operator import Operator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_GROUPS: tuple[Mapping[str, Callable[..., object]], ...] = (
    activation.FUNCTIONS,
    constexpr.FUNCTIONS,
    convolution.FUNCTIONS,
    elementwise.FUNCTIONS,
    indexing.FUNCTIONS,
    linear.FUNCTIONS,
    normalization.FUNCTIONS,
    pooling.FUNCTIONS,
    quantization.FUNCTIONS,
    reduction.FUNCTIONS,
    resize.FUNCTIONS,
    shape.FUNCTIONS,
)

OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {name: Operator.of(function) for group in _GROUPS for name, function in group.items()}
)
"""By operation type. `const`, `cond` and `while_loop` are not here: `Program` runs them itself."""
