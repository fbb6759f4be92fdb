"""What share of a run's wall time is neither inference nor prescribed by the protocol?

    python -m tests.bench.overhead [--output FOLDER]

Runs a suite of cells of about 10 s on a warm cache, and adds up from the record what was inference (first inference,
warm-up, timed blocks, checked samples, the memory pass). Everything else is overhead: starting this program and the
timing programs, loading models, reading states, checking, storing, reporting.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.records import Measurement
from harness.statistics import median, process_median_ns
from harness.store import StoredRun
from tests.bench.result import Result

SUITE = """
schema = 1
name = "overhead"
models = ["mobilenet_v2", "squeezenet1_1"]
artifacts = ["onnx/fp32", "tflite/fp32"]
threads = [1]

[measure]
processes_min = 5
processes_max = 5
blocks = 4
block_s = 0.45
warmup_s = 0.25
warmup_cap_s = 2.0
"""


def main() -> None:
    """Run and say."""
    result = Result.begin("overhead", "Overhead: share of a run's wall time that is not inference, on a warm cache")
    with tempfile.TemporaryDirectory() as scratch:
        suite = Path(scratch) / "overhead.toml"
        suite.write_text(SUITE, encoding="utf-8")
        command = [sys.executable, "-m", "harness", "run", str(suite), "--output"]
        _quietly([*command, str(Path(scratch) / "warm-the-cache"), "--processes", "2"])
        began = time.monotonic()
        _quietly([*command, str(Path(scratch) / "run")])
        wall_s = time.monotonic() - began
        stored = StoredRun.open(Path(scratch) / "run")
    cells = [(result, result.outcome) for result in stored.results if isinstance(result.outcome, Measurement)]
    inference_s = sum(_inference_s(outcome) for _, outcome in cells)
    in_cells_s = sum(result.seconds for result, _ in cells)
    result.add(
        cells=f"{len(cells)} of {in_cells_s / len(cells):.1f} s",
        wall=f"{wall_s:.1f} s",
        inference=f"{inference_s:.1f} s",
        overhead=f"{100 * (1 - inference_s / wall_s):.1f} %",
        limit="10 %",
    )
    result.finish()


def _inference_s(outcome: Measurement) -> float:
    total_ns = 0.0
    for process in outcome.processes:
        blocks = sum(sum(block.ns) for block in process.blocks)
        # The samples that are checked beyond the first run once each, untimed.
        checked = (outcome.deployment.samples - 1) * (process_median_ns(process) or 0.0)
        total_ns += process.first_inference_ns + sum(process.warmup_ns) + blocks + checked
    typical_ns = median([process_median_ns(process) or 0.0 for process in outcome.processes])
    return (total_ns + typical_ns * sum(memory.iterations for memory in outcome.memory)) / 1e9


def _quietly(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
