from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from harness.catalog.ml_program import Unsupported
from tests.catalog.ml_program.building import agree, like, mb, random, run, run_one


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((24,), (24,)), ((4, -1), (4, 6)), ((-1, 2, 2), (6, 2, 2)), ((0, -1, 4), (2, 3, 4)), ((0, 0, 0), (2, 3, 4))],
)
def test_reshape(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    agree(lambda x: mb.reshape(x=x, shape=shape), lambda x: x.reshape(expected), random(2, 3, 4))


@pytest.mark.parametrize("perm", [(0, 1, 2), (2, 0, 1), (-1, 0, 1)])
def test_transpose(perm: tuple[int, ...]) -> None:
    agree(lambda x: mb.transpose(x=x, perm=perm), lambda x: x.transpose(perm), random(2, 3, 4))


@pytest.mark.parametrize("axes", [(0,), (-1,), (1, 2), (0, -1), (-1, -2)])
def test_expand_dims(axes: tuple[int, ...]) -> None:
    agree(lambda x: mb.expand_dims(x=x, axes=axes), lambda x: np.expand_dims(x, axes), random(3, 4))


@pytest.mark.parametrize(("height", "width"), [((0, 0), (0, 0)), ((1, 0), (0, 2)), ((2, 1), (1, 1))])
def test_crop(height: tuple[int, int], width: tuple[int, int]) -> None:
    rows, columns = (np.s_[first : size - last] for (first, last), size in ((height, 5), (width, 6)))
    agree(
        lambda x: mb.crop(x=x, crop_height=height, crop_width=width),
        lambda x: x[:, :, rows, columns],
        random(2, 3, 5, 6),
    )


@pytest.mark.parametrize(("axes", "shape"), [((0,), (3, 1, 4)), ((-2,), (1, 3, 4)), ((0, 2), (3, 4)), (None, (3, 4))])
def test_squeeze(axes: tuple[int, ...] | None, shape: tuple[int, ...]) -> None:
    agree(lambda x: mb.squeeze(x=x, axes=axes), lambda x: x.reshape(shape), random(1, 3, 1, 4))


@pytest.mark.parametrize(("axis", "shape"), [(0, (1, 24)), (1, (2, 12)), (2, (6, 4)), (-1, (6, 4))])
def test_flatten2d(axis: int, shape: tuple[int, ...]) -> None:
    agree(lambda x: mb.flatten2d(x=x, axis=axis), lambda x: x.reshape(shape), random(2, 3, 4))


@pytest.mark.parametrize(
    ("parameters", "index"),
    [
        ({"begin": [1, 0], "end": [3, 5]}, np.s_[1:3, 0:5]),
        ({"begin": [-3, 1], "end": [-1, -1]}, np.s_[-3:-1, 1:-1]),
        ({"begin": [0, 0], "end": [4, 6], "stride": [2, 3]}, np.s_[0:4:2, 0:6:3]),
        ({"begin": [3, 5], "end": [0, 1], "stride": [-1, -2]}, np.s_[3:0:-1, 5:1:-2]),
        ({"begin": [9, 1], "end": [9, 4], "begin_mask": [True, False], "end_mask": [True, False]}, np.s_[:, 1:4]),
        (
            {
                "begin": [0, 0],
                "end": [0, 0],
                "stride": [-1, 1],
                "begin_mask": [True, True],
                "end_mask": [True, True],
            },
            np.s_[::-1, :],
        ),
        ({"begin": [2, 1], "end": [9, 4], "squeeze_mask": [True, False]}, np.s_[2, 1:4]),
        ({"begin": [1, -1], "end": [3, 0], "squeeze_mask": [False, True]}, np.s_[1:3, -1]),
        ({"begin": [1, 0], "end": [99, 6]}, np.s_[1:99, 0:6]),
    ],
)
def test_slice_by_index_is_numpys(parameters: dict[str, Any], index: Any) -> None:
    agree(lambda x: mb.slice_by_index(x=x, **parameters), lambda x: x[index], random(4, 6))


@pytest.mark.parametrize(
    ("begin", "size", "index"),
    [([1, 2], [2, 3], np.s_[1:3, 2:5]), ([0, 4], [-1, -1], np.s_[:, 4:]), ([-2, 0], [2, 6], np.s_[2:4, :])],
)
def test_slice_by_size(begin: list[int], size: list[int], index: Any) -> None:
    agree(lambda x: mb.slice_by_size(x=x, begin=begin, size=size), lambda x: x[index], random(4, 6))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat_stack_and_split(axis: int) -> None:
    agree(
        lambda x, y: (
            mb.concat(values=(x, y, x), axis=axis),
            mb.stack(values=(x, y), axis=axis),
            mb.concat(values=(x, y), axis=axis, interleave=True),
        ),
        lambda x, y: [
            np.concatenate([x, y, x], axis),
            np.stack([x, y], axis),
            np.stack([x, y], axis % 3 + 1).reshape([2 * n if i == axis % 3 else n for i, n in enumerate(x.shape)]),
        ],
        random(2, 3, 4),
        random(2, 3, 4, seed=1),
    )


def test_concat_of_unequal_sizes() -> None:
    agree(
        lambda x, y: mb.concat(values=(x, y), axis=1),
        lambda x, y: np.concatenate([x, y], 1),
        random(2, 3, 4),
        random(2, 5, 4),
    )


@pytest.mark.parametrize(("parameters", "cuts"), [({"num_splits": 3}, [2, 4]), ({"split_sizes": [1, 3, 2]}, [1, 4])])
@pytest.mark.parametrize("axis", [1, -2])
def test_split(parameters: dict[str, Any], cuts: list[int], axis: int) -> None:
    agree(lambda x: mb.split(x=x, axis=axis, **parameters), lambda x: np.split(x, cuts, 1), random(2, 6, 3))


@pytest.mark.parametrize("pad", [[1, 2], [0, 1, 2, 0], [1, 0, 2, 1, 0, 2]])
@pytest.mark.parametrize(("mode", "numpys"), [("constant", "constant"), ("reflect", "reflect"), ("replicate", "edge")])
def test_pad(pad: list[int], mode: str, numpys: str) -> None:
    pairs = [(0, 0)] * (3 - len(pad) // 2) + [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)]
    numpys_value = {"constant_values": 1.5} if mode == "constant" else {}

    agree(
        lambda x: mb.pad(x=x, pad=pad, mode=mode, constant_val=like(x, 1.5)),
        lambda x: np.pad(x, pairs, mode=numpys, **numpys_value),  # type: ignore[call-overload]
        random(3, 4, 5),
    )


def test_tile_reverse_and_band_part() -> None:
    agree(
        lambda x: (
            mb.tile(x=x, reps=[2, 1, 3]),
            mb.reverse(x=x, axes=[0, 2]),
            mb.reverse(x=x),
            mb.band_part(x=x, lower=0, upper=-1),
            mb.band_part(x=x, lower=1, upper=2),
        ),
        lambda x: [
            np.tile(x, (2, 1, 3)),
            x[::-1, :, ::-1],
            x[::-1, ::-1, ::-1],
            np.triu(x),
            np.triu(np.tril(x, 2), -1),
        ],
        random(2, 4, 5),
    )


def test_pixels_move_between_depth_and_space_as_in_torch_and_tensorflow() -> None:
    agree(
        lambda x: (
            mb.pixel_shuffle(x=x, upscale_factor=2),
            mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)),
            mb.depth_to_space(x=x, block_size=2),
            mb.space_to_depth(x=x, block_size=2),
        ),
        lambda x: [
            F.pixel_shuffle(torch.from_numpy(x), 2).numpy(),
            F.pixel_unshuffle(torch.from_numpy(x), 2).numpy(),
            # TensorFlow's definition, on NHWC: depth is split into (block row, block column, channel).
            x.transpose(0, 2, 3, 1)
            .reshape(1, 4, 6, 2, 2, 2)
            .transpose(0, 1, 3, 2, 4, 5)
            .reshape(1, 8, 12, 2)
            .transpose(0, 3, 1, 2),
            x.transpose(0, 2, 3, 1)
            .reshape(1, 2, 2, 3, 2, 8)
            .transpose(0, 1, 3, 2, 4, 5)
            .reshape(1, 2, 3, 32)
            .transpose(0, 3, 1, 2),
        ],
        random(1, 8, 4, 6),
    )


def test_depth_to_space_undoes_space_to_depth() -> None:
    agree(
        lambda x: mb.depth_to_space(x=mb.space_to_depth(x=x, block_size=3), block_size=3),
        lambda x: x,
        random(2, 2, 6, 3),
    )


def test_new_tensors() -> None:
    found = run(
        lambda x: (
            mb.shape(x=x),
            mb.fill(shape=[2, 3], value=np.float32(1.5)),
            mb.fill_like(ref_tensor=x, value=np.int32(7)),
            mb.range_1d(start=1, end=10, step=3),
            mb.one_hot(
                indices=[1, 0], one_hot_vector_size=3, axis=-1, on_value=np.float32(2), off_value=np.float32(-1)
            ),
            mb.one_hot(indices=[1, 0], one_hot_vector_size=3, axis=0),
        ),
        random(2, 5),
    )

    expected: list[Any] = [
        [2, 5],
        np.full((2, 3), 1.5),
        np.full((2, 5), 7),
        [1, 4, 7],
        [[-1, 2, -1], [2, -1, -1]],
        [[0, 1], [1, 0], [0, 0]],
    ]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [array.dtype.name for array in found] == ["int32", "float32", "int32", "int32", "float32", "int32"]


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("reverse", [True, False])
def test_cumsum(*, exclusive: bool, reverse: bool) -> None:
    def reference(x: np.ndarray) -> np.ndarray:
        x = x[:, ::-1] if reverse else x
        y = np.cumsum(x, 1) - (x if exclusive else 0)
        return y[:, ::-1] if reverse else y

    agree(lambda x: mb.cumsum(x=x, axis=1, exclusive=exclusive, reverse=reverse), reference, random(3, 5))


def test_a_shape_may_be_computed_while_running() -> None:
    x = random(2, 6)

    found = run_one(
        lambda x: mb.reshape(
            x=x, shape=mb.concat(values=(mb.slice_by_index(x=mb.shape(x=x), begin=[1], end=[2]), [2]), axis=0)
        ),
        x,
    )

    np.testing.assert_array_equal(found, x.reshape(6, 2))


def test_a_hot_index_outside_the_vector_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"one_hot\.indices"):
        run_one(lambda x: mb.one_hot(indices=x, one_hot_vector_size=3), np.array([3], np.int32))
