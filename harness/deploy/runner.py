"""Which program takes the time: the native loop where it can, else the Python worker."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.deploy.bench_build import build_bench
from harness.deploy.elf import needed_beside, require_target
from harness.deploy.push import push_files
from harness.deploy.runtime_library import WHEELS, is_version
from harness.deploy.runtimes import installed_version, library_for
from harness.deploy.targets import target_of
from harness.errors import MissingTool

if TYPE_CHECKING:
    from pathlib import PurePosixPath

    from harness.deploy.runtime_library import RuntimeLibrary
    from harness.device.device import Device
    from harness.records import DeviceFacts, Driver, RuntimeChoice


@dataclass(frozen=True, kw_only=True)
class Runner:
    """A timing program, ready to be started on a device.

    Attributes:
        command: What starts it there, without the flags of a job.
        driver: What it is called in the record.
        library: The runtime's shared library that it loads there; None where the program finds it by itself.
        why_not_bench: Why the native loop was not taken although nobody asked for the worker; None else.
    """

    command: tuple[str, ...]
    driver: Driver
    library: str | None = None
    why_not_bench: str | None = None


class Made(NamedTuple):
    """What a device needs for its cells, on this machine."""

    program: Path
    library: RuntimeLibrary
    target: str


BENCH_PROVIDERS = frozenset(
    {
        *("azure", "coreml", "cpu", "js", "nvtensorrtrtx", "openvino", "qnn", "snpe", "vitisai", "webgpu", "webnn"),
        *("xnnpack", "cuda", "nnapi", "tensorrt"),
    }
)
"""Of ONNX Runtime, those that `bench` can ask for: what its one function for all appends, and in the last line three
that have functions of their own. ROCm, MIGraphX and others have, too. Source: SessionOptionsAppendExecutionProvider,
and the names in the library 1.32."""
_MAKING = threading.Lock()
"""Two devices of one target would build the same thing at once."""


def choose_runner(device: Device, choice: RuntimeChoice) -> Runner:
    """The timing program for one cell, as `choice.driver` asks for it, and what it needs put on the device.

    `auto` is the native loop where it knows the runtime and the accelerator and can be built, and the Python worker
    elsewhere; which of them ran is in the record, and figures of the two are told apart there. Blocks: the first time
    for an architecture the program is built, a library may be fetched, and both are sent to the device.

    Raises:
        MissingTool: The native loop was asked for by name and cannot be had, or the device runs neither.
        BuildFailed: It was asked for by name and does not compile.
        AbiMismatch: The library is for something else than the device.
        DeviceError: The device cannot be reached, or has no space.
    """
    # The native loop does not know Core ML: nothing is missing where its own worker, or a phone's app, takes the times.
    if choice.driver == "python-worker" or (choice.driver == "auto" and choice.runtime not in WHEELS):
        return _worker(device, choice)
    provider = choice.accelerator.removesuffix("ExecutionProvider").lower()
    if choice.driver == "auto" and choice.runtime == "onnxruntime" and provider not in BENCH_PROVIDERS:
        with contextlib.suppress(MissingTool):  # a phone has no Python; there bench says what the library says
            why_not = f"bench cannot ask ONNX Runtime for the provider {choice.accelerator}"
            return replace(_worker(device, choice), why_not_bench=why_not)
    try:
        return _bench(device, choice)
    except MissingTool as error:
        if choice.driver == "bench":
            raise
        try:
            runner = _worker(device, choice)
        except MissingTool:
            # A phone has no Python. That it would have been the second choice helps nobody.
            raise error from None
        return replace(runner, why_not_bench=str(error))


def _worker(device: Device, choice: RuntimeChoice) -> Runner:
    command = device.worker_command()
    installed = installed_version(choice.runtime) if choice.runtime in WHEELS else None
    if choice.version is not None and not (installed and is_version(choice.version, installed)):
        # The worker runs what Python imports, whatever else is here.
        package = f"{WHEELS[choice.runtime].package if choice.runtime in WHEELS else choice.runtime}=={choice.version}"
        raise MissingTool(package, f"timing {choice.runtime} {choice.version} by Python", f"pip install {package}")
    return Runner(command=command, driver="python-worker")


def build_and_fetch(facts: DeviceFacts, choice: RuntimeChoice) -> Made | None:
    """Make here what `choose_runner` sends to a device, if it is not here yet; None where the worker was asked for.

    Blocks for up to a minute for a build, and for a download. Of two threads one makes it, and the other waits.

    Raises:
        MissingTool: The native loop cannot be had for this device or runtime.
        BuildFailed: It does not compile.
        UnreadableRecord: The library is not the file any more that it was.
        DeviceFull: There is no space for it here.
    """
    if choice.driver == "python-worker" or (choice.driver == "auto" and choice.runtime not in WHEELS):
        return None
    if choice.runtime not in WHEELS:
        raise MissingTool("bench", f"timing {choice.runtime} in it", "choose the driver python-worker")
    target = target_of(facts)
    if not target.startswith(("linux-", "android-")):
        raise MissingTool("bench", f"timing on {facts.id} ({target})", "choose the driver python-worker")
    with _MAKING:
        library = library_for(choice.runtime, target=target, version=choice.version)
        return Made(program=build_bench(target), library=library, target=target)


def _bench(device: Device, choice: RuntimeChoice) -> Runner:
    facts = device.facts()
    made = build_and_fetch(facts, choice)
    assert made is not None  # the worker was not asked for
    if facts.kind == "host":
        return _runner((str(made.program),), made.library, made.library.path)
    return _sent(device, made.program, made.library, made.target)


def _sent(device: Device, program: Path, library: RuntimeLibrary, target: str) -> Runner:
    """Everything put on the device; what does not fit it is refused before the first byte is sent."""
    files = (Path(library.path), *needed_beside(Path(library.path)))
    for file in (program, *files):
        require_target(file, target, device.id)
    (program_there,) = push_files([program], device, folder="programs")
    there = push_files(files, device, folder="runtimes")
    return _runner((*_found_in(there), str(program_there)), library, str(there[0]))


def _found_in(libraries: tuple[PurePosixPath, ...]) -> tuple[str, ...]:
    """What makes a library's own needs be found beside it, where there are some."""
    return ("env", f"LD_LIBRARY_PATH={libraries[0].parent}") if len(libraries) > 1 else ()


def _runner(command: tuple[str, ...], library: RuntimeLibrary, path: str) -> Runner:
    flags = ("--library", path, "--library-version", library.version)
    return Runner(command=(*command, *flags), driver="bench", library=path)
