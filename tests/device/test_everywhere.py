"""One command measures one suite on this machine and on two virtual arm64 devices at once, over both adb clients."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.device.adb_server import connect, server_devices
from harness.device.virtual import start_virtual, stop_virtual
from harness.records import Measurement
from harness.store import StoredRun
from tests.device.conftest import until

if TYPE_CHECKING:
    from harness.device.adb_server import AdbServer
    from harness.device.virtual import VirtualDevice

ROOT = Path(__file__).resolve().parent.parent.parent
SUITE = """\
schema = 1
name = "everywhere"
models = ["{data}/tiny.onnx", "{data}/many_outputs.tflite"]
artifacts = ["source"]

[measure]
processes_min = 2
processes_max = 2
blocks = 2
block_s = 0.05
warmup_s = 0.05
warmup_cap_s = 1.0
"""


@pytest.mark.virtual
@pytest.mark.timeout(900)
def test_one_command_measures_one_suite_here_and_on_two_devices_at_once(
    virtual: VirtualDevice, adb_server: AdbServer, tmp_path: Path
) -> None:
    (tmp_path / "everywhere.toml").write_text(SUITE.format(data=ROOT / "tests" / "data"))
    name = f"test-b-{os.getpid()}"
    try:
        second = start_virtual(name, memory_mib=768, disk_mib=256)
        connect(second.address, adb_server)
        until(lambda: any(found.state == "device" for found in server_devices(adb_server)))
        devices = ("host", virtual.id, second.address)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "harness", "run", "everywhere.toml", "--output", "out"),
                *(part for device in devices for part in ("--device", device)),
                *("--accept", "emulated"),
            ],
            cwd=tmp_path,
            env=os.environ | {"ANDROID_ADB_SERVER_PORT": str(adb_server.port), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    finally:
        stop_virtual(name)

    assert done.returncode == 0, done.stderr
    results = StoredRun.open(tmp_path / "out").results
    assert {(result.cell.device_id, result.cell.format) for result in results} == {
        (device, kind) for device in devices for kind in ("onnx", "tflite")
    }
    for result in results:
        assert isinstance(result.outcome, Measurement), result.outcome
        assert result.outcome.parity.passed
        assert result.outcome.ran.driver == "bench"
    began = {device: min(r.started_at for r in results if r.cell.device_id == device) for device in devices[1:]}
    ended = {device: max(r.outcome.state_after.at for r in results if r.cell.device_id == device) for device in began}  # type: ignore[union-attr]
    assert max(began.values()) < min(ended.values()), "they worked one after the other"


TWO_VERSIONS = """\
schema = 1
name = "versions"
models = ["{data}/tiny.onnx"]
artifacts = ["source"]
runtimes = [{{ name = "onnxruntime" }}, {{ name = "onnxruntime@1.27.0" }}]

[measure]
processes_min = 1
processes_max = 1
blocks = 1
block_s = 0.05
warmup_s = 0.05
warmup_cap_s = 1.0
"""


@pytest.mark.virtual
def test_two_versions_of_a_runtime_are_measured_in_one_suite_on_a_device(
    virtual: VirtualDevice, tmp_path: Path
) -> None:
    (tmp_path / "versions.toml").write_text(TWO_VERSIONS.format(data=ROOT / "tests" / "data"))
    command = (sys.executable, "-m", "harness", "run", "versions.toml", "--output", "out", "--device", virtual.id)
    done = subprocess.run(
        [*command, "--accept", "emulated"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr
    ran = [result.outcome.ran for result in StoredRun.open(tmp_path / "out").results]  # type: ignore[union-attr]
    assert {each.version for each in ran} == {"1.27.0", version("onnxruntime")}
    assert len({each.library_sha256 for each in ran} - {None}) == 2
