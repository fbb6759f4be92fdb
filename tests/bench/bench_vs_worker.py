"""Do the native loop and the Python worker agree, and what does the native loop itself cost?

    nice -n -5 python -m tests.bench.bench_vs_worker [--output FOLDER]

For each model and runtime: processes in the order bench, worker, worker, bench or the other way round, all four on one
processor, many times over: two processes of one program differ by some per cent by where their memory lies, and only
more of them average that out. Reported is the ratio of p50s over these rounds, as `harness compare` estimates it over
its trials (a trimmed mean of logarithms), with its 95 % interval; below 1.00 bench is faster. The ratio of the 10th
percentiles, beside it, is touched less by what else the machine does. LiteRT's wheel brings its kernels twice, for its
C library and for Python, and either program uses its own: two builds of them are compared along. The last row is the
native loop's own cost, with a runtime that does nothing.
"""

from __future__ import annotations

import math
import random
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness import units
from harness.deploy.bench_build import build_bench, find_compiler
from harness.deploy.runner import choose_runner
from harness.deploy.targets import host_target
from harness.device.hold import confined_as_asked, single_processors
from harness.device.host import HostDevice
from harness.measure.program import run_program
from harness.pipeline import convert_model
from harness.protocol import Job, Loaded, TimedBlock, read_message
from harness.records import Artifact, RuntimeChoice
from harness.regress.effect import estimate
from harness.statistics import percentile
from tests.bench.result import Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.records import DriverChoice

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("mobilenet_v2",)
FILES = {"onnx/fp32": "onnxruntime", "tflite/fp32": "litert"}
SMALL = {"tiny.onnx": "onnxruntime", "tiny.tflite": "litert", "tiny_int8.tflite": "litert"}
ROUNDS, ROUNDS_SMALL = 120, 10
CONFIDENCE = 0.95
BLOCK_S = 0.4
WARMUP_CAP_S = 0.5
AGREE_ABOVE_NS, AGREE_SHARE = 1e6, 0.01
OWN_COST_NS = 1000.0


def main() -> None:
    """Measure and say."""
    result = Result.begin(
        "bench_vs_worker",
        f"p50 of bench over p50 of the Python worker, one thread; trimmed mean over {ROUNDS} rounds ({ROUNDS_SMALL} of "
        "small models) of fresh processes, bench, worker, worker, bench or the other way round; its 95 % interval",
    )
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        for title, path, runtime in _models():
            inputs = _inputs(path, runtime, Path(scratch))
            count = ROUNDS if title.startswith(MODELS) else ROUNDS_SMALL
            rounds = [_round(path, runtime, inputs, scratch, draw) for _ in range(count)]
            found = estimate([math.log(_ratio(round_, 0.5)) for round_ in rounds], confidence=CONFIDENCE)
            low, high = found.ratio_low, found.ratio_high
            p50 = statistics.median(time for both in rounds for process in both["bench"] for time in process)
            limit = "–"  # below 1 ms, what Python itself does shows
            if p50 > AGREE_ABOVE_NS:
                is_estimate = abs(found.ratio - 1) <= AGREE_SHARE
                limit = result.limit(
                    f"within {AGREE_SHARE:.0%}",
                    holds=_agree(low, high),
                    of=title,
                    unknown="the estimate, not all of its interval" if is_estimate else "not shown",
                )
            result.add(
                model=title,
                runtime=runtime,
                p50=units.duration(p50),
                ratio=f"{found.ratio:.4f}",
                interval="–" if low is None or high is None else f"{low:.4f} to {high:.4f}",
                p10_ratio=f"{statistics.median(_ratio(round_, 0.1) for round_ in rounds):.4f}",
                limit=limit,
            )
        inside_ns, between_ns = _overhead(Path(scratch))
        result.add(
            model="nothing",
            runtime="an empty one",
            p50=f"{inside_ns:.1f} ns an iteration",
            ratio="",
            interval="",
            p10_ratio=f"{between_ns:.0f} ns between two samples",
            limit=result.limit("under 1 µs an iteration", holds=inside_ns < OWN_COST_NS, of="the loop"),
        )
    result.finish()


def _models() -> list[tuple[str, str, str]]:
    found = []
    for model in MODELS:
        for name, artifact in convert_model(model, list(FILES)).items():
            if not isinstance(artifact, Artifact):
                message = f"{model} {name}: {artifact}"
                raise TypeError(message)
            found.append((f"{model} {name}", artifact.path, FILES[name]))
    return [*found, *[(name, str(ROOT / "data" / name), runtime) for name, runtime in SMALL.items()]]


def _inputs(path: str, runtime: str, scratch: Path) -> tuple[str, ...]:
    job = _job(path, runtime, (), str(scratch))
    probe = subprocess.run(
        [*choose_runner(HostDevice(), job.choice).command, *job.argv()], capture_output=True, text=True, check=False
    )
    loaded = next(m for m in map(read_message, probe.stdout.splitlines()) if isinstance(m, Loaded))
    rng, files = np.random.default_rng(0), []
    for index, tensor in enumerate(loaded.inputs):
        file = scratch / f"{Path(path).name}-{index}.bin"
        rng.integers(0, 3, tensor.shape).astype(tensor.dtype).tofile(file)
        files.append(str(file))
    return tuple(files)


def _round(
    path: str, runtime: str, inputs: Sequence[str], scratch: str, draw: random.Random
) -> dict[DriverChoice, list[list[float]]]:
    """The times of two processes of either program, all on one processor."""
    device = HostDevice()
    processor = str(draw.choice(single_processors(device, "any")))
    orders: tuple[tuple[DriverChoice, DriverChoice], ...] = (("bench", "python-worker"), ("python-worker", "bench"))
    outer, inner = draw.choice(orders)
    found: dict[DriverChoice, list[list[float]]] = {outer: [], inner: []}
    for driver in (outer, inner, inner, outer):
        job = _job(path, runtime, inputs, scratch, driver, affinity=processor)
        command = confined_as_asked(choose_runner(device, job.choice).command, device.facts(), job.choice)
        (block,) = run_program(device, job, command, timeout_s=120).all(TimedBlock)
        found[driver].append([ns / block.iterations_per_sample for ns in block.ns])
    return found


def _agree(found_low: float | None, found_high: float | None) -> bool | None:
    """Whether a ratio is within the limit, by its interval; None where that reaches to both sides of it."""
    low, high = 1 - AGREE_SHARE, 1 + AGREE_SHARE
    if found_low is None or found_high is None:
        return None
    if low <= found_low and found_high <= high:
        return True
    return False if found_high < low or found_low > high else None


def _ratio(times: dict[DriverChoice, list[list[float]]], share: float) -> float:
    bench, worker = (
        math.prod(percentile(each, share) for each in times[driver]) for driver in ("bench", "python-worker")
    )
    return math.sqrt(bench / worker)


def _job(
    path: str,
    runtime: str,
    inputs: Sequence[str],
    scratch: str,
    driver: DriverChoice = "bench",
    block_s: float = BLOCK_S,
    affinity: str = "any",
) -> Job:
    choice = RuntimeChoice(runtime=runtime, driver=driver, affinity=affinity)
    return Job(
        choice=choice,
        model=path,
        inputs=tuple(inputs),
        samples=1,
        output_folder=scratch,
        blocks=1,
        block_s=block_s,
        warmup_cap_s=WARMUP_CAP_S,
    )


def _overhead(scratch: Path) -> tuple[float, float]:
    """Nanoseconds an iteration inside a sample, and between the end of one sample and the start of the next."""
    library = scratch / "empty.so"
    compiler = find_compiler(host_target()).command
    source = str(ROOT / "deploy" / "fake_litert.c")
    subprocess.run([*compiler, "-shared", "-fPIC", "-O2", "-w", "-DEMPTY", source, "-o", str(library)], check=True)
    x = scratch / "four.bin"
    np.zeros(4, dtype=np.float32).tofile(x)
    job = _job(str(ROOT / "data" / "tiny.tflite"), "litert", (str(x),), str(scratch), block_s=1.0)
    command = (str(build_bench()), "--library", str(library))
    (block,) = run_program(HostDevice(), job, command, timeout_s=60).all(TimedBlock)
    between = (1e9 - sum(block.ns)) / len(block.ns)
    return statistics.median(block.ns) / block.iterations_per_sample, between


if __name__ == "__main__":
    main()
