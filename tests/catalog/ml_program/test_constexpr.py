"""Compressed constants against coremltools' own decompression, and against the examples of their definitions."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch

from harness.catalog.ml_program import Program
from harness.catalog.ml_program.operators import OPERATORS
from harness.catalog.ml_program.operators.constexpr import constexpr_affine_dequantize
from harness.catalog.ml_program.operators.operator import Operator
from harness.catalog.ml_program.unsupported import NotCovered
from tests.catalog.ml_program.building import ct, mb, random, run_one, types, write


def plus(x: Any, weight: Any) -> Any:
    return mb.add(x=x, y=weight)


def constant(build: Any, shape: tuple[int, ...], *, target: str, dtype: str = "float32") -> np.ndarray:
    """What a constant decompresses to: added to zeros."""
    return run_one(lambda x: plus(x, build()), np.zeros(shape, dtype), target=target)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("axis", [0, 1, 3])
@pytest.mark.parametrize("out", [np.float32, np.float16])
def test_affine_dequantize(dtype: type[np.generic], axis: int, out: type[np.floating[Any]]) -> None:
    shape = (4, 3, 2, 5)
    generator = np.random.default_rng(0)
    data = generator.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, shape).astype(dtype)  # type: ignore[type-var]
    zero = generator.integers(0, 100, shape[axis]).astype(dtype)
    scale = generator.uniform(0.01, 0.1, shape[axis]).astype(out)
    along = [-1 if i == axis else 1 for i in range(4)]

    found = constant(
        lambda: mb.constexpr_affine_dequantize(quantized_data=data, zero_point=zero, scale=scale, axis=axis),
        shape,
        target="iOS16",
        dtype=np.dtype(out).name,
    )

    expected = (data.astype(np.float64) - zero.reshape(along)) * scale.reshape(along).astype(np.float64)
    np.testing.assert_allclose(found, expected, rtol=1e-6 if out is np.float32 else 1e-3)


def test_affine_dequantize_with_one_scale() -> None:
    data = np.arange(-6, 6, dtype=np.int8).reshape(3, 4)

    found = constant(
        lambda: mb.constexpr_affine_dequantize(
            quantized_data=data, zero_point=np.int8(2), scale=np.float32(0.5), axis=0
        ),
        (3, 4),
        target="iOS16",
    )

    np.testing.assert_array_equal(found, (data.astype(np.float32) - 2) * 0.5)


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
@pytest.mark.parametrize("shape", [(5, 3), (7, 3, 3, 3)])
def test_a_palette_of_one_tensor(bits: int, shape: tuple[int, ...]) -> None:
    lut = random(2**bits)
    indices = np.random.default_rng(1).integers(0, 2**bits, shape).astype(np.uint8)
    fields = np.unpackbits(indices.reshape(-1, 1), axis=1, bitorder="little")[:, :bits]
    packed = np.packbits(fields.reshape(-1), bitorder="little")

    found = constant(
        lambda: mb.constexpr_lut_to_dense(indices=packed, lut=lut, shape=np.array(shape, np.uint32)),
        shape,
        target="iOS16",
    )

    np.testing.assert_array_equal(found, lut[indices])


def test_sparse_values_go_where_the_mask_is_one() -> None:
    shape = (4, 5)
    dense = random(*shape) * random(*shape, dtype="bool", seed=1)
    mask = np.packbits((dense != 0).reshape(-1), bitorder="little")

    found = constant(
        lambda: mb.constexpr_sparse_to_dense(
            nonzero_data=dense[dense != 0], mask=mask, shape=np.array(shape, np.uint32)
        ),
        shape,
        target="iOS16",
    )

    np.testing.assert_array_equal(found, dense)


def test_a_cast_constant_is_widened() -> None:
    value = random(3, 4, dtype="float16")

    found = constant(lambda: mb.constexpr_cast(source_val=value, output_dtype="fp32"), (3, 4), target="iOS16")

    np.testing.assert_array_equal(found, value.astype(np.float32))


def sub_byte(values: np.ndarray, dtype: str) -> np.ndarray:
    """coremltools' own element types below 8 bits are NumPy types with a name in their metadata."""
    return values.astype(types.nptype_from_builtin(types.string_to_builtin(dtype)))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int4", "uint4"])
@pytest.mark.parametrize("blocks", [(1, 1), (4, 1), (2, 3), (4, 6)])
@pytest.mark.parametrize("shifted", [True, False])
def test_blockwise_scales(dtype: str, blocks: tuple[int, int], *, shifted: bool) -> None:
    bits = int(dtype.lstrip("uint"))
    low = 0 if dtype.startswith("u") else -(2 ** (bits - 1))
    generator = np.random.default_rng(0)
    data, offset = (generator.integers(low, low + 2**bits, shape) for shape in ((4, 6), blocks))
    scale = generator.uniform(0.1, 1, blocks).astype(np.float32)
    parameters = {"offset": sub_byte(offset, dtype)} if shifted else {}

    found = constant(
        lambda: mb.constexpr_blockwise_shift_scale(data=sub_byte(data, dtype), scale=scale, **parameters),
        (4, 6),
        target="iOS18",
    )

    def spread(values: np.ndarray) -> np.ndarray:
        return np.kron(values, np.ones((4 // blocks[0], 6 // blocks[1])))

    expected = spread(scale) * (data - (spread(offset) if shifted else 0))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize(
    ("groups", "vector", "axis"), [((1, 1), 1, None), ((2, 1), 1, None), ((1, 3), 2, 0), ((2, 1), 2, 1)]
)
def test_palettes_of_groups_and_vectors(bits: int, groups: tuple[int, int], vector: int, axis: int | None) -> None:
    indices = np.random.default_rng(0).integers(0, 2**bits, (4, 6)).astype(np.uint8)
    lut = random(*groups, 2**bits, vector)
    expected = importlib.import_module("coremltools.optimize._utils").lut_to_dense(indices, lut, axis)

    found = constant(
        lambda: mb.constexpr_lut_to_dense(
            indices=sub_byte(indices, f"uint{bits}"), lut=lut, **({} if axis is None else {"vector_axis": axis})
        ),
        expected.shape,
        target="iOS18",
    )

    np.testing.assert_array_equal(found, expected)


def test_the_vector_palette_of_the_definition_comes_out() -> None:
    indices = np.array([[[0, 0], [1, 0]], [[1, 1], [0, 0]]], np.uint8)
    lut = np.array([[10, 11, 12], [20, 21, 22]], np.float32).reshape(1, 1, 1, 2, 3)

    found = constant(
        lambda: mb.constexpr_lut_to_dense(indices=sub_byte(indices, "uint1"), lut=lut, vector_axis=1),
        (2, 6, 2),
        target="iOS18",
    )

    np.testing.assert_array_equal(found[0].T, [[10, 11, 12, 20, 21, 22], [10, 11, 12, 10, 11, 12]])
    np.testing.assert_array_equal(found[1].T, [[20, 21, 22, 10, 11, 12], [20, 21, 22, 10, 11, 12]])


@pytest.mark.parametrize("kind", ["plain", "int8", "palette"])
def test_sparse_constants_of_ios_18(kind: str) -> None:
    mask = random(4, 6, dtype="bool").astype(np.uint8)
    count = int(mask.sum())
    generator = np.random.default_rng(1)
    bits = sub_byte(mask, "uint1")
    scale, lut = random(4, 1, seed=2), random(1, 1, 4, 1, seed=3)
    data = {
        "plain": random(count),
        "int8": generator.integers(-128, 128, count).astype(np.int8),
        "palette": generator.integers(0, 4, count).astype(np.uint8),
    }[kind]
    expected = np.zeros((4, 6), np.float32)
    expected[mask != 0] = data
    if kind == "int8":
        expected = expected * scale
    elif kind == "palette":
        expected[mask != 0] = lut.reshape(-1)[data.astype(np.int64)]

    def build() -> Any:
        if kind == "plain":
            return mb.constexpr_sparse_to_dense(nonzero_data=data, mask=bits)
        if kind == "int8":
            kept, values = mb.constexpr_sparse_blockwise_shift_scale(data_mask=bits, nonzero_data=data, scale=scale)
        else:
            kept, values = mb.constexpr_lut_to_sparse(
                indices_mask=bits, indices_nonzero_data=sub_byte(data, "uint2"), lut=lut
            )
        return mb.constexpr_sparse_to_dense(nonzero_data=values, mask=kept)

    found = constant(build, (4, 6), target="iOS18")

    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_constant_is_decompressed_once_for_many_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    data = np.arange(24, dtype=np.int8).reshape(4, 6)
    x = random(4, 6)
    path = write(
        lambda x: plus(
            x,
            mb.constexpr_affine_dequantize(quantized_data=data, zero_point=np.int8(0), scale=np.float32(1), axis=0),
        ),
        [x],
        tmp_path / "a.mlpackage",
        target="iOS16",
    )
    called: list[int] = []
    real = Operator.call

    def counting(self: Operator, arguments: Any) -> Any:
        called.extend([1] if self is OPERATORS["constexpr_affine_dequantize"] else [])
        return real(self, arguments)

    monkeypatch.setattr(Operator, "call", counting)
    program = Program.load(path)
    for _ in range(3):
        program.run({"x": x})

    assert len(called) == 1


def test_a_scale_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(NotCovered, match="scale"):
        constexpr_affine_dequantize(torch.zeros(4, 3), torch.tensor(0), torch.ones(3), 0)


def test_the_builder_is_the_version_that_the_operators_cite() -> None:
    assert ct.__version__.startswith("9.")
