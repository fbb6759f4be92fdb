"""Whether the right class comes first, or among the first five."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.errors import DegenerateScores
from harness.evaluate.rates import BOOTSTRAP_SAMPLES, CONFIDENCE
from harness.records import Classification, Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray


def classify(
    logits: NDArray[np.floating],
    labels: NDArray[np.int64],
    *,
    what: str = "",
    samples: int = BOOTSTRAP_SAMPLES,
    seed: int = 0,
) -> Classification:
    """Rank the right class of each image.

    Of equal logits the one with the lower index ranks first, as `argmax` has it: a network that answers the same for
    every class is right by chance only.

    Args:
        logits: `[images, classes]`.
        labels: The right class of each image.
        what: Named in an error.
        samples: How often the images are drawn again for the intervals.
        seed: Of the draws.

    Raises:
        DegenerateScores: Logits are not finite, or there are fewer classes than labels ask for.
    """
    if not np.isfinite(logits).all():
        raise DegenerateScores(what, "logits are not finite")
    classes = logits.shape[1]
    if labels.max() >= classes:
        problem = f"it knows {classes} classes, and the data have {int(labels.max()) + 1}"
        error = DegenerateScores(what, problem)
        error.hint = "To tell apart people it was not trained on, take its classifier off: `harness embed`."
        raise error
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    is_earlier = np.arange(classes)[None, :] < labels[:, None]
    rank = ((logits > own) | ((logits == own) & is_earlier)).sum(axis=1)
    draws = np.random.default_rng(seed).integers(0, len(labels), (samples, len(labels)))
    return Classification(
        classes=classes,
        top1=_share(rank < 1, draws),
        top5=_share(rank < 5, draws) if classes > 5 else None,
    )


def _share(is_right: NDArray[np.bool_], draws: NDArray[np.int64]) -> Estimate:
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(is_right[draws].mean(axis=1), (tail, 100 - tail))
    return Estimate(value=float(is_right.mean()), low=float(low), high=float(high))
