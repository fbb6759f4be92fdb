"""The process in which a file is converted, and the one in which it is proved. Started by `harness.convert.convert`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import msgspec
import numpy as np

from harness.catalog.coreml_package import package_deflated_size, package_digest, package_size
from harness.catalog.data import arrays_of
from harness.catalog.execute import run_coreml, run_onnx, run_tflite
from harness.catalog.files import read_signature
from harness.catalog.modules import flat, load_module
from harness.convert import to_coreml, to_onnx, to_tflite
from harness.convert.half_precision import half_precision_error
from harness.convert.likeness import difference
from harness.errors import ConversionFailed, Unsupported
from harness.jobs import serve
from harness.parity import beyond, compare, require, tolerance_for
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
    Tolerance,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from harness.catalog.ml_program import Program, Storage

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
    plain: str | None = None
    """The Core ML package that this compressed one was made of."""


class Proved(Record, frozen=True, kw_only=True):
    """What proving a file found."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parity: Parity
    deflated_bytes: int


_UNJUDGED = Tolerance(relative_l2=None, cosine=None)


class CheckRequest(Record, frozen=True, kw_only=True, tag_field="job", tag="check"):
    """Read a package back, and run it beside a checkpoint."""

    path: str
    checkpoint: Checkpoint | None
    spec: ModelSpec | None
    plain: str | None = None
    """The checkpoint as coreml/fp16, for a package whose weights are too coarse to be judged by outputs."""


class Checked(Record, frozen=True, kw_only=True):
    """What is known of a package that was read back."""

    path: str
    evidence: Evidence
    """`graph-checked` after a comparison that passed and that a wrong weight would have failed, else `converted`."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operations: dict[str, int]
    """Type -> how many there are, constants left out."""
    stored: dict[str, float]
    """Kind -> share of the weights' elements that is stored so."""
    zero_fraction: float
    size_bytes: int
    deflated_bytes: int
    sha256: str
    """Of what the package says; two conversions of one model have the same."""
    parity: Parity | None
    """None where there was no checkpoint to compare with."""
    is_against_itself: bool = False
    """Its original is a Core ML package, too: what the evaluator computes of both proves nothing of either."""
    unlike: str | None = None
    """What a package with coarse weights has other than the checkpoint as coreml/fp16, beyond their rounding."""


Request: TypeAlias = ConvertRequest | ProveRequest | CheckRequest


def main() -> None:
    """Read one request, answer it: a conversion with `Converted`, a proof with `Proved`, a check with `Checked`."""
    serve(Request, _do)


def _do(request: Request) -> Proved | Converted | Checked:
    if isinstance(request, ProveRequest):
        return _prove(request)
    if isinstance(request, CheckRequest):
        return _check(request)
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
            arrays_of(checkpoint, "inputs"),
            [tensor.name for tensor in checkpoint.outputs],
            path,
            opset=int(request.settings["opset"]),
        )
    elif request.precision in {"fp32", "source"}:
        to_onnx.fix_shapes(Path(request.source), checkpoint.inputs, path)
    elif request.precision == "fp16":
        to_onnx.to_fp16(Path(request.source), path, keep_io_types=bool(request.settings["keep_io_types"]))
    else:
        to_onnx.to_int8(Path(request.source), path, arrays_of(checkpoint, "calibration"), request.settings)


def _to_tflite(request: ConvertRequest) -> None:
    checkpoint, path = request.checkpoint, Path(request.path)
    if request.source is not None:
        calibration = arrays_of(checkpoint, "calibration") if request.precision == "int8" else {}
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
        to_tflite.export_torch(module, arrays_of(checkpoint, "inputs"), path, outputs=len(checkpoint.outputs))


def _to_coreml(request: ConvertRequest) -> dict[str, Setting]:
    """Make the package; returns how it stores its weights, read back from it."""
    path, settings = Path(request.path), request.settings
    if request.source is None:
        module = flat(load_module(request.spec, request.checkpoint))
        inputs = arrays_of(request.checkpoint, "inputs")
        outputs = [tensor.name for tensor in request.checkpoint.outputs]
        if settings["kind"] == "neuralnetwork":
            made = to_coreml.export_neural_network(module, inputs, outputs, path)
            return {
                "front_end": made.front_end,
                "specification": made.specification_version,
                "stored": _said(to_coreml.require_network_stored(path)),
            }
        precision: Literal["fp32", "fp16"] = "fp16" if request.precision == "fp16" else "fp32"
        target = cast("to_coreml.Target", settings["target"])
        made = to_coreml.export_torch(module, inputs, outputs, path, precision=precision, target=target)
        found: dict[str, Setting] = {"front_end": made.front_end, "specification": made.specification_version}
        return found | storage_facts(to_coreml.require_stored(path, precision))
    source = Path(request.source)
    if request.precision == "int8_weights":
        storage = to_coreml.quantize(source, path)
    elif request.precision == "sparse":
        storage = to_coreml.store_sparse(source, path)
    else:
        storage = to_coreml.palettize(source, path, bits=int(settings["bits"]))
    what = f"{request.spec.name} as coreml/{request.precision}"
    _require_decompression(path, arrays_of(request.checkpoint, "inputs"), what)
    return storage_facts(storage)


def _require_like(path: Path, plain: Path, precision: Precision, what: str) -> None:
    """Compare a compressed package with the one that it was made of: only weights may differ, and only by rounding.

    Raises:
        ConversionFailed: Something else does.
    """
    from harness.catalog.ml_program import Program  # noqa: PLC0415

    problem = difference(Program.load(path), Program.load(plain), precision)
    if problem is not None:
        problem = f"{what} is more than a compressed coreml/fp16: it has {problem}"
        error = ConversionFailed("", "failed", problem, "")
        error.hint = "Use coreml/fp16."
        raise error


def _require_decompression(path: Path, inputs: _Arrays, what: str) -> None:
    """Compare a compressed package with the plain one that coremltools makes of it: two readers of the same weights.

    Raises:
        ParityFailed: They compute different outputs.
    """
    inputs = {name: values[:1] for name, values in inputs.items()}
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / path.name
        to_coreml.decompress(path, plain)
        declared = read_signature(plain, "coreml").inputs
        expected, by = run_coreml(plain, inputs, declared)
        found, _ = run_coreml(path, inputs, declared)
    tolerance = tolerance_for("coreml", "fp16")
    parity = compare(found, expected, tolerance=tolerance, executed_by=by, reference="the same, decompressed")
    require(
        parity,
        f"{what}, beside its own weights decompressed,",
        advice="coremltools decompresses its weights to others than the evaluator does. Use coreml/fp16.",
    )


def storage_facts(storage: Storage) -> dict[str, Setting]:
    """How a package stores its weights, as settings of its conversion."""
    return {"stored": _said(storage.shares), "zero_fraction": round(storage.zero_fraction, 6)}


def _said(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{kind} {share:.1%}" for kind, share in shares.items()) or "no weights"


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
    inputs, reference = arrays_of(checkpoint, "inputs"), arrays_of(checkpoint, "reference")
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
        if request.plain is not None:
            _require_like(path, Path(request.plain), request.precision, f"{request.spec.name} as {path.name}")
        found, executed_by = run_coreml(path, inputs, declared)
        # A ready package has no original but itself: that it computes what it computes proves nothing.
        evidence = "converted" if checkpoint.form == "coreml" else "graph-checked"
        np.savez(path.with_name(COMPUTED), **found)  # type: ignore[arg-type]  # its stub takes the arrays for an option
    else:
        found, executed_by = run_tflite(path, inputs, declared, signature.outputs, delegated=True)
    tolerance = tolerance_for(request.format, request.precision, stored_as=signature.storage)
    if request.format == "coreml" and request.precision in {"fp16", "sparse"}:
        tolerance = _limit_of_half(request.spec, checkpoint)
    has_own_limit = tolerance != _UNJUDGED
    parity = compare(
        found,
        reference,
        tolerance=tolerance if has_own_limit else _LEAST_LIKE,
        executed_by=executed_by,
        reference=checkpoint.reference,
        task=request.spec.task,
    )
    if parity.passed and not has_own_limit:
        tolerance = beyond(parity, step=tolerance_for(request.format, "fp16"))
        parity = msgspec.structs.replace(parity, tolerance=tolerance)
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


def _check(request: CheckRequest) -> Checked:
    from harness.catalog.ml_program import Program, storage_of  # noqa: PLC0415

    path = Path(request.path)
    program = Program.load(path)
    for problem in program.problems():
        raise problem
    if program.others:
        names = ", ".join(program.others)
        raise Unsupported("program", path.name, None, f"it has further functions ({names}), which would go unchecked")
    storage = storage_of(path)
    parity, unlike = None, None
    evidence: Evidence = "converted"
    is_against_itself = request.checkpoint is not None and request.checkpoint.form == "coreml"
    if request.checkpoint is not None and request.spec is not None:
        inputs = arrays_of(request.checkpoint, "inputs")
        if _is_compressed(storage):
            _require_decompression(path, inputs, path.name)
        if _coarse(storage):
            unlike = _unlike(program, storage, request.plain)
        found, executed_by = run_coreml(path, inputs, program.inputs)
        parity = compare(
            found,
            arrays_of(request.checkpoint, "reference"),
            tolerance=_tolerance_of(storage, request.spec, request.checkpoint),
            executed_by=executed_by,
            reference=request.checkpoint.reference,
            task=request.spec.task,
        )
        evidence = "converted" if unlike or is_against_itself else "graph-checked"
        parity = msgspec.structs.replace(parity, evidence=evidence)
    return Checked(
        path=request.path,
        evidence=evidence if parity is not None and parity.passed else "converted",
        inputs=program.inputs,
        outputs=program.outputs,
        operations=program.op_counts(),
        stored=dict(storage.shares),
        zero_fraction=storage.zero_fraction,
        size_bytes=package_size(path),
        deflated_bytes=package_deflated_size(path),
        sha256=package_digest(path),
        parity=parity,
        is_against_itself=is_against_itself,
        unlike=unlike,
    )


COMPUTED = "computed.npz"
"""Beside a Core ML package: what the evaluator makes of the model's inputs, for whoever runs the very file."""
_HALVES = 2
"""How many times as far off as its own model in half precision a package may be. What was measured is 0.6 (MobileNetV2)
to 1.2 (MobileNetV3 small, whose package keeps one sixth in fp16 for each hard sigmoid)."""
_LEAST_HALF = 2e-3
"""Four roundings of a number to half precision: a shallow model may be nearer than that by luck."""
_FEWEST_NUMBERS = 64
"""Of an output, over all samples. The roundings of fewer do not even out: one score is twice as far off as another."""
_LEAST_LIKE = Tolerance(relative_l2=1.0, cosine=0.5)
"""For weights so coarse that no limit can be told beforehand. A relative L2 of 1 is what answering zero would give; the
worst of ours, 4 bits of an untrained EfficientNet-Lite0, has 0.78."""


def _limit_of_half(spec: ModelSpec, checkpoint: Checkpoint) -> Tolerance:
    """How far a package in fp16 may be from its model: as far as this very model is in half precision, with a margin.

    The limit for any model lets a shallow one lose a layer's bias: SqueezeNet is off by 0.0005, the limit is 0.05.
    """
    for_any = tolerance_for("coreml", "fp16")
    if min(values.size for values in arrays_of(checkpoint, "reference").values()) < _FEWEST_NUMBERS:
        return for_any
    own = half_precision_error(spec, checkpoint)
    if own is None or for_any.relative_l2 is None:
        return for_any
    limit = min(for_any.relative_l2, max(_HALVES * own, _LEAST_HALF))
    return msgspec.structs.replace(for_any, relative_l2=limit)


def _tolerance_of(storage: Storage, spec: ModelSpec, checkpoint: Checkpoint) -> Tolerance:
    """By which limits a package is judged: those of the coarsest kind of weight in it, as it was read back."""
    parts = _parts(storage)
    if any(part.startswith("palette") or part in _COARSE for part in parts):
        return _LEAST_LIKE
    if parts & {"int8", "uint8"}:
        return tolerance_for("coreml", "int8_weights")
    return _limit_of_half(spec, checkpoint) if parts & {"fp16", "sparse"} else tolerance_for("coreml", "fp32")


def _unlike(program: Program, storage: Storage, plain: str | None) -> str | None:
    """What keeps a package from being the model's own coreml/fp16 with coarser weights; outputs could not tell."""
    from harness.catalog.ml_program import Program  # noqa: PLC0415

    if plain is None:
        return "none could be made of this model"
    coarse = sorted(_coarse(storage))
    precision = _PRECISIONS.get(coarse[0]) if len(coarse) == 1 else None
    if precision is None:
        return f"weights of {', '.join(coarse)}, whose rounding is not known"
    return difference(program, Program.load(plain), precision)


_PRECISIONS: dict[str, Precision] = {
    "int8": "int8_weights",
    "palette4": "palette4",
    "palette6": "palette6",
    "palette8": "palette8",
}
_COARSE = {f"{kind}{bits}" for kind in ("int", "uint") for bits in range(1, 8)}


def _coarse(storage: Storage) -> set[str]:
    """Kinds of weight with which outputs are too far from the model's to show that one is wrong."""
    return _parts(storage) - {"fp16", "fp32", "sparse"}


def _is_compressed(storage: Storage) -> bool:
    return bool(_parts(storage) - {"fp16", "fp32"})


def _parts(storage: Storage) -> set[str]:
    """`sparse+palette4` is both."""
    return {part for kind in storage.shares for part in kind.split("+")}


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
            # Core ML computes it in half precision wherever it does not compute on the CPU, whatever the weights are.
            tolerance=tolerance_for(request.format, "fp16"),
            outputs=(),
            passed=None,
            evidence="converted",
        ),
        deflated_bytes=package_deflated_size(Path(request.path)),
    )


if __name__ == "__main__":
    main()
