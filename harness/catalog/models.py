"""Find a model by name, file or factory, and check everything about it that can be checked without loading it."""

from __future__ import annotations

import importlib.machinery
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from harness.catalog.networks import NETWORKS
from harness.errors import BadSetting, UnknownName, UsageError
from harness.records import (
    BuiltinSource,
    CoreMLSource,
    FileData,
    KerasSource,
    ModelSpec,
    NormalData,
    OnnxSource,
    ProgramSource,
    PythonSource,
    TfliteSource,
    UniformData,
)
from harness.settings import bad_setting, read_settings
from harness.workspace import data_dirs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.records import InputSpec, Setting, Source

MODEL_SCHEMA = 1
_FLOATS = ("float32", "float16", "float64")
INPUT_DTYPES = (*_FLOATS, "int8", "uint8", "int16", "int32", "int64", "bool")

_FileSource: TypeAlias = OnnxSource | TfliteSource | CoreMLSource | ProgramSource | KerasSource
_SOURCES: dict[str, type[_FileSource]] = {
    ".onnx": OnnxSource,
    ".tflite": TfliteSource,
    ".mlpackage": CoreMLSource,
    ".pt2": ProgramSource,
    ".keras": KerasSource,
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, kw_only=True)
class FoundModel:
    """A model and where it was found.

    Attributes:
        spec: What its model.toml says, paths made absolute; for a bare file, what follows from its name.
        origin: The model.toml or the file.
    """

    spec: ModelSpec
    origin: str


def find_model(reference: str) -> FoundModel:
    """Find what a user calls a model. Imports no framework.

    Args:
        reference: A catalog name; the path of a model.toml, of an .onnx, .tflite, .mlpackage, .pt2 or .keras
            file or of a SavedModel folder; or `module:factory`.

    Raises:
        UnknownName: Nothing answers to it.
        BadSetting: Its model.toml is wrong.
        UsageError: A bare `module:factory`, whose inputs nobody has described.
    """
    catalogued = _catalog().get(reference)
    if catalogued is not None:
        return _read(catalogued)
    path = Path(reference)
    if path.suffix == ".toml" and path.is_file():
        return _read(path)
    if path.suffix in _SOURCES and (path.is_dir() if path.suffix == ".mlpackage" else path.is_file()):
        return _bare(path, _SOURCES[path.suffix](path=str(path.resolve())))
    if (path / "saved_model.pb").is_file():
        return _bare(path, KerasSource(path=str(path.resolve())))
    if (path / "model.toml").is_file():
        return _read(path / "model.toml")
    if _FACTORY.fullmatch(reference):
        raise _needs_inputs(reference)
    if path.suffix in {*_SOURCES, ".toml"}:
        raise UnknownName("file", reference, ())
    raise UnknownName("model", reference, tuple(_catalog()))


def list_models(left_out: Callable[[BadSetting], None] | None = None) -> tuple[FoundModel, ...]:
    """Every model of the catalog by name, the user's own `models/` first.

    Args:
        left_out: Told of each whose model.toml is wrong, which is then left out; None raises what `find_model` raises.
    """
    found = []
    for path in _catalog().values():
        try:
            found.append(_read(path))
        except BadSetting as error:
            if left_out is None:
                raise
            left_out(error)
    return tuple(found)


def is_model_name(text: str) -> bool:
    """Whether a model, and the folder it is in, may be called so."""
    return _NAME.fullmatch(text) is not None


def _needs_inputs(factory: str) -> UsageError:
    name = factory.rpartition(":")[2]
    return UsageError(
        f"nothing says which inputs the module made by {factory} takes. Write models/{name}/model.toml, "
        f"and ask for {name!r}:\n\n"
        f'schema = 1\nname = "{name}"\n\n'
        f'[source]\nkind = "python"\nfactory = "{factory}"\n\n'
        '[[inputs]]\nname = "images"\nshape = [1, 3, 224, 224]\n'
    )


def python_file(factory: str) -> Path | None:
    """The source file of a factory's module, found without importing anything; None where there is none to see."""
    # importlib.util.find_spec would import the parent packages, and with them half of torch.
    where: list[str] | None = [str(Path.cwd()), *sys.path]
    spec = None
    name = ""
    for part in factory.partition(":")[0].split("."):
        name = f"{name}.{part}" if name else part
        spec = importlib.machinery.PathFinder.find_spec(name, where)
        if spec is None:
            return None
        where = list(spec.submodule_search_locations or ())
    return Path(spec.origin) if spec is not None and spec.origin else None


def _catalog() -> dict[str, Path]:
    """Name to model.toml, in alphabetical order; the user's folder hides a built-in one of the same name."""
    found: dict[str, Path] = {}
    for folder in data_dirs("models"):
        for path in folder.glob("*/model.toml"):
            found.setdefault(path.parent.name, path)
    return dict(sorted(found.items()))


def _bare(path: Path, source: Source) -> FoundModel:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem).strip("-.") or "model"
    return FoundModel(spec=ModelSpec(schema=MODEL_SCHEMA, name=name, source=source), origin=str(path))


def _read(path: Path) -> FoundModel:
    spec = read_settings(path, ModelSpec)
    spec = _with_absolute_paths(spec, path.resolve().parent)
    for location, problem, allowed in _problems(spec, path):
        raise bad_setting(path, location, problem, allowed)
    return FoundModel(spec=spec, origin=str(path))


_Problem = tuple[tuple[str | int, ...], str, tuple[str, ...]]
"""Where in the file, what is wrong there, and what would be right."""


def _problems(spec: ModelSpec, path: Path) -> Iterator[_Problem]:
    if spec.schema != MODEL_SCHEMA:
        newer = "; it was written for a newer version of this program" if spec.schema > MODEL_SCHEMA else ""
        yield ("schema",), f"version {spec.schema} is not known{newer}", (str(MODEL_SCHEMA),)
    if not is_model_name(spec.name):
        yield ("name",), f"{spec.name!r} has characters other than letters, digits, `_`, `-` and `.`", ()
    if path.name == "model.toml" and path.resolve().parent.name != spec.name:
        yield ("name",), f"{spec.name!r} is not its folder's name", (path.resolve().parent.name,)
    yield from _source_problems(spec)
    yield from _input_problems(spec)
    if spec.check_samples < 1:
        yield ("check_samples",), f"{spec.check_samples} is less than 1", ()
    yield from _calibration_problems(spec)


def _source_problems(spec: ModelSpec) -> Iterator[_Problem]:
    source = spec.source
    if isinstance(source, BuiltinSource):
        if source.network not in NETWORKS:
            yield ("source", "network"), f"there is no built-in network {source.network!r}", tuple(NETWORKS)
        yield from _builtin_arguments(source.arguments)
    elif isinstance(source, PythonSource) and not _FACTORY.fullmatch(source.factory):
        yield ("source", "factory"), f"{source.factory!r} is not `package.module:function`", ()
    if isinstance(source, BuiltinSource | PythonSource):
        if not spec.inputs:
            yield ("inputs",), "is missing: a module in Python does not say what it takes", ()
        if source.weights is not None and not Path(source.weights).is_file():
            yield ("source", "weights"), f"there is no file {source.weights}", ()
    elif not Path(source.path).exists():
        yield ("source", "path"), f"there is no file {source.path}", ()


_BUILTIN_ARGUMENTS = {
    "num_classes": "a number of classes",
    "in_channels": "a number of channels",
    "embedding": "a length",
}


def _builtin_arguments(arguments: dict[str, Setting]) -> Iterator[_Problem]:
    for name, value in arguments.items():
        at = ("source", "arguments", name)
        if name not in _BUILTIN_ARGUMENTS:
            yield at, "is not an argument of a built-in network", tuple(_BUILTIN_ARGUMENTS)
        elif not isinstance(value, int) or isinstance(value, bool) or value < (name != "num_classes"):
            yield at, f"{value!r} is not {_BUILTIN_ARGUMENTS[name]}", ()


def _input_problems(spec: ModelSpec) -> Iterator[_Problem]:
    names: set[str] = set()
    for index, tensor in enumerate(spec.inputs):
        at = ("inputs", index)
        if tensor.name in names:
            yield (*at, "name"), f"{tensor.name!r} is there twice", ()
        names.add(tensor.name)
        if not tensor.shape or min(tensor.shape) < 1:
            yield (*at, "shape"), f"{list(tensor.shape)} is not a list of positive sizes", ()
        elif tensor.shape[0] != 1:
            yield (
                (*at, "shape"),
                f"begins with a batch of {tensor.shape[0]}; one inference is one sample",
                ("[1, ...]",),
            )
        if tensor.dtype not in INPUT_DTYPES:
            yield (*at, "dtype"), f"{tensor.dtype!r} is not known", INPUT_DTYPES
        else:
            yield from _data_problems(tensor, (*at, "data"))


def _data_problems(tensor: InputSpec, at: tuple[str | int, ...]) -> Iterator[_Problem]:
    data = tensor.data
    if isinstance(data, UniformData) and not data.low < data.high:
        yield at, f"low ({data.low:g}) is not below high ({data.high:g})", ()
    if isinstance(data, NormalData):
        if data.std <= 0:
            yield (*at, "std"), f"{data.std:g} is not positive", ()
        if tensor.dtype not in _FLOATS:
            yield at, f"a normal distribution has no {tensor.dtype} values", ("uniform", "file")
    if isinstance(data, FileData) and not Path(data.path).is_file():
        yield (*at, "path"), f"there is no file {data.path}", ()


def _calibration_problems(spec: ModelSpec) -> Iterator[_Problem]:
    if spec.calibration.samples < 1:
        yield ("calibration", "samples"), f"{spec.calibration.samples} is less than 1", ()
    names = tuple(tensor.name for tensor in spec.inputs)
    for name, file in spec.calibration.files.items():
        at = ("calibration", "files", name)
        if names and name not in names:
            yield at, "is not an input", names
        if not Path(file).is_file():
            yield at, f"there is no file {file}", ()


def _with_absolute_paths(spec: ModelSpec, folder: Path) -> ModelSpec:
    """Resolve every path against the folder that the model.toml is in."""
    source = spec.source
    if isinstance(source, BuiltinSource | PythonSource):
        if source.weights is not None:
            source = msgspec.structs.replace(source, weights=str(folder / source.weights))
    else:
        source = msgspec.structs.replace(source, path=str(folder / source.path))
    inputs = tuple(
        msgspec.structs.replace(tensor, data=FileData(path=str(folder / tensor.data.path)))
        if isinstance(tensor.data, FileData)
        else tensor
        for tensor in spec.inputs
    )
    files = {name: str(folder / file) for name, file in spec.calibration.files.items()}
    calibration = msgspec.structs.replace(spec.calibration, files=files)
    return msgspec.structs.replace(spec, source=source, inputs=inputs, calibration=calibration)
