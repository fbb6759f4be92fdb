from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING, Protocol

import pytest

from harness import prefork
from harness.child import run_child
from harness.prefork import Exit, Prefork
from tests.fakes.processes import interrupted_once_it_speaks, is_gone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(not prefork.is_possible(), reason="only Linux forks what a framework was imported into")


class Run(Protocol):
    def __call__(self, lines: str, *arguments: str, timeout_s: float = 30.0) -> Exit: ...


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Prefork]:
    """Imports a module that says who imported it."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "a_framework.py").write_text("import os\nIMPORTED_BY = os.getpid()\n")
    made = Prefork(("a_framework",))
    yield made
    made.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.txt"


@pytest.fixture
def run(parent: Prefork, tmp_path: Path, log: Path) -> Run:
    """Run Python lines as `main` of a forked child."""

    def run_lines(lines: str, *arguments: str, timeout_s: float = 30.0) -> Exit:
        name = f"child_{len([*tmp_path.glob('child_*.py')])}"
        body = textwrap.indent(textwrap.dedent(lines), "    ")
        (tmp_path / f"{name}.py").write_text(f"import os, signal, sys, time\ndef main():\n{body}\n")
        with log.open("ab") as output:
            ended = parent.run(name, arguments, environment={**os.environ}, log_fd=output.fileno(), timeout_s=timeout_s)
        assert ended is not None
        return ended

    return run_lines


def test_what_was_imported_once_is_there_in_every_child(run: Run, log: Path) -> None:
    lines = "import a_framework\nprint(a_framework.IMPORTED_BY, os.getppid(), os.getpid())"
    for _ in range(2):
        assert run(lines).returncode == 0

    (first, parent, child), (second, same, other) = (line.split() for line in log.read_text().splitlines())
    assert first == second == parent == same
    assert len({parent, child, other}) == 3


def test_a_child_gets_arguments_place_and_environment_of_the_one_who_asks(
    run: Run, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("pass")
    monkeypatch.setenv("SET_SINCE_THEN", "yes")
    monkeypatch.chdir(tmp_path)
    run("print(sys.argv[1:], os.environ['SET_SINCE_THEN'], os.getcwd(), sys.stdin.read() == '')", "a", "b c")

    assert log.read_text() == f"['a', 'b c'] yes {tmp_path} True\n"


def test_both_outputs_of_a_child_are_in_the_log_also_when_it_raises(run: Run, log: Path) -> None:
    assert run("print('out')\nraise ValueError('the reason')").returncode == 1

    assert log.read_text().startswith("out\nTraceback")
    assert "ValueError: the reason" in log.read_text()


@pytest.mark.parametrize(("lines", "code"), [("sys.exit(7)", 7), ("sys.exit('why')", 1), ("sys.exit()", 0)])
def test_an_exit_code_is_handed_on(run: Run, lines: str, code: int) -> None:
    assert run(lines).returncode == code


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL", "SIGABRT"])
def test_a_child_that_a_signal_ends_says_which_and_harms_nobody(run: Run, name: str) -> None:
    ended = run(f"os.kill(os.getpid(), signal.{name})")

    assert (ended.returncode, ended.timed_out) == (-getattr(signal, name), False)
    assert run("pass").returncode == 0


def test_the_peak_is_the_childs_own_with_what_was_imported_for_it(run: Run) -> None:
    small, large = run("pass"), run(f"held = b'x' * {200 * 2**20}")

    assert small.peak_rss_bytes is not None
    assert large.peak_rss_bytes is not None
    assert 5 * 2**20 < small.peak_rss_bytes < 100 * 2**20
    assert 200 * 2**20 < large.peak_rss_bytes < 300 * 2**20


LEAVES_ONE_BEHIND = """
    import subprocess
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(left.pid, flush=True)
"""


def test_a_child_that_takes_too_long_is_ended_with_all_it_started(run: Run, log: Path) -> None:
    began = time.monotonic()
    ended = run(LEAVES_ONE_BEHIND + "    time.sleep(60)", timeout_s=1.5)

    assert (ended.returncode, ended.timed_out) == (-signal.SIGKILL, True)
    assert time.monotonic() - began < 20
    assert is_gone(int(log.read_text()), within_s=5.0)


def test_what_a_child_leaves_behind_is_ended_too(run: Run, log: Path) -> None:
    assert run(LEAVES_ONE_BEHIND).returncode == 0

    assert is_gone(int(log.read_text()), within_s=5.0)


def test_a_child_is_ended_when_we_are_interrupted(run: Run, log: Path) -> None:
    with pytest.raises(KeyboardInterrupt), interrupted_once_it_speaks(log):
        run("print(os.getpid(), flush=True)\ntime.sleep(60)")

    assert is_gone(int(log.read_text()), within_s=5.0)


def test_children_run_beside_each_other(run: Run) -> None:
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(run("time.sleep(1)").returncode)) for _ in range(4)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
        time.sleep(0.05)  # each finds a name of its own
    for thread in threads:
        thread.join()

    assert codes == [0, 0, 0, 0]
    assert time.monotonic() - began < 4


def test_a_parent_that_is_killed_takes_its_children_along_and_another_is_started(
    run: Run, log: Path, parent: Prefork
) -> None:
    run("print(os.getppid(), flush=True)")
    process = int(log.read_text())

    ended = run(f"os.kill({process}, signal.SIGKILL)\ntime.sleep(60)")

    assert ended == Exit(returncode=-signal.SIGKILL, peak_rss_bytes=None, timed_out=False)
    assert run("pass").returncode == 0


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_of_a_program_that_is_killed_while_it_waits(tmp_path: Path, ended_by: signal.Signals) -> None:
    (tmp_path / "a_child.py").write_text(
        "import os, time\ndef main():\n    print(os.getpid(), os.getppid())\n    time.sleep(60)\n"
    )
    (tmp_path / "asks.py").write_text(
        "import sys, pathlib\nfrom harness.child import run_child\n"
        "run_child('a_child', [], log=pathlib.Path('log.txt'), timeout_s=60, imports=('json',))\n"
    )
    asking = subprocess.Popen(
        [sys.executable, "asks.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{os.pathsep.join(sys.path)}"},
    )
    log = tmp_path / "log.txt"
    while not log.exists() or not log.read_text().endswith("\n"):
        assert asking.poll() is None
        time.sleep(0.02)
    asking.send_signal(ended_by)
    asking.wait()

    for pid in log.read_text().split():
        assert is_gone(int(pid), within_s=5.0)


def test_one_that_cannot_be_started_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "a_child.py").write_text("if __name__ == '__main__':\n    print('done')\n")
    # Gone as soon as it is started, whatever it is asked.
    (tmp_path / "ends_all.py").write_text("import os\nos._exit(0)\n")

    ended = run_child("a_child", [], log=tmp_path / "log.txt", timeout_s=30, imports=("ends_all",))

    assert ended.returncode == 0
    assert ended.last_lines() == "done"


def test_what_is_not_installed_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "a_child.py").write_text("def main():\n    print('done')\n")
    imports = ("no_such_framework", "json:no_such_function", "json")

    ended = run_child("a_child", [], log=tmp_path / "log.txt", timeout_s=30, imports=imports)

    assert (ended.returncode, ended.last_lines()) == (0, "done")
