"""From a suite to cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness import matrix
from harness.convert.recipes import SETTINGS
from harness.device.profile import find_product
from harness.errors import BadSetting, MissingExtra, UnknownName
from harness.matrix import PRECISIONS, expand, find_suite, need_runtime, parse_artifact, suite_of, why_not_on
from harness.records import MeasurePlan, Suite, SuiteRuntime
from tests.fakes import records

if TYPE_CHECKING:
    from pathlib import Path


def suite(**changes: object) -> Suite:
    settings: dict[str, object] = {"schema": 1, "name": "s", "models": ("a",), "artifacts": ("onnx/fp32",)}
    return Suite(**(settings | changes))  # type: ignore[arg-type]


def test_the_matrix_is_the_product_with_threads_innermost() -> None:
    cells = expand(suite(artifacts=("onnx/fp32", "tflite/int8"), threads=(1, 2)), {"a": None, "b": None})

    assert [(c.model, f"{c.format}/{c.precision}", c.choice.runtime, c.choice.threads) for c in cells] == [
        ("a", "onnx/fp32", "onnxruntime", 1),
        ("a", "onnx/fp32", "onnxruntime", 2),
        ("a", "tflite/int8", "litert", 1),
        ("a", "tflite/int8", "litert", 2),
        ("b", "onnx/fp32", "onnxruntime", 1),
        ("b", "onnx/fp32", "onnxruntime", 2),
        ("b", "tflite/int8", "litert", 1),
        ("b", "tflite/int8", "litert", 2),
    ]


def test_a_runtime_gets_only_the_formats_it_reads() -> None:
    runtimes = (SuiteRuntime(name="onnxruntime"), SuiteRuntime(name="litert", accelerator="builtin"))
    cells = expand(suite(artifacts=("onnx/fp32", "tflite/fp32"), runtimes=runtimes), {"a": None})

    assert [(cell.format, cell.choice.runtime, cell.choice.accelerator) for cell in cells] == [
        ("onnx", "onnxruntime", "cpu"),
        ("tflite", "litert", "builtin"),
    ]


def test_two_settings_of_one_runtime_are_two_cells_with_two_ids() -> None:
    runtimes = (
        SuiteRuntime(name="onnxruntime"),
        SuiteRuntime(name="onnxruntime", graph_optimization="none"),
        SuiteRuntime(name="onnxruntime", options={"session.intra_op.allow_spinning": "0"}),
    )
    cells = expand(suite(runtimes=runtimes), {"a": None})

    assert len({cell.id for cell in cells}) == 3


def test_two_versions_of_one_runtime_are_two_cells() -> None:
    runtimes = (SuiteRuntime(name="onnxruntime"), SuiteRuntime(name="onnxruntime@1.27.0"))
    cells = expand(suite(runtimes=runtimes), {"a": None})

    assert [(c.choice.runtime, c.choice.version, c.choice.title) for c in cells] == [
        ("onnxruntime", None, "onnxruntime"),
        ("onnxruntime", "1.27.0", "onnxruntime@1.27.0"),
    ]
    assert len({cell.id for cell in cells}) == 2


def test_source_is_a_cell_for_a_ready_file_and_nothing_for_other_models() -> None:
    cells = expand(suite(artifacts=("source",)), {"ready": "tflite", "network": None})

    assert [(cell.model, cell.format, cell.precision) for cell in cells] == [("ready", "tflite", "source")]


def test_a_cell_id_is_a_safe_file_name_whatever_the_model_is_called() -> None:
    hostile = "../../etc/<script> ünï \n" + "x" * 300
    (cell,) = expand(suite(), {hostile: None})

    assert len(cell.id) <= 150
    assert not set(cell.id) & set("/\\<> \n\"'")


def test_names_that_differ_only_in_unsafe_letters_keep_different_ids() -> None:
    cells = expand(suite(), {"a/b": None, "a b": None})

    assert cells[0].id != cells[1].id


@pytest.mark.parametrize("text", ["onnx", "onnx/", "onnx/fp8", "coreml/", "/fp32", "tflite/int8/x"])
def test_an_artifact_that_is_not_known_is_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(UnknownName) as caught:
        parse_artifact(text)

    assert "tflite/int8_dynamic" in caught.value.hint


def test_a_runtime_that_is_not_known_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="runtime called 'tensorrt'"):
        expand(suite(runtimes=(SuiteRuntime(name="tensorrt"),)), {"a": None})


def test_core_ml_is_one_cell_for_all_numbers_of_threads_on_the_units_that_it_chooses_itself() -> None:
    (cell,) = expand(suite(artifacts=("coreml/fp16",), threads=(1, 2, 4)), {"a": None})

    assert (cell.choice.runtime, cell.choice.accelerator, cell.choice.threads) == ("coreml", "all", 1)


def test_what_a_device_cannot_run_at_all_is_said_in_a_sentence() -> None:
    linux = records.device(os="Debian GNU/Linux 12")
    mac = records.device(os="macOS 15.1")
    phone = records.device(kind="ios", name="iPhone XR", os="iOS 18.5")
    core_ml, onnx = (records.cell(format=name).choice for name in ("coreml", "onnx"))

    assert [why_not_on(core_ml, device) for device in (mac, phone)] == [None, None]
    assert why_not_on(core_ml, linux) == "Core ML runs on Apple's systems only, and bench-01 has Debian GNU/Linux 12"
    assert why_not_on(onnx, linux) is None
    assert "has Core ML, and not ONNX Runtime" in (why_not_on(onnx, phone) or "")


@pytest.mark.parametrize("product_type", ["iPhone7,2", "iPad5,4", "iPhone10,6", "iPad7,11", "iPhone11,8"])
def test_of_the_studys_five_devices_only_the_iphone_xr_computes_on_its_neural_engine(product_type: str) -> None:
    profile = find_product(product_type)
    assert profile is not None
    assert profile.apple is not None
    phone = records.device(kind="ios", name=profile.title, core_ml_units=profile.apple.core_ml_units)
    asked = {
        accelerator: why_not_on(records.cell(format="coreml", accelerator=accelerator).choice, phone)
        for accelerator in ("all", "cpu_only", "cpu_and_gpu", "cpu_and_ne")
    }

    refused = f"cpu_and_ne was asked for, and Core ML computes on cpu and gpu only on {profile.title}"
    assert asked.pop("cpu_and_ne") == (None if product_type == "iPhone11,8" else refused)
    assert set(asked.values()) == {None}


def test_a_missing_runtime_is_told_before_anything_slow_with_the_command_that_adds_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(matrix, "find_spec", lambda _module: None)

    with pytest.raises(MissingExtra) as caught:
        need_runtime(expand(suite(), {"a": None})[0])

    assert caught.value.exit_code == 4
    assert caught.value.hint == "Install it: pip install 'inference-harness[onnxruntime]'"


def test_the_built_in_suite_is_three_networks_in_four_files_on_one_and_two_threads() -> None:
    quick = suite_of([])

    assert quick == find_suite("quick")
    assert len(expand(quick, dict.fromkeys(quick.models))) == 3 * 4 * 2


def test_ready_files_are_measured_as_they_are_and_other_models_converted() -> None:
    made = suite_of(["mobilenet_v2", "iris.tflite"])

    assert made.models == ("mobilenet_v2", "iris.tflite")
    assert made.artifacts == ("onnx/fp32", "tflite/fp32", "source")


def test_a_ready_file_alone_is_not_converted() -> None:
    assert suite_of(["iris.tflite"]).artifacts == ("source",)


def test_a_model_toml_is_a_model_and_a_suite_toml_a_suite(tmp_path: Path) -> None:
    model, own = tmp_path / "model.toml", tmp_path / "own.toml"
    model.write_text('schema = 1\nname = "m"\nsource = { kind = "onnx", path = "m.onnx" }\n')
    own.write_text('schema = 1\nname = "own"\nmodels = ["m"]\n[measure]\nprocesses_min = 3\n')

    assert suite_of([str(model)]).models == (str(model),)
    assert suite_of([str(own)]).measure == MeasurePlan(processes_min=3)


def test_a_wrong_key_in_a_suite_names_file_line_key_and_what_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('schema = 1\nname = "own"\nmodels = ["m"]\nthread = [1]\n')

    with pytest.raises(BadSetting, match=r"own\.toml, line 4: thread: unknown key; did you mean 'threads'\?") as caught:
        find_suite(str(path))

    assert "devices" in caught.value.hint


def test_a_suite_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(UnknownName) as caught:
        find_suite("slow")

    assert caught.value.known == ("quick",)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("schema = 2", r"line 1: schema: this program reads version 1, not 2"),
        ('name = "../../evil"', r"line 2: name: "),
        ("models = []", r"line 3: models: "),
        ("threads = []", r"line 4: threads: "),
        ("threads = [0]", r"line 4: threads\[0\]: "),
        ("threads = [100000]", r"line 4: threads\[0\]: "),
        ('artifacts = ["onnx/fp32", "onnx/int4"]', r"line 4: artifacts\[1\]: there is no artifact called 'onnx/int4'"),
        ('runtimes = [{ name = "litert@" }]', r"line 4: runtimes\[0\].name: '' is no version"),
        ('runtimes = [{ name = "litert@../x" }]', r"line 4: runtimes\[0\].name: '../x' is no version"),
        ('runtimes = [{ name = "tvm" }]', r"line 4: runtimes\[0\].name: there is no runtime called 'tvm'"),
        ("measure.blocks = 0", r"line 4: measure.blocks: "),
        ("measure.block_s = -1.0", r"line 4: measure.block_s: "),
        ("measure.block_s = nan", r"line 4: measure.block_s: "),
        ("measure.block_s = inf", r"line 4: measure.block_s: "),
        ("measure.processes_min = 11", r"measure.processes_max: is 10, less than processes_min, which is 11"),
        ("measure.timeout_s = 0", r"line 4: measure.timeout_s: "),
    ],
)
def test_a_wrong_value_in_a_suite_names_file_line_and_key(tmp_path: Path, line: str, said: str) -> None:
    lines = ["schema = 1", 'name = "own"', 'models = ["m"]']
    key = line.split(" ", maxsplit=1)[0]
    place = next((number for number, other in enumerate(lines) if other.split(" ")[0] == key), len(lines))
    lines[place : place + 1] = [line]
    path = tmp_path / "own.toml"
    path.write_text("\n".join(lines) + "\n")

    with pytest.raises(BadSetting, match=rf"own\.toml.*{said}"):
        find_suite(str(path))


def test_what_is_named_to_someone_who_mistyped_can_be_made() -> None:
    assert {(model_format, each) for model_format, all_of in PRECISIONS.items() for each in all_of} == set(SETTINGS)

    with pytest.raises(UnknownName) as caught:
        parse_artifact("coreml/int4")

    first, *_, last = caught.value.known
    assert (first, last) == ("coreml/fp32", "source")
    assert "onnx/palette8" not in caught.value.known
