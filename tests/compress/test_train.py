from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from harness.compress.losses import CrossEntropy, EmbeddingDistillation, LogitDistillation
from harness.compress.parts import Parts
from harness.compress.prune import prune
from harness.compress.train import Epoch, train
from harness.errors import NonFiniteOutput, UsageError
from harness.records import Training

if TYPE_CHECKING:
    from pathlib import Path

    from tests.compress.conftest import Squares

PARTS = Parts(head=("5",))
TRAINING = Training(epochs=3, batch=20, learning_rate=0.01)


def net(width: int = 8) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=4),
        nn.BatchNorm2d(width),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(width, 4),
    )


def same(left: nn.Module, right: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left.state_dict().values(), right.state_dict().values(), strict=True))


class Killed(Exception):
    pass


def test_training_learns(squares: Squares) -> None:
    module = net()

    epochs = train(module, squares, Training(epochs=20, batch=16, learning_rate=0.05, augment=False))

    answers = module(torch.from_numpy(squares.pixels)).argmax(1).numpy()
    assert np.mean(answers == squares.labels) > 0.9
    assert epochs[-1].loss < epochs[0].loss
    assert not module.training


def test_a_killed_training_goes_on_to_the_same_weights_to_the_last_bit(squares: Squares, tmp_path: Path) -> None:
    whole, killed, resumed = net(), net(), net()
    expected = train(whole, squares, TRAINING)

    def kill(epoch: Epoch) -> None:
        if epoch.number == 2:
            raise Killed

    with pytest.raises(Killed):
        train(killed, squares, TRAINING, progress=tmp_path / "p.pt", watch=kill)
    seen: list[int] = []
    found = train(resumed, squares, TRAINING, progress=tmp_path / "p.pt", watch=lambda epoch: seen.append(epoch.number))

    assert same(whole, resumed)
    assert seen == [3]
    assert [epoch.loss for epoch in found] == [epoch.loss for epoch in expected]


def test_a_finished_training_is_not_done_again(squares: Squares, tmp_path: Path) -> None:
    first, second = net(), net()
    train(first, squares, TRAINING, progress=tmp_path / "p.pt")

    train(second, squares, TRAINING, progress=tmp_path / "p.pt", watch=lambda _epoch: pytest.fail("trained again"))

    assert same(first, second)


def test_the_progress_of_another_training_is_refused(squares: Squares, tmp_path: Path) -> None:
    train(net(), squares, TRAINING, progress=tmp_path / "p.pt")

    with pytest.raises(UsageError, match="another training"):
        train(net(), squares, msgspec.structs.replace(TRAINING, seed=1), progress=tmp_path / "p.pt")
    (tmp_path / "p.pt").write_bytes(b"half")
    with pytest.raises(UsageError, match="damaged"):
        train(net(), squares, TRAINING, progress=tmp_path / "p.pt")


def test_training_goes_on_only_with_the_same_loss_teacher_and_images(squares: Squares, tmp_path: Path) -> None:
    teacher, other = net().eval(), net(4).eval()
    taught = LogitDistillation(teacher=teacher, temperature=2.0, alpha=0.5)
    train(net(8), squares, TRAINING, loss=taught, progress=tmp_path / "p.pt")
    last = squares.pixels[-1].copy()

    for loss in (None, dataclasses.replace(taught, alpha=0.9), dataclasses.replace(taught, teacher=other)):
        with pytest.raises(UsageError, match="another training"):
            train(net(8), squares, TRAINING, loss=loss, progress=tmp_path / "p.pt")
    squares.pixels[-1] += 1
    with pytest.raises(UsageError, match="another training"):
        train(net(8), squares, TRAINING, loss=taught, progress=tmp_path / "p.pt")
    squares.pixels[-1] = last


def test_zeros_stay_zero_and_the_rest_is_trained(squares: Squares) -> None:
    module = net()
    masks = prune(module, PARTS, method="global-magnitude", ratio=3)
    before = module.get_parameter("0.weight").detach().clone()

    train(module, squares, TRAINING, masks=masks)

    after, mask = module.get_parameter("0.weight"), masks["0.weight"]
    assert not after[~mask].any()
    assert (after[mask] != before[mask]).all()


def test_logit_distillation_is_the_formula_of_its_paper(squares: Squares) -> None:
    teacher, student = net().eval(), net(4).eval()
    images, labels = torch.from_numpy(squares.pixels[:8]), torch.from_numpy(squares.labels[:8])
    p, q = (torch.softmax(m(images) / 2.0, 1) for m in (teacher, student))
    expected = (
        0.3 * nn.functional.cross_entropy(student(images), labels) + 0.7 * 4.0 * (p * (p / q).log()).sum(1).mean()
    )

    found = LogitDistillation(teacher=teacher, temperature=2.0, alpha=0.7)(student, images, labels)

    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_student_that_is_its_teacher_has_nothing_to_learn_of_its_embedding(squares: Squares) -> None:
    teacher = net().eval()
    loss = EmbeddingDistillation(teacher=teacher, teacher_parts=PARTS, student_parts=PARTS, alpha=1.0)

    found = loss(teacher, torch.from_numpy(squares.pixels[:8]), torch.from_numpy(squares.labels[:8]))

    assert found.item() == pytest.approx(0.0, abs=1e-6)


def test_embedding_distillation_comes_closer_also_across_lengths(squares: Squares) -> None:
    teacher, student = net().eval(), net(4)
    loss = EmbeddingDistillation(
        teacher=teacher, teacher_parts=PARTS, student_parts=PARTS, alpha=1.0, bridge=nn.Linear(4, 8, bias=False)
    )

    epochs = train(student, squares, Training(epochs=10, batch=16, learning_rate=0.02), loss=loss)

    assert epochs[-1].loss < 0.5 * epochs[0].loss


def test_a_loss_that_leaves_the_numbers_ends_training(squares: Squares) -> None:
    module = net()
    with torch.no_grad():
        module.get_parameter("5.weight").fill_(float("inf"))

    with pytest.raises(NonFiniteOutput, match="epoch 1"):
        train(module, squares, TRAINING, loss=CrossEntropy())
