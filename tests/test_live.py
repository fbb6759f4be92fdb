"""What a person sees while a run is under way."""

from __future__ import annotations

import io
import re

import pytest

from harness.events import (
    CellEnded,
    CellStarted,
    ConversionEnded,
    ConversionStarted,
    Cooling,
    DeviceCameBack,
    DeviceSetAside,
    DeviceWentAway,
    Event,
    LeaseTakenOver,
    ProcessEnded,
)
from harness.live import _Table, line_for, watcher_for
from harness.records import NotRun
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
        (CellEnded(FAILED, 2, 4), "[2/4] mobilenet_v2 onnx/fp32, 1 thread, host: failed: it died"),
        (
            CellEnded(records.result(outcome=NotRun(reason="a: it went away")), 2, 4),
            "[2/4] mobilenet_v2 onnx/fp32, 1 thread, host: not run: a: it went away",
        ),
        (
            DeviceWentAway("a", "no answer", 300.0),
            "        a went away: no answer; waiting for it up to 5 min 00 s ...",
        ),
        (DeviceCameBack("a", 12.0), "        a is back after 12 s"),
        (DeviceSetAside("a", "it is odd"), "        a: it is odd"),
        (LeaseTakenOver("a", "run x of ann"), "        a: taken over from run x of ann"),
        (Cooling(records.cell(), "processor at 61 °C, above 55 °C"), None),
        (
            CellEnded(records.result(outcome=records.not_runnable("no converter")), 2, 4),
            "[2/4] mobilenet_v2 onnx/fp32, 1 thread, host: cannot run here: no converter",
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


def test_on_a_terminal_failures_stay_above_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()

    with watcher_for(records.run([RESULT]).plan, stream) as watch:
        watch(ConversionStarted("m", "tflite/int8", 1, 1, is_cached=False))
        watch(ConversionEnded("m", "tflite/int8", records.failure(message="[red]op FOO[/red]"), 3.0))
        watch(CellStarted(RESULT.cell, 1, 1, 10.0))
        watch(ProcessEnded(RESULT.cell, records.measurement().processes[0]))
        watch(CellEnded(FAILED, 1, 1))

    # The table interprets nothing that comes from a model or a converter.
    assert "m tflite/int8 failed: [red]op FOO[/red]" in stream.getvalue()
    assert "failed: it died" in stream.getvalue()


PHONE, BOARD, GONE = (records.cell(device_id=name) for name in ("R5CT1234ABC", "board-01", "virtual:a"))


def shown(width: int, **environment: str) -> tuple[str, list[str]]:
    """The table in the middle of a run on three devices, as it is written, and its lines without control codes."""
    from rich.console import Console

    stream = Terminal()
    console = Console(file=stream, width=width, force_terminal=True, _environ={"TERM": "xterm", **environment})
    table = _Table([PHONE, PHONE, BOARD, GONE], console)
    table._note(ConversionStarted("mobilenet_v2", "tflite/int8", 2, 3, is_cached=False))
    table._note(CellStarted(PHONE, 1, 4, None))
    table._note(CellEnded(records.result(of=PHONE, outcome=records.failure()), 1, 4))
    table._note(CellStarted(PHONE, 2, 4, 75.4))
    table._note(ProcessEnded(PHONE, records.measurement(p50_ms=4.2).processes[0]))
    table._note(Cooling(BOARD, "processor at 61 °C, above 55 °C"))
    table._note(DeviceWentAway("virtual:a", "nothing listens there", 300.0))
    console.print(table)
    written = stream.getvalue()
    return written, re.sub(r"\x1b\[[0-9;]*m", "", written).splitlines()


@pytest.mark.parametrize("width", [80, 160])
def test_devices_stand_side_by_side_with_what_each_is_doing(width: int) -> None:
    _, lines = shown(width)

    assert all(len(line) <= width for line in lines)
    assert len(lines) == 4, "a line a device, and one for the files"
    files, phone, board, gone = lines
    assert re.search(r"files +converting mobilenet_v2 tflite/int8 .*2/3", files)
    assert re.search(r"R5CT1234ABC +mobilenet_v2 onnx/fp32, 1 thread: 4\.2\d ms .*1/2.* +~1 min 15 s", phone)
    assert re.search(r"board-01 +cooling: processor at 61 °C, above 55 °C .*0/1", board)
    assert re.search(r"virtual:a +gone; waiting up to 5 min.*0/1", gone)


def test_a_wide_terminal_shows_a_bar_and_how_many_failed() -> None:
    _, lines = shown(160)

    assert "1/2, 1 failed" in lines[1]
    assert "━" in lines[1]


def test_no_color_is_heeded() -> None:
    coloured, _ = shown(80)
    plain, _ = shown(80, NO_COLOR="1")

    assert re.search(r"\x1b\[[0-9;]*3[0-7]m", coloured)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", plain)


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()

    with watcher_for(records.run([RESULT]).plan, stream) as watch:
        watch(CellStarted(RESULT.cell, 1, 1, None))

    assert stream.getvalue() == "[1/1] timing mobilenet_v2 onnx/fp32, 1 thread, host ...\n"


@pytest.mark.parametrize("hostile", ["\x1b[2J", "a\n::error::b", "a\rb", "\u202eabc"])
def test_a_line_holds_nothing_that_steers_a_terminal_or_a_ci_job(hostile: str) -> None:
    failure = records.failure(message=f"it said {hostile}")

    line = line_for(ConversionEnded("net", "onnx/int8", failure, 1.0, is_cached=False))

    assert line is not None
    assert line.startswith("        net onnx/int8 failed: it said ")
    assert not set(line) & set("\x1b\n\r\u202e")
