"""Is a compressed package the plain one that it was made of, with coarser weights, and nothing else?

Its outputs cannot tell: what weights of four bits cost hides a bias that is lost or a layer that is 5 % too large. So
nothing but weights may differ, and a weight by no more than its own rounding.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.catalog.ml_program import Program
    from harness.catalog.ml_program.program import Step
    from harness.records import Precision

# In brackets: the worst of all tensors of SqueezeNet 1.1, MobileNetV3 small, LightCNN-9, EfficientNet-Lite0, ResNet-18
# and MobileNetV2, half of their weights pruned, with coremltools 9.0.
_APART = {"int8_weights": 0.1, "palette8": 0.05, "palette6": 0.15, "palette4": 0.4}
"""Relative L2 of a tensor from what it was [0.0065, 0.0056, 0.027, 0.12]. Trained weights have longer tails."""
_SCALE = 0.03
"""How far the best factor from a tensor to what it was may be from 1 [0.0081, palette4]. Centres of clusters are the
means of what is in them, which makes it 1; what rounds to steps errs to both sides."""
_STEPS = 1.0
"""By how many of its channel's steps an int8 element may be off [0.59: a half, and the rounding of the scale]."""
_NEAREST = 0.01
"""By how much an element may be further from its entry of the table than from the nearest, relative to the tensor's
largest magnitude [0.0004: two are as near in fp16]."""
_COARSEST_STEP = 127 * 2.0**-25
"""What 127 steps are off at most because a scale below fp16's normal numbers has fewer digits."""
_TINY = float(np.finfo(np.float32).tiny)


def difference(found: Program, plain: Program, precision: Precision) -> str | None:
    """What a compressed package has that is more than compression; None where there is nothing.

    Args:
        found: The compressed one.
        plain: The one in fp16 that it was made of.
        precision: What it was compressed to: `int8_weights`, a palette or `sparse`, whose weights are all the same.

    Raises:
        Unsupported, UnreadableModel: A constant of either cannot be read.
        MissingExtra: torch is not installed.
    """
    if (found.inputs, found.outputs) != (plain.inputs, plain.outputs):
        return "other inputs or outputs"
    steps = zip_longest(found.steps(), plain.steps())
    return next((problem for ours, theirs in steps if (problem := _step_differs(ours, theirs, precision))), None)


def _step_differs(found: Step | None, plain: Step | None, precision: Precision) -> str | None:
    if found is None or plain is None:
        return f"{'more' if plain is None else 'fewer'} operations"
    where = f"{plain.type} of {next(iter(plain.outputs), '?')!r}"
    if (found.type, found.outputs, found.blocks) != (plain.type, plain.outputs, plain.blocks):
        return f"{found.type} of {next(iter(found.outputs), '?')!r} in place of {where}"
    if set(found.arguments) != set(plain.arguments):
        return f"{where} with {', '.join(sorted(set(found.arguments) ^ set(plain.arguments)))} in one of both only"
    for parameter, bound in plain.arguments.items():
        others = found.arguments[parameter]
        if len(others) != len(bound):
            return f"{len(others)} values for {parameter} of {where}, not {len(bound)}"
        for ours, theirs in zip(others, bound, strict=True):
            if not (isinstance(ours, np.ndarray) and isinstance(theirs, np.ndarray)):
                if isinstance(ours, np.ndarray) or isinstance(theirs, np.ndarray) or ours != theirs:
                    return f"another {parameter} of {where}"
                continue
            problem = _values_differ(ours, theirs, precision)
            if problem is not None:
                return f"another {parameter} of {where}: {problem}"
    return None


def _values_differ(found: NDArray[Any], plain: NDArray[Any], precision: Precision) -> str | None:
    if found.shape != plain.shape or found.dtype != plain.dtype:
        return f"shape {list(found.shape)}, not {list(plain.shape)}"
    if np.array_equal(found, plain):
        return None
    if precision not in _APART or plain.ndim < 2 or plain.dtype.kind != "f":
        return "compression leaves it as it is"
    error = found - plain
    length, inner = float(np.linalg.norm(plain)), float(np.vdot(found, found))
    apart = float(np.linalg.norm(error)) / max(length, _TINY)
    if not apart <= _APART[precision]:
        return f"its relative L2 is {apart:.2g}, at most {_APART[precision]:g} passes"
    off = abs(float(np.vdot(found, plain)) / max(inner, _TINY) - 1)
    if not off <= _SCALE:
        return f"it is {off:.1%} too large or too small, at most {_SCALE:.0%} passes"
    if precision == "int8_weights":
        steps = min(_steps(error, plain, axis) for axis in (0, 1))
        return None if steps <= _STEPS else f"an element is {steps:.3g} steps off, at most {_STEPS:g} passes"
    excess = _beyond_nearest(found, plain)
    return None if excess <= _NEAREST else f"an element has another entry of the table than the nearest ({excess:.2g})"


def _steps(error: NDArray[Any], plain: NDArray[Any], axis: int) -> float:
    """The largest error of an element, in steps of 1/127 of the largest magnitude in its channel."""
    others = tuple(i for i in range(plain.ndim) if i != axis)
    allowed = np.abs(plain).max(axis=others) / 127
    return float(np.max((np.abs(error).max(axis=others) - _COARSEST_STEP) / np.maximum(allowed, _TINY)))


def _beyond_nearest(found: NDArray[Any], plain: NDArray[Any]) -> float:
    """How much further than the nearest value of the table an element is, relative to the largest magnitude."""
    # All are numbers of fp16, of which there are few: counting by their bits is many times as fast as sorting.
    bits = np.flatnonzero(np.bincount(found.astype(np.float16).view(np.uint16).ravel(), minlength=1 << 16))
    table = np.unique(bits.astype(np.uint16).view(np.float16).astype(np.float32))
    above = np.searchsorted(table, plain).clip(1, len(table) - 1) if len(table) > 1 else np.zeros(plain.shape, int)
    nearest = np.minimum(np.abs(plain - table[above - 1]), np.abs(plain - table[above]))
    return float(np.max(np.abs(found - plain) - nearest)) / max(float(np.abs(plain).max()), _TINY)
