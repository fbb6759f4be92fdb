"""A study for a terminal: a table of every file that fits 80 columns, and its sentences, wrapped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from harness import units
from harness.study.report import images_of, method_of
from harness.study.words import file_of, share, share_interval
from harness.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import RenderableType

    from harness.records import Estimate
    from harness.study.page import StudyDocument
    from harness.study.rows import StudyRow

_GAP = 2
_TIME_WIDTH = 12
"""The most that a device's name may take; longer ones are folded."""
_SHOWN_OF_ABOUT = ("**Not complete:**", "Device ")
"""How those of the sentences on what was done begin without which the figures would be read wrongly."""


def table(figures: StudyDocument, more: str, *, width: int) -> RenderableType:
    """A study for a terminal.

    Args:
        figures: Complete or not.
        more: Where all the rest is.
        width: Columns that are there; nothing printed is wider, from 80 upwards.
    """
    rows = figures.rows
    devices = tuple(dict.fromkeys(timing.device for row in rows for timing in row.timings))
    said = [sentence for sentence in figures.about if sentence.startswith(_SHOWN_OF_ABOUT)]
    parts: list[RenderableType] = [
        Text(clean(f"Ocular study, profile {figures.study.profile.name}"), style="bold"),
        *(_plain(sentence) for sentence in (images_of(figures.study), *said)),
        Text(),
    ]
    if rows:
        grid, left_out = _grid(rows, devices, width)
        parts += [grid, Text()]
        if left_out:
            parts += [_plain(f"There is no room for the times on {', '.join(left_out)}."), Text()]
    for row in rows:
        if row.problem:
            parts += [_plain(f"{row.variant} {file_of(row)}: {row.problem}"), Text()]
    for claim in figures.claims:
        parts += [_plain(claim), Text()]
    return Group(*parts, Text(clean(more), overflow="fold"))


def _grid(rows: Sequence[StudyRow], devices: Sequence[str], width: int) -> tuple[Table, tuple[str, ...]]:
    """Every file, with the times on as many devices as there is room for; and the other devices."""
    names = [(row.network, method_of(row), file_of(row)) for row in rows]
    heads = ("network", "compression", "file")
    widths = [max(len(text) for text in column) for column in zip(heads, *names, strict=True)]
    errors = [_error(row, share) for row in rows]
    with_intervals = [_error(row, share_interval) for row in rows]
    times = {device: _time_width(device) for device in devices}
    # What says most comes first: a time on each device, then how sure an error is.
    room = width - sum(widths) - _GAP * len(widths) - max(map(len, ("EER %", *errors)))
    shown: list[str] = []
    for device in devices:
        if not shown or room >= times[device] + _GAP:
            shown.append(device)
            room -= times[device] + _GAP
    if room >= max(map(len, with_intervals)) - max(map(len, ("EER %", *errors))):
        errors = with_intervals
    grid = Table.grid(padding=(0, _GAP, 0, 0), pad_edge=False)
    for _ in heads:
        grid.add_column(overflow="fold")
    grid.add_column(justify="right", width=max(map(len, ("EER %", *errors))), no_wrap=True)
    for device in shown:
        grid.add_column(justify="right", width=times[device], overflow="fold")
    grid.add_row(*(Text(head, style="dim") for head in (*heads, "EER %", *(f"p50 ms {clean(name)}" for name in shown))))
    for name, error, row in zip(names, errors, rows, strict=True):
        cells = (*map(clean, name), error, *(_time(row, device) for device in shown))
        grid.add_row(*map(Text, cells))
    return grid, tuple(device for device in devices if device not in shown)


def _error(row: StudyRow, said: Callable[[Estimate | None], str]) -> str:
    """Of the file; of the network itself where no file was made of it."""
    return said(row.eer_after if row.format else row.eer_before)


def _time_width(device: str) -> int:
    return min(max(len("p50 ms"), len(device)), _TIME_WIDTH)


def _time(row: StudyRow, device: str) -> str:
    times = (timing.p50_ns for timing in row.timings if timing.device == device)
    return units.milliseconds(next((time for time in times if time is not None), None))


def _plain(markdown: str) -> Text:
    return Text(clean(markdown).replace("**", "").replace("`", ""), overflow="fold")
