"""The operating curve: how often a slowdown is found, over its size, for our rule and for those of other tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.errors import MissingExtra, UnwritableFolder, UsageError
from harness.regress.selftest.outcome import INTERLEAVED

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from harness.regress.selftest.report import RateTold, SelftestReport

KINDS: Final = (".svg", ".png", ".pdf")
_COLOURS: Final = {
    "this program": "#1b4f72",
    "criterion.rs": "#c0392b",
    "Google Benchmark": "#d68910",
    "asv": "#7d3c98",
    "pyperf": "#239b56",
}


def draw(report: SelftestReport, to: Path) -> None:
    """Write the figure.

    Raises:
        UsageError: The name ends otherwise than in one of `KINDS`.
        UnwritableFolder: The file cannot be written.
        MissingExtra: matplotlib is not installed.
    """
    if to.suffix not in KINDS:
        raise UsageError(f"{to}: a figure is written as {', '.join(KINDS)}")
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  (optional, and slow)
    except ImportError:
        raise MissingExtra("matplotlib", "drawing an operating curve", "analysis") from None
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _ours(left, report)
    _others(right, report)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(to, metadata={"Date": None} if to.suffix == ".svg" else None)
    except OSError as error:
        raise UnwritableFolder(str(to.parent), error.strerror or str(error)) from error


def _ours(axes: Axes, report: SelftestReport) -> None:
    """Each injection that slows inferences down, with the limits of its true rate; dose 0 is a build with itself."""
    nothing = [(0.0, one.slower) for one in report.scenarios if one.kind == "aa"]
    for kind, marker, colour in (("spin", "o", "#1b4f72"), ("repeat", "s", "#5dade2")):
        points = [*nothing, *((one.dose, one.slower) for one in report.scenarios if one.kind == kind and one.done)]
        if len(points) > len(nothing):
            _curve(axes, points, f"{kind}", colour, marker)
    axes.set_title(f"this program, {report.trials} trials", fontsize=10)
    _dress(axes)
    axes.set_ylabel("called slower, %")


def _others(axes: Axes, report: SelftestReport) -> None:
    doses = {one.name: one.dose for one in report.scenarios if one.kind in {"aa", "spin"}}
    for rule in report.rules:
        points = sorted((doses[name], rate) for name, rate in rule.rates.items() if name in doses and rate.of)
        if points and (rule.order != INTERLEAVED or rule.rule == "this program"):
            _curve(axes, points, rule.rule, _COLOURS[rule.rule], ".")
    axes.set_title("others: one build after the other", fontsize=10)
    _dress(axes)


def _curve(axes: Axes, points: list[tuple[float, RateTold]], label: str, colour: str, marker: str) -> None:
    x = [100 * dose for dose, _ in points]
    y = [100 * rate.count / rate.of if rate.of else 0.0 for _, rate in points]
    reach = [
        [value - 100 * rate.at_least for value, (_, rate) in zip(y, points, strict=True)],
        [100 * rate.at_most - value for value, (_, rate) in zip(y, points, strict=True)],
    ]
    axes.errorbar(x, y, yerr=reach, label=label, color=colour, marker=marker, markersize=4, linewidth=1, capsize=2)


def _dress(axes: Axes) -> None:
    axes.set_xlabel("injected slowdown, %")
    axes.set_xscale("symlog", linthresh=1)
    ticks = [0, 0.5, 1, 2, 3, 5, 10]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylim(-3, 103)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8)
