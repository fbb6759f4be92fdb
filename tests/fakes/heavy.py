"""A run as large as a page has to cope with: many devices and models, sensors, operators, failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from harness.records import BlockConditions, OperatorProfile, OperatorTime
from tests.fakes import records

if TYPE_CHECKING:
    from harness.records import CellResult, ProcessRecord
    from tests.fakes.records import FakeRun

CELLS: Final = 1000
DEVICES: Final = ("host", "pixel", "board")
_NETWORKS: Final = 84
_KINDS: Final = ("Conv", "Relu", "Add", "MatMul", "GlobalAveragePool")
_SPEEDS_MS: Final = (1.3, 4.0, 11.0, 37.0)


def heavy_run() -> FakeRun:
    """A thousand cells on three devices: one in ten failed, each block with temperature and clock limit, operators."""
    shared = {ms: tuple(map(warming, records.calm_processes(ms, seed=int(ms)))) for ms in _SPEEDS_MS}
    points = [
        (f"network_{n:03}", format_, threads, device)
        for device in DEVICES
        for n in range(_NETWORKS)
        for format_ in ("onnx", "tflite")
        for threads in (1, 2)
    ][:CELLS]
    results = [_result(number, *point, shared) for number, point in enumerate(points)]
    devices = [records.device(id=device, name=device) for device in DEVICES]
    return records.run(results, devices=devices)


def warming(process: ProcessRecord) -> ProcessRecord:
    """The process with a temperature and a clock limit at the end of each block."""
    blocks = tuple(
        msgspec.structs.replace(
            block,
            conditions=BlockConditions(temperature_celsius=40.0 + process.index + number / 4, cpu_cap_hz=2.4e9),
        )
        for number, block in enumerate(process.blocks)
    )
    return msgspec.structs.replace(process, blocks=blocks)


def _result(
    number: int,
    model: str,
    format_: str,
    threads: int,
    device: str,
    shared: dict[float, tuple[ProcessRecord, ...]],
) -> CellResult:
    cell = records.cell(model=model, format=format_, threads=threads, device_id=device)
    if number % 10 == 9:
        return records.result(of=cell, outcome=records.failure())
    processes = shared[_SPEEDS_MS[number % len(_SPEEDS_MS)]]
    return records.result(
        of=cell, processes=processes, size_mib=1.0 + number / 10, measured={"profile": _profile(number)}
    )


def _profile(number: int) -> OperatorProfile:
    """A network's hundred operators, as long as exporters name them."""
    return OperatorProfile(
        source="onnxruntime-trace",
        inferences_ns=(4_000_000, 4_100_000),
        operators=tuple(
            OperatorTime(
                name=f"/features/features.{n}/block/block.{n % 7}/{_KINDS[n % len(_KINDS)]}",
                kind=_KINDS[n % len(_KINDS)],
                accelerator="CPUExecutionProvider",
                median_ns=1000.0 * (1 + (n * 37 + number) % 101),
            )
            for n in range(100)
        ),
    )
