"""What is kept in git of runs that were made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import harness

BASELINES = Path(__file__).resolve().parent.parent / "reports" / "baselines"
RUNS = sorted(path.parent for path in BASELINES.glob("*/plan.json"))


@pytest.mark.parametrize("folder", RUNS, ids=lambda folder: folder.name)
def test_a_kept_run_can_be_read_and_is_complete(folder: Path) -> None:
    run = harness.load(folder)

    assert run.results
    assert not run.missing


@pytest.mark.parametrize("folder", RUNS, ids=lambda folder: folder.name)
def test_a_kept_run_names_no_path_of_the_machine_it_was_made_on(folder: Path) -> None:
    wrong = {
        found
        for path in folder.rglob("*.json")
        for found in re.findall(r'"(/[^"]*)"', path.read_text(encoding="utf-8"))
    }

    assert not wrong, "copy a run with scripts/keep_run.py"
