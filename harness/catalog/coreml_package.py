"""Core ML packages as files: found, read, digested and weighed. What they compute is `ml_program`'s business."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import sys
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.catalog.signature import Signature
from harness.errors import MissingExtra, UnreadableModel
from harness.records import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

_FORMAT = "a Core ML package"
_MANIFEST = "Manifest.json"
_DTYPES = {65552: "float16", 65568: "float32", 65600: "float64", 131104: "int32", 131080: "int8"}
"""ArrayFeatureType.ArrayDataType. Source: coremltools 9.0, mlmodel/format/FeatureTypes.proto."""
_FLOAT16 = 10
"""MILSpec.DataType. Source: coremltools 9.0, mlmodel/format/MIL.proto."""
_INTEGER_WEIGHTS = (
    "constexpr_affine_dequantize",
    "constexpr_blockwise_shift_scale",
    "constexpr_lut_to_dense",
    "constexpr_lut_to_sparse",
    "constexpr_sparse_blockwise_shift_scale",
)
_FOREIGN = ("sklearn", "tensorflow", "torchao", "transformers", "xgboost")
"""What coremltools imports for front ends that are not used here."""
_CONVERSION_DATE = "com.github.apple.coremltools.conversion_date"


def read_spec(path: str | Path) -> Any:  # noqa: ANN401 - protobuf messages are untyped
    """Read the model description, a `CoreML.Specification.Model` message.

    Args:
        path: An `.mlpackage` folder, or an `.mlmodel` file.

    Raises:
        UnreadableModel: It is neither, or is damaged.
        MissingExtra: coremltools is not installed.
    """
    model = _model_file(Path(path))
    message = import_messages().Model()
    try:
        message.ParseFromString(model.read_bytes())
    except (OSError, ValueError, _decode_error()) as error:
        raise UnreadableModel(str(path), _FORMAT, f"{model.name}: {error}") from error
    if message.WhichOneof("Type") is None:
        raise UnreadableModel(str(path), _FORMAT, f"{model.name} describes no model")
    return message


def read_core_ml(path: Path) -> Signature:
    """What a package or neural network says of itself. The number of parameters is None: its weights are not read.

    Raises:
        UnreadableModel: It is damaged, or has an input or output that is no tensor.
        MissingExtra: coremltools is not installed.
    """
    spec = read_spec(path)
    program = _operations(spec)
    stored = {_operation_storage(operation) for operation in program}
    return Signature(
        inputs=tuple(_tensor(path, feature) for feature in spec.description.input),
        outputs=tuple(_tensor(path, feature) for feature in spec.description.output),
        parameters=None,
        storage="integer" if "integer" in stored else "float16" if "float16" in stored else "float32",
    )


def weights_folder(path: str | Path) -> Path:
    """Where a package keeps its weight files. Networks in the older format have none."""
    return _model_file(Path(path)).parent / "weights"


def package_digest(path: str | Path) -> str:
    """A digest of what a package says: the same model converted twice, by the same versions, has the same one.

    The bytes differ each time: the conversion date is in them, the manifest's identifiers are random, and protobuf
    writes maps in any order. Left out are the first two; the third is sorted.

    Args:
        path: An `.mlpackage` folder, or an `.mlmodel` file.

    Returns:
        SHA-256 in hexadecimal.

    Raises:
        UnreadableModel: It is neither, or is damaged.
        MissingExtra: coremltools is not installed.
    """
    message = read_spec(path)
    message.description.metadata.userDefined.pop(_CONVERSION_DATE, None)
    digest = hashlib.sha256()
    parts = [("model", message.SerializeToString(deterministic=True))]
    folder = weights_folder(path)
    parts += [(file.name, file.read_bytes()) for file in sorted(folder.glob("*"))] if folder.is_dir() else []
    for name, content in parts:
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def package_size(path: str | Path) -> int:
    """Bytes of all files of a package."""
    return sum(file.stat().st_size for file in _files(Path(path)))


def package_deflated_size(path: str | Path) -> int:
    """Bytes of all files in a zip, each at zlib level 6, names and headers not counted."""
    total = 0
    for file in _files(Path(path)):
        packer = zlib.compressobj(6)
        with file.open("rb") as stream:
            while piece := stream.read(1 << 20):
                total += len(packer.compress(piece))
        total += len(packer.flush())
    return total


def import_coremltools() -> Any:  # noqa: ANN401
    """Import coremltools in silence, without the frameworks that it would read models of: 3 seconds in place of 12.

    It says through `logging`, at its import, which versions it was not tested with and which of its macOS libraries are
    missing.

    Raises:
        MissingExtra: coremltools is not installed.
    """
    import logging  # noqa: PLC0415
    import warnings  # noqa: PLC0415

    for name in ("coremltools", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
    _need_coremltools()
    with warnings.catch_warnings(), _hidden(_FOREIGN):
        warnings.simplefilter("ignore")
        return importlib.import_module("coremltools")


@contextmanager
def _hidden(names: tuple[str, ...]) -> Iterator[None]:
    """Make packages that nobody has imported yet look as if they were not installed."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is how Python itself spells "not there"
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def _operations(spec: Any) -> Iterator[Any]:  # noqa: ANN401
    """Of all functions of an ML Program; a neural network has none."""
    for function in spec.mlProgram.functions.values():
        yield from function.block_specializations[function.opset].operations


def _operation_storage(operation: Any) -> str:  # noqa: ANN401
    """`integer` for one that makes weights of integers, `float16` for weights in half precision, else ""."""
    if operation.type in _INTEGER_WEIGHTS:
        return "integer"
    stored = operation.type == "const" and operation.attributes["val"].WhichOneof("value") == "blobFileValue"
    is_half = any(output.type.tensorType.dataType == _FLOAT16 for output in operation.outputs)
    return "float16" if is_half and (stored or operation.type.startswith("constexpr_")) else ""


def _tensor(path: Path, feature: Any) -> TensorSpec:  # noqa: ANN401
    array = feature.type.multiArrayType
    if feature.type.WhichOneof("Type") != "multiArrayType" or array.dataType not in _DTYPES:
        problem = f"{feature.name!r} is no tensor of a type that is known here; images have to be converted as tensors"
        raise UnreadableModel(str(path), _FORMAT, problem)
    return TensorSpec(name=feature.name, shape=tuple(int(size) for size in array.shape), dtype=_DTYPES[array.dataType])


def _model_file(path: Path) -> Path:
    if path.is_file():
        return path
    manifest = path / _MANIFEST
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        entry = content["itemInfoEntries"][content["rootModelIdentifier"]]
        model = path / "Data" / str(entry["path"])
    except FileNotFoundError:
        raise UnreadableModel(str(path), _FORMAT, f"there is no {_MANIFEST} in it") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableModel(str(path), _FORMAT, f"{_MANIFEST}: {type(error).__name__}: {error}") from error
    if not model.is_file() or not model.resolve().is_relative_to(path.resolve()):
        raise UnreadableModel(str(path), _FORMAT, f"{_MANIFEST} names {entry['path']}, which is not there")
    return model


def _files(path: Path) -> Iterator[Path]:
    return iter([path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file()))


def import_messages() -> ModuleType:
    """Import coremltools' `proto.Model_pb2` without the rest of coremltools: 0.05 s in place of 3 to 12."""
    if "coremltools" in sys.modules:
        return importlib.import_module("coremltools.proto.Model_pb2")
    alias = "_coremltools_proto"
    if alias not in sys.modules:
        folder = _need_coremltools() / "proto"
        found = importlib.util.spec_from_file_location(
            alias, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert found is not None
        assert found.loader is not None
        package = importlib.util.module_from_spec(found)
        sys.modules[alias] = package
        found.loader.exec_module(package)
    return importlib.import_module(f"{alias}.Model_pb2")


def _need_coremltools() -> Path:
    found = importlib.util.find_spec("coremltools")
    if found is None or found.origin is None:
        raise MissingExtra("coremltools", "Core ML", "coreml")
    return Path(found.origin).parent


def _decode_error() -> type[Exception]:
    error: type[Exception] = importlib.import_module("google.protobuf.message").DecodeError
    return error
