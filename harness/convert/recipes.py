"""How each kind of artifact is made: the settings, and the packages whose versions decide the bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.records import ModelFormat, Precision, Setting

SETTINGS: dict[tuple[ModelFormat, Precision], dict[str, Setting]] = {
    # 18 is the exporter's own opset; asking for another one adds a conversion step that can fail.
    ("onnx", "fp32"): {"opset": 18},
    ("onnx", "fp16"): {"keep_io_types": True},
    ("onnx", "int8"): {
        "layout": "QDQ",
        "activations": "uint8",
        "weights": "int8",
        "per_channel": True,
        "reduce_range": True,
        "calibration": "min-max",
    },
    ("tflite", "fp32"): {},
    ("tflite", "fp16"): {"weights": "float16", "activations": "float32"},
    ("tflite", "int8_dynamic"): {"weights": "int8, per channel", "activations": "int8 while running"},
    ("tflite", "int8"): {"weights": "int8, per channel", "activations": "int8", "calibration": "min-max"},
    ("coreml", "fp32"): {},
    ("coreml", "fp16"): {},
    ("coreml", "int8_weights"): {"weights": "int8, per channel, symmetric"},
    ("coreml", "palette8"): {"bits": 8, "tables": "one a tensor, by k-means"},
    ("coreml", "palette6"): {"bits": 6, "tables": "one a tensor, by k-means"},
    ("coreml", "palette4"): {"bits": 4, "tables": "one a tensor, by k-means"},
    ("coreml", "sparse"): {"weights": "bit mask and fp16"},
}

CONVERTERS: dict[tuple[ModelFormat, Precision], tuple[str, ...]] = {
    ("onnx", "fp32"): ("torch", "onnx", "onnxscript"),
    ("onnx", "fp16"): ("onnxruntime", "onnx"),
    ("onnx", "int8"): ("onnxruntime", "onnx"),
    ("tflite", "fp32"): ("litert-torch", "litert-converter", "torch"),
    ("tflite", "fp16"): ("ai-edge-quantizer",),
    ("tflite", "int8_dynamic"): ("ai-edge-quantizer",),
    ("tflite", "int8"): ("ai-edge-quantizer", "ai-edge-litert"),
    ("coreml", "fp32"): ("coremltools", "torch"),
    ("coreml", "fp16"): ("coremltools", "torch"),
    ("coreml", "int8_weights"): ("coremltools",),
    ("coreml", "palette8"): ("coremltools", "scikit-learn"),
    ("coreml", "palette6"): ("coremltools", "scikit-learn"),
    ("coreml", "palette4"): ("coremltools", "scikit-learn"),
    ("coreml", "sparse"): ("coremltools",),
}

RUNTIMES: dict[ModelFormat, str] = {"onnx": "onnxruntime", "tflite": "ai-edge-litert", "coreml": "coremltools"}
"""What proves each format, on this machine; Core ML's reader brings the messages, and our evaluator computes."""


def base_of(model_format: ModelFormat, precision: Precision) -> Precision | None:
    """What a file of this precision is made from; None for one that is made from the model itself."""
    if precision in {"fp32", "source"}:
        return None
    if model_format == "coreml":
        # Not a rounding of the fp32 file: the precision decides which operations coremltools writes.
        return None if precision == "fp16" else "fp16"
    return "fp32"
