"""Text that came from a file, a model or a device, as it may be shown."""

from __future__ import annotations

import unicodedata


def clean(text: str) -> str:
    """Text from a file or a device on one line, without characters that steer a terminal or turn the reading order."""
    # Cc and Cf hold escape sequences and the bidirectional overrides; Zl and Zp end a line in some programs.
    kept = (" " if unicodedata.category(each) in {"Cc", "Cf", "Zl", "Zp"} else each for each in text)
    return " ".join("".join(kept).split())
