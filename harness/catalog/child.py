"""The process in which a checkpoint is made. Started by `harness.catalog.checkpoint`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from harness.catalog.coreml_package import package_digest
from harness.catalog.data import draw, inputs_of_file
from harness.catalog.execute import run_coreml, run_onnx, run_tflite, stacked
from harness.catalog.files import read_signature
from harness.catalog.modules import (
    PROGRAM_FILE,
    WEIGHTS_FILE,
    initial_module,
    load_program,
    named_outputs,
    save_weights,
)
from harness.errors import NonFiniteOutput, UnreadableModel, WrongInput
from harness.jobs import serve
from harness.records import (
    BuiltinSource,
    Checkpoint,
    CoreMLSource,
    InputSpec,
    KerasSource,
    ModelSpec,
    OnnxSource,
    ProgramSource,
    PythonSource,
    Record,
    TensorSpec,
    TfliteSource,
)
from harness.workspace import sha256_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor, nn

    _Arrays = Mapping[str, NDArray[np.generic]]


class CheckpointRequest(Record, frozen=True, kw_only=True):
    """What to make, and the empty folder to make it in."""

    spec: ModelSpec
    folder: str


def main() -> None:
    """Read one `CheckpointRequest`, answer with one `Checkpoint`."""
    serve(CheckpointRequest, _make)


def _make(request: CheckpointRequest) -> Checkpoint:
    folder, source = Path(request.folder), request.spec.source
    if isinstance(source, OnnxSource):
        return _from_onnx(request.spec, Path(source.path), folder)
    if isinstance(source, TfliteSource):
        return _from_tflite(request.spec, Path(source.path), folder)
    if isinstance(source, CoreMLSource):
        return _from_core_ml(request.spec, Path(source.path), folder)
    if isinstance(source, KerasSource):
        return _from_keras(request.spec, Path(source.path), folder)
    return _from_torch(request.spec, folder)


# --- torch ---------------------------------------------------------------------------------------------------------


def _from_torch(spec: ModelSpec, folder: Path) -> Checkpoint:
    import torch  # noqa: PLC0415

    torch.set_num_threads(1)
    source = spec.source
    assert isinstance(source, BuiltinSource | PythonSource | ProgramSource)
    if isinstance(source, ProgramSource):
        stored = folder / PROGRAM_FILE
        shutil.copyfile(source.path, stored)
        module = load_program(stored)
        spec = msgspec.structs.replace(spec, inputs=spec.inputs or _inputs_of_program(stored))
    else:
        stored = folder / WEIGHTS_FILE
        module = initial_module(spec)
        save_weights(module, stored)
    inputs = draw(spec, "inputs", samples=spec.check_samples)
    reference = _run_torch(module, inputs)
    return _stored(
        folder,
        spec,
        inputs,
        reference,
        Checkpoint(
            model=spec.name,
            sha256=sha256_file(stored),
            folder=str(folder),
            form="pt2" if isinstance(source, ProgramSource) else "torch",
            inputs=_declared(spec),
            outputs=_observed(reference),
            parameters=sum(parameter.numel() for parameter in module.parameters()),
            macs=_count_macs(module, spec, inputs),
            reference=f"PyTorch {torch.__version__}, eager, fp32, 1 thread",
            trained=spec.trained,
            compression=spec.compression,
        ),
    )


def _inputs_of_program(path: Path) -> tuple[InputSpec, ...]:
    """The inputs that an exported program was traced with."""
    import torch  # noqa: PLC0415

    program = torch.export.load(path)
    arguments, _ = program.example_inputs or ((), {})
    names = program.graph_signature.user_inputs
    if not arguments or len(names) != len(arguments):
        raise WrongInput("inputs", "what the program was exported with", "not stored in it: write a model.toml")
    return tuple(
        InputSpec(name=str(name), shape=tuple(value.shape), dtype=str(value.dtype).removeprefix("torch."))
        for name, value in zip(names, arguments, strict=True)
    )


def _run_torch(module: nn.Module, inputs: _Arrays) -> dict[str, NDArray[np.generic]]:
    import torch  # noqa: PLC0415

    samples = len(next(iter(inputs.values())))
    runs: list[dict[str, Tensor]] = []
    for index in range(samples):
        arguments = [torch.from_numpy(values[index : index + 1]) for values in inputs.values()]
        try:
            with torch.no_grad():
                runs.append(named_outputs(module(*arguments)))
        except (RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
            raise _as_wrong_input(error, inputs) from error
    return {name: stacked(name, [run[name].numpy(force=True) for run in runs]) for name in runs[0]}


def _as_wrong_input(error: Exception, inputs: _Arrays) -> Exception:
    """The error itself, or what it means where it complains of a shape, dtype or number of arguments."""
    # torch says so in as many ways as it has kernels; an exported program checks its inputs in a guard.
    said = str(error)
    if not re.search(r"shape|size|channel|dimension|dtype|expected scalar|positional arg|Guard|must match", said):
        return error
    found = ", ".join(f"{values.dtype} {[1, *values.shape[1:]]}" for values in inputs.values())
    return WrongInput(", ".join(inputs), f"something else ({said.strip().splitlines()[0][:200]})", found)


def _count_macs(module: nn.Module, spec: ModelSpec, inputs: _Arrays) -> int | None:
    import torch  # noqa: PLC0415

    arguments = [torch.from_numpy(values[:1]) for values in inputs.values()]
    if isinstance(spec.source, BuiltinSource):
        from harness.catalog.networks.count import count_macs  # noqa: PLC0415

        return count_macs(module, arguments[0])
    # torch's own counter sees what runs and not which layer asked for it, so it also counts functional calls and the
    # matrix products of attention. On the built-in networks the two agree, which a test checks.
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*arguments)
    return counter.get_total_flops() // 2 or None


# --- ready files ---------------------------------------------------------------------------------------------------


def _from_onnx(spec: ModelSpec, path: Path, folder: Path) -> Checkpoint:
    signature = read_signature(path, "onnx")
    stored = folder / "model.onnx"
    if signature.companions:
        import onnx  # noqa: PLC0415

        try:
            onnx.save(onnx.load(path), stored)
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise UnreadableModel(str(path), "onnx", str(error)) from error
    else:
        shutil.copyfile(path, stored)
    spec = msgspec.structs.replace(spec, inputs=inputs_of_file(spec, signature.inputs))
    inputs = draw(spec, "inputs", samples=spec.check_samples)
    answered = run_onnx(stored, inputs, _declared(spec), optimized=False)
    return _ready("onnx", spec, inputs, answered, folder, sha256=sha256_file(stored), parameters=signature.parameters)


def _from_tflite(spec: ModelSpec, path: Path, folder: Path) -> Checkpoint:
    signature = read_signature(path, "tflite")
    stored = folder / "model.tflite"
    shutil.copyfile(path, stored)
    spec = msgspec.structs.replace(spec, inputs=inputs_of_file(spec, signature.inputs))
    inputs = draw(spec, "inputs", samples=spec.check_samples)
    declared = tuple(
        msgspec.structs.replace(tensor, shape=described.shape)
        for tensor, described in zip(signature.inputs, spec.inputs, strict=True)
    )
    answered = run_tflite(stored, inputs, declared, signature.outputs, delegated=False)
    return _ready("tflite", spec, inputs, answered, folder, sha256=sha256_file(stored), parameters=signature.parameters)


def _from_core_ml(spec: ModelSpec, path: Path, folder: Path) -> Checkpoint:
    """A package is its own original: what our evaluator makes of it is what a device has to answer."""
    signature = read_signature(path, "coreml")
    stored = folder / "model.mlpackage"
    shutil.copytree(path, stored)
    spec = msgspec.structs.replace(spec, inputs=inputs_of_file(spec, signature.inputs))
    inputs = draw(spec, "inputs", samples=spec.check_samples)
    answered = run_coreml(stored, inputs, signature.inputs)
    return _ready(
        "coreml", spec, inputs, answered, folder, sha256=package_digest(stored), parameters=signature.parameters
    )


def _from_keras(spec: ModelSpec, path: Path, folder: Path) -> Checkpoint:
    from harness.catalog.keras import KerasModel  # noqa: PLC0415

    model = KerasModel(path)
    spec = msgspec.structs.replace(spec, inputs=inputs_of_file(spec, model.inputs))
    inputs = draw(spec, "inputs", samples=spec.check_samples)
    answered = model.run(inputs), model.executed_by
    model.copy_to(folder)
    return _ready("keras", spec, inputs, answered, folder, sha256=model.sha256, parameters=model.parameters)


def _ready(
    form: Literal["onnx", "tflite", "coreml", "keras"],
    spec: ModelSpec,
    inputs: _Arrays,
    answered: tuple[_Arrays, str],
    folder: Path,
    *,
    sha256: str,
    parameters: int | None,
) -> Checkpoint:
    """What every ready file ends with: its own answers are the reference, and by whom they were computed is said."""
    reference, done_by = answered
    checkpoint = Checkpoint(
        model=spec.name,
        sha256=sha256,
        folder=str(folder),
        form=form,
        inputs=_declared(spec),
        outputs=_observed(reference),
        parameters=parameters,
        macs=None,
        reference=done_by,
        trained=spec.trained,
    )
    return _stored(folder, spec, inputs, reference, checkpoint)


# --- what every source ends with -----------------------------------------------------------------------------------


def _stored(folder: Path, spec: ModelSpec, inputs: _Arrays, reference: _Arrays, checkpoint: Checkpoint) -> Checkpoint:
    """Write the arrays beside the weights, once the reference is known to be usable."""
    for name, values in reference.items():
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise NonFiniteOutput(f"{spec.name} ({checkpoint.reference})", name, bad, values.size)
    calibration = draw(spec, "calibration", samples=spec.calibration.samples)
    np.savez(folder / "inputs.npz", allow_pickle=False, **inputs)
    np.savez(folder / "calibration.npz", allow_pickle=False, **calibration)
    np.savez(folder / "reference.npz", allow_pickle=False, **reference)
    return checkpoint


def _declared(spec: ModelSpec) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name=tensor.name, shape=tensor.shape, dtype=tensor.dtype) for tensor in spec.inputs)


def _observed(outputs: _Arrays) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name=name, shape=(1, *values.shape[1:]), dtype=values.dtype.name) for name, values in outputs.items()
    )


if __name__ == "__main__":
    main()
