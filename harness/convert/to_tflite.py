"""TFLite files: fp32 from torch, Keras or a ready file; the others from the fp32 file. For child processes only."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from harness.catalog.keras import KERAS_FILE, SAVED_MODEL
from harness.catalog.tflite_file import put_in_order
from harness.errors import ConversionFailed
from harness.jobs import last_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from harness.records import Precision

    _Arrays = Mapping[str, NDArray[np.generic]]


def export_torch(module: nn.Module, inputs: _Arrays, path: Path, *, outputs: int) -> None:
    """Convert a module with litert-torch.

    Args:
        module: Takes its inputs by position and returns a tuple.
        inputs: Name -> `[samples, ...]`; the first sample is what the module is traced with, with a batch of 1.
        path: Where the file goes.
        outputs: How many the module returns.

    Raises:
        ConversionFailed: torch cannot trace the module, or TFLite has no operator for one of its own.
    """
    import litert_torch  # noqa: PLC0415
    import torch  # noqa: PLC0415

    try:
        converted = litert_torch.convert(module, tuple(torch.from_numpy(values[:1]) for values in inputs.values()))
    except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:
        raise _explained(error) from error
    converted.export(str(path))
    put_in_order(path, [f"args_{i}" for i in range(len(inputs))], [f"output_{i}" for i in range(outputs)])


def convert_keras(folder: Path, path: Path, *, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Convert a checkpoint's .keras file or SavedModel with TensorFlow's own converter.

    Args:
        folder: The checkpoint's.
        path: Where the file goes.
        inputs: Names in the checkpoint's order, which becomes the file's.
        outputs: The same.

    Raises:
        ConversionFailed: The converter refuses it.
    """
    import tensorflow as tf  # noqa: PLC0415

    saved = folder / SAVED_MODEL
    if saved.is_dir():
        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=["serving_default"])
    else:
        model = tf.keras.models.load_model(folder / KERAS_FILE, compile=False, safe_mode=True)
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
    try:
        path.write_bytes(converter.convert())
    except Exception as error:  # ConverterError is not exported, and lower layers raise their own
        raise _explained(error) from error
    put_in_order(path, inputs, outputs)


def quantize(source: Path, path: Path, precision: Precision, calibration: _Arrays) -> None:
    """Make a float file smaller with ai-edge-quantizer.

    `fp16`: weights stored in fp16 behind DEQUANTIZE operators, computed in fp32, or in fp16 by a delegate that can.
    `int8_dynamic`: int8 weights per channel, activations quantized while running. `int8`: both int8, ranges from the
    calibration data, and int8 inputs and outputs.

    Args:
        source: The fp32 file.
        path: Where the new one goes.
        precision: Which of the three.
        calibration: Input name -> `[samples, ...]`, in the file's order.
    """
    from ai_edge_quantizer import quantizer, recipe  # noqa: PLC0415

    recipes = {"fp16": _fp16_recipe, "int8_dynamic": recipe.dynamic_wi8_afp32, "int8": recipe.static_wi8_ai8}
    content, chosen = _modernized(source.read_bytes()), recipes[precision]()
    job = quantizer.Quantizer(content, chosen)
    observed = _ranges(content, chosen, calibration) if job.need_calibration else None
    result = job.quantize(observed, enable_progress_report=False)
    path.write_bytes(bytes(result.quantized_model))


def _fp16_recipe() -> list[dict[str, Any]]:
    from ai_edge_quantizer import algorithm_manager, qtyping, recipe_manager  # noqa: PLC0415

    recipes = recipe_manager.RecipeManager()
    recipes.add_quantization_config(
        ".*",
        qtyping.TFLOperationName.ALL_SUPPORTED,
        qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
            compute_precision=qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        ),
        algorithm_manager.AlgorithmName.FLOAT_CASTING,
    )
    return list(recipes.get_quantization_recipe())


def _modernized(content: bytes) -> bytes:
    """A file as today's converters write it: operators numbered in the new field, and with a signature.

    ai-edge-quantizer 0.10 reads nothing else. Of a file from before 2021 it takes every operator for an ADD, quantizes
    none and returns it unchanged, without a word.
    """
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    is_old = any(code.deprecatedBuiltinCode > code.builtinCode for code in model.operatorCodes)
    if model.signatureDefs and not is_old:
        return content
    for code in model.operatorCodes:
        code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)
    if not model.signatureDefs:
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        graph = model.subgraphs[0]
        signature.inputs = [_entry(f"args_{index}", tensor) for index, tensor in enumerate(graph.inputs)]
        signature.outputs = [_entry(f"output_{index}", tensor) for index, tensor in enumerate(graph.outputs)]
        model.signatureDefs = [signature]
    builder = schema.flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _entry(name: str, tensor: int) -> Any:  # noqa: ANN401  (a generated class without types)
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415

    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, int(tensor)
    return entry


def _ranges(content: bytes, recipe: list[dict[str, Any]], calibration: _Arrays) -> dict[str, Any]:
    """The lowest and highest value of every tensor over all calibration samples.

    `Quantizer.calibrate` keeps a moving average instead, in which the first of 32 samples weighs a fifth and everything
    beyond the average is clipped: DenseNet-121 came out with twice the error (relative L2 0.36 against 0.18), others
    the same within a tenth. Its profiler mode is faster, but leaves tensors without a range (0.10).
    """
    from ai_edge_quantizer import calibrator, recipe_manager  # noqa: PLC0415
    from ai_edge_quantizer.utils import qsv_utils  # noqa: PLC0415

    recipes = recipe_manager.RecipeManager()
    recipes.load_quantization_recipe(recipe)
    observer = calibrator.Calibrator(content, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    observer.calibrate(_under_signature(content, calibration), recipes)
    return dict(observer.get_model_qsvs())


def _under_signature(content: bytes, calibration: _Arrays) -> dict[str, list[dict[str, NDArray[np.generic]]]]:
    """Calibration data under the names of the file's signature, which are not those of its tensors."""
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    interpreter = Interpreter(model_content=content)
    key = next(iter(interpreter.get_signature_list()))
    runner = interpreter.get_signature_runner(key)
    by_place = {detail["index"]: name for name, detail in runner.get_input_details().items()}
    names = [by_place[detail["index"]] for detail in interpreter.get_input_details()]
    arrays = list(calibration.values())
    return {
        key: [
            {name: values[index : index + 1] for name, values in zip(names, arrays, strict=True)}
            for index in range(len(arrays[0]))
        ]
    }


def _explained(error: Exception) -> ConversionFailed:
    """What a converter meant.

    Source: litert_torch/backend/_converter.py, 0.10; tensorflow/lite/python/convert.py, 2.21.
    """
    text = str(error)
    operator = re.search(r"[Ll]owering not found: ([\w.:]+)", text)
    if operator:
        # `.default` is the overload, of which there is mostly one.
        name = operator[1].removesuffix(".default")
        return ConversionFailed("", "unsupported_op", f"TFLite has no operator for {name}", "")
    custom = re.search(r"(?:Custom|Flex) ops: ([\w, ]+)|failed to legalize operation '([\w.]+)'", text)
    if custom:
        names = (custom[1] or custom[2]).strip()
        return ConversionFailed("", "unsupported_op", f"TFLite has no operator for {names}", "")
    return ConversionFailed("", "failed", f"{type(error).__name__}: {_first_line(text)}", "")


def _first_line(text: str) -> str:
    """What is said before the node and the traceback that torch prints after it."""
    return last_line(text.strip().split("\n\n", maxsplit=1)[0])
