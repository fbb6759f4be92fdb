"""The one training loop: for teachers, for what was pruned, for students."""

from __future__ import annotations

import hashlib
import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.compress.losses import CrossEntropy, Loss
from harness.compress.prune import Masks, hold
from harness.errors import NonFiniteOutput, UsageError
from harness.workspace import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import torch
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from harness.catalog.datasets.samples import Samples
    from harness.records import Training

GRADIENT_NORM = 5.0
"""Longer gradients are cut: a student without BatchNorm may otherwise leave the numbers in its first steps."""
_ORDER, _CHANGES = 0, 1
_TRIED = 32
"""Images that a trained network is tried on before it is stored."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One pass over all samples.

    Attributes:
        number: From 1.
        epochs: How many there will be.
        loss: Mean over the samples, each as it was when its batch was trained on.
        images: How many.
        seconds: Of wall time.
    """

    number: int
    epochs: int
    loss: float
    images: int
    seconds: float


def train(
    module: nn.Module,
    samples: Samples,
    training: Training,
    *,
    loss: Loss | None = None,
    masks: Masks | None = None,
    progress: Path | None = None,
    watch: Callable[[Epoch], None] = lambda _epoch: None,
) -> tuple[Epoch, ...]:
    """Train a module in place; afterwards it is in evaluation mode.

    The same module, samples and training give the same weights to the last bit on the same processor, also when the
    process was killed in between and started again with the same `progress`: everything random is drawn from the seed
    and the epoch's number. A GPU, which is used where there is one, may add up in another order, and weights
    trained in a process that had other work before were seen to differ in their last bits.

    Args:
        module: With its initial weights; every parameter is trained.
        samples: Images `[N, C, H, W]` and labels from 0 on.
        training: How.
        loss: What to make small; None for the error on labels.
        masks: Weights that stay zero.
        progress: A file that is written after each epoch. Where it is there already, training goes on behind it.
        watch: Told of each epoch that was trained; not of those that were found in `progress`.

    Raises:
        UsageError: There is nothing to train on, or `progress` belongs to another training.
        NonFiniteOutput: The loss left the numbers.
    """
    import torch  # noqa: PLC0415

    if len(samples.labels) < 2 or training.batch < 2:
        raise UsageError(f"training needs two images a batch; there are {len(samples.labels)} images in all")
    if not 0 < training.learning_rate < math.inf:
        raise UsageError(f"a learning rate is a number above 0, such as 0.001, not {training.learning_rate:g}")
    loss = loss or CrossEntropy(label_smoothing=training.label_smoothing)
    own = loss.own_layers()
    trained = torch.nn.ModuleList([module] if own is None else [module, own])
    key = _key(trained, samples, training, masks, loss)
    device = training_device()
    masks = {name: mask.to(device) for name, mask in (masks or {}).items()}
    for network in (trained, *loss.frozen()):
        network.to(device)
    # tests/bench/training_speed.py: ResNets and MobileNetV2 train faster so, MobileNetV3-small does not.
    trained.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        trained.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
    )
    epochs = _restored(progress, key, trained, optimizer)
    with _threads(training.threads):
        for number in range(len(epochs) + 1, training.epochs + 1):
            epoch = _train_epoch(module, samples, training, number, loss, masks, optimizer)
            epochs = (*epochs, epoch)
            if progress is not None:
                _keep(progress, key, trained, optimizer, epochs)
            watch(epoch)
    trained.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    module.eval()
    _require_answers(module, samples)
    return epochs


def _require_answers(module: nn.Module, samples: Samples) -> None:
    """Raise NonFiniteOutput where a network left the numbers although its loss did not: BatchNorm may hide it."""
    import torch  # noqa: PLC0415

    some = np.arange(min(len(samples.labels), _TRIED))
    with torch.no_grad():
        answers = module(torch.from_numpy(samples.images(some)))
    wrong = int((~torch.isfinite(answers)).sum())
    if wrong:
        where = "the trained network, tried on its own images (a smaller --learning-rate may help)"
        raise NonFiniteOutput(where, "answer", wrong, answers.numel())


def training_device() -> torch.device:
    """Where networks are trained: the first GPU that torch can use, otherwise the processor."""
    import torch  # noqa: PLC0415

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def batches(samples: Samples, order: np.ndarray[Any, np.dtype[np.int64]], size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and labels in an order, some at a time; a last one alone is left out, BatchNorm cannot use it."""
    import torch  # noqa: PLC0415

    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        if len(chosen) > 1:
            yield torch.from_numpy(samples.images(chosen)), torch.from_numpy(samples.labels[chosen])


def _train_epoch(
    module: nn.Module,
    samples: Samples,
    training: Training,
    number: int,
    loss: Loss,
    masks: Masks,
    optimizer: Optimizer,
) -> Epoch:
    import torch  # noqa: PLC0415

    began = time.monotonic()
    trained = [value for group in optimizer.param_groups for value in group["params"]]
    device = trained[0].device
    parameters = dict(module.named_parameters())
    module.train()
    order = np.random.default_rng((training.seed, number, _ORDER)).permutation(len(samples.labels))
    changes = np.random.default_rng((training.seed, number, _CHANGES))
    torch.manual_seed(training.seed * 100_003 + number)  # for dropout
    steps = math.ceil(len(order) / training.batch)
    total, count = 0.0, 0
    for step, (images, labels) in enumerate(batches(samples, order, training.batch)):
        done = ((number - 1) * steps + step) / (training.epochs * steps)
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate * _step_size(done, training.warmup)
        changed = _augmented(images, changes) if training.augment else images
        found = loss(module, changed.to(device, memory_format=torch.channels_last), labels.to(device))
        value = found.item()
        if not math.isfinite(value):
            raise NonFiniteOutput("training", f"the loss of epoch {number}", 1, 1)
        optimizer.zero_grad()
        found.backward()  # type: ignore[no-untyped-call]
        for name, mask in masks.items():  # what cannot change has no part in the norm
            grad = parameters[name].grad
            if grad is not None:
                grad.mul_(mask)
        torch.nn.utils.clip_grad_norm_(trained, GRADIENT_NORM)
        optimizer.step()
        hold(module, masks)
        total, count = total + value * len(labels), count + len(labels)
    return Epoch(
        number=number,
        epochs=training.epochs,
        loss=total / count,
        images=count,
        seconds=time.monotonic() - began,
    )


def _step_size(done: float, warmup: float) -> float:
    """Of the largest one, 0 to 1. Source: Loshchilov and Hutter 2017, SGDR, equation 5, after a linear warm-up."""
    if done < warmup:
        return (done + 0.01) / (warmup + 0.01)
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def _augmented(images: Tensor, generator: np.random.Generator) -> Tensor:
    """Shift each image, its border repeated, and change its brightness and contrast."""
    import torch  # noqa: PLC0415

    count, _, height, width = images.shape
    reach = max(1, height // 16)
    padded = torch.nn.functional.pad(images, (reach, reach, reach, reach), mode="replicate")
    shifts = generator.integers(0, 2 * reach + 1, size=(count, 2))
    shifted = torch.stack(
        [
            image[:, down : down + height, right : right + width]
            for image, (down, right) in zip(padded, shifts, strict=True)
        ]
    )
    contrast, brightness = (
        torch.from_numpy(generator.uniform(low, high, size=(count, 1, 1, 1)).astype(np.float32))
        for low, high in ((0.8, 1.2), (-0.2, 0.2))
    )
    return shifted * contrast + brightness


def _key(trained: nn.Module, samples: Samples, training: Training, masks: Masks | None, loss: Loss) -> str:
    """What has to be the same for training to go on where it stopped: all that goes in, also the loss's teacher."""
    plain = {name: value for name, value in sorted(vars(loss).items()) if isinstance(value, int | float | str)}
    content = hashlib.sha256(f"{training!r} {type(loss).__name__} {plain!r}".encode())
    content.update(samples.labels.tobytes())
    for start in range(0, len(samples.labels), training.batch):
        some = np.arange(start, min(start + training.batch, len(samples.labels)))
        content.update(np.ascontiguousarray(samples.images(some)).tobytes())
    for network in (trained, *loss.frozen()):
        for name, value in network.state_dict().items():
            content.update(name.encode())
            content.update(value.contiguous().cpu().numpy().tobytes())
    for name, mask in sorted((masks or {}).items()):
        content.update(name.encode())
        content.update(mask.contiguous().numpy().tobytes())
    return content.hexdigest()


def _restored(progress: Path | None, key: str, trained: nn.Module, optimizer: Optimizer) -> tuple[Epoch, ...]:
    import torch  # noqa: PLC0415

    if progress is None or not progress.is_file():
        return ()
    try:
        found = torch.load(progress, weights_only=True)
    except Exception as error:  # zipfile, pickle and torch each raise their own kinds for a file that is cut short
        raise UsageError(f"{progress} is damaged: delete it to train from the start ({error})") from error
    if found.get("key") != key:
        raise UsageError(f"{progress} belongs to another training: delete it, or give another folder")
    trained.load_state_dict(found["weights"])
    optimizer.load_state_dict(found["optimizer"])
    return tuple(Epoch(**epoch) for epoch in found["epochs"])


def _keep(progress: Path, key: str, trained: nn.Module, optimizer: Optimizer, epochs: tuple[Epoch, ...]) -> None:
    import torch  # noqa: PLC0415

    content = BytesIO()
    state = {
        "key": key,
        "weights": trained.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epochs": [vars(epoch) for epoch in epochs],
    }
    torch.save(state, content)
    write_atomically(progress, content.getvalue())


@contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch  # noqa: PLC0415

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
