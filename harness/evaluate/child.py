"""The process in which a network answers labelled images. Started by `harness.evaluate.evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.catalog.execute import run_coreml, run_onnx, run_tflite
from harness.catalog.modules import load_module, named_outputs
from harness.errors import WrongInput
from harness.jobs import serve
from harness.records import Checkpoint, ModelFormat, ModelSpec, Record, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

_TOGETHER = 256
"""Images in memory at once."""
_BATCH = 32
"""Images that torch computes at once."""


class FileToRun(Record, frozen=True, kw_only=True, tag_field="kind", tag="file"):
    """A converted or ready file."""

    model: str
    path: str
    format: ModelFormat
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class CheckpointToRun(Record, frozen=True, kw_only=True, tag_field="kind", tag="checkpoint"):
    """A checkpoint of a torch module."""

    spec: ModelSpec
    checkpoint: Checkpoint


class AnswerRequest(Record, frozen=True, kw_only=True):
    """What to run, on which images, and the `.npz` for its answers (output name -> `[images, ...]`)."""

    runs: FileToRun | CheckpointToRun
    images: str
    """`.npy`, uint8 `[images, size, size, 3]`."""
    channels: int
    answers: str


class Answered(Record, frozen=True, kw_only=True):
    """What computed the answers."""

    executed_by: str


def main() -> None:
    """Read one `AnswerRequest`, answer with one `Answered`."""
    serve(AnswerRequest, _answer)


def _answer(request: AnswerRequest) -> Answered:
    from harness.catalog.datasets.dataset import normalised  # noqa: PLC0415

    stored = np.load(request.images, mmap_mode="r")
    run = _from_checkpoint(request.runs) if isinstance(request.runs, CheckpointToRun) else _from_file(request.runs)
    parts: list[dict[str, NDArray[np.generic]]] = []
    executed_by = ""
    for start in range(0, len(stored), _TOGETHER):
        answers, executed_by = run(normalised(stored[start : start + _TOGETHER], request.channels))
        parts.append(dict(answers))
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    np.savez(request.answers, **found)  # type: ignore[arg-type]  # its stub takes the arrays for an option
    return Answered(executed_by=executed_by)


def _from_file(file: FileToRun) -> Callable[[NDArray[np.float32]], tuple[Mapping[str, NDArray[np.generic]], str]]:
    """Each image by itself, as the file is deployed."""
    (tensor,) = file.inputs
    path = Path(file.path)

    def run(images: NDArray[np.float32]) -> tuple[Mapping[str, NDArray[np.generic]], str]:
        given: Mapping[str, NDArray[np.generic]] = {tensor.name: _laid_out(images, tensor)}
        if file.format == "onnx":
            return run_onnx(path, given, file.inputs, optimized=True)
        if file.format == "coreml":
            return run_coreml(path, given, file.inputs)
        return run_tflite(path, given, file.inputs, file.outputs, delegated=True)

    return run


def _from_checkpoint(
    runs: CheckpointToRun,
) -> Callable[[NDArray[np.float32]], tuple[Mapping[str, NDArray[np.generic]], str]]:
    import torch  # noqa: PLC0415

    module = load_module(runs.spec, runs.checkpoint)

    def run(images: NDArray[np.float32]) -> tuple[Mapping[str, NDArray[np.generic]], str]:
        with torch.inference_mode():
            parts = [
                {name: value.numpy() for name, value in named_outputs(module(batch)).items()}
                for batch in torch.split(torch.from_numpy(images), _BATCH)
            ]
        answers = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return answers, f"torch {torch.__version__}, CPU, 1 thread"

    return run


def _laid_out(images: NDArray[np.float32], tensor: TensorSpec) -> NDArray[np.float32]:
    """Images as a file takes them: channels first, as torch has them, or last, as TensorFlow has."""
    if tuple(images.shape[1:]) == tensor.shape[1:]:
        return images
    last = np.ascontiguousarray(np.moveaxis(images, 1, -1))
    if tuple(last.shape[1:]) == tensor.shape[1:]:
        return last
    raise WrongInput(tensor.name, f"shape {list(tensor.shape)}", f"images of shape {[1, *images.shape[1:]]}")


if __name__ == "__main__":
    main()
