"""A tool started on a device: LiteRT's own from its package; for the others a program that prints what they print."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from harness.deploy.tools import push_tool
from harness.device.host import HostDevice
from harness.device.lease import Lease, leased
from harness.errors import (
    AbiMismatch,
    DeviceBusy,
    HarnessError,
    LeaseLost,
    RunnerDied,
    RunnerUnreadable,
    RuntimeRefused,
    UnknownName,
    UnreadableModel,
)
from harness.pipeline import run_official_tool
from harness.records import Obstacle, ToolSummary
from harness.tables import tool_text
from harness.workspace import sha256_file
from tests.fakes.device import FACTS, FakeDevice
from tests.fakes.tflite import save_sub
from tests.measure.official.test_parsers import CLASSIC_NEW


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.tflite"
    path.write_bytes(b"model")
    return path


def program(folder: Path, prints: str, *, returncode: int = 0) -> Path:
    path = folder / "benchmark_model"
    # Where a line goes differs between releases: half of it to each.
    path.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{prints}END\nexit {returncode}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_a_tool_is_sent_run_and_read_into_a_summary_that_says_how(tmp_path: Path, model: Path) -> None:
    tool = program(tmp_path, CLASSIC_NEW)

    found = run_official_tool("benchmark_model", tool, model, "host", threads=4, more=("--use_gpu=true",))

    assert isinstance(found, ToolSummary)
    assert (found.tool, found.device_id, found.is_emulated) == ("benchmark_model", "host", False)
    assert found.program_sha256 == sha256_file(tool)
    assert found.argv[2:] == ("--num_threads=4", "--num_runs=50", "--use_gpu=true")
    assert Path(found.argv[1].removeprefix("--graph=")).read_bytes() == b"model"
    assert found.mean_ns == 119_375_000
    assert found.state_before is not None
    hot = Obstacle(name="hot", severity="refusal", found="it is at 60 C", advice="Let it cool.")
    assert "hot: it is at 60 C" in tool_text(msgspec.structs.replace(found, obstacles=(hot,)))
    assert "470 of 476" in tool_text(found)
    assert "no samples of ours" in tool_text(found)


def test_litert_benchmark_itself_is_run_and_read(tmp_path: Path) -> None:
    model = save_sub(tmp_path / "sub.tflite", length=4_000_000)
    tool = Path(sys.executable).with_name("litert-benchmark")

    found = run_official_tool("litert-benchmark", tool, model, "host", iterations=7)

    assert (found.tool, found.generation, found.iterations) == ("litert-benchmark", "python", 7)
    assert found.mean_ns is not None
    assert found.min_ns is not None
    assert 0 < found.min_ns <= found.mean_ns
    assert set(found.percentiles_ns) == {"p5", "p50", "p95"}


def test_a_file_that_litert_benchmark_cannot_load_is_refused_in_its_words(tmp_path: Path) -> None:
    (tmp_path / "not.tflite").write_bytes(b"no model")

    with pytest.raises(RuntimeRefused, match="Failed to load model"):
        run_official_tool(
            "litert-benchmark", Path(sys.executable).with_name("litert-benchmark"), tmp_path / "not.tflite", "host"
        )


def test_a_tool_keeps_off_a_device_that_a_run_has(tmp_path: Path, model: Path) -> None:
    with leased((HostDevice(),), "nightly"), pytest.raises(DeviceBusy, match="nightly"):
        run_official_tool("benchmark_model", program(tmp_path, CLASSIC_NEW), model, "host")


def test_a_tool_beside_which_another_run_has_taken_the_device_over_has_no_figures(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_self: Lease, device_id: str) -> None:
        raise LeaseLost(device_id, "the nightly run")

    monkeypatch.setattr(Lease, "require", lost)
    with pytest.raises(LeaseLost):
        run_official_tool("benchmark_model", program(tmp_path, CLASSIC_NEW), model, "host")


def test_a_wrong_name_is_said_also_while_a_run_has_the_device(tmp_path: Path, model: Path) -> None:
    with leased((HostDevice(),), "nightly"):
        with pytest.raises(UnknownName, match="benchmark_modle"):
            run_official_tool("benchmark_modle", program(tmp_path, CLASSIC_NEW), model, "host")
        with pytest.raises(UnreadableModel, match="there is no such file"):
            run_official_tool("benchmark_model", tmp_path / "nothing", model, "host")


@pytest.mark.parametrize(
    ("prints", "returncode", "error"),
    [
        (CLASSIC_NEW + "Something new\n", 0, RunnerUnreadable),
        (CLASSIC_NEW, 3, RunnerDied),
        ("Illegal instruction\n", 132, RunnerDied),
        ("Benchmarking failed.\n", 1, RuntimeRefused),
        ("", 0, RunnerUnreadable),
    ],
)
def test_anything_else_is_an_error_and_no_figure(
    tmp_path: Path, model: Path, prints: str, returncode: int, error: type[HarnessError]
) -> None:
    with pytest.raises(error):
        run_official_tool("benchmark_model", program(tmp_path, prints, returncode=returncode), model, "host")


def test_a_file_that_is_not_there_is_said_before_anything_is_sent(tmp_path: Path, model: Path) -> None:
    with pytest.raises(UnreadableModel, match="there is no such file"):
        push_tool(tmp_path / "nothing", model, HostDevice())


def test_a_tool_for_another_system_is_not_sent_to_a_device(bench_for_another: Path, model: Path) -> None:
    device = FakeDevice(facts=msgspec.structs.replace(FACTS, kind="android", architecture="aarch64", os="Android 16"))

    with pytest.raises(AbiMismatch, match="android-arm64-v8a"):
        push_tool(bench_for_another, model, device)
    assert not device.files


@pytest.fixture
def bench_for_another(tmp_path: Path) -> Path:
    path = tmp_path / "tool"
    path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(11) + b"\xf3\x00" + bytes(60))
    return path
