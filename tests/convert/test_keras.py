"""Keras and SavedModel. Needs TensorFlow, the extra `keras`."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from harness.catalog.checkpoint import make_checkpoint
from harness.catalog.models import find_model
from harness.errors import MissingExtra, UnreadableModel

if TYPE_CHECKING:
    from pathlib import Path

    from harness.records import Precision
    from tests.convert.conftest import Make

# In a process of its own: TensorFlow's import warns, and it keeps every thread and a gigabyte.
MODELS = """
import sys
import tensorflow as tf

tf.keras.utils.set_random_seed(0)
layers = tf.keras.layers
images = tf.keras.Input((16, 16, 3), name="images")
x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(images)
logits = layers.Dense(10, name="logits")(layers.GlobalAveragePooling2D()(x))
tf.keras.Model(images, logits).save(sys.argv[1] + "/small.keras")
wide, narrow = tf.keras.Input((6,), name="wide"), tf.keras.Input((4,), name="narrow")
left, right = layers.Dense(32)(wide), layers.Dense(32)(narrow)
two = tf.keras.Model([wide, narrow], {"total": left + right, "difference": left - right})
two.save(sys.argv[1] + "/two.keras")
two.export(sys.argv[1] + "/two_saved", verbose=False)
"""


@pytest.fixture(scope="module")
def keras_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keras")
    subprocess.run([sys.executable, "-c", MODELS, str(folder)], check=True, capture_output=True, timeout=240)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8_dynamic", "int8"])
def test_a_keras_file_becomes_every_kind_of_tflite_file(make: Make, keras_models: Path, precision: Precision) -> None:
    artifact = make(find_model(str(keras_models / "small.keras")).spec, "tflite", precision)

    assert artifact.parity.passed
    assert artifact.parity.reference.startswith("TensorFlow")
    assert artifact.inputs[0].shape == (1, 16, 16, 3)
    converter = artifact.conversion.converters
    assert any(name.startswith("tensorflow") for name in converter) == (precision == "fp32")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two.keras", "two_saved"])
def test_two_inputs_and_two_outputs_keep_their_order(make: Make, keras_models: Path, name: str) -> None:
    spec = find_model(str(keras_models / name)).spec

    artifact = make(spec, "tflite", "fp32")

    checkpoint = make_checkpoint(spec)
    assert checkpoint.parameters == 32 * (6 + 1) + 32 * (4 + 1)
    assert [tensor.shape for tensor in artifact.inputs] == [tensor.shape for tensor in checkpoint.inputs]
    assert {output.tensor for output in artifact.parity.outputs} == {"total", "difference"}
    assert artifact.parity.passed


@pytest.mark.slow
def test_a_damaged_keras_file_is_refused(keras_models: Path, tmp_path: Path) -> None:
    (tmp_path / "net.keras").write_bytes((keras_models / "small.keras").read_bytes()[:2000])

    with pytest.raises(UnreadableModel, match="a Keras file"):
        make_checkpoint(find_model(str(tmp_path / "net.keras")).spec)


def test_without_tensorflow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # what importlib takes for "not installed"
    (tmp_path / "net.keras").write_bytes(b"")

    with pytest.raises(MissingExtra) as raised:
        make_checkpoint(find_model(str(tmp_path / "net.keras")).spec)

    assert raised.value.hint == "Install it: pip install 'inference-harness[keras]'"
