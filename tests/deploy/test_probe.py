from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from harness.deploy.probe import Answer

ROOT = Path(__file__).resolve().parents[2]


def probe(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness.deploy.probe", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("runtime", "module"), [("onnxruntime", "onnxruntime"), ("litert", "ai_edge_litert.interpreter")]
)
def test_an_installed_runtime_says_its_version_and_where_its_library_is(runtime: str, module: str) -> None:

    ended = probe(runtime)

    assert ended.returncode == 0, ended.stderr
    answer = msgspec.json.decode(ended.stdout, type=Answer)
    assert answer.version[0].isdigit()
    assert answer.library is not None
    assert Path(answer.library).is_file()


@pytest.mark.parametrize("arguments", [(), ("no-such-runtime",)])
def test_anything_else_is_told_what_can_be_asked(arguments: tuple[str, ...]) -> None:
    ended = probe(*arguments)

    assert ended.returncode == 1
    assert ended.stderr == "usage: python -m harness.deploy.probe onnxruntime|litert|coreml\n"
