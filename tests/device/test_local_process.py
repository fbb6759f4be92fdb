"""Real programs: they print, hang, flood, ignore, crash and leave others behind."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psutil
import pytest

from harness.device.local_process import LINE_LIMIT_BYTES, LocalProgram, run_to_end
from harness.errors import DeviceCommandFailed, DeviceTimedOut
from tests.fakes.processes import is_gone

if TYPE_CHECKING:
    from collections.abc import Callable

Held = TypeVar("Held")

ENVIRONMENT = {**os.environ, "PYTHONUNBUFFERED": "1"}


def start(lines: str) -> LocalProgram:
    """Run Python lines as the program."""
    return start_command(sys.executable, "-c", textwrap.dedent(lines))


def start_command(*argv: str) -> LocalProgram:
    return LocalProgram("host", argv, environment=ENVIRONMENT, folder=Path.cwd())


def test_lines_come_one_by_one_while_the_program_runs() -> None:
    program = start("import time\nprint('one', flush=True)\ntime.sleep(30)\nprint('two')")
    began = time.monotonic()

    assert next(program.lines(timeout_s=10)) == "one"
    assert time.monotonic() - began < 10
    program.end()


def test_lines_end_when_the_program_ends_and_the_last_one_needs_no_newline() -> None:
    program = start("import sys\nprint('one')\nprint()\nsys.stdout.write('cut of')")

    assert list(program.lines(timeout_s=10)) == ["one", "", "cut of"]
    assert program.wait(timeout_s=10) == 0


def test_lines_end_when_the_program_closes_its_output_and_goes_on() -> None:
    program = start("import os, time\nprint('one', flush=True)\nos.close(1)\ntime.sleep(30)")

    assert list(program.lines(timeout_s=10)) == ["one"]
    program.end()


def test_lines_that_are_asked_for_twice_are_at_their_end() -> None:
    program = start("print('one')")

    assert list(program.lines(timeout_s=10)) == ["one"]
    assert list(program.lines(timeout_s=10)) == []


def test_bytes_that_are_no_text_do_not_stop_the_lines() -> None:
    program = start("import os\nos.write(1, b'a\\xffb\\r\\nnext\\n')")

    assert list(program.lines(timeout_s=10)) == ["a\N{REPLACEMENT CHARACTER}b", "next"]


def test_a_line_without_end_comes_in_pieces() -> None:
    program = start(f"import os\nos.write(1, b'x' * {LINE_LIMIT_BYTES + 5})")

    assert [len(line) for line in program.lines(timeout_s=20)] == [LINE_LIMIT_BYTES, 5]


def test_the_time_for_lines_runs_from_the_call_and_not_from_the_first_line() -> None:
    program = start("import time\ntime.sleep(30)")
    lines = program.lines(timeout_s=0.3)
    time.sleep(0.5)
    began = time.monotonic()

    with pytest.raises(DeviceTimedOut, match=r"(?s)host: .*python.* took longer than 0\.3 s"):
        next(lines)

    assert time.monotonic() - began < 0.2
    program.end()


def test_the_time_for_lines_is_for_all_of_them_together() -> None:
    program = start("import time\nfor i in range(300):\n    print(i, flush=True)\n    time.sleep(0.1)")
    began = time.monotonic()

    with pytest.raises(DeviceTimedOut):
        list(program.lines(timeout_s=1.0))

    assert 1.0 <= time.monotonic() - began < 3.0
    program.end()


def test_the_parent_sleeps_while_it_waits() -> None:
    program = start("import time\ntime.sleep(1.2)\nprint('done')")
    before = time.process_time()

    assert list(program.lines(timeout_s=10)) == ["done"]

    assert time.process_time() - before < 0.05


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL", "SIGABRT"])
def test_a_program_that_a_signal_ends_gives_minus_its_number(name: str) -> None:
    program = start(f"import os, signal\nprint('one', flush=True)\nos.kill(os.getpid(), signal.{name})")

    assert list(program.lines(timeout_s=10)) == ["one"]
    assert program.wait(timeout_s=10) == -getattr(signal, name)


def test_an_exit_code_is_handed_on() -> None:
    assert start("raise SystemExit(7)").wait(timeout_s=10) == 7


def test_waiting_for_a_program_that_goes_on_times_out_and_leaves_it_running() -> None:
    program = start("import time\ntime.sleep(30)")

    with pytest.raises(DeviceTimedOut):
        program.wait(timeout_s=0.2)

    program.end()
    assert program.wait(timeout_s=10) == -signal.SIGKILL


def test_a_program_that_floods_its_error_output_is_not_held_up_and_its_end_is_kept() -> None:
    program = start(
        """
        import sys
        for i in range(200_000):
            print(f"complaint {i}", file=sys.stderr)
        print("done")
        """
    )

    assert list(program.lines(timeout_s=60)) == ["done"]
    assert program.wait(timeout_s=10) == 0
    assert program.last_words() == "complaint 199997 | complaint 199998 | complaint 199999"
    assert sum(len(piece) for piece in program._stderr) < 200_000


def test_a_program_that_floods_its_output_waits_for_its_reader_and_does_not_fill_our_memory() -> None:
    before = psutil.Process().memory_info().rss
    program = start("while True:\n    print('x' * 1000)")

    time.sleep(1.0)

    assert psutil.Process().memory_info().rss - before < 20 * 2**20
    program.end()


def test_a_program_that_nobody_listens_to_can_still_end() -> None:
    program = start("for i in range(100_000):\n    print('x' * 100)")

    assert program.wait(timeout_s=30) == 0


def test_a_slow_reader_still_gets_every_line_of_a_program_that_has_ended() -> None:
    program = start("for i in range(3000):\n    print(i)")
    lines = program.lines(timeout_s=30)
    first = next(lines)

    time.sleep(1.5)

    assert [first, *lines] == [str(i) for i in range(3000)]


def test_last_words_of_a_quiet_program_are_none() -> None:
    program = start("pass")
    program.wait(timeout_s=10)

    assert program.last_words() == ""


def test_a_program_that_ignores_sigterm_is_ended() -> None:
    program = start(
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(60)"
    )
    assert next(program.lines(timeout_s=10)) == "up"

    program.end()

    assert program.wait(timeout_s=1) == -signal.SIGKILL


GRANDCHILD = """
    import subprocess, sys, time
    ignore = "import signal as s, time; s.signal(s.SIGTERM, s.SIG_IGN); print('up', flush=True); time.sleep(60)"
    grandchild = subprocess.Popen([sys.executable, "-c", ignore], stdout=subprocess.PIPE)
    grandchild.stdout.readline()
    print(grandchild.pid, flush=True)
"""


def test_grandchildren_are_ended_with_the_program() -> None:
    program = start(GRANDCHILD + "    time.sleep(60)\n")
    grandchild = int(next(program.lines(timeout_s=20)))

    program.end()

    assert is_gone(grandchild)


def test_grandchildren_that_a_program_leaves_behind_are_ended_when_it_ends() -> None:
    program = start(GRANDCHILD)
    grandchild = int(next(program.lines(timeout_s=20)))

    assert program.wait(timeout_s=10) == 0

    assert is_gone(grandchild)


def test_a_grandchild_that_holds_the_output_open_does_not_hold_up_the_end() -> None:
    program = start(
        """
        import subprocess, sys
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print("done")
        """
    )

    assert list(program.lines(timeout_s=20)) == ["done"]
    assert program.wait(timeout_s=10) == 0


def test_ending_a_program_that_has_ended_does_nothing() -> None:
    program = start("pass")
    assert program.wait(timeout_s=10) == 0

    program.end()
    program.end()

    assert program.wait(timeout_s=1) == 0


def test_ending_from_another_thread_ends_the_lines() -> None:
    program = start("import time\nprint('one', flush=True)\ntime.sleep(60)")
    lines = program.lines(timeout_s=30)
    assert next(lines) == "one"

    threading.Timer(0.2, program.end).start()

    assert list(lines) == []


def test_no_zombie_no_thread_and_no_open_file_is_left() -> None:
    def held() -> tuple[set[int | None], int]:
        return {thread.ident for thread in threading.enumerate()}, psutil.Process().num_fds()

    before = settled(held)

    for _ in range(5):
        start("import time\ntime.sleep(60)").end()
        start("print(1)").wait(timeout_s=10)

    after = settled(held)
    assert after[0] <= before[0]
    assert after[1] <= before[1]
    assert [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE] == []


def test_a_program_runs_in_its_folder_with_its_environment_and_without_input(tmp_path: Path) -> None:
    program = LocalProgram(
        "host",
        (sys.executable, "-c", "import os, sys; print(os.getcwd(), os.environ['HELLO'], repr(sys.stdin.read()))"),
        environment={"HELLO": "you"},
        folder=tmp_path,
    )

    assert list(program.lines(timeout_s=10)) == [f"{tmp_path} you ''"]


def test_a_program_is_not_in_our_process_group_so_that_control_c_is_ours_to_handle() -> None:
    program = start("import os\nprint(os.getpgid(0) == os.getpid())")

    assert list(program.lines(timeout_s=10)) == ["True"]


@pytest.mark.parametrize(("name", "code"), [("no-such-program", 127), ("/etc", 126)])
def test_a_program_that_cannot_be_started_is_said_as_a_shell_says_it(name: str, code: int) -> None:
    with pytest.raises(DeviceCommandFailed) as caught:
        start_command(name, "flag")

    assert (caught.value.argv, caught.value.returncode) == ((name, "flag"), code)


def test_a_command_gives_its_outputs_apart_and_its_exit_code() -> None:
    result = run_to_end("host", ["sh", "-c", "echo out; echo err >&2; exit 3"], environment=ENVIRONMENT, timeout_s=10)

    assert (result.returncode, result.stdout, result.stderr) == (3, "out\n", "err\n")


def test_a_command_that_takes_too_long_is_ended_with_everything_it_started(tmp_path: Path) -> None:
    began = time.monotonic()

    with pytest.raises(DeviceTimedOut, match=r"took longer than 0\.5 s"):
        run_to_end(
            "host", ["sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; wait"], environment=ENVIRONMENT, timeout_s=0.5
        )

    assert time.monotonic() - began < 5
    assert is_gone(int((tmp_path / "pid").read_text()))


def settled(read: Callable[[], Held]) -> Held:
    """What `read` gives once the threads of programs that have ended are gone, too."""
    for _ in range(100):
        if not any(thread.name.startswith("program ") for thread in threading.enumerate()):
            break
        time.sleep(0.02)
    return read()
