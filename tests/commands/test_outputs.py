"""Where results cannot be written, that is said before any work."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness import cli
from harness.errors import ImpossibleRatio, UnwritableFolder, UsageError
from tests.fakes.models import save_dense_onnx

COMMANDS = {
    "compress": ("resnet10_w32", "--ratio", "4", "--output"),
    "embed": ("resnet10_w32", "--output"),
    "train": ("resnet10_w32", "--data", "nowhere", "--output"),
    "distill": ("resnet10_w32", "resnet10_w32", "--data", "nowhere", "--output"),
    "convert": ("good.onnx", "-a", "source", "--output"),
    "evaluate": ("good.onnx", "--data", "nowhere", "--plots"),
    "study": ("ocular", "--profile", "smoke", "--data", "nowhere", "--output"),
    "compare": ("good.onnx", "good.onnx", "--output"),
}
"""Each with data that are not there: who would read them first would say so."""
NEEDS_A_CACHE = ("compress", "embed", "train", "distill", "convert", "evaluate", "study")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_dense_onnx(tmp_path / "good.onnx")
    (tmp_path / "a-file").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("place", ["/proc/no/x", "/dev/null/x", "a-file/x/y"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_place_that_cannot_be_written_is_said_before_any_work(command: str, place: str) -> None:
    if place.startswith("/proc") and sys.platform != "linux":
        pytest.skip("there is no /proc")

    done = CliRunner().invoke(cli.app, [command, *COMMANDS[command], place])

    assert isinstance(done.exception, UnwritableFolder), done.exception
    assert done.exception.folder == (str(Path(place).parent) if command == "compare" else place)
    assert COMMANDS[command][-1] in done.exception.hint


@pytest.mark.parametrize("command", ["compress", "embed", "train", "distill"])
@pytest.mark.parametrize("name", ["models/with space;x", ".hidden", "ünique"])
def test_a_name_that_no_model_may_have_is_refused_before_any_work(command: str, name: str) -> None:
    done = CliRunner().invoke(cli.app, [command, *COMMANDS[command], name])

    assert isinstance(done.exception, UsageError), done.exception
    assert str(done.exception).startswith(f"{name} gives the model a name that none may have")
    assert not Path("models").exists()


def test_a_usual_name_is_one_that_a_model_may_have() -> None:
    done = CliRunner().invoke(cli.app, ["compress", "resnet10_w32", "--ratio", "1000000"])

    assert isinstance(done.exception, ImpossibleRatio), done.exception


def test_models_that_cannot_be_read_are_named_and_the_others_listed() -> None:
    whole = 'schema = 1\nname = "with space"\n[source]\nkind = "builtin"\nnetwork = "resnet10_w32"\n'
    for name, text in {"with space": whole, "torn": "schema =", "\x1b[31mred": "schema = 1"}.items():
        Path("models", name).mkdir(parents=True)
        Path("models", name, "model.toml").write_text(text)

    listed = CliRunner().invoke(cli.app, ["models"])
    as_json = CliRunner().invoke(cli.app, ["models", "--format", "json"])

    assert (listed.exit_code, as_json.exit_code) == (0, 0)
    assert "mobilenet_v2" in listed.stdout
    assert "mobilenet_v2" in {one["spec"]["name"] for one in json.loads(as_json.stdout)}
    told = listed.stderr.splitlines()
    assert [line.startswith("left out: ") for line in told] == [True] * 3
    assert any("with space/model.toml" in line and "characters other than" in line for line in told)
    assert any("torn/model.toml" in line for line in told)
    assert "\x1b" not in listed.stderr


def test_a_file_where_pictures_shall_be_is_refused_before_any_work() -> None:
    done = CliRunner().invoke(cli.app, ["evaluate", *COMMANDS["evaluate"], "a-file"])

    assert isinstance(done.exception, UnwritableFolder), done.exception
    assert str(done.exception) == "a-file cannot be written: Not a directory"


@pytest.mark.parametrize("command", NEEDS_A_CACHE)
def test_a_cache_that_cannot_be_written_is_said_before_any_work(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", "a-file/cache")

    done = CliRunner().invoke(cli.app, [command, *COMMANDS[command], "new"])

    assert isinstance(done.exception, UnwritableFolder), done.exception
    assert done.exception.folder == "a-file/cache"
    assert "HARNESS_CACHE" in done.exception.hint
    assert not Path("new").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc takes no folder, not even root's")
def test_a_parent_that_cannot_be_made_leaves_as_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "app", lambda: Path("/proc/no").mkdir())
    monkeypatch.setattr("signal.signal", lambda *_: None)

    with pytest.raises(SystemExit) as left:
        cli.main()

    assert left.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: /proc/no cannot be written or read: No such file or directory",
        "       Name another file or folder, or change its rights.",
    ]
