"""Read the signature of a ready file without its runtime.

.onnx and .tflite are read in plain Python, a few milliseconds a file, so that a plan can be checked without importing
a runtime, and so that a truncated file is refused before a parser in C++ meets it. Weights are stepped over, not read.
Core ML packages are read with the protobuf messages that coremltools brings.
"""

from __future__ import annotations

import mmap
import struct
from typing import TYPE_CHECKING

from harness.catalog.coreml_package import read_core_ml
from harness.catalog.onnx_file import read_onnx
from harness.catalog.signature import Malformed, kind_by_first_bytes
from harness.catalog.tflite_file import read_tflite
from harness.errors import UnreadableModel
from harness.records import CoreMLSource, OnnxSource, TfliteSource

if TYPE_CHECKING:
    from pathlib import Path

    from harness.catalog.signature import Signature
    from harness.records import ModelFormat

READY_SOURCES: dict[type, ModelFormat] = {OnnxSource: "onnx", TfliteSource: "tflite", CoreMLSource: "coreml"}
"""A model that is a finished file -> the file's format."""


def read_signature(path: Path, model_format: ModelFormat) -> Signature:
    """Read what a file takes and gives.

    Raises:
        UnreadableModel: It is not there, empty, truncated, or something else than its name says.
        MissingExtra: It is a Core ML package, and coremltools is not installed.
    """
    if model_format == "coreml":
        return read_core_ml(path)
    read = read_onnx if model_format == "onnx" else read_tflite
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return read(content)
    except OSError as error:
        raise UnreadableModel(str(path), model_format, error.strerror or str(error)) from error
    except (Malformed, struct.error, IndexError, UnicodeDecodeError, ValueError) as error:
        problem = str(error) if isinstance(error, Malformed) else _guess(path, model_format)
        raise UnreadableModel(str(path), model_format, problem) from error


def _guess(path: Path, model_format: ModelFormat) -> str:
    with path.open("rb") as file:
        head = file.read(64)
    kind = kind_by_first_bytes(head)
    if not head:
        return "it is empty"
    if kind is None:
        return "it is damaged, truncated or another kind of file"
    return "it is damaged or truncated" if kind == "a TFLite file" and model_format == "tflite" else f"it is {kind}"
