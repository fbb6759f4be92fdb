"""Labelled images to train and evaluate with: a folder of a user's own, or made-up ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.catalog.datasets.folder import read_folder
from harness.catalog.datasets.synthetic import make_synthetic, read_recipe
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.catalog.datasets.dataset import Dataset

SYNTHETIC = "synthetic"


def open_dataset(
    reference: str,
    *,
    size: int,
    channels: int = 3,
    watch: Callable[[int, int], None] = lambda _done, _total: None,
) -> Dataset:
    """Open what a user calls a data set. Drawing or decoding it takes a while the first time.

    Args:
        reference: `synthetic`, `synthetic:subjects=300,seed=1` (also `sessions`, `images`), or a folder
            `<subject>/<session>/<image>`.
        size: Height and width of the images.
        channels: 3, or 1 for grey.
        watch: Told how much is done, of how much.

    Raises:
        UsageError: The reference is empty.
        UnusableData: The folder is missing, empty, mixed up or damaged.
        BadSetting: A setting of the made-up data is wrong, or the folder's `dataset.toml`.
    """
    if not reference.strip():  # the current folder, by the rules of paths, which nobody means by an empty variable
        raise UsageError("--data is empty: give a folder <subject>/<session>/<image>, or `synthetic`")
    kind, _, settings = reference.partition(":")
    if kind == SYNTHETIC:
        return make_synthetic(read_recipe(settings), size=size, channels=channels, watch=watch)
    return read_folder(Path(reference), size=size, channels=channels, watch=watch)
