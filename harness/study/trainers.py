"""Train several networks at once, each in a process of its own, and hear from all of them.

On small images two threads do not train a network twice as fast as one; two networks on a thread each do.
`tests/bench/training_speed.py` measures both.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from typing import TYPE_CHECKING, TypeAlias

from harness.catalog.datasets import open_dataset
from harness.compress.train import training_device
from harness.errors import HarnessError, TrainerDied
from harness.study.events import Trained, VariantStarted
from harness.study.training import Maker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    from harness.study.folder import StudyFolder
    from harness.study.variants import Variant

_AT_ONCE = 4
"""At most: each has its own copy of the libraries and of the images."""


@dataclass(frozen=True)
class _Made:
    variant: Variant


_Word: TypeAlias = "VariantStarted | Trained | _Made | HarnessError"


@dataclass
class _Trainer:
    process: SpawnProcess
    line: Connection
    variant: Variant | None = None


def at_once(threads: int) -> int:
    """How many networks are trained at the same time: one on a GPU, otherwise as many as there are processors for.

    Args:
        threads: That each uses.
    """
    if training_device().type != "cpu":
        return 1
    return max(1, min(_AT_ONCE, (os.cpu_count() or 1) // threads))


def train_together(
    folder: StudyFolder,
    fold: int,
    variants: Sequence[Variant],
    *,
    trainers: int,
    watch: Callable[[VariantStarted | Trained], None],
) -> None:
    """Train networks of one fold whose parents are made already, in their order.

    Whether it ends well or not, no trainer is left behind: each is ended here, and ends itself should this process be
    killed. What they had done is kept after each epoch.

    Args:
        folder: The study.
        fold: Which of its folds.
        variants: None is another's parent.
        trainers: How many processes.
        watch: Told of all of them, from this thread.

    Raises:
        HarnessError: The first error of any of them.
        TrainerDied: One was killed, as when memory is short.
    """
    waiting = deque(variants)
    context = get_context("spawn")
    team: list[_Trainer] = []
    try:
        for _ in range(min(trainers, len(waiting))):
            here, there = context.Pipe()
            process = context.Process(target=_train_what_comes, args=(there, folder, fold), daemon=True)
            process.start()
            there.close()
            team.append(_Trainer(process, here))
            _hand_out(team[-1], waiting)
        while busy := {trainer.line: trainer for trainer in team if trainer.variant is not None}:
            for line in connection.wait(list(busy)):
                trainer = busy[line]  # type: ignore[index]
                word = _heard(trainer)
                if isinstance(word, HarnessError):
                    raise word
                if isinstance(word, _Made):
                    _hand_out(trainer, waiting)
                else:
                    watch(word)
    finally:
        for trainer in team:
            trainer.process.terminate()
        for trainer in team:
            trainer.process.join()
            trainer.line.close()


def _hand_out(trainer: _Trainer, waiting: deque[Variant]) -> None:
    trainer.variant = waiting.popleft() if waiting else None
    if trainer.variant is not None:
        trainer.line.send(trainer.variant)


def _heard(trainer: _Trainer) -> _Word:
    try:
        word: _Word = trainer.line.recv()
    except (EOFError, ConnectionResetError):
        trainer.process.join()
        assert trainer.variant is not None
        return TrainerDied(trainer.variant.name, trainer.process.exitcode or 0)
    return word


def _train_what_comes(line: Connection, folder: StudyFolder, fold: int) -> None:
    """Be a trainer: make each network that is asked for until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal tells everybody of Ctrl-C; the parent ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    study, profile = folder.study, folder.study.profile
    dataset = open_dataset(study.data, size=profile.size)
    maker = Maker.of(folder, dataset, fold)
    while True:
        try:
            variant: Variant = line.recv()
        except EOFError:
            return
        line.send(VariantStarted("train", variant, fold, study.variants.index(variant) + 1, len(study.variants)))
        try:
            maker.make(variant, lambda epoch, variant=variant: line.send(Trained(variant, epoch)))  # type: ignore[misc]
            line.send(_Made(variant))
        except HarnessError as error:
            line.send(error)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
