"""A program on this machine, started, listened to and ended with everything it started.

Nothing here polls: threads sleep in the kernel until the program prints or ends, so that nothing is taken from a
program that is being timed.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, cast

from harness.device.device import ShellResult
from harness.errors import DeviceCommandFailed, DeviceTimedOut

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

LINE_LIMIT_BYTES = 16 * 2**20
"""A longer line is handed on in pieces. The longest that our runners print is a block of some 100,000 times."""
_KEPT_STDERR_BYTES = 64 * 1024
_LAST_LINES = 3
_QUEUED_LINES = 256
_GRACE_S = 1.0
"""For reading what is left in the pipes of a program that has ended."""


class LocalProgram:
    """A `RunningProgram` on this machine, the leader of a process group.

    The group is ended when the program ends, by itself or by `end`: what it left running would disturb the next
    measurement. A grandchild that made a session of its own escapes; its hold on the output keeps `lines` waiting.

    Args:
        device_id: For error messages.
        argv: What to start.
        environment: The whole environment.
        folder: Where it runs.
        is_told: Whether `tell` will be called. Else its standard input is empty.

    Raises:
        DeviceCommandFailed: There is no such program, or it may not be started.
    """

    def __init__(
        self,
        device_id: str,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        is_told: bool = False,
    ) -> None:
        self._device_id = device_id
        self._argv = tuple(argv)
        stdin = subprocess.PIPE if is_told else subprocess.DEVNULL
        self._process = _start(device_id, self._argv, environment, folder, stdin)
        self._lines: queue.Queue[str | None] = queue.Queue(maxsize=_QUEUED_LINES)
        self._unheard = threading.Event()
        """Set once nobody will read more lines: they are then dropped, so that the program never waits for a reader."""
        self._stderr: deque[bytes] = deque()
        self._over = threading.Event()
        self._reaping = threading.Lock()
        """Held while the process's number is given back, so that `end` never signals a number of somebody else's."""
        self._readers = [self._thread(self._read_stdout), self._thread(self._read_stderr)]
        self._thread(self._await_end)

    @property
    def argv(self) -> tuple[str, ...]:
        """What was started."""
        return self._argv

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        pipe = cast("io.BufferedWriter", self._process.stdin)
        # How it ended is told by whoever reads its lines; that it no longer listens says less.
        with contextlib.suppress(BrokenPipeError):
            pipe.write(f"{line}\n".encode())
            pipe.flush()

    def lines(self, *, timeout_s: float) -> Iterator[str]:
        """Its standard output line by line. Sleeps between lines."""
        # Not a generator itself: the time runs from this call, not from the first line that is asked for.
        return self._lines_until(time.monotonic() + timeout_s, timeout_s)

    def wait(self, *, timeout_s: float) -> int:
        """Its exit code, or minus the signal's number. Lines that nobody read are dropped."""
        self._drop_lines()
        if not self._over.wait(timeout_s):
            raise DeviceTimedOut(self._device_id, shlex.join(self._argv), timeout_s)
        for reader in self._readers:
            reader.join(_GRACE_S)
        return self._process.returncode

    def last_words(self) -> str:
        """The end of its standard error, on one line."""
        text = b"".join(tuple(self._stderr)).decode(errors="replace")
        return " | ".join([line.strip() for line in text.splitlines() if line.strip()][-_LAST_LINES:])

    def end(self) -> None:
        """End it and everything it started, at once."""
        self._drop_lines()
        with self._reaping:
            if not self._over.is_set():
                _end_group(self._process)
        self._over.wait()

    def _lines_until(self, deadline: float, timeout_s: float) -> Iterator[str]:
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise DeviceTimedOut(self._device_id, shlex.join(self._argv), timeout_s) from None
            if line is None:
                self._lines.put(None)  # a second caller finds the end as well
                return
            yield line

    def _drop_lines(self) -> None:
        self._unheard.set()
        # The reader may be waiting for a place in the queue; the line it then puts there is dropped with the rest.
        with contextlib.suppress(queue.Empty):
            while True:
                self._lines.get_nowait()
        self._say_closed()

    def _say_closed(self) -> None:
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)

    def _thread(self, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=work, name=f"program {self._process.pid}", daemon=True)
        thread.start()
        return thread

    def _read_stdout(self) -> None:
        with cast("io.BufferedReader", self._process.stdout) as pipe:
            while line := pipe.readline(LINE_LIMIT_BYTES):
                if not self._unheard.is_set():
                    self._lines.put(line.decode(errors="replace").rstrip("\r\n"))
        if self._unheard.is_set():
            self._say_closed()
        else:
            self._lines.put(None)

    def _read_stderr(self) -> None:
        kept = 0
        with cast("io.BufferedReader", self._process.stderr) as pipe:
            while piece := pipe.read1(_KEPT_STDERR_BYTES):  # what is there, without waiting for a full buffer
                self._stderr.append(piece)
                kept += len(piece)
                while kept - len(self._stderr[0]) >= _KEPT_STDERR_BYTES:
                    kept -= len(self._stderr.popleft())

    def _await_end(self) -> None:
        _await_exit(self._process)
        # Until it is reaped its number cannot be given to another program, so the group is surely ours.
        _end_group(self._process)
        with self._reaping:
            self._process.wait()
            if self._process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    self._process.stdin.close()
            self._over.set()


def run_to_end(device_id: str, argv: Sequence[str], *, environment: Mapping[str, str], timeout_s: float) -> ShellResult:
    """Run a command, its output in memory, and end its process group at the time-out.

    A command that does not exist gives 127 and one that may not be run 126, as a shell would say it.
    """
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        return ShellResult(returncode=_shell_code(error), stdout="", stderr=f"{argv[0]}: {error.strerror}")
    try:
        stdout, stderr = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise DeviceTimedOut(device_id, shlex.join(argv), timeout_s) from None
    finally:
        if process.returncode is None:
            _end_group(process)
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
    return ShellResult(
        returncode=process.returncode, stdout=stdout.decode(errors="replace"), stderr=stderr.decode(errors="replace")
    )


def _start(
    device_id: str, argv: tuple[str, ...], environment: Mapping[str, str], folder: Path, stdin: int
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
    except OSError as error:
        raise DeviceCommandFailed(device_id, argv, _shell_code(error), error.strerror or str(error)) from error


def _shell_code(error: OSError) -> int:
    """What a POSIX shell exits with when it cannot start a command."""
    return 127 if isinstance(error, FileNotFoundError) else 126


def _await_exit(process: subprocess.Popen[bytes]) -> None:
    """Sleep until a process has ended, and leave it to be reaped."""
    if sys.platform == "linux":
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    elif sys.platform == "win32":
        process.wait()
    else:  # macOS has waitid, but Python offers it there since 3.13 only
        event = select.kevent(process.pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
        with contextlib.closing(select.kqueue()) as events, contextlib.suppress(ProcessLookupError):
            events.control([event], 1, None)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.kill()
    else:
        # Nobody is left, or (macOS) only zombies are.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
