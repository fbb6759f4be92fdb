"""`harness history` and `harness selftest` as a user runs them: real processes, a real run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness import cli
from tests.fakes.models import save_dense_onnx

SUITE = """
schema = 1
name = "tiny"
models = ["good.onnx"]
artifacts = ["source"]

[[runtimes]]
name = "onnxruntime"
driver = "python-worker"

[measure]
processes_min = 2
processes_max = 2
blocks = 2
block_s = 0.02
warmup_s = 0.01
warmup_cap_s = 0.5
"""


def harness(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    source = str(Path(__file__).resolve().parent.parent)
    usual = {"HARNESS_CACHE": str(folder / "cache"), "PYTHONPATH": source, "COLUMNS": "80", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=folder,
        env=os.environ | usual | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a small suite has been run once."""
    folder = tmp_path_factory.mktemp("measured")
    save_dense_onnx(folder / "good.onnx")
    (folder / "tiny.toml").write_text(SUITE)
    done = harness(folder, "run", "tiny.toml", "--output", "reports/first")
    assert done.returncode == 0, done.stderr
    assert "history" not in done.stderr
    return folder


def test_a_run_is_in_the_history_with_what_it_was_made_of(measured: Path) -> None:
    told = json.loads(harness(measured, "history", "good", "--format", "json").stdout)

    (series,) = told["series"]
    assert series["runs"] == ["first"]
    assert series["values"][0] > 0
    assert "good" in harness(measured, "history").stdout


def test_a_resumed_run_counts_once(measured: Path) -> None:
    assert harness(measured, "run", "--resume", "--output", "reports/first").returncode == 0

    told = json.loads(harness(measured, "history", "good", "--format", "json").stdout)

    assert told["series"][0]["runs"] == ["first"]


def test_ratios_export_import_and_a_picture(measured: Path) -> None:
    assert harness(measured, "history", "pin", "good", "--run", "first").returncode == 0
    shown = harness(measured, "history", "good", "--picture", "good.svg")
    assert "1.000" in shown.stdout
    assert "ratio: to run first" in shown.stdout
    assert (measured / "good.svg").exists()
    assert harness(measured, "history", "pin", "good", "--remove").returncode == 0
    assert harness(measured, "history", "export", "all.csv").returncode == 0

    brought = harness(measured, "history", "import", "all.csv", HARNESS_HISTORY=str(measured / "other"))

    assert brought.returncode == 0
    assert "new" in brought.stderr
    added = harness(measured, "history", "add", "reports/first", HARNESS_HISTORY=str(measured / "other"))
    assert "1 points" in added.stderr


def test_a_damaged_file_is_named_and_the_rest_is_shown(measured: Path) -> None:
    damaged = measured / "reports" / "history" / "v1-x-0123456789abcdef.ndjson"
    damaged.write_bytes(b'{"model": ')
    try:
        shown = harness(measured, "history", "good")
    finally:
        damaged.unlink()

    assert shown.returncode == 0
    assert "good" in shown.stdout
    assert damaged.name in shown.stderr


def test_a_history_that_cannot_be_written_does_not_cost_the_run(measured: Path) -> None:
    (measured / "file").write_bytes(b"")

    done = harness(measured, "run", "--resume", "-o", "reports/first", HARNESS_HISTORY=str(measured / "file" / "h"))

    assert done.returncode == 0
    assert "not in the history" in done.stderr
    assert "harness history add reports/first" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("history", "nobody"), 2, "no model in the history"),
        (("history", "pin", "good"), 2, "--run, --to and --remove"),
        (("history", "pin", "good", "--run", "never"), 2, "no run of good"),
        (("history", "--picture", "x.svg"), 2, "of which model"),
        (("history", "good", "--picture", "x.gif"), 2, ".svg"),
        (("history", "import", "none.csv"), 5, "no such file"),
        (("selftest", "report", "nowhere"), 5, "no campaign"),
    ],
)
def test_what_cannot_be_answered_is_said_with_the_right_code(
    measured: Path,
    arguments: tuple[str, ...],
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert in_this_process(measured, monkeypatch, *arguments) == code
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""


def test_help_of_the_history_names_its_commands(
    measured: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_this_process(measured, monkeypatch, "history", "--help") == 0
    said = capsys.readouterr().out
    for command in ("show", "add", "export", "import", "pin"):
        assert command in said


def in_this_process(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    """The exit code of the command line, without the second that a process takes."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["harness", *arguments])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code
