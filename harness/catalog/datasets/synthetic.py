"""A made-up periocular data set: seeded, drawn once, kept in the cache."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock

from harness.catalog.datasets.dataset import Dataset
from harness.catalog.datasets.eyes import draw_captures, draw_identity, joined, render, repeated
from harness.errors import BadSetting
from harness.workspace import cache_dir, folder_in_the_making, sha256_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_HERE = Path(__file__).resolve().parent
_IDENTITY, _CAPTURES, _NOISE = 0, 1, 2
"""Streams of random numbers: more sessions, or larger images, leave the people as they are."""
_MOST = {"subjects": 100_000, "sessions": 100, "images": 1000, "seed": 2**32 - 1}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What decides every pixel, besides the size.

    Attributes:
        subjects: People.
        sessions: Occasions on which each was taken; light, camera and glasses change between them.
        images: Pictures of each person on each occasion.
        seed: Of everything that is drawn.
    """

    subjects: int = 300
    sessions: int = 2
    images: int = 5
    seed: int = 0

    def __str__(self) -> str:
        return ",".join(f"{name}={getattr(self, name)}" for name in _MOST)


def read_recipe(settings: str) -> Recipe:
    """Read `subjects=300,seed=1`; what is not said stays as it is.

    Raises:
        BadSetting: A key is unknown, or a value no number that makes sense.
    """
    found: dict[str, int] = {}
    for setting in filter(None, settings.split(",")):
        key, _, value = setting.partition("=")
        if key not in _MOST:
            raise BadSetting("synthetic", None, key, "there is no such setting", tuple(_MOST))
        fewest = 0 if key == "seed" else 1
        if not value.isdecimal() or not fewest <= int(value) <= _MOST[key]:
            raise BadSetting("synthetic", None, key, f"{value!r} is not a number from {fewest} to {_MOST[key]:,}", ())
        found[key] = int(value)
    return Recipe(**found)


def make_synthetic(
    recipe: Recipe, *, size: int, channels: int, watch: Callable[[int, int], None] = lambda _done, _total: None
) -> Dataset:
    """Draw a data set, or find it drawn.

    The same recipe gives the same pixels in every process on one kind of processor; elsewhere a sine may differ in its
    last digit, and a pixel in its last step.

    Args:
        recipe: What to draw.
        size: Height and width of the images.
        channels: 3, or 1 for grey.
        watch: Told how many subjects are drawn, of how many.
    """
    code = [sha256_file(_HERE / name) for name in ("eyes.py", "synthetic.py")]
    key = hashlib.sha256(repr((recipe, size, code, np.__version__)).encode()).hexdigest()
    folder = cache_dir() / "datasets" / key[:32]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            with folder_in_the_making(folder) as making:
                _draw(recipe, size, making / "pixels.npy", watch)
    each = recipe.sessions * recipe.images
    return Dataset(
        name=f"synthetic:{recipe}",
        is_synthetic=True,
        sha256=key,
        subjects=tuple(f"s{number:05d}" for number in range(recipe.subjects)),
        subject=np.repeat(np.arange(recipe.subjects), each),
        session=np.tile(np.repeat(np.arange(recipe.sessions), recipe.images), recipe.subjects),
        channels=channels,
        pixels=folder / "pixels.npy",
    )


def draw_subject(recipe: Recipe, subject: int, *, size: int) -> NDArray[np.uint8]:
    """Draw all pictures of one person, session by session: `[sessions * images, size, size, 3]`."""
    identity = draw_identity(np.random.default_rng((recipe.seed, subject, _IDENTITY)))
    sessions = [
        draw_captures(np.random.default_rng((recipe.seed, subject, _CAPTURES, session)), recipe.images)
        for session in range(recipe.sessions)
    ]
    pictures = recipe.sessions * recipe.images
    sensor = np.random.default_rng((recipe.seed, subject, _NOISE))
    noise = sensor.standard_normal((pictures, size, size, 3), dtype=np.float32)
    return render(repeated(identity, pictures), joined(sessions), noise, size=size)


def _draw(recipe: Recipe, size: int, path: Path, watch: Callable[[int, int], None]) -> None:
    each = recipe.sessions * recipe.images
    shape = (recipe.subjects * each, size, size, 3)
    pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    for subject in range(recipe.subjects):
        pixels[subject * each : (subject + 1) * each] = draw_subject(recipe, subject, size=size)
        watch(subject + 1, recipe.subjects)
    pixels.flush()
