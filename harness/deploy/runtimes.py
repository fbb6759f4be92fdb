"""The runtimes' shared libraries: which are here, fetched from PyPI wheels, or registered by the user.

A library is known by runtime, version and target, and carries its SHA-256. Three sources, in this order where several
have the same version:

    registered   the user's own file (from an Android archive, or built), in `config_dir()/runtimes.toml`
    installed    in a package of this Python environment; for this machine only
    fetched      taken out of a PyPI wheel, in the cache
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from harness.deploy.bench_build import architecture_name
from harness.errors import BadSetting, MissingTool, UnknownName, UnreadableRecord
from harness.records import Record
from harness.workspace import cache_dir, config_dir, folder_in_the_making, sha256_file, write_atomically

LINUX_TARGETS = {
    "linux-x86_64": tuple(f"manylinux_2_{minor}_x86_64" for minor in (17, 27, 28, 31, 34, 35, 39)),
    "linux-aarch64": tuple(f"manylinux_2_{minor}_aarch64" for minor in (17, 27, 28, 31, 34, 35, 39)),
}
"""Target -> the platforms of the wheels that hold its library. Source: PEP 600."""
FETCH_TIMEOUT_S = 600.0
_WHEELS_PYTHON = "3.11"
"""Any that wheels are made for: the library itself is the same in all of them."""


class WheelLibrary(NamedTuple):
    """Where a runtime's library is in its package."""

    package: str
    """On PyPI."""
    module: str
    pattern: str
    """Of its path in the module's folder."""


WHEELS = {
    "onnxruntime": WheelLibrary("onnxruntime", "onnxruntime", "capi/libonnxruntime.so*"),
    "litert": WheelLibrary("ai-edge-litert", "ai_edge_litert", "libLiteRt.so"),
}
"""The runtimes that `bench` can load."""


class RuntimeLibrary(Record, frozen=True, kw_only=True):
    """One shared library."""

    runtime: str
    version: str
    target: str
    """`linux-x86_64`, `linux-aarch64`, `android-arm64-v8a`..."""
    path: str
    sha256: str
    source: Literal["registered", "installed", "fetched"]


class _Register(Record, frozen=True, kw_only=True):
    """What runtimes.toml holds."""

    runtime: tuple[RuntimeLibrary, ...] = ()


def host_target() -> str:
    """What libraries for this machine are called."""
    system = "linux" if sys.platform == "linux" else platform.system().lower()
    return f"{system}-{architecture_name(platform.machine())}"


def list_libraries() -> tuple[RuntimeLibrary, ...]:
    """Every library that is here, the most preferred first.

    Raises:
        UnreadableRecord: The register, or the note beside a fetched library, is damaged.
    """
    installed = [library for runtime in WHEELS if (library := installed_library(runtime)) is not None]
    notes = sorted((cache_dir().absolute() / "runtimes").glob("*/*/*/library.json"))
    return (*_registered(), *installed, *[_read_note(note) for note in notes])


def find_library(runtime: str, *, target: str, version: str | None = None) -> RuntimeLibrary:
    """The library to use.

    Args:
        runtime: A key of `WHEELS`.
        target: What it has to run on.
        version: None takes the most preferred source's, which on this machine is what Python would load, too.

    Raises:
        UnknownName: There is no such runtime.
        MissingTool: There is none for this target, or not in this version.
    """
    if runtime not in WHEELS:
        raise UnknownName("runtime with a C library", runtime, tuple(WHEELS))
    if version is None and target == host_target() and (installed := installed_library(runtime)) is not None:
        return installed
    for library in list_libraries():
        if (library.runtime, library.target) == (runtime, target) and version in {None, library.version}:
            return library
    what = f"{runtime} {version or ''}".strip()
    package = WHEELS[runtime].package + (f"=={version}" if version else "")
    raise MissingTool(f"the library of {what}", f"a measurement on {target}", f"pip install {package}")


def installed_library(runtime: str) -> RuntimeLibrary | None:
    """The library in a package of this environment; None where the package or the library in it is not there."""
    wheel = WHEELS[runtime]
    spec = find_spec(wheel.module)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    found = sorted(path for folder in folders for path in folder.glob(wheel.pattern))
    if not found:
        return None
    return RuntimeLibrary(
        runtime=runtime,
        version=_installed_version(wheel),
        target=host_target(),
        path=str(found[0]),
        sha256=sha256_file(found[0]),
        source="installed",
    )


def fetch_library(runtime: str, version: str, target: str) -> RuntimeLibrary:
    """Take a runtime's library out of its PyPI wheel. Blocks for a download of tens of MB, the first time.

    Raises:
        UnknownName: There is no such runtime, or no wheel for such a target.
        MissingTool: pip is not installed, or cannot get that version.
        UnreadableRecord: What is in the cache is not what was fetched.
        DeviceFull: There is no space for it.
    """
    if runtime not in WHEELS:
        raise UnknownName("runtime with a C library", runtime, tuple(WHEELS))
    if target not in LINUX_TARGETS:
        raise UnknownName("target with wheels", target, tuple(LINUX_TARGETS))
    note = cache_dir().absolute() / "runtimes" / runtime / version / target / "library.json"
    if not note.is_file():
        with folder_in_the_making(note.parent) as making:
            library = _extract(_download(runtime, version, target, making), WHEELS[runtime], making)
            record = RuntimeLibrary(
                runtime=runtime,
                version=version,
                target=target,
                path=str(note.parent / library.name),
                sha256=sha256_file(library),
                source="fetched",
            )
            (making / note.name).write_bytes(msgspec.json.encode(record))
    found = _read_note(note)
    if not Path(found.path).is_file() or sha256_file(Path(found.path)) != found.sha256:
        raise UnreadableRecord(str(note), f"{found.path} is not the file that was fetched; delete {note.parent}")
    return found


def register_library(runtime: str, version: str, target: str, path: Path) -> RuntimeLibrary:
    """Remember a library of the user's own, in place of an earlier one of the same runtime, version and target.

    Raises:
        UnknownName: There is no such runtime.
        MissingTool: There is no such file.
        UnreadableRecord: The register is damaged; it is left as it is.
    """
    if runtime not in WHEELS:
        raise UnknownName("runtime with a C library", runtime, tuple(WHEELS))
    if not path.is_file():
        raise MissingTool(str(path), f"the library of {runtime} {version}", "give the path of a file that is there")
    added = RuntimeLibrary(
        runtime=runtime,
        version=version,
        target=target,
        path=str(path.resolve()),
        sha256=sha256_file(path),
        source="registered",
    )
    kept = [one for one in _registered() if (one.runtime, one.version, one.target) != (runtime, version, target)]
    write_atomically(_register_path(), _as_toml([*kept, added]).encode())
    return added


def _registered() -> tuple[RuntimeLibrary, ...]:
    path = _register_path()
    try:
        found = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _Register)
    except FileNotFoundError:
        return ()
    except (ValueError, msgspec.ValidationError) as error:  # of tomllib, and of a wrong encoding
        raise BadSetting(str(path), None, "", str(error), ()) from error
    return found.runtime


def _register_path() -> Path:
    return config_dir() / "runtimes.toml"


def _as_toml(libraries: list[RuntimeLibrary]) -> str:
    """Every value is a text, and JSON's way of writing one is TOML's, too."""
    tables = []
    for library in libraries:
        lines = [f"{key} = {json.dumps(value)}" for key, value in msgspec.structs.asdict(library).items()]
        tables.append("\n".join(["[[runtime]]", *lines]))
    return "\n\n".join(tables) + "\n"


def _read_note(note: Path) -> RuntimeLibrary:
    try:
        return msgspec.json.decode(note.read_bytes(), type=RuntimeLibrary)
    except (OSError, msgspec.DecodeError) as error:
        raise UnreadableRecord(str(note), str(error)) from error


def _installed_version(wheel: WheelLibrary) -> str:
    try:
        return metadata.version(wheel.package)
    except metadata.PackageNotFoundError:
        # A variant of a package (onnxruntime-gpu...) has the same module under another name; finding it takes longer.
        variants = metadata.packages_distributions().get(wheel.module, ())
        return metadata.version(variants[0]) if variants else "unknown"


def _download(runtime: str, version: str, target: str, into: Path) -> Path:
    package = f"{WHEELS[runtime].package}=={version}"
    platforms = [flag for name in LINUX_TARGETS[target] for flag in ("--platform", name)]
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"),
        *("--only-binary=:all:", "--no-deps", "--python-version", _WHEELS_PYTHON, "--implementation", "cp"),
        *platforms,
        *("--dest", str(into), package),
    ]
    if find_spec("pip") is None:
        raise MissingTool("pip", f"fetching {package}", f"{sys.executable} -m ensurepip")
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=FETCH_TIMEOUT_S
        )
        problem = " | ".join(done.stderr.strip().splitlines()[-2:])
    except subprocess.TimeoutExpired:
        problem = f"not done after {FETCH_TIMEOUT_S:g} s"
    wheels = list(into.glob("*.whl"))
    if len(wheels) != 1:
        raise MissingTool(f"{package} for {target} ({problem})", "a measurement there", " ".join(command))
    return wheels[0]


def _extract(wheel: Path, where: WheelLibrary, into: Path) -> Path:
    """Take the library out of a wheel and throw the wheel away."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if Path(name).match(f"{where.module}/{where.pattern}")]
        if not names:
            raise MissingTool(f"the C library in {wheel.name}", "a measurement with bench", "another version")
        library = into / Path(names[0]).name
        library.write_bytes(archive.read(names[0]))
    wheel.unlink()
    return library
