"""Which colour means what: a reader who has learned one picture of a page can read the others.

Files and runtimes of one family (ONNX, TFLite, Core ML) have one colour; models, and parts of anything, have those that
come after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

from harness.records import ModelFormat
from harness.report.spec import LIGHT, colour

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from harness.report.spec import Spec

FAMILIES: Final[Mapping[str, int]] = {name: number for number, name in enumerate(get_args(ModelFormat))}
"""Format of a file -> the number of its colour."""
COLOURS: Final = len(LIGHT["range"]["category"])
PARTS: Final[Mapping[str, int]] = {"runtime alone": COLOURS - 1, "model": COLOURS - 2}
"""Of memory."""
SHAPES: Final[Mapping[str, str]] = {
    "onnx/fp32": "circle",
    "tflite/fp32": "triangle-up",
    "coreml/fp16": "square",
    "onnx/int8": "cross",
    "tflite/int8": "diamond",
    "coreml/sparse": "triangle-down",
    "coreml/fp32": "triangle-right",
    "onnx/fp16": "triangle-left",
    "tflite/fp16": "wedge",
}
"""Of files; others have a stroke."""


def of_models(names: Sequence[str]) -> dict[str, int]:
    """Colours for models, those of families last."""
    return {name: (len(FAMILIES) + number) % COLOURS for number, name in enumerate(dict.fromkeys(names))}


def of_runtimes(formats: Mapping[str, str]) -> dict[str, int]:
    """Colours for runtimes: of each family the first has the family's, the others have what nobody has taken.

    Args:
        formats: Runtime -> the format of its files.
    """
    firsts = {family: name for name, family in reversed(list(formats.items()))}
    left = [number for number in range(COLOURS) if number not in {FAMILIES[family] for family in firsts}]
    others = (name for name, family in formats.items() if firsts[family] != name)
    found = {name: left[number % len(left)] for number, name in enumerate(others)}
    return {name: found.get(name, FAMILIES[family]) for name, family in formats.items()}


def coloured(field: str, meanings: Mapping[str, int], shown: Collection[object]) -> Spec:
    """A channel in which each of the values that are shown has its own colour, wherever it stands."""
    domain = [value for value in meanings if value in shown]
    scale: Spec = {"domain": domain, "range": [colour(meanings[value]) for value in domain]}
    return {"field": field, "type": "nominal", "title": None, "scale": scale}


def shaped(field: str, shown: Collection[str]) -> Spec:
    """A channel in which each kind of file has its own shape, on all pictures of a page the same."""
    domain = sorted(shown, key=lambda file: (list(SHAPES).index(file) if file in SHAPES else len(SHAPES), file))
    scale: Spec = {"domain": domain, "range": [SHAPES.get(file, "stroke") for file in domain]}
    return {"field": field, "type": "nominal", "title": None, "scale": scale}
