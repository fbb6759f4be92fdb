"""Which program takes the time: the native loop where it can, else the Python worker."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.deploy.bench_build import build_bench
from harness.deploy.runtimes import WHEELS, find_library, host_target
from harness.errors import MissingTool

if TYPE_CHECKING:
    from harness.device.device import Device
    from harness.records import Driver, RuntimeChoice


@dataclass(frozen=True, kw_only=True)
class Runner:
    """A timing program, ready to be started on a device.

    Attributes:
        command: What starts it there, without the flags of a job.
        driver: What it is called in the record.
        library: The runtime's shared library that it loads; None where the program finds it by itself.
        why_not_bench: Why the native loop was not taken although nobody asked for the worker; None else.
    """

    command: tuple[str, ...]
    driver: Driver
    library: str | None = None
    why_not_bench: str | None = None


def choose_runner(device: Device, choice: RuntimeChoice) -> Runner:
    """The timing program for one cell, as `choice.driver` asks for it.

    `auto` is the native loop where it knows the runtime and can be built, and the Python worker elsewhere; which of
    them ran is in the record, and figures of the two are told apart there.

    Raises:
        MissingTool: The native loop was asked for by name and cannot be had, or the device runs neither.
        BuildFailed: It was asked for by name and does not compile.
    """
    if choice.driver == "python-worker":
        return Runner(command=device.worker_command(), driver="python-worker")
    try:
        return _bench(device, choice)
    except MissingTool as error:
        if choice.driver == "bench":
            raise
        return Runner(command=device.worker_command(), driver="python-worker", why_not_bench=str(error))


def _bench(device: Device, choice: RuntimeChoice) -> Runner:
    if choice.runtime not in WHEELS:
        raise MissingTool("bench", f"timing {choice.runtime} in it", "choose the driver python-worker")
    if device.facts().kind != "host" or sys.platform != "linux":
        raise MissingTool("bench", f"timing on {device.id}", "choose the driver python-worker")
    library = find_library(choice.runtime, target=host_target())
    command = (str(build_bench()), "--library", library.path, "--library-version", library.version)
    return Runner(command=command, driver="bench", library=library.path)
