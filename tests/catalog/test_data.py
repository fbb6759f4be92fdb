from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from harness.catalog.data import draw, inputs_of_file
from harness.errors import WrongInput
from harness.records import CalibrationSpec, FileData, InputSpec, NormalData, TensorSpec, UniformData
from tests.fakes.specs import IMAGES, WIDE_AND_NARROW, file_spec, python_spec

if TYPE_CHECKING:
    from pathlib import Path


def test_the_same_spec_draws_the_same_numbers() -> None:
    spec = python_spec("tiny")

    first, second = draw(spec, "inputs", samples=3), draw(spec, "inputs", samples=3)

    assert first["images"].shape == (3, 3, 16, 16)
    assert first["images"].dtype == np.float32
    np.testing.assert_array_equal(first["images"], second["images"])


GOLDEN = np.array([0.455984652, -2.15910316, -2.12995696], dtype=np.float32)


def test_the_numbers_are_those_that_every_machine_draws() -> None:
    drawn = draw(python_spec("tiny"), "inputs", samples=1)["images"].ravel()[:3]

    np.testing.assert_array_equal(drawn, GOLDEN)


@pytest.mark.parametrize("change", ["seed", "stream", "input"])
def test_another_seed_stream_or_input_draws_other_numbers(change: str) -> None:
    spec = python_spec("TwoByTwo", (InputSpec(name="a", shape=(1, 5)), InputSpec(name="b", shape=(1, 5))))
    base = draw(spec, "inputs", samples=2)

    other = {
        "seed": lambda: draw(msgspec.structs.replace(spec, seed=1), "inputs", samples=2)["a"],
        "stream": lambda: draw(spec, "calibration", samples=2)["a"],
        "input": lambda: base["b"],
    }[change]()

    assert not np.array_equal(base["a"], other)


def test_uniform_data_stay_in_their_range_and_normal_data_have_their_moments() -> None:
    inputs = (
        InputSpec(name="flat", shape=(1, 10_000), data=UniformData(low=-2, high=3)),
        InputSpec(name="bell", shape=(1, 10_000), data=NormalData(mean=5, std=0.5)),
        InputSpec(name="whole", shape=(1, 10_000), dtype="int64", data=UniformData(low=0, high=3)),
    )

    drawn = draw(python_spec("tiny", inputs), "inputs", samples=1)

    assert -2 <= drawn["flat"].min() < -1.9
    assert 2.9 < drawn["flat"].max() < 3
    assert drawn["bell"].mean() == pytest.approx(5, abs=0.02)
    assert drawn["bell"].std() == pytest.approx(0.5, abs=0.02)
    assert sorted(set(drawn["whole"].ravel().tolist())) == [0, 1, 2]


def test_a_file_gives_its_first_samples_and_calibration_may_have_its_own(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(20, dtype=np.float32).reshape(5, 4))
    np.save(tmp_path / "c.npy", np.ones((2, 4), dtype=np.float32))
    spec = python_spec(
        "TwoByTwo",
        (InputSpec(name="x", shape=(1, 4), data=FileData(path=str(tmp_path / "x.npy"))),),
        calibration=CalibrationSpec(samples=8, files={"x": str(tmp_path / "c.npy")}),
    )

    np.testing.assert_array_equal(draw(spec, "inputs", samples=2)["x"], [[0, 1, 2, 3], [4, 5, 6, 7]])
    assert draw(spec, "calibration", samples=8)["x"].shape == (2, 4)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.zeros((5, 3), dtype=np.float32), r"shape \[5, 3\]"),
        (np.zeros((0, 4), dtype=np.float32), r"shape \[0, 4\]"),
        (np.zeros((5, 4), dtype=np.int64), "int64"),
        (np.full((5, 4), np.nan, dtype=np.float32), "NaN"),
    ],
)
def test_a_file_that_does_not_fit_its_input_is_refused(tmp_path: Path, values: np.ndarray, says: str) -> None:
    np.save(tmp_path / "x.npy", values)
    inputs = (InputSpec(name="x", shape=(1, 4), data=FileData(path=str(tmp_path / "x.npy"))),)

    with pytest.raises(WrongInput, match=says) as raised:
        draw(python_spec("tiny", inputs), "inputs", samples=4)

    assert raised.value.tensor == "x"


def test_a_file_that_is_no_array_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"hello")
    inputs = (InputSpec(name="x", shape=(1, 4), data=FileData(path=str(tmp_path / "x.npy"))),)

    with pytest.raises(WrongInput, match=r"not a \.npy file"):
        draw(python_spec("tiny", inputs), "inputs", samples=4)


def test_a_ready_file_describes_its_own_inputs() -> None:
    tensors = (
        TensorSpec(name="real", shape=(-1, 4), dtype="float32"),
        TensorSpec(name="bytes", shape=(1, 4), dtype="uint8"),
        TensorSpec(name="token", shape=(1, 4), dtype="int64"),
        TensorSpec(name="quantized", shape=(1, 4), dtype="int8", scale=0.5, zero_point=-28),
    )

    inputs = inputs_of_file(file_spec("net.tflite"), tensors)

    assert [(tensor.shape, tensor.dtype, tensor.data) for tensor in inputs] == [
        ((1, 4), "float32", NormalData()),
        ((1, 4), "uint8", UniformData(low=0, high=256)),
        ((1, 4), "int64", UniformData(low=0, high=2)),
        ((1, 4), "float32", UniformData(low=-50.0, high=77.5)),
    ]


def test_an_open_dimension_is_taken_from_the_toml() -> None:
    tensors = (TensorSpec(name="images", shape=(-1, 3, -1, -1), dtype="float32"),)

    assert inputs_of_file(file_spec("net.onnx", IMAGES), tensors) == IMAGES


def test_an_open_dimension_that_nobody_closes_is_refused_with_what_to_write() -> None:
    tensors = (TensorSpec(name="images", shape=(-1, 3, -1, -1), dtype="float32"),)

    with pytest.raises(WrongInput, match=r"\[\?, 3, \?, \?\].*\[\[inputs\]\]"):
        inputs_of_file(file_spec("net.onnx"), tensors)


@pytest.mark.parametrize(
    "tensors",
    [
        (TensorSpec(name="images", shape=(1, 3, 32, 32), dtype="float32"),),
        (TensorSpec(name="images", shape=(1, 3, 16), dtype="float32"),),
        (TensorSpec(name="images", shape=(1, 3, 16, 16), dtype="int64"),),
        (TensorSpec(name="pictures", shape=(1, 3, 16, 16), dtype="float32"),),
    ],
)
def test_a_description_that_contradicts_the_file_is_refused(tensors: tuple[TensorSpec, ...]) -> None:
    with pytest.raises(WrongInput):
        inputs_of_file(file_spec("net.onnx", IMAGES), tensors)


@pytest.mark.parametrize("shape", [(), (3, 2)])
def test_a_file_without_a_batch_of_one_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(WrongInput, match="batch dimension of 1"):
        inputs_of_file(file_spec("net.onnx"), (TensorSpec(name="x", shape=shape, dtype="float32"),))


def test_inputs_keep_the_files_order_and_not_the_tomls() -> None:
    tensors = (
        TensorSpec(name="narrow", shape=(1, 4), dtype="float32"),
        TensorSpec(name="wide", shape=(1, 6), dtype="float32"),
    )

    found = inputs_of_file(file_spec("net.onnx", WIDE_AND_NARROW), tensors)

    assert [tensor.name for tensor in found] == ["narrow", "wide"]
