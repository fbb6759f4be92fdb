"""Made-up eyes, folders of images, and folds in which nobody is twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from harness.catalog.datasets import open_dataset
from harness.errors import BadSetting, UnusableData

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = "synthetic:subjects=14,sessions=2,images=2"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four subjects, two sessions, two images each: flat colours, all different."""
    root = tmp_path / "visob"
    for number in range(16):
        path = root / f"p{number // 4}" / f"day{number // 2 % 2}" / f"{number % 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((10, 16, 3), number * 15, dtype=np.uint8)
        pixels[:, :4] = 255  # the left edge is white
        Image.fromarray(pixels).save(path)
    return root


def test_the_same_recipe_draws_the_same_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_dataset(RECIPE, size=32)
    before = np.load(first.pixels)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "other"))
    again = open_dataset(RECIPE, size=32)

    assert again.pixels != first.pixels
    assert again.sha256 == first.sha256
    np.testing.assert_array_equal(np.load(again.pixels), before)


def test_another_seed_draws_other_people() -> None:
    one, other = (np.load(open_dataset(f"{RECIPE},seed={seed}", size=32).pixels) for seed in (0, 1))

    assert (one != other).mean() > 0.5


def test_more_images_leave_the_people_as_they_are() -> None:
    few, more = (np.load(open_dataset(f"synthetic:subjects=12,images={n}", size=32).pixels) for n in (1, 2))

    # Skin beside the eye, averaged: light differs, the person does not, so colours go together.
    one, other = few[0::2, 20:28, :8].mean(axis=(1, 2, 3)), more[0::4, 20:28, :8].mean(axis=(1, 2, 3))
    assert np.corrcoef(one, other)[0, 1] > 0.5


def test_pictures_of_one_person_are_not_all_alike() -> None:
    pixels = np.load(open_dataset(RECIPE, size=32).pixels).astype(float)

    assert np.abs(pixels[0] - pixels[1]).mean() > 2
    assert np.abs(pixels[0] - pixels[2]).mean() > 2


@pytest.mark.parametrize("settings", ["people=3", "subjects=none", "subjects=0", "images=-1"])
def test_a_recipe_that_makes_no_sense_is_refused(settings: str) -> None:
    with pytest.raises(BadSetting, match=settings.partition("=")[0]):
        open_dataset(f"synthetic:{settings}", size=32)


def test_no_subject_is_in_two_parts_and_everybody_is_tested_once() -> None:
    dataset = open_dataset(RECIPE, size=32)
    splits = [dataset.split(fold) for fold in range(3)]

    for split in splits:
        parts = [set(part.subjects) for part in (split.train, split.validation, split.test)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 14
        assert all(len(part) >= 2 for part in parts)
    assert sorted(name for split in splits for name in split.test.subjects) == sorted(dataset.subjects)


def test_images_are_normalised_as_networks_take_them() -> None:
    dataset = open_dataset(RECIPE, size=32)
    part = dataset.split(0).test
    images = part.images(np.asarray([3, 0]))
    stored = np.load(dataset.pixels)[part.indices[[3, 0]]]

    assert images.shape == (2, 3, 32, 32)
    assert images.dtype == np.float32
    np.testing.assert_allclose(images, np.moveaxis((stored / 255 - 0.5) / 0.5, -1, 1), atol=1e-6)


def test_grey_images_have_one_channel() -> None:
    assert open_dataset(RECIPE, size=32, channels=1).everybody().images(np.asarray([0])).shape == (1, 1, 32, 32)


def test_labels_of_a_part_count_from_zero() -> None:
    part = open_dataset(RECIPE, size=32).split(1).test

    assert sorted(set(part.labels)) == list(range(len(part.subjects)))


def test_too_few_subjects_are_refused() -> None:
    with pytest.raises(UnusableData, match="11 subjects; at least 12"):
        open_dataset("synthetic:subjects=11,images=1", size=32).split(0)


def test_a_folder_is_read_by_subject_and_session(folder: Path) -> None:
    dataset = open_dataset(str(folder), size=8)

    assert (dataset.name, dataset.is_synthetic) == ("visob", False)
    assert dataset.subjects == ("p0", "p1", "p2", "p3")
    assert dataset.session.tolist() == [0, 0, 1, 1] * 4
    assert np.load(dataset.pixels)[5, :, -1].tolist() == [[75, 75, 75]] * 8


def test_left_eyes_are_mirrored_where_the_folder_says_which(folder: Path) -> None:
    (folder / "dataset.toml").write_text('schema = 1\nname = "eyes"\nleft_eyes = ["*/day1/*"]\n')
    dataset = open_dataset(str(folder), size=8)
    pixels = np.load(dataset.pixels)

    assert dataset.name == "eyes"
    assert (pixels[0, 0, 0, 0], pixels[2, 0, -1, 0]) == (255, 255)
    assert pixels[2, 0, 0, 0] == 30


def test_a_changed_image_is_read_again(folder: Path) -> None:
    before = open_dataset(str(folder), size=8)
    Image.fromarray(np.full((10, 16, 3), 7, dtype=np.uint8)).save(folder / "p0" / "day0" / "0.png")

    assert open_dataset(str(folder), size=8).sha256 != before.sha256


def test_documents_beside_the_images_are_no_reason_to_refuse_them(folder: Path) -> None:
    before = open_dataset(str(folder), size=8)
    (folder / "protocol.txt").write_text("who was where")
    (folder / "p0" / "day0" / "notes.csv").write_text("x")

    assert open_dataset(str(folder), size=8).sha256 == before.sha256


def _empty(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        path.unlink()


def _flat(folder: Path) -> None:
    (folder / "p0" / "day0" / "0.png").rename(folder / "p0" / "0.png")


def _foreign(folder: Path) -> None:
    (folder / "p0" / "day0" / "clip.mp4").write_text("x")


def _truncated(folder: Path) -> None:
    path = folder / "p2" / "day1" / "1.png"
    path.write_bytes(path.read_bytes()[:40])


def _shared(folder: Path) -> None:
    (folder / "p1" / "day0" / "0.png").write_bytes((folder / "p0" / "day0" / "0.png").read_bytes())


def _alone(folder: Path) -> None:
    for name in ("day0/0", "day0/1", "day1/0"):
        (folder / "p3" / f"{name}.png").unlink()


def _one_subject(folder: Path) -> None:
    for name in ("p1", "p2", "p3"):
        (folder / name).rename(folder.parent / name)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_empty, "holds no images"),
        (_flat, r"1 images are not in a folder <subject>/<session>/: p0/0.png"),
        (_foreign, "1 files in it are no images: p0/day0/clip.mp4"),
        (_truncated, "1 files cannot be decoded: p2/day1/1.png"),
        (_shared, "in two subjects, byte by byte: p0/day0/0.png = p1/day0/0.png"),
        (_alone, "1 subject has one image only, and nothing to compare it with: p3"),
        (_one_subject, "there is one subject only, p0"),
    ],
)
def test_a_folder_that_is_empty_or_mixed_up_is_refused(folder: Path, spoil: object, said: str) -> None:
    spoil(folder)  # type: ignore[operator]

    with pytest.raises(UnusableData, match=said):
        open_dataset(str(folder), size=8)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableData, match="no such folder"):
        open_dataset(str(tmp_path / "nowhere"), size=8)


def test_a_pattern_for_left_eyes_that_matches_nothing_is_refused(folder: Path) -> None:
    (folder / "dataset.toml").write_text('schema = 1\nleft_eyes = ["*_L.png"]\n')

    with pytest.raises(UnusableData, match="no image is a left eye"):
        open_dataset(str(folder), size=8)
