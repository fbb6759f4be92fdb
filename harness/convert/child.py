"""The process in which a file is converted, and the one in which it is proved. Started by `harness.convert.convert`."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import numpy as np

from harness.catalog.execute import run_onnx, run_tflite
from harness.catalog.files import read_signature
from harness.catalog.modules import flat, load_module
from harness.convert import to_onnx, to_tflite
from harness.errors import ConversionFailed
from harness.jobs import serve
from harness.parity import compare, tolerance_for
from harness.records import Checkpoint, ModelFormat, ModelSpec, Parity, Precision, Record, Setting, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    _Arrays = Mapping[str, NDArray[np.generic]]


class ConvertRequest(Record, frozen=True, kw_only=True, tag_field="job", tag="convert"):
    """Make one file."""

    spec: ModelSpec
    checkpoint: Checkpoint
    format: ModelFormat
    precision: Precision
    settings: dict[str, Setting]
    source: str | None
    """The fp32 file or the ready one to start from; None for torch and Keras."""
    path: str


class ProveRequest(Record, frozen=True, kw_only=True, tag_field="job", tag="prove"):
    """Run one file on the checkpoint's inputs and compare."""

    spec: ModelSpec
    checkpoint: Checkpoint
    format: ModelFormat
    precision: Precision
    path: str


class Proved(Record, frozen=True, kw_only=True):
    """What proving a file found."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parity: Parity
    deflated_bytes: int


Request: TypeAlias = ConvertRequest | ProveRequest


def main() -> None:
    """Read one request, answer it: a conversion with null, a proof with `Proved`."""
    serve(Request, _do)


def _do(request: Request) -> Proved | None:
    if isinstance(request, ProveRequest):
        return _prove(request)
    if request.format == "onnx":
        _to_onnx(request)
    else:
        _to_tflite(request)
    _require_precision(request)
    return None


def _to_onnx(request: ConvertRequest) -> None:
    checkpoint, path = request.checkpoint, Path(request.path)
    if request.source is None:
        to_onnx.export_torch(
            flat(load_module(request.spec, checkpoint)),
            _arrays(checkpoint, "inputs"),
            [tensor.name for tensor in checkpoint.outputs],
            path,
            opset=int(request.settings["opset"]),
        )
    elif request.precision in {"fp32", "source"}:
        to_onnx.fix_shapes(Path(request.source), checkpoint.inputs, path)
    elif request.precision == "fp16":
        to_onnx.to_fp16(Path(request.source), path, keep_io_types=bool(request.settings["keep_io_types"]))
    else:
        to_onnx.to_int8(Path(request.source), path, _arrays(checkpoint, "calibration"), request.settings)


def _to_tflite(request: ConvertRequest) -> None:
    checkpoint, path = request.checkpoint, Path(request.path)
    if request.source is not None:
        calibration = _arrays(checkpoint, "calibration") if request.precision == "int8" else {}
        to_tflite.quantize(Path(request.source), path, request.precision, calibration)
    elif checkpoint.form == "keras":
        to_tflite.convert_keras(
            Path(checkpoint.folder),
            path,
            inputs=[tensor.name for tensor in checkpoint.inputs],
            outputs=[tensor.name for tensor in checkpoint.outputs],
        )
    else:
        module = flat(load_module(request.spec, checkpoint))
        to_tflite.export_torch(module, _arrays(checkpoint, "inputs"), path, outputs=len(checkpoint.outputs))


def _require_precision(request: ConvertRequest) -> None:
    """Refuse a file that its converter left as it was: some do, without a word, where they know no operator in it.

    Raises:
        ConversionFailed: The file stores its weights otherwise than the precision says.
    """
    if request.precision == "source":
        return
    wanted = {"fp32": "float32", "fp16": "float16"}.get(request.precision, "integer")
    found = read_signature(Path(request.path), request.format).storage
    if found != wanted:
        problem = f"nothing in it could be made {request.precision}: the converted file still stores {found} weights"
        raise ConversionFailed("", "unsupported", problem, "")


def _prove(request: ProveRequest) -> Proved:
    path, checkpoint = Path(request.path), request.checkpoint
    signature = read_signature(path, request.format)
    inputs, reference = _arrays(checkpoint, "inputs"), _arrays(checkpoint, "reference")
    if len(signature.inputs) != len(inputs) or len(signature.outputs) != len(reference):
        problem = (
            f"the file has {len(signature.inputs)} inputs and {len(signature.outputs)} outputs, "
            f"the model has {len(inputs)} and {len(reference)}"
        )
        raise ConversionFailed("", "failed", problem, "")
    declared = tuple(
        msgspec.structs.replace(tensor, shape=wanted.shape)
        for tensor, wanted in zip(signature.inputs, checkpoint.inputs, strict=True)
    )
    if request.format == "onnx":
        found, executed_by = run_onnx(path, inputs, declared, optimized=True)
    else:
        found, executed_by = run_tflite(path, inputs, declared, signature.outputs, delegated=True)
    parity = compare(
        found,
        reference,
        tolerance=tolerance_for(request.format, request.precision, stored_as=signature.storage),
        executed_by=executed_by,
        reference=checkpoint.reference,
        task=request.spec.task,
    )
    return Proved(
        inputs=declared,
        outputs=tuple(
            msgspec.structs.replace(tensor, shape=(1, *values.shape[1:]))
            for tensor, values in zip(signature.outputs, found.values(), strict=True)
        ),
        parity=parity,
        deflated_bytes=_deflated_bytes(path),
    )


def _arrays(checkpoint: Checkpoint, name: str) -> dict[str, NDArray[np.generic]]:
    with np.load(Path(checkpoint.folder) / f"{name}.npz", allow_pickle=False) as stored:
        return dict(stored)


def _deflated_bytes(path: Path) -> int:
    """The file's size in a zip: zlib at level 6, a megabyte at a time."""
    packer = zlib.compressobj(6)
    size = 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            size += len(packer.compress(piece))
    return size + len(packer.flush())


if __name__ == "__main__":
    main()
