"""`benchmark_model` of TensorFlow Lite and LiteRT, in both generations.

    classic         the interpreter's: `--graph=... --num_threads=...`, statistics as `count=50 first=... avg=...`
    compiled-model  LiteRT's CompiledModel API: a table of results between rules of `=`

Both time one invocation with random inputs in place, without filling them. "First inference" is the first warm-up run.

Source: tensorflow/lite/tools/benchmark (2.4 to 2.20) and litert/tools/benchmark_litert_model (2.0, 2.1) at their tags.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.measure.official.figures import Figures
from harness.measure.official.lines import LITERT_LOGS, NUMBER, UnknownText, ignore, once, read_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.measure.official.lines import Form

TOOL = "benchmark_model"
_MIB = 2**20
_PREFIXES = (
    r"(?:INFO|WARNING|VERBOSE): ",
    r"\[\w+\.(?:h|cc):\d+\] ?",
    # of logcat, which is where the tool's Android app writes
    r"\d\d-\d\d \d\d:\d\d:\d\d\.\d+ +\d+ +\d+ [VDIW] tflite *: ?",
)
_COMMON_NOISE = (
    r"STARTING!",
    r"Log parameter values verbosely: \[\w+\]",
    r"Duplicate flags: .+",
    r"#threads used for CPU inference: \[\d+\]",
    r"[A-Z][\w (),.%/'-]*: \[.*\]",  # a parameter and its value
    r"Loaded model .+",
    r"The input model file size \(MB\): .+",
    r"Signature .*",
    r"Created TensorFlow Lite (?:XNNPACK )?delegate for .+",
    r"Initialized TensorFlow Lite runtime\.?",
    r"XNNPack weight cache .+",
    r"(?:Initialized|Loaded) OpenCL.*",
    r"Running benchmark for at least .+",
    r"Note: as the benchmark tool itself affects memory footprint, .+",
    r"(?:Loading|Loaded|Registered|Created|Creating) .*(?:accelerator|delegate|environment|plugin|runtime).*",
    r"=+(?: [A-Z ]+ =+)?",
)
_FAILURES = (
    r"(?:ERROR: ?)?.*(?:Benchmarking failed|Disallowed CPU fallback detected|Failed to ).*",
    r"ERROR: .*",
)
_APPLIED = r"Explicitly applied (.+) delegate, and the model graph will be"
_MEMORY = "(?:Memory footprint delta from the start of the tool|Peak memory footprint)"
"""The second is what 2.3 and 2.4 call the same difference."""
_TIMINGS = "Inference timings in us"
_REPLACED = (
    r"Replacing (\d+) out of (\d+) node\(s\) with delegate \((\w+)\) node, yielding (\d+) partitions"
    r"(?: for (?:the whole graph|subgraph .+))?\.?"
)


def arguments(model: str, *, threads: int, iterations: int, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """What to start it with, after its own name: the flags that both generations know."""
    return (f"--graph={model}", f"--num_threads={threads}", f"--num_runs={iterations}", *more)


def read(text: str) -> Figures:
    """What a run said.

    Args:
        text: Standard output and standard error together.

    Raises:
        UnknownText: A line is not known, or the results are missing or disagree.
        ToolFailed: The tool says that it failed.
    """
    is_compiled_model = re.search(r"^.*=+ BENCHMARK RESULTS =+\s*$", text, re.MULTILINE) is not None
    reader = _CompiledModel() if is_compiled_model else _Classic()
    read_lines(
        text,
        [*reader.forms(), *((noise, ignore) for noise in _COMMON_NOISE)],
        prefixes=_PREFIXES,
        logs=LITERT_LOGS,
        failures=_FAILURES,
    )
    return reader.finished()


class _Delegation:
    """The lines that say which nodes a delegate took; the same in both generations."""

    def __init__(self, generation: str) -> None:
        self.figures = Figures(generation)

    def delegation_forms(self) -> list[Form]:
        return [
            (_REPLACED, self._replaced),
            (
                rf"{_APPLIED} completely executed by the delegate\.",
                self._wholly,
            ),
            (
                rf"{_APPLIED} partially executed by the delegate w/ (\d+) delegate kernels\.",
                self._partly,
            ),
            (
                r"Though (.+) delegate is explicitly applied, the model graph will not be executed by the delegate\.",
                self._not_at_all,
            ),
        ]

    def _replaced(self, found: re.Match[str]) -> None:
        """Several delegates and several graphs have a line each; what one took is no node for the next."""
        figures, taken, total = self.figures, int(found[1]), int(found[2])
        if taken > total:
            raise UnknownText(found[0], "more nodes were replaced than there are")
        if figures.nodes_total is not None:
            # Whether the second line counts another graph, or what the first delegate left, is not said.
            figures.nodes_total = figures.nodes_delegated = figures.partitions = None
            figures.fallback_reason = "several delegates or graphs: the tool does not say what is left of the whole"
            figures.delegate = f"{figures.delegate}, {found[3]}"
            return
        if figures.fallback_reason is not None and figures.delegate is not None:
            return
        figures.nodes_delegated, figures.nodes_total = taken, total
        figures.delegate, figures.partitions = found[3], int(found[4])
        if taken < total:
            figures.fallback_reason = f"{total - taken} of {total} nodes were left to the CPU"

    def _wholly(self, found: re.Match[str]) -> None:
        self.figures.delegate = self.figures.delegate or found[1]

    def _partly(self, found: re.Match[str]) -> None:
        self.figures.delegate = self.figures.delegate or found[1]
        self.figures.fallback_reason = self.figures.fallback_reason or found[0]

    def _not_at_all(self, found: re.Match[str]) -> None:
        self.figures.delegate, self.figures.fallback_reason = found[1], found[0]
        self.figures.nodes_delegated = 0


class _Classic(_Delegation):
    """Blocks of statistics: the first is the warm-up, the second the result."""

    def __init__(self) -> None:
        super().__init__("classic")
        self._blocks: list[dict[str, float]] = []
        self._stated_ns: float | None = None

    def forms(self) -> list[Form]:
        n = NUMBER
        return [
            (r"Graph: \[.+\]", ignore),
            (rf"Initialized session in ({n})ms\.", self._loaded),
            (rf"count=\d+(?: \w+={n})*(?: \(all same\))?", self._block),
            (
                rf"{_TIMINGS}: Init: ({n}), First inference: ({n}), Warmup \(avg\): ({n}), Inference \(avg\): ({n})",
                self._timings,
            ),
            (rf"Average inference timings in us: Warmup: ({n}), Init: ({n}), (?:no stats|Inference): ({n})", self._old),
            (rf"{_MEMORY} \(MB\): init=({n}) overall=({n})", self._memory),
            (rf"Overall peak memory footprint \(MB\) via periodic monitoring: ({n})", self._peak),
            (r"Memory status at the end of exeution:", ignore),  # as the tool spells it
            (rf"[-+] (?:VmRSS|RssAnnon|RssFile|RssShmem)(?: \+ \w+)* *: {n} MB", ignore),
            *self.delegation_forms(),
        ]

    def finished(self) -> Figures:
        figures = self.figures
        if not self._blocks or self._stated_ns is None:
            raise UnknownText("", "its output ends without results")
        # --warmup_runs=0 leaves the block out.
        *warmups, timed = self._blocks
        if len(warmups) > 1:
            raise UnknownText("", f"{len(self._blocks)} blocks of statistics came, one or two were expected")
        if warmups:
            figures.warmup_iterations = int(warmups[0]["count"])
        figures.iterations = int(timed["count"])
        if figures.iterations == 0:
            raise UnknownText("", "it timed no inference")
        # All times are in microseconds. With `(all same)` only the value itself is there.
        same = timed.get("curr") if "avg" not in timed else None
        mean, low, high, std = (
            timed.get(key, default) for key, default in (("avg", same), ("min", same), ("max", same), ("std", None))
        )
        figures.mean_ns, figures.min_ns, figures.max_ns = (None if x is None else x * 1e3 for x in (mean, low, high))
        figures.std_ns = 0.0 if same is not None else None if std is None else std * 1e3
        names = {"p5": "p5", "median": "p50", "p95": "p95"}
        figures.percentiles_ns = {name: timed[key] * 1e3 for key, name in names.items() if key in timed}
        # The same figure twice, printed to six digits: they differ where the text is of two runs.
        if figures.mean_ns is None or abs(figures.mean_ns - self._stated_ns) > max(1e3, 1e-4 * self._stated_ns):
            raise UnknownText("", f"its two averages disagree: {figures.mean_ns} and {self._stated_ns} ns")
        return figures

    def _loaded(self, found: re.Match[str]) -> None:
        self.figures.load_ns = float(found[1]) * 1e6

    def _block(self, found: re.Match[str]) -> None:
        self._blocks.append({key: float(value) for key, value in re.findall(rf"(\w+)=({NUMBER})", found[0])})

    def _timings(self, found: re.Match[str]) -> None:
        init, first, warmup, mean = (float(found[group]) * 1e3 for group in (1, 2, 3, 4))
        self.figures.load_ns, self._stated_ns = init, mean
        if len(self._blocks) > 1:
            self.figures.first_inference_ns, self.figures.warmup_mean_ns = first, warmup

    def _old(self, found: re.Match[str]) -> None:
        warmup, init, mean = (float(found[group]) * 1e3 for group in (1, 2, 3))
        self.figures.load_ns, self._stated_ns = init, mean
        if len(self._blocks) > 1:
            self.figures.warmup_mean_ns = warmup

    def _memory(self, found: re.Match[str]) -> None:
        self.figures.load_memory_bytes, self.figures.overall_memory_bytes = _bytes(found[1]), _bytes(found[2])

    def _peak(self, found: re.Match[str]) -> None:
        self.figures.peak_bytes = _bytes(found[1])


class _CompiledModel(_Delegation):
    """A table of results, one a line."""

    def __init__(self) -> None:
        super().__init__("compiled-model")

    def forms(self) -> list[Form]:
        ms = rf"({NUMBER}) ms"
        return [
            (rf"Model initialization: +{ms}", self._ms("load_ns")),
            (rf"(?:Warmup \(first\)|First inference): +{ms}", self._ms("first_inference_ns")),
            (rf"Warmup \(avg\): +{ms} \((\d+) runs\)", self._ms("warmup_mean_ns", "warmup_iterations")),
            (rf"Inference \(avg\): +{ms} \((\d+) runs\)", self._ms("mean_ns", "iterations")),
            (rf"Inference \(min\): +{ms}", self._ms("min_ns")),
            (rf"Inference \(max\): +{ms}", self._ms("max_ns")),
            # The only one without a unit; it is that of the lines around it.
            (rf"Inference \(std\): +({NUMBER})(?: ms)?", self._ms("std_ns")),
            (rf"Throughput: +{NUMBER} MB/s", ignore),
            (r"Memory Usage:", ignore),
            (rf"Init footprint: +({NUMBER}) MB", self._mb("load_memory_bytes")),
            (rf"Overall footprint: +({NUMBER}) MB", self._mb("overall_memory_bytes")),
            (rf"Peak memory: +({NUMBER}) MB", self._mb("peak_bytes")),
            (r"Peak memory usage not available\. \(peak_mem_mb <= 0\)", ignore),
            *self.delegation_forms(),
        ]

    def finished(self) -> Figures:
        if self.figures.mean_ns is None or not self.figures.iterations:
            raise UnknownText("", "its results have no average")
        return self.figures

    def _ms(self, name: str, count: str | None = None) -> Callable[[re.Match[str]], None]:
        def keep(found: re.Match[str]) -> None:
            once(self.figures, name, float(found[1]) * 1e6, found[0])
            if count is not None:
                setattr(self.figures, count, int(found[2]))

        return keep

    def _mb(self, name: str) -> Callable[[re.Match[str]], None]:
        return lambda found: once(self.figures, name, _bytes(found[1]), found[0])


def _bytes(megabytes: str) -> int | None:
    """The tool's MB are 2**20 bytes; what it could not read it gives as 0 or less."""
    value = float(megabytes)
    return round(value * _MIB) if value > 0 else None
