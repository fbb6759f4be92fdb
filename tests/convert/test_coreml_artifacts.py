"""Core ML artifacts as a run makes them: by recipe, in child processes, cached, proved, and said how far."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from harness import comparison, pipeline
from harness.catalog.checkpoint import make_checkpoint
from harness.catalog.coreml_package import package_digest, package_size, read_spec, weights_folder
from harness.catalog.files import read_signature
from harness.catalog.ml_program import Program
from harness.catalog.models import FoundModel
from harness.cli import app
from harness.convert.child import ProveRequest, _prove, _require_like
from harness.convert.convert import check_package, is_converted, make_artifact
from harness.deploy.runner import Runner
from harness.errors import ConversionFailed, NotProved, ParityFailed, UsageError
from harness.parity import tolerance_for
from harness.records import Artifact, Measurement, NotRunnable, PythonSource, Suite, Tolerance
from harness.tables import checked_text
from tests.convert.test_coreml_networks import Package, prune_half
from tests.fakes import modules, records
from tests.fakes.device import FACTS, FakeDevice
from tests.fakes.specs import python_spec

if TYPE_CHECKING:
    from harness.measure.session import Question
    from harness.records import ModelSpec, Precision
    from tests.convert.conftest import Make

pytestmark = pytest.mark.slow


TINY = PythonSource(factory="tests.fakes.modules:tiny", arguments={"width": 16})
"""The same layers with all of their weights."""


@pytest.fixture(scope="session")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """A checkpoint of which half of the weights are zero, as pruning leaves it."""
    torch.manual_seed(0)
    module = modules.tiny(width=16)
    prune_half(module)
    path = tmp_path_factory.mktemp("pruned") / "weights.pt"
    torch.save(module.state_dict(), path)
    source = PythonSource(factory="tests.fakes.modules:tiny", arguments={"width": 16}, weights=str(path))
    return msgspec.structs.replace(python_spec("tiny"), name="pruned", source=source)


@pytest.mark.parametrize(
    ("precision", "stored"),
    [("fp16", "fp16 100.0%"), ("int8_weights", "int8"), ("palette4", "palette4"), ("sparse", "sparse")],
)
def test_a_pruned_checkpoint_becomes_a_package_that_is_stored_as_asked_and_graph_checked(
    make: Make, pruned: ModelSpec, precision: Precision, stored: str
) -> None:
    artifact = make(pruned, "coreml", precision)

    path = Path(artifact.path)
    assert artifact.parity.passed
    assert artifact.parity.evidence == "graph-checked"
    assert "not Core ML" in artifact.parity.executed_by
    assert (artifact.sha256, artifact.size_bytes) == (package_digest(path), package_size(path))
    assert stored in str(artifact.conversion.settings["stored"])
    assert artifact.conversion.settings["zero_fraction"] == pytest.approx(0.5, abs=0.06)
    assert (artifact.inputs[0].dtype, artifact.inputs[0].shape) == ("float32", (1, 3, 16, 16))
    assert artifact.outputs[0].shape == (1, 10)


def test_a_palette_is_judged_later_by_its_own_distance_and_the_limit_of_fp16(make: Make, pruned: ModelSpec) -> None:
    parity = make(pruned, "coreml", "palette4").parity

    own = parity.outputs[0].relative_l2
    assert parity.tolerance.relative_l2 == pytest.approx(
        own + (tolerance_for("coreml", "fp16").relative_l2 or 0) * (1 + own)
    )


def test_a_model_without_zeros_is_refused_as_sparse_with_the_command_that_makes_some(make: Make) -> None:
    with pytest.raises(ConversionFailed, match="asked to be sparse, no weight is") as refused:
        make(python_spec("tiny"), "coreml", "sparse")

    assert "`harness compress MODEL --method layer-magnitude --ratio 2 -o FOLDER`" in refused.value.hint


def test_a_package_of_which_a_part_is_lost_is_made_again(make: Make, pruned: ModelSpec) -> None:
    first = make(pruned, "coreml", "fp16")
    assert is_converted(pruned, "coreml", "fp16")
    shutil.rmtree(weights_folder(first.path))

    again = make(pruned, "coreml", "fp16")

    assert again.sha256 == first.sha256
    assert weights_folder(again.path).is_dir()


def test_a_system_before_ios_15_gets_a_neural_network_that_nothing_here_computes(pruned: ModelSpec) -> None:
    artifact = make_artifact(pruned, make_checkpoint(pruned), "coreml", "fp32", system="iOS 14.8")

    assert artifact.path.endswith(".mlmodel")
    assert (artifact.parity.evidence, artifact.parity.outputs, artifact.parity.passed) == ("converted", (), None)
    assert artifact.conversion.settings["stored"] == "fp32 100.0%"
    assert artifact.parity.executed_by.startswith("nobody")
    assert read_signature(Path(artifact.path), "coreml").inputs[0].shape == (1, 3, 16, 16)


def test_a_cell_that_cannot_run_on_linux_keeps_its_checked_file_and_has_no_time(
    pruned: ModelSpec, tmp_path: Path
) -> None:
    folder = tmp_path / "pruned"
    folder.mkdir()
    assert isinstance(pruned.source, PythonSource)
    (folder / "model.toml").write_text(
        'schema = 1\nname = "pruned"\n'
        '[source]\nkind = "python"\nfactory = "tests.fakes.modules:tiny"\narguments = { width = 16 }\n'
        f'weights = "{pruned.source.weights}"\n'
        '[[inputs]]\nname = "images"\nshape = [1, 3, 16, 16]\n'
    )
    suite = Suite(schema=1, name="linux", models=(str(folder / "model.toml"),), artifacts=("coreml/fp16",))

    (result,) = pipeline.run(pipeline.plan_run(suite), tmp_path / "out").results

    assert isinstance(result.outcome, NotRunnable)
    assert "Apple's systems only" in result.outcome.reason
    assert result.artifact is not None
    assert result.artifact.parity.evidence == "graph-checked"


def test_a_package_is_checked_against_the_model_it_was_made_of_and_noticed_against_another(
    make: Make, pruned: ModelSpec
) -> None:
    package = Path(make(pruned, "coreml", "fp16").path)
    other = python_spec("tiny")

    alone = check_package(package)
    beside_its_own = check_package(package, pruned, make_checkpoint(pruned))
    beside_another = check_package(package, other, make_checkpoint(other))

    assert (alone.evidence, alone.parity, alone.operations["conv"], alone.stored) == ("converted", None, 2, {"fp16": 1})
    assert beside_its_own.evidence == "graph-checked"
    assert beside_another.evidence == "converted"
    assert beside_another.parity is not None
    assert not beside_another.parity.passed


def test_a_mismatch_ends_the_command_after_all_figures_and_says_what_to_look_at(
    make: Make, pruned: ModelSpec, tmp_path: Path
) -> None:
    package = make(pruned, "coreml", "fp16").path
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "model.toml").write_text(
        'schema = 1\nname = "other"\n[source]\nkind = "python"\nfactory = "tests.fakes.modules:tiny"\n'
        '[[inputs]]\nname = "images"\nshape = [1, 3, 16, 16]\n'
    )

    done = CliRunner().invoke(app, ["convert", "check", package, "--against", str(folder)])

    assert isinstance(done.exception, ParityFailed)
    assert "relative L2" in done.stdout
    assert done.exception.hint.startswith("Every figure of the comparison is printed above.")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8_weights", "palette4", "sparse"])
def test_a_package_is_checked_by_the_limit_of_the_weights_it_stores(
    make: Make, pruned: ModelSpec, precision: Precision
) -> None:
    checkpoint = make_checkpoint(pruned)
    artifact = make_artifact(pruned, checkpoint, "coreml", precision)

    checked = check_package(Path(artifact.path), pruned, checkpoint)

    limit = 1.0 if precision == "palette4" else artifact.parity.tolerance.relative_l2
    assert checked.parity is not None
    assert checked.parity.tolerance.relative_l2 == limit
    assert (checked.evidence, checked.unlike) == ("graph-checked", None)


def test_a_package_beside_itself_proves_nothing(make: Make, pruned: ModelSpec) -> None:
    package = make(pruned, "coreml", "fp16").path

    done = CliRunner().invoke(app, ["convert", "check", package, "--against", package])

    assert isinstance(done.exception, NotProved), done.exception
    assert done.exception.exit_code == 1
    assert "evidence    converted" in done.stdout
    assert "its original is a Core ML package, too" in done.stdout


def test_a_palette_with_a_wrong_layer_is_not_proved_by_outputs_that_are_far_off_anyway(
    make: Make, pruned: ModelSpec, tmp_path: Path
) -> None:
    right = Path(make(pruned, "coreml", "palette4").path)
    package = Package(shutil.copytree(right, tmp_path / "wrong.mlpackage"))
    package.constant(package.convolutions()[0]).scale(1.05)

    checked = check_package(package.path, pruned, make_checkpoint(pruned))

    assert checked.parity is not None
    assert checked.parity.passed
    assert (checked.evidence, checked.parity.evidence) == ("converted", "converted")
    assert checked.unlike is not None
    assert "too large or too small, at most 3% passes" in checked.unlike
    assert "unproved    outputs of such weights are no proof" in checked_text(checked)


def test_compressed_weights_have_to_be_those_that_were_there_before(make: Make, pruned: ModelSpec) -> None:
    """k-means of scikit-learn has written values that were nowhere: whole tensors, behind limits for coarse outputs."""
    coarse = Path(make(pruned, "coreml", "int8_weights").path)
    another = Path(make(msgspec.structs.replace(python_spec("tiny"), name="tiny", source=TINY), "coreml", "fp16").path)

    with pytest.raises(ConversionFailed, match=r"another weight of conv of .*: its relative L2 is .*, at most 0\.1"):
        _require_like(coarse, another, "int8_weights", "pruned")


def test_a_palette_of_another_model_is_not_taken_for_a_coarse_copy_of_this_one(make: Make, pruned: ModelSpec) -> None:
    package = Path(make_artifact(pruned, make_checkpoint(pruned), "coreml", "palette4").path)
    other = python_spec("tiny", name="other")

    checked = check_package(package, other, make_checkpoint(other))

    assert checked.parity is not None
    assert not checked.parity.passed
    assert checked.evidence == "converted"
    # The same in a run, where a palette that passes gets its own distance as its limit.
    proved = _prove(
        ProveRequest(
            spec=other, checkpoint=make_checkpoint(other), format="coreml", precision="palette4", path=str(package)
        )
    )
    assert not proved.parity.passed
    assert proved.parity.tolerance == Tolerance(relative_l2=1.0, cosine=0.5)


def test_a_phone_has_to_answer_what_the_very_file_computes_however_coarse_it_is(
    pruned: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A palette of four bits may be far from its model; a phone that runs it may not be far from the palette."""
    phone = FakeDevice(facts=msgspec.structs.replace(FACTS, kind="ios", os="iOS 18.5"))
    monkeypatch.setattr(pipeline, "find_device", lambda _id: phone)
    monkeypatch.setattr(pipeline, "find_model", lambda _reference: FoundModel(spec=pruned, origin="here"))
    monkeypatch.setattr(pipeline, "choose_runner", lambda _device, _choice: Runner(command=("x",), driver="ios-runner"))
    monkeypatch.setattr(pipeline, "push", lambda *_what: records.measurement().deployment)
    asked: list[Question] = []

    def measure(question: Question, *_arguments: object, **_settings: object) -> Measurement:
        asked.append(question)
        return records.measurement()

    monkeypatch.setattr(pipeline, "measure", measure)
    suite = Suite(schema=1, name="s", models=("pruned",), artifacts=("coreml/palette4",), devices=("fake",))

    (result,) = pipeline.run(pipeline.plan_run(suite), tmp_path / "out").results

    assert asked, result.outcome
    (question,) = asked
    program = Program.load(question.artifact.path)
    inputs = np.load(Path(make_checkpoint(pruned).folder) / "inputs.npz")
    answered = program.run({name: values[:1] for name, values in inputs.items()})
    for name, values in answered.items():
        assert np.allclose(np.asarray(question.expected[name][:1], np.float64), values, rtol=1e-3, atol=1e-4)
    assert question.tolerance == tolerance_for("coreml", "fp16")
    assert "not Core ML" in question.reference


def test_a_comparison_asks_of_a_phone_what_a_run_asks(pruned: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "find_model", lambda _reference: FoundModel(spec=pruned, origin="here"))
    monkeypatch.setattr(
        comparison, "choose_runner", lambda _device, _choice: Runner(command=("x",), driver="ios-runner")
    )
    monkeypatch.setattr(comparison, "push", lambda *_what: records.measurement().deployment)
    build = comparison.Build(said="pruned", reference="pruned", artifact="coreml/palette4")
    new, old = (
        FakeDevice(facts=msgspec.structs.replace(FACTS, kind="ios", os=system)) for system in ("iOS 18.5", "iOS 15.8")
    )

    question = comparison.prepare(build, new).arm.question

    assert question.tolerance == tolerance_for("coreml", "fp16")
    assert "not Core ML" in question.reference
    with pytest.raises(UsageError, match=r"iOS 15\.8 loads no compressed weights"):
        comparison.prepare(build, old)


def test_a_ready_package_that_a_phone_is_too_old_for_is_refused_before_anything_is_sent(
    make: Make, pruned: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "eyes.mlpackage"
    shutil.copytree(make(pruned, "coreml", "fp16").path, package)
    spec = read_spec(package)
    spec.specificationVersion = 9
    next(package.rglob("*.mlmodel")).write_bytes(spec.SerializeToString())
    phone = FakeDevice(facts=msgspec.structs.replace(FACTS, kind="ios", os="iOS 17.5"))
    monkeypatch.setattr(pipeline, "find_device", lambda _id: phone)
    suite = Suite(schema=1, name="old", models=(str(package),), artifacts=("source",), devices=("fake",))

    (result,) = pipeline.run(pipeline.plan_run(suite), tmp_path / "out").results

    assert isinstance(result.outcome, NotRunnable)
    assert result.outcome.reason.startswith(
        "iOS 17.5 does not load it: its specification 9 needs the Core ML of iOS 18"
    )
    assert phone.files == {}


def test_a_ready_package_is_measured_as_it_is_and_made_into_nothing_else(
    make: Make, pruned: ModelSpec, tmp_path: Path
) -> None:
    package = tmp_path / "eyes.mlpackage"
    shutil.copytree(make(pruned, "coreml", "fp16").path, package)

    made = pipeline.convert_model(str(package), ["source", "coreml/fp16", "onnx/fp32"], into=tmp_path / "build")

    artifact, again, elsewhere = (made[name] for name in ("coreml/source", "coreml/fp16", "onnx/fp32"))
    assert isinstance(artifact, Artifact)
    # It was compared with what our evaluator makes of it, and so with itself.
    assert (artifact.sha256, artifact.parity.evidence) == (package_digest(package), "converted")
    assert artifact.parity.tolerance == tolerance_for("coreml", "fp16")
    assert package_digest(tmp_path / "build" / "eyes-source.mlpackage") == package_digest(package)
    assert isinstance(again, NotRunnable)
    assert again.reason == "eyes is a ready Core ML package; it can be measured as it is, as coreml/source"
    assert isinstance(elsewhere, NotRunnable)
    assert elsewhere.reason == "no maintained converter makes .onnx files from Core ML packages"
