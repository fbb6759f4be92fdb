"""`onnxruntime_perf_test` of ONNX Runtime.

It times `Run` with inputs in place, one warm-up before. Its percentile is `sorted[floor(n * p)]`, so that P999 of fewer
than 1000 runs is the maximum. Units differ between releases and stand in each line.

Source: onnxruntime/test/perftest/{performance_runner,utils,test_configuration}.cc, 1.10 to 1.27, at their tags;
tried on what people pasted of 1.1 and 1.3 as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.measure.official.figures import Figures
from harness.measure.official.lines import NUMBER, UnknownText, ignore, read_lines

if TYPE_CHECKING:
    import re

    from harness.measure.official.lines import Form

TOOL = "onnxruntime_perf_test"
_NOISE = (
    r"Setting intra_op_num_threads to \d+",
    r"Setting inter_op_num_threads to \d+",
    r"Avg CPU usage: ?\d+ ?%?",
    rf"Total inference run time: ?{NUMBER} s",
    rf"Total inference time cost: ?{NUMBER} s",
    rf"Number of inferences per second: {NUMBER}",
    r"Initialization:.*|Disabling intra-op thread spinning.*",
)
_NS = {"s": 1e9, "sec": 1e9, "ms": 1e6}
_STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+"
_LOG = rf"{_STAMP} \[(?P<level>[VIW]):[^\]]*\]"
_FAILURES = (r".*fallback to CPU EP has been explicitly disabled.*", rf"{_STAMP} \[[EF]:[^\]]*\] .*")


def arguments(model: str, *, threads: int, iterations: int, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """What to start it with, after its own name: random inputs, a number of runs, whole results on standard output."""
    return ("-I", "-m", "times", "-r", str(iterations), "-x", str(threads), *more, model)


def read(text: str) -> Figures:
    """What a run said.

    Args:
        text: Standard output and standard error together.

    Raises:
        UnknownText: A line is not known, or the results are missing or disagree.
        ToolFailed: The tool says that it failed.
    """
    reader = _Reader()
    # What the runtime logs of its own accord says nothing of the results; where nodes ran has a form.
    forms = [*reader.forms(), *((noise, ignore) for noise in _NOISE)]
    read_lines(text, forms, logs=(rf"{_LOG} .*",), failures=_FAILURES)
    return reader.finished()


class _Reader:
    def __init__(self) -> None:
        self.figures = Figures("total-cost")
        self._runs: int | None = None

    def forms(self) -> list[Form]:
        time = rf"({NUMBER}) ?(s|sec|ms)"
        return [
            (rf"Session creation time cost: ?{time}", self._load),
            (rf"First inference time cost: ?{time}", self._first),
            (r"Total inference requests: ?(\d+)", self._requests),
            (rf"Average (?:inference )?time cost(?P<total> total)?: ?{time}", self._average),
            (r"Peak working set size: ?(\d+)(?: bytes)?", self._peak),
            (r"Runs: ?(\d+)", self._counted),
            (rf"(Min|Max) Latency(?: is|:) ?{time}", self._extreme),
            (rf"P(\d+) Latency(?: is|:) ?{time}", self._percentile),
            (
                rf"{_LOG} .*(?:Some|nodes).* (?:were|are) not assigned to the preferred execution providers.*",
                self._fallback,
            ),
            (rf"{_LOG} .*number of nodes in the graph: (\d+) number of nodes supported by \w+: (\d+).*", self._nodes),
            (rf"{_LOG} .*Rerunning with verbose output on a non-minimal build will show node assignments\.", ignore),
        ]

    def finished(self) -> Figures:
        figures = self.figures
        if figures.mean_ns is None or not figures.iterations:
            raise UnknownText("", "its output ends without results")
        if self._runs is not None and self._runs != figures.iterations:
            raise UnknownText("", f"{figures.iterations} requests and {self._runs} runs")
        low, high = figures.min_ns, figures.max_ns
        # The smallest unit that is printed is a microsecond.
        if low is not None and high is not None and not low - 1e3 <= figures.mean_ns <= high + 1e3:
            raise UnknownText("", f"its average, {figures.mean_ns} ns, is not between {low} and {high}")
        return figures

    def _load(self, found: re.Match[str]) -> None:
        self.figures.load_ns = _ns(found[1], found[2])

    def _first(self, found: re.Match[str]) -> None:
        self.figures.first_inference_ns = _ns(found[1], found[2])
        self.figures.warmup_iterations = 1

    def _requests(self, found: re.Match[str]) -> None:
        self.figures.iterations = int(found[1])

    def _average(self, found: re.Match[str]) -> None:
        if self.figures.mean_ns is not None:
            raise UnknownText(found[0], "it says this twice")
        self.figures.mean_ns = _ns(found[2], found[3])
        self.figures.generation = "average-total" if found["total"] else "average"

    def _peak(self, found: re.Match[str]) -> None:
        self.figures.peak_bytes = int(found[1]) or None

    def _counted(self, found: re.Match[str]) -> None:
        self._runs = int(found[1])
        if self.figures.iterations is None:
            self.figures.iterations = self._runs

    def _extreme(self, found: re.Match[str]) -> None:
        setattr(self.figures, {"Min": "min_ns", "Max": "max_ns"}[found[1]], _ns(found[2], found[3]))

    def _percentile(self, found: re.Match[str]) -> None:
        digits = found[1]
        name = f"p{digits}" if len(digits) <= 2 else f"p{digits[:2]}.{digits[2:]}"
        self.figures.percentiles_ns[name] = _ns(found[2], found[3])

    def _fallback(self, found: re.Match[str]) -> None:
        self.figures.fallback_reason = found[0][found.end("level") :].partition("] ")[2]

    def _nodes(self, found: re.Match[str]) -> None:
        self.figures.nodes_total, self.figures.nodes_delegated = int(found[2]), int(found[3])


def _ns(value: str, unit: str) -> float:
    return float(value) * _NS[unit]
