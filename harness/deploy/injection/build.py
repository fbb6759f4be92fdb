"""Build a runtime's library that is slower, larger or less steady than the real one by so much."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.deploy.bench_build import BUILD_TIMEOUT_S, build_environment, find_compiler
from harness.deploy.targets import host_target
from harness.errors import BuildFailed, MissingTool
from harness.workspace import cache_dir, folder_in_the_making

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.deploy.runtime_library import RuntimeLibrary

SOURCES: Final = {"litert": Path(__file__).resolve().parent / "litert.c"}
"""Runtime -> what is put in front of its library."""
_FLAGS: Final = ("-shared", "-fPIC", "-O2", "-std=c11", "-D_GNU_SOURCE", "-s")


def build_injected(library: RuntimeLibrary, injected: Mapping[str, int]) -> Path:
    """A library for this machine that does what `library` does, and more.

    Args:
        library: The real one, which the new one loads from where it is.
        injected: Name of a macro of the source -> value; empty is a library with nothing added, called the same way.

    Raises:
        MissingTool: There is no compiler, or this runtime's library cannot be wrapped.
        BuildFailed: The compiler refused.
    """
    if library.runtime not in SOURCES:
        raise MissingTool("an injection", f"a slower {library.runtime}", f"use {' or '.join(SOURCES)}")
    source, real = SOURCES[library.runtime], Path(library.path).resolve()
    compiler = find_compiler(host_target())
    macros = [f"-D{name}={value}" for name, value in sorted(injected.items()) if value]
    text = "\0".join(
        (compiler.identity, *_FLAGS, *macros, str(real), library.sha256, source.read_text(encoding="utf-8"))
    )
    built = cache_dir().absolute() / "injected" / hashlib.sha256(text.encode()).hexdigest()[:32] / real.name
    if not built.is_file():
        with folder_in_the_making(built.parent) as making:
            # The real one has the same name: by its folder it is found, and by `soname` the two are told apart.
            name = f"-Wl,-soname,injected-{real.name}"
            linked = ("-Wl,--no-as-needed", str(real), f"-Wl,-rpath,{real.parent}", "-ldl")
            command = (*compiler.command, *_FLAGS, *macros, name, str(source), *linked, "-o", str(making / built.name))
            _compile(command, making / built.name)
    return built


def _compile(command: tuple[str, ...], wanted: Path) -> None:
    try:
        done = subprocess.run(
            command,
            env=build_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=BUILD_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildFailed("an injected library", command, f"it was not done after {BUILD_TIMEOUT_S:g} s") from error
    if done.returncode != 0 or not wanted.is_file():
        raise BuildFailed("an injected library", command, done.stderr)
