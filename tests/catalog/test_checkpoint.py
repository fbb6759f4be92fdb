"""Checkpoints are made in real child processes, of modules small enough for that to be quick."""

from __future__ import annotations

import logging
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from harness.catalog.checkpoint import checkpoint_key, find_checkpoint, load_module, make_checkpoint
from harness.errors import (
    ConversionFailed,
    MissingExtra,
    NonFiniteOutput,
    UnknownName,
    UnreadableModel,
    WrongInput,
)
from harness.records import (
    BuiltinSource,
    CalibrationSpec,
    InputSpec,
    ModelSpec,
    ProgramSource,
    PythonSource,
    UniformData,
)
from tests.fakes.specs import IMAGES, VECTOR, WIDE_AND_NARROW, file_spec, python_spec

DATA = Path(__file__).resolve().parents[1] / "data"


def no_child_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")


def stored(folder: str, name: str) -> dict[str, Any]:
    with np.load(Path(folder) / f"{name}.npz") as arrays:
        return dict(arrays)


def test_a_module_becomes_weights_inputs_and_what_it_answers_to_them() -> None:
    import torch

    spec = python_spec("tiny")

    checkpoint = make_checkpoint(spec)

    assert (checkpoint.form, checkpoint.parameters, checkpoint.trained) == ("torch", 410, False)
    # 8 x 27 x 64 (8 x 8 outputs of the first convolution), 8 x 9 x 64 (depthwise), 80 (linear).
    assert checkpoint.macs == 8 * 27 * 64 + 8 * 9 * 64 + 80
    assert [(t.name, t.shape, t.dtype) for t in checkpoint.outputs] == [("output", (1, 10), "float32")]
    assert checkpoint.reference == f"PyTorch {torch.__version__}, eager, fp32, 1 thread"
    inputs, reference = stored(checkpoint.folder, "inputs"), stored(checkpoint.folder, "reference")
    assert inputs["images"].shape == (4, 3, 16, 16)
    assert stored(checkpoint.folder, "calibration")["images"].shape == (8, 3, 16, 16)
    module = load_module(spec, checkpoint)
    with torch.no_grad():
        again = np.stack([module(torch.from_numpy(image[None]))[0].numpy() for image in inputs["images"]])
    np.testing.assert_array_equal(again, reference["output"])


def test_a_stored_checkpoint_is_found_without_starting_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = python_spec("tiny")
    made = make_checkpoint(spec)

    no_child_can_start(monkeypatch)

    assert make_checkpoint(spec) == made == find_checkpoint(spec)


def test_nothing_is_found_of_a_model_that_was_never_loaded() -> None:
    assert find_checkpoint(python_spec("tiny", seed=4711)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"check_samples": 5},
        {"calibration": CalibrationSpec(samples=9)},
        {"inputs": (InputSpec(name="images", shape=(1, 3, 32, 32)),)},
        {"inputs": (InputSpec(name="images", shape=(1, 3, 16, 16), data=UniformData()),)},
        {"source": PythonSource(factory="tests.fakes.modules:tiny", arguments={"width": 4})},
    ],
)
def test_whatever_decides_numbers_makes_another_checkpoint(changes: dict[str, Any]) -> None:
    assert checkpoint_key(python_spec("tiny", **changes)) != checkpoint_key(python_spec("tiny"))


def test_what_decides_no_numbers_does_not() -> None:
    changed = python_spec("tiny", title="A title", licence="MIT", citation="someone")

    assert checkpoint_key(changed) == checkpoint_key(python_spec("tiny"))


def test_other_bytes_in_a_file_make_another_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    shutil.copyfile(DATA / "tiny.onnx", path)
    before = checkpoint_key(file_spec(path))

    path.write_bytes(path.read_bytes() + b"\x0a\x00")

    assert checkpoint_key(file_spec(path)) != before


def test_two_inputs_and_two_outputs_keep_their_names_and_order() -> None:
    checkpoint = make_checkpoint(python_spec("TwoByTwo", WIDE_AND_NARROW))

    assert [tensor.name for tensor in checkpoint.inputs] == ["wide", "narrow"]
    assert [(tensor.name, tensor.shape) for tensor in checkpoint.outputs] == [
        ("total", (1, 3)),
        ("difference", (1, 3)),
    ]
    assert checkpoint.macs == 60  # each layer runs twice: 2 x (18 + 12)


def test_a_built_in_network_is_counted_and_its_batchnorm_is_settled() -> None:
    spec = ModelSpec(
        schema=1,
        name="small",
        source=BuiltinSource(network="mobilenet_v3_small", arguments={"num_classes": 10}),
        inputs=(InputSpec(name="images", shape=(1, 1, 32, 32)),),
        check_samples=2,
        calibration=CalibrationSpec(samples=2),
    )

    checkpoint = make_checkpoint(spec)

    # The published count, less 990 classes of 1,024 weights and a bias, less two channels of 16 filters of 3 x 3.
    assert checkpoint.parameters == 2_542_856 - 990 * 1025 - 2 * 16 * 9
    spread = float(stored(checkpoint.folder, "reference")["output"].std())
    assert 0.01 < spread < 10  # a new network's outputs vanish below 1e-4


def test_both_counters_agree_on_the_built_in_networks() -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from harness.catalog.networks import NETWORKS
    from harness.catalog.networks.count import count_macs

    for name in ("squeezenet1_1", "mobilenet_v3_small", "light_cnn9"):
        network = NETWORKS[name].build().eval()
        images = torch.zeros(NETWORKS[name].input_shape)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(images)

        assert counter.get_total_flops() // 2 == count_macs(network, images)


def test_weights_are_read_from_safetensors_and_from_a_training_scripts_checkpoint(tmp_path: Path) -> None:
    import torch

    base = make_checkpoint(python_spec("tiny", seed=1))
    weights = Path(base.folder) / "weights.safetensors"
    state = load_module(python_spec("tiny", seed=1), base).state_dict()
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "last.pt")

    for path in (weights, tmp_path / "last.pt"):
        source = PythonSource(factory="tests.fakes.modules:tiny", weights=str(path))
        assert make_checkpoint(python_spec("tiny", source=source)).sha256 == base.sha256


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        ("TwoByTwo", r"missing \(first .*do not belong"),
        ("wide", "size mismatch for 0.weight"),
    ],
)
def test_weights_of_another_network_are_refused(factory: str, says: str) -> None:
    weights = str(Path(make_checkpoint(python_spec("tiny")).folder) / "weights.safetensors")
    source = {
        "TwoByTwo": PythonSource(factory="tests.fakes.modules:TwoByTwo", weights=weights),
        "wide": PythonSource(factory="tests.fakes.modules:tiny", arguments={"width": 9}, weights=weights),
    }[factory]

    with pytest.raises(UnreadableModel, match=says):
        make_checkpoint(python_spec("tiny", source=source))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_damaged_weights_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(b"not weights at all")
    source = PythonSource(factory="tests.fakes.modules:tiny", weights=str(path))

    with pytest.raises(UnreadableModel, match="a state dict") as raised:
        make_checkpoint(python_spec("tiny", source=source))

    assert raised.value.path == str(path)


def exported_tiny(path: Path) -> None:
    import torch

    from tests.fakes.modules import tiny

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations
        torch.export.save(torch.export.export(tiny().eval(), (torch.zeros(1, 3, 16, 16),)), path)


def test_an_exported_program_brings_its_own_inputs(tmp_path: Path) -> None:
    exported_tiny(tmp_path / "net.pt2")
    spec = ModelSpec(schema=1, name="net", source=ProgramSource(path=str(tmp_path / "net.pt2")))

    checkpoint = make_checkpoint(spec)

    assert (checkpoint.form, checkpoint.parameters, checkpoint.macs) == ("pt2", 410, 18512)
    assert [(t.shape, t.dtype) for t in checkpoint.inputs] == [((1, 3, 16, 16), "float32")]


def test_a_file_that_is_no_exported_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(b"PK\x03\x04" + bytes(100))

    with pytest.raises(UnreadableModel, match="an exported program"):
        make_checkpoint(ModelSpec(schema=1, name="net", source=ProgramSource(path=str(tmp_path / "net.pt2"))))


@pytest.mark.parametrize("name", ["tiny.onnx", "tiny.tflite", "tiny_int8.tflite"])
def test_a_ready_file_is_its_own_checkpoint(name: str) -> None:
    checkpoint = make_checkpoint(file_spec(DATA / name))

    assert checkpoint.form == name.partition(".")[2]
    assert (Path(checkpoint.folder) / f"model.{checkpoint.form}").read_bytes() == (DATA / name).read_bytes()
    assert stored(checkpoint.folder, "reference").popitem()[1].shape == (4, 10)
    assert stored(checkpoint.folder, "inputs").popitem()[1].dtype == np.float32
    runtime = "ONNX Runtime" if checkpoint.form == "onnx" else "LiteRT"
    assert checkpoint.reference.startswith(runtime)


def test_an_onnx_file_with_its_weights_beside_it_becomes_one_file(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(DATA / "tiny.onnx")
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.bin", size_threshold=0)

    checkpoint = make_checkpoint(file_spec(tmp_path / "net.onnx"))

    expected = stored(make_checkpoint(file_spec(DATA / "tiny.onnx")).folder, "reference")
    np.testing.assert_array_equal(stored(checkpoint.folder, "reference")["output"], expected["output"])


@pytest.mark.parametrize("name", ["tiny.onnx", "tiny.tflite"])
def test_a_truncated_file_is_refused_before_a_process_is_started(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    path.write_bytes((DATA / name).read_bytes()[:3000])
    no_child_can_start(monkeypatch)

    with pytest.raises(UnreadableModel, match=f"{name} cannot be read.*truncated"):
        make_checkpoint(file_spec(path))


def test_a_picture_named_onnx_is_called_a_picture(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))

    with pytest.raises(UnreadableModel, match="it is a PNG image"):
        make_checkpoint(file_spec(tmp_path / "net.onnx"))


def test_an_operator_that_the_runtime_does_not_know_is_named(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Frobnicate", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
    onnx.save(model, tmp_path / "net.onnx")

    with pytest.raises(UnreadableModel, match="Frobnicate"):
        make_checkpoint(file_spec(tmp_path / "net.onnx"))


def test_nan_in_the_outputs_is_refused() -> None:
    with pytest.raises(NonFiniteOutput) as raised:
        make_checkpoint(python_spec("NotFinite", VECTOR))

    assert (raised.value.tensor, raised.value.count, raised.value.size) == ("output", 16, 16)


def test_inputs_of_another_shape_than_the_module_takes_are_refused() -> None:
    with pytest.raises(WrongInput, match=r"float32 \[1, 5, 16, 16\]") as raised:
        make_checkpoint(python_spec("tiny", (InputSpec(name="images", shape=(1, 5, 16, 16)),)))

    assert raised.value.tensor == "images"


def test_more_inputs_than_the_module_takes_are_refused() -> None:
    with pytest.raises(WrongInput, match="positional arguments"):
        make_checkpoint(python_spec("tiny", IMAGES + VECTOR))


def test_a_factory_that_crashes_its_process_is_a_failure_with_the_signals_name() -> None:
    with pytest.raises(ConversionFailed, match="SIGSEGV") as raised:
        make_checkpoint(python_spec("crashing"))

    assert raised.value.cause == "crashed"
    assert Path(raised.value.log).is_file()


def test_a_process_that_is_killed_is_taken_for_out_of_memory_and_says_that_this_is_a_guess() -> None:
    with pytest.raises(ConversionFailed, match="SIGKILL, which is most likely") as raised:
        make_checkpoint(python_spec("killed"))

    assert raised.value.cause == "out_of_memory"


def test_an_allocation_that_fails_is_out_of_memory() -> None:
    with pytest.raises(ConversionFailed, match="allocate") as raised:
        make_checkpoint(python_spec("out_of_memory"))

    assert raised.value.cause == "out_of_memory"


def test_a_factory_that_never_returns_is_ended() -> None:
    with pytest.raises(ConversionFailed, match="not done after") as raised:
        make_checkpoint(python_spec("sleeping"), timeout_s=4)

    assert raised.value.cause == "timeout"


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        ("raising", "raised ValueError: no weights today"),
        ("not_a_module", "made a str, not a torch.nn.Module"),
        ("NoBatch", r"output 'output' has the shape \[4\]"),
    ],
)
def test_what_a_factory_does_wrong_is_said(factory: str, says: str) -> None:
    with pytest.raises(ConversionFailed, match=says):
        make_checkpoint(python_spec(factory, VECTOR))


def test_an_unknown_factory_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="'tinny'") as raised:
        make_checkpoint(python_spec("tinny"))

    assert "tiny" in raised.value.known


def test_an_unknown_module_is_named() -> None:
    spec = python_spec("tiny", source=PythonSource(factory="tests.nowhere:tiny"))

    with pytest.raises(UnknownName, match=r"Python module called 'tests\.nowhere'"):
        make_checkpoint(spec)


def test_a_missing_framework_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # what importlib takes for "not installed"

    with pytest.raises(MissingExtra, match="torch") as raised:
        make_checkpoint(python_spec("tiny", seed=99))

    assert raised.value.extra == "torch"
    assert raised.value.exit_code == 4


def test_a_failed_checkpoint_leaves_nothing_that_could_be_taken_for_one(shared_cache: Path) -> None:
    spec = python_spec("raising", seed=5)

    with pytest.raises(ConversionFailed):
        make_checkpoint(spec)

    assert find_checkpoint(spec) is None
    assert not list((shared_cache / "checkpoints").glob(f".{checkpoint_key(spec)}*"))
    assert not list((shared_cache / "jobs").iterdir())


def test_a_damaged_record_is_reported_and_the_checkpoint_made_again(caplog: pytest.LogCaptureFixture) -> None:
    spec = file_spec(DATA / "tiny.tflite")
    checkpoint = make_checkpoint(spec)
    (Path(checkpoint.folder) / "checkpoint.json").write_text("{", encoding="utf-8")

    with caplog.at_level(logging.WARNING):
        again = make_checkpoint(spec)

    assert again == checkpoint
    assert "is damaged and is made again" in caplog.text
    assert find_checkpoint(spec) == checkpoint


def test_a_moved_cache_is_still_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = file_spec(DATA / "tiny.tflite")
    checkpoint = make_checkpoint(spec)
    shutil.copytree(Path(checkpoint.folder), tmp_path / "checkpoints" / checkpoint_key(spec))

    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    no_child_can_start(monkeypatch)

    moved = make_checkpoint(spec)
    assert Path(moved.folder).parent.parent == tmp_path
    assert msgspec.structs.replace(moved, folder=checkpoint.folder) == checkpoint


def test_a_change_in_any_file_of_the_factorys_package_makes_another_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "their_package" / "inner"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "networks.py").write_text("def make(): ...\n")
    (package.parent / "blocks.py").write_text("SCALE = 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = ModelSpec(schema=1, name="theirs", source=PythonSource(factory="their_package.inner.networks:make"))
    before = checkpoint_key(spec)

    (package.parent / "blocks.py").write_text("SCALE = 2.0\n")

    assert checkpoint_key(spec) != before


def test_a_change_beside_a_lonely_module_makes_another_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_networks.py").write_text("def make(): ...\n")
    (tmp_path / "their_blocks.py").write_text("SCALE = 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = ModelSpec(schema=1, name="theirs", source=PythonSource(factory="their_networks:make"))
    before = checkpoint_key(spec)

    (tmp_path / "their_blocks.py").write_text("SCALE = 2.0\n")

    assert checkpoint_key(spec) != before
