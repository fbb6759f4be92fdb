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


def test_every_toml_in_the_readme_is_one_that_this_program_reads() -> None:
    whole_suite = {"schema": 1, "name": "part", "models": ["resnet18"]}
    found: list[str] = []
    for block in re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL):
        text = tomllib.loads(block)
        if "source" in text:
            found.append(msgspec.convert(text, ModelSpec).name)
        elif "models" in text or "runtimes" in text:  # a part of one is shown where only that part is new
            found.append(msgspec.convert(whole_suite | text, Suite).name)
        else:
            found.append(msgspec.convert(text, GateSettings).inconclusive)

    assert found == ["nightly", "mine", "part", "fail"]


def test_the_model_in_the_readme_can_be_trained_and_pruned() -> None:
    (block,) = re.findall(r"```toml\n(schema = 1\nname = \"mine\".*?)```", README, flags=re.DOTALL)

    assert msgspec.convert(tomllib.loads(block), ModelSpec).head, "train, compress and distill refuse it without"


def test_the_readme_says_how_each_interrupted_command_goes_on() -> None:
    (line,) = re.findall(r"^\| 130 \| .*$", README, flags=re.MULTILINE)

    assert "`harness run --resume`" in line
    for module in sorted((ROOT / "harness" / "commands").glob("*.py")):
        if "with saying_how_to_go_on(" in module.read_text(encoding="utf-8"):
            commands = ("train", "compress", "distill") if module.stem == "compress" else (module.stem,)
            assert all(f"`{command}`" in line for command in commands), f"{module.name} goes on, too"


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`?\b(harness [a-z]+)", README)) - {"harness import"}))
def test_every_command_in_the_readme_exists(command: str) -> None:
    arguments = [sys.executable, "-m", *command.split(), "--help"]
    assert subprocess.run(arguments, cwd=ROOT, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\./(scripts/\w+)", README))))
def test_every_script_in_the_readme_is_there_and_can_be_run(name: str) -> None:
    assert (ROOT / name).stat().st_mode & 0o111
