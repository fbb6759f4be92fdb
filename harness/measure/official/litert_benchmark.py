"""`litert-benchmark`, which comes with LiteRT's Python package: the CompiledModel API, timed from Python.

It prints milliseconds with two decimals, and takes one random input for all runs. "Fully accelerated" is all that it
says of where nodes ran; on a processor, accelerated is what XNNPACK took.

Source: litert/python/tools/benchmark_litert_model.py, 2.3.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.measure.official.figures import Figures
from harness.measure.official.lines import LITERT_LOGS, NUMBER, ToolFailed, UnknownText, ignore, once, read_lines

if TYPE_CHECKING:
    from collections.abc import Callable

TOOL = "litert-benchmark"
_LOG = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "
_PERCENTILES = {"median": "p50", "p5": "p5", "p95": "p95"}


def arguments(model: str, *, threads: int, iterations: int, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """What to start it with, after its own name."""
    return (f"--model={model}", f"--num_threads={threads}", f"--num_runs={iterations}", *more)


def read(text: str) -> Figures:
    """What a run said.

    Args:
        text: Standard output and standard error together.

    Raises:
        UnknownText: A line is not known, or the results are missing, contradict each other or are too short to be seen.
        ToolFailed: The tool says that it failed.
    """
    figures = Figures("python")

    def ms(name: str, count: str | None = None) -> Callable[[re.Match[str]], None]:
        def keep(found: re.Match[str]) -> None:
            once(figures, name, float(found[1]) * 1e6, found[0])
            if count is not None:
                once(figures, count, int(found[2]), found[0])

        return keep

    def percentile(found: re.Match[str]) -> None:
        figures.percentiles_ns[_PERCENTILES[found[1]]] = float(found[2]) * 1e6

    def accelerated(found: re.Match[str]) -> None:
        if found[1] == "False":
            figures.fallback_reason = "not fully accelerated: the tool does not say what is left"

    time = rf"({NUMBER}) ms"
    forms = [
        (rf"Model initialization: +{time}", ms("load_ns")),
        (rf"Warmup \(first\): +{time}", ms("first_inference_ns")),
        (rf"Warmup \(avg\): +{time} \((\d+) runs\)", ms("warmup_mean_ns", "warmup_iterations")),
        (rf"Inference \(avg\): +{time} \((\d+) runs\)", ms("mean_ns", "iterations")),
        (rf"Inference \(min\): +{time}", ms("min_ns")),
        (rf"Inference \(max\): +{time}", ms("max_ns")),
        (rf"Inference \(std\): +{time}", ms("std_ns")),
        (rf"Inference \(({'|'.join(_PERCENTILES)})\): +{time}", percentile),
        (r"Fully accelerated: +(True|False)", accelerated),
        (rf"Throughput: +{NUMBER} MB/s|BENCHMARK RESULTS|=+", ignore),
    ]
    logs = (*LITERT_LOGS, rf"{_LOG}(?:DEBUG|INFO|WARNING) .*", r"INFO: Created TensorFlow Lite .+")
    crashed = re.search(r"^Traceback \(most recent call last\):\n(?:[ \t].*\n)+(.+)$", text, re.MULTILINE)
    if crashed is not None:
        raise ToolFailed(crashed[1])
    read_lines(text, forms, logs=logs, failures=(rf"{_LOG}(?:ERROR|CRITICAL) .*", r"ERROR: .*"))
    return _sound(figures)


def _sound(figures: Figures) -> Figures:
    mean, low, high = figures.mean_ns, figures.min_ns, figures.max_ns
    if mean is None or low is None or high is None or not figures.iterations:
        raise UnknownText("", "its output ends without results")
    if mean == 0:
        raise UnknownText("", "its milliseconds have two decimals, which show nothing of so short an inference")
    if not low <= mean <= high:
        raise UnknownText("", f"its average, {mean} ns, is not between {low} and {high}")
    return figures
