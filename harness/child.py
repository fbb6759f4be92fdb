"""Run one Python module of ours in a process of its own, and say how it ended.

Converters leak, crash and need gigabytes. Each of their jobs therefore runs in a child that reads one JSON request,
writes one JSON answer, and may die without harm.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from functools import cache
from typing import IO, TYPE_CHECKING

from harness import prefork
from harness.errors import UnreadableRecord, name_of_signal
from harness.prefork import Exit, Prefork

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a child ended.

    Attributes:
        returncode: Its exit code, or minus the signal's number.
        timed_out: It was ended by us.
        seconds: Wall time.
        peak_rss_bytes: Of the child, its libraries included; None where the system does not say, as when this
            process's own peak hides it.
        log: Everything it printed.
    """

    returncode: int
    timed_out: bool
    seconds: float
    peak_rss_bytes: int | None
    log: Path

    @property
    def signal_name(self) -> str | None:
        """`SIGKILL` and the like, or None."""
        return name_of_signal(-self.returncode) if self.returncode < 0 else None

    def last_lines(self, count: int = 3) -> str:
        """The end of what it printed, on one line."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return " | ".join([line.strip() for line in text.splitlines() if line.strip()][-count:])


def run_child(
    module: str, arguments: Sequence[str], *, log: Path, timeout_s: float, imports: Sequence[str] = ()
) -> Ended:
    """Run `python -m module arguments...`, its output into `log`, and wait.

    The child is a process group of its own and is ended as a whole: at the time-out, when this process is
    interrupted, and when the child itself has ended and left others behind.

    Args:
        module: To run.
        arguments: Its command line.
        log: Gets all it prints.
        timeout_s: Wall time.
        imports: What the child will import, as for `harness.prefork`. Where it can be, it is imported once, in a
            process from which all children with the same imports are forked: `module` has a `main` then, which is what
            runs. Changes nothing but the time.
    """
    # One thread each: children run beside each other, and threads of two that share processors wait for one another
    # (an evaluation of a Core ML file beside another took 5 times as long).
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1", "PYTHONUNBUFFERED": "1"}
    began = time.monotonic()
    ended: Exit | None = None
    with log.open("wb") as output:
        if imports and prefork.is_possible():
            ended = _prefork(tuple(imports)).run(
                module, arguments, environment=environment, log_fd=output.fileno(), timeout_s=timeout_s
            )
        if ended is None:
            ended = _run_alone(module, arguments, environment, output, timeout_s)
    return Ended(
        returncode=ended.returncode,
        timed_out=ended.timed_out,
        seconds=time.monotonic() - began,
        peak_rss_bytes=ended.peak_rss_bytes,
        log=log,
    )


@cache
def _prefork(imports: tuple[str, ...]) -> Prefork:
    made = Prefork(imports)
    atexit.register(made.close)
    return made


def _run_alone(
    module: str, arguments: Sequence[str], environment: dict[str, str], output: IO[bytes], timeout_s: float
) -> Exit:
    import resource  # noqa: PLC0415  (Windows has none, and this module is imported there, too)

    own_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )
    timed_out = threading.Event()

    def end_late() -> None:
        timed_out.set()
        _end_group(process.pid)

    timer = threading.Timer(timeout_s, end_late)
    timer.daemon = True
    timer.start()
    try:
        if sys.platform == "linux":
            # Not reaped yet, so that its number is surely still that of its group.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            _end_group(process.pid)
        # wait4 and not Popen.wait: only it tells this child's peak memory apart from that of its siblings.
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        _end_group(process.pid)
        process.wait()
        raise
    finally:
        timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return Exit(
        returncode=process.returncode,
        timed_out=timed_out.is_set(),
        # Linux counts the peak of the process that called exec as the new program's own (setmax_mm_hiwater_rss in
        # fs/exec.c), so a child that stayed below us shows our peak. Kilobytes there, bytes on macOS.
        peak_rss_bytes=usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        if usage.ru_maxrss > own_peak
        else None,
    )


def read_request(path: Path) -> bytes:
    """The request a child was started with.

    Raises:
        UnreadableRecord: The file is not there.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableRecord(str(path), str(error)) from error


def _end_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # it ended by itself a moment ago
        return
