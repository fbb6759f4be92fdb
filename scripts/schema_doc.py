#!/usr/bin/env python3
"""Write the tables of reports/README.md from the records themselves.

scripts/schema_doc.py            write them
scripts/schema_doc.py --check    only say, by the exit code, whether they are up to date
"""

from __future__ import annotations

import ast
import inspect
import sys
import types
import typing
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from harness import records, summary  # noqa: E402
from harness.report import columns, json_file  # noqa: E402

README = ROOT / "reports" / "README.md"
BEGIN, END = "<!-- tables: begin, by scripts/schema_doc.py -->", "<!-- tables: end -->"
UNITS = {"_ns": "ns", "_s": "s", "_ms": "ms", "_bytes": "bytes", "_hz": "Hz", "_celsius": "°C", "_pct": "%"}
MORE_UNITS = {"pct_per_min": "% a minute", "per_s": "1/s", "seconds": "s", "ns": "ns", "load_1min": ""}
SECTIONS = (
    ("plan.json", records.Plan),
    ("cells/CELL.json", records.CellResult),
    ("accuracy/SHA256.json", records.Accuracy),
    ("report.json", json_file.Document),
    ("harness compare --output FILE", records.Comparison),
)


def main() -> int:
    """Bring the file up to date, or compare."""
    found = README.read_text(encoding="utf-8")
    before, _, rest = found.partition(BEGIN)
    _, _, after = rest.partition(END)
    wanted = f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"
    if "--check" in sys.argv:
        return int(found != wanted)
    README.write_text(wanted, encoding="utf-8")
    return 0


def tables() -> str:
    """Every stored record once, below the file in which it is met first, then the columns of the CSV file."""
    lines: list[str] = []
    told: set[type] = set()
    for title, root in SECTIONS:
        lines += [f"## {title}", ""]
        for record in reachable(root):
            if record not in told:
                told.add(record)
                lines += record_table(record)
    lines += ["## report.csv and the data frame", "", "| column | type | meaning |", "|---|---|---|"]
    kinds = {"text": "text", "whole": "whole number", "number": "number", "yes_no": "true or false", "time": "time"}
    for column in columns.COLUMNS:
        lines.append(f"| `{column.name}` | {kinds[column.kind]} | {cell(column.meaning)} |")
    return "\n".join(lines) + "\n"


def record_table(record: type[msgspec.Struct]) -> list[str]:
    """A heading, the record's own words, and a line a field."""
    lines = [f"### {record.__name__}", "", cell(inspect.getdoc(record) or ""), ""]
    lines += ["| field | type | unit | meaning |", "|---|---|---|---|"]
    config = record.__struct_config__
    if config.tag_field:
        lines.append(f'| `{config.tag_field}` | `"{config.tag}"` | | Tells this record from its alternatives |')
    said = field_docstrings(record)
    hints = typing.get_type_hints(record)
    for field in msgspec.structs.fields(record):
        name = field.encode_name
        lines.append(f"| `{name}` | {type_text(hints[name])} | {unit(name)} | {cell(said.get(name, ''))} |")
    return [*lines, ""]


def reachable(root: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    """A record and all that it holds, outer ones first."""
    found = [root]
    for record in found:
        for hint in typing.get_type_hints(record).values():
            found += [struct for struct in structs_in(hint) if struct not in found]
    return list(dict.fromkeys(found))


def structs_in(hint: object) -> list[type[msgspec.Struct]]:
    """The records that a type mentions."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return [hint]
    return [struct for part in typing.get_args(hint) for struct in structs_in(part)]


def type_text(hint: object) -> str:
    """A type as a reader of JSON knows it."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in {types.UnionType, typing.Union}:
        known = [type_text(part) for part in parts if part is not type(None)]
        return " or ".join([*known, "null"] if type(None) in parts else known)
    if origin is typing.Literal:
        return " or ".join(f'`"{part}"`' if isinstance(part, str) else f"`{part}`" for part in parts)
    if origin is tuple:
        return f"list of {type_text(parts[0])}"
    if origin is dict:
        return f"object of {type_text(parts[1])}"
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    names: dict[object, str] = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return names[hint]


def unit(name: str) -> str:
    """The unit that a name ends in."""
    for ending, word in MORE_UNITS.items():
        if name == ending or name.endswith(f"_{ending}"):
            return word
    return next((word for ending, word in UNITS.items() if name.endswith(ending)), "")


def field_docstrings(record: type[msgspec.Struct]) -> dict[str, str]:
    """The strings that stand below fields in the source; Python itself does not keep them."""
    body = ast.parse(inspect.getsource(record)).body[0]
    assert isinstance(body, ast.ClassDef)
    said = {}
    for here, below in zip(body.body, body.body[1:], strict=False):
        text = below.value if isinstance(below, ast.Expr) else None
        if isinstance(here, ast.AnnAssign) and isinstance(here.target, ast.Name) and isinstance(text, ast.Constant):
            said[here.target.id] = str(text.value)
    return said


def cell(text: str) -> str:
    """Text for one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


assert summary.Summary in reachable(json_file.Document)

if __name__ == "__main__":
    sys.exit(main())
