"""Model to model: prune, fine-tune, distill, train; each ends in a folder that is an ordinary model."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import msgspec
import numpy as np

from harness.catalog.datasets.dataset import LEARNT_FROM
from harness.compress.losses import EmbeddingDistillation, LogitDistillation
from harness.compress.model_folder import open_module, refuse_existing, save_model, weights_sha256
from harness.compress.parts import Parts, embed_and_answer, parts_of, prunable
from harness.compress.prune import MASKING_METHODS, kept_fraction_for, prune, ratio_for
from harness.compress.structured import prune_channels
from harness.compress.train import batches, train, training_device
from harness.errors import UsageError
from harness.records import BuiltinSource, Compression, LayerSize, PruningMethod, PythonSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor, nn

    from harness.catalog.datasets.dataset import LearntFrom
    from harness.catalog.datasets.samples import Samples
    from harness.compress.losses import Loss
    from harness.compress.prune import Masks
    from harness.compress.train import Epoch
    from harness.records import ModelSpec, Setting, Training

Knowledge: TypeAlias = Literal["logit", "embedding"]
"""What a student is taught: the teacher's answers, or its embeddings (templates)."""
GRADIENT_BATCH = 64


def _silent(_epoch: Epoch) -> None:
    """Tell nobody."""


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """A teacher and what it teaches.

    Attributes:
        teacher: The model.
        kind: Its answers or its embeddings.
        temperature: That softens answers.
        alpha: Share of the teacher in the loss; the rest is the error on labels.
    """

    teacher: ModelSpec
    kind: Knowledge = "embedding"
    temperature: float = 4.0
    alpha: float = 0.9

    def __post_init__(self) -> None:
        """Refuse what would teach nothing.

        Raises:
            UsageError: A number is out of its range, or the teacher itself was never taught.
        """
        if not 0 < self.temperature < math.inf:
            raise UsageError(f"a temperature of {self.temperature:g} softens nothing; give a number above 0, such as 4")
        if not 0 <= self.alpha <= 1:
            raise UsageError(f"the teacher's share of the loss is a number from 0 to 1, not {self.alpha:g}")
        source = self.teacher.source
        if isinstance(source, BuiltinSource) and source.weights is None:
            raise UsageError(
                f"{self.teacher.name} is not trained and knows nothing to teach: `harness train {self.teacher.name} "
                "--data ...` makes a teacher of it"
            )


def compress(
    spec: ModelSpec,
    folder: Path,
    *,
    method: PruningMethod,
    ratio: float | None = None,
    kept_fraction: float | None = None,
    steps: int = 1,
    round_to: int = 8,
    samples: Samples | None = None,
    gradient_batches: int = 4,
    finetune: Training | None = None,
    teaching: Teaching | None = None,
    seed: int = 0,
    learnt_from: LearntFrom | None = None,
    watch: Callable[[Epoch], None] = _silent,
) -> ModelSpec:
    """Prune a model, and fine-tune what is left.

    Args:
        spec: The parent.
        folder: Of the new model, which takes its name. Work in progress is kept beside it: the same call again goes on
            where a killed one stopped.
        method: One of the five that make weights zero, or `channels`.
        ratio: All parameters / those that are left.
        kept_fraction: Instead of `ratio`: the share of the weights that may be pruned which stays.
        steps: More than 1 prunes little by little, each step followed by all of `finetune`.
        round_to: For `channels`.
        samples: For the gradient methods and for `finetune`.
        gradient_batches: How many batches of 64 images gradients are taken over.
        finetune: How to train afterwards, zeros staying zero; None leaves the weights as they are.
        teaching: Fine-tune with a teacher rather than with labels alone.
        seed: Of `random`, and of which images gradients are taken over.
        learnt_from: What is to be remembered of `samples`, so that nobody tests on people it has seen.
        watch: Told of each epoch.

    Raises:
        ImpossibleRatio: Before any work.
        UsageError: Something that is needed was not given, or the folder is there.
    """
    refuse_existing(folder)
    _check(method, ratio, kept_fraction, steps, samples, finetune, teaching)
    module = open_module(spec)
    parts = parts_of(module, spec)
    before, parent_sha256 = sizes(module, parts), weights_sha256(module)
    example = example_of(spec)
    if kept_fraction is not None:
        ratio = ratio_for(module, parts, kept_fraction=kept_fraction)
    assert ratio is not None
    masks = _zeros(spec, module, parts)
    if method == "channels" and masks is not None:
        raise UsageError(
            f"{spec.name} has weights that are zero, which taking out channels does not look at: take channels out "
            "first, and prune single weights of what is left"
        )
    if method != "channels":
        kept_fraction_for(module, parts, ratio=ratio)
        _require_more(spec, before.parameters, masks, ratio, kept_fraction)
    elif steps > 1:  # with one, the first thing that is done says so itself
        prune_channels(module, parts, example, ratio=ratio, round_to=round_to)
    if samples is not None and finetune is not None:
        require_classes(module, samples, example)
        _require_its_people(spec, learnt_from, "fine-tuned")
        _require_same_fold(spec, learnt_from)
    _require_teacher_of(teaching, learnt_from)
    work = _work_folder(folder)
    for step in range(1, steps + 1):
        aim = ratio ** (step / steps)
        if method == "channels":
            left = aim * sizes(module, parts).parameters / before.parameters
            module = prune_channels(module, parts, example, ratio=max(left, 1.0), round_to=round_to)
        else:
            chosen = _gradient_batches(samples, method, gradient_batches, seed)
            masks = prune(module, parts, method=method, ratio=aim, seed=seed, batches=chosen, masks=masks)
        if finetune is not None and samples is not None:
            loss = _loss(teaching, module, parts, example, samples)
            train(module, samples, finetune, loss=loss, masks=masks, progress=work / f"step-{step}.pt", watch=watch)
    settings: dict[str, Setting] = {"steps": steps, "seed": seed}
    settings |= {"round_to": round_to} if method == "channels" else {}
    settings |= {} if kept_fraction is None else {"kept_fraction": kept_fraction}
    if method.endswith("gradient"):
        settings |= {"gradient_batches": gradient_batches, "gradient_batch": GRADIENT_BATCH}
    compression = _record(
        module,
        parts,
        example,
        method=method,
        parent=spec,
        parent_sha256=parent_sha256,
        before=before,
        asked_ratio=ratio,
        training=finetune,
        teaching=teaching,
        settings=settings,
        learnt_from=learnt_from if finetune is not None else None,
    )
    return _finish(spec, module, folder, compression, samples)


def distill(
    student: ModelSpec,
    folder: Path,
    *,
    teaching: Teaching,
    samples: Samples,
    training: Training,
    learnt_from: LearntFrom | None = None,
    watch: Callable[[Epoch], None] = _silent,
) -> ModelSpec:
    """Teach a model, trained or not, what another one knows. Arguments and errors as for `compress`."""
    return fit(
        student,
        folder,
        samples=samples,
        training=training,
        teaching=teaching,
        learnt_from=learnt_from,
        watch=watch,
    )


def fit(
    spec: ModelSpec,
    folder: Path,
    *,
    samples: Samples,
    training: Training,
    teaching: Teaching | None = None,
    learnt_from: LearntFrom | None = None,
    watch: Callable[[Epoch], None] = _silent,
) -> ModelSpec:
    """Train a model on labels, or with a teacher. Arguments and errors as for `compress`.

    What pruning made zero in an earlier step stays zero.
    """
    refuse_existing(folder)
    module = open_module(spec)
    parts, example = parts_of(module, spec), example_of(spec)
    before, parent_sha256 = sizes(module, parts), weights_sha256(module)
    require_classes(module, samples, example)
    _require_same_fold(spec, learnt_from)
    _require_teacher_of(teaching, learnt_from)
    loss = _loss(teaching, module, parts, example, samples)
    masks = _zeros(spec, module, parts)
    train(module, samples, training, loss=loss, masks=masks, progress=_work_folder(folder) / "training.pt", watch=watch)
    compression = _record(
        module,
        parts,
        example,
        method="",
        parent=spec,
        parent_sha256=parent_sha256,
        before=before,
        asked_ratio=None,
        training=training,
        teaching=teaching,
        settings={},
        learnt_from=learnt_from,
    )
    return _finish(spec, module, folder, compression, samples)


def suited(spec: ModelSpec, *, classes: int, shape: tuple[int, ...], embedding: int | None = None) -> ModelSpec:
    """A built-in network for other images, other people and another length of embedding.

    Raises:
        UsageError: It is a network of the user's own, or trained, which is what it is.
    """
    source = spec.source
    if not isinstance(source, BuiltinSource) or source.weights is not None:
        raise UsageError(
            f"{spec.name} cannot be made anew for {classes} classes: it is not an untrained built-in network"
        )
    arguments = {**source.arguments, "num_classes": classes}
    if embedding is not None:
        arguments["embedding"] = embedding
    return msgspec.structs.replace(
        spec,
        source=msgspec.structs.replace(source, arguments=arguments),
        task="classification",  # LightCNN is published for embedding
        inputs=(msgspec.structs.replace(spec.inputs[0], shape=shape),),
    )


def without_classifier(spec: ModelSpec, folder: Path, *, samples: Samples | None = None) -> ModelSpec:
    """Take the head off: what is left answers with embeddings, and tells apart people it was not trained on.

    Args:
        spec: A classifier.
        folder: Of the new model, which takes its name.
        samples: See `save_model`; None keeps those of the classifier.

    Raises:
        UsageError: It has no classifier, or is written in code of the user's own.
    """
    refuse_existing(folder)
    source = spec.source
    if not isinstance(source, BuiltinSource):
        raise UsageError(
            f"the classifier of {spec.name} can only be taken off a built-in network: write a model.toml whose network "
            "returns the embedding"
        )
    module = open_module(spec)
    if spec.task != "classification":
        raise UsageError(f"{spec.name} has no classifier to take off: it is for {spec.task}")
    from torch import nn  # noqa: PLC0415

    for name in parts_of(module, spec).head:
        module.set_submodule(name, nn.Identity())
    source = msgspec.structs.replace(source, arguments={**source.arguments, "num_classes": 0})
    answering = msgspec.structs.replace(spec, source=source, task="embedding", head=())
    return save_model(answering, module, folder, compression=spec.compression, samples=samples)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Parameters, all and not zero, of the whole and without the head."""

    parameters: int
    nonzero: int
    backbone_nonzero: int
    backbone: int


def sizes(module: nn.Module, parts: Parts) -> Sizes:
    """Count parameters."""
    every = [(parts.in_head(name), value.numel(), int(value.count_nonzero())) for name, value in _weights(module)]
    return Sizes(
        parameters=sum(size for _, size, _ in every),
        nonzero=sum(nonzero for _, _, nonzero in every),
        backbone=sum(size for in_head, size, _ in every if not in_head),
        backbone_nonzero=sum(nonzero for in_head, _, nonzero in every if not in_head),
    )


def require_classes(module: nn.Module, samples: Samples, example: Tensor) -> None:
    """Raise UsageError where there are more classes in the labels than the network has answers."""
    import torch  # noqa: PLC0415

    if len(samples.labels) == 0:
        raise UsageError("there are no images to train on")
    with torch.no_grad():
        answers = module(example).shape[-1]
    classes = int(samples.labels.max()) + 1
    if classes > answers:
        raise UsageError(f"the images are of {classes} classes, and the network answers with {answers}")


def _require_its_people(spec: ModelSpec, learnt_from: LearntFrom | None, what: str) -> None:
    """Raise UsageError where a classifier of some people would be told that it is one of others."""
    done = spec.compression
    if done is not None and done.classes and learnt_from is not None and done.classes != learnt_from.people:
        raise UsageError(
            f"{spec.name} tells apart the people of {done.settings.get('data', 'other images')}, fold "
            f"{done.settings.get('fold', 'unknown')}, and these are others: it can only be {what} on those"
        )


def _require_teacher_of(teaching: Teaching | None, learnt_from: LearntFrom | None) -> None:
    """Raise UsageError where a teacher would be asked who somebody is whom it does not know, or knows too many."""
    if teaching is not None and teaching.kind == "logit":
        _require_its_people(teaching.teacher, learnt_from, "asked for its answers")
    if teaching is not None:
        _require_same_fold(teaching.teacher, learnt_from)


def _require_same_fold(spec: ModelSpec, learnt_from: LearntFrom | None) -> None:
    """Raise UsageError where a network has seen those who are held back now: nobody could test what comes of it."""
    done = spec.compression
    if done is None or learnt_from is None:
        return
    met = len(set(done.people) & set(learnt_from.held_back))
    if met:
        raise UsageError(
            f"{spec.name} was trained on {met} of the {len(learnt_from.held_back)} people whom fold "
            f"{learnt_from.settings['fold']} holds back, so that nobody could be tested with what comes of it; give "
            f"--fold {done.settings.get('fold', 'of its own')}"
        )


def _weights(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, parameter.detach()) for name, parameter in module.named_parameters()]


def _check(
    method: str,
    ratio: float | None,
    kept_fraction: float | None,
    steps: int,
    samples: Samples | None,
    finetune: Training | None,
    teaching: Teaching | None,
) -> None:
    if method not in get_args(PruningMethod):
        raise UsageError(f"there is no pruning method {method!r}; known: {', '.join((*MASKING_METHODS, 'channels'))}")
    if (ratio is None) == (kept_fraction is None):
        raise UsageError("give either a ratio or a kept fraction")
    if ratio is not None and not 1 <= ratio < math.inf:
        raise UsageError(f"a ratio of {ratio:g} is none: 1 leaves the model as it is, 8 leaves an eighth of it")
    if method == "channels" and kept_fraction is not None:
        raise UsageError("taking out channels goes by a ratio: a kept fraction is of single weights")
    if steps < 1:
        raise UsageError(f"{steps} steps are none")
    if samples is None and (finetune is not None or method.endswith("gradient")):
        raise UsageError(f"{'fine-tuning' if finetune else method} needs labelled images: give --data")
    if teaching is not None and finetune is None:
        raise UsageError("a teacher teaches while fine-tuning: say for how many epochs")


def example_of(spec: ModelSpec) -> Tensor:
    """One input of zeros, in the shape that a model takes."""
    import torch  # noqa: PLC0415

    return torch.zeros(spec.inputs[0].shape)


def _zeros(spec: ModelSpec, module: nn.Module, parts: Parts) -> Masks | None:
    """Where an earlier step made weights zero; None where it did not."""
    done = spec.compression
    if done is None or all(layer.nonzero == layer.weights for layer in done.layers):
        return None
    return {name: weight.detach() != 0 for name, weight in prunable(module, parts).items()}


def _require_more(
    spec: ModelSpec, parameters: int, masks: Masks | None, ratio: float, kept_fraction: float | None
) -> None:
    """Refuse to prune what was pruned as far before: nothing would change, and the record would name another ratio."""
    gone = sum(int((~mask).sum()) for mask in (masks or {}).values())
    reached = parameters / (parameters - gone)
    if gone and kept_fraction is not None and ratio <= reached:
        there = sum(mask.numel() for mask in (masks or {}).values())
        raise UsageError(
            f"of the weights of {spec.name} that may go, {1 - gone / there:.4g} are left, and to keep "
            f"{kept_fraction:g} of them would leave it as it is: ask for fewer, or `harness train` what is left"
        )
    if gone and ratio <= reached:
        raise UsageError(
            f"{spec.name} has been pruned {reached:.4g}x before, and {ratio:.4g}x would leave it as it is: ratios are "
            "of all its parameters, also those that are zero by now; ask for more, or `harness train` what is left"
        )


def _gradient_batches(samples: Samples | None, method: str, count: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    if samples is None or not method.endswith("gradient"):
        return []
    order = np.random.default_rng(seed).permutation(len(samples.labels))[: count * GRADIENT_BATCH]
    return list(batches(samples, order, GRADIENT_BATCH))


def _loss(
    teaching: Teaching | None, student: nn.Module, parts: Parts, example: Tensor, samples: Samples
) -> Loss | None:
    import torch  # noqa: PLC0415

    if teaching is None:
        return None
    teacher = open_module(teaching.teacher)
    if teaching.teacher.inputs[0].shape != tuple(example.shape):
        raise UsageError(
            f"{teaching.teacher.name} takes images {list(teaching.teacher.inputs[0].shape)}, its student "
            f"{list(example.shape)}: they have to see the same"
        )
    teacher_parts = parts_of(teacher, teaching.teacher)
    if teaching.kind == "logit":
        require_classes(teacher, samples, example)
        with torch.no_grad():
            taught, learning = teacher(example).shape[-1], student(example).shape[-1]
        if taught != learning:
            raise UsageError(
                f"{teaching.teacher.name} answers with {taught} numbers and its student with {learning}: answers are "
                "taught by a classifier of the same people; teach embeddings otherwise"
            )
        return LogitDistillation(teacher=teacher, temperature=teaching.temperature, alpha=teaching.alpha)
    with torch.no_grad():
        wanted = embed_and_answer(teacher, teacher_parts, example)[0].shape[1]
        found = embed_and_answer(student, parts, example)[0].shape[1]
    torch.manual_seed(0)
    return EmbeddingDistillation(
        teacher=teacher,
        teacher_parts=teacher_parts,
        student_parts=parts,
        alpha=teaching.alpha,
        bridge=None if wanted == found else torch.nn.Linear(found, wanted, bias=False),
    )


def _record(
    module: nn.Module,
    parts: Parts,
    example: Tensor,
    *,
    method: str,
    parent: ModelSpec,
    parent_sha256: str,
    before: Sizes,
    asked_ratio: float | None,
    training: Training | None,
    teaching: Teaching | None,
    settings: dict[str, Setting],
    learnt_from: LearntFrom | None,
) -> Compression:
    after = sizes(module, parts)
    taught = f"{teaching.kind}-distillation" if teaching else "training"
    done = (method, taught if training else "")
    has_zeros = method in MASKING_METHODS or _zeros(parent, module, parts) is not None
    is_smaller = bool(method) or has_zeros
    # A bias that happens to be zero is no compression.
    left = (after.nonzero, after.backbone_nonzero) if has_zeros else (after.parameters, after.backbone)
    before_it = parent.compression
    if learnt_from is not None:
        settings = learnt_from.settings | settings
    elif before_it is not None:
        settings = {name: before_it.settings[name] for name in LEARNT_FROM if name in before_it.settings} | settings
    own = learnt_from.people if learnt_from is not None else ()
    teachers = teaching.teacher.compression if teaching is not None else None
    # What was seen, was seen: also by a network that this one was made from, or was taught by.
    people = {*own, *(person for done in (before_it, teachers) if done is not None for person in done.people)}
    if training is not None:
        settings = settings | {"trained_on": training_device().type}
    if teaching is not None:
        settings = settings | {"alpha": teaching.alpha}
        if teaching.kind == "logit":
            settings["temperature"] = teaching.temperature
    return Compression(
        method=" + ".join(filter(None, done)),
        parent=parent.name,
        parent_sha256=parent_sha256,
        asked_ratio=asked_ratio,
        reached_ratio=before.parameters / left[0] if is_smaller else None,
        reached_backbone_ratio=before.backbone / left[1] if is_smaller else None,
        parameters=after.parameters,
        nonzero_parameters=after.nonzero,
        macs=_macs(module, example),
        layers=tuple(
            LayerSize(
                name=name.removesuffix(".weight"),
                channels=weight.shape[0],
                weights=weight.numel(),
                nonzero=int(weight.count_nonzero()),
            )
            for name, weight in prunable(module, parts).items()
        ),
        teacher=teaching.teacher.name if teaching else None,
        teacher_sha256=weights_sha256(open_module(teaching.teacher)) if teaching else None,
        training=training,
        settings=settings,
        people=tuple(sorted(people)),
        classes=own or (before_it.classes if before_it is not None else ()),
    )


def _macs(module: nn.Module, example: Tensor) -> int | None:
    from harness.catalog.networks.count import count_macs  # noqa: PLC0415

    try:
        return count_macs(module, example)
    except ValueError:
        return None  # a layer without a rule


def _finish(
    spec: ModelSpec, module: nn.Module, folder: Path, compression: Compression, samples: Samples | None
) -> ModelSpec:
    assert isinstance(spec.source, BuiltinSource | PythonSource)
    made = save_model(spec, module, folder, compression=compression, samples=samples)
    shutil.rmtree(_work_folder(folder), ignore_errors=True)
    return made


def _work_folder(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.part")
