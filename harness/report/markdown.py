"""A run as Markdown, as GitHub renders it: for pull requests, issues and wikis."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness import units
from harness.report import accuracy, cautions, operators, words
from harness.report.answer import answer
from harness.report.view import view
from harness.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.report.view import DeviceRows, Row, Run
    from harness.summary import Summary, WarningKind

_COLUMNS: tuple[tuple[str, Callable[[Summary], str]], ...] = (
    ("p50 ms", lambda s: units.milliseconds(s.p50_ns)),
    ("±", words.plus_minus),
    ("p90 ms", lambda s: units.milliseconds(s.p90_ns)),
    ("p90≤ ms", lambda s: units.milliseconds(s.p90_early_stopping_ns)),
    ("cold ms", lambda s: units.milliseconds(s.cold_start_ns)),
    ("peak MiB", lambda s: units.mebibytes(s.peak_memory_bytes)),
    ("size MiB", lambda s: units.mebibytes(s.size_bytes)),
    ("parity", lambda s: words.scientific(s.parity_relative_l2)),
)


def render(run: Run) -> str:
    """The whole document."""
    shown = view(run)
    lines = [f"# {_text(words.heading(shown.plan))}", ""]
    lines += [f"- {_text(sentence)}" for sentence in answer(shown)]
    has_errors = accuracy.has_errors(shown.rows)
    for device in shown.devices:
        lines += ["", *_device(device, has_errors=has_errors)]
    if any(row.summary for row in shown.rows):
        legend = f"{words.LEGEND} {accuracy.HOW_TO_READ}" if has_errors else words.LEGEND
        lines += ["", f"<sub>{_text(legend)}</sub>"]
    return "\n".join(lines) + "\n"


def _device(device: DeviceRows, *, has_errors: bool) -> list[str]:
    lines = [f"## {_text(words.device_line(device))}", ""]
    if device.is_emulated:
        lines += [f"**{words.EMULATED}**", ""]
    figures = [head for head, _ in _COLUMNS] + (["error %", "95 % interval"] if has_errors else [])
    lines += [_line(["model", "file", "threads", *figures, "notes"])]
    lines += [_line(["---", "---", *["---:"] * (len(figures) + 1), "---"])]
    notes = cautions.notes(device.rows)
    marks = cautions.marks(notes, device.rows)
    for model in device.models:
        name = _text(clean(model.name)) + (" (latency only)" if model.is_untrained else "")
        lines += [_line([name, *_row(row, marks, has_errors=has_errors)]) for row in model.rows]
    lines.append("")
    lines += [f"- {_text(f'{words.row_names(rows)}: {why}')}" for why, rows in words.reasons(device.rows).items()]
    said = (*words.evidence(device.rows), *words.accuracies(device.rows), *operators.in_words(device))
    lines += [f"- {_text(sentence)}" for sentence in said]
    for kind, note in notes.items():
        lines.append(f"- **{marks.get(kind, 'all rows')}:** {_text(f'{note.what} {note.advice}')}")
    return lines


def _row(row: Row, marks: Mapping[WarningKind, str], *, has_errors: bool) -> list[str]:
    first = [_text(row.file), words.threads_of(row)]
    if row.summary is None:
        return [*first, f"**{_text(words.status(row))}**", *[""] * (len(_COLUMNS) + 2 * has_errors)]
    found = ", ".join(marks[warning.kind] for warning in row.warnings if warning.kind in marks)
    errors = [accuracy.error_pct(row), accuracy.ends_pct(row)] if has_errors else []
    return [*first, *(show(row.summary) for _, show in _COLUMNS), *errors, found]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(text: str) -> str:
    """Text as text: nothing in it is markup, a link, a mention or a formula."""
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    text = re.sub(r"([\\`*\[\]|~#$])", r"\\\1", text)
    # Within a word GitHub takes an underscore as it is, and names read better without backslashes.
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)
    # Mentions and links. Last: an escaped # would end the entity.
    return text.replace("@", "&#64;").replace("://", ":&#47;/").replace("www.", "www&#46;")
