"""A run as tables for a terminal: readable at 80 columns, more columns where there is room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from harness import units
from harness.report import accuracy, cautions, operators, words
from harness.report.answer import answer
from harness.report.view import view

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.console import RenderableType

    from harness.report.view import DeviceRows, Row, Run
    from harness.summary import Summary, WarningKind

_MIN_FILE_WIDTH = 12
"""A column narrower than this breaks `tflite/int8` in two."""


@dataclass(frozen=True)
class _Column:
    head: str
    width: int
    show: Callable[[Summary], str]
    style: str = ""


_ALWAYS = (
    _Column("p50\nms", 6, lambda s: units.milliseconds(s.p50_ns), "bold"),
    _Column("±\n", 5, words.plus_minus),
    _Column("p90\nms", 6, lambda s: units.milliseconds(s.p90_ns)),
    _Column("cold\nms", 6, lambda s: units.milliseconds(s.cold_start_ns)),
    _Column("peak\nMiB", 6, lambda s: units.mebibytes(s.peak_memory_bytes)),
    _Column("size\nMiB", 6, lambda s: units.mebibytes(s.size_bytes)),
    _Column("parity\n", 7, lambda s: words.scientific(s.parity_relative_l2)),
)
_WHERE_THERE_IS_ROOM = (
    _Column("p90≤\nms", 6, lambda s: units.milliseconds(s.p90_early_stopping_ns)),
    _Column("min\nms", 6, lambda s: units.milliseconds(s.min_ns)),
    _Column("load\nms", 6, lambda s: units.milliseconds(s.load_ns)),
    _Column("first\nms", 6, lambda s: units.milliseconds(s.first_inference_ns)),
    _Column("model\nMiB", 6, lambda s: units.mebibytes(s.model_memory_bytes)),
    _Column("CV in\nprocess", 7, lambda s: units.percent(s.within_cv_pct)),
    _Column("CV be-\ntween", 7, lambda s: units.percent(s.between_cv_pct)),
    _Column("per\nsecond", 6, lambda s: units.three_digits(s.throughput_per_s)),
    _Column("samples\n", 7, lambda s: f"{s.samples:,}"),
)
"""In the order in which they are added."""
_ERROR = ("error\n%", 6)
"""Head and width of a column that stands after the others where any row of the run has an error."""
_MARKS_WIDTH = 6
_THREADS_WIDTH = 3
_STYLES = {"failed": "bold red", "not_runnable": "yellow", "not_run": "dim", "simulated": "yellow"}
_IN_HEADINGS: frozenset[str] = frozenset({"emulated", "untrained"})
"""Said in the line of the device or the model, so that it needs no footnote."""


def table(run: Run, *, width: int) -> RenderableType:
    """A run for a terminal.

    Args:
        run: Complete or not.
        width: Columns that are there; nothing printed is wider, from 80 upwards.
    """
    shown = view(run)
    parts: list[RenderableType] = [Text(words.heading(shown.plan), style="bold"), Text()]
    has_errors = accuracy.has_errors(shown.rows)
    for device in shown.devices:
        parts += _device(device, width, has_errors=has_errors)
    if any(row.summary for row in shown.rows):
        legend = f"{words.LEGEND} {accuracy.HOW_TO_READ}" if has_errors else words.LEGEND
        parts += [Text(legend, style="dim"), Text()]
    return Group(*parts, *(Text(sentence) for sentence in answer(shown)))


def _device(device: DeviceRows, width: int, *, has_errors: bool) -> list[RenderableType]:
    notes = cautions.notes(device.rows)
    marks = cautions.marks(notes, device.rows, without=_IN_HEADINGS)
    reasons = words.reasons(device.rows)
    numbers = {row.cell.id: number for number, rows in enumerate(reasons.values(), start=1) for row in rows}
    layout = _layout(max((len(row.file) for row in device.rows), default=0), width, has_errors=has_errors)
    parts: list[RenderableType] = [Text(words.device_line(device), style="bold cyan")]
    if device.is_emulated:
        parts.append(Text(words.EMULATED, style="bold white on red"))
    heads = layout.grid()
    heads.add_row(*(Text(text, style="dim") for text in layout.heads))
    parts.append(heads)
    for model in device.models:
        parts += [Text(words.model_line(model), style="bold"), *_rows(model.rows, layout, marks, numbers), Text()]
    said = (*words.evidence(device.rows), *words.accuracies(device.rows), *operators.in_words(device))
    proved: list[RenderableType] = [_hanging("", sentence, "dim") for sentence in said]
    return [*parts, *_footnotes(reasons, notes, marks), *proved, Text()]


@dataclass(frozen=True)
class _Layout:
    columns: tuple[_Column, ...]
    file_width: int
    gap: int
    has_errors: bool

    @property
    def heads(self) -> tuple[str, ...]:
        """What stands above each column but that of the marks."""
        return ("file", "thr", *(column.head for column in self.columns), *([_ERROR[0]] if self.has_errors else ()))

    def grid(self) -> Table:
        """An empty table of these columns; several of them stand below each other as if they were one."""
        grid = self._start()
        for width in (*(column.width for column in self.columns), *([_ERROR[1]] if self.has_errors else ())):
            grid.add_column(width=width, justify="right", no_wrap=True, overflow="ellipsis")
        grid.add_column(width=_MARKS_WIDTH, overflow="fold")
        return grid

    def remark(self) -> Table:
        """The same first columns, and one for text."""
        grid = self._start()
        grid.add_column()
        return grid

    def _start(self) -> Table:
        grid = Table.grid(padding=(0, self.gap, 0, 0), pad_edge=False)
        grid.add_column(width=self.file_width, overflow="fold")
        grid.add_column(width=_THREADS_WIDTH, justify="right", no_wrap=True)
        return grid


def _layout(longest_file: int, width: int, *, has_errors: bool) -> _Layout:
    columns = list(_ALWAYS)
    others = [_THREADS_WIDTH, _MARKS_WIDTH, *([_ERROR[1]] if has_errors else ())]
    gap = 2 if _needed(columns, others, 2) + longest_file <= width else 1
    for column in _WHERE_THERE_IS_ROOM:
        if _needed([*columns, column], others, 2) + longest_file <= width:
            columns.append(column)
    file_width = max(_MIN_FILE_WIDTH, min(longest_file, width - _needed(columns, others, gap)))
    return _Layout(tuple(columns), file_width, gap, has_errors)


def _needed(columns: Sequence[_Column], others: Sequence[int], gap: int) -> int:
    """The width of all but the first column."""
    widths = [*others, *(column.width for column in columns)]
    return sum(widths) + gap * len(widths)


def _rows(
    rows: Sequence[Row], layout: _Layout, marks: Mapping[WarningKind, str], numbers: Mapping[str, int]
) -> list[RenderableType]:
    grids: list[RenderableType] = []
    for row in rows:
        first = [Text(row.file), Text(words.threads_of(row))]
        if row.summary is None:
            grid = layout.remark()
            number = numbers.get(row.cell.id)
            see = f" (see {number})" if number else ""
            text = words.status(row, see)
            grid.add_row(*first, Text(text, style=_STYLES[row.status]))
        else:
            grid = layout.grid()
            cells = [Text(column.show(row.summary), style=column.style) for column in layout.columns]
            if layout.has_errors:
                cells.append(Text(accuracy.error_pct(row)))
            found = [marks[warning.kind] for warning in row.warnings if warning.kind in marks]
            grid.add_row(*first, *cells, Text("".join(found), style="yellow"))
        grids.append(grid)
    return grids


def _footnotes(
    reasons: Mapping[str, tuple[Row, ...]],
    notes: Mapping[WarningKind, cautions.Note],
    marks: Mapping[WarningKind, str],
) -> list[RenderableType]:
    lines: list[RenderableType] = [
        _hanging(str(number), f"{words.row_names(rows)}: {why}", "red")
        for number, (why, rows) in enumerate(reasons.items(), start=1)
    ]
    for kind, note in notes.items():
        if kind not in _IN_HEADINGS:
            lines.append(_hanging(marks.get(kind, "all"), f"{note.what} {note.advice}", "yellow"))
    return lines


def _hanging(mark: str, text: str, style: str) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0), expand=True)
    grid.add_column(width=3, no_wrap=True)
    grid.add_column(overflow="fold", ratio=1)
    grid.add_row(Text(mark, style=style), Text(text, style="dim"))
    return grid
