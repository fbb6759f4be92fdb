"""The official tools' output, two releases of each, whole and damaged.

`PYTHON_OLD` and `PYTHON_NEW` are what `litert-benchmark` of LiteRT 2.1.6 and 2.3.0 printed here, less repeated lines of
their logs. No package brings the other tools: their transcripts follow the formats that the sources print and that
people have pasted; their figures are made up, and so are no measurements.
"""

from __future__ import annotations

import pytest

from harness.measure.official import benchmark_model, executor_runner, litert_benchmark, onnxruntime_perf_test
from harness.measure.official.lines import ToolFailed, UnknownText

CLASSIC_OLD = """\
STARTING!
Min num runs: [50]
Num threads: [4]
Graph: [/data/local/tmp/m.tflite]
Loaded model /data/local/tmp/m.tflite
The input model file size (MB): 7.07479
Initialized session in 38.467ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=6 first=84000 curr=83000 min=82000 max=84000 avg=83235 std=600

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=79212 curr=80055 min=78737 max=84776 avg=79760.9 std=1948

Average inference timings in us: Warmup: 83235, Init: 38467, Inference: 79760.9
"""
CLASSIC_NEW = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Num threads: [4]
INFO: Graph: [/data/local/tmp/m.tflite]
INFO: Loaded model /data/local/tmp/m.tflite
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: Replacing 470 out of 476 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 7 partitions for subgraph 0.
INFO: Explicitly applied XNNPACK delegate, and the model graph will be partially executed by the \
delegate w/ 3 delegate kernels.
INFO: The input model file size (MB): 7.07479
INFO: Initialized session in 870.557ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=5 first=130565 curr=119500 min=119000 max=130565 avg=122373 std=4000 p5=119000 median=120000 p95=130565
INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=50 first=119212 curr=118055 min=113737 max=124776 avg=119375 std=1948 p5=115000 median=119300 p95=123000
INFO: Inference timings in us: Init: 870557, First inference: 130565, Warmup (avg): 122373, Inference (avg): 119375
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual.
INFO: Memory footprint delta from the start of the tool (MB): init=156.055 overall=178.805
"""
COMPILED_FIRST = """\
INFO: [benchmark_litert_model.h:178] Num threads: [4]
INFO: [environment.cc:36] Creating LiteRT environment with options
INFO: [benchmark_litert_model.h:201] Loaded model m.tflite
INFO: [benchmark_litert_model.h:210]
========== BENCHMARK RESULTS ==========
INFO: [benchmark_litert_model.h:211] Model initialization: 45.32 ms
INFO: [benchmark_litert_model.h:213] First inference:      120.45 ms
INFO: [benchmark_litert_model.h:215] Warmup (avg):         98.76 ms (1 runs)
INFO: [benchmark_litert_model.h:217] Inference (avg):      85.23 ms (50 runs)
INFO: [benchmark_litert_model.h:219] Inference (min):      82.11 ms
INFO: [benchmark_litert_model.h:221] Inference (max):      92.45 ms
INFO: [benchmark_litert_model.h:223] Inference (std):      3.21
INFO: [benchmark_litert_model.h:225] Throughput:           12.45 MB/s
INFO: [benchmark_litert_model.h:227] Memory Usage:
INFO: [benchmark_litert_model.h:229] Init footprint:       25.60 MB
INFO: [benchmark_litert_model.h:231] Overall footprint:    28.34 MB
INFO: [benchmark_litert_model.h:233] Peak memory usage not available. (peak_mem_mb <= 0)
INFO: [benchmark_litert_model.h:235] ======================================
"""
COMPILED_SECOND = (
    COMPILED_FIRST.replace("First inference:  ", "Warmup (first):   ")
    .replace("(std):      3.21", "(std):      3.21 ms")
    .replace("Peak memory usage not available. (peak_mem_mb <= 0)", "Peak memory:          32.10 MB")
)
PERF_OLD = """\
Setting intra_op_num_threads to 2
Session creation time cost: 0.217932 s
Total inference time cost: 0.49481 s
Total inference requests: 5
Average inference time cost: 98.962 ms
Total inference run time: 0.494854 s
Avg CPU usage: 11 %
Peak working set size: 271122432 bytes
Avg CPU usage:11
Peak working set size:271122432
Runs:5
Min Latency is 0.0958sec
Max Latency is 0.1023sec
P50 Latency is 0.0976sec
P90 Latency is 0.1023sec
P999 Latency is 0.1023sec
"""
PERF_NEW = """\
Setting intra_op_num_threads to 2
2026-01-02 03:04:05.678901 [W:onnxruntime:, session_state.cc:1316 VerifyEachNodeIsAssignedToAnEp] Some nodes were not \
assigned to the preferred execution providers which may or may not have an negative impact on performance.
2026-01-02 03:04:05.678902 [W:onnxruntime:, session_state.cc:1318 VerifyEachNodeIsAssignedToAnEp] Rerunning with \
verbose output on a non-minimal build will show node assignments.
2026-01-02 03:04:05.678903 [I:onnxruntime:, nnapi.cc:9 GetCapability] NnapiExecutionProvider::GetCapability, number of \
partitions supported by NNAPI: 3 number of nodes in the graph: 140 number of nodes supported by NNAPI: 133
Session creation time cost: 0.217932 s
First inference time cost: 196 ms
Total inference time cost: 0.49481 s
Total inference requests: 5
Average inference time cost total: 98.961997 ms
Total inference run time: 0.494854 s
Number of inferences per second: 10.104
Avg CPU usage: 11 %
Peak working set size: 271122432 bytes
Runs:5
Min Latency: 0.0958 s
Max Latency: 0.1023 s
P50 Latency: 0.0976 s
P95 Latency: 0.1023 s
P999 Latency: 0.1023 s
"""
LITERT_LOGS = """\
INFO: [environment.cc:36] Creating LiteRT environment with options
INFO: [accelerator_registry.cc:54] RegisterAccelerator: ptr=0x55cfc7ef73e0, name=NpuAccelerator
WARNING: [npu_registry.cc:34] NPU accelerator could not be loaded and registered: kLiteRtStatusErrorNotFound.
INFO: [gpu_registry.cc:130] Attempting to load GPU accelerator(libLiteRtGpuAccelerator.so).
INFO: [compiler_plugin.cc:250] Loading plugin at: vendors/libLiteRtCompilerPlugin_IntelOpenvino.so
WARNING: [compiler_plugin.cc:312] Failed to load plugin at: vendors/libLiteRtCompilerPlugin_IntelOpenvino.so with \
error: ERROR: [litert/compiler/plugin/compiler_plugin.cc:259]
└ Could not load shared library libopenvino.so.2631: cannot open shared object file: No such file or directory.
INFO: [compiled_model.cc:829] Flatbuffer model initialized directly from incoming litert model.
ERROR: [dispatch_delegate.cc:116] Failed to initialize Dispatch API: \
ERROR: [litert/runtime/dispatch/dispatch_delegate.cc:175]
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
"""
PYTHON_OLD = (
    """\

========================================
 BENCHMARK RESULTS
========================================
Model initialization:  1.07 ms
Warmup (first):        2.14 ms
Warmup (avg):          1.33 ms (5 runs)
Inference (avg):       0.18 ms (20 runs)
Inference (min):       0.16 ms
Inference (max):       0.34 ms
Inference (median):    0.17 ms
Inference (std):       0.04 ms
Inference (p5):        0.16 ms
Inference (p95):       0.24 ms
Throughput:            41712.35 MB/s
Fully accelerated:     True
========================================
"""
    + LITERT_LOGS
)
PYTHON_NEW = """\
2026-11-27 11:02:32 INFO benchmark_litert_model: Model:           many_outputs.tflite
2026-11-27 11:02:32 INFO benchmark_litert_model: Accelerators:    CPU
2026-11-27 11:02:32 INFO benchmark_litert_model: Running 50 benchmark iterations...

========================================
 BENCHMARK RESULTS
========================================
Model initialization:  1.24 ms
Warmup (first):        0.08 ms
Warmup (avg):          0.02 ms (5 runs)
Inference (avg):       0.17 ms (50 runs)
Inference (min):       0.01 ms
Inference (max):       8.06 ms
Inference (median):    0.01 ms
Inference (std):       1.14 ms
Inference (p5):        0.01 ms
Inference (p95):       0.01 ms
Throughput:            3.66 MB/s
Fully accelerated:     False
========================================
"""
EXECUTOR_OLD = """\
I 00:00:00.001 executorch:executor_runner.cpp:82] Model file m.pte is loaded.
I 00:00:00.001 executorch:executor_runner.cpp:91] Using method forward
I 00:00:00.001 executorch:executor_runner.cpp:138] Setting up planned buffer 0, size 64.
I 00:00:00.002 executorch:executor_runner.cpp:161] Method loaded.
I 00:00:00.003 executorch:executor_runner.cpp:171] Model executed successfully.
I 00:00:00.003 executorch:executor_runner.cpp:175] 1 outputs:
Output 0: tensor(sizes=[1, 4], [0.1, -2.5e-05, 3., 4.])
"""
EXECUTOR_NEW = EXECUTOR_OLD.replace("successfully.", "successfully 40 time(s) in 12.500000 ms.")


def test_the_classic_tools_second_block_is_the_result_and_its_unit_the_microsecond() -> None:
    found = benchmark_model.read(CLASSIC_OLD)

    assert (found.generation, found.iterations, found.warmup_iterations) == ("classic", 50, 6)
    assert (found.mean_ns, found.min_ns, found.max_ns, found.std_ns) == (79_760_900, 78_737_000, 84_776_000, 1_948_000)
    assert (found.load_ns, found.warmup_mean_ns, found.first_inference_ns) == (38_467_000, 83_235_000, None)
    assert (found.percentiles_ns, found.nodes_total, found.load_memory_bytes) == ({}, None, None)


def test_a_newer_classic_tool_has_prefixes_percentiles_memory_and_what_the_delegate_left() -> None:
    found = benchmark_model.read(CLASSIC_NEW)

    assert (found.mean_ns, found.first_inference_ns, found.load_ns) == (119_375_000, 130_565_000, 870_557_000)
    assert found.percentiles_ns == {"p5": 115_000_000, "p50": 119_300_000, "p95": 123_000_000}
    assert (found.nodes_delegated, found.nodes_total, found.partitions) == (470, 476, 7)
    assert found.fallback_reason == "6 of 476 nodes were left to the CPU"
    assert found.overall_memory_bytes == round(178.805 * 2**20)
    assert found.peak_bytes is None


@pytest.mark.parametrize(("text", "peak"), [(COMPILED_FIRST, None), (COMPILED_SECOND, round(32.1 * 2**20))])
def test_both_releases_of_the_compiled_models_tool_are_read(text: str, peak: int | None) -> None:
    found = benchmark_model.read(text)

    assert (found.generation, found.iterations, found.warmup_iterations) == ("compiled-model", 50, 1)
    assert found.mean_ns == pytest.approx(85_230_000)
    assert found.std_ns == pytest.approx(3_210_000)
    assert found.first_inference_ns == pytest.approx(120_450_000)
    assert (found.peak_bytes, found.load_memory_bytes) == (peak, round(25.6 * 2**20))
    # It never says how much of the graph is accelerated.
    assert (found.nodes_total, found.nodes_delegated) == (None, None)


def test_a_delegate_that_took_nothing_is_no_accelerated_figure() -> None:
    line = "Though NNAPI delegate is explicitly applied, the model graph will not be executed by the delegate."
    found = benchmark_model.read(CLASSIC_OLD.replace("The input model", f"{line}\nThe input model"))

    assert (found.delegate, found.nodes_delegated, found.fallback_reason) == ("NNAPI", 0, line)


def test_of_several_delegates_no_share_is_claimed() -> None:
    line = "Replacing 3 out of 9 node(s) with delegate (Other) node, yielding 2 partitions.\n"
    found = benchmark_model.read(CLASSIC_NEW.replace("INFO: The input", f"INFO: {line}INFO: The input"))

    assert (found.nodes_delegated, found.nodes_total) == (None, None)
    assert found.delegate == "TfLiteXNNPackDelegate, Other"


def test_one_value_for_all_runs_is_a_standard_deviation_of_zero() -> None:
    same = "count=50 curr=79761 (all same)"
    text = CLASSIC_OLD.replace("count=50 first=79212 curr=80055 min=78737 max=84776 avg=79760.9 std=1948", same)
    found = benchmark_model.read(text)

    assert (found.mean_ns, found.min_ns, found.std_ns) == (79_761_000, 79_761_000, 0.0)


def test_the_older_perf_test_is_read_with_the_unit_of_each_line() -> None:
    found = onnxruntime_perf_test.read(PERF_OLD)

    assert (found.generation, found.iterations) == ("average", 5)
    assert found.mean_ns == pytest.approx(98_962_000)
    assert found.load_ns == pytest.approx(217_932_000)
    assert found.first_inference_ns is None
    assert found.percentiles_ns == {
        "p50": pytest.approx(97_600_000),
        "p90": pytest.approx(102_300_000),
        "p99.9": pytest.approx(102_300_000),
    }
    assert found.peak_bytes == 271_122_432


def test_the_newer_perf_test_says_the_first_inference_and_the_nodes_that_fell_back() -> None:
    found = onnxruntime_perf_test.read(PERF_NEW)

    assert (found.generation, found.warmup_iterations) == ("average-total", 1)
    assert found.first_inference_ns == pytest.approx(196_000_000)
    assert (found.nodes_delegated, found.nodes_total) == (133, 140)
    assert found.fallback_reason is not None
    assert found.fallback_reason.startswith("Some nodes were not assigned to the preferred execution providers")


def test_an_older_executor_runner_gives_no_time_and_none_is_made_up() -> None:
    found = executor_runner.read(EXECUTOR_OLD)

    assert (found.generation, found.mean_ns, found.iterations) == ("untimed", None, None)


def test_a_newer_executor_runner_gives_the_total_of_all_executions() -> None:
    found = executor_runner.read(EXECUTOR_NEW)

    assert (found.generation, found.iterations) == ("timed", 40)
    assert found.mean_ns == pytest.approx(312_500)


def test_litert_benchmark_gives_percentiles_and_says_where_something_was_left() -> None:
    old, new = litert_benchmark.read(PYTHON_OLD), litert_benchmark.read(PYTHON_NEW)

    assert (old.mean_ns, old.min_ns, old.max_ns, old.std_ns) == pytest.approx((180_000, 160_000, 340_000, 40_000))
    assert (old.iterations, old.warmup_iterations, old.fallback_reason) == (20, 5, None)
    assert (old.load_ns, old.first_inference_ns) == pytest.approx((1_070_000, 2_140_000))
    assert old.percentiles_ns == pytest.approx({"p5": 160_000, "p50": 170_000, "p95": 240_000})
    assert new.fallback_reason is not None
    assert (new.nodes_total, new.nodes_delegated) == (None, None)


def test_what_the_runtime_logs_of_plugins_that_it_lacks_is_no_failure_of_the_tool() -> None:
    assert benchmark_model.read(LITERT_LOGS + COMPILED_FIRST).mean_ns == pytest.approx(85_230_000)


def test_onnxruntimes_own_log_is_no_failure_and_its_errors_are() -> None:
    line = (
        "2026-01-02 03:04:05.678 [{}:onnxruntime:, graph.cc:2412 CleanUnusedInitializers] Removing initializer 'x'.\n"
    )

    assert onnxruntime_perf_test.read(line.format("W") + PERF_OLD).mean_ns == pytest.approx(98_962_000)
    with pytest.raises(ToolFailed):
        onnxruntime_perf_test.read(line.format("E") + PERF_OLD)


def test_the_oldest_releases_that_are_read() -> None:
    peak = "Peak memory footprint (MB): init=0 overall=12.5\n"
    threads = "Duplicate flags: num_threads\n#threads used for CPU inference: [4]\n"

    assert benchmark_model.read(threads + CLASSIC_OLD + peak).overall_memory_bytes == 12.5 * 2**20
    assert onnxruntime_perf_test.read(PERF_OLD.replace("cost: ", "cost:")).mean_ns == pytest.approx(98_962_000)


READERS = [
    (benchmark_model.read, CLASSIC_OLD),
    (benchmark_model.read, CLASSIC_NEW),
    (benchmark_model.read, COMPILED_FIRST),
    (benchmark_model.read, COMPILED_SECOND),
    (onnxruntime_perf_test.read, PERF_OLD),
    (onnxruntime_perf_test.read, PERF_NEW),
    (executor_runner.read, EXECUTOR_OLD),
    (executor_runner.read, EXECUTOR_NEW),
    (litert_benchmark.read, PYTHON_OLD),
    (litert_benchmark.read, PYTHON_NEW),
]
IDS = [
    *("classic-old", "classic-new", "compiled-1", "compiled-2", "perf-old", "perf-new", "executor-old", "executor-new"),
    *("python-old", "python-new"),
]


@pytest.mark.parametrize(("read", "text"), READERS, ids=IDS)
def test_a_line_that_nobody_knows_is_refused(read: object, text: str) -> None:
    with pytest.raises(UnknownText, match="All figures are now in fortnights"):
        read(f"All figures are now in fortnights.\n{text}")  # type: ignore[operator]


@pytest.mark.parametrize(("read", "text"), READERS, ids=IDS)
def test_what_ends_before_its_results_is_refused(read: object, text: str) -> None:
    with pytest.raises(UnknownText):
        read("\n".join(text.splitlines()[:4]))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("read", "text", "says"),
    [
        (benchmark_model.read, CLASSIC_OLD + "Benchmarking failed.\n", "Benchmarking failed"),
        (benchmark_model.read, CLASSIC_NEW + "ERROR: Disallowed CPU fallback detected.\n", "CPU fallback"),
        (onnxruntime_perf_test.read, "fallback to CPU EP has been explicitly disabled by the user.\n", "explicitly"),
        (executor_runner.read, "E 00:00:00.001 executorch:executor_runner.cpp:9] Failed to open m.pte\n", "open m.pte"),
        (
            litert_benchmark.read,
            "2026-11-27 11:02:33 ERROR benchmark_litert_model: Model file not found: x\n",
            "not found",
        ),
        (litert_benchmark.read, 'Traceback (most recent call last):\n  File "x", line 1\nRuntimeError: no\n', "no$"),
    ],
)
def test_a_failure_that_the_tool_tells_is_told(read: object, text: str, says: str) -> None:
    with pytest.raises(ToolFailed, match=says):
        read(text)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (benchmark_model.read, CLASSIC_OLD.replace("Inference: 79760.9", "Inference: 60000")),
        (benchmark_model.read, CLASSIC_NEW.replace("Replacing 470 out", "Replacing 4700 out")),
        (benchmark_model.read, COMPILED_FIRST + "Inference (min): 1.0 ms\n"),
        (onnxruntime_perf_test.read, PERF_OLD.replace("Runs:5", "Runs:6")),
        (onnxruntime_perf_test.read, PERF_NEW.replace("total: 98.961997", "total: 9.8961997")),
        (executor_runner.read, EXECUTOR_NEW.replace("40 time(s)", "0 time(s)")),
        (litert_benchmark.read, PYTHON_OLD.replace("0.18 ms (20", "1.18 ms (20")),
        (litert_benchmark.read, PYTHON_OLD.replace("0.18 ms (20", "0.00 ms (20")),
        (litert_benchmark.read, PYTHON_OLD + "Inference (min): 0.01 ms\n"),
    ],
)
def test_figures_that_contradict_each_other_are_refused(read: object, text: str) -> None:
    with pytest.raises(UnknownText):
        read(text)  # type: ignore[operator]
