"""A Core ML evaluator: runs the ML Program of an `.mlpackage` on any system, operation by operation, with torch.

    >>> program = Program.load("eyes.mlpackage")
    >>> program.run({"image": image})["embedding"]

It proves what a converter wrote: graph, weights, parameters, names, shapes, types, compression. It is not Core ML, and
proves neither that Core ML loads the package, nor where or how fast it runs there, nor a device's own rounding.
What it does not know it refuses by name (`Unsupported`).
"""

from __future__ import annotations

from harness.catalog.ml_program.program import Program
from harness.catalog.ml_program.storage import Storage, storage_of
from harness.errors import Unsupported

__all__ = ["Program", "Storage", "Unsupported", "storage_of"]
