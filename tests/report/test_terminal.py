"""The table of a terminal: what stands in it, and that it fits."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from harness.report.terminal import table
from tests.fakes import records

if TYPE_CHECKING:
    from tests.fakes.records import FakeRun

LONG = "a_model_with_" + "a_very_" * 12 + "long_name"


def printed(run: FakeRun, width: int = 80, **console: Any) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, **console).print(table(run, width=width))
    return stream.getvalue()


def varied_run() -> FakeRun:
    """Every kind of row, warning and awkward name."""
    wide = [records.process([[1_234_567_890 * (10 + n)] * 3], index=n, steady=False) for n in range(5)]
    return records.run(
        [
            records.result(),
            records.result(precision="int8_dynamic", format="tflite", threads=16, processes=wide),
            records.result(model=LONG, outcome=records.failure(message="x" * 300, log="logs/1.log")),
            records.result(model="模型" * 20, outcome=records.not_runnable(), no_artifact=True),
            records.result(device_id="phone"),
        ],
        missing=[records.cell(precision="fp16")],
        devices=[
            records.device(id="host", name="host " * 30, virtual_machine="KVM"),
            records.device(id="phone", device_class="emulated", name="virtual phone"),
        ],
        models=[records.planned_model(trained=False), records.planned_model(LONG), records.planned_model("模型" * 20)],
    )


@pytest.mark.parametrize("width", [80, 81, 100, 120, 160, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = printed(varied_run(), width).splitlines()

    assert max(cell_len(line) for line in lines) <= width


def test_a_plain_run_at_80_columns() -> None:
    medians = (10_020_000, 10_000_000, 10_040_000, 10_010_000, 10_030_000)
    processes = [records.process([[ns] * 25], index=index) for index, ns in enumerate(medians)]
    result = records.result(processes=processes)

    text = printed(records.run([result, records.result(precision="int8", outcome=records.failure())]))

    assert [line.rstrip() for line in text.splitlines()][:7] == [
        "quick · 2026-11-23 08:15 UTC · harness 0.1.0",
        "",
        "bench-01 · host · AMD EPYC 7763 · 2 cores · Debian GNU/Linux 13",
        "file          thr     p50      ±     p90    cold    peak    size   parity",
        "                       ms             ms      ms     MiB     MiB",
        "mobilenet_v2 · 3.50 M parameters · 301 M MACs",
        "onnx/fp32       1    10.0  ±0.2%    10.0    72.1    92.0    13.6  4.4e-07",
    ]
    assert "onnx/int8       1  failed (see 1)" in text
    assert "1   mobilenet_v2 onnx/int8 (1 thread): host: the timing program was ended by" in text


def test_more_columns_are_shown_where_there_is_room() -> None:
    run = records.run([records.result()])

    assert "load" not in printed(run, 80).splitlines()[3]
    assert "load" in printed(run, 160).splitlines()[3]


def test_untrained_models_and_emulated_devices_are_named_as_such() -> None:
    text = printed(varied_run())

    assert "untrained, latency only" in text
    assert "EMULATED: times on this device say nothing about a real one" in text
    assert text.index("virtual machine (KVM)") < text.index("EMULATED")


def test_every_warning_is_shown() -> None:
    text = " ".join(printed(varied_run(), 200).split())

    assert "The warm-up ended before the times settled, in 5 of 5 processes." in text
    assert "The interval is wider than the ±1 % asked for" in text
    assert "The device is a virtual machine (KVM)" in text
    assert "As few as 15 samples" in text


def test_colour_is_for_terminals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    run = records.run([records.result()])
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    assert "\x1b[" not in printed(run)
    assert "\x1b[36m" in printed(run, force_terminal=True, color_system="standard").replace("1;36m", "36m")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "36m" not in printed(run, force_terminal=True)


def test_names_cannot_steer_the_terminal() -> None:
    hostile = "evil\x1b]0;title\x07\x1b[31m\r\n[bold]\u202ename"

    text = printed(records.run([records.result(model=hostile, outcome=records.failure(message=hostile))]))

    assert not set(text) & {"\x1b", "\x07", "\r", "\u202e"}
    assert "[bold]" in text


def test_a_run_of_no_cells_says_so() -> None:
    assert "The plan has no cells." in printed(records.run([]))


def test_a_run_of_failures_says_what_failed() -> None:
    run = records.run([records.result(outcome=records.failure("timeout"), threads=n) for n in (1, 2)])

    assert "Of 2 cells, 2 failed (2 timeout)." in printed(run)


def test_the_longest_usual_file_name_stays_on_one_line_at_80_columns() -> None:
    run = records.run([records.result(format="tflite", precision="int8_dynamic")])

    assert "tflite/int8_dynamic   1" in printed(run, 80)
