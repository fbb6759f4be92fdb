from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from harness.catalog.ml_program import Unsupported
from tests.catalog.ml_program.building import agree, mb, random, run_one

if TYPE_CHECKING:
    from numpy.typing import NDArray


def grid(have: int, wanted: int, mode: str) -> NDArray[Any]:
    """The formulas of the definition, word by word; `(wanted - 1)` in a denominator is 1 where it would be 0."""
    i, steps = np.arange(wanted), max(1, wanted - 1)
    points: NDArray[Any]
    if mode == "STRICT_ALIGN_CORNERS":
        points = i * (have - 1) / steps
    elif mode == "ALIGN_CORNERS":
        points = i * (have - 1) / steps if wanted > 1 else np.array([(have - 1) / 2])
    elif mode == "DEFAULT":
        points = i * (have - have / wanted) / steps
    elif mode == "OFFSET_CORNERS":
        delta = max(1, have - 1) / wanted
        points = 0.5 * delta + i * ((wanted - 1) * delta) / steps
    else:
        spacing = have / wanted
        points = i * spacing + 0.5 * spacing - 0.5
    return np.clip(points, 0, have - 1)


def interpolated(x: NDArray[Any], height: int, width: int, mode: str) -> NDArray[Any]:
    rows, columns = grid(x.shape[-2], height, mode), grid(x.shape[-1], width, mode)
    tall = np.apply_along_axis(lambda line: np.interp(rows, np.arange(len(line)), line), -2, x)
    return np.apply_along_axis(lambda line: np.interp(columns, np.arange(len(line)), line), -1, tall)


MODES = ["STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("height", "width"), [(8, 10), (7, 9), (2, 3), (1, 1), (4, 5)])
def test_bilinear_resizing_reads_at_the_documented_points(mode: str, height: int, width: int) -> None:
    agree(
        lambda x: (
            mb.resize_bilinear(x=x, target_size_height=height, target_size_width=width, sampling_mode=mode),
            mb.resize(
                x=x,
                shape=[1, 1, height, width],
                resized_dims=np.uint32(2),
                interpolation_mode="LINEAR",
                sampling_mode=mode,
            ),
        ),
        lambda x: [interpolated(x, height, width, mode)] * 2,
        random(1, 2, 4, 5),
    )


@pytest.mark.parametrize(
    ("mode", "points"),
    [
        ("UNALIGN_CORNERS", [0.0, 0.1, 0.5, 0.9, 1.0]),
        ("STRICT_ALIGN_CORNERS", [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("DEFAULT", [0.0, 0.4, 0.8, 1.0, 1.0]),
        ("OFFSET_CORNERS", [0.1, 0.3, 0.5, 0.7, 0.9]),
    ],
)
def test_the_documented_example_comes_out(mode: str, points: list[float]) -> None:
    found = run_one(
        lambda x: mb.resize_bilinear(x=x, target_size_height=1, target_size_width=5, sampling_mode=mode),
        np.array([[[0.0, 1.0]]], np.float32),
    )

    np.testing.assert_allclose(found[0, 0], points, atol=1e-6)


@pytest.mark.parametrize("scale", [(2, 3), (1.5, 2.5), (0.5, 1.0)])
@pytest.mark.parametrize(
    ("parameters", "torchs"),
    [
        ({"align_corners": True}, {"align_corners": True}),
        ({"align_corners": False}, {"align_corners": False}),
        ({"align_corners": False, "half_pixel_centers": True}, {"align_corners": False}),
        ({}, {"align_corners": True}),
    ],
)
def test_bilinear_upsampling_is_torchs(
    scale: tuple[float, float], parameters: dict[str, bool], torchs: dict[str, bool]
) -> None:
    agree(
        lambda x: mb.upsample_bilinear(x=x, scale_factor_height=scale[0], scale_factor_width=scale[1], **parameters),
        lambda x: F.interpolate(
            torch.from_numpy(x),
            size=[int(4 * scale[0]), int(6 * scale[1])],
            mode="bilinear",
            **torchs,
        ).numpy(),
        random(1, 2, 4, 6),
    )


def test_bilinear_upsampling_from_the_corner_is_tensorflows_old_default() -> None:
    agree(
        lambda x: mb.upsample_bilinear(
            x=x, scale_factor_height=2, scale_factor_width=2, align_corners=False, half_pixel_centers=False
        ),
        lambda x: interpolated(x, 8, 10, "DEFAULT"),
        random(1, 2, 4, 5),
    )


def test_nearest_repeats_pixels() -> None:
    agree(
        lambda x: (
            mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=3),
            mb.resize_nearest_neighbor(x=x, target_size_height=8, target_size_width=15),
            mb.resize(x=x, shape=[8, 0], resized_dims=np.uint32(2), interpolation_mode="NEAREST_NEIGHBOR"),
        ),
        lambda x: [
            x.repeat(2, -2).repeat(3, -1),
            x.repeat(2, -2).repeat(3, -1),
            x.repeat(2, -2),
        ],
        random(1, 2, 4, 5),
    )


@pytest.mark.parametrize("size", [6, 3])
def test_nearest_at_a_broken_factor_is_refused(size: int) -> None:
    with pytest.raises(Unsupported, match=r"resize_nearest_neighbor\.target_size_height .*whole factor"):
        run_one(
            lambda x: mb.resize_nearest_neighbor(x=x, target_size_height=size, target_size_width=5),
            random(1, 2, 4, 5),
        )
