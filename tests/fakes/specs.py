"""Model specs for the modules in `tests.fakes.modules`."""

from __future__ import annotations

from typing import Any

import msgspec

from harness.records import CalibrationSpec, InputSpec, ModelSpec, OnnxSource, PythonSource, TfliteSource

IMAGES = (InputSpec(name="images", shape=(1, 3, 16, 16)),)
VECTOR = (InputSpec(name="x", shape=(1, 4)),)
WIDE_AND_NARROW = (InputSpec(name="wide", shape=(1, 6)), InputSpec(name="narrow", shape=(1, 4)))


def python_spec(factory: str, inputs: tuple[InputSpec, ...] = IMAGES, **changes: Any) -> ModelSpec:
    """The spec of one factory of `tests.fakes.modules`."""
    spec = ModelSpec(
        schema=1,
        name=factory.lower(),
        source=PythonSource(factory=f"tests.fakes.modules:{factory}"),
        task="classification",
        trained=False,
        inputs=inputs,
        calibration=CalibrationSpec(samples=8),
    )
    return msgspec.structs.replace(spec, **changes)


def file_spec(path: object, inputs: tuple[InputSpec, ...] = ()) -> ModelSpec:
    """The spec of a ready .onnx or .tflite file."""
    source = OnnxSource(path=str(path)) if str(path).endswith(".onnx") else TfliteSource(path=str(path))
    return ModelSpec(schema=1, name="ready", source=source, inputs=inputs, calibration=CalibrationSpec(samples=8))
