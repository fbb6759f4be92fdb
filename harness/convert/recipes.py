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
}

CONVERTERS: dict[tuple[ModelFormat, Precision], tuple[str, ...]] = {
    ("onnx", "fp32"): ("torch", "onnx", "onnxscript"),
    ("onnx", "fp16"): ("onnxruntime", "onnx"),
    ("onnx", "int8"): ("onnxruntime", "onnx"),
    ("tflite", "fp32"): ("litert-torch", "litert-converter", "torch"),
    ("tflite", "fp16"): ("ai-edge-quantizer",),
    ("tflite", "int8_dynamic"): ("ai-edge-quantizer",),
    ("tflite", "int8"): ("ai-edge-quantizer", "ai-edge-litert"),
}

RUNTIMES: dict[ModelFormat, str] = {"onnx": "onnxruntime", "tflite": "ai-edge-litert"}
"""What proves each format, on this machine."""
