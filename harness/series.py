"""Which rows of two runs are the same row: what may be drawn as one line, or judged against its own past.

What changes from one day to the next and may be the reason of a change, versions and hashes, is not in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from harness.records import Measurement, Record

if TYPE_CHECKING:
    from harness.records import CellResult, DeviceFacts


class Series(Record, frozen=True, kw_only=True):
    """Rows that agree in all of these are the same."""

    model: str
    format: str
    precision: str
    inputs: str
    """`image float32 1x3x224x224`, in the file's order."""
    runtime: str
    accelerator: str
    """As asked for."""
    threads: int
    """As asked for."""
    graph_optimization: str
    options: str
    """JSON, keys in order."""
    driver: str
    affinity: str
    """The processors, as asked for."""
    device_id: str
    device_class: str
    """An emulated device has a class of its own."""
    device_name: str
    cpu: str | None
    cores: int | None
    architecture: str | None
    virtual_machine: str | None
    power: str | None
    """Governor and power mode before the cell, `performance/low power`; None where neither is known."""
    accepted_obstacles: str
    """Names of what the user measured in spite of."""


def series_of(result: CellResult, device: DeviceFacts) -> Series:
    """What a measured cell is one of.

    Args:
        result: Its outcome is a `Measurement`.
        device: The one it was measured on.
    """
    measured, cell = result.outcome, result.cell
    assert isinstance(measured, Measurement)
    state = measured.state_before
    return Series(
        model=cell.model,
        format=cell.format,
        precision=cell.precision,
        inputs=_inputs(result),
        runtime=cell.choice.runtime,
        accelerator=cell.choice.accelerator,
        threads=cell.choice.threads,
        graph_optimization=cell.choice.graph_optimization,
        options=msgspec.json.encode(cell.choice.options, order="sorted").decode(),
        driver=measured.ran.driver,
        affinity=cell.choice.affinity,
        device_id=device.id,
        device_class=device.device_class,
        device_name=device.name,
        cpu=device.cpu,
        cores=device.cores,
        architecture=device.architecture,
        virtual_machine=device.virtual_machine,
        power="/".join(part for part in (state.governor, state.power_mode) if part) or None,
        accepted_obstacles=", ".join(sorted(measured.accepted_obstacles)),
    )


def _inputs(result: CellResult) -> str:
    if result.artifact is None:
        return ""
    return ", ".join(
        f"{tensor.name} {tensor.dtype} {'x'.join(map(str, tensor.shape))}" for tensor in result.artifact.inputs
    )
