"""Build `bench`, the native timed loop, when it is first needed.

Its sources are in `bench/` beside this file. A build is kept under the digest of everything that went into it, so that
a second call finds it in milliseconds and a changed source is never run from an old build. The `ziglang` package brings
a C compiler for Linux on every host; without it the host's own compiler serves the host. For Android the NDK's own
compiler is taken, whose folder is in ANDROID_NDK_HOME: nothing else has Android's libc.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from harness.deploy.targets import ANDROID_ABIS, host_target
from harness.errors import BuildFailed, MissingTool
from harness.workspace import cache_dir, folder_in_the_making

SOURCES = Path(__file__).resolve().parent / "bench"
ZIG_TARGETS = {"linux-x86_64": "x86_64-linux-gnu.2.28", "linux-aarch64": "aarch64-linux-gnu.2.28"}
"""Target -> what zig calls it. glibc 2.28 (2018) is what the ONNX Runtime wheels ask for."""
FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2")
LIBRARIES = ("-ldl", "-lm")
BUILD_TIMEOUT_S = 600.0
"""The first build of a target makes its libc as well: some 50 s on a slow machine."""
ANDROID_API = 26
"""Android 8, the oldest that current releases of the runtimes support in full."""
NDK_VARIABLES = ("ANDROID_NDK_HOME", "ANDROID_NDK_ROOT")
"""Source: both are what Gradle, CMake and CI images of GitHub set."""


class Compiler(NamedTuple):
    """A C compiler and what tells one build of it from another."""

    command: tuple[str, ...]
    identity: str


def build_bench(target: str | None = None) -> Path:
    """The `bench` program for a target, built now if it has not been. Blocks for up to a minute then.

    Args:
        target: As `harness.deploy.targets` names it; None is this machine's.

    Raises:
        MissingTool: There is no compiler for it.
        BuildFailed: The compiler refused.
        DeviceFull: There is no space for it.
    """
    wanted = target or host_target()
    compiler = find_compiler(wanted)
    program = cache_dir().absolute() / "bench" / _digest(compiler, wanted) / "bench"
    if not program.is_file():
        with folder_in_the_making(program.parent) as making:
            _compile(compiler, making / program.name)
    return program


def find_compiler(target: str) -> Compiler:
    """The compiler that makes programs for a target: zig where it is installed, else the host's own; the NDK's.

    Raises:
        MissingTool: There is none.
    """
    if target.startswith("android-"):
        return _ndk_compiler(target)
    if find_spec("ziglang") is not None and target in ZIG_TARGETS:
        command = (sys.executable, "-m", "ziglang", "cc", "-target", ZIG_TARGETS[target])
        return Compiler(command, f"ziglang {metadata.version('ziglang')} {ZIG_TARGETS[target]}")
    own = next((found for name in ("gcc", "cc", "clang") if (found := shutil.which(name))), None)
    if own is None or target != host_target() or not target.startswith("linux-"):
        needed_for = f"the native timed loop for {target}"
        if target.startswith("linux-") and target not in ZIG_TARGETS:
            raise MissingTool("a C compiler for it", needed_for, f"none of ours makes programs for {target}")
        raise MissingTool("a C compiler", needed_for, f"{sys.executable} -m pip install ziglang")
    return Compiler((own,), _identity(Path(own)))


def build_environment() -> dict[str, str]:
    """The environment a compiler is started in."""
    # Zig keeps every libc that it makes; beside our own cache they are thrown away together with it.
    zig = str(cache_dir().absolute() / "zig")
    return os.environ | {"ZIG_GLOBAL_CACHE_DIR": zig, "ZIG_LOCAL_CACHE_DIR": zig}


def _ndk_compiler(target: str) -> Compiler:
    """Source: developer.android.com/ndk/guides/other_build_systems: prebuilt/HOST/bin/TRIPLE+API-clang."""
    needed_for = f"the native timed loop for {target}"
    found = next((os.environ[name] for name in NDK_VARIABLES if os.environ.get(name)), None)
    if found is None:
        fix = "install Android's NDK, and set ANDROID_NDK_HOME to its folder"
        raise MissingTool("the NDK's C compiler", needed_for, fix)
    triple = next((abi.ndk for abi in ANDROID_ABIS.values() if target == f"android-{abi.name}"), "")
    # One folder a host, and an NDK is for one host.
    compilers = (
        sorted(Path(found).glob(f"toolchains/llvm/prebuilt/*/bin/{triple}{ANDROID_API}-clang")) if triple else []
    )
    if not compilers:
        fix = f"point ANDROID_NDK_HOME at an NDK (r23 or newer) that has it; it is {found}"
        raise MissingTool(f"a compiler for {target} with API level {ANDROID_API}", needed_for, fix)
    return Compiler((str(compilers[0]),), f"NDK {_ndk_version(Path(found))} {_identity(compilers[0])}")


def _ndk_version(folder: Path) -> str:
    """Source: `Pkg.Revision` in source.properties, which every NDK has."""
    try:
        lines = (folder / "source.properties").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "of unknown version"
    return next((line.partition("=")[2].strip() for line in lines if line.startswith("Pkg.Revision")), "unknown")


def _identity(compiler: Path) -> str:
    facts = compiler.resolve().stat()
    return f"{compiler.resolve()} {facts.st_size} {facts.st_mtime_ns}"


def _digest(compiler: Compiler, target: str) -> str:
    digest = hashlib.sha256()
    for text in (target, compiler.identity, *FLAGS, *LIBRARIES):
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
