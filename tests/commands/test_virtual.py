"""`harness virtual` as it is typed, where nothing runs; `tests/device/test_virtual.py` has the real ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import BadSetting, MissingTool, UnknownName, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def harness(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_an_empty_list_says_how_to_start_one() -> None:
    assert "harness virtual start NAME" in harness("virtual", "list").stdout
    assert json.loads(harness("virtual", "list", "--format", "json").stdout) == []


def test_what_does_not_run_cannot_be_stopped() -> None:
    assert isinstance(harness("virtual", "stop", "none").exception, UnknownName)
    assert isinstance(harness("virtual", "stop").exception, UsageError)
    assert harness("virtual", "stop", "--all").exit_code == 0


def test_a_start_without_qemu_names_the_package(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(cache))

    error = harness("virtual", "start", "ci").exception

    assert isinstance(error, MissingTool)
    assert "qemu-system-arm" in error.hint


def test_files_have_to_fit_into_the_memory() -> None:
    assert isinstance(harness("virtual", "start", "ci", "--memory", "256", "--disk", "512").exception, BadSetting)
