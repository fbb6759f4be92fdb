from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.catalog.files import read_signature
from harness.catalog.tflite_file import put_in_order
from harness.errors import UnreadableModel
from harness.records import ModelFormat, TensorSpec

DATA = Path(__file__).resolve().parents[1] / "data"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(200)


def test_an_onnx_file_says_what_it_takes_and_gives() -> None:
    signature = read_signature(DATA / "tiny.onnx", "onnx")

    assert signature.inputs == (TensorSpec(name="images", shape=(1, 3, 16, 16), dtype="float32"),)
    assert signature.outputs == (TensorSpec(name="output", shape=(1, 10), dtype="float32"),)
    assert signature.storage == "float32"
    # 216 + 8 (convolution with BatchNorm folded in), 72 + 8 (depthwise), 80 + 10 (linear).
    assert signature.parameters == 394


def test_a_tflite_file_says_what_it_takes_and_gives() -> None:
    signature = read_signature(DATA / "tiny.tflite", "tflite")

    assert signature.inputs == (TensorSpec(name="serving_default_args_0", shape=(1, 3, 16, 16), dtype="float32"),)
    assert signature.outputs == (TensorSpec(name="serving_default_output_0_output", shape=(1, 10), dtype="float32"),)
    assert signature.storage == "float32"
    assert signature.parameters == 394


def test_a_quantized_tflite_file_says_its_scales() -> None:
    signature = read_signature(DATA / "tiny_int8.tflite", "tflite")

    tensor = signature.inputs[0]
    assert (tensor.dtype, signature.storage) == ("int8", "integer")
    assert tensor.scale == pytest.approx(0.0286, abs=0.005)
    assert tensor.zero_point is not None
    assert abs(tensor.zero_point) <= 128


def test_our_reader_agrees_with_the_runtimes_own() -> None:
    from ai_edge_litert.interpreter import Interpreter

    for name in ("tiny.tflite", "tiny_int8.tflite", "many_outputs.tflite"):
        signature = read_signature(DATA / name, "tflite")
        interpreter = Interpreter(model_path=str(DATA / name))
        details = [*interpreter.get_input_details(), *interpreter.get_output_details()]
        for ours, theirs in zip([*signature.inputs, *signature.outputs], details, strict=True):
            assert (ours.name, ours.shape, np.dtype(ours.dtype)) == (
                theirs["name"],
                tuple(theirs["shape"]),
                theirs["dtype"],
            )
            assert (ours.scale or 0.0, ours.zero_point or 0) == theirs["quantization"]


def test_open_dimensions_of_an_onnx_file_are_unknown_and_old_style_initializers_are_no_inputs(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 2], np.zeros(8, dtype=np.float32))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4]),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 2]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [-1, 2])],
        [weight],
    )
    onnx.save(helper.make_model(graph), tmp_path / "net.onnx")

    signature = read_signature(tmp_path / "net.onnx", "onnx")

    assert signature.inputs == (TensorSpec(name="x", shape=(-1, 4), dtype="float32"),)
    assert signature.outputs == (TensorSpec(name="y", shape=(-1, 2), dtype="float32"),)
    assert signature.parameters == 8


def test_weights_beside_an_onnx_file_are_found(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(DATA / "tiny.onnx")
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.bin", size_threshold=0)

    signature = read_signature(tmp_path / "net.onnx", "onnx")

    assert signature.companions == ("net.bin",)
    assert signature.parameters == 394


@pytest.mark.parametrize("model_format", ["onnx", "tflite"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (PNG, "a PNG image"),
        (b"PK\x03\x04" + bytes(100), "a zip archive"),
        (b"hello, world", "another kind of file"),
        (bytes(1000), "another kind of file|damaged"),
    ],
)
def test_a_foreign_file_is_refused_and_called_what_it_is(
    tmp_path: Path, model_format: ModelFormat, content: bytes, says: str
) -> None:
    path = tmp_path / f"net.{model_format}"
    path.write_bytes(content)

    with pytest.raises(UnreadableModel, match=says) as raised:
        read_signature(path, model_format)

    assert raised.value.path == str(path)


@pytest.mark.parametrize("name", ["tiny.onnx", "tiny.tflite", "tiny_int8.tflite"])
def test_a_file_cut_off_anywhere_is_refused_or_lost_nothing_that_matters(tmp_path: Path, name: str) -> None:
    whole = (DATA / name).read_bytes()
    model_format: ModelFormat = "onnx" if name.endswith("onnx") else "tflite"
    path = tmp_path / name

    refused = 0
    for kept in range(0, len(whole) - 64, 97):
        path.write_bytes(whole[:kept])
        try:
            read_signature(path, model_format)
        except UnreadableModel:
            refused += 1

    # The last bytes of an ONNX file are metadata and opset numbers, after the graph.
    assert refused >= len(range(0, len(whole) - 64, 97)) - (3 if model_format == "onnx" else 0)


def test_each_format_refuses_the_others_files() -> None:
    with pytest.raises(UnreadableModel, match="a TFLite file"):
        read_signature(DATA / "tiny.tflite", "onnx")
    with pytest.raises(UnreadableModel):
        read_signature(DATA / "tiny.onnx", "tflite")


def test_outputs_are_put_into_call_order_in_place(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    shutil.copyfile(DATA / "many_outputs.tflite", path)
    before = read_signature(path, "tflite").outputs
    backwards = [f"output_{index}" for index in reversed(range(12))]

    put_in_order(path, ["args_0"], backwards)

    assert read_signature(path, "tflite").outputs == before[::-1]
    assert path.stat().st_size == (DATA / "many_outputs.tflite").stat().st_size


def test_a_file_whose_signature_has_other_names_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    shutil.copyfile(DATA / "many_outputs.tflite", path)

    put_in_order(path, ["left"], ["a", "b"])

    assert path.read_bytes() == (DATA / "many_outputs.tflite").read_bytes()
