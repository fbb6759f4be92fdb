"""Build `bench`, the native timed loop, when it is first needed.

Its sources are in `bench/` beside this file. A build is kept under the digest of everything that went into it, so that
a second call finds it in milliseconds and a changed source is never run from an old build. The `ziglang` package brings
a C compiler for every target on every host; without it the host's own compiler serves the host.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from harness.errors import BuildFailed, MissingTool
from harness.workspace import cache_dir, folder_in_the_making

SOURCES = Path(__file__).resolve().parent / "bench"
ZIG_TARGETS = {"x86_64": "x86_64-linux-gnu.2.28", "aarch64": "aarch64-linux-gnu.2.28"}
"""Architecture -> what zig calls it. glibc 2.28 (2018) is what the ONNX Runtime wheels ask for."""
FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2")
LIBRARIES = ("-ldl", "-lm")
BUILD_TIMEOUT_S = 600.0
"""The first build of a target makes its libc as well: some 50 s on a slow machine."""
_ARCHITECTURES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}


class Compiler(NamedTuple):
    """A C compiler and what tells one build of it from another."""

    command: tuple[str, ...]
    identity: str


def build_bench(architecture: str | None = None) -> Path:
    """The `bench` program for Linux on an architecture, built now if it has not been. Blocks for up to a minute then.

    Args:
        architecture: `x86_64` or `aarch64`, in any of their names; None is this machine's.

    Raises:
        MissingTool: There is no compiler for it.
        BuildFailed: The compiler refused.
        DeviceFull: There is no space for it.
    """
    wanted = architecture_name(architecture or platform.machine())
    compiler = find_compiler(wanted)
    program = cache_dir().absolute() / "bench" / _digest(compiler, wanted) / "bench"
    if not program.is_file():
        with folder_in_the_making(program.parent) as making:
            _compile(compiler, making / program.name)
    return program


def architecture_name(machine: str) -> str:
    """One name for what systems call `x86_64`, `AMD64`, `arm64`, `aarch64`..."""
    return _ARCHITECTURES.get(machine.lower(), machine.lower())


def find_compiler(architecture: str) -> Compiler:
    """The compiler that makes Linux programs for an architecture: zig where it is installed, else the host's own.

    Raises:
        MissingTool: There is none.
    """
    if find_spec("ziglang") is not None and architecture in ZIG_TARGETS:
        command = (sys.executable, "-m", "ziglang", "cc", "-target", ZIG_TARGETS[architecture])
        return Compiler(command, f"ziglang {metadata.version('ziglang')} {ZIG_TARGETS[architecture]}")
    own = next((found for name in ("gcc", "cc", "clang") if (found := shutil.which(name))), None)
    is_here = sys.platform == "linux" and architecture == architecture_name(platform.machine())
    if own is None or not is_here:
        needed_for = f"the native timed loop for Linux on {architecture}"
        raise MissingTool("a C compiler", needed_for, f"{sys.executable} -m pip install ziglang")
    facts = Path(own).resolve().stat()
    return Compiler((own,), f"{Path(own).resolve()} {facts.st_size} {facts.st_mtime_ns}")


def build_environment() -> dict[str, str]:
    """The environment a compiler is started in."""
    # Zig keeps every libc that it makes; beside our own cache they are thrown away together with it.
    zig = str(cache_dir().absolute() / "zig")
    return os.environ | {"ZIG_GLOBAL_CACHE_DIR": zig, "ZIG_LOCAL_CACHE_DIR": zig}


def _digest(compiler: Compiler, architecture: str) -> str:
    digest = hashlib.sha256()
    for text in (architecture, compiler.identity, *FLAGS, *LIBRARIES):
        digest.update(text.encode() + b"\0")
    for source in _sources():
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:32]


def _sources() -> list[Path]:
    return sorted(path for path in SOURCES.iterdir() if path.suffix in {".c", ".h"})


def _compile(compiler: Compiler, program: Path) -> None:
    # Relative names, and the folder as working folder: no path of this machine gets into the program.
    names = [source.name for source in _sources() if source.suffix == ".c"]
    command = [*compiler.command, *FLAGS, "-s", *names, *LIBRARIES, "-o", str(program)]
    try:
        done = subprocess.run(
            command,
            cwd=SOURCES,
            env=build_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=BUILD_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildFailed("bench", tuple(command), f"it was not done after {BUILD_TIMEOUT_S:g} s") from error
    if done.returncode != 0 or not program.is_file():
        raise BuildFailed("bench", tuple(command), done.stderr)
