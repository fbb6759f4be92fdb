"""Run one Python module of ours in a process of its own, and say how it ended.

Converters leak, crash and need gigabytes. Each of their jobs therefore runs in a child that reads one JSON request,
writes one JSON answer, and may die without harm.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UnreadableRecord, name_of_signal

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


def run_child(module: str, arguments: Sequence[str], *, log: Path, timeout_s: float) -> Ended:
    """Run `python -m module arguments...`, its output into `log`, and wait.

    The child is a process group of its own and is ended as a whole: at the time-out, when this process is
    interrupted, and when the child itself has ended and left others behind.
    """
    environment = os.environ | {"ORT_DISABLE_TELEMETRY": "1", "PYTHONUNBUFFERED": "1"}
    import resource  # noqa: PLC0415  (Windows has none, and this module is imported there, too)

    own_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    with log.open("wb") as output:
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
    return Ended(
        returncode=process.returncode,
        timed_out=timed_out.is_set(),
        seconds=time.monotonic() - began,
        # Linux counts the peak of the process that called exec as the new program's own (setmax_mm_hiwater_rss in
        # fs/exec.c), so a child that stayed below us shows our peak. Kilobytes there, bytes on macOS.
        peak_rss_bytes=usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        if usage.ru_maxrss > own_peak
        else None,
        log=log,
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
