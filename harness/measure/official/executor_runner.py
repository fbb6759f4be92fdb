"""`executor_runner` of ExecuTorch.

It runs a method a number of times on inputs of ones and gives the total, in whole or fractional milliseconds; older
releases give no time at all, and the summary then has none. There is no warm-up and no percentile.

Source: executorch/examples/portable/executor_runner/executor_runner.cpp, 0.4 to 1.0, at their tags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.measure.official.figures import Figures
from harness.measure.official.lines import NUMBER, UnknownText, ignore, read_lines

if TYPE_CHECKING:
    import re

    from harness.measure.official.lines import Form

TOOL = "executor_runner"
# I 00:00:00.001 executorch:executor_runner.cpp:90] ...
_PREFIXES = (r"[DI] (?:\d+:)?\d\d:\d\d:\d\d\.\d+ executorch:[\w./-]+:\d+\] ?",)
# With their prefix, which is taken off where it says D or I.
_FAILURES = (r"[EF] (?:\d+:)?\d\d:\d\d:\d\d\.\d+ executorch:.*",)
_NOISE = (
    r"Model file .+ is loaded\.",
    r"Using method \w+",
    r"Setting up planned buffer \d+, size \d+\.",
    r"Method loaded\.",
    r"Resetting threadpool with num threads = \d+",
    r"Number of planned buffers: \d+",
    r"Inputs prepared\.",
    r"Loaded \d+ inputs?.*",
    r"\d+ outputs?: *",
    r"Output(?:\[\d+\]| \d+): .*|OutputX? \d+: .*",
    # The rest of a tensor that is printed over several lines: numbers, commas and brackets.
    r"[\s\d.,eE+\-\[\]()infa]+",
)


def arguments(model: str, *, threads: int, iterations: int, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """What to start it with, after its own name."""
    return (f"--model_path={model}", f"--num_executions={iterations}", f"--cpu_threads={threads}", *more)


def read(text: str) -> Figures:
    """What a run said.

    Args:
        text: Standard output and standard error together.

    Raises:
        UnknownText: A line is not known, or the model was not executed.
        ToolFailed: The tool says that it failed.
    """
    reader = _Reader()
    forms = [*reader.forms(), *((noise, ignore) for noise in _NOISE)]
    read_lines(text, forms, prefixes=_PREFIXES, failures=_FAILURES)
    if not reader.is_executed:
        raise UnknownText("", "its output ends without saying that the model was executed")
    return reader.figures


class _Reader:
    def __init__(self) -> None:
        self.figures = Figures("untimed")
        self.is_executed = False

    def forms(self) -> list[Form]:
        return [
            (rf"Model executed successfully (\d+) time\(s\) in ({NUMBER}) ms\.", self._timed),
            (r"Model executed successfully\.", self._untimed),
        ]

    def _timed(self, found: re.Match[str]) -> None:
        count, total_ns = int(found[1]), float(found[2]) * 1e6
        if count == 0:
            raise UnknownText(found[0], "it executed nothing")
        # The first execution is in the total: a mean of cold and warm together.
        self.is_executed, self.figures.generation = True, "timed"
        self.figures.iterations, self.figures.mean_ns = count, total_ns / count

    def _untimed(self, _found: re.Match[str]) -> None:
        self.is_executed = True
