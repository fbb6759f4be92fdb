from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.catalog.models import find_model, list_models, python_file
from harness.catalog.networks import NETWORKS
from harness.errors import BadSetting, UnknownName, UsageError
from harness.records import BuiltinSource, FileData, KerasSource, OnnxSource, ProgramSource, TfliteSource

DATA = Path(__file__).resolve().parents[1] / "data"

GOOD = """\
schema = 1
name = "net"
title = "A network"

[source]
kind = "builtin"
network = "resnet18"

[[inputs]]
name = "images"
shape = [1, 3, 224, 224]
"""


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `models` of the user's own, in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def written(catalog: Path, text: str, name: str = "net") -> Path:
    (catalog / name).mkdir(exist_ok=True)
    (catalog / name / "model.toml").write_text(text, encoding="utf-8")
    return catalog / name / "model.toml"


def test_every_built_in_network_has_a_model_of_its_name() -> None:
    networks = {model.spec.name: model.spec for model in list_models()}

    assert set(networks) == set(NETWORKS)
    for name, spec in networks.items():
        assert isinstance(spec.source, BuiltinSource)
        assert spec.source.network == name
        assert spec.inputs[0].shape == NETWORKS[name].input_shape
        assert spec.trained is False
        assert spec.licence == "Apache-2.0"
        assert spec.citation


def test_the_users_own_model_hides_a_built_in_one_of_the_same_name(catalog: Path) -> None:
    written(catalog, GOOD.replace('"net"', '"resnet18"').replace("A network", "Mine"), "resnet18")

    assert find_model("resnet18").spec.title == "Mine"
    assert [model.spec.title for model in list_models() if model.spec.name == "resnet18"] == ["Mine"]


def test_a_model_is_found_by_the_path_of_its_toml_and_of_its_folder(catalog: Path) -> None:
    path = written(catalog, GOOD)

    assert find_model(str(path)) == find_model(str(path))
    assert find_model(str(path)).spec == find_model(str(path.parent)).spec == find_model("net").spec


@pytest.mark.parametrize(
    ("suffix", "source"),
    [(".onnx", OnnxSource), (".tflite", TfliteSource), (".pt2", ProgramSource), (".keras", KerasSource)],
)
def test_a_bare_file_is_a_model_of_which_nothing_else_is_known(tmp_path: Path, suffix: str, source: type) -> None:
    path = tmp_path / f"some net{suffix}"
    path.write_bytes(b"")

    spec = find_model(str(path)).spec

    assert spec.source == source(path=str(path))
    assert (spec.name, spec.trained, spec.licence, spec.inputs) == ("some-net", None, None, ())


def test_a_saved_model_folder_is_a_keras_model(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "saved_model.pb").write_bytes(b"")

    assert find_model(str(tmp_path / "net")).spec.source == KerasSource(path=str(tmp_path / "net"))


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="resnet81") as raised:
        find_model("resnet81")

    assert "resnet18" in raised.value.hint


def test_a_missing_file_is_called_a_file() -> None:
    with pytest.raises(UnknownName, match=r"no file called 'nowhere\.onnx'"):
        find_model("nowhere.onnx")


def test_a_bare_factory_is_answered_with_the_toml_to_write() -> None:
    with pytest.raises(UsageError) as raised:
        find_model("my.nets:small")

    assert 'factory = "my.nets:small"' in str(raised.value)
    assert "[[inputs]]" in str(raised.value)


def test_the_toml_that_is_proposed_for_a_factory_is_valid(catalog: Path) -> None:
    with pytest.raises(UsageError) as raised:
        find_model("my.nets:small")

    written(catalog, str(raised.value).partition("\n\n")[2], "small")

    assert find_model("small").spec.inputs[0].shape == (1, 3, 224, 224)


def test_paths_are_relative_to_the_toml(catalog: Path) -> None:
    path = written(
        catalog,
        GOOD.replace('network = "resnet18"', 'network = "resnet18"\nweights = "w.safetensors"')
        + 'data = { kind = "file", path = "x.npy" }\n\n[calibration]\nfiles = { images = "c.npy" }\n',
    )
    for name in ("w.safetensors", "x.npy", "c.npy"):
        (path.parent / name).write_bytes(b"")

    spec = find_model("net").spec

    folder = path.resolve().parent
    assert isinstance(spec.source, BuiltinSource)
    assert spec.source.weights == str(folder / "w.safetensors")
    assert spec.inputs[0].data == FileData(path=str(folder / "x.npy"))
    assert spec.calibration.files == {"images": str(folder / "c.npy")}


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "says"),
    [
        ("schema = 1", "schema = 2", 1, "schema", "newer version"),
        ("schema = 1", "schema = 0", 1, "schema", "version 0 is not known"),
        ('name = "net"', 'name = "other"', 2, "name", "not its folder's name"),
        ('name = "net"', 'name = "a/b"', 2, "name", "characters"),
        ("resnet18", "resnet81", 7, "source.network", "no built-in network 'resnet81'"),
        ('network = "resnet18"', 'netwrk = "resnet18"', 7, "source.netwrk", "did you mean 'network'"),
        ('kind = "builtin"', 'kind = "magic"', 6, "source.kind", "'magic' is not known"),
        ("[1, 3, 224, 224]", "[2, 3, 224, 224]", 11, "inputs[0].shape", "a batch of 2"),
        ("[1, 3, 224, 224]", "[1, 0, 224, 224]", 11, "inputs[0].shape", "positive"),
        ("[1, 3, 224, 224]", "[]", 11, "inputs[0].shape", "positive"),
        ("[1, 3, 224, 224]", '[1, 3, 224, 224]\ndtype = "float31"', 12, "inputs[0].dtype", "'float31' is not known"),
        ("[1, 3, 224, 224]", '[1, 3, 224, 224]\ndtype = "int32"', 9, "inputs[0].data", "normal distribution"),
        (
            "[1, 3, 224, 224]",
            '[1, 3, 224, 224]\ndata = { kind = "uniform", low = 1, high = 1 }',
            12,
            "inputs[0].data",
            "not below",
        ),
        (
            "[1, 3, 224, 224]",
            '[1, 3, 224, 224]\ndata = { kind = "normal", std = 0 }',
            12,
            "inputs[0].data.std",
            "not positive",
        ),
        (
            "[1, 3, 224, 224]",
            '[1, 3, 224, 224]\ndata = { kind = "file", path = "x.npy" }',
            12,
            "inputs[0].data.path",
            "no file",
        ),
        ("title", "check_samples = 0\ntitle", 3, "check_samples", "less than 1"),
        (
            '"resnet18"',
            '"resnet18"\narguments = { classes = 3 }',
            8,
            "source.arguments.classes",
            "not an argument",
        ),
        (
            '"resnet18"',
            '"resnet18"\narguments = { num_classes = -1 }',
            8,
            "source.arguments.num_classes",
            "-1 is not a number of classes",
        ),
        ('"resnet18"', '"resnet18"\nweights = "w.pt"', 8, "source.weights", "no file"),
    ],
)
def test_a_wrong_key_is_named_with_file_and_line(
    catalog: Path, old: str, new: str, line: int, key: str, says: str
) -> None:
    path = written(catalog, GOOD.replace(old, new, 1))

    with pytest.raises(BadSetting, match=says) as raised:
        find_model("net")

    error = raised.value
    assert (Path(error.file), error.line, error.key) == (path, line, key)


def test_a_second_input_of_the_same_name_is_refused(catalog: Path) -> None:
    written(catalog, GOOD + '\n[[inputs]]\nname = "images"\nshape = [1, 4]\n')

    with pytest.raises(BadSetting, match="twice") as raised:
        find_model("net")

    assert (raised.value.line, raised.value.key) == (14, "inputs[1].name")


def test_a_module_without_inputs_is_refused(catalog: Path) -> None:
    written(catalog, GOOD.partition("[[inputs]]")[0])

    with pytest.raises(BadSetting, match="a module in Python does not say what it takes"):
        find_model("net")


def test_calibration_data_of_an_unknown_input_are_refused_with_the_known_ones(catalog: Path) -> None:
    written(catalog, GOOD + '\n[calibration.files]\npictures = "c.npy"\n')

    with pytest.raises(BadSetting, match="not an input") as raised:
        find_model("net")

    assert (raised.value.line, raised.value.allowed) == (14, ("images",))


def test_a_ready_file_needs_no_inputs(catalog: Path) -> None:
    path = written(catalog, 'schema = 1\nname = "net"\n\n[source]\nkind = "onnx"\npath = "net.onnx"\n')
    (path.parent / "net.onnx").write_bytes((DATA / "tiny.onnx").read_bytes())

    assert find_model("net").spec.source == OnnxSource(path=str(path.resolve().parent / "net.onnx"))


def test_the_file_of_a_factory_is_found_without_importing_its_package(tmp_path: Path) -> None:
    package = tmp_path / "sealed"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')", encoding="utf-8")
    (package / "nets.py").write_text("", encoding="utf-8")
    sys.path.insert(0, str(tmp_path))
    try:
        assert python_file("sealed.nets:small") == package / "nets.py"
        assert python_file("sealed.missing:small") is None
    finally:
        sys.path.remove(str(tmp_path))


def test_the_catalog_imports_no_framework() -> None:
    code = (
        "import sys\n"
        "from harness.catalog.models import list_models\n"
        "import harness.catalog.checkpoint, harness.convert.convert, harness.convert.child, harness.catalog.child\n"
        "assert list_models()\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'tensorflow', 'ai_edge_litert', 'litert_torch'}\n"
        "print(' '.join(heavy & set(sys.modules)))\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_a_toml_of_another_encoding_is_refused(catalog: Path) -> None:
    path = written(catalog, GOOD)
    path.write_bytes(np.frombuffer(GOOD.encode("utf-16"), dtype=np.uint8).tobytes())

    with pytest.raises(BadSetting, match="UTF-8"):
        find_model("net")
