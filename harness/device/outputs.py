"""Bring back what a timing program computed on a device."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from harness.errors import RunnerUnreadable, WrongInput
from harness.tensors import as_real, read_raw

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from harness.device.device import Device
    from harness.records import TensorSpec


def pull_outputs(
    files: Sequence[str],
    tensors: Sequence[TensorSpec],
    device: Device,
    *,
    samples: int,
    sha256: str | None = None,
    timeout_s: float = 60.0,
) -> list[NDArray[np.generic]]:
    """The outputs of every sample: real values, `[samples, ...]`, one array a tensor, in the tensors' order.

    Args:
        files: Paths on the device, as the timing program named them.
        tensors: What they hold, in the same order.
        device: Where they are.
        samples: How many inputs were computed.
        sha256: What the timing program says of the files' bytes, in order; None to take them as they are.
        timeout_s: For each file.

    Raises:
        RunnerUnreadable: There are more or fewer files than tensors, one has the wrong size, or the bytes are not those
            that the timing program wrote.
    """
    if len(files) != len(tensors):
        raise RunnerUnreadable(device.id, " ".join(files), f"{len(tensors)} outputs expected, {len(files)} written")
    found = []
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory(prefix="harness-") as scratch:
        for remote, tensor in zip(files, tensors, strict=True):
            local = Path(scratch) / "output.bin"
            device.pull(PurePosixPath(remote), local, timeout_s=timeout_s)
            digest.update(local.read_bytes())
            try:
                stored = read_raw(local, tensor, samples=samples)
            except WrongInput as error:
                problem = f"output {tensor.name!r} has to be {error.expected}, it is {error.found}"
                raise RunnerUnreadable(device.id, remote, problem) from None
            found.append(as_real(stored, tensor))
    if sha256 is not None and digest.hexdigest() != sha256:
        raise RunnerUnreadable(device.id, " ".join(files), "the outputs are not those that the timing program wrote")
    return found
