"""Rows: what tells them apart, in which order they come, how far they got."""

from __future__ import annotations

import msgspec

from harness.report.view import view
from tests.fakes import records


def test_rows_are_in_the_order_of_the_plan_and_none_is_missing() -> None:
    run = records.run([records.result(threads=n) for n in (3, 1)], missing=[records.cell(threads=2)])

    assert [(row.cell.choice.threads, row.status) for row in view(run).rows] == [
        (3, "measured"),
        (1, "measured"),
        (2, "not_run"),
    ]


def test_emulated_devices_come_last() -> None:
    run = records.run(
        [records.result(device_id="virtual"), records.result(device_id="host")],
        devices=[records.device(id="virtual", device_class="emulated"), records.device(id="host")],
    )

    assert [device.id for device in view(run).devices] == ["host", "virtual"]


def test_a_file_is_told_by_what_differs_in_the_run_and_no_more() -> None:
    plain = records.run([records.result(), records.result(precision="int8")])
    runtimes = records.run([records.result(), records.result(runtime="bench")])
    accelerated = records.run([records.result(format="tflite", accelerator="xnnpack")])

    assert [row.file for row in view(plain).rows] == ["onnx/fp32", "onnx/int8"]
    assert [row.file for row in view(runtimes).rows] == ["onnx/fp32 onnxruntime", "onnx/fp32 bench"]
    assert [row.file for row in view(accelerated).rows] == ["tflite/fp32 xnnpack"]


def test_graph_optimization_and_options_are_named_where_they_differ() -> None:
    usual = records.cell()
    choice = msgspec.structs.replace(usual.choice, graph_optimization="basic", options={"arena": False})
    other = msgspec.structs.replace(usual, id="other", choice=choice)

    rows = view(records.run([records.result(of=usual), records.result(of=other)])).rows

    assert [row.file for row in rows] == ["onnx/fp32 all", "onnx/fp32 basic arena=False"]


def test_affinity_and_what_times_are_named_where_they_differ() -> None:
    usual = records.cell()
    choice = msgspec.structs.replace(usual.choice, affinity="big", driver="python")
    other = msgspec.structs.replace(usual, id="other", choice=choice)

    rows = view(records.run([records.result(of=usual), records.result(of=other)])).rows

    assert [row.file for row in rows] == [
        "onnx/fp32 by auto on any processors",
        "onnx/fp32 by python on big processors",
    ]


def test_two_devices_of_one_name_are_told_apart_by_their_ids() -> None:
    devices = [records.device(id="R5CT1", name="Pixel 8"), records.device(id="R5CT2", name="Pixel 8"), records.device()]
    results = [records.result(device_id=each.id) for each in devices]

    names = [device.name for device in view(records.run(results, devices=devices)).devices]

    assert names == ["Pixel 8 (R5CT1)", "Pixel 8 (R5CT2)", "bench-01"]


def test_a_cell_of_which_everything_was_discarded_is_a_failure_with_a_reason() -> None:
    lost = records.process([[1]], discarded="throttled")

    (row,) = view(records.run([records.result(processes=[lost])])).rows

    assert row.status == "failed"
    assert row.failure is not None
    assert row.failure.kind == "disturbed"
    assert "discarded" in row.reason
