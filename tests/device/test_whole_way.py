"""The whole way over adb: one suite, both runtimes, both ways to the device, outputs compared with the host's."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness import parity
from harness.deploy.runtimes import library_for
from harness.device.adb_server import AdbServer, connect, server_devices
from harness.device.registry import find_device
from harness.matrix import find_suite
from harness.pipeline import plan_run, run
from harness.records import Measurement
from harness.summary import summarise, warnings
from tests.device.conftest import on, until

if TYPE_CHECKING:
    from harness.device.virtual import VirtualDevice
    from harness.store import StoredRun

pytestmark = [pytest.mark.virtual, pytest.mark.timeout(900)]
"""A minute on a quiet machine: what runs is emulated, and a machine with others on it may be ten times slower."""

DATA = Path(__file__).resolve().parents[1] / "data"
SUITE = """
schema = 1
name = "whole-way"
models = ["{onnx}", "{tflite}"]
artifacts = ["source"]
devices = ["{device}"]

[measure]
processes_min = 1
processes_max = 1
blocks = 1
block_s = 0.05
warmup_iterations = 2
warmup_s = 0
warmup_cap_s = 0.5
memory_processes = 1
memory_iterations = 2
"""


@pytest.fixture(scope="module")
def ids(virtual: VirtualDevice, adb_server: AdbServer) -> tuple[str, str]:
    """The virtual device's two ids: reached directly, and by an adb server."""
    connect(virtual.address, adb_server)
    until(lambda: "device" in [device.state for device in server_devices(adb_server)])
    return f"adb://{virtual.address}", f"{virtual.address}@{adb_server.host}:{adb_server.port}"


@pytest.fixture(scope="module")
def runs(ids: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[StoredRun, ...]:
    """Two networks on the device, over each of the two ways: a run each, since one device cannot be twice in a run."""
    folder = tmp_path_factory.mktemp("whole-way")
    onnx, tflite = folder / "one.onnx", folder / "other.tflite"
    shutil.copyfile(DATA / "tiny.onnx", onnx)
    shutil.copyfile(DATA / "tiny.tflite", tflite)
    made = []
    for number, device in enumerate(ids):
        file = folder / f"suite-{number}.toml"
        file.write_text(SUITE.format(onnx=onnx, tflite=tflite, device=device), encoding="utf-8")
        made.append(run(plan_run(find_suite(str(file)), accept=["emulated"], file=file), folder / f"out-{number}"))
    return tuple(made)


def measured(runs: tuple[StoredRun, ...]) -> dict[tuple[str, str], Measurement]:
    """(runtime, device) -> what was measured."""
    found = {}
    for result in (result for stored in runs for result in stored.results):
        assert isinstance(result.outcome, Measurement), result.outcome
        found[result.cell.choice.runtime, result.cell.device_id] = result.outcome
    return found


def test_both_runtimes_compute_there_what_they_compute_here_over_both_ways(
    runs: tuple[StoredRun, ...], ids: tuple[str, str]
) -> None:
    found = measured(runs)

    assert set(found) == {(runtime, device) for runtime in ("onnxruntime", "litert") for device in ids}
    for measurement in found.values():
        assert measurement.parity.passed
        # The reference is the host's own answer to the same inputs.
        assert measurement.parity.tolerance == parity.TOLERANCES["fp32"]
        assert max(output.relative_l2 for output in measurement.parity.outputs) < 1e-6
        assert measurement.processes[0].blocks[0].ns


def test_the_native_loop_took_the_times_with_the_library_whose_digest_is_in_the_record(
    runs: tuple[StoredRun, ...],
) -> None:
    for (runtime, _device), measurement in measured(runs).items():
        library = library_for(runtime, target="linux-aarch64")
        ran = measurement.ran
        assert (ran.driver, ran.version, ran.library_sha256) == ("bench", library.version, library.sha256)


def test_everything_measured_there_is_stamped_emulated(runs: tuple[StoredRun, ...], ids: tuple[str, str]) -> None:
    assert [(facts.id, facts.is_emulated, facts.architecture) for stored in runs for facts in stored.plan.devices] == [
        (device, True, "aarch64") for device in ids
    ]
    assert all("emulated" in measurement.accepted_obstacles for measurement in measured(runs).values())
    for stored in runs:
        for result in stored.results:
            told = [warning.kind for warning in warnings(summarise(result), result, stored.plan)]
            assert "emulated" in told


def test_what_one_way_brought_there_the_other_finds(runs: tuple[StoredRun, ...], ids: tuple[str, str]) -> None:
    direct, server = ids
    found = measured(runs)

    for runtime in ("onnxruntime", "litert"):
        assert not found[runtime, direct].deployment.already_there
        assert found[runtime, server].deployment.already_there


def test_a_run_leaves_no_program_and_no_output_there(runs: tuple[StoredRun, ...], ids: tuple[str, str]) -> None:
    assert all(stored.results for stored in runs)
    device = find_device(ids[0])
    assert "bench" not in on(device, "ps -e -o comm 2>/dev/null || ps")  # type: ignore[arg-type]
    assert on(device, f"ls {device.work_folder}/outputs").strip() == ""  # type: ignore[arg-type]
