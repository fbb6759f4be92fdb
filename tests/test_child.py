from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import textwrap
from typing import TYPE_CHECKING, Protocol

import pytest

from harness.child import Ended, read_request, run_child
from harness.errors import UnreadableRecord
from tests.fakes.processes import interrupted_once_it_speaks, is_gone

if TYPE_CHECKING:
    from pathlib import Path


class Run(Protocol):
    def __call__(self, lines: str, *arguments: str, timeout_s: float = 30.0) -> Ended: ...


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run Python lines as the child."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def run_lines(lines: str, *arguments: str, timeout_s: float = 30.0) -> Ended:
        (tmp_path / "the_child.py").write_text(textwrap.dedent(lines))
        return run_child("the_child", arguments, log=tmp_path / "log.txt", timeout_s=timeout_s)

    return run_lines


def test_a_child_gets_its_arguments_and_both_its_outputs_are_in_the_log(run: Run, tmp_path: Path) -> None:
    ended = run("import sys\nprint('out', *sys.argv[1:])\nprint('err', file=sys.stderr)", "a", "b c")

    assert (ended.returncode, ended.timed_out, ended.signal_name) == (0, False, None)
    assert (tmp_path / "log.txt").read_text() == "out a b c\nerr\n"


def test_an_exit_code_is_handed_on(run: Run) -> None:
    assert run("raise SystemExit(7)").returncode == 7


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL", "SIGABRT"])
def test_a_child_that_a_signal_ends_says_which(run: Run, name: str) -> None:
    ended = run(f"import os, signal\nos.kill(os.getpid(), signal.{name})")

    assert ended.returncode == -getattr(signal, name)
    assert ended.signal_name == name
    assert not ended.timed_out


def test_a_child_that_takes_too_long_is_ended_also_when_it_ignores_sigterm(run: Run) -> None:
    ended = run(
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)",
        timeout_s=0.5,
    )

    assert ended.timed_out
    assert ended.signal_name == "SIGKILL"
    assert 0.5 <= ended.seconds < 5


GRANDCHILD = """
    import subprocess, sys, time
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(grandchild.pid, flush=True)
"""


def test_grandchildren_are_ended_with_a_child_that_takes_too_long(run: Run) -> None:
    ended = run(GRANDCHILD + "    time.sleep(60)\n", timeout_s=2.0)

    assert ended.timed_out
    assert is_gone(int(ended.last_lines()))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the leader is reaped first, and its group may be reused")
def test_grandchildren_that_a_child_leaves_behind_are_ended_too(run: Run) -> None:
    ended = run(GRANDCHILD)

    assert ended.returncode == 0
    assert is_gone(int(ended.last_lines()))


def test_a_child_is_ended_when_we_are_interrupted(run: Run, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), interrupted_once_it_speaks(tmp_path / "log.txt"):
        run("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)")

    assert is_gone(int((tmp_path / "log.txt").read_text()))


def test_the_peak_of_a_child_that_needs_much_is_its_own(run: Run) -> None:
    # Linux: kilobytes, the highest of this process's life, which other tests may have made large.
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    ended = run(f"held = b'x' * {own + 200 * 2**20}")

    assert ended.peak_rss_bytes is not None
    assert own + 200 * 2**20 < ended.peak_rss_bytes < own + 300 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands the peak on through exec")
def test_the_peak_of_a_child_that_stays_below_ours_is_unknown_and_not_ours(run: Run) -> None:
    assert run("pass").peak_rss_bytes is None


def test_telemetry_is_off_in_every_child(run: Run) -> None:
    assert run("import os\nprint(os.environ['ORT_DISABLE_TELEMETRY'])").last_lines() == "1"


def test_last_lines_are_the_end_of_the_log_on_one_line_whatever_bytes_it_holds(run: Run) -> None:
    ended = run("import os\nos.write(1, b'one\\n\\ntwo\\n  three  \\nf\\xffur\\n')")

    assert ended.last_lines() == "two | three | f\N{REPLACEMENT CHARACTER}ur"
    assert ended.last_lines(1) == "f\N{REPLACEMENT CHARACTER}ur"


def test_no_zombie_is_left(run: Run) -> None:
    run("pass")

    with contextlib.suppress(ChildProcessError):
        assert os.waitpid(-1, os.WNOHANG) == (0, 0)


def test_a_request_that_is_not_there_is_said_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "request.json").write_bytes(b"{}")

    assert read_request(tmp_path / "request.json") == b"{}"
    with pytest.raises(UnreadableRecord, match=r"none\.json: .*No such file"):
        read_request(tmp_path / "none.json")
