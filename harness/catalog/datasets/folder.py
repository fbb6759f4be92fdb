"""A folder of images as a data set: `<subject>/<session>/<image>`, checked whole before anything is computed."""

from __future__ import annotations

import hashlib
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock

from harness.catalog.datasets.dataset import Dataset
from harness.errors import MissingExtra, UnusableData
from harness.records import DatasetSpec
from harness.settings import read_settings
from harness.workspace import cache_dir, folder_in_the_making, sha256_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
SETTINGS = "dataset.toml"
_CLUTTER = frozenset({"Thumbs.db", "desktop.ini", "README", "LICENSE", SETTINGS})
_DOCUMENTS = frozenset({".csv", ".htm", ".html", ".json", ".log", ".md", ".pdf", ".toml", ".tsv", ".txt", ".xml"})
"""What file managers, people and makers of data sets leave beside images, and no reason to refuse a folder."""
_NAMED = 5
"""How many files a message names."""


def read_folder(
    root: Path, *, size: int, channels: int, watch: Callable[[int, int], None] = lambda _done, _total: None
) -> Dataset:
    """Check a folder, decode its images once, and keep them in the cache at the size that a network takes.

    Images are squeezed to a square. A `dataset.toml` in the folder says which are left eyes, which are then mirrored,
    and what the data set is called.

    Args:
        root: Holds a folder a subject, with a folder a session.
        size: Height and width of the images that come out.
        channels: 3, or 1 for grey.
        watch: Told how many images are decoded, of how many.

    Raises:
        UnusableData: It is empty; images are not where they should be; a subject has one image; the same image is in
            two subjects; or files cannot be decoded, which are named.
        BadSetting: Its `dataset.toml` is wrong.
        MissingExtra: Pillow is not installed.
    """
    try:
        import PIL  # noqa: F401, PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtra("Pillow", "images in a folder", "compress") from error
    spec = read_settings(root / SETTINGS, DatasetSpec) if (root / SETTINGS).is_file() else DatasetSpec(schema=1)
    files = _images_of(root)
    digests = [sha256_file(root / file) for file in files]
    _require_distinct(root, files, digests)
    is_left = [any(fnmatchcase(file.as_posix(), pattern) for pattern in spec.left_eyes) for file in files]
    _require_used(root, spec, files)
    listed = "\n".join(f"{d} {f.as_posix()} {left}" for f, d, left in zip(files, digests, is_left, strict=True))
    key = hashlib.sha256(f"{size}\n{sha256_file(Path(__file__))}\n{listed}".encode()).hexdigest()
    folder = cache_dir() / "datasets" / key[:32]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            with folder_in_the_making(folder) as making:
                _decode_all(root, files, is_left, size, making / "pixels.npy", watch)
    subjects = sorted({file.parts[0] for file in files})
    sessions = sorted({file.parts[1] for file in files})
    return Dataset(
        name=spec.name or root.name,
        is_synthetic=spec.is_synthetic,
        sha256=key,
        subjects=tuple(subjects),
        subject=np.asarray([subjects.index(file.parts[0]) for file in files]),
        session=np.asarray([sessions.index(file.parts[1]) for file in files]),
        channels=channels,
        pixels=folder / "pixels.npy",
    )


def _images_of(root: Path) -> list[Path]:
    """Every image below `root`, relative to it, sorted; refused where the layout is another."""
    if not root.is_dir():
        raise UnusableData(str(root), "there is no such folder", ())
    files = sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())
    files = [
        file
        for file in files
        if file.name not in _CLUTTER
        and file.suffix.lower() not in _DOCUMENTS
        and not any(part.startswith(".") for part in file.parts)
    ]
    if not files:
        raise UnusableData(str(root), "it holds no images", ())
    foreign = [file for file in files if file.suffix.lower() not in SUFFIXES]
    if foreign:
        raise UnusableData(str(root), f"{len(foreign)} files in it are no images", _some(foreign))
    misplaced = [file for file in files if len(file.parts) != 3]
    if misplaced:
        problem = f"{len(misplaced)} images are not in a folder <subject>/<session>/"
        raise UnusableData(str(root), problem, _some(misplaced))
    images_of = Counter(file.parts[0] for file in files)
    alone = sorted(subject for subject, images in images_of.items() if images == 1)
    if alone:
        have = "subject has" if len(alone) == 1 else "subjects have"
        problem = f"{len(alone)} {have} one image only, and nothing to compare it with"
        raise UnusableData(str(root), problem, tuple(alone[:_NAMED]))
    if len(images_of) == 1:
        raise UnusableData(str(root), f"there is one subject only, {files[0].parts[0]}", ())
    return files


def _require_distinct(root: Path, files: Sequence[Path], digests: Sequence[str]) -> None:
    """The same picture in two subjects is a folder mixed up, in one it is a pair that always matches."""
    first: dict[str, Path] = {}
    twice = [
        (first[digest], file)
        for file, digest in zip(files, digests, strict=True)
        if first.setdefault(digest, file) is not file
    ]
    if twice:
        across = [pair for pair in twice if pair[0].parts[0] != pair[1].parts[0]]
        where = "in two subjects" if across else "twice in one subject"
        named = tuple(f"{one.as_posix()} = {other.as_posix()}" for one, other in (across or twice)[:_NAMED])
        raise UnusableData(str(root), f"{len(across or twice)} images are {where}, byte by byte", named)


def _require_used(root: Path, spec: DatasetSpec, files: Sequence[Path]) -> None:
    """A pattern that matches nothing is a slip that would leave every left eye as it is."""
    idle = [p for p in spec.left_eyes if not any(fnmatchcase(file.as_posix(), p) for file in files)]
    if idle:
        raise UnusableData(str(root), f"no image is a left eye by {', '.join(map(repr, idle))} of {SETTINGS}", ())


def _decode_all(
    root: Path, files: Sequence[Path], is_left: Sequence[bool], size: int, path: Path, watch: Callable[[int, int], None]
) -> None:
    pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(len(files), size, size, 3))
    unreadable = []
    for index, (file, left) in enumerate(zip(files, is_left, strict=True)):
        decoded = _decoded(root / file, size)
        if decoded is None:
            unreadable.append(file)
        else:
            pixels[index] = decoded[:, ::-1] if left else decoded
        watch(index + 1, len(files))
    if unreadable:
        raise UnusableData(str(root), f"{len(unreadable)} files cannot be decoded", _some(unreadable))
    pixels.flush()


def _decoded(path: Path, size: int) -> NDArray[np.uint8] | None:
    """One image, RGB, `[size, size, 3]`; None where it is damaged or no image."""
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415

    try:
        with Image.open(path) as image:
            resized = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    return np.asarray(resized, dtype=np.uint8)


def _some(files: Sequence[Path]) -> tuple[str, ...]:
    return tuple(file.as_posix() for file in files[:_NAMED])
