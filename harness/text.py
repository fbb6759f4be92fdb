"""Words as they are shown: what came from a file, a model or a device; counts; lists that are too long."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def clean(text: str) -> str:
    """Text from a file or a device on one line, without characters that steer a terminal or turn the reading order."""
    # Cc and Cf hold escape sequences and the bidirectional overrides; Zl and Zp end a line in some programs.
    kept = (" " if unicodedata.category(each) in {"Cc", "Cf", "Zl", "Zp"} else each for each in text)
    return " ".join("".join(kept).split())


def count(number: float, one: str, many: str) -> str:
    """`1 cell`, `3 cells`."""
    return f"{number:.0f} {one if number == 1 else many}"


def few(names: Sequence[str], most: int) -> str:
    """As many as there is room for, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def without_name(said: str, name: str) -> str:
    """What is said of something (`phone: it is full`), for a line that begins with its name anyway."""
    return said.removeprefix(f"{name}: ")
