"""Take a runtime's library out of its wheel: looked up in the package index, fetched by the digest stated there."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from harness.decoding import decode
from harness.deploy.elf import extract_needed
from harness.deploy.runtime_library import RuntimeLibrary, require_unchanged, wheel_of
from harness.errors import MissingTool, UnknownName, UnreadableRecord
from harness.workspace import cache_dir, folder_in_the_making, sha256_file

if TYPE_CHECKING:
    from harness.deploy.runtime_library import WheelLibrary

LINUX_TARGETS = {
    f"linux-{architecture}": tuple(f"manylinux_2_{minor}_{architecture}" for minor in (17, 27, 28, 31, 34, 35, 39))
    for architecture in ("x86_64", "aarch64")
}
"""Target -> the platforms of the wheels that hold its library. Source: PEP 600."""
_VERSIONS_SHOWN = 8
FETCH_TIMEOUT_S = 600.0
_WHEELS_PYTHON = "3.11"
"""Any that wheels are made for: the library itself is the same in all of them."""


def fetch_library(runtime: str, version: str | None, target: str) -> RuntimeLibrary:
    """A runtime's library out of its wheel, kept in the cache. Blocks for a download of tens of MB, the first time.

    The index states the wheel's SHA-256 with its name; pip is then told to take a file of that digest and no other.

    Args:
        runtime: A key of `WHEELS`.
        version: None is the newest one, which is asked for anew each time.
        target: What it has to run on.

    Raises:
        UnknownName: There is no such runtime, or no wheel for such a target.
        MissingTool: pip is not installed, or cannot get that version.
        UnreadableRecord: What is in the cache is not what was fetched, or what arrived is not what the index states.
        DeviceFull: There is no space for it.
    """
    wheel = wheel_of(runtime)
    if target not in LINUX_TARGETS:
        raise UnknownName("target with wheels", target, tuple(LINUX_TARGETS))
    stated = None if version and _note(runtime, version, target).is_file() else _look_up(wheel, version, target)
    found_version = stated.version if stated else str(version)
    note = _note(runtime, found_version, target)
    if not note.is_file():
        assert stated is not None
        with folder_in_the_making(note.parent) as making:
            archive = _download(wheel, stated, target, making)
            library = _extract(archive, wheel, making)
            record = RuntimeLibrary(
                runtime=runtime,
                version=found_version,
                target=target,
                path=str(note.parent / library.name),
                sha256=sha256_file(library),
                source="fetched",
                origin=archive.name,
                origin_sha256=stated.sha256,
            )
            archive.unlink()
            (making / note.name).write_bytes(msgspec.json.encode(record))
    return require_unchanged(read_note(note))


def fetched_libraries() -> tuple[RuntimeLibrary, ...]:
    """Every library that was fetched before.

    Raises:
        UnreadableRecord: The note beside one is damaged.
    """
    return tuple(read_note(note) for note in sorted(_root().glob("*/*/*/library.json")))


def read_note(note: Path) -> RuntimeLibrary:
    """What was written beside a library when it was fetched.

    Raises:
        UnreadableRecord: It is damaged.
    """
    try:
        return decode(note.read_bytes(), RuntimeLibrary)
    except (OSError, msgspec.DecodeError) as error:
        raise UnreadableRecord(str(note), str(error)) from error


class _Stated(NamedTuple):
    """A wheel, as the index knows it."""

    version: str
    sha256: str


def _root() -> Path:
    return cache_dir().absolute() / "runtimes"


def _note(runtime: str, version: str, target: str) -> Path:
    return _root() / runtime / version / target / "library.json"


def _look_up(wheel: WheelLibrary, version: str | None, target: str) -> _Stated:
    package = f"{wheel.package}=={version}" if version else wheel.package
    with tempfile.TemporaryDirectory(prefix="harness-") as scratch:
        report = Path(scratch) / "report.json"
        # The target folder is never made: a dry run resolves and installs nothing.
        flags = ("--dry-run", "--ignore-installed", "--report", str(report), "--target", str(Path(scratch) / "nothing"))
        _pip("install", (*flags, package), target, package)
        try:
            # Source: pip.pypa.io/en/stable/reference/installation-report, version 1.
            (entry,) = decode(report.read_bytes(), dict)["install"]
            return _Stated(entry["metadata"]["version"], entry["download_info"]["archive_info"]["hashes"]["sha256"])
        except (OSError, KeyError, TypeError, ValueError, msgspec.DecodeError) as error:
            problem = f"what pip says of {package} has no version and SHA-256 ({error!r})"
            raise UnreadableRecord("the package index", problem) from error


def _download(wheel: WheelLibrary, stated: _Stated, target: str, into: Path) -> Path:
    requirements = into / "requirements.txt"
    package = f"{wheel.package}=={stated.version}"
    requirements.write_text(f"{package} --hash=sha256:{stated.sha256}\n", encoding="utf-8")
    flags = ("--require-hashes", "--dest", str(into), "--requirement", str(requirements))
    _pip("download", flags, target, package)
    requirements.unlink()
    (archive,) = into.glob("*.whl")
    arrived = sha256_file(archive)
    if arrived != stated.sha256:
        raise UnreadableRecord(str(archive), f"its SHA-256 is {arrived[:12]}, the index states {stated.sha256[:12]}")
    return archive


def _pip(command: str, flags: tuple[str, ...], target: str, package: str) -> None:
    platforms = [flag for name in LINUX_TARGETS[target] for flag in ("--platform", name)]
    argv = [
        *(sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check", "--no-input"),
        *("--only-binary=:all:", "--no-deps", "--python-version", _WHEELS_PYTHON, "--implementation", "cp"),
        *platforms,
        *flags,
    ]
    if find_spec("pip") is None:
        raise MissingTool("pip", f"fetching {package}", f"{sys.executable} -m ensurepip")
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", check=False, timeout=FETCH_TIMEOUT_S
        )
        problem = " | ".join(line for line in done.stderr.strip().splitlines() if line.startswith("ERROR"))
        failed = done.returncode != 0
        problem = problem or done.stderr.strip()[-200:]
    except subprocess.TimeoutExpired:
        problem, failed = f"not done after {FETCH_TIMEOUT_S:g} s", True
    if not failed:
        return
    # Source: pip 24 to 26, PackageFinder.find_requirement: the versions in rising order, or none.
    offered = re.search(r"\(from versions: (?!none)(.+?)\)", problem)
    name, _, version = package.partition("==")
    if offered is not None and version:
        raise UnknownName(f"{name} for {target}", version, tuple(offered[1].split(", ")[-_VERSIONS_SHOWN:]))
    where = f"see that pip reaches its package index: pip download --no-deps {package}"
    raise MissingTool(f"{package} for {target} ({problem})", "a measurement there", where)


def _extract(archive: Path, where: WheelLibrary, into: Path) -> Path:
    """Take the library out of a wheel, and what it needs of the libraries that the wheel brings."""
    with zipfile.ZipFile(archive) as wheel:
        names = [name for name in wheel.namelist() if PurePosixPath(name).match(f"{where.module}/{where.pattern}")]
        if not names:
            raise MissingTool(f"the C library in {archive.name}", "a measurement with bench", "another version")
        library = into / PurePosixPath(names[0]).name
        library.write_bytes(wheel.read(names[0]))
        extract_needed(wheel, library)
    return library
