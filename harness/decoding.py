"""From JSON, or plain data, to typed records: from any thread.

msgspec looks into a class when it is first asked for it, and lets other threads use what it found while that is half
done: two threads that read records of one new class at once end the process (SIGSEGV; msgspec 0.22,
`StructInfo_Convert`). So every class is looked into here first, by one thread at a time, and nothing else in the
project decodes to a type.
"""

from __future__ import annotations

import threading
from typing import Any, Final, TypeVar, overload

import msgspec

_T = TypeVar("_T")

_LOCK: Final = threading.Lock()
_KNOWN: Final[set[Any]] = set()


@overload
def decode(content: bytes | str, kind: type[_T]) -> _T: ...
@overload
def decode(content: bytes | str, kind: object) -> Any: ...  # noqa: ANN401  (a union, of which mypy knows no type)
def decode(content: bytes | str, kind: Any) -> Any:
    """Read JSON.

    Args:
        content: One JSON value.
        kind: Its type: a class, or a union or collection of such.

    Raises:
        msgspec.DecodeError: It is no JSON, or (`msgspec.ValidationError`) not of this type.
    """
    _know(kind)
    return msgspec.json.decode(content, type=kind)


@overload
def convert(data: object, kind: type[_T], *, strict: bool = True) -> _T: ...
@overload
def convert(data: object, kind: object, *, strict: bool = True) -> Any: ...  # noqa: ANN401
def convert(data: object, kind: Any, *, strict: bool = True) -> Any:
    """Read what a parser of TOML or JSON has made of a file.

    Args:
        data: Dictionaries, lists, texts and numbers.
        kind: As for `decode`.
        strict: False takes texts for numbers.

    Raises:
        msgspec.ValidationError: It is not of this type.
    """
    _know(kind)
    return msgspec.convert(data, kind, strict=strict)


def _know(kind: Any) -> None:  # noqa: ANN401
    if kind not in _KNOWN:
        with _LOCK:
            msgspec.json.Decoder(kind)
            _KNOWN.add(kind)
