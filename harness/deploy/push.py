"""Put an artifact and its inputs on a device, named by content, and prove that the same bytes arrived."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import secrets
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from harness.errors import DeviceError, DeviceFull, PushCorrupted, UnreadableModel, WrongInput
from harness.records import Deployment
from harness.tensors import as_declared, in_order, write_raw
from harness.workspace import sha256_file, sha256_tree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from harness.device.device import Device
    from harness.records import Artifact

_log = logging.getLogger(__name__)

PUSH_ATTEMPTS = 2
"""Other bytes than were sent arrive from a bad cable or a dying disk. Once may be chance, twice is not."""


def push(
    artifact: Artifact, samples: Mapping[str, NDArray[np.generic]], device: Device, *, timeout_s: float = 300.0
) -> Deployment:
    """Put the artifact and the inputs it is checked on where a timing program finds them.

    A file has its content's SHA-256 in its name, so what is there already is not sent again. It is written under a
    temporary name and takes its own only after the device has computed the same SHA-256.

    Args:
        artifact: What to deploy.
        samples: Input name -> `[samples, ...]`, real values; stored as the artifact's inputs are declared.
        device: Where to.
        timeout_s: For each step on the device.

    Raises:
        DeviceFull: There is no space there. Nothing is left behind.
        PushCorrupted: Other bytes arrived, in every attempt.
        UnreadableModel: The artifact's file is gone, or was changed after its conversion.
        WrongInput: The samples do not fit the artifact.
    """
    local = Path(artifact.path)
    if not local.exists():
        raise UnreadableModel(artifact.path, artifact.format, "there is no such file")
    sent_sha256 = _sent_sha256(artifact, local)
    remote = _content_name(device, "models", sent_sha256, local.suffix)
    inputs = push_inputs(artifact, samples, device, timeout_s=timeout_s)
    attempts = _deliver(local, sent_sha256, remote, device, timeout_s, artifact.format)
    return Deployment(
        device_id=device.id,
        artifact_sha256=artifact.sha256,
        remote_path=str(remote),
        remote_inputs=tuple(str(path) for path in inputs),
        samples=len(next(iter(samples.values()))),
        already_there=attempts == 0,
        push_attempts=attempts,
    )


def _sent_sha256(artifact: Artifact, local: Path) -> str:
    """Of the bytes that travel. What identifies a Core ML file leaves out what differs between two conversions."""
    if local.is_dir():
        return sha256_tree(local)
    return sha256_file(local) if artifact.format == "coreml" else artifact.sha256


def push_inputs(
    artifact: Artifact, samples: Mapping[str, NDArray[np.generic]], device: Device, *, timeout_s: float = 300.0
) -> tuple[PurePosixPath, ...]:
    """Put samples on the device, quantized as the artifact declares: one raw little-endian file an input, in order.

    Raises:
        DeviceFull: There is no space there, or none here for the temporary file.
        PushCorrupted: Other bytes arrived, in every attempt.
        WrongInput: The samples do not fit the artifact.
    """
    counts = {len(values) for values in samples.values()}
    if len(counts) > 1:
        raise WrongInput(", ".join(samples), "as many samples of one as of the other", f"{sorted(counts)} samples")
    declared = [
        as_declared(values, tensor)
        for values, tensor in zip(in_order(samples, artifact.inputs), artifact.inputs, strict=True)
    ]
    pushed = []
    with tempfile.TemporaryDirectory(prefix="harness-") as scratch:
        for index, values in enumerate(declared):
            local = Path(scratch) / f"input-{index}.bin"
            try:
                write_raw(local, values)
            except OSError as error:
                if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                    raise DeviceFull("this machine", str(local), values.nbytes) from error
                raise
            sha256 = sha256_file(local)
            remote = _content_name(device, "inputs", sha256, ".bin")
            _deliver(local, sha256, remote, device, timeout_s, "raw samples")
            pushed.append(remote)
    return tuple(pushed)


def push_files(
    files: Sequence[Path], device: Device, *, folder: str, timeout_s: float = 300.0
) -> tuple[PurePosixPath, ...]:
    """Put files that belong together into one folder on the device, each under its own name.

    The folder is named by their content, so that what is there already is not sent again, and two versions of a library
    with one name stand side by side.

    Args:
        files: A program, or a library and those that it needs. No two of one name.
        device: Where to.
        folder: In the device's work folder: `programs`, `runtimes`...
        timeout_s: For each step on the device.

    Raises:
        DeviceFull: There is no space there. What arrived before stays, and is found by the next push.
        PushCorrupted: Other bytes arrived, in every attempt.
    """
    digests = [sha256_file(file) for file in files]
    named = "".join(sorted(f"{file.name} {digest}\n" for file, digest in zip(files, digests, strict=True)))
    into = device.work_folder / folder / hashlib.sha256(named.encode()).hexdigest()[:16]
    for file, digest in zip(files, digests, strict=True):
        _deliver(file, digest, into / file.name, device, timeout_s, "the file that was to be sent")
    return tuple(into / file.name for file in files)


def _content_name(device: Device, folder: str, sha256: str, suffix: str) -> PurePosixPath:
    return device.work_folder / folder / f"{sha256[:16]}{suffix}"


def _deliver(local: Path, sha256: str, remote: PurePosixPath, device: Device, timeout_s: float, what: str) -> int:
    """Send a file unless it is there. Returns how often it was sent."""
    if device.sha256(remote, timeout_s=timeout_s) == sha256:
        return 0
    device.make_folder(remote.parent, timeout_s=timeout_s)
    arrived: str | None = None
    for attempt in range(1, PUSH_ATTEMPTS + 1):
        # A name of our own: another run may be sending the same file now.
        temporary = remote.with_name(f".{remote.name}.{secrets.token_hex(4)}")
        try:
            device.push(local, temporary, timeout_s=timeout_s)
            arrived = device.sha256(temporary, timeout_s=timeout_s)
            if arrived == sha256:
                device.rename(temporary, remote, timeout_s=timeout_s)
                return attempt
        except BaseException:
            # What went wrong first is what is told; a device that is gone cannot be tidied up anyway.
            with contextlib.suppress(DeviceError):
                device.remove(temporary, timeout_s=timeout_s)
            raise
        device.remove(temporary, timeout_s=timeout_s)
        _log.warning("%s: %s did not arrive intact (attempt %d of %d)", device.id, remote.name, attempt, PUSH_ATTEMPTS)
    here = sha256_tree(local)
    if here != sha256:
        raise UnreadableModel(str(local), what, f"it was changed: its SHA-256 is {here[:12]}, not {sha256[:12]}")
    raise PushCorrupted(device.id, str(remote), sha256, arrived or "no file")
