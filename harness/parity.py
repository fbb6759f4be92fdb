"""Does a file compute what its checkpoint computes? Compared at conversion and again in every timed process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.errors import NonFiniteOutput, ParityFailed, WrongInput
from harness.records import OutputParity, Parity, Tolerance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from harness.records import ModelFormat, Precision, Task

    _Values = NDArray[np.generic]

# Twice to five times the worst that correct conversions of the built-in networks gave, in either format, against
# PyTorch in fp32 on an x86 host (relative L2 / cosine): fp32 2.2e-5 / 1.000000 (ResNet-50), fp16 1.9e-2 / 0.99981
# (ResNet-50), int8_dynamic 0.19 / 0.979 and int8 0.23 / 0.969 (both MobileNetV2). Untrained weights are the hard case
# for int8: nothing taught the network to be insensitive. Trained third-party files gave 0.02 to 0.08. What these limits
# are there to catch is far beyond them: weights in the wrong order, a missing normalisation or a wrong scale give a
# cosine near 0 or a relative L2 near 1. A device may round in other places than this host, which moves fp16 and int8 by
# less than the factor that is left.
#
# Top-1 agreement is reported and not judged: in an untrained network the best of a thousand classes leads by less than
# the rounding of int8, and where outputs are within tolerance, a change of order is what the tolerance allows.
TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(relative_l2=1e-4, cosine=0.99999),
    "fp16": Tolerance(relative_l2=5e-2, cosine=0.999),
    "int8_dynamic": Tolerance(relative_l2=0.4, cosine=0.92),
    "int8": Tolerance(relative_l2=0.4, cosine=0.92),
    "int8_weights": Tolerance(relative_l2=0.4, cosine=0.92),
    "palette8": Tolerance(relative_l2=None, cosine=None),
    "palette6": Tolerance(relative_l2=None, cosine=None),
    "palette4": Tolerance(relative_l2=None, cosine=None),
    "sparse": Tolerance(relative_l2=5e-2, cosine=0.999),
}
# Core ML's compressed weights are computed with in fp16. int8 keeps within what the other formats' int8 keeps within
# (0.22 / 0.970 at most, EfficientNet-Lite0). What palettes lose is the network's own affair: 0.17 (SqueezeNet) to 0.78
# (EfficientNet-Lite0) at 4 bits, untrained. A limit that lets all of that pass would catch nothing, so a palette is
# judged by its own values: see `beyond`.


def tolerance_for(model_format: ModelFormat, precision: Precision, *, stored_as: str = "float32") -> Tolerance:
    """How far outputs may be from the reference. `TOLERANCES` says where the numbers come from.

    Args:
        model_format: The same for both formats so far.
        precision: `source` is judged as what its weights are stored as.
        stored_as: `float32`, `float16` or `integer`, for a ready file.
    """
    del model_format
    if precision != "source":
        return TOLERANCES[precision]
    if stored_as == "integer":
        return TOLERANCES["int8"]
    return TOLERANCES["fp16" if stored_as == "float16" else "fp32"]


def beyond(parity: Parity, *, step: Tolerance) -> Tolerance:
    """The limit for whoever computes a file again whose own distance is known and was not judged.

    By the triangle inequality: who computes what the file says, to within `step` of its outputs, is no further from the
    reference than the file's distance and that step together.

    Args:
        parity: The file's own distance from the reference.
        step: How far two correct computations of the file may be from each other.
    """
    worst = max((output.relative_l2 for output in parity.outputs), default=0.0)
    # `step` is relative to the file's outputs, which may be longer than the reference's by the distance itself.
    return Tolerance(relative_l2=worst + (step.relative_l2 or 0.0) * (1 + worst), cosine=None)


def compare(
    found: Mapping[str, _Values],
    expected: Mapping[str, _Values],
    *,
    tolerance: Tolerance,
    executed_by: str,
    reference: str,
    task: Task | None = None,
) -> Parity:
    """Measure how far outputs are from the reference. Judges, but does not raise over a failed judgement.

    Args:
        found: Output name -> `[samples, ...]`, dequantized. Where the names are others than those of `expected`, as
            after most converters, the order pairs them.
        expected: The reference, the same shapes. Its names are the ones reported.
        tolerance: Limits; a metric without one is reported only.
        executed_by: What computed `found`.
        reference: What computed `expected`.
        task: Top-1 agreement is taken for `classification`, or where the task is not known; elsewhere the largest
            number of a row has no meaning.

    Raises:
        NonFiniteOutput: NaN or infinity in `found`.
        WrongInput: There are more or fewer outputs than expected, or one has another shape.
    """
    outputs = tuple(
        _compare_output(name, values, expected[name], executed_by=executed_by, task=task)
        for name, values in _paired(found, expected)
    )
    return Parity(
        executed_by=executed_by,
        reference=reference,
        samples=len(next(iter(expected.values()))),
        tolerance=tolerance,
        outputs=outputs,
        passed=all(_excess(output, tolerance) is None for output in outputs),
    )


def require(parity: Parity, where: str, *, advice: str = "", reference: str = "the checkpoint") -> None:
    """Refuse a failed comparison.

    Args:
        parity: What `compare` found.
        where: What is being checked, for the message.
        advice: What to do about it there.
        reference: What it was compared with, in a reader's words.

    Raises:
        ParityFailed: Names the first output beyond its tolerance, the metric, its value and the limit.
    """
    for output in parity.outputs:
        excess = _excess(output, parity.tolerance)
        if excess is not None:
            error = ParityFailed(where, output.tensor, *excess, reference=reference)
            error.hint = advice
            raise error


def _paired(found: Mapping[str, _Values], expected: Mapping[str, _Values]) -> list[tuple[str, _Values]]:
    if len(found) != len(expected):
        raise WrongInput(
            ", ".join(found), f"the {len(expected)} outputs {', '.join(expected)}", f"{len(found)} outputs"
        )
    if set(found) == set(expected):
        return [(name, found[name]) for name in expected]
    return list(zip(expected, found.values(), strict=True))


def _compare_output(
    name: str, found: _Values, expected: _Values, *, executed_by: str, task: Task | None
) -> OutputParity:
    if found.shape != expected.shape:
        raise WrongInput(name, f"outputs of shape {list(expected.shape)}", f"of shape {list(found.shape)}")
    # float64: squares of a million fp32 values lose the digits that tell 1e-7 from 1e-6.
    ours, theirs = found.astype(np.float64), expected.astype(np.float64)
    bad = int(np.count_nonzero(~np.isfinite(ours)))
    if bad:
        raise NonFiniteOutput(executed_by, name, bad, ours.size)
    return OutputParity(
        tensor=name,
        max_abs=float(np.max(np.abs(ours - theirs), initial=0.0)),
        relative_l2=relative_l2(ours, theirs),
        cosine=min(_cosine(a, b) for a, b in zip(ours, theirs, strict=True)),
        elements=int(np.prod(expected.shape[1:])),
        top1_agreement=_top1_agreement(ours, theirs) if task in {None, "classification"} else None,
    )


def relative_l2(found: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """||found - expected|| / ||expected||. An all-zero reference counts as the smallest normal fp32 number."""
    return float(np.linalg.norm(found - expected) / max(np.linalg.norm(expected), np.finfo(np.float32).tiny))


def _cosine(found: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """Cosine of the angle between two tensors as vectors: 1 where both are zero, 0 where one is."""
    lengths = np.linalg.norm(found), np.linalg.norm(expected)
    if 0 in lengths:
        return float(lengths[0] == lengths[1])
    return float(np.clip(np.vdot(found, expected) / lengths[0] / lengths[1], -1, 1))


_TIE = 1e-6
"""Two scores this near to each other, relative to the largest magnitude of their row, are a tie: eight fp32 steps,
which is what the order of a sum of some thousand terms can change."""


def _top1_agreement(found: NDArray[np.float64], expected: NDArray[np.float64]) -> float | None:
    """Share of rows whose largest element is the same, a tie within rounding of the reference being no disagreement.

    None for rows of one element. A quantized output may tie among itself; its first one counts, as for any caller.
    """
    if expected.ndim < 2 or expected.shape[-1] < 2:
        return None
    rows = expected.reshape(-1, expected.shape[-1])
    chosen = found.reshape(rows.shape).argmax(axis=-1)
    shortfall = rows.max(axis=-1) - rows[np.arange(len(rows)), chosen]
    return float(np.mean(shortfall <= _TIE * np.abs(rows).max(axis=-1)))


_FEWEST_FOR_COSINE = 16
"""A cosine of fewer numbers is reported and not judged: one score near zero, rounded to the other side, turns it round
altogether. The relative L2 over all samples still judges such an output."""


def _excess(output: OutputParity, tolerance: Tolerance) -> tuple[str, float, float] | None:
    """The first metric beyond its limit, with its value and the limit."""
    if tolerance.relative_l2 is not None and not output.relative_l2 <= tolerance.relative_l2:
        return "relative L2", output.relative_l2, tolerance.relative_l2
    has_direction = output.elements is None or output.elements >= _FEWEST_FOR_COSINE
    if has_direction and tolerance.cosine is not None and not output.cosine >= tolerance.cosine:
        return "cosine", output.cosine, tolerance.cosine
    top1 = output.top1_agreement
    if tolerance.top1_agreement is not None and top1 is not None and not top1 >= tolerance.top1_agreement:
        return "top-1 agreement", top1, tolerance.top1_agreement
    return None
