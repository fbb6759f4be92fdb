"""The limit of a package in half precision, taken from its own model."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
import torch

from harness.catalog.checkpoint import make_checkpoint
from harness.catalog.data import arrays_of
from harness.catalog.modules import load_module
from harness.convert import child, half_precision
from harness.convert.half_precision import half_precision_error
from harness.parity import tolerance_for
from tests.fakes.specs import python_spec

if TYPE_CHECKING:
    from torch import nn

pytestmark = pytest.mark.slow


def test_rounding_every_result_costs_what_half_precision_costs_torch() -> None:
    spec = python_spec("tiny")
    checkpoint = make_checkpoint(spec)
    images = torch.from_numpy(np.ascontiguousarray(next(iter(arrays_of(checkpoint, "inputs").values()))))
    expected = next(iter(arrays_of(checkpoint, "reference").values()))
    with torch.no_grad():
        halved = load_module(spec, checkpoint).half()(images.half()).float().numpy()

    found = half_precision_error(spec, checkpoint)

    assert found == pytest.approx(np.linalg.norm(halved - expected) / np.linalg.norm(expected), rel=0.5)


def test_the_limit_is_twice_that_and_needs_enough_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "half_precision_error", lambda *_what: 4e-3)
    few = python_spec("tiny")  # 4 samples of 10 numbers
    many = msgspec.structs.replace(few, check_samples=8)

    assert child._limit_of_half(few, make_checkpoint(few)) == tolerance_for("coreml", "fp16")
    limit = child._limit_of_half(many, make_checkpoint(many))

    assert (limit.relative_l2, limit.cosine) == (8e-3, tolerance_for("coreml", "fp16").cosine)


def test_what_cannot_be_computed_in_half_precision_has_no_limit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = python_spec("tiny")
    checkpoint = make_checkpoint(spec)
    module = load_module(spec, checkpoint)

    def with_huge_weights(*_arguments: object) -> nn.Module:
        huge = copy.deepcopy(module)
        for parameter in huge.parameters():
            parameter.data.fill_(1e5)
        return huge

    monkeypatch.setattr(half_precision, "load_module", with_huge_weights)

    assert half_precision_error(spec, checkpoint) is None
    assert half_precision_error(spec, msgspec.structs.replace(checkpoint, form="onnx")) is None
