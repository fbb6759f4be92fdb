"""The gate: what a team tolerates, and whether a comparison stays within it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import msgspec

from harness.records import Record
from harness.regress.decision import MARGINS, Metric
from harness.regress.words import cell_verdict
from harness.settings import bad_setting, read_settings

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from harness.regress.runs import CellComparison
    from harness.regress.trials import Finding

GATE_SCHEMA = 1
Percent: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=1000)]
Means: TypeAlias = Literal["pass", "fail"]
"""What something does to the gate: it is said and passes, or it fails."""


class Margins(Record, frozen=True, kw_only=True):
    """How much larger a figure may be, in per cent. What is not said is as elsewhere."""

    p50_pct: Percent | None = None
    p90_pct: Percent | None = None
    cold_start_pct: Percent | None = None
    memory_pct: Percent | None = None
    size_pct: Percent | None = None


class CellMargins(Record, frozen=True, kw_only=True):
    """Margins of some cells."""

    match: str
    """A pattern of cell ids, `*` standing for anything."""
    margins: Margins


class GateSettings(Record, frozen=True, kw_only=True):
    """A gate.toml."""

    schema: int = GATE_SCHEMA
    inconclusive: Means = "pass"
    """A comparison that cannot tell no difference, or a small one, from one beyond the margin."""
    gone: Means = "fail"
    """A cell of the baseline that the candidate does not have."""
    margins: Margins = Margins()
    cells: tuple[CellMargins, ...] = ()
    """A later one overrides an earlier one."""

    def margins_of(self, cell: str) -> dict[Metric, float]:
        """The margins of one cell, as fractions."""
        found = dict(MARGINS)
        for margins in (self.margins, *(each.margins for each in self.cells if fnmatchcase(cell, each.match))):
            for metric in MARGINS:
                percent = getattr(margins, f"{metric}_pct")
                if percent is not None:
                    found[metric] = percent / 100
        return found

    def idle_patterns(self, cells: Iterable[str]) -> tuple[str, ...]:
        """Patterns that name no cell of these: a slip, which would leave a wider margin in force than was meant."""
        names = list(cells)
        return tuple(each.match for each in self.cells if not any(fnmatchcase(name, each.match) for name in names))


def read_gate(path: Path) -> GateSettings:
    """Read a gate.toml.

    Raises:
        BadSetting: A key or value in it is wrong.
    """
    settings = read_settings(path, GateSettings)
    if settings.schema != GATE_SCHEMA:
        problem = f"this program reads version {GATE_SCHEMA}, not {settings.schema}"
        raise bad_setting(path, ("schema",), problem, (str(GATE_SCHEMA),))
    return settings


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """What a gate says.

    Attributes:
        a: What was compared with, for people.
        b: What was compared.
        cells: Every cell of either.
        inconclusive: What an inconclusive cell means.
        gone: What a cell means that was measured before only.
        notes: What a reader has to know: how it was compared, and how far that can be trusted.
    """

    a: str
    b: str
    cells: tuple[CellComparison, ...]
    inconclusive: Means
    gone: Means = "fail"
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 pass, 1 regression, 2 nothing that could be compared, or a cell that could not."""
        states = {self.state(cell) for cell in self.cells}
        if "failed" in states:
            return 1
        compared = any(cell.status in {"compared", "broken"} for cell in self.cells)
        return 2 if "refused" in states or not compared else 0

    @property
    def word(self) -> str:
        """`passed`, `failed` or `refused`."""
        return ("passed", "failed", "refused")[self.exit_code]

    def state(self, cell: CellComparison) -> Literal["passed", "failed", "refused", "warned"]:
        """What one cell does to the gate. `warned` passes, and is to be looked at."""
        verdict = cell_verdict(cell)
        if verdict in {"regression", "broken"}:
            return "failed"
        if verdict == "incomparable":
            return "refused"
        if verdict == "gone":
            return "failed" if self.gone == "fail" else "warned"
        if verdict == "inconclusive" or any(map(_may_be_beyond, cell.findings)):
            return "failed" if self.inconclusive == "fail" else "warned"
        return "warned" if verdict == "small slowdown" else "passed"


def _may_be_beyond(finding: Finding) -> bool:
    """Whether a slowdown that is certain, and called small, may all the same be larger than its margin."""
    effect = finding.effect
    return finding.verdict == "small slowdown" and effect is not None and effect.high > math.log1p(finding.margin)
