"""The study in pictures: error against latency and against size, with what nothing else beats in both; DET."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import MissingExtra
from harness.evaluate.plots import draw_curves

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.records import Accuracy
    from harness.study.folder import StudyFolder
    from harness.study.rows import StudyRow

_LOOKS = {
    "teacher": ("#000000", "*", "uncompressed"),
    "pruned": ("#d55e00", "o", "pruned weights"),
    "structured": ("#009e73", "s", "pruned channels"),
    "student": ("#0072b2", "^", "distilled"),
}
"""Colours that people with any colour vision tell apart. Source: Okabe and Ito 2008."""
_IN_DET = 8


def draw(folder: StudyFolder, rows: Sequence[StudyRow]) -> tuple[Path, ...]:
    """Draw every picture there are figures for, into the study's folder.

    Raises:
        MissingExtra: Matplotlib is not installed.
    """
    paths: list[Path] = []
    for device, runtime in dict.fromkeys((t.device, t.runtime) for row in rows for t in row.timings):
        points = [
            (row, timing.p50_ns / 1e6)
            for row in rows
            for timing in row.timings
            if (timing.device, timing.runtime) == (device, runtime) and timing.p50_ns is not None
        ]
        emulated = any(t.is_emulated for row in rows for t in row.timings if t.device == device)
        name = "".join(letter if letter.isalnum() else "-" for letter in f"{device}-{runtime}")
        title = f"{device}, {runtime}" + (" (emulated: times mean nothing)" if emulated else "")
        paths += _pareto(folder, points, "p50, ms", title, f"pareto-latency-{name}.png")
    sizes = [(row, row.deflated_bytes / 1e6) for row in rows if row.deflated_bytes is not None]
    paths += _pareto(folder, sizes, "deflated file, MB", "size", "pareto-size.png")
    return (*paths, *_det(folder, rows))


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other is at least as good as in both and better in one; both are better when smaller."""
    kept: list[tuple[float, float]] = []
    for cost, error in sorted(set(points)):
        if not kept or error < kept[-1][1]:
            kept.append((cost, error))
    return kept


def _pareto(
    folder: StudyFolder, points: Sequence[tuple[StudyRow, float]], axis: str, title: str, name: str
) -> list[Path]:
    known = [(row, cost, 100 * row.eer_after.value) for row, cost in points if row.eer_after is not None]
    if not known:
        return []
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtra("matplotlib", "pictures", "analysis") from error
    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    axes = figure.add_subplot()
    for kind, (colour, marker, label) in _LOOKS.items():
        for is_int8 in (False, True):
            these = [
                (cost, eer) for row, cost, eer in known if row.kind == kind and (row.precision == "int8") is is_int8
            ]
            if these:
                axes.scatter(
                    [cost for cost, _ in these],
                    [eer for _, eer in these],
                    c="none" if is_int8 else colour,
                    edgecolors=colour,
                    marker=marker,
                    label=f"{label}, int8" if is_int8 else label,
                    s=50,
                )
    best = front([(cost, eer) for _, cost, eer in known])
    axes.step(
        [cost for cost, _ in best],
        [eer for _, eer in best],
        where="post",
        color="#777777",
        linewidth=1,
        zorder=0,
        label="nothing is better in both",
    )
    for row, cost, eer in known:
        if (cost, eer) in best:
            text = f"{row.network if row.kind == 'student' else row.variant} {row.format}/{row.precision}"
            axes.annotate(text, (cost, eer), fontsize=7, xytext=(4, 4), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_xlabel(axis)
    axes.set_ylabel("EER, %")
    axes.set_ylim(bottom=0)
    data = "synthetic images" if folder.study.is_synthetic else folder.study.dataset
    axes.set_title(f"EER against {axis.split(',', maxsplit=1)[0]}: {title}; {data}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small")
    path = folder.path / name
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return [path]


def _det(folder: StudyFolder, rows: Sequence[StudyRow]) -> tuple[Path, ...]:
    """The teacher, the best of each kind of compression, and all students, as checkpoints."""
    fold = folder.study.profile.folds[0]
    best: dict[str, StudyRow] = {}
    for row in sorted((r for r in rows if r.eer_before is not None), key=lambda r: r.eer_before.value):  # type: ignore[union-attr]
        best.setdefault(row.network if row.kind == "student" else f"{row.kind} {row.asked_ratio}", row)
    curves: dict[str, Accuracy] = {}
    for variant in folder.study.variants:
        network = folder.network(variant, fold)
        is_shown = any(row.variant == variant.name for row in best.values())
        if network is not None and is_shown and network.accuracy is not None:
            curves[variant.name] = network.accuracy
    return draw_curves(dict(list(curves.items())[: _IN_DET * 2]), folder.path)
