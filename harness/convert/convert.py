"""Checkpoint to artifact: converted in a process of its own, proved in another, cached by content."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from filelock import FileLock

from harness.catalog import frameworks
from harness.catalog.checkpoint import digest, find_checkpoint, need, versions
from harness.catalog.coreml_package import package_digest, package_size, read_spec
from harness.catalog.data import arrays_of
from harness.catalog.files import READY_SOURCES, read_signature
from harness.convert.apple_system import kind_for, target_of, why_not_on, why_too_new
from harness.convert.child import COMPUTED, Checked, CheckRequest, Converted, ConvertRequest, Proved, ProveRequest
from harness.convert.recipes import CONVERTERS, RUNTIMES, SETTINGS, base_of
from harness.decoding import decode
from harness.errors import (
    ConversionFailed,
    HarnessError,
    MissingExtra,
    NonFiniteOutput,
    ParityFailed,
    UnreadableModel,
    Unsupported,
    UsageError,
)
from harness.jobs import run_job
from harness.matrix import PRECISIONS
from harness.parity import require, tolerance_for
from harness.records import Artifact, Conversion, CoreMLSource, KerasSource, OnnxSource, TfliteSource
from harness.workspace import cache_dir, folder_in_the_making, sha256_file, sha256_tree

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from harness.jobs import Done
    from harness.records import Checkpoint, ModelFormat, ModelSpec, Precision, Setting, Tolerance

_HERE = Path(__file__).resolve().parent
_RECORD = "artifact.json"


def why_not(
    spec: ModelSpec, model_format: ModelFormat, precision: Precision, *, system: str | None = None
) -> str | None:
    """Why this artifact cannot exist, or None. Imports no framework and starts nothing.

    Args:
        spec: The model.
        model_format: Of the file.
        precision: Of the file.
        system: Of the device that has to load it; matters for Core ML only. See `apple_system.target_of`.

    Raises:
        UnreadableModel: A ready file is truncated or foreign.
        MissingExtra: coremltools is not installed, and has to say which system a ready package needs.
    """
    source = spec.source
    ready = READY_SOURCES.get(type(source))
    if precision != "source" and precision not in PRECISIONS[model_format]:
        return f"there is no {precision} for {model_format}: it has {', '.join(PRECISIONS[model_format])}"
    reason = None
    if precision == "source" and ready != model_format:
        reason = f"{spec.name} is not a ready file: it has to be converted to a precision"
        if ready is not None:
            reason = f"{spec.name} is a ready {_file(ready)}, not a {_file(model_format)}"
    elif precision != "source" and ready is not None:
        reason = _why_not_from_ready(spec, ready, model_format)
    elif isinstance(source, KerasSource) and model_format != "tflite":
        reason = f"no maintained converter makes {_file(model_format)}s from Keras models"
    if reason is None and model_format == "coreml":
        reason = why_not_on(system, precision)
    if reason is None and isinstance(source, CoreMLSource) and system is not None:
        reason = why_too_new(read_spec(source.path).specificationVersion, system)
    return reason


def _why_not_from_ready(spec: ModelSpec, ready: ModelFormat, model_format: ModelFormat) -> str | None:
    """Why a finished file cannot be made into one of another precision or format."""
    if ready != model_format:
        return f"no maintained converter makes {_file(model_format)}s from {_file(ready)}s"
    if ready == "coreml":
        return f"{spec.name} is a ready Core ML package; it can be measured as it is, as coreml/source"
    assert isinstance(spec.source, OnnxSource | TfliteSource)
    path = Path(spec.source.path)
    storage = read_signature(path, model_format).storage
    if storage == "float32":
        return None
    kind = "is quantized already" if storage == "integer" else "stores its weights in fp16"
    return f"{path.name} {kind}; it can be measured as it is, as {model_format}/source"


def make_artifact(
    spec: ModelSpec,
    checkpoint: Checkpoint,
    model_format: ModelFormat,
    precision: Precision,
    *,
    system: str | None = None,
    timeout_s: float = 1800.0,
) -> Artifact:
    """Convert a checkpoint and prove the file, unless that was done before.

    What `recipes.base_of` names, the fp32 file for most, is made first. An entry of the cache counts only if
    its bytes still have their digest; a damaged one is made again.

    Args:
        spec: What the checkpoint was made from.
        checkpoint: From `make_checkpoint`.
        model_format: `onnx`, `tflite` or `coreml`.
        precision: One that `why_not` has nothing against.
        system: Of the device that has to load it, as for `why_not`.
        timeout_s: For each process, of which there are at most four.

    Raises:
        UsageError: `why_not` has something against it.
        MissingExtra: A converter or runtime is not installed.
        ConversionFailed: The converter refused the model (an operator that it lacks is named), crashed, ran out of
            memory or of time; or the runtime did when it ran the result.
        ParityFailed: The file computes something else. It is kept in the cache's `failed/`, never used.
        NonFiniteOutput: The file answers with NaN or infinity. It is kept likewise.
        Unsupported: The evaluator does not know what is in a Core ML package; it is kept likewise.
    """
    reason = why_not(spec, model_format, precision, system=system)
    if reason is not None:
        raise UsageError(reason)
    need_converters(spec, model_format, precision)
    folder = _folder(spec, checkpoint, model_format, precision, system)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        found = _stored_in(folder, verify=True)
        if found is not None:
            return found
        base = _base(spec, checkpoint, model_format, precision, system, timeout_s)
        try:
            with folder_in_the_making(folder) as making:
                path = making / f"{spec.name}.{precision}.{_suffix(model_format, precision, system)}"
                artifact = _made(spec, checkpoint, model_format, precision, system, base, path, timeout_s)
                artifact = msgspec.structs.replace(artifact, path=str(folder / path.name))
                (making / _RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(artifact)))
        except HarnessError as error:
            if _will_come_again(error):
                _REFUSED[folder] = error
            raise
        return artifact


@dataclass(frozen=True, kw_only=True)
class RightAnswer:
    """What a device that runs a file has to answer.

    Attributes:
        outputs: `[samples, ...]` by output.
        computed_by: What computed them, with its version.
        tolerance: How far from them an answer may be.
        checkpoint_outputs: The checkpoint's, where they are not the ones to answer.
    """

    outputs: Mapping[str, NDArray[np.generic]]
    computed_by: str
    tolerance: Tolerance
    checkpoint_outputs: Mapping[str, NDArray[np.generic]] | None = None


def right_answer(artifact: Artifact, checkpoint: Checkpoint) -> RightAnswer:
    """What a device has to answer to its model's inputs: as the checkpoint does, to within what its precision costs.

    Of a Core ML package, what the evaluator computed of the very file, to within half precision: what compression costs
    is in the file, and no excuse for the device.
    """
    computed = Path(artifact.path).with_name(COMPUTED)
    if artifact.format != "coreml" or not computed.is_file():
        return RightAnswer(
            outputs=arrays_of(checkpoint, "reference"),
            computed_by=checkpoint.reference,
            tolerance=artifact.parity.tolerance,
        )
    with np.load(computed, allow_pickle=False) as stored:
        return RightAnswer(
            outputs=dict(stored),
            computed_by=artifact.parity.executed_by,
            checkpoint_outputs=arrays_of(checkpoint, "reference"),
            tolerance=artifact.parity.tolerance if artifact.precision == "fp32" else tolerance_for("coreml", "fp16"),
        )


def check_package(
    path: Path, spec: ModelSpec | None = None, checkpoint: Checkpoint | None = None, *, timeout_s: float = 900.0
) -> Checked:
    """Read a Core ML package back, and compare it with a checkpoint where there is one. It may be anybody's.

    Weights of few bits are compared with those of the checkpoint as coreml/fp16, which is made unless it is there.

    Args:
        path: An `.mlpackage`.
        spec: What the checkpoint was made from; both or neither.
        checkpoint: What it should compute.
        timeout_s: For the process that does it.

    Raises:
        UnreadableModel: It is no package, or is damaged.
        Unsupported: It is no ML Program, or holds something that the evaluator does not know.
        WrongInput: Its inputs or outputs are not those of the checkpoint.
        MissingExtra: coremltools or torch is not installed.
    """
    need("coremltools", f"checking {path.name}", "coreml")
    need("torch", f"checking {path.name}", "torch")
    plain = None
    if spec is not None and checkpoint is not None and _stores_integers(path):
        plain = _as_fp16(spec, checkpoint, timeout_s)
    request = CheckRequest(path=str(path.absolute()), spec=spec, checkpoint=checkpoint, plain=plain)
    done = run_job(
        "harness.convert.child",
        request,
        Checked,
        what=f"checking {path.name}",
        timeout_s=timeout_s,
        # Its own weights are written out by coremltools, to be compared with.
        imports=frameworks.EXPORT["coreml"],
    )
    return done.answer


def _stores_integers(path: Path) -> bool:
    try:
        return read_signature(path, "coreml").storage == "integer"
    except UnreadableModel:  # the process that reads all of it says why
        return False


def _as_fp16(spec: ModelSpec, checkpoint: Checkpoint, timeout_s: float) -> str | None:
    """The model's own package in fp16; None where it cannot be made."""
    try:
        if why_not(spec, "coreml", "fp16") is None:
            return make_artifact(spec, checkpoint, "coreml", "fp16", timeout_s=timeout_s).path
    except (ConversionFailed, ParityFailed, NonFiniteOutput, Unsupported):
        pass
    return None


def is_converted(
    spec: ModelSpec, model_format: ModelFormat, precision: Precision, *, system: str | None = None
) -> bool:
    """Whether `make_artifact` would find its work done, by the looks of the cache. Starts nothing, reads no weights."""
    checkpoint = find_checkpoint(spec)
    if checkpoint is None or why_not(spec, model_format, precision, system=system) is not None:
        return False
    return _stored_in(_folder(spec, checkpoint, model_format, precision, system), verify=False) is not None


_REFUSED: dict[Path, HarnessError] = {}
"""Why this process could not make an artifact, by its place in the cache. A network that TFLite has no operator for
would otherwise be exported again for each of its other precisions."""


def _will_come_again(error: HarnessError) -> bool:
    """Whether trying once more is pointless: memory and time may be there then, an operator will not."""
    if isinstance(error, ConversionFailed):
        return error.cause in {"unsupported", "unsupported_op"}
    return isinstance(error, ParityFailed | NonFiniteOutput | Unsupported)


def _base(
    spec: ModelSpec,
    checkpoint: Checkpoint,
    model_format: ModelFormat,
    precision: Precision,
    system: str | None,
    timeout_s: float,
) -> Artifact | None:
    base = base_of(model_format, precision)
    if base is None:
        return None
    place = _folder(spec, checkpoint, model_format, base, system)
    if place in _REFUSED:
        raise _REFUSED[place]
    return make_artifact(spec, checkpoint, model_format, base, system=system, timeout_s=timeout_s)


def _made(
    spec: ModelSpec,
    checkpoint: Checkpoint,
    model_format: ModelFormat,
    precision: Precision,
    system: str | None,
    base: Artifact | None,
    path: Path,
    timeout_s: float,
) -> Artifact:
    what = f"{spec.name} to {model_format}/{precision}"
    conversion = _convert(spec, checkpoint, model_format, precision, system, base, path, timeout_s)
    proved = _prove(spec, checkpoint, model_format, precision, base, path, timeout_s, what)
    artifact = Artifact(
        model=spec.name,
        checkpoint_sha256=checkpoint.sha256,
        format=model_format,
        precision=precision,
        path=str(path),
        sha256=_digest_of(path),
        size_bytes=package_size(path),
        deflated_bytes=proved.deflated_bytes,
        inputs=proved.inputs,
        outputs=proved.outputs,
        parity=proved.parity,
        conversion=conversion,
    )
    if artifact.parity.passed is False:
        kept = _keep(path, artifact)
        try:
            require(artifact.parity, what)
        except ParityFailed as error:
            error.hint = f"The file and its figures are kept in {kept}"
            raise
    return artifact


def _convert(
    spec: ModelSpec,
    checkpoint: Checkpoint,
    model_format: ModelFormat,
    precision: Precision,
    system: str | None,
    base: Artifact | None,
    path: Path,
    timeout_s: float,
) -> Conversion:
    settings = _settings(spec, model_format, precision, system)
    packages = _packages(spec, model_format, precision)
    source = _ready_file(checkpoint, model_format) if base is None else Path(base.path)
    as_it_is = precision == "source" and not settings
    if source is not None and (as_it_is or (model_format == "tflite" and precision in {"fp32", "source"})):
        if source.is_dir():
            shutil.copytree(source, path)
        else:
            shutil.copyfile(source, path)
        return Conversion(converters={}, settings=settings, seconds=0.0, peak_rss_bytes=None)
    request = ConvertRequest(
        spec=spec,
        checkpoint=checkpoint,
        format=model_format,
        precision=precision,
        settings=settings,
        source=None if source is None else str(source),
        path=str(path),
    )
    what = f"{spec.name} to {model_format}/{precision}"
    if isinstance(spec.source, KerasSource) and source is None:
        imports: tuple[str, ...] = ()
    elif source is None or model_format == "coreml":
        imports = frameworks.EXPORT[model_format]
    else:
        imports = frameworks.RUN[model_format]
    done: Done[Converted] = run_job(
        "harness.convert.child", request, Converted, what=what, timeout_s=timeout_s, imports=imports
    )
    return Conversion(
        converters=packages,
        settings={**settings, **done.answer.found},
        seconds=done.seconds,
        peak_rss_bytes=done.peak_rss_bytes,
    )


def _prove(
    spec: ModelSpec,
    checkpoint: Checkpoint,
    model_format: ModelFormat,
    precision: Precision,
    base: Artifact | None,
    path: Path,
    timeout_s: float,
    what: str,
) -> Proved:
    request = ProveRequest(
        spec=spec,
        checkpoint=checkpoint,
        format=model_format,
        precision=precision,
        path=str(path),
        plain=base.path if base is not None and model_format == "coreml" else None,
    )
    try:
        # A process of its own: a runtime that crashes on the file is told apart from a converter that crashes making
        # it, and the converter's peak memory stays its own.
        done = run_job(
            "harness.convert.child",
            request,
            Proved,
            what=f"running {what}",
            timeout_s=timeout_s,
            imports=frameworks.RUN[model_format],
        )
    except (NonFiniteOutput, ConversionFailed, Unsupported) as error:
        error.hint = f"The file is kept in {_keep(path, None)}"
        raise
    except UnreadableModel as error:
        # Not the user's file but ours: what the converter wrote is at fault.
        kept = _keep(path, None)
        failed = ConversionFailed(what, "failed", f"its runtime refuses the converted file: {error.problem}", "")
        failed.hint = f"The file is kept in {kept}"
        raise failed from error
    return done.answer


def _keep(path: Path, artifact: Artifact | None) -> Path:
    """Move a file that failed out of the way of those that may be used."""
    folder = cache_dir() / "failed" / f"{path.name}-{sha256_tree(path)[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / path.name
    if kept.is_dir():
        shutil.rmtree(kept)
    path.replace(kept)
    if artifact is not None:
        artifact = msgspec.structs.replace(artifact, path=str(kept))
        (folder / _RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(artifact)))
    return folder


def _stored_in(folder: Path, *, verify: bool) -> Artifact | None:
    try:
        artifact = decode((folder / _RECORD).read_bytes(), Artifact)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        _discard(folder, f"its record cannot be read: {error}")
        return None
    # The cache may have been moved since.
    path = folder / Path(artifact.path).name
    if not path.exists() or (verify and not _is_intact(path, artifact.sha256)):
        _discard(folder, "its file is gone or has changed")
        return None
    return msgspec.structs.replace(artifact, path=str(path))


def _is_intact(path: Path, sha256: str) -> bool:
    try:
        return _digest_of(path) == sha256
    except UnreadableModel:  # a package of which parts are gone
        return False


def _digest_of(path: Path) -> str:
    """Of a file's bytes; of a package what it says, since two conversions of one model never have the same bytes."""
    return sha256_file(path) if path.suffix not in _CORE_ML_SUFFIXES else package_digest(path)


_CORE_ML_SUFFIXES = {".mlpackage", ".mlmodel"}


def _suffix(model_format: ModelFormat, precision: Precision, system: str | None) -> str:
    if model_format != "coreml":
        return model_format
    return "mlpackage" if precision == "source" or kind_for(system) == "mlprogram" else "mlmodel"


def _file(model_format: ModelFormat) -> str:
    return "Core ML package" if model_format == "coreml" else f".{model_format} file"


def _discard(folder: Path, why: str) -> None:
    logging.getLogger(__name__).warning("%s in the cache is damaged (%s) and is made again", folder.name, why)
    shutil.rmtree(folder)


def _folder(
    spec: ModelSpec, checkpoint: Checkpoint, model_format: ModelFormat, precision: Precision, system: str | None = None
) -> Path:
    arrays = Path(checkpoint.folder)
    decides: dict[str, object] = {
        "model": spec.name,
        "task": spec.task,
        "checkpoint": checkpoint.sha256,
        # Names and order of inputs and outputs are written into the file.
        "inputs": checkpoint.inputs,
        "outputs": checkpoint.outputs,
        "arrays": [sha256_file(arrays / f"{name}.npz") for name in ("inputs", "calibration", "reference")],
        "source": spec.source,
        "artifact": (model_format, precision),
        "settings": _settings(spec, model_format, precision, system),
        "packages": _packages(spec, model_format, precision) | versions((RUNTIMES[model_format],)),
        "code": [sha256_file(path) for path in _code()],
    }
    base = base_of(model_format, precision)
    if base is not None:
        decides["base"] = (_settings(spec, model_format, base, system), _packages(spec, model_format, base))
    return cache_dir() / "artifacts" / digest(msgspec.json.encode(decides))


def _code() -> list[Path]:
    """Our own source files that decide what a file holds, or whether it passes."""
    catalog = _HERE.parent / "catalog"
    names = ("coreml_package.py", "execute.py", "modules.py", "onnx_file.py", "tflite_file.py")
    decide = [*(catalog / name for name in names), *sorted((catalog / "ml_program").rglob("*.py"))]
    return [*sorted(_HERE.glob("*.py")), *decide, _HERE.parent / "parity.py", _HERE.parent / "tensors.py"]


def _settings(
    spec: ModelSpec, model_format: ModelFormat, precision: Precision, system: str | None = None
) -> dict[str, Setting]:
    settings = dict(SETTINGS.get((model_format, precision), {}))
    if model_format == "coreml" and precision != "source":
        settings |= {"kind": kind_for(system), "target": f"iOS{target_of(system)}"}
    if "calibration" in settings:
        settings["calibration_samples"] = spec.calibration.samples
    if isinstance(spec.source, OnnxSource) and precision == "source" and _has_open_dimensions(spec.source):
        # A runtime takes any size there, a timing program has to know one.
        return {"open_dimensions": "as the model.toml declares them"}
    if isinstance(spec.source, OnnxSource | TfliteSource) and precision == "fp32":
        return {}
    return settings


def _has_open_dimensions(source: OnnxSource) -> bool:
    """Whether an input is open beyond its batch."""
    return any(-1 in tensor.shape[1:] for tensor in read_signature(Path(source.path), "onnx").inputs)


def _packages(spec: ModelSpec, model_format: ModelFormat, precision: Precision) -> dict[str, str]:
    if precision == "source" and not _settings(spec, model_format, precision):
        return {}
    if isinstance(spec.source, KerasSource) and precision == "fp32":
        return versions(("tensorflow",))
    if isinstance(spec.source, TfliteSource) and precision == "fp32":
        return {}
    if isinstance(spec.source, OnnxSource) and precision in {"fp32", "source"}:
        return versions(("onnx", "onnxruntime"))
    return versions(CONVERTERS[model_format, precision])


def _ready_file(checkpoint: Checkpoint, model_format: ModelFormat) -> Path | None:
    path = Path(checkpoint.folder) / f"model.{'mlpackage' if model_format == 'coreml' else model_format}"
    return path if checkpoint.form == model_format else None


_MODULES = {
    "torch": "torch",
    "onnx": "onnx",
    "onnxscript": "onnxscript",
    "onnxruntime": "onnxruntime",
    "litert-torch": "litert_torch",
    "litert-converter": "litert_converter",
    "ai-edge-quantizer": "ai_edge_quantizer",
    "ai-edge-litert": "ai_edge_litert",
    "coremltools": "coremltools",
    "scikit-learn": "sklearn",
}

_EXTRAS = {"torch": "torch", "onnxruntime": "onnxruntime", "ai-edge-litert": "litert"}
"""The extra that brings a package, where it is not the one of the format."""


def need_converters(spec: ModelSpec, model_format: ModelFormat, precision: Precision) -> None:
    """Check that what makes and proves an artifact is installed. Imports nothing.

    Raises:
        MissingExtra: Something is not.
    """
    for_what = f"{spec.name} as {model_format}/{precision}"
    if isinstance(spec.source, KerasSource):
        need("tensorflow", for_what, "keras")
    packages = () if precision in {"source", "fp32"} and _is_ready(spec) else CONVERTERS[model_format, precision]
    if isinstance(spec.source, KerasSource) and precision == "fp32":
        packages = ()
    if isinstance(spec.source, OnnxSource) and _settings(spec, model_format, precision).get("open_dimensions"):
        packages = ("onnx",)
    runtime = RUNTIMES[model_format]
    missing = {
        _EXTRAS.get(package, model_format): package
        for package in (*packages, runtime)
        if find_spec(_MODULES[package]) is None
    }
    if missing:
        raise MissingExtra(", ".join(missing.values()), for_what, ",".join(missing))


def _is_ready(spec: ModelSpec) -> bool:
    return type(spec.source) in READY_SOURCES
