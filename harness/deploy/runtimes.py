"""The runtimes' shared libraries: which are here, and which one a device gets.

A library is known by runtime, version and target, and carries its SHA-256. Three sources, in this order where several
have the same version:

    registered   the user's own file (from an Android archive, or built), in `config_dir()/runtimes.toml`
    installed    in a package of this Python environment; for this machine only
    fetched      taken out of a PyPI wheel, in the cache
"""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from harness.deploy.runtime_library import (
    WHEELS,
    RuntimeLibrary,
    is_version,
    newest_first,
    require_unchanged,
    wheel_of,
)
from harness.deploy.runtime_register import registered_libraries
from harness.deploy.runtime_wheels import LINUX_TARGETS, fetch_library, fetched_libraries
from harness.deploy.targets import host_target
from harness.errors import MissingTool
from harness.workspace import sha256_file

if TYPE_CHECKING:
    from harness.deploy.runtime_library import WheelLibrary


def list_libraries() -> tuple[RuntimeLibrary, ...]:
    """Every library that is here, the most preferred first.

    Raises:
        BadSetting: The register is damaged.
        UnreadableRecord: The note beside a fetched library is.
    """
    installed = [library for runtime in WHEELS if (library := installed_library(runtime)) is not None]
    return (*registered_libraries(), *installed, *fetched_libraries())


def library_for(runtime: str, *, target: str, version: str | None = None) -> RuntimeLibrary:
    """The library to use on a target, fetched now if it is not here and a wheel has it.

    Args:
        runtime: A key of `WHEELS`.
        target: What it has to run on.
        version: None is the version that is installed beside this program, so that a device runs what the host runs; a
            library that only the user can bring is then taken in whatever version it is here.

    Raises:
        UnknownName: There is no such runtime.
        MissingTool: There is none, and it cannot be fetched.
        UnreadableRecord: It is not the file any more that was fetched or registered.
        DeviceFull: There is no space for it.
    """
    if is_fetched(runtime, target=target, version=version):
        return fetch(runtime, target=target, version=version)
    return find_library(runtime, target=target, version=version)


def fetch(runtime: str, *, target: str, version: str | None = None) -> RuntimeLibrary:
    """Take a library out of its wheel, whatever else is here; see `fetch_library`.

    Args:
        runtime: A key of `WHEELS`.
        target: What it has to run on.
        version: None is the version that is installed beside this program, and the newest where none is.

    Raises:
        UnknownName, MissingTool, UnreadableRecord, DeviceFull: See `fetch_library`.
    """
    wheel_of(runtime)
    return fetch_library(runtime, version or installed_version(runtime), target)


def is_fetched(runtime: str, *, target: str, version: str | None = None) -> bool:
    """Whether `library_for` would have to fetch it.

    Raises:
        UnknownName, BadSetting, UnreadableRecord: See `library_for`.
    """
    try:
        _find(runtime, target=target, version=version)
    except MissingTool:
        return target in LINUX_TARGETS
    return False


def find_library(runtime: str, *, target: str, version: str | None = None) -> RuntimeLibrary:
    """The library to use, of those that are here; see `library_for`.

    Raises:
        UnknownName: There is no such runtime.
        MissingTool: There is none for this target, or not in this version.
        UnreadableRecord: It is not the file any more that was fetched or registered.
    """
    found = _find(runtime, target=target, version=version)
    # The digest of an installed one was taken just now.
    return found if found.source == "installed" else require_unchanged(found)


def _find(runtime: str, *, target: str, version: str | None) -> RuntimeLibrary:
    wheel = wheel_of(runtime)
    if version is None and target == host_target() and (installed := installed_library(runtime)) is not None:
        return installed
    there = [each for each in list_libraries() if (each.runtime, each.target) == (runtime, target)]
    # A file that is gone is not here, whatever the register says.
    there = [each for each in there if Path(each.path).is_file()]
    usual = version or installed_version(runtime)
    found = [each for each in there if usual is None or is_version(usual, each.version)]
    if not found and version is None and target not in LINUX_TARGETS:
        found = there
    if found:
        return newest_first(tuple(found))[0]
    what = f"the library of {runtime} {usual or ''}".strip()
    raise MissingTool(what, f"a measurement on {target}", _fix(wheel, runtime, usual, target))


def installed_version(runtime: str) -> str | None:
    """The version of the package that is installed beside this program; None where there is none."""
    library = installed_library(runtime)
    return None if library is None else library.version


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
        version=_version_of(wheel),
        target=host_target(),
        path=str(found[0]),
        sha256=sha256_file(found[0]),
        source="installed",
    )


def _version_of(wheel: WheelLibrary) -> str:
    try:
        return metadata.version(wheel.package)
    except metadata.PackageNotFoundError:
        # A variant of a package (onnxruntime-gpu...) has the same module under another name; finding it takes longer.
        variants = metadata.packages_distributions().get(wheel.module, ())
        return metadata.version(variants[0]) if variants else "unknown"


def _fix(wheel: WheelLibrary, runtime: str, version: str | None, target: str) -> str:
    of = f" --version {version}" if version else ""
    if target == host_target() and version is None:
        return f"pip install {wheel.package}"
    if target in LINUX_TARGETS:
        return f"harness runtimes fetch {runtime}{of} --target {target}"
    abi = target.partition("-")[2]
    return f"harness runtimes register FILE.aar --runtime {runtime}{of or ' --version VERSION'} --abi {abi}"
