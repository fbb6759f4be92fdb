"""What half precision costs a model itself: the measure of what it may cost a package of it. For child processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from harness.catalog.data import arrays_of
from harness.catalog.modules import flat, load_module
from harness.parity import relative_l2

if TYPE_CHECKING:
    from torch import Tensor

    from harness.records import Checkpoint, ModelSpec


def half_precision_error(spec: ModelSpec, checkpoint: Checkpoint) -> float | None:
    """How far a model is from its reference if weights, inputs and every result are rounded to half precision.

    As `module.half()` would be, except that a sum adds up in single precision: that is how the evaluator computes, and
    no processor has to know half precision, nor every operation of torch to be there for it.

    Args:
        spec: What the checkpoint was made from.
        checkpoint: Its inputs and its reference.

    Returns:
        Relative L2 over all samples, of the output that is furthest off; None where the checkpoint is no module of
        torch, holds an operation that cannot be looked into, or a result is beyond half precision's range.

    Raises:
        UnreadableModel: The stored weights do not fit the module that the source makes now.
    """
    if checkpoint.form not in {"torch", "pt2"}:
        return None
    import torch  # noqa: PLC0415
    from torch.utils._python_dispatch import TorchDispatchMode  # noqa: PLC0415
    from torch.utils._pytree import tree_map  # noqa: PLC0415

    class Rounding(TorchDispatchMode):  # type: ignore[no-untyped-call]
        """Rounds what each of torch's own operations gives."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
            del types
            result = func(*args, **(kwargs or {}))
            if not func._schema.is_mutable:  # noqa: SLF001  (there is no other way to ask)
                return tree_map(_rounded, result)
            # `relu_` and its like give back what they were given.
            tree_map(_round_in_place, result)
            return result

    inputs, reference = arrays_of(checkpoint, "inputs"), arrays_of(checkpoint, "reference")
    module = flat(load_module(spec, checkpoint))
    answers: list[tuple[Tensor, ...]] = []
    with torch.no_grad():
        for value in (*module.parameters(), *module.buffers()):
            _round_in_place(value)
        for i in range(len(next(iter(inputs.values())))):
            fed = [_rounded(torch.from_numpy(np.ascontiguousarray(values[i : i + 1]))) for values in inputs.values()]
            try:
                with Rounding():  # type: ignore[no-untyped-call]
                    answers.append(module(*fed))
            except (RuntimeError, TypeError):  # an operation of the user's own, say, that cannot be looked into
                return None
    errors = [
        relative_l2(torch.cat(found).numpy().astype(np.float64), expected.astype(np.float64))
        for expected, found in zip(reference.values(), zip(*answers, strict=True), strict=True)
    ]
    return max(errors) if np.isfinite(errors).all() else None


def _rounded(value: Any) -> Any:  # noqa: ANN401
    import torch  # noqa: PLC0415

    is_single = isinstance(value, torch.Tensor) and value.dtype == torch.float32
    return value.to(torch.float16).to(torch.float32) if is_single else value


def _round_in_place(value: Any) -> None:  # noqa: ANN401
    import torch  # noqa: PLC0415

    if isinstance(value, torch.Tensor) and value.dtype == torch.float32:
        value.copy_(value.to(torch.float16))
