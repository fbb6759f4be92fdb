"""A study for a terminal: it fits, it holds what is asked most, and it names where the rest is."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import msgspec
import pytest
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from harness.cli import app
from harness.study.folder import StudyFolder
from harness.study.report import write_report
from harness.study.terminal import table
from tests.study.test_page import document
from tests.study.test_words import STUDENT, STUDY, TEACHER, pruned, row

if TYPE_CHECKING:
    from pathlib import Path

    from harness.study.page import StudyDocument


def printed(figures: StudyDocument, width: int = 80) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(table(figures, "Everything is in study/report.md.", width=width))
    return stream.getvalue()


def on_devices(*devices: str) -> StudyDocument:
    timing = TEACHER.timings[0]
    timings = tuple(msgspec.structs.replace(timing, device=device) for device in devices)
    long = row("teacher", 0.03, network="mobilenet_v3_small", method="embedding-distillation", timings=timings)
    broken = pruned("random", 0.05, eer_after=None, timings=(), problem="out of memory " * 20)
    return document(long, broken, STUDENT, about=("**Not complete:** " + "word " * 40, "What nobody asks first."))


@pytest.mark.parametrize("width", [80, 81, 100, 160])
@pytest.mark.parametrize("devices", [("host",), ("host", "adb:0123456789ABCDEF", "ssh://board.example.org", "phone")])
def test_no_line_is_wider_than_the_terminal(width: int, devices: tuple[str, ...]) -> None:
    assert max(cell_len(line) for line in printed(on_devices(*devices), width).splitlines()) <= width


def test_each_file_is_a_line_with_its_error_and_its_time() -> None:
    lines = printed(document(TEACHER, pruned("layer-magnitude", 0.05), STUDENT)).splitlines()
    cells = [line.split() for line in lines]

    assert ["resnet18", "none", "tflite/fp32", "3.00", "(2.90–3.10)", "10.0"] in cells
    assert ["resnet18", "layer-magnitude", "8x", "tflite/fp32", "5.00", "(4.90–5.10)", "10.0"] in cells
    assert ["mobilenet_v2", "none", "tflite/fp32", "4.00", "(3.90–4.10)", "3.00"] in cells
    assert lines[-1] == "Everything is in study/report.md."
    assert not [line for line in lines if "**" in line or "| " in line]


def test_what_is_not_complete_or_has_no_room_is_said() -> None:
    text = printed(on_devices("host", "adb:0123456789ABCDEF", "ssh://board.example.org", "phone"))

    assert "Not complete: word word" in text
    assert "There is no room for the times on " in text
    assert "phone" in text
    assert "random-8x tflite/fp32: out of memory" in text
    assert "What nobody asks first" not in text


def test_a_study_is_printed_to_fit_and_names_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    folder = StudyFolder.begin(tmp_path / "study", STUDY)

    without = CliRunner().invoke(app, ["report", "study"])
    write_report(folder)
    beside = CliRunner().invoke(app, ["report", "study"])
    markdown = CliRunner().invoke(app, ["report", "study", "--to", "md"])

    assert max(map(cell_len, beside.stdout.splitlines())) <= 80
    assert without.stdout.splitlines()[-1] == "Everything: harness report study --to md"
    assert beside.stdout.splitlines()[-1] == "Everything is in study/report.md."
    assert markdown.stdout.startswith("# Ocular study")
