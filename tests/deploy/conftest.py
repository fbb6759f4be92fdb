"""What the tests of the native loop share: the program itself, and runtimes that misbehave."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.deploy.bench_build import build_bench, find_compiler
from harness.deploy.runtimes import find_library
from harness.deploy.targets import host_target

if TYPE_CHECKING:
    from collections.abc import Callable

FAULTS = (
    *("nothing", "crash in load", "refuse in load", "crash in run", "hang in run", "exit in run", "error in run"),
    *("drift", "print", "nan"),
)
"""In the order of the numbers in fake_litert.c."""


@pytest.fixture(scope="session")
def bench() -> Path:
    """The program as users get it. Kept in the cache, by the content of its sources."""
    if sys.platform != "linux":
        pytest.skip("bench runs on Linux")
    return build_bench()


@pytest.fixture(scope="session")
def fake_litert(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A shared library that is a LiteRT with one fault, from a run on."""
    folder = tmp_path_factory.mktemp("fakes")
    source = Path(__file__).parent / "fake_litert.c"

    def make(fault: str = "nothing", *, runs_before: int = 20, empty: bool = False) -> Path:
        library = folder / f"lib-{fault.replace(' ', '-')}-{runs_before}{'-empty' * empty}.so"
        if not library.is_file():
            command = find_compiler(host_target()).command
            settings = [f"-DFAULT={FAULTS.index(fault)}", f"-DRUNS_BEFORE={runs_before}", *["-DEMPTY"] * empty]
            subprocess.run(
                [*command, "-shared", "-fPIC", "-O2", "-w", *settings, str(source), "-o", str(library)], check=True
            )
        return library

    return make


@pytest.fixture(scope="session")
def other_providers(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The real ONNX Runtime behind a shared library that names NNAPI, CUDA and TensorRT among its providers."""
    folder = tmp_path_factory.mktemp("providers")
    source = Path(__file__).parent / "other_providers.c"
    real = find_library("onnxruntime", target=host_target()).path

    def make(*, has_nnapi: bool) -> Path:
        library = folder / f"lib{'-nnapi' * has_nnapi}.so"
        command = [*find_compiler(host_target()).command, "-shared", "-fPIC", "-w", f'-DREAL="{real}"']
        subprocess.run([*command, *["-DNNAPI"] * has_nnapi, str(source), "-o", str(library), "-ldl"], check=True)
        return library

    return make
