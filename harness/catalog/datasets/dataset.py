"""Images of subjects, and how subjects are shared out so that nobody is in two parts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import UnusableData

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from harness.records import Setting

FOLDS = 3
"""Each subject is tested in exactly one fold. Source: the protocol of UFPR-Periocular (Zanlorensi et al. 2022)."""
VALIDATION_SHARE = 0.1
"""Of the subjects that are not tested."""
FEWEST_SUBJECTS = 12
"""With fewer, a part of a fold would have less than two, and nobody to be mistaken for."""

_LUMA = np.asarray((0.299, 0.587, 0.114), dtype=np.float32)
"""Grey from red, green and blue. Source: ITU-R BT.601."""
LEARNT_FROM = ("data", "data_sha256", "data_is_synthetic", "fold")
"""Settings of a compression that say on whose images a network was trained last, and which people were held back."""
_DIGITS = 12
"""Of the digest that a person is known by: enough to tell apart more people than there are."""


@dataclass(frozen=True, kw_only=True)
class LearntFrom:
    """Whose images a network is trained on.

    Attributes:
        settings: For people to read: `LEARNT_FROM`.
        people: A digest a person, in the order of their labels.
        held_back: Of those whom the fold keeps for testing.
    """

    settings: dict[str, Setting]
    people: tuple[str, ...]
    held_back: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images of known people, all of one size.

    Attributes:
        name: As it is shown.
        is_synthetic: The images were drawn by a program; every figure from them says so.
        sha256: Of the images and of whose they are: what else is computed from them may be kept under it.
        subjects: The people, in a fixed order.
        subject: Of each image, its place in `subjects`: `[images]`.
        session: Of each image, a number that images taken on one occasion share: `[images]`.
        channels: 3, or 1 for grey images.
    """

    name: str
    is_synthetic: bool
    sha256: str
    subjects: tuple[str, ...]
    subject: NDArray[np.int64]
    session: NDArray[np.int64]
    channels: int
    pixels: Path
    """`.npy`, uint8, `[images, size, size, 3]`."""

    def split(self, fold: int) -> Split:
        """Share out the subjects: a third to test, a tenth of the others to validate, the rest to train.

        Args:
            fold: 0 to 2. The three test parts have no subject in common and all subjects together.

        Raises:
            ValueError: There is no such fold.
            UnusableData: There are too few subjects to share out.
        """
        if not 0 <= fold < FOLDS:
            raise ValueError(f"fold {fold} is not one of 0 to {FOLDS - 1}")
        if len(self.subjects) < FEWEST_SUBJECTS:
            raise UnusableData(self.name, f"{len(self.subjects)} subjects; at least {FEWEST_SUBJECTS} are needed", ())
        # The order is one of the subjects alone: which images they have does not move anybody.
        order = np.random.default_rng((len(self.subjects), FOLDS)).permutation(len(self.subjects))
        tested = order[fold::FOLDS]
        others = order[~np.isin(order, tested)]
        validating = max(2, round(VALIDATION_SHARE * len(others)))
        return Split(
            train=self.part(others[validating:]), validation=self.part(others[:validating]), test=self.part(tested)
        )

    def remembered(self, fold: int) -> LearntFrom:
        """What a network that learns from a fold has to remember, so that nobody tests it on people it has seen."""
        said: tuple[Setting, ...] = (self.name, self.sha256, self.is_synthetic, fold)
        split = self.split(fold)
        return LearntFrom(
            settings=dict(zip(LEARNT_FROM, said, strict=True)),
            people=split.train.people(),
            held_back=split.test.people(),
        )

    def everybody(self) -> Part:
        """All images of all subjects."""
        return self.part(np.arange(len(self.subjects)))

    def part(self, subjects: NDArray[np.int64]) -> Part:
        """All images of some subjects, given by their places."""
        chosen = np.sort(subjects)
        indices = np.flatnonzero(np.isin(self.subject, chosen))
        return Part(
            indices=indices,
            labels=np.searchsorted(chosen, self.subject[indices]),
            sessions=self.session[indices],
            subjects=tuple(self.subjects[place] for place in chosen),
            channels=self.channels,
            pixels=self.pixels,
        )


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some subjects of a data set with all their images; `Samples` as training and evaluation read them.

    Attributes:
        indices: Which images of the data set, `[samples]`.
        labels: Whose they are, as places in `subjects`, `[samples]`.
        sessions: When they were taken, `[samples]`.
        subjects: Their names.
        channels: Of what `images` returns.
    """

    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    sessions: NDArray[np.int64]
    subjects: tuple[str, ...]
    channels: int
    pixels: Path

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read images as networks take them: `[len(indices), channels, size, size]` in -1 to 1."""
        return normalised(np.load(self.pixels, mmap_mode="r")[self.indices[indices]], self.channels)

    def people(self) -> tuple[str, ...]:
        """What each person is known by wherever their images are found again, in the order of `subjects`.

        The least digest of a person's images, at this size: images that are added, taken away or renamed rarely
        change it.
        """
        pixels = np.load(self.pixels, mmap_mode="r")
        digests = [hashlib.sha256(pixels[index].tobytes()).hexdigest() for index in self.indices]
        known: dict[int, str] = {}
        for label, digest in zip(self.labels.tolist(), digests, strict=True):
            known[label] = min(known.get(label, digest), digest)
        return tuple(known[label][:_DIGITS] for label in sorted(known))

    def of_classes(self, people: Sequence[str]) -> Part:
        """The images of people who are classes of a network, each labelled as the network numbers them.

        Args:
            people: What the classes are known by, in their order. Those of whom there is no image have no name here.
        """
        known = dict(zip(self.people(), self.subjects, strict=True))
        number = {person: place for place, person in enumerate(people)}
        label_of = np.asarray([number.get(person, -1) for person in known])
        labels = label_of[self.labels]
        kept = labels >= 0
        return replace(
            self,
            indices=self.indices[kept],
            labels=labels[kept],
            sessions=self.sessions[kept],
            subjects=tuple(known.get(person, "") for person in people),
        )

    def stored(self) -> NDArray[np.uint8]:
        """All images as they are kept: `[samples, size, size, 3]`."""
        chosen: NDArray[np.uint8] = np.load(self.pixels, mmap_mode="r")[self.indices]
        return chosen


@dataclass(frozen=True, kw_only=True)
class Split:
    """The parts of one fold; no subject is in two of them."""

    train: Part
    validation: Part
    test: Part


def normalised(stored: NDArray[np.uint8], channels: int) -> NDArray[np.float32]:
    """Turn kept images, `[images, size, size, 3]`, into `[images, channels, size, size]` with mean = std = 0.5."""
    values = stored.astype(np.float32)
    if channels == 1:
        values = (values @ _LUMA)[..., None]
    return np.ascontiguousarray(np.moveaxis(values / np.float32(127.5) - np.float32(1), -1, 1))
