"""The whole way with the real client: found by the registry, pushed, measured, checked, and nothing left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch  # noqa: F401  (now, and not first in the fake app's thread while a phone is waited for)

from harness.device.registry import find_device, list_devices
from harness.errors import DeviceOffline, UnknownName
from harness.measure.session import Question, measure
from harness.records import (
    Artifact,
    Conversion,
    Deployment,
    MeasurePlan,
    Parity,
    RuntimeChoice,
    TensorSpec,
    Tolerance,
)
from tests.fakes.iphone import UDID

if TYPE_CHECKING:
    from pathlib import Path

    from harness.device.device import Device
    from tests.fakes.iphone import FakeIphone

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("client")]

ANSWER = np.array([[1.0, 2.0, 3.0, 4.0]], dtype=np.float32)
TENSOR = TensorSpec(name="x", shape=(1, 4), dtype="float32")
TOLERANCE = Tolerance(relative_l2=1e-3, cosine=0.999)
PLAN = MeasurePlan(
    processes_min=1, processes_max=1, blocks=1, block_s=0.0, warmup_s=0.0, memory_processes=1, timeout_s=60.0
)


def deployed(device: Device, folder: Path) -> Deployment:
    """A model and an input on the phone, as `deploy` leaves them."""
    package = folder / "m.mlpackage"
    (package / "Data").mkdir(parents=True)
    (package / "Data" / "weight.bin").write_bytes(bytes(5_000_000))
    (folder / "x.bin").write_bytes(ANSWER.tobytes())
    names = {package: "models/ab.mlpackage", folder / "x.bin": "inputs/cd.bin"}
    for local, name in names.items():
        remote = device.work_folder / name
        device.push(local, remote.with_name(f".{remote.name}"), timeout_s=60)
        device.rename(remote.with_name(f".{remote.name}"), remote, timeout_s=60)
    return Deployment(
        device_id=device.id,
        artifact_sha256="a" * 64,
        remote_path=str(device.work_folder / "models/ab.mlpackage"),
        remote_inputs=(str(device.work_folder / "inputs/cd.bin"),),
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


def test_a_phone_that_is_unplugged_after_the_push_is_an_error_and_no_figure(phone: FakeIphone, tmp_path: Path) -> None:
    device = find_device(UDID)
    deployment = deployed(device, tmp_path)
    phone.attached = False

    with pytest.raises(DeviceOffline, match=r"Device not found|not connected"):
        measure(question(deployment), device, PLAN)


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
