"""The sentences: made from figures, and right about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import pytest

from harness.report import words
from harness.report.view import clean, view
from harness.summary import CellWarning, WarningKind
from tests.fakes import records

if TYPE_CHECKING:
    from harness.records import DeviceState, Setting
    from tests.fakes.records import FakeRun

FACTS: dict[str, dict[str, Setting]] = {
    "emulated": {"device": "phone"},
    "wrong_numbers": {"relative_l2": 0.4},
    "fallback": {"asked": "xnnpack", "ran": "cpu 6", "delegated": 60, "total": 66, "reason": "dynamic shapes"},
    "placement_unknown": {"asked": "all", "reason": "the system does not tell"},
    "other_threads": {"asked": 4, "ran": 2},
    "untrained": {},
    "few_processes": {"processes": 3, "needed": 5},
    "few_samples": {"samples": 20, "needed": 64},
    "imprecise": {"half_width_pct": 3.14, "target_pct": 1.0, "stopped_by": "budget"},
    "not_steady": {"processes": 2, "of": 5},
    "drift": {"pct_per_min": -12.0, "limit_pct_per_min": 1.0},
    "disturbed": {"processes": 2, "of": 5},
    "discarded": {"processes": 1, "blocks": 3},
    "batched": {"iterations_per_sample": 16},
    "accepted_obstacles": {"names": "load"},
    "virtual_machine": {"name": "KVM"},
}
SAID = {
    "fallback": "60 of 66 nodes on xnnpack. Reason: dynamic shapes.",
    "placement_unknown": "(all was asked for). Reason: the system does not tell.",
    "other_threads": "2 ran where 4 were asked for",
    "imprecise": "±1 % asked for (up to ±3.1 %)",
    "not_steady": "in 2 of 5 processes",
    "drift": "up to -12 % a minute",
    "discarded": "1 process and 3 blocks",
    "batched": "up to 16",
    "virtual_machine": "(KVM)",
}


def answer(run: FakeRun) -> tuple[str, ...]:
    return words.answer(view(run))


@pytest.mark.parametrize("kind", get_args(WarningKind))
def test_every_kind_of_warning_has_a_sentence_and_advice(kind: WarningKind) -> None:
    what, advice = words.SENTENCES[kind]([FACTS[kind]])

    assert what.endswith(".")
    assert advice.endswith(".")
    assert SAID.get(kind, "") in what


def test_sentences_are_in_the_order_of_seriousness() -> None:
    assert tuple(words.SENTENCES) == get_args(WarningKind)


def test_the_fastest_file_of_each_model_is_named() -> None:
    run = records.run(
        [
            records.result(p50_ms=10),
            records.result(p50_ms=5, precision="int8", threads=2),
            records.result(p50_ms=7, model="resnet18", format="tflite"),
            records.result(p50_ms=9, model="resnet18"),
        ]
    )

    fastest = "mobilenet_v2 as onnx/int8 with 2 threads (5.03 ms), resnet18 as tflite/fp32 with 1 thread (7.05 ms)"
    assert answer(run) == (f"Fastest on bench-01: {fastest}.", "All 4 cells were measured.")


def test_a_row_that_may_be_as_fast_is_not_left_out() -> None:
    run = records.run([records.result(p50_ms=10), records.result(p50_ms=10.001, threads=2)])

    assert "1 other within the intervals" in answer(run)[0]


def test_a_fast_wrong_answer_is_never_the_fastest() -> None:
    wrong = {"parity": records.parity(passed=False)}
    run = records.run([records.result(p50_ms=n, threads=n, measured=wrong if n == 1 else None) for n in (1, 2, 3)])

    assert "with 2 threads" in answer(run)[0]


def test_emulated_times_are_not_compared() -> None:
    run = records.run([records.result(threads=n) for n in (1, 2)], devices=[records.device(device_class="emulated")])

    assert not any(sentence.startswith("Fastest") for sentence in answer(run))
    assert "all emulated, so that times mean nothing" in answer(run)[-1]


def test_failures_are_counted_by_kind_and_nothing_is_left_out() -> None:
    run = records.run(
        [
            records.result(),
            records.result(threads=2, outcome=records.failure("timeout")),
            records.result(threads=3, outcome=records.failure("timeout")),
            records.result(threads=4, outcome=records.failure("no_space")),
            records.result(threads=5, outcome=records.not_runnable()),
        ],
        missing=[records.cell(threads=6)],
    )

    assert "Of 6 cells, 3 failed (2 timeout, 1 no_space), 1 cannot run here, 1 has not been run yet." in answer(run)


def test_many_models_do_not_make_an_endless_sentence() -> None:
    run = records.run([records.result(model=f"net{n}", threads=t) for n in range(9) for t in (1, 2)])

    assert "and 5 more in the table" in answer(run)[0]


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


def test_a_note_about_every_row_needs_no_letter() -> None:
    warning = CellWarning(kind="virtual_machine", facts={"name": "KVM"})
    run = records.run([records.result(threads=n) for n in (1, 2)], devices=[records.device(virtual_machine="KVM")])
    rows = view(run).rows
    notes = words.notes(rows)

    assert all(warning in row.warnings for row in rows)
    assert words.marks(notes, rows) == {}


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
