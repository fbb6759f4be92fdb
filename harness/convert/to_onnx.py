"""ONNX files: fp32 from torch or a ready file; fp16 and int8 from the fp32 file. For child processes only."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

from harness.catalog.files import read_signature
from harness.errors import ConversionFailed
from harness.jobs import last_line
from harness.tensors import in_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from harness.records import Setting, TensorSpec

    _Arrays = Mapping[str, NDArray[np.generic]]


def export_torch(module: nn.Module, inputs: _Arrays, outputs: Sequence[str], path: Path, *, opset: int) -> None:
    """Export a module with `torch.onnx.export`, the exporter that goes through `torch.export`.

    Args:
        module: Takes its inputs by position and returns a tuple.
        inputs: Name -> `[samples, ...]`; the first sample is what the module is traced with, with a batch of 1.
        outputs: Their names, in order.
        path: Where the file goes; weights are inside it.
        opset: Of the standard ONNX operators.

    Raises:
        ConversionFailed: torch cannot trace the module, or ONNX has no operator for one of its own.
    """
    import torch  # noqa: PLC0415

    try:
        program = torch.onnx.export(
            module,
            tuple(torch.from_numpy(values[:1]) for values in inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=opset,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        raise _explained(error) from error
    assert program is not None
    program.save(path, external_data=False)


def fix_shapes(source: Path, tensors: Sequence[TensorSpec], path: Path) -> None:
    """Copy a ready file, its open dimensions replaced by those that the model.toml declares, its batch by 1.

    Args:
        source: The .onnx file.
        tensors: The declared inputs, in the file's order.
        path: Where the copy goes.
    """
    signature = read_signature(source, "onnx")
    if all(found.shape == wanted.shape for found, wanted in zip(signature.inputs, tensors, strict=True)):
        shutil.copyfile(source, path)
        return
    import onnx  # noqa: PLC0415

    model = onnx.load(source)
    declared = {tensor.name: tensor.shape for tensor in tensors}
    for tensor in model.graph.input:
        if tensor.name in declared:
            # Not with onnxruntime's make_input_shape_fixed: it goes by the dimensions' names, and PaddlePaddle calls
            # every open one "?", so that height and width would have to be equal.
            for dimension, size in zip(tensor.type.tensor_type.shape.dim, declared[tensor.name], strict=True):
                dimension.dim_value = size
    # Shapes inside the file were written for open dimensions: drop them, so that inference finds the fixed ones.
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    onnx.save(onnx.shape_inference.infer_shapes(model, data_prop=True), path)


def to_fp16(source: Path, path: Path, *, keep_io_types: bool) -> None:
    """Store weights and compute in fp16, inputs and outputs staying fp32.

    The graph is converted, and not the module exported again after `.half()`: that way a ready .onnx file takes the
    same road, operators that lose too much in fp16 stay in fp32, and callers feed the same fp32 arrays. Processors
    without fp16 arithmetic run such a file through casts, slower than fp32.
    """
    import onnx  # noqa: PLC0415
    from onnxruntime.transformers.float16 import convert_float_to_float16  # noqa: PLC0415

    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=keep_io_types), path)


def to_int8(source: Path, path: Path, calibration: _Arrays, settings: Mapping[str, Setting]) -> None:
    """Quantize weights and activations, with QuantizeLinear / DequantizeLinear pairs around each operator (QDQ).

    Unsigned activations with signed weights, because ONNX Runtime's fast convolutions on x86 exist for that pair alone
    (measured on MobileNetV2: 3.3 ms against 5.5 ms with both signed; SqueezeNet 2.4 against 9.7), and ARM has them for
    either. Weights per channel: per tensor, depthwise layers lose most of their digits. Weights of 7 bits
    (`reduce_range`), because x86 processors without VNNI add two products in 16 bits and saturate with 8: the figures
    would depend on the machine. It costs a tenth more error in MobileNetV2, and twice as much in SqueezeNet, where
    there is least of it. Source: ONNX Runtime's documentation, "Quantize ONNX models", section on U8S8.

    Args:
        source: The fp32 file.
        path: Where the quantized one goes.
        calibration: Input name -> `[samples, ...]`.
        settings: Of `recipes.SETTINGS`.
    """
    from onnxruntime.quantization import (  # noqa: PLC0415
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quant_pre_process,
        quantize_static,
    )

    prepared = path.with_suffix(".prepared.onnx")
    # Folds BatchNorm into convolutions and infers shapes, as the quantizer wants it. Symbolic shape inference is left
    # out: every shape is fixed by now, and it fails on files of older exporters.
    quant_pre_process(_at_opset(source, path, 13), prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        path,
        _Samples(calibration, read_signature(source, "onnx").inputs),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8 if settings["activations"] == "uint8" else QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=bool(settings["per_channel"]),
        reduce_range=bool(settings["reduce_range"]),
        calibrate_method=CalibrationMethod.MinMax,
    )
    prepared.unlink()


class _Samples:
    """Calibration data as ONNX Runtime asks for them: one dict of inputs at a time, None at the end."""

    def __init__(self, calibration: _Arrays, tensors: Sequence[TensorSpec]) -> None:
        self._names = [tensor.name for tensor in tensors]
        self._arrays = in_order(calibration, tensors)
        self._next = 0

    def get_next(self) -> dict[str, Any] | None:
        index, self._next = self._next, self._next + 1
        if index >= len(self._arrays[0]):
            return None
        return {name: values[index : index + 1] for name, values in zip(self._names, self._arrays, strict=True)}


def _at_opset(source: Path, path: Path, lowest: int) -> Path:
    """The file itself, or a copy of an older one at the first opset that can quantize per channel."""
    import onnx  # noqa: PLC0415

    model = onnx.load(source)
    found = next((opset.version for opset in model.opset_import if opset.domain in {"", "ai.onnx"}), lowest)
    if found >= lowest:
        return source
    raised = path.with_suffix(".raised.onnx")
    onnx.save(onnx.version_converter.convert_version(model, lowest), raised)
    return raised


def _explained(error: Exception) -> ConversionFailed:
    """What the exporter meant.

    Source: the messages of torch/onnx/_internal/exporter/_core.py and _errors.py, torch 2.9 to 2.13.
    """
    chain: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        chain.append(str(cause))
        cause = cause.__cause__
    text = "\n".join(chain)
    operator = re.search(r"No ONNX function found for <OpOverload\(op='([^']+)'", text)
    if operator:
        return ConversionFailed("", "unsupported_op", f"ONNX has no operator for {operator[1]}", "")
    # The first lines of the exporter's own messages are advice; the innermost cause says what happened.
    return ConversionFailed("", "failed", f"torch.onnx.export: {last_line(chain[-1])}", "")
