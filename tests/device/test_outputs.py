from __future__ import annotations

from pathlib import PurePosixPath

import numpy as np
import pytest

from harness.device.outputs import pull_outputs
from harness.errors import DeviceFileFailed, RunnerUnreadable
from harness.records import TensorSpec
from tests.fakes.device import FakeDevice

SCORES = TensorSpec(name="scores", shape=(1, 3), dtype="int8", scale=0.5, zero_point=-10)
CLASSES = TensorSpec(name="classes", shape=(1, 2), dtype="int64")


def device_with(**files: bytes) -> FakeDevice:
    device = FakeDevice()
    device.files = {PurePosixPath("/fake/outputs") / name: content for name, content in files.items()}
    return device


def test_outputs_come_back_as_real_values_in_the_tensors_order() -> None:
    device = device_with(
        scores=np.array([[-10, -8, -6], [0, 0, 0]], dtype=np.int8).tobytes(),
        classes=np.array([[7, 8], [9, 1]], dtype="<i8").tobytes(),
    )

    scores, classes = pull_outputs(
        ["/fake/outputs/scores", "/fake/outputs/classes"], [SCORES, CLASSES], device, samples=2
    )

    assert scores.tolist() == [[0.0, 1.0, 2.0], [5.0, 5.0, 5.0]]
    assert classes.tolist() == [[7, 8], [9, 1]]


def test_a_file_of_the_wrong_size_is_unreadable_output_and_names_the_tensor() -> None:
    device = device_with(scores=bytes(5))

    with pytest.raises(RunnerUnreadable) as caught:
        pull_outputs(["/fake/outputs/scores"], [SCORES], device, samples=2)

    assert caught.value.problem == "output 'scores' has to be 6 bytes for 2 samples, it is 5 bytes"
    assert caught.value.line == "/fake/outputs/scores"


def test_more_or_fewer_files_than_outputs_are_unreadable_output() -> None:
    with pytest.raises(RunnerUnreadable, match="2 outputs expected, 1 written"):
        pull_outputs(["/fake/outputs/scores"], [SCORES, CLASSES], device_with(), samples=2)


def test_a_file_that_was_never_written_is_named() -> None:
    with pytest.raises(DeviceFileFailed, match="/fake/outputs/scores"):
        pull_outputs(["/fake/outputs/scores"], [SCORES], device_with(), samples=2)
