"""Real conversions of small modules, in real child processes."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from harness.catalog.checkpoint import make_checkpoint
from harness.catalog.files import read_signature
from harness.convert.convert import is_converted, make_artifact, why_not
from harness.convert.recipes import SETTINGS
from harness.errors import ConversionFailed, MissingExtra, NonFiniteOutput, ParityFailed, UsageError
from harness.records import (
    BuiltinSource,
    CalibrationSpec,
    InputSpec,
    KerasSource,
    ModelSpec,
    ProgramSource,
    PythonSource,
)
from tests.catalog.test_checkpoint import exported_tiny, no_child_can_start
from tests.fakes.specs import VECTOR, WIDE_AND_NARROW, file_spec, python_spec

if TYPE_CHECKING:
    from harness.records import ModelFormat, Precision
    from tests.convert.conftest import Make

DATA = Path(__file__).resolve().parents[1] / "data"


# --- what comes out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model_format", "precision"), [pair for pair in SETTINGS if pair[0] != "coreml"])
def test_every_precision_of_every_format_is_made_and_proved(
    make: Make, model_format: ModelFormat, precision: Precision
) -> None:
    artifact = make(python_spec("tiny"), model_format, precision)

    content = Path(artifact.path).read_bytes()
    assert len(content) == artifact.size_bytes
    assert 0 < artifact.deflated_bytes < artifact.size_bytes
    assert artifact.parity.passed
    assert artifact.parity.samples == 4
    assert artifact.parity.outputs[0].tensor == "output"
    assert artifact.inputs[0].shape == (1, 3, 16, 16)
    assert artifact.outputs[0].shape == (1, 10)
    assert artifact.conversion.seconds > 0
    assert (artifact.conversion.peak_rss_bytes or 0) > 50_000_000
    assert all(artifact.conversion.converters.values())
    assert read_signature(Path(artifact.path), model_format).storage == {
        "fp32": "float32",
        "fp16": "float16",
    }.get(precision, "integer")


def test_the_runtime_that_proved_a_file_is_named_with_version_and_configuration(make: Make) -> None:
    import onnxruntime

    parity = make(python_spec("tiny"), "onnx", "fp32").parity

    assert parity.executed_by == (f"ONNX Runtime {onnxruntime.__version__}, CPU, all graph optimizations, 1 thread")
    assert parity.reference.startswith("PyTorch")


def test_an_int8_tflite_file_has_int8_inputs_and_outputs_with_their_scales(make: Make) -> None:
    artifact = make(python_spec("tiny"), "tflite", "int8")

    for tensor in (*artifact.inputs, *artifact.outputs):
        assert tensor.dtype == "int8"
        assert tensor.scale is not None
        assert tensor.zero_point is not None


def test_the_ranges_of_an_int8_file_are_the_extremes_of_all_calibration_samples(make: Make) -> None:
    spec = python_spec("tiny")

    tensor = make(spec, "tflite", "int8").inputs[0]

    with np.load(Path(make_checkpoint(spec).folder) / "calibration.npz") as arrays:
        images = arrays["images"]
    assert tensor.scale == pytest.approx(float(images.max() - images.min()) / 255, rel=1e-4)


def test_an_int8_onnx_file_keeps_float_inputs_and_has_qdq_pairs_inside(make: Make) -> None:
    import onnx

    artifact = make(python_spec("tiny"), "onnx", "int8")

    operators = [node.op_type for node in onnx.load(artifact.path).graph.node]
    assert operators.count("QuantizeLinear") >= 3
    assert operators.count("DequantizeLinear") >= operators.count("QuantizeLinear")
    assert {"ConvInteger", "QLinearConv"} & set(operators) == set()
    assert (artifact.inputs[0].dtype, artifact.inputs[0].scale) == ("float32", None)


def test_int8_weights_in_onnx_have_seven_bits_and_a_scale_a_channel(make: Make) -> None:
    import onnx
    from onnx import numpy_helper

    artifact = make(python_spec("tiny"), "onnx", "int8")

    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(artifact.path).graph.initializer}
    weights = {name: values for name, values in stored.items() if values.dtype == np.int8 and values.ndim == 4}
    assert len(weights) == 2
    assert all(np.abs(values.astype(int)).max() <= 64 for values in weights.values())
    assert all(stored[name.replace("_quantized", "_scale")].shape == (8,) for name in weights)


def test_a_float16_onnx_file_takes_and_gives_float32(make: Make) -> None:
    artifact = make(python_spec("tiny"), "onnx", "fp16")

    assert [tensor.dtype for tensor in (*artifact.inputs, *artifact.outputs)] == ["float32", "float32"]


@pytest.mark.parametrize("model_format", ["onnx", "tflite"])
def test_two_inputs_and_two_outputs_keep_their_order_through_every_step(make: Make, model_format: ModelFormat) -> None:
    spec = python_spec("TwoByTwo", WIDE_AND_NARROW, calibration=CalibrationSpec(samples=64))

    for precision in ("fp32", "int8"):
        artifact = make(spec, model_format, precision)

        assert [tensor.shape for tensor in artifact.inputs] == [(1, 6), (1, 4)]
        assert [output.tensor for output in artifact.parity.outputs] == ["total", "difference"]
        assert artifact.parity.passed


def test_an_onnx_file_has_the_models_own_names(make: Make) -> None:
    artifact = make(python_spec("TwoByTwo", WIDE_AND_NARROW, calibration=CalibrationSpec(samples=64)), "onnx", "fp32")

    assert [tensor.name for tensor in artifact.inputs] == ["wide", "narrow"]
    assert [tensor.name for tensor in artifact.outputs] == ["total", "difference"]


def test_a_built_in_network_is_converted(make: Make) -> None:
    spec = ModelSpec(
        schema=1,
        name="small",
        source=BuiltinSource(network="squeezenet1_1", arguments={"num_classes": 10}),
        task="classification",
        trained=False,
        inputs=(InputSpec(name="images", shape=(1, 3, 64, 64)),),
        calibration=CalibrationSpec(samples=8),
    )

    artifact = make(spec, "onnx", "int8")

    assert artifact.parity.passed
    assert artifact.checkpoint_sha256 == make_checkpoint(spec).sha256
    # 727,626 parameters, one byte each, and what the graph itself takes.
    assert 727_626 < artifact.size_bytes < 900_000


def test_an_exported_program_is_converted(make: Make, tmp_path: Path) -> None:
    exported_tiny(tmp_path / "net.pt2")
    spec = ModelSpec(schema=1, name="net", source=ProgramSource(path=str(tmp_path / "net.pt2")))

    assert make(spec, "onnx", "fp32").parity.outputs[0].relative_l2 < 1e-6


@pytest.mark.parametrize("name", ["tiny.onnx", "tiny.tflite"])
def test_a_ready_float_file_is_measured_as_it_is_and_quantized_by_the_same_tools(make: Make, name: str) -> None:
    model_format: ModelFormat = "onnx" if name.endswith("onnx") else "tflite"
    spec = file_spec(DATA / name)

    source, int8 = make(spec, model_format, "source"), make(spec, model_format, "int8")

    assert Path(source.path).read_bytes() == (DATA / name).read_bytes()
    assert (source.conversion.converters, source.conversion.seconds) == ({}, 0.0)
    assert source.parity.outputs[0].relative_l2 < 1e-6
    assert 1e-4 < int8.parity.outputs[0].relative_l2 < 0.1


def test_a_tflite_file_from_before_signatures_and_new_operator_numbers_is_quantized_all_the_same(
    make: Make, tmp_path: Path
) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf((DATA / "tiny.tflite").read_bytes(), 0)
    model.signatureDefs = []
    for code in model.operatorCodes:
        code.deprecatedBuiltinCode, code.builtinCode = code.builtinCode, 0
    builder = schema.flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    (tmp_path / "old.tflite").write_bytes(builder.Output())

    for precision in ("fp16", "int8_dynamic", "int8"):
        artifact = make(file_spec(tmp_path / "old.tflite"), "tflite", precision)

        assert read_signature(Path(artifact.path), "tflite").storage != "float32"
        assert artifact.parity.passed


def test_an_older_onnx_file_with_open_dimensions_is_fixed_and_quantized(make: Make, tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(0)
    weight = numpy_helper.from_array(generator.standard_normal((4, 3, 3, 3)).astype(np.float32), "w")
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["images", "w"], ["c"], kernel_shape=[3, 3]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("GlobalAveragePool", ["r"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 1, 1])],
        [weight],
    )
    onnx.save(
        helper.make_model(graph, ir_version=6, opset_imports=[helper.make_opsetid("", 11)]), tmp_path / "old.onnx"
    )
    spec = file_spec(tmp_path / "old.onnx", (InputSpec(name="images", shape=(1, 3, 16, 16)),))

    fp32, int8 = make(spec, "onnx", "fp32"), make(spec, "onnx", "int8")

    assert read_signature(Path(fp32.path), "onnx").inputs[0].shape == (1, 3, 16, 16)
    assert (fp32.parity.passed, int8.parity.passed) == (True, True)


# --- what goes wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_format", ["onnx", "tflite"])
def test_an_operator_that_a_format_lacks_is_named_and_looked_for_once(make: Make, model_format: ModelFormat) -> None:
    spec = python_spec("Unsupported", VECTOR)

    with pytest.raises(ConversionFailed, match=r"aten\.special_airy_ai") as raised:
        make(spec, model_format, "int8")
    assert raised.value.cause == "unsupported_op"
    assert raised.value.what == f"unsupported to {model_format}/fp32"
    assert "airy" in Path(raised.value.log).read_text(encoding="utf-8")

    with pytest.raises(ConversionFailed) as again:
        make(spec, model_format, "fp16")
    assert again.value is raised.value


def test_a_file_that_computes_something_else_is_refused_by_output_and_kept_for_inspection(
    make: Make, shared_cache: Path
) -> None:
    spec = python_spec("DiffersWhenExported", VECTOR)

    with pytest.raises(ParityFailed) as raised:
        make(spec, "onnx", "fp32")

    error = raised.value
    assert (error.tensor, error.metric, error.limit) == ("output_1", "relative L2", 1e-4)
    assert error.found == pytest.approx(1.0, rel=1e-5)
    kept = list((shared_cache / "failed").glob("differswhenexported.fp32.onnx-*"))
    assert len(kept) == 1
    assert str(kept[0]) in error.hint
    assert {path.suffix for path in kept[0].iterdir()} == {".onnx", ".json"}
    assert not is_converted(spec, "onnx", "fp32")


def test_a_network_with_nothing_to_quantize_is_no_int8_network(make: Make, tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
    onnx.save(model, tmp_path / "net.onnx")

    with pytest.raises(ConversionFailed, match="nothing in it could be made int8") as raised:
        make(file_spec(tmp_path / "net.onnx"), "onnx", "int8")

    assert raised.value.cause == "unsupported"


def test_a_file_that_answers_with_infinity_is_refused_and_kept(make: Make, shared_cache: Path) -> None:
    source = PythonSource(factory="tests.fakes.modules:DiffersWhenExported", arguments={"factor": 1e39})
    spec = python_spec("infinite", VECTOR, source=source)

    with pytest.raises(NonFiniteOutput) as raised:
        make(spec, "onnx", "fp32")

    assert (raised.value.tensor, raised.value.count) == ("output_1", 16)
    assert list((shared_cache / "failed").glob("infinite.fp32.onnx-*/infinite.fp32.onnx"))
    assert not is_converted(spec, "onnx", "fp32")


@pytest.mark.skipif(sys.platform != "linux", reason="only /proc tells a child's memory from its parent's")
def test_the_peak_memory_is_the_converters_own_and_not_its_parents(make: Make) -> None:
    spec = msgspec.structs.replace(file_spec(DATA / "tiny.tflite"), seed=77)
    ballast = np.ones(120_000_000)  # 960 MB

    artifact = make(spec, "tflite", "fp16")

    assert ballast.size
    assert 50_000_000 < (artifact.conversion.peak_rss_bytes or 0) < 500_000_000


def test_a_conversion_that_takes_too_long_is_ended() -> None:
    spec = python_spec("tiny", seed=3)
    checkpoint = make_checkpoint(spec)

    with pytest.raises(ConversionFailed, match="not done after") as raised:
        make_artifact(spec, checkpoint, "onnx", "fp32", timeout_s=0.3)

    assert raised.value.cause == "timeout"


def test_a_missing_converter_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = python_spec("tiny", seed=3)
    checkpoint = make_checkpoint(spec)
    monkeypatch.setitem(sys.modules, "litert_torch", None)  # what importlib takes for "not installed"

    with pytest.raises(MissingExtra, match="litert-torch") as raised:
        make_artifact(spec, checkpoint, "tflite", "int8")

    assert raised.value.extra == "tflite"


# --- what cannot be ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "model_format", "precision", "says"),
    [
        (python_spec("tiny"), "onnx", "source", "not a ready file"),
        (python_spec("tiny"), "onnx", "int8_dynamic", "no int8_dynamic for onnx: it has fp32, fp16, int8"),
        (file_spec(DATA / "tiny.onnx"), "tflite", "source", r"is a ready \.onnx file"),
        (file_spec(DATA / "tiny.onnx"), "tflite", "fp32", r"no maintained converter makes \.tflite files from \.onnx"),
        (file_spec(DATA / "tiny.tflite"), "onnx", "int8", r"no maintained converter makes \.onnx files from \.tflite"),
        (file_spec(DATA / "tiny_int8.tflite"), "tflite", "int8", "is quantized already"),
        (file_spec(DATA / "tiny_int8.tflite"), "tflite", "fp32", "is quantized already"),
        (ModelSpec(schema=1, name="k", source=KerasSource(path="k.keras")), "onnx", "fp32", "from Keras"),
    ],
)
def test_what_cannot_be_made_is_said_before_anything_is_tried(
    spec: ModelSpec, model_format: ModelFormat, precision: Precision, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import re

    no_child_can_start(monkeypatch)

    reason = why_not(spec, model_format, precision)

    assert reason is not None
    assert re.search(says, reason)


@pytest.mark.parametrize(("model_format", "precision"), list(SETTINGS))
def test_nothing_stands_against_a_module(model_format: ModelFormat, precision: Precision) -> None:
    assert why_not(python_spec("tiny"), model_format, precision) is None


def test_asking_for_what_cannot_be_made_is_a_usage_error() -> None:
    spec = file_spec(DATA / "tiny_int8.tflite")

    with pytest.raises(UsageError, match="quantized already"):
        make_artifact(spec, make_checkpoint(spec), "tflite", "fp16")


# --- the cache -----------------------------------------------------------------------------------------------------


def test_the_second_time_nothing_is_converted(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = python_spec("tiny")
    # Of weights without zeros nothing can be stored sparse, and of so few none in a palette of 256: that is refused.
    pairs = [pair for pair in SETTINGS if pair[1] not in {"sparse", "palette8"}]
    made = [make(spec, model_format, precision) for model_format, precision in pairs]

    no_child_can_start(monkeypatch)

    assert [make(spec, model_format, precision) for model_format, precision in pairs] == made
    assert all(is_converted(spec, model_format, precision) for model_format, precision in pairs)


@pytest.mark.parametrize("change", ["seed", "calibration", "samples"])
def test_another_seed_or_other_data_are_another_artifact(make: Make, change: str) -> None:
    spec = file_spec(DATA / "tiny.tflite")
    changes: dict[str, dict[str, object]] = {
        "seed": {"seed": 1},
        "calibration": {"calibration": CalibrationSpec(samples=9)},
        "samples": {"check_samples": 2},
    }
    changed = msgspec.structs.replace(spec, **changes[change])
    make(spec, "tflite", "int8")

    assert is_converted(spec, "tflite", "int8")
    assert not is_converted(changed, "tflite", "int8")
    assert make(changed, "tflite", "int8").path != make(spec, "tflite", "int8").path


def test_a_change_of_settings_is_another_artifact(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = file_spec(DATA / "tiny.onnx")
    before = make(spec, "onnx", "int8")
    changed = SETTINGS["onnx", "int8"] | {"reduce_range": False}

    monkeypatch.setitem(SETTINGS, ("onnx", "int8"), changed)
    after = make(spec, "onnx", "int8")

    assert after.sha256 != before.sha256
    assert after.conversion.settings["reduce_range"] is False


@pytest.mark.parametrize("damage", ["bytes", "record", "gone"])
def test_a_damaged_entry_is_reported_and_made_again(make: Make, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    spec = file_spec(DATA / "tiny.tflite")
    artifact = make(spec, "tflite", "fp16")
    path = Path(artifact.path)
    if damage == "bytes":
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    elif damage == "gone":
        path.unlink()
    else:
        (path.parent / "artifact.json").write_text("{}", encoding="utf-8")

    with caplog.at_level(logging.WARNING):
        again = make(spec, "tflite", "fp16")

    assert again.sha256 == artifact.sha256
    assert again.conversion.seconds != artifact.conversion.seconds
    assert "is damaged" in caplog.text
