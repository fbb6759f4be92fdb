"""Put a runtime's own tool on a device, with the model that it is to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.deploy.elf import needed_beside, require_target
from harness.deploy.push import push_files
from harness.deploy.targets import target_of
from harness.errors import UnreadableModel

if TYPE_CHECKING:
    from pathlib import Path, PurePosixPath

    from harness.device.device import Device


def require_files(program: Path, model: Path) -> None:
    """Refuse a tool or a model that is not there.

    Raises:
        UnreadableModel: One of them is not.
    """
    for path in (program, model):
        if not path.is_file():
            raise UnreadableModel(str(path), path.suffix.lstrip(".") or "a program", "there is no such file")


def push_tool(program: Path, model: Path, device: Device) -> tuple[PurePosixPath, PurePosixPath]:
    """Send a tool, the libraries beside it that it needs, and a model; each is named by its content there.

    Returns:
        Where the program is there, and where the model.

    Raises:
        UnreadableModel: One of them is not there, or the program is none.
        AbiMismatch: The program is built for something else than the device.
        DeviceError: It cannot be reached, or has no space.
    """
    require_files(program, model)
    # On this machine a script that starts the tool will do; another has to be able to run the very file.
    if device.facts().kind != "host":
        require_target(program, target_of(device.facts()), device.id)
    program_there, *_ = push_files([program, *needed_beside(program)], device, folder="programs")
    (model_there,) = push_files([model], device, folder="models")
    return program_there, model_there
