"""How rows and conditions are called: once, in order, and without what nobody knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from harness.report import words
from harness.report.view import view
from harness.text import clean
from tests.fakes import records

if TYPE_CHECKING:
    from harness.records import DeviceState


def test_the_subject_is_models_machines_and_runtimes_with_versions() -> None:
    failed = records.result(model="net", format="tflite", outcome=records.failure())
    run = records.run([records.result(), failed])

    said = words.subject(view(run))

    assert said == (
        "mobilenet_v2, net · on bench-01 (AMD EPYC 7763, Debian GNU/Linux 13) · onnxruntime 1.24.0, litert (no figure)"
    )


def test_a_long_subject_says_how_much_it_leaves_out() -> None:
    run = records.run([records.result(model=f"net_{n}") for n in range(9)])

    assert words.subject(view(run)).startswith("net_0, net_1, net_2, net_3, net_4, net_5 and 3 more · on bench-01")


def test_the_heading_names_the_commit_where_it_is_known() -> None:
    plan = records.run([]).plan

    assert words.heading(plan).endswith("harness 0.1.0")
    assert words.heading(msgspec.structs.replace(plan, harness_commit="53f1154" + "0" * 33)).endswith(
        "harness 0.1.0 from commit 53f1154"
    )


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
