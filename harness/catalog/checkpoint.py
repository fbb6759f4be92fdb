"""Source to checkpoint: the weights, the declared inputs, and what the model answers to them. Cached by content."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from filelock import FileLock

from harness.catalog import frameworks
from harness.catalog.child import CheckpointRequest
from harness.catalog.files import READY_SOURCES, read_signature
from harness.catalog.models import python_file
from harness.catalog.modules import load_module
from harness.decoding import decode
from harness.errors import ConversionFailed, MissingExtra, UnreadableModel
from harness.jobs import run_job
from harness.records import (
    BuiltinSource,
    Checkpoint,
    CoreMLSource,
    FileData,
    KerasSource,
    OnnxSource,
    ProgramSource,
    PythonSource,
    TfliteSource,
)
from harness.workspace import cache_dir, folder_in_the_making, sha256_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.records import ModelSpec

__all__ = ["checkpoint_key", "digest", "find_checkpoint", "load_module", "make_checkpoint", "need", "versions"]

_HERE = Path(__file__).resolve().parent
_RECORD = "checkpoint.json"

_PACKAGES = {
    BuiltinSource: ("torch", "safetensors"),
    PythonSource: ("torch", "safetensors"),
    ProgramSource: ("torch",),
    OnnxSource: ("onnxruntime",),
    TfliteSource: ("ai-edge-litert",),
    CoreMLSource: ("coremltools", "torch"),
    KerasSource: ("tensorflow",),
}


def make_checkpoint(spec: ModelSpec, *, timeout_s: float = 900.0) -> Checkpoint:
    """Load a model in a process of its own and store it with its inputs, calibration data and reference outputs.

    A model that was stored before is not loaded again. What makes it another one: any key of its model.toml that
    decides numbers, the bytes of any file it names, the code of a built-in network or of the package a factory is in,
    the version of the framework. Files that a factory reads by itself are not seen: name them as `weights`.

    Args:
        spec: The model, with absolute paths as `find_model` returns it.
        timeout_s: For the whole process; half a minute is usual for a large network.

    Raises:
        MissingExtra: The framework is not installed.
        UnreadableModel: A file is truncated, foreign, or not what its name says.
        WrongInput: The declared inputs do not fit the model.
        NonFiniteOutput: The model answers with NaN or infinity.
        UnknownName: The factory's module or function does not exist.
        ConversionFailed: The model's own code failed, crashed, ran out of memory or of time.
    """
    need_framework(spec)
    folder = _folder(checkpoint_key(spec))
    # The lock saves work only: without it two processes would both make the same folder, and either may win.
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        found = _stored_in(folder)
        if found is not None:
            return found
        with folder_in_the_making(folder) as making:
            checkpoint = _made_in_child(spec, making, timeout_s)
            checkpoint = msgspec.structs.replace(checkpoint, folder=str(folder))
            (making / _RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(checkpoint)))
        return checkpoint


def find_checkpoint(spec: ModelSpec) -> Checkpoint | None:
    """The stored checkpoint, or None where `make_checkpoint` would have to make it. Starts nothing.

    Raises:
        UnreadableModel: A file that the spec names is not there.
    """
    return _stored_in(_folder(checkpoint_key(spec)))


def checkpoint_key(spec: ModelSpec) -> str:
    """A digest of everything that a checkpoint depends on. Reads the files that the spec names.

    Raises:
        UnreadableModel: One of them is not there.
    """
    decides = {
        "name": spec.name,
        "source": spec.source,
        "seed": spec.seed,
        "inputs": spec.inputs,
        "check_samples": spec.check_samples,
        "calibration": spec.calibration,
        "trained": spec.trained,
        "compression": spec.compression,
        "files": {str(path): _sha256(path) for path in _files(spec)},
        "code": [sha256_file(path) for path in _code(spec)],
        "packages": versions(_PACKAGES[type(spec.source)]),
    }
    return digest(msgspec.json.encode(decides))


def digest(content: bytes) -> str:
    """The name of a cache entry: 128 bits of SHA-256, which is beyond any accident."""
    return hashlib.sha256(content).hexdigest()[:32]


def versions(packages: Sequence[str]) -> dict[str, str]:
    """The installed version of each package; the ones that are not installed are left out."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            # tensorflow comes as tensorflow-cpu, too.
            if package == "tensorflow":
                found |= versions(("tensorflow-cpu",))
    return found


def need(module: str, needed_for: str, extra: str) -> None:
    """Check that a package can be imported, without importing it.

    Raises:
        MissingExtra: It is not installed; the error has the pip command.
    """
    if importlib.util.find_spec(module) is None:
        raise MissingExtra(module, needed_for, extra)


def need_framework(spec: ModelSpec) -> None:
    """Check that what loads a model is installed, and that a ready file is one. Starts and imports nothing.

    Raises:
        MissingExtra: The framework is not installed.
        UnreadableModel: A ready file is truncated or foreign.
    """
    source = spec.source
    if isinstance(source, OnnxSource):
        need("onnxruntime", f"{spec.name}, an .onnx file,", "onnxruntime")
        if read_signature(Path(source.path), "onnx").companions:
            need("onnx", f"{spec.name}, an .onnx file with its weights in another,", "onnx")
    elif isinstance(source, TfliteSource):
        read_signature(Path(source.path), "tflite")
        need("ai_edge_litert", f"{spec.name}, a .tflite file,", "litert")
    elif isinstance(source, CoreMLSource):
        need("coremltools", f"{spec.name}, a Core ML package,", "coreml")
        need("torch", f"{spec.name}, a Core ML package,", "torch")
        read_signature(Path(source.path), "coreml")
    elif isinstance(source, KerasSource):
        need("tensorflow", f"{spec.name}, a Keras model,", "keras")
    else:
        need("torch", f"{spec.name}, a PyTorch model,", "torch")
        need("safetensors", f"{spec.name}, a PyTorch model,", "torch")


def _made_in_child(spec: ModelSpec, folder: Path, timeout_s: float) -> Checkpoint:
    request = CheckpointRequest(spec=spec, folder=str(folder))
    try:
        done = run_job(
            "harness.catalog.child",
            request,
            Checkpoint,
            what=f"load {spec.name}",
            timeout_s=timeout_s,
            imports=_imports(spec),
        )
    except ConversionFailed as error:
        if error.cause == "crashed" and isinstance(spec.source, OnnxSource | TfliteSource):
            # A runtime that is brought down by a file it only had to read: the file is at fault.
            form = READY_SOURCES[type(spec.source)]
            raise UnreadableModel(spec.source.path, form, f"its runtime was {error.problem}") from error
        raise
    return done.answer


def _imports(spec: ModelSpec) -> tuple[str, ...]:
    if isinstance(spec.source, KerasSource):
        return ()
    ready = READY_SOURCES.get(type(spec.source))
    return frameworks.RUN[ready] if ready is not None else frameworks.TORCH


def _stored_in(folder: Path) -> Checkpoint | None:
    try:
        checkpoint = decode((folder / _RECORD).read_bytes(), Checkpoint)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError:
        logging.getLogger(__name__).warning("%s is damaged and is made again", folder)
        shutil.rmtree(folder)
        return None
    # The cache may have been moved since.
    return msgspec.structs.replace(checkpoint, folder=str(folder))


def _folder(key: str) -> Path:
    return cache_dir() / "checkpoints" / key


def _files(spec: ModelSpec) -> Iterator[Path]:
    source = spec.source
    if isinstance(source, BuiltinSource | PythonSource):
        if source.weights is not None:
            yield Path(source.weights)
    else:
        path = Path(source.path)
        yield from sorted(inner for inner in path.rglob("*") if inner.is_file()) if path.is_dir() else [path]
        if isinstance(source, OnnxSource):
            yield from (path.parent / name for name in read_signature(path, "onnx").companions)
    for tensor in spec.inputs:
        if isinstance(tensor.data, FileData):
            yield Path(tensor.data.path)
    yield from map(Path, spec.calibration.files.values())


def _code(spec: ModelSpec) -> Iterator[Path]:
    """Our own source files, and the user's, that decide what a checkpoint holds."""
    yield from (_HERE / name for name in ("child.py", "data.py", "execute.py", "keras.py", "modules.py", "widths.py"))
    if isinstance(spec.source, BuiltinSource):
        yield from sorted((_HERE / "networks").glob("*.py"))
    elif isinstance(spec.source, CoreMLSource):
        yield from (_HERE / "coreml_package.py", *sorted((_HERE / "ml_program").rglob("*.py")))
    elif isinstance(spec.source, PythonSource):
        yield from _code_beside(spec.source.factory)


def _code_beside(factory: str) -> Iterator[Path]:
    """The user's source files that a factory may use: all of its package, or all beside a module that has none.

    Too many rather than too few: a change that did not matter costs one conversion, one that was missed would be
    measured under the old weights.
    """
    own = python_file(factory)
    if own is None:
        return
    top = own
    for _ in factory.partition(":")[0].split(".")[1:]:
        top = top.parent
    if own.name == "__init__.py":
        top = top.parent
    if "site-packages" in own.parts:
        yield own  # an installed package changes with its version, which the environment's owner decides
    elif top == own:
        yield from sorted(own.parent.glob("*.py"))
    else:
        yield from sorted(top.rglob("*.py"))


def _sha256(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise UnreadableModel(str(path), path.suffix.lstrip(".") or "a file", error.strerror or str(error)) from error
