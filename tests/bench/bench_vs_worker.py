"""Do the native loop and the Python worker agree, and what does the native loop itself cost?

    nice -n -5 python -m tests.bench.bench_vs_worker [--output FOLDER]

For each model and runtime: processes of bench, of the worker, and of the worker on bench's library file
(`worker_on_library`), in an order that is drawn and then back, all six on one processor, many times over: two processes
of one program differ by some per cent by where their memory lies, and only more of them average that out. Reported is
the median over these rounds of the ratio of p50s, with its 95 % interval by order statistics; below 1.00 bench is
faster. The ratio of the 10th percentiles, beside it, is touched less by what else the machine does.

ONNX Runtime's wheel has the runtime twice, as a library and compiled into its Python module. So the limit is on the two
loops with one and the same library; how far the worker as it is lies from bench is the row above. The last row is the
native loop's own cost, with a runtime that does nothing.
"""

from __future__ import annotations

import math
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness import units
from harness.deploy.bench_build import FLAGS, LIBRARIES, SOURCES, build_bench, find_compiler
from harness.deploy.runner import choose_runner
from harness.deploy.runtimes import find_library
from harness.deploy.targets import host_target
from harness.device.hold import confined_as_asked, single_processors
from harness.device.host import HostDevice
from harness.measure.program import run_program
from harness.pipeline import convert_model
from harness.protocol import Job, Loaded, TimedBlock, read_message
from harness.records import Artifact, RuntimeChoice
from harness.statistics import Interval, median_interval, percentile
from tests.bench.result import Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.records import DriverChoice

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("mobilenet_v2",)
FILES = {"onnx/fp32": "onnxruntime", "tflite/fp32": "litert"}
SMALL = {"tiny.onnx": "onnxruntime", "tiny.tflite": "litert", "tiny_int8.tflite": "litert"}
ROUNDS, ROUNDS_SMALL = 120, 10
BLOCK_S = 0.15
WARMUP_CAP_S = 0.1
ON_LIBRARY = "the worker on bench's library"
PROGRAMS = ("bench", "the worker as it is", ON_LIBRARY)
AGREE_ABOVE_NS, AGREE_SHARE = 1e6, 0.01
OWN_COST_NS = 1000.0


def main() -> None:
    """Measure and say."""
    result = Result.begin(
        "bench_vs_worker",
        f"p50 of bench over p50 of the Python worker, one thread; median of {ROUNDS} rounds ({ROUNDS_SMALL} for small "
        "models) of fresh processes, each program twice in a drawn order and back, with its 95 % interval",
    )
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        made = _shared_bench(Path(scratch))
        for title, path, runtime in _models():
            inputs = _inputs(path, runtime, Path(scratch))
            count = ROUNDS if title.startswith(MODELS) else ROUNDS_SMALL
            rounds = [_round(path, runtime, inputs, scratch, made, draw) for _ in range(count)]
            p50 = statistics.median(time for each in rounds for process in each["bench"] for time in process)
            for other in PROGRAMS[1:]:
                medians = [_ratio(each, other, 0.5) for each in rounds]
                interval, limit = median_interval(medians), "–"  # below 1 ms, what Python itself does shows
                if p50 > AGREE_ABOVE_NS and other == ON_LIBRARY:
                    limit = result.limit(f"within {AGREE_SHARE:.0%}", holds=_agree(interval), of=title)
                result.add(
                    model=title,
                    runtime=runtime,
                    against=other,
                    p50=units.duration(p50),
                    ratio=f"{statistics.median(medians):.4f}",
                    interval="–" if interval is None else f"{interval.low:.4f} to {interval.high:.4f}",
                    p10_ratio=f"{statistics.median(_ratio(each, other, 0.1) for each in rounds):.4f}",
                    limit=limit,
                )
        inside_ns, between_ns = _overhead(Path(scratch))
        result.add(
            model="nothing",
            runtime="an empty one",
            against="",
            p50=f"{inside_ns:.1f} ns an iteration",
            ratio="",
            interval="",
            p10_ratio=f"{between_ns:.0f} ns between two samples",
            limit=result.limit("under 1 µs an iteration", holds=inside_ns < OWN_COST_NS, of="the loop"),
        )
    result.finish()


def _shared_bench(scratch: Path) -> Path:
    """The sources of bench as a library, for `worker_on_library`."""
    made = scratch / "bench.so"
    sources = sorted(str(path) for path in SOURCES.glob("*.c"))
    compiler = find_compiler(host_target()).command
    subprocess.run([*compiler, *FLAGS, "-shared", "-fPIC", "-w", *sources, "-o", str(made), *LIBRARIES], check=True)
    return made


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
    path: str, runtime: str, inputs: Sequence[str], scratch: str, made: Path, draw: random.Random
) -> dict[str, list[list[float]]]:
    """The times of two processes of each program, all on one processor."""
    device = HostDevice()
    processor = str(draw.choice(single_processors(device, "any")))
    order = draw.sample(PROGRAMS, len(PROGRAMS))
    found: dict[str, list[list[float]]] = {name: [] for name in PROGRAMS}
    for name in (*order, *reversed(order)):
        driver: DriverChoice = "bench" if name == "bench" else "python-worker"
        job = _job(path, runtime, inputs, scratch, driver, affinity=processor)
        command = choose_runner(device, job.choice).command
        if name == ON_LIBRARY:
            library = find_library(runtime, target=host_target()).path
            command = (sys.executable, "-m", "tests.bench.worker_on_library", str(made), library)
        command = confined_as_asked(command, device.facts(), job.choice)
        (block,) = run_program(device, job, command, timeout_s=120).all(TimedBlock)
        found[name].append([ns / block.iterations_per_sample for ns in block.ns])
    return found


def _agree(interval: Interval | None) -> bool | None:
    """Whether a ratio is within the limit, by its interval; None where that reaches to both sides of it."""
    low, high = 1 - AGREE_SHARE, 1 + AGREE_SHARE
    if interval is None:
        return None
    if low <= interval.low and interval.high <= high:
        return True
    return False if interval.high < low or interval.low > high else None


def _ratio(times: dict[str, list[list[float]]], other: str, share: float) -> float:
    bench, worker = (math.prod(percentile(each, share) for each in times[name]) for name in ("bench", other))
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
