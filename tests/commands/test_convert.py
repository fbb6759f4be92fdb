"""`harness convert` as it is typed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def harness(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=True)


@pytest.mark.parametrize("against", [(), ("--against", "squeezenet1_1")])
def test_a_package_that_is_not_there_is_a_mistake_in_the_command(against: tuple[str, ...], here: Path) -> None:
    done = harness("convert", "check", "missing.mlpackage", *against)

    assert isinstance(done.exception, UsageError)
    assert (str(done.exception), done.exception.exit_code) == ("there is no missing.mlpackage", 2)
    assert not (here / "cache" / "checkpoints").exists()
