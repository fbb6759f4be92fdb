"""Error rates of a comparison, after ISO/IEC 19795-1: false match (FMR) against false non-match (FNMR)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from harness.records import Estimate, RatePoint, Verification

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from harness.evaluate.pairs import Scores

BOOTSTRAP_SAMPLES = 200
CURVE_POINTS = 80
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Curve:
    """Both rates at every threshold that makes a difference, rising; the last lets nobody in.

    Attributes:
        thresholds: A pair whose score is not below is accepted, `[points]`.
        fmr: Falls from 1 to 0, `[points]`.
        fnmr: Rises from 0 to 1, `[points]`.
    """

    thresholds: NDArray[np.float64]
    fmr: NDArray[np.float64]
    fnmr: NDArray[np.float64]

    def eer(self) -> float:
        """The rate at which FMR and FNMR are equal, on the straight line between the two nearest thresholds."""
        gap = self.fnmr - self.fmr
        after = int(np.argmax(gap >= 0))
        before = after - 1
        share = -gap[before] / (gap[after] - gap[before])
        return float(self.fmr[before] + share * (self.fmr[after] - self.fmr[before]))

    def auc(self) -> float:
        """The share of (genuine, impostor) pairs in which the genuine one scores higher; a tie counts half."""
        return float(np.trapezoid(1 - self.fnmr[::-1], self.fmr[::-1]))

    def fnmr_at(self, fmr: float) -> float:
        """The lowest FNMR at a threshold whose FMR is not above `fmr`."""
        return float(self.fnmr[np.argmax(self.fmr <= fmr)])


def verify(scores: Scores, *, embedding_length: int, samples: int = BOOTSTRAP_SAMPLES, seed: int = 0) -> Verification:
    """Compute the rates, each with the interval that drawing the subjects again gives.

    Pairs of one subject are no independent evidence, so it is subjects that are drawn with replacement: a genuine pair
    counts as often as its subject was drawn, an impostor pair as often as both were, multiplied.

    Args:
        scores: Of all pairs.
        embedding_length: For the record.
        samples: How often the subjects are drawn again.
        seed: Of the draws.

    Source: Bolle et al. 2004, "Error analysis of pattern recognition systems: the subsets bootstrap"; percentiles.
    """
    curves = _Curves(scores)
    curve = curves.of(None)
    assert curve is not None
    figures: dict[str, Callable[[Curve], float]] = {"eer": Curve.eer, "auc": Curve.auc}
    for name, fmr in (("fnmr_at_fmr_1e2", 1e-2), ("fnmr_at_fmr_1e3", 1e-3)):
        if len(scores.impostor) * fmr >= 1:  # else not even one false match is allowed: that says nothing of this rate
            figures[name] = partial(Curve.fnmr_at, fmr=fmr)
    generator = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in figures}
    for _ in range(samples):
        counts = np.bincount(generator.integers(0, scores.subjects, scores.subjects), minlength=scores.subjects)
        again = curves.of(counts)  # as large as all scores, so that no two are kept
        if again is not None:
            for name, figure in figures.items():
                drawn[name].append(figure(again))
    found = {name: estimate(figure(curve), drawn[name]) for name, figure in figures.items()}
    return Verification(
        pairing=scores.pairing,
        genuine_pairs=len(scores.genuine),
        impostor_pairs=len(scores.impostor),
        embedding_length=embedding_length,
        eer=found["eer"],
        auc=found["auc"],
        fnmr_at_fmr_1e2=found.get("fnmr_at_fmr_1e2"),
        fnmr_at_fmr_1e3=found.get("fnmr_at_fmr_1e3"),
        curve=_thinned(curve),
        eer_redrawn=tuple(round(eer, 6) for eer in drawn["eer"]),
    )


def curve_of(scores: Scores) -> Curve:
    """Both rates at every threshold."""
    curve = _Curves(scores).of(None)
    assert curve is not None
    return curve


def estimate(value: float, drawn: Sequence[float]) -> Estimate:
    """A figure, with the percentiles of the same figure where subjects were drawn again."""
    if len(drawn) < 2:
        return Estimate(value=value)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(drawn, (tail, 100 - tail))
    return Estimate(value=value, low=float(low), high=float(high))


class _Curves:
    """Makes curves of one set of scores under different weights; the scores are sorted once."""

    def __init__(self, scores: Scores) -> None:
        self._scores = scores
        both = np.concatenate((scores.genuine, scores.impostor))
        distinct, place = np.unique(both, return_inverse=True)
        self._thresholds = np.append(distinct, np.inf)
        self._genuine, self._impostor = np.split(place, [len(scores.genuine)])

    def of(self, counts: NDArray[np.int64] | None) -> Curve | None:
        """The curve with each subject counted so often; None where nothing is left to compare."""
        genuine_weights = impostor_weights = None
        if counts is not None:
            genuine_weights = counts[self._scores.genuine_subject]
            impostor_weights = counts[self._scores.impostor_subjects].prod(axis=1)
            if not genuine_weights.any() or not impostor_weights.any():
                return None
        points = len(self._thresholds) - 1
        below = [
            np.concatenate(([0.0], np.cumsum(np.bincount(place, weights=weights, minlength=points))))
            for place, weights in ((self._genuine, genuine_weights), (self._impostor, impostor_weights))
        ]
        # Not 1 - below / all, which is a rounding above 1 of 100 where 99 are below.
        return Curve(self._thresholds, (below[1][-1] - below[1]) / below[1][-1], below[0] / below[0][-1])


def _thinned(curve: Curve) -> tuple[RatePoint, ...]:
    """Points for a picture: evenly over the normal deviates of FMR, where a DET curve spreads them, and of FNMR."""
    wanted = np.logspace(-5, 0, CURVE_POINTS // 2)
    by_fmr = [int(np.argmax(curve.fmr <= rate)) for rate in wanted]
    by_fnmr = np.searchsorted(curve.fnmr, wanted).clip(0, len(curve.fnmr) - 1)
    # The last threshold is infinite, which JSON has no number for.
    kept = np.unique((0, *by_fmr, *by_fnmr)).clip(0, len(curve.fmr) - 2)
    return tuple(
        RatePoint(
            threshold=float(curve.thresholds[i]), fmr=round(float(curve.fmr[i]), 7), fnmr=round(float(curve.fnmr[i]), 7)
        )
        for i in np.unique(kept)
    )
