"""A tiny study, for real: trained, pruned, distilled, converted, evaluated, measured, and written down."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from harness.catalog.datasets import open_dataset
from harness.catalog.datasets.dataset import VALIDATION_SHARE, Part, Split
from harness.catalog.models import find_model
from harness.cli import app
from harness.device.lease import leased
from harness.device.registry import find_device
from harness.errors import DeviceBusy, ImpossibleRatio, MissingExtra, TrainerDied, UnknownName, UsageError
from harness.evaluate.evaluate import part_to_test
from harness.records import Accuracy, Artifact
from harness.report.view import view
from harness.study.events import Trained, VariantStarted
from harness.study.folder import StudyFolder
from harness.study.profiles import PROFILES
from harness.study.report import write_report
from harness.study.study import run_study
from harness.study.trainers import train_together
from harness.study.training import require_possible
from harness.study.variants import variants_of

if TYPE_CHECKING:
    from typer.testing import Result

    from harness.study.events import StudyEvent
    from harness.study.profiles import Profile

TINY = msgspec.structs.replace(
    PROFILES["smoke"],
    students=("resnet10_w32",),
    controls=(),
    structured_ratios=(),
    quantized=(),
    artifacts=("onnx/fp32",),
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(cache))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> StudyFolder:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(cache))
        return run_study(tmp_path_factory.mktemp("study"), TINY, accept=_everything())


def test_every_network_and_file_is_evaluated_through_its_own_runtime(study: StudyFolder) -> None:
    for variant in study.study.variants:
        network = study.network(variant, 0)
        assert network is not None
        assert isinstance(network.accuracy, Accuracy)
        assert network.accuracy.executed_by.startswith("torch")
        assert network.accuracy.is_synthetic
    file = study.file(variants_of(TINY)[1], 0, "onnx", "fp32")
    assert file is not None
    assert isinstance(file.artifact, Artifact)
    assert isinstance(file.accuracy, Accuracy)
    assert file.accuracy.executed_by.startswith("ONNX Runtime")
    assert file.accuracy.file_sha256 == file.artifact.sha256


def test_a_network_of_a_study_is_not_tested_on_people_it_was_trained_on(study: StudyFolder) -> None:
    dataset = open_dataset(study.study.data, size=TINY.size)
    for variant in study.study.variants[1:]:
        spec = find_model(str(study.fold(0) / "models" / variant.name)).spec

        assert len(part_to_test(spec, dataset, 0, "embedding").subjects) > 0
        with pytest.raises(UsageError, match="give --fold 0"):
            part_to_test(spec, dataset, 1, "embedding")


def test_the_run_of_each_device_has_the_accuracies_of_the_files_it_measured(study: StudyFolder) -> None:
    (run,) = study.runs()
    rows = view(run).rows

    assert rows
    for row in rows:
        assert row.result is not None
        assert row.result.artifact is not None
        assert row.accuracy is not None
        assert row.accuracy.file_sha256 == row.result.artifact.sha256
        assert (row.accuracy.model, row.accuracy.format) == (row.cell.model, row.cell.format)


def test_the_report_has_every_file_with_its_time_and_says_that_images_are_synthetic(study: StudyFolder) -> None:
    written = write_report(study)
    files = [row for row in written.figures.rows if row.format is not None]

    assert [f"{row.variant} {row.format}/{row.precision}" for row in files] == [
        *("teacher onnx/fp32", "layer-magnitude-4x onnx/fp32", "student-resnet10_w32 onnx/fp32"),
        *("student-resnet10_w32 onnx/int8", "student-resnet10_w32 tflite/int8"),
    ]
    assert all(row.timings[0].p50_ns for row in files)
    assert written.text.count("**Synthetic images**") >= 3
    for kind in ("svg", "png"):
        assert {path.stem for path in study.path.glob(f"*.{kind}")} == {"det", "eer-size", "eer-latency-host"}


def test_the_index_lists_the_study_with_its_page(study: StudyFolder, tmp_path: Path) -> None:
    shutil.copytree(study.path, tmp_path / "ocular")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "study.json").write_text("{")

    result = CliRunner().invoke(app, ["report", str(tmp_path), "--index"])

    assert result.exception is None, result.exception
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'href="./ocular/report.html"' in text
    assert (tmp_path / "ocular" / "report.html").exists()
    assert "Which pruning wins?" in text
    assert "unreadable" in text


def test_a_study_is_reported_by_its_folder_in_every_form_that_it_has(study: StudyFolder, tmp_path: Path) -> None:
    def report(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["report", str(study.path), *arguments])

    assert "onnx/fp32" in report().stdout
    assert report("--to", "md").stdout.startswith("# Ocular study")
    assert json.loads(report("--to", "json").stdout)["rows"]
    page = tmp_path / "page.html"
    assert report("--to", "html", "--output", str(page)).exit_code == 0
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert report("--figures", str(tmp_path / "pictures")).exit_code == 0
    assert {path.suffix for path in (tmp_path / "pictures").iterdir()} == {".svg", ".png"}
    refused = report("--to", "csv")
    assert isinstance(refused.exception, UsageError)
    assert "runs/DEVICE" in str(refused.exception)


def test_a_report_made_before_everything_is_evaluated_says_how_much_is_missing(
    study: StudyFolder, tmp_path: Path
) -> None:
    assert "Not complete" not in write_report(study).text
    half = tmp_path / "half"
    shutil.copytree(study.path, half)
    next(half.glob("fold-0/networks/teacher*")).unlink()
    next(half.glob("fold-0/files/*student*onnx.int8*")).unlink()

    text = write_report(StudyFolder.open(half)).text

    assert "**Not complete:** 2 of 4 networks are not evaluated in all their files yet." in text


def test_what_is_deployed_has_no_classifier_and_the_zeros_of_its_ratio(study: StudyFolder) -> None:
    teacher, pruned = (study.network(variant, 0) for variant in study.study.variants[1:3])

    assert teacher is not None
    assert pruned is not None
    assert pruned.parameters == teacher.parameters
    assert teacher.nonzero_parameters / pruned.nonzero_parameters == pytest.approx(4, rel=0.1)


def test_networks_are_chosen_on_subjects_who_are_neither_trained_on_nor_tested(study: StudyFolder) -> None:
    network = study.network(study.study.variants[1], 0)

    assert network is not None
    assert isinstance(network.accuracy, Accuracy)
    assert isinstance(network.validation, Accuracy)
    assert network.accuracy.subjects == 8
    assert network.validation.subjects == 2
    assert network.accuracy.verification is not None
    assert len(network.accuracy.verification.eer_redrawn) == TINY.bootstrap_samples


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_what_each_profile_asks_can_be_had(profile: Profile) -> None:
    require_possible(profile, _split(profile))


def test_an_impossible_ratio_ends_a_study_before_anything_is_trained(tmp_path: Path) -> None:
    for ratios in ({"ratios": (4.0, 4000.0)}, {"structured_ratios": (4000.0,)}):
        with pytest.raises(ImpossibleRatio, match="4000"):
            run_study(tmp_path / "study", msgspec.structs.replace(TINY, **ratios))
    assert not (tmp_path / "study").exists()


def test_a_study_that_is_done_does_nothing_twice(study: StudyFolder) -> None:
    seen: list[StudyEvent] = []
    run_study(study.path, TINY, accept=_everything(), watch=seen.append)

    assert not [event for event in seen if isinstance(event, Trained)]


def test_a_study_on_a_host_in_use_has_its_report_and_says_what_is_left(
    study: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(study.path, tmp_path / "busy", ignore=shutil.ignore_patterns("runs", "report.*"))
    monkeypatch.setattr("harness.study.study.run_study", lambda *_, **__: StudyFolder.open(tmp_path / "busy"))
    accepted = [part for obstacle in _everything() for part in ("--accept", obstacle)]
    asked = ["study", "ocular", "--profile", "smoke", "--output", str(tmp_path / "busy"), *accepted]

    with leased((find_device("host"),), "the nightly run"):
        done = CliRunner().invoke(app, asked)

    assert isinstance(done.exception, DeviceBusy), done.exception
    assert done.exception.exit_code == 3
    assert "nothing is measured yet" in (tmp_path / "busy" / "report.md").read_text(encoding="utf-8")
    assert (tmp_path / "busy" / "report.html").exists()
    assert f"left to do, measuring: {shlex.join(['harness', *asked])}" in done.stderr
    assert not list((tmp_path / "busy").glob("runs/*"))


def test_a_study_that_is_killed_leaves_no_trainer_behind_and_goes_on_to_the_same_networks(
    study: StudyFolder, tmp_path: Path
) -> None:
    program = (
        "import sys, pathlib; from tests.study.test_study import TINY; from harness.study.study import run_study;"
        "say = lambda event: print(type(event).__name__, flush=True);"
        "run_study(pathlib.Path(sys.argv[1]), TINY, until='train', watch=say)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        started = 0
        while started < 3:  # the untrained one, the teacher, and the first of those that are trained beside each other
            started += process.stdout.readline().strip() == "VariantStarted"
        trainers = _children(process.pid)
        process.kill()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in trainers) and time.monotonic() < deadline:
        time.sleep(0.1)

    assert trainers
    assert not [pid for pid in trainers if Path(f"/proc/{pid}").exists()]
    assert not (tmp_path / "fold-0/models/student-resnet10_w32").exists()
    begun: list[StudyEvent] = []
    run_study(tmp_path, TINY, until="train", watch=begun.append)

    assert {event.variant.kind for event in begun if isinstance(event, VariantStarted)} <= {"pruned", "student"}
    for variant in study.study.variants:
        weights = f"fold-0/models/{variant.name}/weights.safetensors"
        assert (tmp_path / weights).read_bytes() == (study.path / weights).read_bytes()


def test_a_trainer_that_is_killed_is_named_with_the_network_it_trained(study: StudyFolder, tmp_path: Path) -> None:
    shutil.copytree(study.path / "fold-0/trained/teacher", tmp_path / "fold-0/trained/teacher")
    folder = StudyFolder.begin(tmp_path, study.study)

    def kill(_event: StudyEvent) -> None:
        for pid in _children(os.getpid()):
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(TrainerDied, match="that trained layer-magnitude-4x was ended by SIGKILL"):
        train_together(folder, 0, [study.study.variants[2]], trainers=1, watch=kill)


def test_an_error_of_a_trainer_arrives_as_itself(study: StudyFolder, tmp_path: Path) -> None:
    folder = StudyFolder.begin(tmp_path, study.study)

    with pytest.raises(UnknownName, match="trained/teacher"):
        train_together(folder, 0, [study.study.variants[2]], trainers=1, watch=lambda _event: None)


def test_another_study_in_the_same_folder_is_refused(study: StudyFolder) -> None:
    with pytest.raises(UsageError, match="holds a study with another data"):
        run_study(study.path, TINY, data="synthetic:subjects=25,sessions=2,images=2", until="train")


def test_a_folder_with_something_else_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")

    with pytest.raises(UsageError, match="is not empty and holds no study"):
        run_study(tmp_path, TINY, data="nowhere")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_device_that_is_not_there_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(UnknownName):
        run_study(tmp_path, TINY, devices=("nowhere",))
    assert not list(tmp_path.iterdir())


def test_a_converter_that_is_not_installed_is_said_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.convert.convert.find_spec", lambda name: None if name == "onnxscript" else object())
    begun: list[StudyEvent] = []

    with pytest.raises(MissingExtra, match="onnxscript"):
        run_study(tmp_path, TINY, watch=begun.append)
    assert not [event for event in begun if isinstance(event, VariantStarted)]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
def test_parents_come_before_their_children_and_quantized_ones_exist(profile: object) -> None:
    variants = variants_of(profile)  # type: ignore[arg-type]

    assert [variant.kind for variant in variants][:2] == ["untrained", "teacher"]
    assert set(profile.quantized) <= {variant.name for variant in variants}  # type: ignore[attr-defined]


def _split(profile: Profile) -> Split:
    """As many subjects as a profile trains on, without any image."""
    subjects = int(profile.data.partition("subjects=")[2].partition(",")[0])
    none = np.zeros(0, np.int64)
    names = tuple(map(str, range(round(subjects * 2 / 3 * (1 - VALIDATION_SHARE)))))
    part = Part(indices=none, labels=none, sessions=none, subjects=names, channels=3, pixels=Path())
    return Split(train=part, validation=part, test=part)


def _everything() -> tuple[str, ...]:
    """What this machine may have in the way: times do not matter here."""
    return tuple(obstacle.name for obstacle in find_device("host").obstacles())


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
