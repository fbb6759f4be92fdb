"""What comparisons say, for people: at most 80 columns."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from harness import units
from harness.regress import planning
from harness.regress.effect import CONFIDENCE
from harness.text import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.records import ComparePlan, Comparison, DeviceFacts, Plan
    from harness.regress.decision import FamilyRule
    from harness.regress.runs import CellComparison
    from harness.regress.trials import Finding

METRIC_NAMES = {"p50": "p50", "p90": "p90", "cold_start": "cold start", "memory": "peak memory", "size": "file size"}
_RUNTIMES: Final = frozenset({"ai-edge-litert", "coremltools", "onnxruntime"})
"""Packages that a run's figures are of."""


def change(ratio: float) -> str:
    """A ratio as a change: `+2.10 %`."""
    return f"{100 * (ratio - 1):+.2f} %"


def interval(finding: Finding) -> str:
    """`+1.20 to +3.00 %`, `exact`, or a dash."""
    effect = finding.effect
    if effect is None:
        return "–"
    if effect.method == "exact":
        return "exact"
    return f"{100 * (effect.ratio_low - 1):+.2f} to {100 * (effect.ratio_high - 1):+.2f} %"


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a device before a comparison on it begins.

    Attributes:
        device: Its id.
        noise: Of a trial, as a robust standard deviation of the logarithm of p50.
        is_calibrated: Whether that was measured there; otherwise it is assumed.
        trial_s: How long a trial takes, in seconds.
        memory_s: How much longer one that measures memory, too.
        takes_turns: Whether whole processes take turns, for which no noise is known beforehand.
    """

    device: str
    noise: float
    is_calibrated: bool
    trial_s: float
    memory_s: float
    takes_turns: bool

    def seconds(self, trials: int, memory_trials: int) -> float:
        """How long so many trials take, of which some measure memory; never more than there are."""
        return trials * self.trial_s + min(memory_trials, trials) * self.memory_s


def plan_text(plan: ComparePlan, known: Known) -> str:
    """What a comparison will be able to see, said before it begins."""
    time = units.elapsed(known.seconds(plan.trials, plan.memory_trials))
    return f"{plan.trials} trials, some {time}. {_visible_text(known, plan.trials, planning.ALPHA)}"


def family_plan_text(rule: FamilyRule, known: Known, *, cells: int, metrics: int, memory_trials: int) -> str:
    """What a gate will be able to see, and how long it takes at least and at most, said before it begins.

    Args:
        rule: Of the family.
        known: Of the device.
        cells: How many there are.
        metrics: How many figures of each are compared.
        memory_trials: Of a stage, at most.
    """
    screen, more = (known.seconds(trials, memory_trials) for trials in (rule.screen_trials, rule.confirm_trials))
    time = f"some {units.elapsed(cells * screen)}, {units.elapsed(cells * (screen + more))} at most"
    alpha = min(rule.cell_alpha, rule.family_alpha / (cells * metrics))
    return (
        f"{count(cells, 'cell', 'cells')}: {rule.screen_trials} trials, {rule.confirm_trials} fresh ones "
        f"where these leave it open; {time}.\n{_visible_text(known, rule.confirm_trials, alpha)}"
    )


def _visible_text(known: Known, trials: int, alpha: float) -> str:
    if known.takes_turns:
        return "Whole processes take turns here: a slowdown has to be several times as large to be found."
    visible = planning.smallest_effect(known.noise, trials, alpha=alpha)
    where = "measured here" if known.is_calibrated else f"assumed; `harness calibrate {known.device}` measures it"
    return (
        f"A slowdown of {100 * visible:.1f} % in p50 is found in 9 of 10 comparisons\n"
        f"(noise of a trial {100 * known.noise:.2f} %, {where})."
    )


def detectable(noise: float, trial_s: float) -> list[dict[str, float]]:
    """What slowdown is found in which time."""
    rows = []
    for trials in (10, 20, 40, 100, 200):
        visible = planning.smallest_effect(noise, trials)
        rows.append({"trials": trials, "seconds": trials * trial_s, "slowdown_pct": 100 * visible})
    return rows


def noise_text(device: str, noise: float, trial_s: float) -> str:
    """A device's noise, and what it means."""
    lines = [f"{device}: a trial is off by {100 * noise:.2f} % (one robust standard deviation)", ""]
    lines.append(f"{'trials':>6} {'time':>10}  slowdown found in 9 of 10 comparisons")
    lines += [
        f"{row['trials']:>6.0f} {units.elapsed(row['seconds']):>10}  {row['slowdown_pct']:.1f} %"
        for row in detectable(noise, trial_s)
    ]
    return "\n".join(lines)


def family_text(rule: FamilyRule, cells: int) -> str:
    """How a family of cells was judged."""
    return (
        f"{cells} cells, measured in turn with what they are compared with: {rule.screen_trials} trials each, and "
        f"{rule.confirm_trials} fresh ones where these left something open. A false alarm in at most "
        f"{100 * rule.family_alpha:g} % of runs, over all cells."
    )


def measured_text(devices: Sequence[DeviceFacts], at: str, what: str = "Measured") -> str:
    """`Measured on Pixel 8 (Tensor G3, Android 15) at 2026-11-26 20:40 UTC.`, for each device in order."""
    named = [
        f"{device.name} ({', '.join(part for part in (device.cpu, device.os, _machine(device)) if part)})"
        for device in devices
    ]
    when = datetime.fromisoformat(at).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{what} on {', '.join(named)} at {when}."


def builds_text(compared: Comparison) -> tuple[str, str]:
    """Of either side what ran: `A: litert 2.3.0 by bench, file 3f2a1b9.`."""
    sides = (("A", compared.a), ("B", compared.b))
    first, second = (
        f"{name}: {side.ran.runtime} {side.ran.version} by {side.ran.driver}, "
        f"file {units.short_hash(side.artifact.sha256)} (SHA-256)."
        for name, side in sides
    )
    return first, second


def run_text(plan: Plan, name: str) -> str:
    """By which build and command a stored run was made."""
    commit = f" from commit {units.short_hash(plan.harness_commit)}" if plan.harness_commit else ""
    command = f", `{' '.join(plan.command)}`" if plan.command else ""
    versions = sorted({f"{name} {version}" for name, version in plan.packages.items() if name in _RUNTIMES})
    beside = f"; {', '.join(versions)}" if versions else ""
    return f"{name}: harness {plan.harness_version}{commit}{command}{beside}."


def _machine(device: DeviceFacts) -> str | None:
    if device.is_emulated:
        return "emulated"
    return f"virtual machine, {device.virtual_machine}" if device.virtual_machine else None


def apart_text(a_at: str, b_at: str) -> str:
    """The warning that belongs to two runs."""
    apart_s = abs((datetime.fromisoformat(b_at) - datetime.fromisoformat(a_at)).total_seconds())
    return (
        f"These runs are {units.elapsed(apart_s)} apart: what changed on the device meanwhile is in every ratio. "
        "Builds measured in turn (`harness compare A B`) do not have this."
    )


def comparison_text(comparison: Comparison, found: Sequence[Finding]) -> str:
    """A comparison as a table."""
    lines = [f"A  {side_text(comparison.a.said)}", f"B  {side_text(comparison.b.said)}", ""]
    lines += table(found)
    how = comparison.trials[0].how if comparison.trials else "alive together"
    lines += ["", f"B over A; {len(comparison.trials)} trials, processes {how}, interval of {100 * CONFIDENCE:g} %."]
    disturbed = max((finding.disturbed for finding in found), default=0)
    if disturbed:
        lines.append(f"{disturbed} trials were disturbed and do not count.")
    if comparison.device.is_emulated:
        lines.append("The device is emulated: no time means anything.")
    return "\n".join(lines)


def side_text(said: str) -> str:
    """What the user said, shortened to a line."""
    return said if len(said) <= 76 else f"…{said[-75:]}"


def table(found: Sequence[Finding]) -> list[str]:
    """The findings of one cell, aligned."""
    lines = [f"{'metric':<12} {'change':>10} {'interval':>22} {'margin':>8}  verdict"]
    for finding in found:
        changed = "–" if finding.effect is None else change(finding.effect.ratio)
        lines.append(
            f"{METRIC_NAMES[finding.metric]:<12} {changed:>10} {interval(finding):>22} "
            f"{f'{100 * finding.margin:g} %':>8}  {finding.verdict}"
        )
    return lines


def cells_text(cells: Sequence[CellComparison], named: Mapping[str, str] | None = None) -> str:
    """Cells as a list: what is well in a line each, what is not with its figures.

    Args:
        cells: Of a gate, or of two runs.
        named: Cell id -> what its row is called, where that is another thing.
    """
    lines: list[str] = []
    for cell in cells:
        lines += [f"{(named or {}).get(cell.name, cell.name)}: {cell_verdict(cell)}"]
        if cell.status == "compared":
            lines += [f"  {line}" for line in table(cell.findings)]
        lines += [f"  {difference.key}: {difference.a} | {difference.b}" for difference in cell.differences]
        if cell.problem:
            lines.append(f"  {cell.problem}")
        changed = device_changed(cell)
        if changed is not None:
            lines.append(f"  {changed}")
        lines.append("")
    return "\n".join(lines).rstrip()


def device_changed(cell: CellComparison) -> str | None:
    """What a fixed piece of work says of the device between two runs, where it took another time by over 1 %."""
    if cell.canary is None or abs(cell.canary - 1) <= 0.01:
        return None
    return f"A fixed piece of work took {change(cell.canary)} in the second run: the device changed."


def cell_verdict(cell: CellComparison) -> str:
    """The one word for a cell: its status, or the gravest of its verdicts."""
    if cell.status != "compared":
        return cell.status
    order = ("regression", "inconclusive", "small slowdown", "improvement", "pass")
    verdicts = {finding.verdict for finding in cell.findings}
    return next((verdict for verdict in order if verdict in verdicts), "inconclusive")
