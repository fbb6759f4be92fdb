"""The steps of the study in their order. All training comes first and all measuring last.

Each step keeps what it finished; doing it again does only what is left.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

import msgspec

import harness
from harness import pipeline
from harness.catalog.checkpoint import make_checkpoint
from harness.catalog.datasets import open_dataset
from harness.catalog.models import find_model
from harness.compress.model_folder import open_module
from harness.convert.convert import need_converters
from harness.device.registry import find_device
from harness.errors import HarnessError
from harness.evaluate.evaluate import evaluate
from harness.matrix import parse_artifact
from harness.records import SCHEMA_VERSION, Accuracy, Artifact, Failure, Suite
from harness.store import StoredRun, keep_accuracy
from harness.study.events import DataProgress, Evaluated, Step, Stopping, VariantStarted
from harness.study.folder import FileResult, NetworkResult, Study, StudyFolder, require_own
from harness.study.trainers import at_once, train_together
from harness.study.training import Maker, require_possible
from harness.study.variants import artifacts_of
from harness.workspace import require_cache, require_output

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from harness.catalog.datasets.dataset import Dataset, Part
    from harness.records import Checkpoint, ModelSpec, Plan
    from harness.study.events import StudyEvent
    from harness.study.profiles import Profile
    from harness.study.variants import Variant

STEPS: tuple[Step, ...] = ("train", "evaluate", "measure")
_AT_ONCE = 4
"""Networks that are converted at the same time, at most: a converter may take gigabytes."""
_Watch: TypeAlias = "Callable[[StudyEvent], None]"


def run_study(
    path: Path,
    profile: Profile,
    *,
    data: str | None = None,
    devices: Sequence[str] = ("host",),
    accept: Sequence[str] = (),
    until: Step = "measure",
    command: Sequence[str] = (),
    watch: _Watch = lambda _event: None,
) -> StudyFolder:
    """Do a study, or what is left of it.

    Args:
        path: Its folder.
        profile: How large it is.
        data: What `open_dataset` reads; None for the profile's own.
        devices: On which everything is measured.
        accept: Obstacles on devices that do not keep them from being used, by name.
        until: The last step to do. Measuring may be left for a time when the machine is quiet.
        command: What the user typed, for the record of the run.
        watch: Told of every step.

    Raises:
        UnusableData: The data are empty, mixed up or damaged, or too few.
        ImpossibleRatio: The teacher cannot be pruned as far as the profile asks.
        UsageError: The folder holds another study, or something else.
        UnwritableFolder: It, or the cache, cannot be written. Nothing slow was begun.
        UnknownName, DeviceNotFit, MissingExtra: See `plan_run`. Nothing slow was begun.
    """
    for device in devices:
        find_device(device)  # a device that is not there ends it now, not after an hour of training
    require_own(path)
    require_cache()
    require_output(path)
    data = profile.data if data is None else data
    dataset = open_dataset(data, size=profile.size, watch=lambda done, total: watch(DataProgress(done, total)))
    for fold in profile.folds:
        require_possible(profile, dataset.split(fold))
    study = Study(
        schema=SCHEMA_VERSION,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        harness_version=harness.__version__,
        profile=profile,
        data=data,
        dataset=dataset.name,
        is_synthetic=dataset.is_synthetic,
        dataset_sha256=dataset.sha256,
    )
    folder = StudyFolder.begin(path, study)
    if until != "train":
        _require_converters(folder, dataset)
    _train(folder, dataset, watch)
    if STEPS.index(until) >= STEPS.index("evaluate"):
        _evaluate(folder, dataset, watch)
    if until == "measure":
        measure(folder, devices, accept=accept, command=command, watch=watch)
    return folder


def _require_converters(folder: StudyFolder, dataset: Dataset) -> None:
    """Find now, and not after an hour of training, that something is not installed."""
    _, maker = _makers(folder, dataset)[0]
    profile, variants = folder.study.profile, folder.study.variants
    for text in dict.fromkeys(text for variant in variants for text in artifacts_of(profile, variant)):
        need_converters(maker.untrained(variants[0]), *parse_artifact(text))


def _train(folder: StudyFolder, dataset: Dataset, watch: _Watch) -> None:
    """Train the teacher, which all others need, and then the others, a network a processor.

    Always in processes of their own: what else was loaded into this one may change the last bits of a weight.
    """
    variants, profile = folder.study.variants, folder.study.profile
    threads = max(profile.finetuning.threads, profile.distillation.threads)
    for fold, maker in _makers(folder, dataset):
        left = [variant for variant in variants if not maker.is_made(variant)]
        first = [variant for variant in left if variant.kind in {"untrained", "teacher"}]
        train_together(folder, fold, first, trainers=1, watch=watch)
        # Students, which take longest, come last in the table: begun last, they would be waited for alone.
        others = [variant for variant in reversed(left) if variant not in first]
        train_together(folder, fold, others, trainers=at_once(threads), watch=watch)


def _evaluate(folder: StudyFolder, dataset: Dataset, watch: _Watch) -> None:
    """Convert and evaluate, a network a processor: converters use one processor each, and nothing is timed here.

    Interrupted, it begins nothing more; files under way are finished and kept.
    """
    one_at_a_time, over = threading.Lock(), threading.Event()

    def tell(event: StudyEvent) -> None:
        with one_at_a_time:
            watch(event)

    pool = ThreadPoolExecutor(max_workers=min(_AT_ONCE, os.cpu_count() or 1))
    try:
        work = [
            pool.submit(_evaluate_variant, folder, dataset, variant, fold, maker, over, tell)
            for fold, maker in _makers(folder, dataset)
            for variant in folder.study.variants
        ]
        for one in as_completed(work):
            one.result()
    except KeyboardInterrupt:
        tell(Stopping())
        raise
    finally:
        over.set()
        pool.shutdown(wait=False, cancel_futures=True)


def _evaluate_variant(
    folder: StudyFolder,
    dataset: Dataset,
    variant: Variant,
    fold: int,
    maker: Maker,
    over: threading.Event,
    watch: _Watch,
) -> None:
    profile = folder.study.profile
    variants = folder.study.variants
    watch(VariantStarted("evaluate", variant, fold, variants.index(variant) + 1, len(variants)))
    reference = str(maker.deployed(variant))

    def tested(
        subject: Artifact | tuple[ModelSpec, Checkpoint], part: Part = maker.split.test
    ) -> tuple[Accuracy | None, Failure | None]:
        try:
            samples = profile.bootstrap_samples
            return evaluate(subject, dataset, part, task="embedding", fold=fold, samples=samples), None
        except HarnessError as error:
            return None, pipeline.failure("evaluate", error)

    if folder.network(variant, fold) is None:
        spec = find_model(reference).spec
        checkpoint = make_checkpoint(spec)
        accuracy, problem = tested((spec, checkpoint))
        validation, _ = tested((spec, checkpoint), maker.split.validation)
        network = NetworkResult(
            schema=SCHEMA_VERSION,
            variant=variant,
            parameters=checkpoint.parameters,
            nonzero_parameters=_nonzero(spec),
            macs=checkpoint.macs,
            compression=spec.compression,
            accuracy=accuracy,
            validation=validation,
            problem=problem,
        )
        folder.keep(network, fold)
        watch(Evaluated(network))
    for text in artifacts_of(profile, variant):
        if over.is_set():
            return
        model_format, precision = parse_artifact(text)
        if folder.file(variant, fold, model_format, precision) is None:
            made = pipeline.convert_model(reference, [text], watch=watch)[text]
            accuracy, problem = tested(made) if isinstance(made, Artifact) else (None, None)
            file = FileResult(
                schema=SCHEMA_VERSION,
                variant=variant,
                format=model_format,
                precision=precision,
                artifact=made if isinstance(made, Artifact) else None,
                accuracy=accuracy,
                problem=problem if isinstance(made, Artifact) else made,
            )
            folder.keep(file, fold)
            watch(Evaluated(file))


def _nonzero(spec: ModelSpec) -> int:
    return sum(int(weights.count_nonzero()) for weights in open_module(spec).parameters())


def measure(
    folder: StudyFolder,
    devices: Sequence[str],
    *,
    accept: Sequence[str] = (),
    command: Sequence[str] = (),
    watch: _Watch = lambda _event: None,
) -> None:
    """Measure the first fold's networks, those of others having the same layers. Each device has a run of its own.

    Arguments as for `run_study`, which has to have done everything else.

    Raises:
        DeviceError: A device is in use, gone or unfit. What was measured before is kept.
    """
    plans = {}
    for device in devices:
        if not (folder.run(device) / "plan.json").exists():
            plans[device] = _plan(folder, device, accept, command)
    for device in devices:
        if device in plans:
            pipeline.run(plans[device], folder.run(device), watch=watch)
        elif StoredRun.open(folder.run(device)).missing:
            pipeline.resume(folder.run(device), watch=watch)
        _keep_accuracies(folder, device)


def _keep_accuracies(folder: StudyFolder, device: str) -> None:
    """Beside what was measured of each file what it still recognises, so that the run's own page shows both."""
    profile = folder.study.profile
    for variant in folder.study.variants:
        for text in artifacts_of(profile, variant):
            file = folder.file(variant, profile.folds[0], *parse_artifact(text))
            if file is not None and file.accuracy is not None:
                keep_accuracy(file.accuracy, folder.run(device))


def _plan(folder: StudyFolder, device: str, accept: Sequence[str], command: Sequence[str]) -> Plan:
    profile = folder.study.profile
    wanted = {variant.name: artifacts_of(profile, variant) for variant in folder.study.variants}
    models = folder.fold(profile.folds[0]) / "models"
    suite = Suite(
        schema=1,
        name=f"ocular-{profile.name}",
        models=tuple(str(models / name / "model.toml") for name, files in wanted.items() if files),
        artifacts=tuple(dict.fromkeys(text for files in wanted.values() for text in files)),
        devices=(device,),
        measure=profile.measure,
    )
    plan = pipeline.plan_run(suite, command=command, accept=accept, name=folder.run(device).name)
    # A suite is every model in every file; not every network is quantized.
    cells = tuple(cell for cell in plan.cells if f"{cell.format}/{cell.precision}" in wanted[cell.model])
    return msgspec.structs.replace(plan, cells=cells)


def _makers(folder: StudyFolder, dataset: Dataset) -> list[tuple[int, Maker]]:
    return [(fold, Maker.of(folder, dataset, fold)) for fold in folder.study.profile.folds]
