"""Run a checkpoint or a file on labelled images, and say what it recognises."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.catalog import frameworks
from harness.catalog.datasets.dataset import FOLDS
from harness.errors import DegenerateScores, UsageError, WrongInput
from harness.evaluate.child import Answered, AnswerRequest, CheckpointToRun, FileToRun
from harness.evaluate.pairs import compare
from harness.evaluate.ranks import classify
from harness.evaluate.rates import BOOTSTRAP_SAMPLES, verify
from harness.jobs import run_job
from harness.records import SCHEMA_VERSION, Accuracy, Artifact, Checkpoint
from harness.workspace import cache_dir

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.catalog.datasets.dataset import Dataset, Part
    from harness.records import ModelSpec, Task, TensorSpec

TIMEOUT_S = 7200.0


def image_shape(inputs: tuple[TensorSpec, ...], what: str) -> tuple[int, int]:
    """What images a network takes: height and width, which are equal, and channels.

    Raises:
        WrongInput: It does not take one square image of one or three channels.
    """
    if len(inputs) != 1:
        raise WrongInput(what, "one image", f"{len(inputs)} inputs")
    shape = inputs[0].shape
    if len(shape) == 4:
        for channels, height, width in ((shape[1], shape[2], shape[3]), (shape[3], shape[1], shape[2])):
            if channels in {1, 3} and height == width:
                return height, channels
    raise WrongInput(inputs[0].name, "one square image of 1 or 3 channels", f"shape {list(shape)}")


def evaluate(
    subject: Artifact | tuple[ModelSpec, Checkpoint],
    dataset: Dataset,
    part: Part,
    *,
    task: Task,
    fold: int | None,
    output: str | None = None,
    samples: int = BOOTSTRAP_SAMPLES,
    knows_classes: bool = False,
) -> Accuracy:
    """Run a network on images through its own runtime, in a process of its own, and compute its rates.

    Args:
        subject: A converted file, or a checkpoint of a torch module with what it was made from.
        dataset: Named in the record.
        part: The images to test on.
        task: `embedding` verifies subjects by the cosine; `classification` ranks the right class.
        fold: Which fold `part` is the test part of, or None where it is everybody.
        output: Which output is the embedding or the logits; None where there is one only.
        samples: How often subjects are drawn again for intervals.
        knows_classes: Whether `part` is labelled as the network numbers people. Otherwise its subjects, in their order,
            are taken for the classes, and have to be as many.

    Raises:
        WrongInput: The network does not take such images.
        UsageError: It is not said which of several outputs is meant, or for another task.
        DegenerateScores: It tells nobody apart.
        ConversionFailed: Its runtime crashed or ran out of time.
        UnreadableModel: Its runtime refuses the file.
    """
    name = subject.model if isinstance(subject, Artifact) else subject[0].name
    require_task(task, name, fold=fold)
    answers, executed_by = _answers(subject, part, name)
    values = _chosen(answers, output, name)
    what = f"{name} ({subject.format}/{subject.precision})" if isinstance(subject, Artifact) else f"{name} (checkpoint)"
    verification = classification = None
    if task == "embedding":
        scores = compare(values, part.labels, part.sessions, what=what)
        verification = verify(scores, embedding_length=values.shape[1], samples=samples)
    else:
        if not knows_classes and values.shape[1] != len(part.subjects):
            raise _unnumbered(what, values.shape[1], len(part.subjects))
        classification = classify(values, part.labels, what=what, samples=samples)
    return Accuracy(
        schema=SCHEMA_VERSION,
        model=name,
        file_sha256=subject.sha256 if isinstance(subject, Artifact) else subject[1].sha256,
        format=subject.format if isinstance(subject, Artifact) else None,
        precision=subject.precision if isinstance(subject, Artifact) else None,
        executed_by=executed_by,
        dataset=dataset.name,
        dataset_sha256=dataset.sha256,
        is_synthetic=dataset.is_synthetic,
        fold=fold,
        subjects=len(np.unique(part.labels)),
        images=len(part.labels),
        bootstrap_samples=samples,
        verification=verification,
        classification=classification,
    )


def _unnumbered(what: str, classes: int, people: int) -> DegenerateScores:
    problem = f"it knows {classes} classes, the data have {people} people, and nothing says which of them is whom"
    error = DegenerateScores(what, problem)
    error.hint = "To tell apart people it was not trained on, take its classifier off: `harness embed`."
    return error


def require_task(task: Task, name: str, *, fold: int | None = None) -> None:
    """Raise UsageError unless a network is for something that can be tested on such images."""
    if task == "classification" and fold is not None:
        raise UsageError(
            f"{name} classifies the people it was trained on, and those whom a fold tests are others. Take its "
            f"classifier off (`harness embed`) and evaluate the embeddings, or leave --fold out"
        )
    if task not in {"embedding", "classification"}:
        raise UsageError(
            f"{name} is neither for embedding nor for classification, but for {task}; say which with --task"
        )


def part_to_test(spec: ModelSpec, dataset: Dataset, fold: int | None, task: Task) -> Part:
    """The images that a network is tested on, labelled as it numbers people where it classifies them.

    Raises:
        UsageError: It is a classifier of others; or it would verify people that it was trained on, as far as its
            model.toml knows; or its weights are untrained, and an accuracy of them would mean nothing.
    """
    if task == "classification":
        return _part_to_classify(spec, dataset)
    part = dataset.everybody() if fold is None else dataset.split(fold).test
    _require_strangers(spec, dataset, part)
    return part


def _part_to_classify(spec: ModelSpec, dataset: Dataset) -> Part:
    everybody, done = dataset.everybody(), spec.compression
    if spec.trained is False:
        raise UsageError(f"the weights of {spec.name} are untrained: it tells nobody apart. `harness train` it first")
    if done is None or not done.classes:
        return everybody
    part = everybody.of_classes(done.classes)
    if len(part.labels) == 0:
        raise UsageError(
            f"{spec.name} was trained to classify the people of {done.settings.get('data', 'other images')}, and none "
            "of these is one of them. Take its classifier off (`harness embed`) and evaluate the embeddings"
        )
    return part


def _require_strangers(spec: ModelSpec, dataset: Dataset, part: Part) -> None:
    seen = set(spec.compression.people if spec.compression else ())
    if not seen:
        return
    met = len(seen & set(part.people()))
    if met == 0:
        return
    strange = [other for other in range(FOLDS) if not seen & set(dataset.split(other).test.people())]
    remedy = (
        f"give --fold {strange[0]}, whose people it has not seen"
        if strange
        else "no fold of these images has people whom it has not seen; train it anew, with one fold all the way"
    )
    raise UsageError(
        f"{met} of these {len(part.subjects)} people are known to {spec.name}: it, its teacher or a network that it "
        f"was made from was trained on them; {remedy}"
    )


def _answers(
    subject: Artifact | tuple[ModelSpec, Checkpoint], part: Part, name: str
) -> tuple[dict[str, NDArray[np.generic]], str]:
    with tempfile.TemporaryDirectory(prefix="evaluate-", dir=_made(cache_dir() / "jobs")) as kept:
        images, answers = Path(kept) / "images.npy", Path(kept) / "answers.npz"
        np.save(images, part.stored())
        request = AnswerRequest(runs=_runs(subject), images=str(images), channels=part.channels, answers=str(answers))
        done = run_job(
            "harness.evaluate.child",
            request,
            Answered,
            what=f"evaluate {name}",
            timeout_s=TIMEOUT_S,
            imports=frameworks.RUN[subject.format] if isinstance(subject, Artifact) else frameworks.TORCH,
        )
        with np.load(answers, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}, done.answer.executed_by


def _runs(subject: Artifact | tuple[ModelSpec, Checkpoint]) -> FileToRun | CheckpointToRun:
    if isinstance(subject, Artifact):
        return FileToRun(
            model=subject.model,
            path=subject.path,
            format=subject.format,
            inputs=subject.inputs,
            outputs=subject.outputs,
        )
    spec, checkpoint = subject
    if checkpoint.form not in {"torch", "pt2"}:
        raise UsageError(f"{spec.name} is a ready file: name an artifact of it, `source` is the file itself")
    return CheckpointToRun(spec=spec, checkpoint=checkpoint)


def _chosen(answers: dict[str, NDArray[np.generic]], output: str | None, name: str) -> NDArray[np.floating]:
    """The output that counts, `[images, length]`."""
    if output is None and len(answers) > 1:
        raise UsageError(f"{name} has the outputs {', '.join(answers)}; say which one counts with --output")
    if output is not None and output not in answers:
        raise UsageError(f"{name} has no output {output!r}; it has {', '.join(answers)}")
    values = answers[output or next(iter(answers))]
    flat = values.reshape(len(values), -1).astype(np.float32)
    if flat.shape[1] < 2:
        raise DegenerateScores(name, "its answer is one number, neither an embedding nor logits")
    return flat


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
