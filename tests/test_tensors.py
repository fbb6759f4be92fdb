from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.errors import WrongInput
from harness.records import TensorSpec
from harness.tensors import as_declared, as_real, in_order, read_raw, write_raw

if TYPE_CHECKING:
    from pathlib import Path


def spec(dtype: str = "float32", shape: tuple[int, ...] = (1, 3), **quantization: float) -> TensorSpec:
    return TensorSpec(name="x", shape=shape, dtype=dtype, **quantization)  # type: ignore[arg-type]


INT8 = spec("int8", scale=0.5, zero_point=-10)


def test_real_values_become_steps_of_the_scale_from_the_zero_point() -> None:
    stored = as_declared(np.array([[0.0, 1.0, -1.0]]), INT8)

    assert stored.dtype == np.int8
    assert stored.tolist() == [[-10, -8, -12]]


def test_halves_go_to_the_even_step() -> None:
    assert as_declared(np.array([[0.25, 0.75, -0.25]]), INT8).tolist() == [[-10, -8, -10]]


def test_values_beyond_the_dtype_are_clipped_as_the_quantization_says() -> None:
    assert as_declared(np.array([[1e6, -1e6, np.inf]]), INT8).tolist() == [[127, -128, 127]]


def test_a_scale_without_a_zero_point_counts_from_zero() -> None:
    assert as_declared(np.array([[1.0, 2.0, 3.0]]), spec("int16", scale=0.5)).tolist() == [[2, 4, 6]]


def test_values_that_need_no_quantization_keep_their_bits() -> None:
    samples = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)

    assert np.array_equal(as_declared(samples, spec()), samples)


def test_samples_lie_in_one_piece_of_memory_whatever_they_were_cut_from() -> None:
    transposed = np.arange(6, dtype=np.float32).reshape(3, 2).T

    assert as_declared(transposed, spec()).flags.c_contiguous


@pytest.mark.parametrize(
    ("samples", "tensor", "problem"),
    [
        (np.zeros((2, 4)), spec(), r"the model takes shape \[1, 3\], the data are of shape \[1, 4\]"),
        (np.zeros((2, 3, 1)), spec(), r"takes shape \[1, 3\], the data are of shape \[1, 3, 1\]"),
        (np.zeros((2, 3), dtype=np.int32), spec(), "takes float32, the data are int32"),
        (np.zeros((2, 3)), spec("int64"), "takes int64, the data are float64"),
        (np.array([[0, 1, 300]]), spec("int8"), "takes values that int8 can hold, the data are 300 in places"),
        (np.array([[0, 1, -1]]), spec("uint8"), "takes values that uint8 can hold, the data are -1 in places"),
        (np.array([[0, 1, 1e6]]), spec("float16"), "takes values that float16 can hold, the data are 1000000.0"),
        (np.array([[0, 1, np.nan]]), INT8, "takes numbers, the data are NaN in places"),
    ],
)
def test_what_does_not_fit_is_refused_with_both_sides(
    samples: np.ndarray[tuple[int, ...], np.dtype[np.generic]], tensor: TensorSpec, problem: str
) -> None:
    with pytest.raises(WrongInput, match=problem):
        as_declared(samples, tensor)


def test_infinities_that_are_meant_pass_into_floating_point() -> None:
    mask = np.array([[0.0, -np.inf, np.inf]])

    assert as_declared(mask, spec("float16")).tolist() == mask.tolist()


def test_steps_become_real_values_again() -> None:
    real = as_real(np.array([[-10, -8, 127]], dtype=np.int8), INT8)

    assert real.dtype == np.float32
    assert real.tolist() == [[0.0, 1.0, 68.5]]


def test_half_precision_is_widened_and_other_integers_stay() -> None:
    assert as_real(np.zeros((1, 3), np.float16), spec("float16")).dtype == np.float32
    assert as_real(np.zeros((1, 3), np.int64), spec("int64")).dtype == np.int64


@given(
    hnp.arrays(np.float32, (5, 3), elements=st.floats(-60, 60, width=32)),
    st.sampled_from([spec("int8", scale=0.5), spec("uint8", scale=0.5, zero_point=128), spec("int16", scale=0.01)]),
)
def test_quantizing_and_back_is_off_by_half_a_step_at_most(
    samples: np.ndarray[tuple[int, ...], np.dtype[np.float32]], tensor: TensorSpec
) -> None:
    assert tensor.scale is not None
    back = as_real(as_declared(samples, tensor), tensor)

    assert np.abs(back.astype(np.float64) - samples).max() <= tensor.scale / 2 * 1.001


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "int32", "int64", "bool"])
def test_raw_files_give_back_what_was_written(dtype: str, tmp_path: Path) -> None:
    samples = np.arange(12).reshape(4, 3).astype(dtype)
    write_raw(tmp_path / "raw", samples)

    read = read_raw(tmp_path / "raw", spec(dtype), samples=4)

    assert read.dtype == np.dtype(dtype)
    assert np.array_equal(read, samples)


def test_raw_files_are_little_endian_on_every_machine(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw", np.array([[1, 2]], dtype=">i4"))

    assert (tmp_path / "raw").read_bytes() == b"\1\0\0\0\2\0\0\0"


@pytest.mark.parametrize("size", [0, 47, 49, 96])
def test_a_raw_file_of_another_size_is_refused_with_both_sizes(size: int, tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(bytes(size))

    with pytest.raises(WrongInput, match=f"48 bytes for 4 samples, the data are {size} bytes"):
        read_raw(tmp_path / "raw", spec(), samples=4)


def test_named_samples_go_where_their_names_are() -> None:
    named = {"b": np.zeros(1), "a": np.ones(1)}

    ordered = in_order(named, [_named("a"), _named("b")])

    assert [array[0] for array in ordered] == [1.0, 0.0]


def test_where_a_converter_renamed_the_tensors_their_order_counts() -> None:
    named = {"image": np.zeros(1), "mask": np.ones(1)}

    ordered = in_order(named, [_named("args_0"), _named("args_1")])

    assert [array[0] for array in ordered] == [0.0, 1.0]


def test_more_or_fewer_inputs_than_the_model_takes_are_refused_by_name() -> None:
    with pytest.raises(WrongInput, match=r"the model takes 2 inputs \(a, b\), the data are 1 arrays"):
        in_order({"a": np.zeros(1)}, [_named("a"), _named("b")])


def _named(name: str) -> TensorSpec:
    return TensorSpec(name=name, shape=(1,), dtype="float32")
