"""The whole way with the real client: found by the registry, pushed, measured, checked, and nothing left behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
import torch  # noqa: F401  (now, and not first in the fake app's thread while a phone is waited for)

from harness.catalog.execute import run_coreml, run_onnx
from harness.catalog.files import read_signature
from harness.device.ios.device import IosDevice
from harness.device.ios.transport import FoundPhone
from harness.device.profile import DeviceProfile
from harness.device.registry import find_device, list_devices
from harness.errors import DeviceOffline, RunnerHung, RunnerUnreadable, UnknownName
from harness.measure.program import run_program
from harness.measure.session import Question, measure
from harness.pipeline import convert_model
from harness.protocol import Job
from harness.records import (
    Artifact,
    Conversion,
    Deployment,
    Failure,
    Measurement,
    MeasurePlan,
    NotRunnable,
    Parity,
    RuntimeChoice,
    TensorSpec,
    Tolerance,
)
from harness.store import StoredRun
from tests.device.ios.test_device import LATENCY, memory
from tests.fakes.iphone import STATE, UDID, FakeApp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.device.device import Device
    from harness.device.ios.pymobiledevice3 import PyMobileDevice3
    from tests.fakes.iphone import FakeIphone

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("client")]

ROOT = Path(__file__).resolve().parents[3]
ANSWER = np.array([[1.0, 2.0, 3.0, 4.0]], dtype=np.float32)
TENSOR = TensorSpec(name="x", shape=(1, 4), dtype="float32")
TOLERANCE = Tolerance(relative_l2=1e-3, cosine=0.999)
PLAN = MeasurePlan(
    processes_min=1, processes_max=1, blocks=1, block_s=0.0, warmup_s=0.0, memory_processes=1, timeout_s=60.0
)


def deployed(device: Device, folder: Path) -> Deployment:
    """A file on the phone, as `deploy` leaves it: as small as can be, and model and input at once."""
    (folder / "x.bin").write_bytes(ANSWER.tobytes())
    remote = device.work_folder / "inputs/cd.bin"
    device.push(folder / "x.bin", remote.with_name(".cd.bin"), timeout_s=60)
    device.rename(remote.with_name(".cd.bin"), remote, timeout_s=60)
    return Deployment(
        device_id=device.id,
        artifact_sha256="a" * 64,
        remote_path=str(remote),
        remote_inputs=(str(remote),),
        samples=1,
        already_there=False,
    )


def question(deployment: Deployment) -> Question:
    """Four numbers that a model has to hand back."""
    passed = Parity(executed_by="t", reference="t", samples=1, tolerance=TOLERANCE, outputs=(), passed=True)
    artifact = Artifact(
        model="m",
        checkpoint_sha256="b" * 64,
        format="onnx",
        precision="fp32",
        path="m.mlpackage",
        sha256="a" * 64,
        size_bytes=1,
        deflated_bytes=1,
        inputs=(TENSOR,),
        outputs=(TENSOR,),
        parity=passed,
        conversion=Conversion(converters={}, settings={}, seconds=0.0, peak_rss_bytes=None),
    )
    return Question(
        choice=RuntimeChoice(runtime="coreml", accelerator="all"),
        artifact=artifact,
        deployment=deployment,
        expected={"x": ANSWER},
        reference="the test",
        tolerance=TOLERANCE,
    )


@pytest.fixture
def device(transport: PyMobileDevice3) -> IosDevice:
    """The phone through the real client. It is looked at every 20 s, so once for a result that does not come."""
    found = FoundPhone(id=UDID, name="Fake iPhone", product_type="iPhone11,8", os="iOS 18.5", os_build="22F76")
    return IosDevice(found, transport, DeviceProfile(schema=1, kind="ios", device_class="phone"), poll_s=20)


SUITE = """
schema = 1
name = "phone"
models = ["tiny/model.toml"]
artifacts = ["coreml/fp16", "onnx/fp32"]
devices = ["{UDID}"]

[measure]
processes_min = 1
processes_max = 1
blocks = 1
block_s = 0.01
warmup_s = 0.0
memory_processes = 1
timeout_s = 60.0
"""
MODEL = """
schema = 1
name = "tiny"
source = { kind = "python", factory = "tests.fakes.modules:tiny" }

[[inputs]]
name = "images"
shape = [1, 3, 16, 16]
"""


def computed(job: Mapping[str, Any], documents: Path) -> dict[str, bytes]:
    """What the package that has arrived makes of the inputs that have arrived, by our evaluator."""
    package, given = (documents / name.removeprefix("/Documents/") for name in (job["model"], job["inputs"][0]))
    signature = read_signature(package, "coreml")
    values = np.fromfile(given, np.float32).reshape(job["samples"], *signature.inputs[0].shape[1:])
    found, _ = run_coreml(package, {signature.inputs[0].name: values}, signature.inputs)
    return {f"output-{index}.bin": array.tobytes() for index, array in enumerate(found.values())}


def run_suite(folder: Path, suite: str) -> subprocess.CompletedProcess[str]:
    """`harness run` of a suite with the tiny model, as a person runs it."""
    (folder / "suite.toml").write_text(suite.replace("{UDID}", UDID))
    (folder / "tiny").mkdir()
    (folder / "tiny" / "model.toml").write_text(MODEL)
    return subprocess.run(
        [sys.executable, "-m", "harness", "run", "suite.toml", "--output", "out", "--patience", "3"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def answering(compute: Callable[[Mapping[str, Any], Path], dict[str, bytes]], **state: str) -> FakeApp:
    """An app that has done three jobs before, and computes as told."""
    meta, loaded, *rest = LATENCY
    opened_by_hand = msgspec.structs.replace(meta, jobs_before=3)
    loaded = msgspec.structs.replace(loaded, timings_ns={"compile": 700_000, "load_cold": 300_000})
    return FakeApp(
        lines=(opened_by_hand, loaded, *rest),
        memory_lines=(*LATENCY[:2], memory("baseline", 10), memory("loaded", 20), memory("peak", 30), LATENCY[-1]),
        compute=compute,
        state=STATE | state,
    )


def test_a_whole_run_on_a_phone_ends_with_a_report_that_says_how_far_each_row_is_proved(
    phone: FakeIphone, tmp_path: Path
) -> None:
    phone.app = answering(computed)

    ended = run_suite(tmp_path, SUITE)

    assert ended.returncode == 0, ended.stderr
    stored = StoredRun.open(tmp_path / "out")
    measured, never = (result.outcome for result in stored.results)
    assert isinstance(measured, Measurement)
    assert (measured.ran.driver, measured.ran.nodes_delegated, measured.ran.nodes_total) == ("ios-runner", 9, 10)
    assert (measured.ran.driver_version, measured.ran.settings) == ("1.0", {"compute_units": "all"})
    assert measured.processes[0].blocks[0].ns == (1_300_000, 1_310_000)
    assert measured.processes[0].jobs_before == 3
    assert measured.processes[0].load_timings_ns == {"compile": 700_000, "load_cold": 300_000}
    assert "Not fresh: 1 of 1 processes had done other jobs before" in " ".join(ended.stdout.split())
    # Judged by what the file says, and told as how far that is from the checkpoint.
    assert measured.parity.passed
    assert max(output.relative_l2 for output in measured.parity.outputs) == 0
    assert measured.parity.relative_l2 == made_for(stored).parity.relative_l2
    assert 1e-5 < (measured.parity.relative_l2 or 0) < 1e-2
    assert (measured.memory[0].source, measured.memory[0].peak_bytes) == ("phys_footprint", 30)
    assert (measured.state_before.thermal_status, measured.state_after.thermal_status) == ("nominal", "nominal")
    assert isinstance(never, NotRunnable)
    assert "has Core ML, and not ONNX Runtime" in never.reason
    (facts,) = stored.plan.devices
    assert (facts.name, facts.os, facts.transport, facts.newest_os) == (
        "iPhone XR",
        "iOS 18.5",
        "pymobiledevice3",
        "iOS 18",
    )
    # Between them the phone's state is asked for, as often as it is old by then.
    assert [job["job"]["mode"] for job in phone.jobs if job["job"]] == ["latency", "memory"]
    assert phone.jobs[0]["job"] is None
    assert "measured(device): tiny coreml/fp16 all" in ended.stdout
    assert list(phone.documents.glob("jobs/*")) == list(phone.documents.glob("results/*")) == []


def made_for(stored: StoredRun) -> Artifact:
    """The file of the run's first cell."""
    made = stored.results[0].artifact
    assert made is not None
    return made


OLDER = SUITE.replace('"coreml/fp16", "onnx/fp32"', '"coreml/fp32"')


def test_a_neural_network_for_an_older_system_arrives_and_is_measured(phone: FakeIphone, tmp_path: Path) -> None:
    phone.values |= {"ProductType": "iPad7,11", "ProductVersion": "14.8", "DeviceClass": "iPad"}
    right: dict[str, bytes] = {}

    def as_the_checkpoint(job: Mapping[str, Any], documents: Path) -> dict[str, bytes]:
        """Nothing here computes a neural network: another file of the same model does."""
        assert job["model"].endswith(".mlmodel")
        assert (documents / job["model"].removeprefix("/Documents/")).is_file()
        if not right:
            (made,) = convert_model(str(tmp_path / "tiny" / "model.toml"), ("onnx/fp32",)).values()
            assert isinstance(made, Artifact)
            given = documents / job["inputs"][0].removeprefix("/Documents/")
            values = np.fromfile(given, np.float32).reshape(job["samples"], *made.inputs[0].shape[1:])
            found, _ = run_onnx(Path(made.path), {made.inputs[0].name: values}, made.inputs, optimized=False)
            right.update({f"output-{index}.bin": array.tobytes() for index, array in enumerate(found.values())})
        return right

    phone.app = answering(as_the_checkpoint, os="iPadOS 14.8", product="iPad7,11")

    ended = run_suite(tmp_path, OLDER)

    assert ended.returncode == 0, ended.stderr
    stored = StoredRun.open(tmp_path / "out")
    (measured,) = (result.outcome for result in stored.results)
    assert isinstance(measured, Measurement)
    assert made_for(stored).path.endswith(".mlmodel")
    assert (measured.deployment.push_attempts, measured.parity.from_checkpoint) == (1, None)
    assert measured.parity.passed
    assert (stored.plan.devices[0].name, stored.plan.devices[0].os) == ("iPad (7th generation)", "iPadOS 14.8")


def test_a_phone_that_answers_other_than_its_file_says_is_told_so(phone: FakeIphone, tmp_path: Path) -> None:
    def nothing(job: Mapping[str, Any], _documents: Path) -> dict[str, bytes]:
        return {"output-0.bin": bytes(4 * 10 * job["samples"])}

    phone.app = answering(nothing)

    ended = run_suite(tmp_path, SUITE.replace(', "onnx/fp32"', ""))

    assert ended.returncode == 1
    (failed,) = (result.outcome for result in StoredRun.open(tmp_path / "out").results)
    assert isinstance(failed, Failure)
    assert failed.kind == "wrong_numbers"
    assert re.search("differs from what ML Program evaluator .* computes of the file: relative L2 is 1", failed.message)


def test_a_phone_that_is_unplugged_after_the_push_is_an_error_and_no_figure(
    device: IosDevice, phone: FakeIphone, tmp_path: Path
) -> None:
    deployment = deployed(device, tmp_path)
    phone.attached = False

    with pytest.raises(DeviceOffline, match=r"Device not found|not connected"):
        measure(question(deployment), device, PLAN)


@pytest.fixture
def job(device: IosDevice, tmp_path: Path) -> Job:
    """One that does next to nothing, with one small file."""
    (tmp_path / "x.bin").write_bytes(ANSWER.tobytes())
    remote = device.work_folder / "inputs/cd.bin"
    device.push(tmp_path / "x.bin", remote, timeout_s=60)
    choice = RuntimeChoice(runtime="coreml", accelerator="all")
    return Job(
        choice=choice, model=str(remote), inputs=(str(remote),), samples=1, output_folder="o", block_s=0, warmup_s=0
    )


def test_a_result_that_never_comes_or_comes_half_written_is_an_error_that_tells_them_apart(
    device: IosDevice, job: Job, phone: FakeIphone
) -> None:
    phone.app = FakeApp(answers=False)

    with pytest.raises(RunnerHung) as hung:
        run_program(device, job, device.worker_command(), timeout_s=20)

    # The fake speaks no developer services, as a phone without its developer image does not.
    assert hung.value.hint.startswith("Open the app by hand, and leave it in front; starting it failed: ")
    assert "tunneld" in hung.value.hint
    assert list(phone.documents.glob("jobs/*")) == []

    def cut(folder: Path) -> None:
        os.truncate(folder / "outputs" / "output-0.bin", 7)

    phone.app = FakeApp(lines=LATENCY, outputs={"output-0.bin": ANSWER.tobytes()}, state=STATE, damage=cut)

    with pytest.raises(RunnerUnreadable, match="it has 7 bytes, the app wrote 16 bytes"):
        run_program(device, job, device.worker_command(), timeout_s=100)

    assert list(phone.documents.glob("results/*")) == []


def test_phones_are_listed_beside_the_host_with_what_is_missing(phone: FakeIphone) -> None:
    phone.developer_mode = False
    phone.app = None

    host, iphone = list_devices()

    assert (host.id, iphone.id, iphone.facts().name) == ("host", UDID, "iPhone XR")
    assert [obstacle.name for obstacle in iphone.obstacles()] == ["app", "developer-mode", "no-clock-control"]


def test_a_phone_that_is_away_is_unknown(phone: FakeIphone) -> None:
    phone.attached = False

    with pytest.raises(UnknownName, match=UDID):
        find_device(UDID)
