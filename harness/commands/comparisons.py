"""A comparison's page, for `harness compare` and `harness gate`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.commands.console import note

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.regress.gate import GateResult
    from harness.regress.runs import CellComparison
    from harness.report.comparison_page import Compared
    from harness.report.view import Run


def titles(*runs: Run) -> dict[str, str]:
    """Cell id -> what its row is called in the report of the last of these runs that has it."""
    from harness.report.view import view  # noqa: PLC0415
    from harness.text import clean  # noqa: PLC0415

    found = {}
    for run in runs:
        shown = view(run)
        names = {device.id: f" on {clean(device.name)}" if len(shown.devices) > 1 else "" for device in shown.devices}
        for row in shown.rows:
            found[row.cell.id] = f"{clean(row.cell.model)} {row.name}{names[row.cell.device_id]}"
    return found


def summary(cells: Sequence[CellComparison], named: Mapping[str, str]) -> str:
    """What a page begins with, in a line."""
    from harness.report.comparison_page import answer  # noqa: PLC0415

    return answer([_row(cell, named) for cell in cells])


def write_page(result: GateResult, to: Path, named: Mapping[str, str] | None = None) -> None:
    """Write what was found as a page.

    Args:
        result: Of a gate, or of one comparison.
        to: The file.
        named: Cell id -> what its row is called, where that is another thing.

    Raises:
        OSError: The file cannot be written.
    """
    from harness import __version__  # noqa: PLC0415
    from harness.regress.gate_files import as_json  # noqa: PLC0415
    from harness.report.comparison_page import render  # noqa: PLC0415
    from harness.workspace import write_atomically  # noqa: PLC0415

    rows = [_row(cell, named or {}) for cell in result.cells]
    page = render(result.a, result.b, rows, version=__version__, notes=result.notes, data=as_json(result))
    write_atomically(to, page.encode())
    note(f"wrote {to}")


def _row(cell: CellComparison, named: Mapping[str, str]) -> Compared:
    from harness.regress.levels import UNITS  # noqa: PLC0415
    from harness.regress.words import METRIC_NAMES, cell_verdict  # noqa: PLC0415
    from harness.report.comparison_page import Compared, Found  # noqa: PLC0415

    found = tuple(
        Found(
            figure=METRIC_NAMES[finding.metric],
            verdict=finding.verdict,
            ratio=finding.effect.ratio if finding.effect else None,
            low=finding.effect.ratio_low if finding.effect else None,
            high=finding.effect.ratio_high if finding.effect else None,
            confidence=finding.effect.confidence if finding.effect and finding.effect.method != "exact" else None,
            margin=finding.margin,
            a=cell.levels[finding.metric].a if finding.metric in cell.levels else None,
            b=cell.levels[finding.metric].b if finding.metric in cell.levels else None,
            unit=UNITS[finding.metric],
            trials=tuple(math.exp(value) for value in finding.values),
        )
        for finding in cell.findings
    )
    differing = "; ".join(f"{each.key}: {each.a} there, {each.b} here" for each in cell.differences)
    return Compared(
        name=named.get(cell.name, cell.name),
        found=found,
        verdict=cell_verdict(cell),
        problem=cell.problem or differing or cell.status,
    )
