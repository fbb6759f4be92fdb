"""One shared library of a runtime, and where packages and archives keep theirs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Literal, NamedTuple

from harness.errors import UnknownName, UnreadableRecord
from harness.records import Record
from harness.workspace import sha256_file


class RuntimeLibrary(Record, frozen=True, kw_only=True):
    """One shared library."""

    runtime: str
    version: str
    target: str
    """`linux-x86_64`, `linux-aarch64`, `android-arm64-v8a`..."""
    path: str
    """What it needs besides the system's libraries lies in the same folder."""
    sha256: str
    source: Literal["registered", "installed", "fetched"]
    origin: str | None = None
    """The wheel or archive that it was taken out of."""
    origin_sha256: str | None = None
    """Of a wheel: as the package index states it, and as it arrived."""


class WheelLibrary(NamedTuple):
    """Where a runtime's library is in its package."""

    package: str
    """On PyPI."""
    module: str
    pattern: str
    """Of its path in the module's folder. In an Android archive it has the same name without a version."""


WHEELS = {
    "onnxruntime": WheelLibrary("onnxruntime", "onnxruntime", "capi/libonnxruntime.so*"),
    "litert": WheelLibrary("ai-edge-litert", "ai_edge_litert", "libLiteRt.so"),
}
"""The runtimes that `bench` can load."""


def wheel_of(runtime: str) -> WheelLibrary:
    """Where a runtime's library is.

    Raises:
        UnknownName: There is no such runtime.
    """
    if runtime not in WHEELS:
        raise UnknownName("runtime with a C library", runtime, tuple(WHEELS))
    return WHEELS[runtime]


def require_unchanged(library: RuntimeLibrary) -> RuntimeLibrary:
    """See that a library is still the file whose digest was kept; reads all of it.

    Raises:
        UnreadableRecord: It is another one now, or gone.
    """
    path = Path(library.path)
    if path.is_file() and sha256_file(path) == library.sha256:
        return library
    if library.source == "fetched":
        fix = f"delete {path.parent}, and it is fetched again"
    elif library.origin is not None:
        fix = f"delete {path.parent}, and register {library.origin} again"
    else:
        what = f"{shlex.quote(str(path))} --runtime {library.runtime} --version {library.version}"
        fix = f"harness runtimes register {what}"
    raise UnreadableRecord(str(path), f"it is not the file that was {library.source}; {fix}")


def newest_first(libraries: tuple[RuntimeLibrary, ...]) -> tuple[RuntimeLibrary, ...]:
    """By version, the newest first; of one version the order stays."""
    return tuple(sorted(libraries, key=lambda library: _version_key(library.version), reverse=True))


def is_version(asked: str, found: str) -> bool:
    """Whether a version is the one that was asked for: `1.27` is `1.27.0`, as for pip."""
    return _without_zeros(asked) == _without_zeros(found)


def _without_zeros(version: str) -> str:
    return re.sub(r"(\.0)+$", "", version)


def _version_key(version: str) -> tuple[int, ...]:
    """`1.32.0.post1` as numbers, as far as it has some."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())
