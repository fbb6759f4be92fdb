"""The worker as a real process with real runtimes, on models a few nodes large."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness.deploy.worker import system
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
    ProgramError,
    TimedBlock,
    Warmup,
    read_message,
)
from harness.records import RuntimeChoice
from tests.fakes.models import dense_weight, save_dense_onnx

if TYPE_CHECKING:
    from pathlib import Path

SAMPLES = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("worker")
    rng = np.random.default_rng(0)
    save_dense_onnx(folder / "dense.onnx")
    save_dense_onnx(folder / "nan.onnx", np.full((8, 4), np.nan, dtype=np.float32))
    save_dense_onnx(folder / "unknown.onnx", op="NoSuchOp")
    rng.standard_normal((SAMPLES, 8), dtype=np.float32).tofile(folder / "x.bin")
    (folder / "short.bin").write_bytes(b"\0" * 12)
    (folder / "cut.onnx").write_bytes((folder / "dense.onnx").read_bytes()[:60])
    (folder / "cut.tflite").write_bytes(b"\x1c\0\0\0TFL3" + b"\0" * 8)
    return folder


def job(folder: Path, model: str = "dense.onnx", **changes: object) -> Job:
    settings: dict[str, object] = {
        "choice": RuntimeChoice(runtime="onnxruntime"),
        "model": str(folder / model),
        "inputs": (str(folder / "x.bin"),),
        "samples": SAMPLES,
        "output_folder": str(folder / "out"),
        "blocks": 2,
        "block_s": 0.01,
        "warmup_s": 0.01,
        "warmup_cap_s": 0.5,
    }
    return Job(**(settings | changes))  # type: ignore[arg-type]


def say(job: Job) -> tuple[list[Message], int, str]:
    command = [sys.executable, "-m", "harness.deploy.worker", *job.argv()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return [read_message(line) for line in done.stdout.splitlines()], done.returncode, done.stderr


def error_of(job: Job) -> ProgramError:
    messages, returncode, _ = say(job)
    assert returncode == 1
    assert isinstance(messages[-1], ProgramError)
    return messages[-1]


def test_a_latency_job_says_everything_in_order(folder: Path) -> None:
    messages, returncode, _ = say(job(folder))

    assert returncode == 0
    assert [type(message) for message in messages] == [
        Meta, Canary, Loaded, First, Outputs, Warmup, TimedBlock, TimedBlock, Canary, End,
    ]  # fmt: skip


def test_the_outputs_are_those_of_the_model_for_every_sample(folder: Path) -> None:
    say(job(folder))

    x = np.fromfile(folder / "x.bin", dtype=np.float32).reshape(SAMPLES, 8)
    found = np.fromfile(folder / "out" / "output-0.bin", dtype=np.float32).reshape(SAMPLES, 4)
    np.testing.assert_allclose(found, x @ dense_weight(), rtol=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_threads_that_run_are_counted_in_the_process(folder: Path, threads: int) -> None:
    messages, _, _ = say(job(folder, choice=RuntimeChoice(runtime="onnxruntime", threads=threads)))

    (loaded,) = [message for message in messages if isinstance(message, Loaded)]
    assert loaded.threads == threads


@pytest.mark.parametrize("level", ["none", "basic", "extended", "layout", "all"])
def test_the_level_of_graph_optimization_is_read_back_from_the_session(folder: Path, level: str) -> None:
    messages, _, _ = say(job(folder, choice=RuntimeChoice(runtime="onnxruntime", graph_optimization=level)))

    (loaded,) = [message for message in messages if isinstance(message, Loaded)]
    assert loaded.graph_optimization == level
    assert loaded.nodes_by_accelerator == {"CPUExecutionProvider": 1}


def test_a_memory_job_says_baseline_loaded_and_peak_in_rising_order(folder: Path) -> None:
    messages, _, _ = say(job(folder, mode="memory"))

    memory = [message for message in messages if isinstance(message, Memory)]
    assert [message.at for message in memory] == ["baseline", "loaded", "peak"]
    assert memory[0].resident_bytes <= memory[1].resident_bytes <= memory[2].resident_bytes
    assert {message.source for message in memory} == {"VmHWM (reset before loading)"}
    (loaded,) = [message for message in messages if isinstance(message, Loaded)]
    assert (loaded.nodes_total, loaded.placement_missing) == (None, "not asked in a job that measures memory")


def test_a_truncated_onnx_file_is_said_to_be_unreadable(folder: Path) -> None:
    assert error_of(job(folder, "cut.onnx")).kind == "unreadable_model"


def test_a_truncated_tflite_file_is_said_to_be_unreadable(folder: Path) -> None:
    error = error_of(job(folder, "cut.tflite", choice=RuntimeChoice(runtime="litert")))

    assert error.kind in {"unreadable_model", "load_failed"}


def test_an_unsupported_op_is_named(folder: Path) -> None:
    error = error_of(job(folder, "unknown.onnx"))

    assert error.kind == "unsupported_op"
    assert "NoSuchOp" in error.message


def test_an_input_file_of_the_wrong_size_is_refused_with_both_sizes(folder: Path) -> None:
    error = error_of(job(folder, inputs=(str(folder / "short.bin"),)))

    assert error.kind == "wrong_input"
    assert "96 bytes" in error.message
    assert "12 bytes" in error.message


def test_an_accelerator_that_is_not_there_is_refused_with_those_that_are(folder: Path) -> None:
    error = error_of(job(folder, choice=RuntimeChoice(runtime="onnxruntime", accelerator="qnn")))

    assert error.kind == "no_accelerator"
    assert "cpu" in error.message


def test_a_runtime_that_nobody_wrote_is_refused_by_name(folder: Path) -> None:
    assert "'nonsense'" in error_of(job(folder, choice=RuntimeChoice(runtime="nonsense"))).message


def test_nan_outputs_are_written_as_they_are_for_the_parent_to_judge(folder: Path) -> None:
    _, returncode, _ = say(job(folder, "nan.onnx"))

    assert returncode == 0
    assert np.isnan(np.fromfile(folder / "out" / "output-0.bin", dtype=np.float32)).all()


def test_options_reach_the_runtime(folder: Path) -> None:
    choice = RuntimeChoice(runtime="onnxruntime", options={"session.disable_cpu_ep_fallback": True})

    # The runtime itself finds this in conflict with being asked for the processor, so it has received it.
    assert "fallback" in error_of(job(folder, choice=choice)).message


def test_only_the_processors_thermal_zones_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zones = (("cpu-0-0", 45_000), ("cpu-1-0", -274_000), ("battery", 61_000), ("modem0", 125_000), ("soc_max", 47_500))
    for number, (kind, millidegrees) in enumerate(zones):
        zone = tmp_path / "class" / "thermal" / f"thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "type").write_text(f"{kind}\n", encoding="ascii")
        (zone / "temp").write_text(f"{millidegrees}\n", encoding="ascii")
    monkeypatch.setattr(system, "_SYSFS", tmp_path)
    watch = system.ConditionsWatch()
    watch.start()

    assert watch.stop().temperature_celsius == 47.5
