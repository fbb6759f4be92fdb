"""What is installed, what is missing, and the exact command that mends it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import msgspec

from harness import units
from harness.decoding import decode
from harness.deploy.probe import Answer
from harness.device.host import HostDevice
from harness.device.ios import pymobiledevice3
from harness.errors import HarnessError, name_of_signal
from harness.records import Record
from harness.workspace import cache_dir

PYTHON_AT_LEAST = (3, 11)
ENOUGH_CACHE_BYTES = 2 * 2**30
"""Twenty converted ResNet-50, each with its checkpoint."""
PROBE_TIMEOUT_S = 60.0
_QUICK_LOOK_S = 0.1
_COARSE_CLOCK_NS = 1_000


class Finding(Record, frozen=True, kw_only=True):
    """One thing that was looked at."""

    name: str
    purpose: str
    """What it is for."""
    version: str | None
    """What was found; None where nothing was."""
    ok: bool
    fix: str = ""
    """The command that mends it; empty where nothing has to be mended."""
    detail: str = ""
    """What it says of itself when it is started."""


@dataclass(frozen=True)
class Package:
    """A package that some extra brings.

    Attributes:
        name: The distribution's name.
        at_least: The lowest version that was tested.
        extras: Those that bring it, the one to install for its own sake first.
        purpose: What it is for.
        below: The first version that is not taken.
        runtime: What the timing program calls it, where it runs models.
        instead: Another distribution of the same.
    """

    name: str
    at_least: str
    extras: tuple[str, ...]
    purpose: str
    below: str | None = None
    runtime: str | None = None
    instead: str | None = None


PACKAGES = (
    Package("onnxruntime", "1.24", ("onnxruntime", "onnx"), "run .onnx files", runtime="onnxruntime"),
    Package("ai-edge-litert", "2.3", ("litert", "tflite"), "run .tflite files", runtime="litert"),
    Package("torch", "2.9", ("torch",), "built-in networks, and yours in PyTorch", below="2.14"),
    Package("safetensors", "0.6", ("torch",), "weights in .safetensors files"),
    Package("onnx", "1.20", ("onnx",), "read and write .onnx files"),
    Package("onnxscript", "0.7", ("onnx",), "convert to .onnx"),
    Package("sympy", "1.13", ("onnx",), "prepare .onnx files for int8"),
    Package("litert-torch", "0.10", ("tflite",), "convert to .tflite"),
    Package("ai-edge-quantizer", "0.10", ("tflite",), "int8 in .tflite files"),
    Package(
        "tensorflow-cpu" if sys.platform == "linux" else "tensorflow",
        "2.21",
        ("keras",),
        "Keras and SavedModel sources",
        instead="tensorflow" if sys.platform == "linux" else None,
    ),
    Package("adb-shell", "0.4.4", ("android",), "Android devices without an adb server", below="0.5"),
    Package("adbutils", "2.12", ("android",), "a current adb"),
    Package("coremltools", "9.0", ("coreml",), "convert to Core ML, and run it on a Mac", runtime="coreml"),
    Package("scikit-learn", "1.7", ("coreml",), "palettes of weights in Core ML"),
    Package("torch-pruning", "1.6", ("compress",), "structured pruning", below="2"),
    Package("asyncssh", "2.21", ("boards",), "boards over ssh"),
    Package("duckdb", "1.4", ("analysis",), "the history of all runs"),
    Package("matplotlib", "3.10", ("analysis",), "pictures for papers"),
    Package("pandas", "2.2", ("analysis",), "data frames from stored runs"),
    Package("scipy", "1.16", ("analysis",), "the statistics of comparisons"),
    Package("vl-convert-python", "1.9", ("pictures",), "pictures that can be explored, and as files"),
    Package("ziglang", "0.14", ("bench",), "build the native timed loop for any Linux"),
)
"""What the extras of pyproject.toml bring, and what for."""


def examine(*, deep: bool = False) -> tuple[Finding, ...]:
    """Look at everything a run may need. Imports nothing heavy and answers in a fraction of a second.

    Args:
        deep: Also start every installed runtime in a process of its own; up to a minute each.
    """
    findings = [_python()]
    for package in PACKAGES:
        finding = _package(package)
        findings.append(_started(package, finding) if deep and package.runtime and finding.ok else finding)
    findings += [
        _folder("cache folder", "converted files", cache_dir(), "export HARNESS_CACHE=/another/folder"),
        _folder("reports folder", "results", Path.cwd() / "reports", "harness run --output /another/folder"),
        _phone_client(),
        _clock(),
        _stability(),
    ]
    return tuple(findings)


def _python() -> Finding:
    ok = sys.version_info >= PYTHON_AT_LEAST
    wanted = ".".join(str(part) for part in PYTHON_AT_LEAST)
    return Finding(
        name="python",
        purpose="the harness itself",
        version=platform.python_version(),
        ok=ok,
        fix="" if ok else f"install Python {wanted} or newer, and make the virtual environment again with it",
        detail=sys.executable,
    )


def _package(package: Package) -> Finding:
    version = _version_of(package.name) or (_version_of(package.instead) if package.instead else None)
    ok = version is not None and _fits(version, package)
    return Finding(
        name=package.name,
        purpose=package.purpose,
        version=version,
        ok=ok,
        fix="" if ok else f"pip install 'inference-harness[{package.extras[0]}]'",
        detail="" if ok or version is None else f"needed: {_wanted(package)}",
    )


def _version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _fits(version: str, package: Package) -> bool:
    found = _release(version)
    return found >= _release(package.at_least) and (package.below is None or found < _release(package.below))


def _release(version: str) -> tuple[int, ...]:
    """The numbers at the front: 2.13.0+cpu is (2, 13, 0), and so is a candidate for it."""
    leading = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in leading[0].split(".")) if leading else ()


def _wanted(package: Package) -> str:
    return f"{package.at_least} or newer" + (f", below {package.below}" if package.below else "")


def _started(package: Package, finding: Finding) -> Finding:
    """Start a runtime and let it speak: a package may be installed and its library not load."""
    # -P: a file called onnxruntime.py in the present folder is not the runtime.
    command = (sys.executable, "-P", "-m", "harness.deploy.probe", str(package.runtime))
    try:
        result = HostDevice().shell(command, timeout_s=PROBE_TIMEOUT_S)
        if result.returncode == 0:
            answer = decode(result.stdout, Answer)
            accelerators = "" if answer.accelerators is None else f": {', '.join(answer.accelerators)}"
            return msgspec.structs.replace(finding, detail=f"answers as {answer.version}{accelerators}")
        ended = name_of_signal(-result.returncode) if result.returncode < 0 else f"exit code {result.returncode}"
        last_line = (result.stderr.strip().splitlines() or ["it said nothing"])[-1]
        problem = f"does not start ({ended}): {last_line}"
    except (HarnessError, msgspec.DecodeError) as error:
        problem = f"does not start: {error}"
    fix = f"pip install --force-reinstall --no-deps {package.name}"
    return msgspec.structs.replace(finding, ok=False, fix=fix, detail=problem)


def _folder(name: str, purpose: str, folder: Path, fix: str) -> Finding:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    free = shutil.disk_usage(existing).free
    ok = writable and free >= ENOUGH_CACHE_BYTES
    space = f"{free / 2**30:.1f} GiB free"
    return Finding(
        name=name,
        purpose=purpose,
        version=space if writable else None,
        ok=ok,
        fix="" if ok else fix,
        detail=str(folder) if writable else f"{folder}: {existing} cannot be written",
    )


def _phone_client() -> Finding:
    """pymobiledevice3 reaches iPhones from every host. It is found, and not started: that takes a second."""
    command = pymobiledevice3.find_command()
    is_there = command is not None and shutil.which(command[0]) is not None
    return Finding(
        name="pymobiledevice3",
        purpose="iPhones and iPads on this host",
        version="found" if is_there else None,
        ok=is_there,
        fix="" if is_there else pymobiledevice3.missing().install,
        detail=" ".join(command) if command else "",
    )


def _clock() -> Finding:
    steps = set()
    last = time.perf_counter_ns()
    for _ in range(2000):
        now = time.perf_counter_ns()
        steps.add(now - last)
        last = now
    step = min((step for step in steps if step > 0), default=None)
    ok = step is not None and step <= _COARSE_CLOCK_NS
    return Finding(
        name="clock",
        purpose="timing",
        version=f"steps of {units.duration(step)}",
        ok=ok,
        fix=""
        if ok
        else "cat /sys/devices/system/clocksource/clocksource0/available_clocksource; choose tsc, if it is there",
        detail=time.get_clock_info("perf_counter").implementation,
    )


def _stability() -> Finding:
    obstacles = HostDevice(look_s=_QUICK_LOOK_S).obstacles()
    serious = [obstacle for obstacle in obstacles if obstacle.severity != "note"]
    shown = ", ".join(obstacle.name for obstacle in serious)
    return Finding(
        name="stability",
        purpose="figures that can be repeated",
        version=shown or "nothing serious in the way now",
        ok=not serious,
        fix="harness devices show host" if serious else "",
        detail="; ".join(obstacle.found for obstacle in obstacles),
    )
