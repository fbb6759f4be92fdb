"""How rows and conditions are called: once, in order, and without what nobody knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.report import words
from harness.report.view import clean, view
from tests.fakes import records

if TYPE_CHECKING:
    from harness.records import DeviceState


def test_conditions_are_ranges_and_missing_sensors_are_left_out() -> None:
    states: list[DeviceState] = [
        records.state(load_1min=0.5, governor="performance"),
        records.state(load_1min=2.25, governor=None),
    ]

    said = words.conditions(states)

    assert said["Load over 1 min"] == "0.50 to 2.25"
    assert said["Governor"] == "performance, unknown"
    assert said["Clock"] == "2,450 MHz"
    assert "Temperature" not in said


def test_rows_of_one_file_are_named_together() -> None:
    run = records.run([records.result(threads=n) for n in (1, 2)] + [records.result(precision="int8")])

    assert words.row_names(view(run).rows) == "mobilenet_v2 onnx/fp32 (1 and 2 threads), onnx/int8 (1 thread)"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\n c", "a b c"),
        ("\x1b[31mred", "[31mred"),
        ("a\u202eb\u2028c", "a b c"),
        ("naïve 模型 🙂", "naïve 模型 🙂"),
    ],
)
def test_clean_text_is_one_line_without_control_characters(text: str, shown: str) -> None:
    assert clean(text) == shown
