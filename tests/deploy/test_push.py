from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from harness.deploy.push import push, push_inputs
from harness.device.host import HostDevice
from harness.device.ios.device import IosDevice
from harness.device.ios.transport import FoundPhone
from harness.device.profile import find_profile
from harness.errors import (
    DeviceError,
    DeviceFull,
    DeviceTimedOut,
    PushCorrupted,
    UnreadableModel,
    WrongInput,
)
from harness.records import Artifact, Conversion, Parity, TensorSpec, Tolerance
from harness.workspace import sha256_tree
from tests.fakes.device import FakeDevice
from tests.fakes.disk import run_on_a_tiny_disk
from tests.fakes.iphone import UDID, FakeIphone, FolderTransport

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.device.device import Device

CONTENT = b"the model"
IMAGE = TensorSpec(name="image", shape=(1, 3), dtype="float32")
SAMPLES: dict[str, NDArray[np.generic]] = {"image": np.arange(6, dtype=np.float32).reshape(2, 3)}


def artifact(path: Path, inputs: tuple[TensorSpec, ...] = (IMAGE,), **changes: Any) -> Artifact:
    """A converted file at this path, as its conversion left it."""
    content = path.read_bytes() if path.exists() else CONTENT
    fields: dict[str, Any] = {
        "model": "tiny",
        "checkpoint_sha256": "c" * 64,
        "format": "onnx",
        "precision": "fp32",
        "path": str(path),
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "deflated_bytes": len(content),
        "inputs": inputs,
        "outputs": (),
        "parity": Parity(
            executed_by="x",
            reference="y",
            samples=2,
            tolerance=Tolerance(relative_l2=None, cosine=None),
            outputs=(),
            passed=True,
        ),
        "conversion": Conversion(converters={}, settings={}, seconds=1.0, peak_rss_bytes=None),
    }
    return Artifact(**(fields | changes))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A converted file."""
    path = tmp_path / "model.onnx"
    path.write_bytes(CONTENT)
    return path


DIGEST = hashlib.sha256(CONTENT).hexdigest()
REMOTE = PurePosixPath(f"/fake/models/{DIGEST[:16]}.onnx")
RAW = np.arange(6, dtype="<f4").tobytes()
REMOTE_INPUT = PurePosixPath(f"/fake/inputs/{hashlib.sha256(RAW).hexdigest()[:16]}.bin")


def test_the_model_and_its_inputs_arrive_under_names_made_of_their_content(model: Path) -> None:
    device = FakeDevice()

    deployment = push(artifact(model), SAMPLES, device)

    assert device.files == {REMOTE: CONTENT, REMOTE_INPUT: RAW}
    assert (deployment.device_id, deployment.artifact_sha256) == ("fake", DIGEST)
    assert deployment.remote_path == str(REMOTE)
    assert deployment.remote_inputs == (str(REMOTE_INPUT),)
    assert (deployment.samples, deployment.already_there) == (2, False)


def test_what_is_there_already_is_not_sent_again(model: Path) -> None:
    device = FakeDevice()
    push(artifact(model), SAMPLES, device)
    device.log.clear()

    deployment = push(artifact(model), SAMPLES, device)

    assert deployment.already_there
    assert device.log == []


def test_a_file_takes_its_name_only_after_the_device_has_checked_it(model: Path) -> None:
    device = FakeDevice()

    push_inputs(artifact(model), SAMPLES, device)

    (pushed,) = [entry.removeprefix("push ") for entry in device.log if entry.startswith("push")]
    assert PurePosixPath(pushed).name.startswith(f".{REMOTE_INPUT.name}.")
    assert device.log == [f"push {pushed}", f"rename {pushed} {REMOTE_INPUT}"]
    assert device.calls == ["sha256", "make_folder", "push", "sha256", "rename"]


def test_a_damaged_file_under_the_right_name_is_replaced(model: Path) -> None:
    device = FakeDevice()
    device.files[REMOTE] = b"cut o"

    deployment = push(artifact(model), SAMPLES, device)

    assert (deployment.already_there, deployment.push_attempts) == (False, 1)
    assert device.files[REMOTE] == CONTENT


def test_a_push_that_arrives_damaged_once_is_repeated_and_on_record(model: Path) -> None:
    device = FakeDevice()
    push_inputs(artifact(model), SAMPLES, device)
    device.corrupt_pushes(1)

    deployment = push(artifact(model), SAMPLES, device)

    assert deployment.push_attempts == 2
    assert device.files == {REMOTE: CONTENT, REMOTE_INPUT: RAW}


def test_a_push_that_arrives_damaged_twice_fails_and_leaves_nothing(model: Path) -> None:
    device = FakeDevice()
    device.corrupt_pushes(2)

    with pytest.raises(PushCorrupted) as caught:
        push_inputs(artifact(model), SAMPLES, device)

    assert caught.value.remote == str(REMOTE_INPUT)
    assert caught.value.sent_sha256 == hashlib.sha256(RAW).hexdigest()
    assert caught.value.arrived_sha256 == hashlib.sha256(bytes([RAW[0] ^ 1]) + RAW[1:]).hexdigest()
    assert device.files == {}


@pytest.mark.parametrize("step", ["push", "sha256", "rename"])
@pytest.mark.parametrize("error", [DeviceTimedOut("fake", "push", 1.0), KeyboardInterrupt()], ids=repr)
def test_whatever_goes_wrong_leaves_nothing_behind(model: Path, step: str, error: BaseException) -> None:
    device = FakeDevice()
    device.fail_on(step, error, after_calls=1 if step == "sha256" else 0)

    with pytest.raises(type(error)):
        push_inputs(artifact(model), SAMPLES, device)

    assert device.files == {}


def test_a_device_that_went_away_is_told_and_not_that_it_could_not_be_tidied_up(model: Path) -> None:
    device = FakeDevice()
    device.fail_on("push", DeviceTimedOut("fake", "the push", 1.0))
    device.fail_on("remove", DeviceTimedOut("fake", "the tidying", 1.0))

    with pytest.raises(DeviceTimedOut, match="the push"):
        push_inputs(artifact(model), SAMPLES, device)


def test_a_time_out_is_not_retried_in_silence(model: Path) -> None:
    device = FakeDevice()
    device.fail_on("push", DeviceTimedOut("fake", "push", 1.0))

    with pytest.raises(DeviceTimedOut):
        push_inputs(artifact(model), SAMPLES, device)

    assert device.calls.count("push") == 1


def test_a_full_device_is_said_and_left_clean(model: Path) -> None:
    device = FakeDevice(capacity_bytes=len(RAW) + 3)

    with pytest.raises(DeviceFull):
        push(artifact(model), SAMPLES, device)

    assert device.files == {REMOTE_INPUT: RAW}


def test_a_file_that_was_changed_after_its_conversion_is_not_blamed_on_the_device(model: Path) -> None:
    made = artifact(model)
    model.write_bytes(b"another model")
    device = FakeDevice()

    with pytest.raises(UnreadableModel, match=r"model\.onnx cannot be read as onnx: it was changed: its SHA-256 is "):
        push(made, SAMPLES, device)

    assert device.files == {REMOTE_INPUT: RAW}


def test_a_file_that_is_gone_is_said_before_the_device_is_touched(tmp_path: Path) -> None:
    device = FakeDevice()

    with pytest.raises(UnreadableModel, match="there is no such file"):
        push(artifact(tmp_path / "none.onnx"), SAMPLES, device)

    assert device.calls == []


@pytest.mark.parametrize(
    ("samples", "problem"),
    [
        ({"image": np.zeros((2, 4))}, r"the model takes shape \[1, 3\], the data are of shape \[1, 4\]"),
        ({"image": np.zeros((2, 3), dtype=np.int32)}, "the model takes float32, the data are int32"),
        ({}, "the model takes 1 inputs"),
        ({"image": np.zeros((2, 3)), "mask": np.zeros((3, 3))}, "as many samples of one as of the other"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_before_the_device_is_touched(
    samples: dict[str, NDArray[np.generic]], problem: str, model: Path
) -> None:
    device = FakeDevice()

    with pytest.raises(WrongInput, match=problem):
        push(artifact(model), samples, device)

    assert device.calls == []


def test_inputs_are_quantized_as_the_file_declares_and_in_its_order(model: Path) -> None:
    device = FakeDevice()
    inputs = (
        TensorSpec(name="b", shape=(1, 2), dtype="int8", scale=0.5, zero_point=-10),
        TensorSpec(name="a", shape=(1,), dtype="int64"),
    )
    samples: dict[str, NDArray[np.generic]] = {"a": np.array([7, 8]), "b": np.array([[0.0, 1.0], [2.0, 3.0]])}

    first, second = push_inputs(artifact(model, inputs), samples, device)

    assert np.frombuffer(device.files[first], dtype=np.int8).tolist() == [-10, -8, -6, -4]
    assert np.frombuffer(device.files[second], dtype="<i8").tolist() == [7, 8]


def test_two_inputs_with_the_same_content_share_one_file(model: Path) -> None:
    device = FakeDevice()
    inputs = tuple(TensorSpec(name=name, shape=(1, 3), dtype="float32") for name in "ab")

    first, second = push_inputs(artifact(model, inputs), {"a": SAMPLES["image"], "b": SAMPLES["image"]}, device)

    assert first == second
    assert device.calls.count("push") == 1


def test_a_push_to_this_machine_is_a_copy(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    host = HostDevice()

    deployment = push(artifact(model), SAMPLES, host)
    with model.open("r+b") as file:
        file.write(b"CHANGED")

    assert Path(deployment.remote_path).read_bytes() == CONTENT
    assert push(artifact(model, sha256=DIGEST), SAMPLES, host).already_there


def test_a_full_disk_on_this_machine_is_said_and_left_clean(tmp_path: Path) -> None:
    said = run_on_a_tiny_disk(
        """
        import json, os
        os.environ["HARNESS_CACHE"] = str(disk / "cache")
        from harness.device.host import HostDevice
        from harness.deploy.push import push
        from harness.errors import DeviceFull
        from tests.deploy.test_push import SAMPLES, artifact

        model = disk / "model.onnx"
        model.write_bytes(bytes(40_000))
        try:
            push(artifact(model), SAMPLES, HostDevice())
        except DeviceFull as error:
            print(json.dumps([error.device, error.needed_bytes, [p.name for p in disk.rglob("*") if p.is_file()]]))
        """,
        tmp_path,
    )

    device, needed, left = json.loads(said)
    assert (device, needed) == ("host", 40_000)
    assert sorted(left) == sorted(["model.onnx", REMOTE_INPUT.name])


def test_every_error_of_a_push_is_one_of_ours(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_bytes(b"a file where the folder should be")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))

    with pytest.raises(DeviceError, match="Not a directory"):
        push(artifact(model), SAMPLES, HostDevice())


@pytest.mark.parametrize("kind", ["host", "ios"])
def test_a_package_arrives_whole_under_a_name_made_of_its_bytes_and_is_not_sent_twice(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    package = tmp_path / "m.mlpackage"
    (package / "Data").mkdir(parents=True)
    (package / "Data" / "w.bin").write_bytes(b"weights")
    converted = msgspec.structs.replace(artifact(tmp_path / "none"), path=str(package), sha256="d" * 64)
    with FakeIphone(tmp_path / "phone") as phone:
        device: Device = HostDevice()
        if kind == "ios":
            device = IosDevice(FoundPhone(id=UDID), FolderTransport(phone), find_profile("iphone-xr"))

        first = push(converted, SAMPLES, device)
        second = push(converted, SAMPLES, device)

        digest = sha256_tree(package)
        assert PurePosixPath(first.remote_path).name == f"{digest[:16]}.mlpackage"
        assert device.sha256(PurePosixPath(first.remote_path), timeout_s=5) == digest
        assert (first.already_there, second.already_there) == (False, True)
        arrived = phone.documents / "models" / f"{digest[:16]}.mlpackage" / "Data" / "w.bin"
        assert not arrived.exists() if kind == "host" else arrived.read_bytes() == b"weights"
