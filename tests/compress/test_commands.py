from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import NonFiniteOutput, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from harness.compress.compress import Teaching

DATA = ("--data", "synthetic:subjects=18,sessions=1,images=2")


def test_a_teacher_is_trained_pruned_and_distilled_by_commands(tmp_path: Path) -> None:
    teacher, sparse, student = (str(tmp_path / name) for name in ("teacher", "sparse", "student"))

    _run("train", "resnet10_w32", *DATA, "--size", "32", "--embedding", "16", "--epochs", "1", "-o", teacher)
    pruned = _run(
        *("compress", teacher, "--method", "layer-magnitude", "--ratio", "8", "--finetune", "1"),
        *("--teacher", teacher, *DATA, "-o", sparse),
    )
    taught = _run("distill", teacher, "mobilenet_v3_small", *DATA, "--epochs", "1", "-o", student)

    eyes = _run("embed", student, "-o", str(tmp_path / "eyes"))
    other = CliRunner().invoke(app, ["evaluate", str(tmp_path / "eyes"), *DATA, "--fold", "1"])
    assert isinstance(other.exception, UsageError)
    assert "give --fold 0" in str(other.exception), "it was trained on those people"
    tested = _run("evaluate", str(tmp_path / "eyes"), *DATA, "--fold", "0")

    assert (eyes["task"], eyes["source"]["arguments"]["num_classes"]) == ("embedding", 0)
    assert tested["checkpoint"]["verification"]["embedding_length"] == 16
    assert tested["checkpoint"]["subjects"] == 6
    assert pruned["compression"]["method"] == "layer-magnitude + embedding-distillation"
    assert pruned["compression"]["reached_ratio"] == pytest.approx(8, rel=0.01)
    assert taught["compression"]["teacher"] == "teacher"
    assert taught["source"]["arguments"]["embedding"] == 16


def test_what_a_network_or_its_teacher_has_seen_is_never_forgotten(tmp_path: Path) -> None:
    teacher, mixed, taught = (str(tmp_path / name) for name in ("teacher", "mixed", "taught"))
    _run("train", "resnet10_w32", *DATA, "--size", "32", "--embedding", "16", "--epochs", "1", "-o", teacher)

    others = ("--data", f"{DATA[1]},seed=1")
    made = _run("distill", teacher, "mobilenet_v3_small", *others, "--epochs", "1", "-o", taught)
    _run("embed", taught, "-o", mixed)
    refused = CliRunner().invoke(app, ["evaluate", mixed, *DATA, "--fold", "1"])
    more = CliRunner().invoke(app, ["evaluate", mixed, "--data", DATA[1].replace("18", "20"), "--fold", "1"])
    answers = ["distill", teacher, "mobilenet_v3_small", *others, "--kind", "logit", "--epochs", "1"]
    other_people = CliRunner().invoke(app, [*answers, "-o", str(tmp_path / "x")])
    relabelled = CliRunner().invoke(
        app, ["compress", teacher, "--ratio", "2", "--finetune", "1", *others, "-o", str(tmp_path / "y")]
    )

    assert len(made["compression"]["people"]) > len(made["compression"]["classes"])
    assert isinstance(refused.exception, UsageError)
    assert "give --fold 0" in str(refused.exception), "its teacher knows them"
    assert isinstance(more.exception, UsageError), "two people more are another data set with the same people in it"
    for result in (other_people, relabelled):
        assert isinstance(result.exception, UsageError)
        assert "tells apart the people of" in str(result.exception)


def test_nothing_is_trained_that_nobody_could_test(tmp_path: Path) -> None:
    teacher = str(tmp_path / "teacher")
    _run("train", "resnet10_w32", *DATA, "--size", "32", "--embedding", "16", "--epochs", "1", "-o", teacher)
    folder = ["-o", str(tmp_path / "x")]

    for asked in (
        ["distill", teacher, "mobilenet_v3_small", *DATA, "--fold", "1", "--epochs", "1", *folder],
        ["train", teacher, *DATA, "--fold", "2", "--epochs", "1", *folder],
    ):
        refused = CliRunner().invoke(app, asked)
        assert isinstance(refused.exception, UsageError)
        assert "nobody could be tested" in str(refused.exception)
        assert "give --fold 0" in str(refused.exception)
    assert not (tmp_path / "x").exists()


def test_a_training_that_left_the_numbers_is_not_stored(tmp_path: Path) -> None:
    asked = ["train", "mobilenet_v3_small", *DATA, "--size", "32", "--learning-rate", "10", "--epochs", "3"]

    result = CliRunner().invoke(app, [*asked, "-o", str(tmp_path / "net")])

    assert isinstance(result.exception, NonFiniteOutput)
    assert not (tmp_path / "net").exists()


def test_a_classifier_is_not_tested_on_people_it_does_not_know(tmp_path: Path) -> None:
    teacher = str(tmp_path / "teacher")
    _run("train", "resnet10_w32", *DATA, "--size", "32", "--epochs", "1", "-o", teacher)

    result = CliRunner().invoke(app, ["evaluate", teacher, *DATA, "--fold", "0"])

    assert isinstance(result.exception, UsageError)
    assert "harness embed" in str(result.exception)


def test_a_classifier_is_tested_on_its_own_people_by_its_own_numbers(tmp_path: Path) -> None:
    teacher = str(tmp_path / "teacher")
    asked = ("--size", "32", "--epochs", "40", "--batch", "8", "--learning-rate", "0.003", "-o", teacher)
    made = _run("train", "resnet10_w32", *DATA, *asked)

    tested = _run("evaluate", teacher, *DATA)["checkpoint"]

    known = len(made["compression"]["classes"])
    assert known == 10, "of 18: six are held back for testing, two for validating"
    assert (tested["subjects"], tested["images"]) == (known, 2 * known)
    assert tested["classification"]["top1"]["value"] > 0.8, "it was trained on these very images"


def test_who_is_which_class_is_not_guessed(tmp_path: Path) -> None:
    untrained = CliRunner().invoke(app, ["evaluate", "resnet10_w32", *DATA])
    assert isinstance(untrained.exception, UsageError)
    assert "untrained" in str(untrained.exception)

    folder = tmp_path / "net"
    _run("train", "resnet10_w32", *DATA, "--size", "32", "--epochs", "1", "-o", str(folder))
    text = (folder / "model.toml").read_text(encoding="utf-8")
    (folder / "model.toml").write_text(re.sub(r"(?ms)^classes = \[.*?\]\n", "", text), encoding="utf-8")

    found = _run("evaluate", str(folder), *DATA, fails=True)["checkpoint"]

    assert "nothing says which of them is whom" in found["message"]


@pytest.mark.parametrize(
    "asked",
    [
        ("train", "resnet10_w32"),
        ("compress", "resnet10_w32", "--ratio", "4"),
        ("distill", "resnet10_w32", "resnet10_w32"),
        ("evaluate", "resnet10_w32"),
        ("study", "ocular", "--profile", "smoke"),
    ],
    ids=lambda asked: asked[0],
)
@pytest.mark.parametrize("data", ["", " "])
def test_empty_data_are_not_the_current_folder(
    asked: tuple[str, ...], data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    result = CliRunner().invoke(app, [*asked, "--data", data])

    assert isinstance(result.exception, UsageError), result.exception
    assert "--data is empty" in str(result.exception)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("compress", "resnet10_w32", "--ratio", "4", "--temperature", "4"), "--temperature without --teacher"),
        (("compress", "resnet10_w32", "--ratio", "4", "--alpha", "0.9"), "--alpha without --teacher"),
        (("compress", "resnet10_w32", "--ratio", "4", "--round-to", "16"), "--round-to without --method channels"),
        (("compress", "resnet10_w32", "--ratio", "4", "--kind", "embedding"), "--kind without --teacher"),
        (("compress", "net", "--ratio", "4", "--kind", "logit", "--alpha", "0"), "--kind and --alpha without"),
        (("compress", "net", "--ratio", "4", "--teacher", "net", "--temperature", "4"), "give --kind logit"),
        (("distill", "net", "net", *DATA, "--kind", "embedding", "--temperature", "3"), "give --kind logit"),
        (("distill", "net", "net", *DATA, "--temperature", "4"), "give --kind logit"),
    ],
)
def test_an_option_without_effect_is_refused(asked: tuple[str, ...], said: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*asked, "-o", str(tmp_path / "x")])

    assert isinstance(result.exception, UsageError), result.exception
    assert said in str(result.exception)


def test_what_a_teacher_teaches_without_options_is_embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taught: list[Teaching] = []

    def distill(_spec: object, _folder: object, *, teaching: Teaching, **_: object) -> None:
        taught.append(teaching)
        raise UsageError("enough")

    monkeypatch.setattr("harness.compress.compress.distill", distill)
    teacher = str(tmp_path / "teacher")
    _run("train", "resnet10_w32", *DATA, "--size", "32", "--epochs", "1", "-o", teacher)

    for more in ((), ("--kind", "logit", "--temperature", "2", "--alpha", "0.5")):
        CliRunner().invoke(app, ["distill", teacher, "resnet10_w32", *DATA, *more, "-o", str(tmp_path / "x")])

    assert [(one.kind, one.temperature, one.alpha) for one in taught] == [("embedding", 4.0, 0.9), ("logit", 2.0, 0.5)]


def test_training_without_images_says_what_to_give(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["train", "resnet10_w32", "-o", str(tmp_path / "x")])

    assert isinstance(result.exception, UsageError)
    assert "--data" in str(result.exception)


def test_a_summary_fits_a_terminal(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["compress", "resnet10_w32", "--ratio", "4", "-o", str(tmp_path / "quarter")])

    assert result.exception is None
    assert "ratio reached     4" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def _run(*arguments: str, fails: bool = False) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*arguments, "--format", "json"])
    assert fails or result.exception is None, result.exception
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_a_classifier_is_not_tested_on_other_data_than_its_own(tmp_path: Path) -> None:
    teacher = str(tmp_path / "teacher")
    _run("train", "resnet10_w32", *DATA, "--size", "32", "--epochs", "1", "-o", teacher)

    result = CliRunner().invoke(
        app, ["evaluate", teacher, "--data", "synthetic:subjects=12,sessions=1,images=2,seed=5"]
    )

    assert isinstance(result.exception, UsageError)
    assert "none of these is one of them" in str(result.exception)


@pytest.mark.parametrize(
    "option",
    [
        ("--fold", "7"),
        ("--learning-rate", "-1"),
        ("--size", "0"),
        ("--size", "100000"),
        ("--embedding", "0"),
        ("--seed", "-1"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_option(option: tuple[str, str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["train", "resnet10_w32", *DATA, *option, "-o", str(tmp_path / "x")])

    assert result.exit_code == 2
    assert option[0] in result.output


def test_an_interruption_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_epoch: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.commands.compress._say_epoch", stop)
    asked = ["train", "resnet10_w32", *DATA, "--size", "32", "--epochs", "1", "-o", str(tmp_path / "net")]

    result = CliRunner().invoke(app, asked)

    assert result.exit_code == 130
    assert "stopped; the same command goes on" in result.stderr
    monkeypatch.undo()
    assert _run(*asked)["name"] == "net"


def test_the_share_of_weights_that_was_asked_for_is_said(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["compress", "resnet10_w32", "--kept-fraction", "0.25", "-o", str(tmp_path / "x")])

    assert result.exit_code == 0
    assert "25 % of those that may go" in result.stdout
