"""Is our p50 that of a tight loop on the same runtime?

    python -m tests.bench.fidelity [--output FOLDER]

For each model and runtime: processes of ours (the timing program, its warm-up and a block) and of a plain Python loop
over the same call of the same library, inputs and outputs bound once, in the order ours, loop, loop, ours, many times
over. Reported is the median over these rounds of the ratio of p50s, with its 95 % interval by order statistics. Below
1.00: ours is faster.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from harness import units
from harness.deploy.runner import choose_runner
from harness.device.host import HostDevice
from harness.measure.program import run_program
from harness.pipeline import convert_model
from harness.protocol import Job, TimedBlock
from harness.records import Artifact, RuntimeChoice
from harness.statistics import median_interval
from harness.tensors import write_raw
from tests.bench.result import Result

MODELS = ("mobilenet_v2", "resnet50")
FILES = {"onnx/fp32": "onnxruntime", "tflite/fp32": "litert"}
ROUNDS = 7
SECONDS = 0.8
TIGHT_LOOP = """
import sys, time, json
import numpy as np
kind, model, path, shape, seconds = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4]), float(sys.argv[5])
x = np.fromfile(path, dtype=np.float32).reshape(shape)
if kind == "onnxruntime":
    import onnxruntime as ort
    options = ort.SessionOptions(); options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    bound = session.io_binding()
    bound.bind_ortvalue_input(session.get_inputs()[0].name, ort.OrtValue.ortvalue_from_numpy(x))
    for output in session.get_outputs():
        bound.bind_ortvalue_output(
            output.name, ort.OrtValue.ortvalue_from_shape_and_type(output.shape, np.float32, "cpu")
        )
    run = lambda: session.run_with_iobinding(bound)
else:
    from ai_edge_litert.compiled_model import CompiledModel, CpuOptions, HardwareAccelerator, Options
    options = Options(hardware_accelerators=HardwareAccelerator.CPU, cpu_options=CpuOptions(num_threads=1))
    compiled = CompiledModel.from_file(model, options=options)
    inputs, outputs = compiled.create_input_buffers(0), compiled.create_output_buffers(0)
    inputs[0].write(x)
    run = lambda: compiled.run_by_index(0, inputs, outputs)
end = time.perf_counter() + seconds / 2
while time.perf_counter() < end: run()
times, end = [], time.perf_counter() + seconds
while time.perf_counter() < end:
    a = time.perf_counter_ns(); run(); times.append(time.perf_counter_ns() - a)
print(sorted(times)[len(times) // 2])
"""


def main() -> None:
    """Measure and say."""
    result = Result.begin(
        "fidelity",
        f"Fidelity: our p50 over that of a plain loop on the same runtime, one thread; median of {ROUNDS} interleaved "
        "rounds of fresh processes (ours, loop, loop, ours), with its 95 % interval",
    )
    device = HostDevice()
    for model in MODELS:
        for name, artifact in convert_model(model, list(FILES)).items():
            if not isinstance(artifact, Artifact):
                message = f"{model} {name}: {artifact}"
                raise TypeError(message)
            ratios, ours_ns = _rounds(device, artifact, FILES[name])
            interval = median_interval(ratios)
            spread = "–" if interval is None else f"{interval.low:.4f} to {interval.high:.4f}"
            result.add(
                model=model,
                runtime=FILES[name],
                p50=units.duration(statistics.median(ours_ns)),
                ratio=f"{statistics.median(ratios):.4f}",
                interval=spread,
            )
    result.finish()


def _rounds(device: HostDevice, artifact: Artifact, runtime: str) -> tuple[list[float], list[float]]:
    ratios, everything = [], []
    with tempfile.TemporaryDirectory() as scratch:
        shape = list(artifact.inputs[0].shape)
        inputs = Path(scratch) / "x.bin"
        write_raw(inputs, np.random.default_rng(0).standard_normal(shape, dtype=np.float32))
        for _ in range(ROUNDS):
            first = _ours(device, artifact, runtime, inputs, scratch)
            loops = [_loop(artifact, runtime, inputs, shape) for _ in range(2)]
            last = _ours(device, artifact, runtime, inputs, scratch)
            ratios.append(math.sqrt(first * last / (loops[0] * loops[1])))
            everything += [first, last]
    return ratios, everything


def _ours(device: HostDevice, artifact: Artifact, runtime: str, inputs: Path, scratch: str) -> float:
    job = Job(
        choice=RuntimeChoice(runtime=runtime),
        model=artifact.path,
        inputs=(str(inputs),),
        samples=1,
        output_folder=scratch,
        blocks=1,
        block_s=SECONDS,
        warmup_s=SECONDS / 2,
    )
    transcript = run_program(device, job, choose_runner(device, job.choice).command, timeout_s=120)
    return statistics.median(transcript.one(TimedBlock).ns)


def _loop(artifact: Artifact, runtime: str, inputs: Path, shape: list[int]) -> float:
    command = [sys.executable, "-c", TIGHT_LOOP, runtime, artifact.path, str(inputs), json.dumps(shape), str(SECONDS)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


if __name__ == "__main__":
    main()
