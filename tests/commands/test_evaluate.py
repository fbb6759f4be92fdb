"""`harness evaluate --keep-in RUN`: what was found is kept with the run that measured the very same files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from harness import pipeline
from harness.cli import app
from harness.commands.console import INTERRUPTED
from harness.errors import UsageError
from harness.store import StoredRun, write_run
from tests.fakes import records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MEASURED, OTHER = "ab" * 32, "00" * 32


@pytest.fixture
def run(tmp_path: Path) -> Path:
    results = [records.result(), records.result(threads=2)]
    with write_run(tmp_path / "run", records.run(results).plan) as writer:
        for result in results:
            writer.save(result)
    return tmp_path / "run"


def evaluated(run: Path, monkeypatch: pytest.MonkeyPatch, **found: Any) -> Any:
    def evaluate_model(*_: object, watch_found: Callable[[str, Any], None], **__: object) -> None:
        for name, accuracy in found.items():
            if accuracy is KeyboardInterrupt:
                raise KeyboardInterrupt
            watch_found(name.replace("_", "/"), accuracy)

    monkeypatch.setattr(pipeline, "evaluate_model", evaluate_model)
    asked = ["evaluate", "tiny", "-a", "onnx/fp32", "--data", "synthetic", "--keep-in", str(run)]
    return CliRunner().invoke(app, asked)


def test_what_a_measured_file_recognises_is_kept_and_said(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accuracy = records.accuracy(sha256=MEASURED)

    done = evaluated(run, monkeypatch, onnx_fp32=accuracy)

    assert done.exit_code == 0
    assert "onnx/fp32, of 2 of its cells" in done.stderr
    assert StoredRun.open(run).accuracies == {MEASURED: accuracy}


def test_a_file_that_the_run_did_not_measure_is_not_kept_and_that_is_said(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = evaluated(run, monkeypatch, onnx_fp32=records.accuracy(sha256=OTHER))

    assert "did not measure this very file of onnx/fp32" in done.stderr
    assert OTHER in done.stderr
    assert isinstance(done.exception, UsageError), "a job that relies on it is told"
    assert "nothing was kept" in str(done.exception)
    assert StoredRun.open(run).accuracies == {}


def test_what_was_tested_before_ctrl_c_is_said_and_kept(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accuracy = records.accuracy(sha256=MEASURED)

    done = evaluated(run, monkeypatch, onnx_fp32=accuracy, onnx_int8=KeyboardInterrupt)

    assert done.exit_code == INTERRUPTED
    assert "onnx/fp32" in done.stdout
    assert "AUC 0.9800" in done.stdout
    assert "stopped" in done.stderr
    assert StoredRun.open(run).accuracies == {MEASURED: accuracy}


def test_the_checkpoint_itself_belongs_to_no_cell(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = records.accuracy(sha256=OTHER, format=None, precision=None)

    done = evaluated(run, monkeypatch, checkpoint=checkpoint)

    assert "kept in" not in done.stderr
    assert "nothing was kept" in str(done.exception)
    assert StoredRun.open(run).accuracies == {}


def test_a_run_that_is_not_there_ends_it_before_any_image_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = evaluated(tmp_path / "nowhere", monkeypatch)

    assert done.exit_code != 0
    assert not (tmp_path / "nowhere").exists()
    assert "there is no run here" in str(done.exception) + done.stderr
