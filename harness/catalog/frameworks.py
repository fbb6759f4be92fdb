"""What the processes that load, convert and run models import, so that it can be done once for many of them.

Frameworks put off much of what they import until they are used: torch, for one, as long as `import torch` took. So the
parts that an export needs are named one by one. A name that a version does not have is passed over, and costs the time
that it was to save.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from harness.records import ModelFormat

_READ: Final = ("numpy", "harness.jobs", "harness.parity", "harness.catalog.execute", "harness.catalog.files")
TORCH: Final = (
    *_READ,
    "torch",
    "torch.utils.flop_counter",
    "safetensors.torch",
    "harness.catalog.modules",
    "harness.catalog.ml_program.operators",
    "harness.catalog.coreml_package:import_messages",
)
"""To load and run a module, or a Core ML program, whose operations are computed by torch here."""

RUN: Final[dict[ModelFormat, tuple[str, ...]]] = {
    "onnx": (*_READ, "onnxruntime", "onnxruntime.quantization", "onnxruntime.transformers.float16"),
    "tflite": (*_READ, "ai_edge_litert.interpreter", "ai_edge_quantizer", "scipy.cluster.vq"),
    "coreml": TORCH,
}
"""To run a converted file, or to make another of it."""

EXPORT: Final[dict[ModelFormat, tuple[str, ...]]] = {
    "onnx": (
        *TORCH,
        "torch.export._trace",
        "torch.onnx._internal.exporter._compat",
        "torch.onnx.ops",
        "onnxscript.function_libs.torch_lib.ops",
    ),
    "tflite": (*TORCH, "torch.export._trace", "litert_torch", "scipy.cluster.vq"),
    # scikit-learn after coremltools, which would otherwise import all of it for a front end that is not used here.
    "coreml": (*TORCH, "torch.export._trace", "harness.catalog.coreml_package:import_coremltools", "sklearn.cluster"),
}
"""To make a file from a module. For Core ML also to make another of a package."""
