"""Read a TOML file into a record; whatever is wrong is said with file, line, key and what would be right."""

from __future__ import annotations

import difflib
import re
import tomllib
import types
import typing
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from harness.decoding import convert
from harness.errors import BadSetting

if TYPE_CHECKING:
    from pathlib import Path

_Settings = TypeVar("_Settings", bound=msgspec.Struct)
_Path = tuple[str | int, ...]


def read_settings(path: Path, kind: type[_Settings]) -> _Settings:
    """Read and check a TOML file.

    Args:
        path: The file.
        kind: The record it has to fill.

    Raises:
        BadSetting: The file cannot be read, is not TOML, or a key or value in it is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(str(path), None, "", f"cannot be read: {_reason(error)}", ()) from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"\(at line (\d+), column \d+\)", str(error))
        problem = re.sub(r" \(at .*\)", "", str(error))
        line = int(where[1]) if where else None
        raise BadSetting(str(path), line, "", f"is not TOML: {problem}", ()) from error
    except RecursionError as error:
        raise BadSetting(str(path), None, "", "is nested too deeply", ()) from error
    _check(data, kind, (), str(path), text)
    try:
        return convert(data, kind)
    except msgspec.ValidationError as error:
        problem, _, where_text = str(error).partition(" - at ")
        location = _path_of(where_text.strip("`"))
        raise BadSetting(
            str(path), line_of(text, location), _shown(location), _plain(problem), _allowed_at(kind, location)
        ) from error


def line_of(text: str, location: _Path) -> int | None:
    """The line on which a key stands, counted from 1; of the nearest enclosing table where it has none of its own."""
    # tomllib keeps no positions. A scan of headers and keys finds them for the flat files this program reads; a key
    # inside an inline table is found by the line of the key that holds it.
    best, best_depth = None, 0
    table: _Path = ()
    counts: dict[_Path, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*(\[\[?)([\w\s.\"'-]+)\]\]?\s*(?:#.*)?$", line)
        if header:
            *parents, last = _keys(header[2])
            table = ()
            for parent in parents:  # `[inputs.data]` belongs to the latest `[[inputs]]`
                table = (*table, parent)
                table = (*table, counts[table]) if table in counts else table
            table = (*table, last)
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            here = table
        else:
            key = re.match(r"\s*((?:[\w-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[\w-]+|\"[^\"]*\"))*)\s*=", line)
            if key is None:
                continue
            here = (*table, *_keys(key[1]))
        if here == location[: len(here)] and len(here) > best_depth:
            best, best_depth = number, len(here)
    return best


def bad_setting(path: Path, location: _Path, problem: str, allowed: tuple[str, ...]) -> BadSetting:
    """The error for a value that types alone do not show to be wrong, with its line. Reads the file again."""
    line = line_of(path.read_text(encoding="utf-8"), location)
    return BadSetting(str(path), line, _shown(location), problem, allowed)


def _check(data: object, kind: object, location: _Path, file: str, text: str) -> None:
    """Refuse unknown keys, unknown words and missing keys, all the way down."""
    kind = _struct_for(data, kind, location, file, text)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(data, dict):
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        tag = kind.__struct_config__.tag_field
        known = ((tag,) if tag else ()) + tuple(fields)
        for key, value in data.items():
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                problem = "unknown key" + (f"; did you mean {near[0]!r}?" if near else "")
                raise BadSetting(file, line_of(text, (*location, key)), _shown((*location, key)), problem, known)
            if key in fields:
                _check(value, fields[key].type, (*location, key), file, text)
        for name, field in fields.items():
            if field.required and name not in data:
                raise BadSetting(file, line_of(text, location), _shown((*location, name)), "is missing", ())
    elif isinstance(data, list):
        inner = next(iter(typing.get_args(kind)), object)
        for index, value in enumerate(data):
            _check(value, inner, (*location, index), file, text)


def _struct_for(data: object, kind: object, location: _Path, file: str, text: str) -> object:
    """Of a union of records, the one that the data's tag names; anything else as it is."""
    if not isinstance(kind, types.UnionType) and typing.get_origin(kind) is not typing.Union:
        return kind
    choices = [choice for choice in typing.get_args(kind) if choice is not type(None)]
    structs = [c for c in choices if isinstance(c, type) and issubclass(c, msgspec.Struct)]
    if not structs:
        return choices[0] if len(choices) == 1 else kind
    if not isinstance(data, dict):
        return kind
    tag_field = structs[0].__struct_config__.tag_field
    if tag_field is None:
        return structs[0]
    by_tag = {str(struct.__struct_config__.tag): struct for struct in structs}
    tag = data.get(tag_field)
    if not isinstance(tag, str) or tag not in by_tag:
        found = f"{tag!r} is not known" if tag_field in data else "is missing"
        key = (*location, tag_field)
        raise BadSetting(file, line_of(text, key), _shown(key), found, tuple(by_tag))
    return by_tag[tag]


def _allowed_at(kind: Any, location: _Path) -> tuple[str, ...]:  # noqa: ANN401  (any annotation may come)
    """The words allowed at a place, where only certain words are."""
    for step in location:
        if isinstance(step, int):
            kind = next(iter(typing.get_args(kind)), None)
            continue
        structs = [c for c in (typing.get_args(kind) or (kind,)) if hasattr(c, "__struct_fields__")]
        found = [f.type for s in structs for f in msgspec.structs.fields(s) if f.encode_name == step]
        if not found:
            return ()
        kind = found[0]
    options = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
    return tuple(str(option) for option in options)


def _path_of(where: str) -> _Path:
    steps = re.findall(r"\.([\w-]+)|\[(\d+)\]", where)
    return tuple(name or int(index) for name, index in steps)


def _keys(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


def _shown(location: _Path) -> str:
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.lstrip(".")


def _plain(problem: str) -> str:
    """Say msgspec's finding in the words of a TOML file."""
    names = {
        "`int`": "a whole number",
        "`float`": "a number",
        "`str`": "text",
        "`bool`": "true or false",
        "`array`": "a list",
        "`object`": "a table",
        "`null`": "nothing",
    }
    for technical, plain in names.items():
        problem = problem.replace(technical, plain)
    problem = problem[:1].lower() + problem[1:]
    return problem.replace("invalid enum value", "not a known word:")


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "it is not UTF-8 text"
