from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import pytest
import torch

from harness.catalog.checkpoint import make_checkpoint
from harness.catalog.models import find_model
from harness.catalog.networks import NETWORKS
from harness.compress.compress import Teaching, compress, distill, fit, suited, without_classifier
from harness.compress.model_folder import open_module, weights_sha256
from harness.compress.parts import embed_and_answer, parts_of
from harness.errors import ImpossibleRatio, UsageError
from harness.records import BuiltinSource, OnnxSource, Training

if TYPE_CHECKING:
    from pathlib import Path

    from harness.records import ModelSpec
    from tests.compress.conftest import Squares

ONCE = Training(epochs=1, batch=24)


def test_a_pruned_and_fine_tuned_model_is_a_model_that_says_what_was_done(
    spec: ModelSpec, squares: Squares, tmp_path: Path
) -> None:
    made = compress(
        spec, tmp_path / "pruned", method="layer-gradient", ratio=8, steps=2, samples=squares, finetune=ONCE
    )

    done = made.compression
    assert done is not None
    checkpoint = make_checkpoint(find_model(str(tmp_path / "pruned")).spec)
    assert done.parent_sha256 == weights_sha256(open_module(spec)) == make_checkpoint(spec).sha256
    assert done.reached_ratio == pytest.approx(8, rel=0.001)
    assert (done.method, made.trained) == ("layer-gradient + training", True)
    assert (checkpoint.parameters, checkpoint.macs) == (done.parameters, done.macs)
    assert checkpoint.compression == done
    assert sum(layer.nonzero for layer in done.layers) < done.nonzero_parameters  # type: ignore[operator]
    assert not (tmp_path / ".pruned.part").exists()


def test_channels_are_removed_in_blocks_and_the_smaller_model_can_be_loaded_and_compressed_again(
    spec: ModelSpec, tmp_path: Path
) -> None:
    made = compress(spec, tmp_path / "slim", method="channels", ratio=4)
    again = compress(made, tmp_path / "slim-sparse", method="global-magnitude", kept_fraction=0.5)

    assert made.compression
    assert again.compression
    assert made.compression.reached_ratio == pytest.approx(4, abs=1.5)
    assert made.compression.reached_ratio >= 4  # type: ignore[operator]
    assert all(layer.channels % 8 == 0 for layer in made.compression.layers)
    checkpoint = make_checkpoint(again)
    assert checkpoint.parameters == made.compression.parameters
    assert checkpoint.macs == made.compression.macs < make_checkpoint(spec).macs  # type: ignore[operator]


def test_a_depthwise_network_stays_depthwise_when_channels_go(spec: ModelSpec, tmp_path: Path) -> None:
    thin = msgspec.structs.replace(
        spec, source=BuiltinSource(network="mobilenet_v3_small", arguments={"num_classes": 4})
    )

    made = compress(thin, tmp_path / "thin", method="channels", ratio=2)

    layers = [m for m in open_module(made).modules() if isinstance(m, torch.nn.Conv2d) and m.groups > 1]
    assert layers
    assert all(layer.groups == layer.in_channels == layer.out_channels for layer in layers)


def test_a_student_is_taught_by_a_trained_teacher(spec: ModelSpec, squares: Squares, tmp_path: Path) -> None:
    teacher = fit(spec, tmp_path / "teacher", samples=squares, training=ONCE)
    student = suited(find_model("mobilenet_v3_small").spec, classes=4, shape=teacher.inputs[0].shape, embedding=16)

    for kind in ("logit", "embedding"):
        made = distill(
            student,
            tmp_path / kind,
            teaching=Teaching(teacher=teacher, kind=kind),
            samples=squares,
            training=ONCE,
        )

        assert made.compression
        assert made.compression.method == f"{kind}-distillation"
        assert made.compression.teacher_sha256 == make_checkpoint(teacher).sha256
        assert made.trained


def test_what_was_pruned_stays_pruned_when_it_is_taught_later(
    spec: ModelSpec, squares: Squares, tmp_path: Path
) -> None:
    sparse = compress(spec, tmp_path / "sparse", method="layer-magnitude", ratio=4)
    teacher = fit(spec, tmp_path / "teacher", samples=squares, training=ONCE)
    taught = distill(sparse, tmp_path / "taught", teaching=Teaching(teacher=teacher), samples=squares, training=ONCE)

    assert sparse.compression
    assert taught.compression
    assert taught.compression.reached_ratio == pytest.approx(4, rel=0.01)
    assert taught.compression.layers == sparse.compression.layers


def test_what_was_pruned_as_far_before_is_not_pruned_again_in_silence(spec: ModelSpec, tmp_path: Path) -> None:
    sparse = compress(spec, tmp_path / "sparse", method="global-magnitude", ratio=8)

    for ratio in (4, 7.9):
        with pytest.raises(UsageError, match=r"pruned 8x before, and .* would leave it"):
            compress(sparse, tmp_path / "again", method="layer-magnitude", ratio=ratio)
    with pytest.raises(UsageError, match=r"that may go, 0\.\d+ are left, and to keep 0\.5 of them would leave it"):
        compress(sparse, tmp_path / "again", method="layer-magnitude", kept_fraction=0.5)
    further = compress(sparse, tmp_path / "further", method="layer-magnitude", ratio=16)

    assert further.compression
    assert further.compression.reached_ratio == pytest.approx(16, rel=0.05)


@pytest.mark.parametrize("rate", [math.nan, math.inf, 0.0])
def test_a_learning_rate_is_a_number(spec: ModelSpec, squares: Squares, tmp_path: Path, rate: float) -> None:
    with pytest.raises(UsageError, match="learning rate"):
        fit(spec, tmp_path / "x", samples=squares, training=Training(epochs=1, learning_rate=rate))


def test_a_teacher_that_can_teach_nothing_is_refused(spec: ModelSpec) -> None:
    trained = msgspec.structs.replace(spec, source=OnnxSource(path="x.onnx"))

    with pytest.raises(UsageError, match="is not trained"):
        Teaching(teacher=spec)
    for temperature, alpha in ((0.0, 0.5), (math.nan, 0.5), (4.0, math.nan), (4.0, 1.5)):
        with pytest.raises(UsageError, match="number"):
            Teaching(teacher=trained, temperature=temperature, alpha=alpha)


def test_channels_are_taken_out_before_weights_are_pruned_and_not_after(spec: ModelSpec, tmp_path: Path) -> None:
    sparse = compress(spec, tmp_path / "sparse", method="random", ratio=2)

    with pytest.raises(UsageError, match="take channels out first"):
        compress(sparse, tmp_path / "x", method="channels", ratio=2)
    with pytest.raises(UsageError, match="smaller --round-to"):
        compress(spec, tmp_path / "x", method="channels", ratio=2, round_to=4096)
    same = compress(spec, tmp_path / "same", method="channels", ratio=1)

    assert same.compression
    assert same.compression.reached_ratio == 1


def test_a_killed_compression_goes_on_to_the_same_weights(spec: ModelSpec, squares: Squares, tmp_path: Path) -> None:
    twice = Training(epochs=2, batch=24)

    def kill(_epoch: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress(spec, tmp_path / "a", method="random", ratio=2, samples=squares, finetune=twice, watch=kill)
    resumed = compress(spec, tmp_path / "a", method="random", ratio=2, samples=squares, finetune=twice)
    whole = compress(spec, tmp_path / "b", method="random", ratio=2, samples=squares, finetune=twice)

    assert weights_sha256(open_module(resumed)) == weights_sha256(open_module(whole))


def test_what_cannot_be_done_is_refused_before_anything_is_made(
    spec: ModelSpec, squares: Squares, tmp_path: Path
) -> None:
    with pytest.raises(ImpossibleRatio):
        compress(spec, tmp_path / "x", method="random", ratio=1e6)
    with pytest.raises(ImpossibleRatio):
        compress(spec, tmp_path / "x", method="channels", ratio=1e6)
    with pytest.raises(UsageError, match="labelled images"):
        compress(spec, tmp_path / "x", method="random", ratio=2, finetune=ONCE)
    with pytest.raises(UsageError, match="either"):
        compress(spec, tmp_path / "x", method="random")
    with pytest.raises(UsageError, match="already"):
        compress(spec, tmp_path, method="random", ratio=2)
    few = suited(spec, classes=2, shape=(1, 3, 32, 32))
    with pytest.raises(UsageError, match="of 4 classes"):
        fit(few, tmp_path / "x", samples=squares, training=ONCE)
    ready = msgspec.structs.replace(spec, source=OnnxSource(path="x.onnx"))
    with pytest.raises(UsageError, match="ready file"):
        compress(ready, tmp_path / "x", method="random", ratio=2)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("network", NETWORKS)
def test_every_built_in_network_answers_with_its_embedding_once_the_classifier_is_off(
    network: str, tmp_path: Path
) -> None:
    classifier = suited(find_model(network).spec, classes=7, shape=(1, 3, 64, 64))
    module = open_module(classifier)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        wanted, _ = embed_and_answer(module, parts_of(module, classifier), image)

        found = open_module(without_classifier(classifier, tmp_path / "embedding"))(image)

    pooled = wanted.reshape(*found.shape[:2], -1).mean(-1)  # SqueezeNet's head classifies each place, and then pools
    assert torch.allclose(found.flatten(1), pooled, rtol=1e-5, atol=1e-6)
