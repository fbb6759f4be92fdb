"""What a person sees while a run is under way."""

from __future__ import annotations

import io

import pytest

from harness.events import CellEnded, CellStarted, ConversionEnded, ConversionStarted, Event, ProcessEnded
from harness.live import line_for, watcher_for
from tests.fakes import records

RESULT = records.result()
FAILED = records.result(outcome=records.failure("runner_died", message="it died"))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            ConversionStarted("m", "tflite/int8", 2, 5, is_cached=False),
            "[2/5] converting m tflite/int8 ...",
        ),
        (ConversionStarted("m", "tflite/int8", 2, 5, is_cached=True), None),
        (
            ConversionEnded("m", "tflite/int8", records.failure(message="op FOO is unknown"), 3.0),
            "        m tflite/int8 failed: op FOO is unknown",
        ),
        (
            CellStarted(records.cell(), 1, 4, None),
            "[1/4] timing mobilenet_v2 onnx/fp32, 1 thread, host ...",
        ),
        (
            CellStarted(records.cell(), 2, 4, 75.0),
            "[2/4] timing mobilenet_v2 onnx/fp32, 1 thread, host, about 1 min 15 s left ...",
        ),
        (CellEnded(FAILED, 2, 4), "[2/4] mobilenet_v2 onnx/fp32, 1 thread, host failed: it died"),
        (
            CellEnded(records.result(outcome=records.not_runnable("no converter")), 2, 4),
            "[2/4] mobilenet_v2 onnx/fp32, 1 thread, host not runnable here: no converter",
        ),
    ],
)
def test_each_step_is_one_plain_line(event: Event, line: str | None) -> None:
    assert line_for(event) == line


def test_a_measured_cell_says_its_p50_and_how_long_it_took() -> None:
    line = line_for(CellEnded(records.result(p50_ms=4.2), 3, 4))

    assert line is not None
    assert line.startswith("[3/4] mobilenet_v2 onnx/fp32, 1 thread, host: p50 4.2")


def test_elsewhere_than_on_a_terminal_there_are_lines_and_no_control_codes() -> None:
    stream = io.StringIO()

    with watcher_for(records.run([RESULT]).plan, stream) as watch:
        watch(CellStarted(RESULT.cell, 1, 1, None))
        watch(CellEnded(RESULT, 1, 1))

    assert len(stream.getvalue().splitlines()) == 2
    assert "\x1b" not in stream.getvalue()


def test_on_a_terminal_failures_stay_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    assert not isinstance(RESULT.outcome, str)

    with watcher_for(records.run([RESULT]).plan, stream) as watch:
        watch(ConversionStarted("m", "tflite/int8", 1, 1, is_cached=False))
        watch(ConversionEnded("m", "tflite/int8", records.failure(message="[red]op FOO[/red]"), 3.0))
        watch(CellStarted(RESULT.cell, 1, 1, 10.0))
        watch(ProcessEnded(RESULT.cell, records.measurement().processes[0]))
        watch(CellEnded(FAILED, 1, 1))

    # The bar interprets nothing that comes from a model or a converter.
    assert "m tflite/int8 failed: [red]op FOO[/red]" in stream.getvalue()
    assert "failed: it died" in stream.getvalue()
