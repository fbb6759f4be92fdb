"""A run in three sentences: made from its figures, and right about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import msgspec

from harness.report.answer import _SHAKY
from harness.report.answer import answer as sentences
from harness.report.view import view
from harness.summary import WarningKind
from tests.fakes import records

if TYPE_CHECKING:
    from tests.fakes.records import FakeRun


def answer(run: FakeRun) -> tuple[str, ...]:
    return sentences(view(run))


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


def test_the_fastest_comes_first_and_the_slowest_are_left_to_the_table() -> None:
    times = {"net0": 9, "net1": 8, "net2": 7, "net3": 6, "net4": 5, "alone": 1}
    results = [records.result(model=name, p50_ms=p50) for name, p50 in times.items()]
    results += [records.result(model=name, p50_ms=p50 + 1, threads=2) for name, p50 in times.items() if name != "alone"]

    said = answer(records.run(results))[0]

    assert [word for word in said.replace(",", " ").split() if word in times] == ["alone", "net4", "net3", "net2"]
    assert "and 2 more in the table" in said


def test_where_no_model_has_two_files_each_has_its_figure() -> None:
    run = records.run([records.result(p50_ms=10), records.result(p50_ms=7, model="resnet18")])

    each = ("resnet18 as onnx/fp32 with 1 thread (7.05 ms)", "mobilenet_v2 as onnx/fp32 with 1 thread (10.1 ms)")
    assert answer(run)[0] == f"P50 on bench-01: {', '.join(each)}."


def test_every_reason_for_distrust_has_words() -> None:
    assert set(get_args(WarningKind)) - set(_SHAKY) == {"untrained", "batched", "unprofiled"}


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

    assert "Of 6 cells, 3 failed (2 timeout, 1 no space), 1 cannot run here, 1 has not been run yet." in answer(run)


def test_many_models_do_not_make_an_endless_sentence() -> None:
    run = records.run([records.result(model=f"net{n}", threads=t) for n in range(9) for t in (1, 2)])

    assert "and 5 more in the table" in answer(run)[0]


def a_tested_run(errors_and_times: dict[str, tuple[float, float]], **changes: bool) -> FakeRun:
    """A run of one model in several precisions, each tested."""
    results = [records.result(precision=precision, p50_ms=p50) for precision, (_, p50) in errors_and_times.items()]
    results = [
        msgspec.structs.replace(made, artifact=records.artifact(made.cell, sha256=made.cell.precision))
        for made in results
    ]
    accuracies = [
        records.accuracy(eer, sha256=precision, **changes) for precision, (eer, _) in errors_and_times.items()
    ]
    return records.run(results, accuracies=accuracies)


def test_the_best_trade_off_is_named_with_intervals_where_errors_are_known() -> None:
    said = answer(a_tested_run({"fp32": (0.05, 10), "fp16": (0.06, 8), "int8": (0.08, 9)}))[0]

    front = (
        "mobilenet_v2 onnx/fp16, 1 thread (6.00 %, 4.80 to 7.20, 8.05 ms), "
        "mobilenet_v2 onnx/fp32, 1 thread (5.00 %, 4.00 to 6.00, 10.1 ms)"
    )
    assert said.endswith(f"; best trade-off of EER against latency on bench-01: {front}.")


def test_an_error_on_images_that_a_program_drew_is_said_to_be_that() -> None:
    said = answer(a_tested_run({"fp32": (0.05, 10), "fp16": (0.06, 8)}, is_synthetic=True))[0]

    assert "best trade-off of EER on synthetic images against latency on bench-01" in said


def test_one_row_whose_error_is_known_is_no_trade_off() -> None:
    results = [records.result(), records.result(threads=2, no_artifact=True)]

    assert "trade-off" not in answer(records.run(results, accuracies=[records.accuracy()]))[0]
