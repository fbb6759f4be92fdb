"""Where results cannot be written, that is said before any work."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness import cli
from harness.errors import UnwritableFolder
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
