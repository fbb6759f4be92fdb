"""A comparison's page, for `harness compare` and `harness gate`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.commands.console import note

if TYPE_CHECKING:
    from pathlib import Path

    from harness.regress.gate import GateResult
    from harness.regress.runs import CellComparison
    from harness.report.comparison_page import Compared


def write_page(result: GateResult, to: Path) -> None:
    """Write what was found as a page.

    Raises:
        OSError: The file cannot be written.
    """
    from harness import __version__  # noqa: PLC0415
    from harness.regress.gate_files import as_json  # noqa: PLC0415
    from harness.report.comparison_page import render  # noqa: PLC0415
    from harness.workspace import write_atomically  # noqa: PLC0415

    rows = [_row(cell) for cell in result.cells]
    page = render(result.a, result.b, rows, version=__version__, notes=result.notes, data=as_json(result))
    write_atomically(to, page.encode())
    note(f"wrote {to}")


def _row(cell: CellComparison) -> Compared:
    from harness.regress.levels import UNITS  # noqa: PLC0415
    from harness.report.comparison_page import Compared, Found  # noqa: PLC0415

    found = tuple(
        Found(
            figure=finding.metric,
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
    return Compared(name=cell.name, found=found, problem=cell.problem or differing or cell.status)
