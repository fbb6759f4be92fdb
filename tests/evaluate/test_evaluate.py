"""A network and every file made of it recognise alike, each computed by what computes its format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import UsageError
from harness.pipeline import evaluate_model
from harness.records import Accuracy

if TYPE_CHECKING:
    from pathlib import Path

MODEL = """
schema = 1
name = "tiny"
task = "embedding"
trained = false

[source]
kind = "builtin"
network = "resnet10_w32"
arguments = { num_classes = 0 }

[[inputs]]
name = "images"
shape = [1, 3, 32, 32]
data = { kind = "normal" }
"""


@pytest.mark.slow
def test_every_file_has_a_rate_of_its_own_and_says_what_computed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    model = tmp_path / "tiny" / "model.toml"
    model.parent.mkdir()
    model.write_text(MODEL, encoding="utf-8")

    found = evaluate_model(
        str(model),
        ("onnx/fp32", "tflite/fp32", "coreml/fp32"),
        "synthetic:subjects=5,sessions=2,images=1",
    )

    assert list(found) == ["checkpoint", "onnx/fp32", "tflite/fp32", "coreml/fp32"]
    errors = {}
    for name, accuracy in found.items():
        assert isinstance(accuracy, Accuracy), (name, accuracy)
        assert accuracy.verification is not None
        assert accuracy.is_synthetic
        errors[name] = accuracy.verification.eer.value
    assert max(errors.values()) - min(errors.values()) < 0.02, errors
    by = {name: accuracy.executed_by for name, accuracy in found.items() if isinstance(accuracy, Accuracy)}
    words = ("torch", "onnx runtime", "litert", "evaluator")
    assert all(word in said.lower() for word, said in zip(words, by.values(), strict=True)), by


def test_a_network_for_neither_task_is_refused_before_any_image_is_read(tmp_path: Path) -> None:
    model = tmp_path / "tiny" / "model.toml"
    model.parent.mkdir()
    model.write_text(MODEL.replace('task = "embedding"\n', ""), encoding="utf-8")

    with pytest.raises(UsageError, match="say which with --task"):
        evaluate_model(str(model), (), str(tmp_path / "no such images"))
