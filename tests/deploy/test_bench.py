"""The native loop as a real process: the Python worker's words, its answers, and an end for every fault."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.deploy.bench_build import SOURCES
from harness.deploy.runtimes import installed_library
from harness.deploy.worker.system import ConditionsWatch
from harness.device.host import HostDevice
from harness.errors import ParityFailed, RunnerDied, RunnerHung, RuntimeRefused, UnreadableModel
from harness.measure.operators import read_profile
from harness.measure.program import run_program
from harness.protocol import (
    Canary,
    End,
    First,
    Job,
    Loaded,
    Memory,
    Message,
    Meta,
    Outputs,
    Profile,
    ProgramError,
    TimedBlock,
    Warmup,
    read_message,
)
from harness.records import RuntimeChoice, Setting
from tests.fakes.models import save_dense_onnx
from tests.fakes.tflite import save_cast, save_custom, save_sub

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

DATA = Path(__file__).parents[1] / "data"
SAMPLES = 3
LIBRARIES = {name: library for name in ("onnxruntime", "litert") if (library := installed_library(name))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    save_dense_onnx(folder / "dense.onnx")
    save_dense_onnx(folder / "nan.onnx", np.full((8, 4), np.nan, dtype=np.float32))
    save_dense_onnx(folder / "unknown.onnx", op="NoSuchOp")
    save_casts(folder / "casts.onnx")
    save_shapeless(folder / "shapeless.onnx")
    save_choice(folder / "choice.onnx")
    save_sub(folder / "sub.tflite")
    save_sub(folder / "free.tflite", free_batch=True)
    save_custom(folder / "custom.tflite", "NoSuchOp")
    for dtype in ("int64", "float16", "uint8", "bool"):
        save_cast(folder / f"{dtype}.tflite", dtype, "float32")
        save_cast(folder / f"to_{dtype}.tflite", "float32", dtype)
    for name in ("tiny.onnx", "tiny.tflite", "tiny_int8.tflite", "many_outputs.tflite", "partial.tflite"):
        (folder / name).write_bytes((DATA / name).read_bytes())
    for name in ("dense.onnx", "tiny.tflite"):
        whole, suffix = (folder / name).read_bytes(), Path(name).suffix
        (folder / f"cut{suffix}").write_bytes(whole[: len(whole) * 2 // 3])
        (folder / f"foreign{suffix}").write_bytes(np.random.default_rng(1).bytes(5000))
        (folder / f"empty{suffix}").write_bytes(b"")
    np.zeros((SAMPLES, 4), dtype=np.float32).tofile(folder / "four.bin")
    return folder


def save_casts(path: Path) -> None:
    """Four inputs of four dtypes, each cast, and one of them twice."""
    kinds = {"f16": TensorProto.FLOAT16, "i64": TensorProto.INT64, "u8": TensorProto.UINT8, "b": TensorProto.BOOL}
    nodes = [helper.make_node("Cast", [name], [f"{name}_out"], to=TensorProto.DOUBLE) for name in kinds]
    nodes.append(helper.make_node("Cast", ["i64"], ["i8_out"], to=TensorProto.INT8))
    outputs = {f"{name}_out": TensorProto.DOUBLE for name in kinds} | {"i8_out": TensorProto.INT8}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, ["n", 5]) for name, kind in kinds.items()],
        [helper.make_tensor_value_info(name, kind, ["n", 5]) for name, kind in outputs.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def save_shapeless(path: Path) -> None:
    """How many elements are not zero is known only after a run."""
    graph = helper.make_graph(
        [helper.make_node("NonZero", ["x"], ["where"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])],
        [helper.make_tensor_value_info("where", TensorProto.INT64, [2, "count"])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def save_choice(path: Path, features: int = 512) -> None:
    """One of two bodies is computed, by the sign of the sum of the input: nearly all of the time is within the If."""
    weight = np.random.default_rng(0).standard_normal((features, features)).astype(np.float32)

    def body(name: str) -> onnx.GraphProto:
        nodes = [
            helper.make_node("MatMul", [last, "w"], [out]) for last, out in (("x", f"{name}1"), (f"{name}1", name))
        ]
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])

    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
            helper.make_node("Greater", ["sum", "zero"], ["is_positive"]),
            helper.make_node("If", ["is_positive"], ["y"], then_branch=body("yes"), else_branch=body("no")),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", features])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", features])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.array(0, dtype=np.float32), "zero")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def job_for(folder: Path, model: str, **changes: object) -> Job:
    runtime = "onnxruntime" if model.endswith(".onnx") else "litert"
    settings: dict[str, object] = {
        "choice": RuntimeChoice(runtime=runtime),
        "model": str(folder / model),
        "inputs": (),
        "samples": SAMPLES,
        "output_folder": str(folder / "out"),
        "blocks": 2,
        "block_s": 0.01,
        "warmup_s": 0.01,
        "warmup_cap_s": 0.5,
    }
    return Job(**(settings | changes))  # type: ignore[arg-type]


def say(command: Sequence[str], job: Job, stdin: str = "") -> tuple[list[Message], int, str]:
    done = subprocess.run([*command, *job.argv()], capture_output=True, check=False, timeout=120, input=stdin.encode())
    lines = done.stdout.decode().splitlines()  # strictly UTF-8, whatever a runtime said
    return [read_message(line) for line in lines], done.returncode, done.stderr.decode(errors="replace")


def with_library(bench: Path, runtime: str) -> list[str]:
    library = LIBRARIES[runtime]
    return [str(bench), "--library", library.path, "--library-version", library.version]


def only(messages: Sequence[Message], kind: type[Loaded]) -> Loaded:
    (found,) = [message for message in messages if isinstance(message, kind)]
    return found


def with_inputs(bench: Path, job: Job, folder: Path) -> Job:
    """The job with an input file for each input that the model says it has."""
    probe, _, said = say(with_library(bench, job.choice.runtime), job)
    assert any(isinstance(message, Loaded) for message in probe), said
    rng, paths = np.random.default_rng(0), []
    for index, tensor in enumerate(only(probe, Loaded).inputs):
        shape, dtype = (SAMPLES, *tensor.shape[1:]), np.dtype(tensor.dtype)
        drawn = (
            rng.standard_normal(shape) if dtype.kind == "f" else rng.integers(0, 2 if dtype.kind == "b" else 99, shape)
        )
        path = folder / f"{Path(job.model).name}-{index}.bin"
        drawn.astype(dtype).tofile(path)
        paths.append(str(path))
    return msgspec.structs.replace(job, inputs=tuple(paths))


def answers(messages: Sequence[Message]) -> list[NDArray[np.generic]]:
    (said,) = [message for message in messages if isinstance(message, Outputs)]
    found = only(messages, Loaded).outputs
    return [np.fromfile(path, tensor.dtype) for path, tensor in zip(said.files, found, strict=True)]


@pytest.mark.parametrize(
    "model",
    [
        *("dense.onnx", "tiny.onnx", "casts.onnx", "shapeless.onnx"),
        *("tiny.tflite", "tiny_int8.tflite", "many_outputs.tflite", "partial.tflite", "sub.tflite"),
        *("int64.tflite", "float16.tflite", "uint8.tflite", "bool.tflite", "to_int64.tflite", "to_float16.tflite"),
    ],
)
def test_bench_says_what_the_python_worker_says_and_computes_the_same(bench: Path, folder: Path, model: str) -> None:
    job = with_inputs(bench, job_for(folder, model), folder)
    native, native_code, native_log = say(with_library(bench, job.choice.runtime), job)
    native_answers = answers(native)
    worker, worker_code, worker_log = say([sys.executable, "-m", "harness.deploy.worker"], job)

    assert (native_code, worker_code) == (0, 0), native_log + worker_log
    assert [type(message) for message in native] == [type(message) for message in worker]
    assert [type(message) for message in native] == [
        Meta, Canary, Loaded, First, Outputs, Warmup, TimedBlock, TimedBlock, Canary, End,
    ]  # fmt: skip
    ours, theirs = only(native, Loaded), only(worker, Loaded)
    assert (ours.inputs, ours.outputs) == (theirs.inputs, theirs.outputs)
    assert ours.threads == theirs.threads
    assert ours.graph_optimization is None, "nothing reads it back, and what was asked is no answer"
    assert (ours.nodes_total, ours.nodes_delegated) == (theirs.nodes_total, theirs.nodes_delegated)
    for found, expected in zip(native_answers, answers(worker), strict=True):
        if found.dtype.kind == "f":
            np.testing.assert_allclose(found.astype(np.float64), expected.astype(np.float64), rtol=1e-6, atol=1e-6)
        else:
            np.testing.assert_array_equal(found, expected)


def test_every_line_has_exactly_the_fields_of_the_python_workers(bench: Path, folder: Path) -> None:
    job = with_inputs(bench, job_for(folder, "dense.onnx"), folder)

    def fields(command: list[str]) -> list[tuple[str, list[str]]]:
        done = subprocess.run([*command, *job.argv()], capture_output=True, text=True, check=True, timeout=60)
        return [(line["type"], list(line)) for line in map(json.loads, done.stdout.splitlines())]

    native = fields(with_library(bench, "onnxruntime"))
    assert native == fields([sys.executable, "-m", "harness.deploy.worker"])


@pytest.mark.parametrize("model", ["tiny.onnx", "tiny.tflite"])
def test_a_memory_job_says_baseline_loaded_and_peak_in_rising_order(bench: Path, folder: Path, model: str) -> None:
    job = with_inputs(bench, job_for(folder, model, mode="memory"), folder)
    messages, returncode, _ = say(with_library(bench, job.choice.runtime), job)

    memory = [message for message in messages if isinstance(message, Memory)]
    assert returncode == 0
    assert [message.at for message in memory] == ["baseline", "loaded", "peak"]
    assert 0 < memory[0].resident_bytes <= memory[1].resident_bytes <= memory[2].resident_bytes
    assert {message.source for message in memory} == {"VmHWM (reset before loading)"}
    assert all(message.pss_bytes and message.private_dirty_bytes and message.rss_anon_bytes for message in memory)


@pytest.mark.parametrize("model", ["tiny.onnx", "tiny.tflite"])
def test_memory_does_not_grow_with_the_number_of_inferences(bench: Path, folder: Path, model: str) -> None:
    def peak(iterations: int) -> int:
        job = job_for(folder, model, mode="memory", memory_iterations=iterations)
        messages, _, _ = say(with_library(bench, job.choice.runtime), with_inputs(bench, job, folder))
        return next(
            message.resident_bytes for message in messages if isinstance(message, Memory) and message.at == "peak"
        )

    assert peak(5000) - peak(50) < 2**20


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("model", ["tiny.onnx", "tiny.tflite"])
def test_the_threads_that_run_are_counted_in_the_process(bench: Path, folder: Path, model: str, threads: int) -> None:
    job = job_for(folder, model)
    choice = msgspec.structs.replace(job.choice, threads=threads)
    messages, _, _ = say(with_library(bench, choice.runtime), msgspec.structs.replace(job, choice=choice))

    assert only(messages, Loaded).threads == threads


def test_inputs_are_in_the_files_order_also_where_the_signature_has_another(bench: Path, folder: Path) -> None:
    a = np.arange(SAMPLES * 4, dtype=np.float32).reshape(SAMPLES, 4)
    a.tofile(folder / "a.bin")
    inputs = (str(folder / "a.bin"), str(folder / "four.bin"))
    messages, _, log = say(with_library(bench, "litert"), job_for(folder, "sub.tflite", inputs=inputs))

    assert [tensor.name for tensor in only(messages, Loaded).inputs] == ["a", "b"], log
    np.testing.assert_array_equal(answers(messages)[0], a.ravel())


def test_a_free_batch_dimension_becomes_one(bench: Path, folder: Path) -> None:
    inputs = (str(folder / "four.bin"), str(folder / "four.bin"))
    messages, returncode, log = say(with_library(bench, "litert"), job_for(folder, "free.tflite", inputs=inputs))

    assert returncode == 0, log
    loaded = only(messages, Loaded)
    assert [tensor.shape for tensor in (*loaded.inputs, *loaded.outputs)] == [(1, 4)] * 3


@pytest.mark.parametrize(
    ("model", "accelerator"), [("partial.tflite", "xnnpack"), ("partial.tflite", "cpu"), ("partial.tflite", "builtin")]
)
def test_nodes_that_xnnpack_left_are_counted_as_the_python_worker_counts_them(
    bench: Path, folder: Path, model: str, accelerator: str
) -> None:
    job = with_inputs(bench, job_for(folder, model), folder)
    job = msgspec.structs.replace(job, choice=RuntimeChoice(runtime="litert", accelerator=accelerator))
    ours = only(say(with_library(bench, "litert"), job)[0], Loaded)
    theirs = only(say([sys.executable, "-m", "harness.deploy.worker"], job)[0], Loaded)

    assert ours.nodes_by_accelerator == theirs.nodes_by_accelerator
    assert (ours.nodes_total, ours.nodes_delegated) == (theirs.nodes_total, theirs.nodes_delegated)
    # The worker goes on to name them.
    assert str(theirs.fallback_reason).startswith(str(ours.fallback_reason))


@pytest.mark.parametrize(
    ("model", "changes", "kind", "says"),
    [
        ("cut.onnx", {}, "unreadable_model", "Protobuf parsing failed"),
        ("foreign.onnx", {}, "unreadable_model", "Protobuf parsing failed"),
        ("empty.onnx", {}, "unreadable_model", "No graph"),
        ("none.onnx", {}, "unreadable_model", "doesn't exist"),
        ("cut.tflite", {}, "unreadable_model", "not a valid TFLite flatbuffer"),
        ("foreign.tflite", {}, "unreadable_model", "not a valid TFLite flatbuffer"),
        ("empty.tflite", {}, "unreadable_model", "empty"),
        ("none.tflite", {}, "unreadable_model", "No such file"),
        ("unknown.onnx", {}, "unsupported_op", "NoSuchOp"),
        ("custom.tflite", {}, "unsupported_op", "NoSuchOp"),
        ("dense.onnx", {}, "wrong_input", "1 inputs, the data are 0 files"),
        ("dense.onnx", {"inputs": ("four.bin",)}, "wrong_input", "96 bytes for 3 samples, the data are 48"),
        ("dense.onnx", {"inputs": ("none.bin",)}, "wrong_input", "No such file"),
        ("tiny.tflite", {"inputs": ("four.bin",)}, "wrong_input", "for 3 samples, the data are 48"),
        ("dense.onnx", {"choice": RuntimeChoice(runtime="onnxruntime", accelerator="qnn")}, "no_accelerator", "CPU"),
        ("tiny.tflite", {"choice": RuntimeChoice(runtime="litert", accelerator="gpu")}, "no_accelerator", "xnnpack"),
        ("dense.onnx", {"choice": RuntimeChoice(runtime="onnxruntime", options={"a": 1})}, "bad_setting", "options"),
        ("tiny.tflite", {"choice": RuntimeChoice(runtime="litert", options={"a": 1})}, "bad_setting", "options"),
        (
            "dense.onnx",
            {"choice": RuntimeChoice(runtime="onnxruntime", graph_optimization="most")},
            "bad_setting",
            "not 'most'",
        ),
    ],
)
def test_a_refusal_has_the_workers_kind_and_says_why(
    bench: Path, folder: Path, model: str, changes: dict[str, object], kind: str, says: str
) -> None:
    if isinstance(inputs := changes.get("inputs"), tuple):
        changes = changes | {"inputs": tuple(str(folder / name) for name in inputs)}
    job = job_for(folder, model, **changes)
    messages, returncode, log = say(with_library(bench, job.choice.runtime), job)

    assert returncode == 1, log
    assert isinstance(messages[-1], ProgramError)
    assert messages[-1].kind == kind, messages[-1]
    assert says in messages[-1].message


@pytest.mark.parametrize(
    ("flags", "kind", "says"),
    [
        ([], "missing_tool", "--library FILE"),
        (["--library", "/no/such/library.so"], "missing_tool", "/no/such/library.so"),
        (["--library", LIBRARIES["litert"].path], "missing_tool", "OrtGetApiBase"),
        (
            ["--library", LIBRARIES["onnxruntime"].path, "--library-version", "0.1"],
            "wrong_version",
            "asked for was 0.1",
        ),
    ],
)
def test_a_library_that_is_not_there_or_another_one_is_said(
    bench: Path, folder: Path, flags: list[str], kind: str, says: str
) -> None:
    messages, returncode, _ = say([str(bench), *flags], job_for(folder, "dense.onnx"))

    (error,) = messages
    assert returncode == 1
    assert isinstance(error, ProgramError)
    assert (error.kind, says in error.message) == (kind, True), error


def test_a_runtime_that_it_does_not_know_is_refused_by_name(bench: Path, folder: Path) -> None:
    messages, _, _ = say([str(bench)], job_for(folder, "dense.onnx", choice=RuntimeChoice(runtime="tvm")))

    assert messages == [
        ProgramError(kind="unknown_name", message="this program knows the runtimes onnxruntime, litert, not 'tvm'")
    ]


@pytest.mark.parametrize("flags", [["--no-such-flag", "1"], ["--threads", "two"], ["--mode", "speed"], ["--blocks"]])
def test_flags_that_make_no_sense_end_with_code_two_and_a_usage(bench: Path, folder: Path, flags: list[str]) -> None:
    argv = [str(bench), *job_for(folder, "dense.onnx").argv(), *flags]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)

    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: bench" in done.stderr


def test_option_values_arrive_as_the_runtime_takes_them(bench: Path, folder: Path) -> None:
    options: dict[str, Setting] = {
        "session.intra_op.allow_spinning": False,
        "session.text": 'quo"te \\ é 😀 \x01',
        "session.number": 1.5,
    }
    choice = RuntimeChoice(runtime="onnxruntime", options=options)
    job = with_inputs(bench, job_for(folder, "dense.onnx", choice=choice), folder)

    said, returncode, log = say(with_library(bench, "onnxruntime"), job)
    assert returncode == 0, log
    assert isinstance(said[0], Meta)
    assert said[0].asked == job.asked()
    assert said[0].asked.options["session.intra_op.allow_spinning"] == "0"


@pytest.mark.parametrize("mode", ["latency", "memory", "profile"])
def test_both_programs_say_what_they_were_asked_for(bench: Path, folder: Path, mode: str) -> None:
    choice = RuntimeChoice(runtime="onnxruntime", threads=2, graph_optimization="basic")
    job = with_inputs(bench, job_for(folder, "dense.onnx", choice=choice), folder)
    job = msgspec.structs.replace(job, mode=mode, memory_iterations=3, profile_iterations=4, blocks=3, block_s=1 / 30)

    for command in (with_library(bench, "onnxruntime"), [sys.executable, "-m", "harness.deploy.worker"]):
        meta = say(command, job)[0][0]

        assert isinstance(meta, Meta)
        assert meta.asked == job.asked()


@pytest.mark.parametrize(
    ("change", "is_that"),
    [
        (lambda version: version, True),
        (lambda version: f"{version}.post1", True),
        (lambda version: f"{version}+cpu", True),
        (lambda version: f"{version}.0", True),
        (lambda version: f"{version}.1", False),
        (lambda version: f"{version}1", False),
        (lambda version: version.rpartition(".")[0] + ".99", False),
        (lambda version: version.removesuffix(".0") if version.endswith(".0") else version, True),
    ],
)
def test_a_version_is_its_numbers(bench: Path, folder: Path, change: Callable[[str], str], *, is_that: bool) -> None:
    library = LIBRARIES["onnxruntime"]
    job = with_inputs(bench, job_for(folder, "dense.onnx"), folder)
    command = [str(bench), "--library", library.path, "--library-version", change(library.version)]

    said, returncode, log = say(command, job)

    assert (returncode == 0) is is_that, log
    assert is_that or (isinstance(said[-1], ProgramError) and said[-1].kind == "wrong_version")


def test_answers_that_are_not_numbers_are_the_same_answers(bench: Path, folder: Path) -> None:
    job = with_inputs(bench, job_for(folder, "nan.onnx"), folder)
    messages, returncode, _ = say(with_library(bench, "onnxruntime"), job)

    assert returncode == 0
    assert np.isnan(answers(messages)[0].astype(np.float64)).all()


# --- a runtime that misbehaves --------------------------------------------------------------------------------------


def fake_job(folder: Path, **changes: object) -> Job:
    x = np.arange(SAMPLES * 4, dtype=np.float32)
    x.tofile(folder / "fake.bin")
    settings: dict[str, object] = {"inputs": (str(folder / "fake.bin"),), "block_iterations": 30}
    return job_for(folder, "tiny.tflite", **(settings | changes))


def run_fake(bench: Path, library: Path, job: Job, *, timeout_s: float = 60) -> None:
    run_program(HostDevice(), job, [str(bench), "--library", str(library)], timeout_s=timeout_s)


def test_a_crash_while_loading_is_an_ending_by_signal_with_the_runtimes_last_words(
    bench: Path, folder: Path, fake_litert: Callable[..., Path]
) -> None:
    with pytest.raises(RunnerDied) as caught:
        run_fake(bench, fake_litert("crash in load"), fake_job(folder))

    assert caught.value.returncode == -signal.SIGABRT
    assert "the last words of a fake runtime" in caught.value.last_words


def test_a_crash_in_a_block_is_an_ending_by_signal(bench: Path, folder: Path, fake_litert: Callable[..., Path]) -> None:
    with pytest.raises(RunnerDied) as caught:
        run_fake(bench, fake_litert("crash in run", runs_before=40), fake_job(folder))

    assert caught.value.signal_name == "SIGABRT"


def test_a_runtime_that_hangs_is_ended_and_the_last_message_named(
    bench: Path, folder: Path, fake_litert: Callable[..., Path]
) -> None:
    began = time.monotonic()
    with pytest.raises(RunnerHung) as caught:
        run_fake(bench, fake_litert("hang in run", runs_before=0), fake_job(folder), timeout_s=2)

    assert caught.value.last_message == "loaded"
    assert time.monotonic() - began < 10


def test_a_stream_that_stops_in_the_middle_is_no_result_although_the_exit_code_is_zero(
    bench: Path, folder: Path, fake_litert: Callable[..., Path]
) -> None:
    with pytest.raises(RunnerDied) as caught:
        run_fake(bench, fake_litert("exit in run"), fake_job(folder))

    assert caught.value.returncode == 0


def test_a_stream_that_is_cut_by_a_kill_is_no_result(
    bench: Path, folder: Path, fake_litert: Callable[..., Path]
) -> None:
    job = fake_job(folder, block_s=30.0)
    program = HostDevice().start([str(bench), "--library", str(fake_litert()), *job.argv()], environment={})
    lines = program.lines(timeout_s=30)
    for line in lines:
        message = read_message(line)
        if isinstance(message, Warmup):
            break
        if isinstance(message, Meta):
            pid = message.pid
    os.kill(pid, signal.SIGKILL)

    assert list(lines) == []
    assert program.wait(timeout_s=10) == -signal.SIGKILL


def test_a_failing_inference_is_a_refusal_with_the_status(
    bench: Path, folder: Path, fake_litert: Callable[..., Path]
) -> None:
    with pytest.raises(RuntimeRefused, match="RunCompiledModel returned status 3") as caught:
        run_fake(bench, fake_litert("error in run"), fake_job(folder))

    assert caught.value.reason == "run_failed"


@pytest.mark.parametrize(("fault", "says"), [("drift", "changed by 0.0599"), ("nan", "changed by")])
def test_answers_that_change_while_timing_are_wrong_numbers(
    bench: Path, folder: Path, fake_litert: Callable[..., Path], fault: str, says: str
) -> None:
    with pytest.raises((RuntimeRefused, ParityFailed), match=says) as caught:
        run_fake(bench, fake_litert(fault), fake_job(folder))

    assert getattr(caught.value, "reason", "wrong_numbers") == "wrong_numbers"


def test_what_a_runtime_prints_does_not_get_among_the_messages(
    bench: Path, folder: Path, fake_litert: Callable[..., Path]
) -> None:
    messages, returncode, log = say([str(bench), "--library", str(fake_litert("print"))], fake_job(folder))

    assert returncode == 0
    assert sum(isinstance(message, End) for message in messages) == 1
    assert "other garbage" in log


def test_a_refusal_is_valid_json_whatever_bytes_the_runtime_said(
    bench: Path, folder: Path, fake_litert: Callable[..., Path]
) -> None:
    messages, _, _ = say([str(bench), "--library", str(fake_litert("refuse in load"))], fake_job(folder))

    assert isinstance(messages[-1], ProgramError)
    assert messages[-1].kind == "unsupported_op"
    assert 'custom op: "Fl�\x01"ex\\ Node 3' in messages[-1].message


def test_a_damaged_model_is_unreadable_to_the_caller(bench: Path, folder: Path) -> None:
    with pytest.raises(UnreadableModel):
        run_program(HostDevice(), job_for(folder, "cut.tflite"), with_library(bench, "litert"), timeout_s=30)


def test_the_loop_itself_takes_less_than_a_microsecond_an_iteration(
    bench: Path, folder: Path, fake_litert: Callable[..., Path]
) -> None:
    job = fake_job(folder, block_s=0.2, blocks=5)
    messages, _, _ = say([str(bench), "--library", str(fake_litert(empty=True))], job)

    blocks = [message for message in messages if isinstance(message, TimedBlock)]
    # The block lasts as long as asked; what is not in a sample is the loop's, and a sample of nothing is its, too.
    each = min(0.2e9 / (len(block.ns) * block.iterations_per_sample) for block in blocks)
    assert each < 1000


# --- the server -----------------------------------------------------------------------------------------------------


def test_a_server_runs_a_block_for_each_line_and_ends_when_told(bench: Path, folder: Path) -> None:
    job = with_inputs(bench, job_for(folder, "dense.onnx"), folder)
    command = [*with_library(bench, "onnxruntime"), "--serve", *job.argv()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        begun = [read_message(process.stdout.readline()) for _ in range(5)]
        assert [type(message) for message in begun] == [Meta, Loaded, First, Outputs, Warmup], "canaries are for runs"
        for index in range(3):
            process.stdin.write(b"block\n")
            process.stdin.flush()
            block = read_message(process.stdout.readline())
            assert isinstance(block, TimedBlock)
            assert block.index == index
            assert sum(block.ns) >= 0.005e9
        process.stdin.write(b"end\n")
        process.stdin.close()
        assert [type(read_message(line)) for line in process.stdout] == [End]
    assert process.returncode == 0


@pytest.mark.parametrize(("said", "problem"), [("block\n", "closed before"), ("bluck\n", "not `bluck`")])
def test_a_server_that_is_left_or_misunderstood_does_not_end_well(
    bench: Path, folder: Path, said: str, problem: str
) -> None:
    job = with_inputs(bench, job_for(folder, "dense.onnx"), folder)
    messages, returncode, _ = say([*with_library(bench, "onnxruntime"), "--serve"], job, stdin=said)

    assert returncode == 1
    assert isinstance(messages[-1], ProgramError)
    assert problem in messages[-1].message


# --- the time of each operator --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "accelerator", "ran"),
    [
        ("tiny.onnx", "cpu", {"CPUExecutionProvider"}),
        ("choice.onnx", "cpu", {"CPUExecutionProvider"}),
        ("tiny.tflite", "cpu", {"xnnpack"}),
        ("tiny.tflite", "builtin", {"builtin"}),
        ("partial.tflite", "cpu", {"xnnpack", "builtin"}),
    ],
)
def test_a_profile_has_every_operator_with_where_it_ran(
    bench: Path, folder: Path, model: str, accelerator: str, ran: set[str]
) -> None:
    job = with_inputs(bench, job_for(folder, model), folder)
    choice = msgspec.structs.replace(job.choice, accelerator=accelerator)
    job = msgspec.structs.replace(job, mode="profile", choice=choice, profile_iterations=3)
    (folder / "out").mkdir(exist_ok=True)

    messages, returncode, log = say(with_library(bench, job.choice.runtime), job)

    assert returncode == 0, log
    (said,) = [message for message in messages if isinstance(message, Profile)]
    profile = read_profile(Path(said.file), said)
    assert {operator.accelerator for operator in profile.operators} == ran
    assert len(profile.inferences_ns) == 3
    # Whole microseconds are rounded up or down for each operator; together they cannot exceed the whole by more.
    assert sum(each.median_ns for each in profile.operators) < max(said.ns) + 1000 * len(profile.operators)


# --- providers with functions of their own ----------------------------------------------------------------------------


def asked_of(
    bench: Path, library: Path, folder: Path, accelerator: str, **options: Setting
) -> tuple[list[Message], str]:
    choice = RuntimeChoice(runtime="onnxruntime", accelerator=accelerator, options=options)
    messages, _, log = say([str(bench), "--library", str(library)], job_for(folder, "dense.onnx", choice=choice))
    return messages, log


def test_nnapi_is_asked_by_its_own_function_with_its_options_as_bits(
    bench: Path, folder: Path, other_providers: Callable[..., Path]
) -> None:
    options: dict[str, Setting] = {"use_fp16": True, "USE_NCHW": False, "cpu_disabled": True}

    messages, log = asked_of(bench, other_providers(has_nnapi=True), folder, "nnapi", **options)

    assert "NNAPI was asked for with the flags 5" in log
    assert any(isinstance(message, Loaded) for message in messages)


@pytest.mark.parametrize(
    ("has_nnapi", "options", "kind", "says"),
    [
        (True, {"use_fp32": True}, "bad_setting", "NNAPI takes use_fp16, use_nchw, cpu_disabled and cpu_only"),
        (True, {"use_fp16": "yes"}, "bad_setting", "use_fp16 = yes came"),
        (False, {}, "no_accelerator", "does not export its function"),
    ],
)
def test_what_nnapi_cannot_be_asked_is_refused(
    bench: Path,
    folder: Path,
    other_providers: Callable[..., Path],
    has_nnapi: bool,
    options: dict[str, Setting],
    kind: str,
    says: str,
) -> None:
    messages, _ = asked_of(bench, other_providers(has_nnapi=has_nnapi), folder, "nnapi", **options)

    refused = messages[-1]
    assert isinstance(refused, ProgramError)
    assert refused.kind == kind
    assert says in refused.message


@pytest.mark.parametrize(("accelerator", "says"), [("cuda", "CUDA"), ("tensorrt", "TensorRT")])
def test_the_real_function_of_an_nvidia_provider_is_what_refuses_it(
    bench: Path, folder: Path, other_providers: Callable[..., Path], accelerator: str, says: str
) -> None:
    messages, _ = asked_of(bench, other_providers(has_nnapi=True), folder, accelerator, device_id=0)

    refused = messages[-1]
    assert isinstance(refused, ProgramError)
    assert refused.kind == "no_accelerator"
    assert f"{says} execution provider is not enabled in this build" in refused.message


# --- the sources ----------------------------------------------------------------------------------------------------


def test_each_function_of_onnx_runtime_is_at_the_place_that_its_header_gives_it() -> None:
    lines = (DATA / "onnxruntime_api_order.txt").read_text(encoding="utf-8").splitlines()
    order = [line for line in lines if not line.startswith("#")]
    source = (SOURCES / "onnxruntime.c").read_text(encoding="utf-8")
    used = [use.partition(")")[0].split(",") for use in source.split("USE(")[1:]]
    places = {parts[2].strip(): int(parts[0]) for parts in used if parts[0].strip().isdigit()}

    assert len(places) == source.count("    USE(")
    assert {name: order.index(name) for name in places} == places


def test_the_sources_compile_without_a_warning(tmp_path: Path) -> None:
    compiler = _own_compiler()
    strict = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
    _compile(compiler, ["-O2", *strict], tmp_path / "bench")


def test_sanitizers_find_nothing(folder: Path, tmp_path: Path, fake_litert: Callable[..., Path]) -> None:
    program = tmp_path / "bench"
    sanitizers = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    _compile(_own_compiler(), sanitizers, program)
    whole = ["dense.onnx", "casts.onnx", "shapeless.onnx", "many_outputs.tflite", "tiny_int8.tflite", "free.tflite"]
    refused = ["cut.onnx", "unknown.onnx", "cut.tflite", "custom.tflite", "foreign.tflite", "none.onnx"]
    jobs = [with_inputs(program, job_for(folder, model), folder) for model in whole]
    jobs += [msgspec.structs.replace(job, mode=mode) for job in jobs for mode in ("memory", "profile")]
    jobs += [job_for(folder, model) for model in refused]
    runs = [(with_library(program, job.choice.runtime), job) for job in jobs]
    runs += [([str(program), "--library", str(fake_litert(fault))], fake_job(folder)) for fault in ("drift", "print")]

    for command, job in runs:
        _, returncode, log = say(command, job)
        assert returncode in {0, 1}, log
        assert "Sanitizer" not in log, log
        assert "runtime error" not in log, log


CLOCKS = """
#include <stdio.h>
#include "system.h"
int main(void) {
    struct conditions now;
    conditions_begin(&now);
    FILE *limit = fopen(SYSFS "/devices/system/cpu/cpufreq/policy4/scaling_max_freq", "w");
    (void)fputs("2600000", limit); /* it cools down meanwhile */
    (void)fclose(limit);
    conditions_end(&now);
    for (size_t clock = 0; clock < now.clocks; clock++) {
        (void)printf("%llu ", (unsigned long long)now.cpu_caps_hz[clock]);
    }
    (void)printf("lowest %.0f, %.1f degrees, at %.0f", now.cpu_cap_hz, now.temperature_celsius, now.cpu_hz);
    return 0;
}
"""


def test_limits_heat_and_the_clock_itself_are_read_as_the_system_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sysfs = tmp_path / "sys"

    def put(path: str, text: str) -> None:
        (sysfs / path).parent.mkdir(parents=True, exist_ok=True)
        (sysfs / path).write_text(f"{text}\n", encoding="ascii")

    # A big core's limit must not fall unseen behind a little one's.
    for policy, khz in ((0, 1_700_000), (10, 2_900_000), (4, 2_000_000)):
        put(f"devices/system/cpu/cpufreq/policy{policy}/scaling_max_freq", str(khz))
    for processor in os.sched_getaffinity(0):
        put(f"devices/system/cpu/cpu{processor}/cpufreq/scaling_cur_freq", "1400000")
    # Only what sits on the processor and can be its temperature: not the battery, nor what is switched off.
    zones = ("battery", 61_000), ("CPU0-thermal", 47_500), ("soc_max", 125_000_000), ("big", 0), ("pmbigger", 99_000)
    for number, (kind, millidegrees) in enumerate(zones):
        put(f"class/thermal/thermal_zone{number}/type", kind)
        put(f"class/thermal/thermal_zone{number}/temp", str(millidegrees))
    (tmp_path / "clocks.c").write_text(CLOCKS, encoding="ascii")
    program = tmp_path / "clocks"
    flags = ["-std=c11", "-D_GNU_SOURCE", f'-DSYSFS="{sysfs}"', f"-I{SOURCES}"]
    sources = [str(tmp_path / "clocks.c"), "system.c", "loop.c", "sha256.c", "failure.c"]
    command = [_own_compiler(), *flags, *sources, "-lm", "-o", str(program)]
    subprocess.run(command, cwd=SOURCES, check=True, capture_output=True, timeout=120)

    said = subprocess.run([str(program)], capture_output=True, text=True, check=True, timeout=60).stdout
    monkeypatch.setattr("harness.deploy.worker.system._SYSFS", sysfs)
    watch = ConditionsWatch()
    put("devices/system/cpu/cpufreq/policy4/scaling_max_freq", "2000000")
    watch.start()
    put("devices/system/cpu/cpufreq/policy4/scaling_max_freq", "2600000")
    found = watch.stop()

    assert said == "1700000000 2000000000 2900000000 lowest 1700000000, 47.5 degrees, at 1400000000"
    assert found.cpu_caps_hz == (1.7e9, 2.0e9, 2.9e9)
    assert (found.temperature_celsius, found.cpu_hz) == (47.5, 1.4e9)


def _own_compiler() -> str:
    import shutil

    found = shutil.which("gcc") or shutil.which("clang")
    assert found is not None, "gcc or clang is needed: apt-get install gcc"
    return found


def _compile(compiler: str, flags: Sequence[str], program: Path) -> None:
    sources = sorted(path.name for path in SOURCES.glob("*.c"))
    command = [compiler, "-std=c11", "-D_GNU_SOURCE", *flags, *sources, "-ldl", "-lm", "-o", str(program)]
    subprocess.run(command, cwd=SOURCES, check=True, capture_output=True, timeout=120)
