"""Compare embeddings: which pairs of images, and how alike each is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.errors import DegenerateScores

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROWS = 512
"""Images compared with all others at once; bounds the memory."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Similarities of pairs, and whose pairs they are.

    Attributes:
        genuine: Of two images of one subject, `[genuine]`.
        impostor: Of images of two subjects, `[impostor]`.
        genuine_subject: Whose, `[genuine]`.
        impostor_subjects: Whose, `[impostor, 2]`.
        subjects: How many subjects there are; each is a number below it.
        pairing: Which images were compared.
    """

    genuine: NDArray[np.float64]
    impostor: NDArray[np.float64]
    genuine_subject: NDArray[np.int64]
    impostor_subjects: NDArray[np.int64]
    subjects: int
    pairing: Literal["across sessions", "all pairs"]


def compare(
    embeddings: NDArray[np.floating], subject: NDArray[np.int64], session: NDArray[np.int64], *, what: str = ""
) -> Scores:
    """Score every pair of images by the cosine of their embeddings.

    Images of one session are alike for reasons that have nothing to do with the subject (one lamp, one camera), so
    where there are several sessions only images of different ones are compared.

    Args:
        embeddings: `[images, length]`.
        subject: Of each image, 0 to subjects - 1.
        session: Of each image.
        what: Named in an error.

    Raises:
        DegenerateScores: Embeddings are not finite or zero, all pairs are alike, or there is nothing to compare.
    """
    values = embeddings.astype(np.float64)
    if not np.isfinite(values).all():
        raise DegenerateScores(what, "embeddings are not finite")
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    if not lengths.all():
        raise DegenerateScores(what, f"{int((lengths == 0).sum())} of {len(values)} embeddings are zero")
    directions = values / lengths
    is_across = len(np.unique(session)) > 1
    pairs = [_pairs(directions, subject, session, start, is_across=is_across) for start in range(0, len(values), _ROWS)]
    scores, first, second = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    is_genuine = first == second
    if is_genuine.all() or not is_genuine.any():
        missing = "two subjects" if is_genuine.all() else "one subject"
        raise DegenerateScores(what, f"no two images of {missing} can be compared")
    if np.ptp(scores) < 1e-9:
        raise DegenerateScores(what, "all embeddings point the same way")
    return Scores(
        genuine=scores[is_genuine],
        impostor=scores[~is_genuine],
        genuine_subject=first[is_genuine],
        impostor_subjects=np.stack((first[~is_genuine], second[~is_genuine]), axis=-1),
        subjects=int(subject.max()) + 1,
        pairing="across sessions" if is_across else "all pairs",
    )


def _pairs(
    directions: NDArray[np.float64],
    subject: NDArray[np.int64],
    session: NDArray[np.int64],
    start: int,
    *,
    is_across: bool,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Each of some images with every later one: scores, and the subjects of both."""
    rows = np.arange(start, min(start + _ROWS, len(directions)))
    is_compared = rows[:, None] < np.arange(len(directions))[None, :]
    if is_across:
        is_compared &= session[rows][:, None] != session[None, :]
    row, column = np.nonzero(is_compared)
    # Rounding takes a cosine of 1 to either side of it; equal images have to be equal.
    scores = np.clip(np.round((directions[rows] @ directions.T)[row, column], 12), -1.0, 1.0)
    return scores, subject[rows[row]], subject[column]
