"""What the README says is current, and what it tells to type works."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest

from harness.records import ModelSpec, Suite
from harness.regress.gate import GateSettings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_figures_in_the_readme_are_those_of_the_stored_runs() -> None:
    done = subprocess.run([sys.executable, "scripts/readme.py", "--check"], cwd=ROOT, check=False)

    assert done.returncode == 0, "the README is behind its stored runs: python scripts/readme.py"


def test_the_suite_the_model_and_the_gate_in_the_readme_are_right() -> None:
    suite, model, gate = (tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL))

    assert msgspec.convert(suite, Suite).name == "nightly"
    assert msgspec.convert(model, ModelSpec).name == "mine"
    assert msgspec.convert(gate, GateSettings).inconclusive == "fail"


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`?\b(harness [a-z]+)", README)) - {"harness import"}))
def test_every_command_in_the_readme_exists(command: str) -> None:
    arguments = [sys.executable, "-m", *command.split(), "--help"]
    assert subprocess.run(arguments, cwd=ROOT, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\./(scripts/\w+)", README))))
def test_every_script_in_the_readme_is_there_and_can_be_run(name: str) -> None:
    assert (ROOT / name).stat().st_mode & 0o111
