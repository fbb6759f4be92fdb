"""Keras files and SavedModel folders, read with TensorFlow. For child processes only."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.catalog.execute import stacked
from harness.catalog.signature import UNKNOWN_DIMENSION
from harness.errors import UnreadableModel
from harness.records import TensorSpec
from harness.workspace import sha256_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

KERAS_FILE = "model.keras"
SAVED_MODEL = "saved_model"


class KerasModel:
    """A model as TensorFlow sees it.

    Attributes:
        inputs: In the order of the model's signature.
        sha256: Of the file, or of all files of the folder with their names.
        executed_by: What computes `run`.
    """

    def __init__(self, path: Path) -> None:
        """Load a `.keras` file or a SavedModel folder.

        Raises:
            UnreadableModel: TensorFlow refuses it.
        """
        import tensorflow as tf  # noqa: PLC0415

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        self.path = path
        self.executed_by = f"TensorFlow {tf.__version__}, fp32, 1 thread"
        self.sha256 = sha256_file(path) if path.is_file() else _sha256_folder(path)
        self._tf = tf
        try:
            self._call, self.inputs = self._keras() if path.is_file() else self._saved_model()
        except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
            form = "a Keras file" if path.is_file() else "a SavedModel"
            raise UnreadableModel(str(path), form, str(error).splitlines()[0] if str(error) else "") from error

    @property
    def parameters(self) -> int:
        """Elements of all trainable and fixed weights."""
        return int(sum(np.prod(weight.shape) for weight in self._weights))

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Run it once per sample. Maps input name -> `[samples, ...]` to output name -> `[samples, ...]`."""
        runs: list[dict[str, NDArray[np.generic]]] = []
        for index in range(len(next(iter(inputs.values())))):
            result = self._call({name: self._tf.constant(values[index : index + 1]) for name, values in inputs.items()})
            runs.append({name: np.asarray(value) for name, value in result.items()})
        return {name: stacked(name, [run[name] for run in runs]) for name in runs[0]}

    def copy_to(self, folder: Path) -> None:
        """Put a copy into a checkpoint's folder."""
        if self.path.is_file():
            shutil.copyfile(self.path, folder / KERAS_FILE)
        else:
            shutil.copytree(self.path, folder / SAVED_MODEL)

    def _keras(self) -> tuple[Any, tuple[TensorSpec, ...]]:
        # safe_mode: a .keras file may carry Python code, which is not ours to run.
        model = self._tf.keras.models.load_model(self.path, compile=False, safe_mode=True)
        self._weights = model.weights
        names = [tensor.name for tensor in model.inputs]
        outputs = list(model.output_names)

        def call(named: Mapping[str, Any]) -> dict[str, Any]:
            result = model([named[name] for name in names], training=False)
            values = result if isinstance(result, list | tuple) else [result]
            return dict(result) if isinstance(result, dict) else dict(zip(outputs, values, strict=True))

        return call, tuple(_tensor(t.name, t.shape, t.dtype) for t in model.inputs)

    def _saved_model(self) -> tuple[Any, tuple[TensorSpec, ...]]:
        loaded = self._tf.saved_model.load(str(self.path))
        # Held, or its variables are collected while the function still needs them.
        self._loaded = loaded
        function = loaded.signatures["serving_default"]
        self._weights = function.graph.variables
        _, named = function.structured_input_signature
        tensors = tuple(_tensor(name, spec.shape, spec.dtype.name) for name, spec in named.items())
        return (lambda values: function(**values)), tensors


def _tensor(name: str, shape: Any, dtype: str) -> TensorSpec:  # noqa: ANN401  (a TensorShape or a tuple)
    sizes = tuple(UNKNOWN_DIMENSION if size is None else int(size) for size in shape)
    return TensorSpec(name=name, shape=sizes, dtype=dtype)


def _sha256_folder(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(folder).as_posix()} {sha256_file(path)}\n".encode())
    return digest.hexdigest()
