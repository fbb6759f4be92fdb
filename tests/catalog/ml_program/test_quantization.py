from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.catalog.ml_program.building import agree, mb, run_one, types

X = np.linspace(-80, 80, 96, dtype=np.float32).reshape(2, 4, 12)
SCALES = np.array([0.25, 0.5, 1.0, 2.0], np.float32)


def typed(variable: Any, values: Any) -> Any:
    return np.asarray(values).astype(types.nptype_from_builtin(variable.dtype))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("axis", [None, 1, -2])
@pytest.mark.parametrize("shifted", [True, False])
def test_quantizing_rounds_shifts_and_clips(dtype: str, axis: int | None, *, shifted: bool) -> None:
    scale = SCALES[0] if axis is None else SCALES
    zero = np.array([3, 0, 7, 5] if axis is not None else 3, dtype)
    limits = np.iinfo(dtype)
    along = (1,) if axis is None else (1, 4, 1)

    def build(x: Any) -> Any:
        parameters: dict[str, Any] = {"zero_point": zero} if shifted else {}
        parameters |= {} if axis is None else {"axis": axis}
        quantized = mb.quantize(input=x, scale=typed(x, scale), output_dtype=dtype, **parameters)
        back = mb.dequantize(input=quantized, scale=typed(x, scale), **parameters)
        return mb.cast(x=quantized, dtype="int32"), back

    def reference(x: Any) -> Any:
        s, z = np.reshape(scale, along).astype(np.float64), np.reshape(zero, along).astype(np.float64) * shifted
        quantized = np.clip(np.round(x / s) + z, limits.min, limits.max)
        return quantized, (quantized - z) * s

    agree(build, reference, X)


def test_halves_go_to_the_even_step() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32)

    found = run_one(
        lambda x: mb.cast(x=mb.quantize(input=x, scale=np.float32(1), output_dtype="int8"), dtype="int32"), x
    )

    np.testing.assert_array_equal(found, [0, 2, 2, 0, -2])
