"""Builds of the real runtime library with something added, timed by the real loop."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness.deploy.bench_build import build_bench
from harness.deploy.injection.build import build_injected
from harness.deploy.runtimes import find_library
from harness.deploy.targets import host_target
from harness.device.host import HostDevice
from harness.errors import BuildFailed, MissingTool
from harness.measure.program import Transcript, run_program
from harness.protocol import First, Job, Memory, Outputs, TimedBlock
from harness.records import RuntimeChoice

if TYPE_CHECKING:
    from harness.deploy.runtime_library import RuntimeLibrary

TINY = Path(__file__).parent.parent / "data" / "tiny.tflite"
SPIN_NS = 2_000_000


@pytest.fixture(scope="module")
def library() -> RuntimeLibrary:
    return find_library("litert", target=host_target())


def ran(library: RuntimeLibrary, injected: dict[str, int], folder: Path, *, memory: bool = False) -> Transcript:
    shape = (1, 3, 16, 16)
    np.zeros(shape, dtype=np.float32).tofile(folder / "input.bin")
    job = Job(
        choice=RuntimeChoice(runtime="litert"),
        model=str(TINY),
        inputs=(str(folder / "input.bin"),),
        samples=1,
        output_folder=str(folder / "outputs"),
        mode="memory" if memory else "latency",
        blocks=2,
        block_s=0.03,
        block_iterations=4,
        warmup_s=0.01,
        warmup_cap_s=0.1,
    )
    built = build_injected(library, injected)
    command = (str(build_bench()), "--library", str(built), "--library-version", library.version)
    return run_program(HostDevice(), job, command, timeout_s=60)


def median_ns(transcript: Transcript) -> float:
    return float(
        np.median([ns / block.iterations_per_sample for block in transcript.all(TimedBlock) for ns in block.ns])
    )


def peak(transcript: Transcript) -> int:
    return next(message.resident_bytes for message in transcript.all(Memory) if message.at == "peak")


def test_an_added_time_is_in_every_inference_and_the_answers_are_the_same(
    library: RuntimeLibrary, tmp_path: Path
) -> None:
    plain, slower = ran(library, {}, tmp_path), ran(library, {"SPIN_NS": SPIN_NS}, tmp_path)

    assert min(ns for block in slower.all(TimedBlock) for ns in block.ns) >= SPIN_NS
    assert median_ns(plain) < SPIN_NS
    assert slower.one(Outputs).sha256 == plain.one(Outputs).sha256


def test_what_is_added_to_the_first_inference_is_in_no_other(library: RuntimeLibrary, tmp_path: Path) -> None:
    cold = ran(library, {"COLD_NS": 50_000_000}, tmp_path)

    assert cold.one(First).ns >= 50_000_000
    assert median_ns(cold) < 50_000_000 / 10


def test_added_memory_is_in_the_peak(library: RuntimeLibrary, tmp_path: Path) -> None:
    plain = peak(ran(library, {}, tmp_path, memory=True))

    larger = peak(ran(library, {"MEMORY_BYTES": 20_000_000}, tmp_path, memory=True))

    assert larger - plain == pytest.approx(20_000_000, rel=0.1)


def test_a_build_is_kept_and_another_injection_is_another_build(library: RuntimeLibrary) -> None:
    built = build_injected(library, {"SPIN_NS": 5})

    assert build_injected(library, {"SPIN_NS": 5, "COLD_NS": 0}) == built
    assert build_injected(library, {"SPIN_NS": 6}) != built
    assert PurePosixPath(built).name == PurePosixPath(library.path).name


def test_a_runtime_that_cannot_be_wrapped_and_a_macro_that_does_not_compile_are_said(library: RuntimeLibrary) -> None:
    import msgspec

    with pytest.raises(MissingTool, match="onnxruntime"):
        build_injected(msgspec.structs.replace(library, runtime="onnxruntime"), {})
    with pytest.raises(BuildFailed, match="injected library"):
        build_injected(library, {"LiteRtRunCompiledModel": 7})
