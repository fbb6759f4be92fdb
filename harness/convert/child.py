"""The process in which a file is converted, and the one in which it is proved. Started by `harness.convert.convert`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import msgspec
import numpy as np

from harness.catalog.coreml_package import package_deflated_size
from harness.catalog.execute import run_coreml, run_onnx, run_tflite
from harness.catalog.files import read_signature
from harness.catalog.modules import flat, load_module
from harness.convert import to_coreml, to_onnx, to_tflite
from harness.errors import ConversionFailed
from harness.jobs import serve
from harness.parity import compare, tolerance_for
from harness.records import (
    Checkpoint,
    Evidence,
    ModelFormat,
    ModelSpec,
    Parity,
    Precision,
    Record,
    Setting,
    TensorSpec,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from harness.catalog.ml_program import Storage

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


class Converted(Record, frozen=True, kw_only=True):
    """What making a file found out about it."""

    found: dict[str, Setting] = {}  # noqa: RUF012  (msgspec copies it)


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
    """Read one request, answer it: a conversion with `Converted`, a proof with `Proved`."""
    serve(Request, _do)


def _do(request: Request) -> Proved | Converted:
    if isinstance(request, ProveRequest):
        return _prove(request)
    if request.format == "coreml":
        return Converted(found=_to_coreml(request))
    if request.format == "onnx":
        _to_onnx(request)
    else:
        _to_tflite(request)
    _require_precision(request)
    return Converted()


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


def _to_coreml(request: ConvertRequest) -> dict[str, Setting]:
    """Make the package; returns how it stores its weights, read back from it."""
    path, settings = Path(request.path), request.settings
    if request.source is None:
        module = flat(load_module(request.spec, request.checkpoint))
        inputs = _arrays(request.checkpoint, "inputs")
        outputs = [tensor.name for tensor in request.checkpoint.outputs]
        if settings["kind"] == "neuralnetwork":
            made = to_coreml.export_neural_network(module, inputs, outputs, path)
            return {"front_end": made.front_end, "specification": made.specification_version}
        precision: Literal["fp32", "fp16"] = "fp16" if request.precision == "fp16" else "fp32"
        target = cast("to_coreml.Target", settings["target"])
        made = to_coreml.export_torch(module, inputs, outputs, path, precision=precision, target=target)
        found: dict[str, Setting] = {"front_end": made.front_end, "specification": made.specification_version}
        return found | storage_facts(to_coreml.require_stored(path, precision))
    source = Path(request.source)
    if request.precision == "int8_weights":
        return storage_facts(to_coreml.quantize(source, path))
    if request.precision == "sparse":
        return storage_facts(to_coreml.store_sparse(source, path))
    return storage_facts(to_coreml.palettize(source, path, bits=int(settings["bits"])))


def storage_facts(storage: Storage) -> dict[str, Setting]:
    """How a package stores its weights, as settings of its conversion."""
    shares = ", ".join(f"{kind} {share:.1%}" for kind, share in storage.shares.items())
    return {"stored": shares or "no weights", "zero_fraction": round(storage.zero_fraction, 6)}


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
    evidence: Evidence | None = None
    if request.format == "onnx":
        found, executed_by = run_onnx(path, inputs, declared, optimized=True)
    elif request.format == "coreml":
        if path.suffix == ".mlmodel":
            return _not_computed(request, declared, signature.outputs)
        found, executed_by = run_coreml(path, inputs, declared)
        evidence = "graph-checked"
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
    parity = msgspec.structs.replace(parity, evidence=evidence)
    return Proved(
        inputs=declared,
        outputs=tuple(
            msgspec.structs.replace(tensor, shape=(1, *values.shape[1:]))
            for tensor, values in zip(signature.outputs, found.values(), strict=True)
        ),
        parity=parity,
        deflated_bytes=package_deflated_size(path),
    )


def _not_computed(request: ProveRequest, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Proved:
    """A neural network of the older kind, which nothing here computes: the timed process is the first to check it."""
    return Proved(
        inputs=inputs,
        outputs=tuple(
            msgspec.structs.replace(tensor, shape=wanted.shape)
            for tensor, wanted in zip(outputs, request.checkpoint.outputs, strict=True)
        ),
        parity=Parity(
            executed_by="nobody: a neural network of the older kind, which only Core ML computes",
            reference=request.checkpoint.reference,
            samples=0,
            tolerance=tolerance_for(request.format, request.precision),
            outputs=(),
            passed=True,
            evidence="converted",
        ),
        deflated_bytes=package_deflated_size(Path(request.path)),
    )


def _arrays(checkpoint: Checkpoint, name: str) -> dict[str, NDArray[np.generic]]:
    with np.load(Path(checkpoint.folder) / f"{name}.npz", allow_pickle=False) as stored:
        return dict(stored)


if __name__ == "__main__":
    main()
