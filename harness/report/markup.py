"""HTML and SVG from Python, where text is text: what is not made by `element` is escaped."""

from __future__ import annotations

import html
import re

_VOID = frozenset({"br", "hr", "input", "link", "meta", "wbr"})
"""Elements that have no end tag."""


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def element(name: str, /, *children: str | None, **attributes: str | float | bool | None) -> Markup:
    """One element.

    Args:
        name: `td`, `path`...
        children: Escaped unless they are `Markup`; None is left out.
        attributes: A trailing underscore is dropped (`class_`), the others become hyphens (`aria_label`); None and
            False leave the attribute out, True gives it no value.
    """
    parts = [name]
    for key, value in attributes.items():
        written = key.rstrip("_").replace("_", "-")
        if value is True:
            parts.append(written)
        elif value is not None and value is not False:
            shown = f"{value:g}" if isinstance(value, float) else str(value)
            parts.append(f'{written}="{html.escape(shown)}"')
    start = f"<{' '.join(parts)}>"
    return Markup(start if name in _VOID else f"{start}{join(*children)}</{name}>")


def join(*children: str | None) -> Markup:
    """Several pieces one after the other; text is escaped."""
    return Markup(
        "".join(child if isinstance(child, Markup) else html.escape(child) for child in children if child is not None)
    )


def breakable(name: str) -> Markup:
    """A name that may go on in the next line after a separator, as `mobilenet_` / `v2`."""
    parts = re.split(r"(?<=[/_.-])", name)
    return join(parts[0], *(piece for part in parts[1:] for piece in (element("wbr"), part)))
