"""ROC and DET curves as pictures."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

from harness.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.records import Accuracy

_TICKS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.4)
_LEAST = 1e-4
"""A rate of 0 lies infinitely far out on a DET curve's axis; it is drawn here."""


def draw_curves(accuracies: Mapping[str, Accuracy], folder: Path) -> tuple[Path, ...]:
    """Draw `roc.png` and `det.png` of everything that was verified; nothing where nothing was.

    Args:
        accuracies: Under the names for the legend.
        folder: Made where it is not there.

    Raises:
        MissingExtra: Matplotlib is not installed.
    """
    verified = {name: a for name, a in accuracies.items() if a.verification is not None}
    if not verified:
        return ()
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtra("matplotlib", "pictures", "analysis") from error
    folder.mkdir(parents=True, exist_ok=True)
    is_synthetic = any(accuracy.is_synthetic for accuracy in verified.values())
    title = "synthetic images" if is_synthetic else next(iter(verified.values())).dataset
    deviate = NormalDist().inv_cdf
    paths = []
    for kind in ("roc", "det"):
        figure = Figure(figsize=(6.4, 5.2), layout="constrained")
        axes = figure.add_subplot()
        for name, accuracy in verified.items():
            assert accuracy.verification is not None
            curve, eer = accuracy.verification.curve, accuracy.verification.eer.value
            label = f"{name} (EER {100 * eer:.2f} %)"
            if kind == "roc":
                axes.plot([p.fmr for p in curve], [1 - p.fnmr for p in curve], label=label, linewidth=1.2)
            else:
                axes.plot(
                    [deviate(_inside(p.fmr)) for p in curve],
                    [deviate(_inside(p.fnmr)) for p in curve],
                    label=label,
                    linewidth=1.2,
                )
        axes.set_xlabel("false match rate")
        if kind == "roc":
            axes.set_xscale("log")
            axes.set_xlim(_LEAST, 1)
            axes.set_ylabel("true match rate")
        else:
            ticks, names = [deviate(rate) for rate in _TICKS], [f"{100 * rate:g} %" for rate in _TICKS]
            axes.set_xticks(ticks, names)
            axes.set_yticks(ticks, names)
            axes.set_xlim(deviate(_LEAST), deviate(0.6))
            axes.set_ylim(deviate(_LEAST), deviate(0.6))
            axes.set_ylabel("false non-match rate")
        axes.set_title(f"{kind.upper()}, {title}")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="x-small")
        path = folder / f"{kind}.png"
        figure.savefig(path, dpi=120, metadata={"Software": None})
        paths.append(path)
    return tuple(paths)


def _inside(rate: float) -> float:
    return min(max(rate, _LEAST), 1 - _LEAST)
