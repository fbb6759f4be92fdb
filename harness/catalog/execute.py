"""Run a file once per sample with its own runtime, nothing timed: for references, calibration and parity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.errors import ConversionFailed, UnreadableModel
from harness.tensors import as_declared, as_real, in_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from harness.records import TensorSpec


def run_onnx(
    path: Path, inputs: Mapping[str, NDArray[np.generic]], tensors: Sequence[TensorSpec], *, optimized: bool
) -> tuple[dict[str, NDArray[np.generic]], str]:
    """Run an .onnx file on ONNX Runtime's CPU provider with one thread.

    Args:
        path: The file.
        inputs: Name -> `[samples, ...]`.
        tensors: What the file declares as inputs.
        optimized: With ONNX Runtime's graph optimizations, which is how it is deployed; without, it computes node by
            node what the file says, which is what a reference is.

    Returns:
        Output name -> `[samples, ...]` in the file's order, and what computed it.

    Raises:
        UnreadableModel: ONNX Runtime refuses the file.
        ConversionFailed: An output has no batch dimension.
    """
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base of their own
        raise UnreadableModel(str(path), "onnx", str(error).replace("\n", " ")) from error
    names = [output.name for output in session.get_outputs()]
    fed = [as_declared(samples, tensor) for samples, tensor in zip(in_order(inputs, tensors), tensors, strict=True)]
    runs = [
        session.run(names, {tensor.name: values[i : i + 1] for tensor, values in zip(tensors, fed, strict=True)})
        for i in range(len(fed[0]))
    ]
    optimizations = "all" if optimized else "no"
    done_by = f"ONNX Runtime {onnxruntime.__version__}, CPU, {optimizations} graph optimizations, 1 thread"
    return {name: stacked(name, [run[i] for run in runs]) for i, name in enumerate(names)}, done_by


def run_tflite(
    path: Path,
    inputs: Mapping[str, NDArray[np.generic]],
    tensors: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    delegated: bool,
) -> tuple[dict[str, NDArray[np.generic]], str]:
    """Run a .tflite file on LiteRT's interpreter with one thread.

    Args:
        path: The file.
        inputs: Name -> `[samples, ...]`, real values; quantized here as the file declares.
        tensors: What the file declares as inputs, open dimensions filled in.
        outputs: What it declares as outputs.
        delegated: With XNNPACK, which is how it is deployed; without, by the built-in kernels, which is what a
            reference is.

    Returns:
        Output name -> `[samples, ...]` in the file's order, dequantized, and what computed it.

    Raises:
        UnreadableModel: LiteRT refuses the file.
        ConversionFailed: An output has no batch dimension.
    """
    from importlib.metadata import version  # noqa: PLC0415

    from ai_edge_litert.interpreter import Interpreter, OpResolverType  # noqa: PLC0415

    kernels = OpResolverType.AUTO if delegated else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    fed = [as_declared(samples, tensor) for samples, tensor in zip(in_order(inputs, tensors), tensors, strict=True)]
    try:
        interpreter = Interpreter(model_path=str(path), num_threads=1, experimental_op_resolver_type=kernels)
        places = [detail["index"] for detail in interpreter.get_input_details()]
        for place, values, tensor in zip(places, fed, interpreter.get_input_details(), strict=True):
            if tuple(tensor["shape"]) != (1, *values.shape[1:]):
                interpreter.resize_tensor_input(place, (1, *values.shape[1:]))
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise UnreadableModel(str(path), "tflite", str(error).replace("\n", " ")) from error
    found: list[list[NDArray[np.generic]]] = [[] for _ in outputs]
    for i in range(len(fed[0])):
        for place, values in zip(places, fed, strict=True):
            interpreter.set_tensor(place, values[i : i + 1])
        interpreter.invoke()
        for collected, detail in zip(found, interpreter.get_output_details(), strict=True):
            collected.append(interpreter.get_tensor(detail["index"]))
    done_by = f"LiteRT {version('ai-edge-litert')}, {'XNNPACK' if delegated else 'built-in kernels'}, 1 thread"
    return {t.name: as_real(stacked(t.name, values), t) for t, values in zip(outputs, found, strict=True)}, done_by


def run_coreml(
    path: Path, inputs: Mapping[str, NDArray[np.generic]], tensors: Sequence[TensorSpec]
) -> tuple[dict[str, NDArray[np.generic]], str]:
    """Compute an ML Program on this machine, operation by operation, with our evaluator. It is not Core ML.

    Args:
        path: An `.mlpackage`.
        inputs: Name -> `[samples, ...]`.
        tensors: What the package declares as inputs, with a batch of 1.

    Returns:
        Output name -> `[samples, ...]` in the package's order, and what computed it.

    Raises:
        Unsupported: It is no ML Program, or holds something that the evaluator does not know.
        UnreadableModel: It is damaged.
        ConversionFailed: An output has no batch dimension.
        MissingExtra: torch or coremltools is not installed.
    """
    from importlib.metadata import version  # noqa: PLC0415

    from harness.catalog.ml_program import Program  # noqa: PLC0415

    program = Program.load(path)
    fed = [as_declared(samples, tensor) for samples, tensor in zip(in_order(inputs, tensors), tensors, strict=True)]
    runs = program.run_samples({tensor.name: values[:, None] for tensor, values in zip(tensors, fed, strict=True)})
    done_by = f"ML Program evaluator of this program, torch {version('torch')}; not Core ML"
    found = {output.name: stacked(output.name, [run[output.name] for run in runs]) for output in program.outputs}
    return found, done_by


def stacked(name: str, outputs: Sequence[NDArray[np.generic]]) -> NDArray[np.generic]:
    """Put the outputs of single samples, `[1, ...]` each, together as `[samples, ...]`.

    Raises:
        ConversionFailed: They have no leading batch dimension of 1, by which samples could be told apart.
    """
    shape = list(outputs[0].shape)
    if shape[:1] != [1]:
        problem = f"output {name!r} has the shape {shape}; only outputs with a leading batch dimension of 1 can be used"
        raise ConversionFailed("", "unsupported", problem, "")
    if any(list(output.shape) != shape for output in outputs):
        problem = f"output {name!r} changes its shape from sample to sample"
        raise ConversionFailed("", "unsupported", problem, "")
    return np.concatenate(outputs)
