"""A process that has imported a framework and forks one child after the other from there (Linux only).

A converter's imports take from 3 to 9 seconds of processor time, as long as its work on a small network. A process
started here pays them once: it imports, then waits for requests, and each child begins as a copy of it, with nothing
but the imports done. No threads of ours run in it, no network was computed in it, so that no child inherits anything
that a child started alone would not have found.

Both sides of the seam are here: `Prefork` is used by `harness.child`, `main` is what the process runs.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_IDLE_S = 120.0
"""The process ends after this long without a child: what it holds, 200 to 500 MB, may be wanted elsewhere."""
_REQUEST_BYTES = 1 << 20
_MESSAGE_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Exit:
    """How a child ended.

    Attributes:
        returncode: Its exit code, or minus the signal's number.
        peak_rss_bytes: Of the child, what was imported for it included; None if that is unknown.
        timed_out: It was ended by us.
    """

    returncode: int
    peak_rss_bytes: int | None
    timed_out: bool


def is_possible() -> bool:
    """Whether this system can do it: macOS forbids its frameworks in a forked process, Windows cannot fork."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open")


class Prefork:
    """Children that begin with the same modules imported. The process is started with the first of them."""

    def __init__(self, imports: Sequence[str]) -> None:
        self._imports = tuple(imports)
        self._lock = threading.Lock()
        self._control: socket.socket | None = None

    def run(
        self, module: str, arguments: Sequence[str], *, environment: Mapping[str, str], log_fd: int, timeout_s: float
    ) -> Exit | None:
        """Run `main` of a module in a fork, the arguments its command line, its output into `log_fd`, and wait.

        The child is ended with all that it started: at the time-out, when this process is interrupted or dies, and when
        the child itself has ended and left others behind.

        Returns:
            How it ended; None if no child could be forked, for which the log says why.
        """
        request = {"module": module, "arguments": [*arguments], "cwd": str(Path.cwd()), "environment": {**environment}}
        problem = "no child was forked"
        # Twice: a process that had nothing to do for long ends itself, perhaps with this request unread.
        for _ in range(2):
            try:
                ended = self._ask(request, log_fd, timeout_s)
            except (OSError, subprocess.CalledProcessError) as error:
                problem = str(error)
                break
            if ended is not None:
                return ended
        logging.getLogger(__name__).warning("cannot prepare %s: %s", ", ".join(self._imports), problem)
        return None

    def close(self) -> None:
        """End the process, and with it what it forked. The next `run` starts another."""
        with self._lock:
            self._forget()

    def _ask(self, request: dict[str, Any], log_fd: int, timeout_s: float) -> Exit | None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                self._send(request, [theirs.fileno(), log_fd])
            return _await(ours, timeout_s)

    def _send(self, request: dict[str, Any], fds: list[int]) -> None:
        message = [json.dumps(request).encode()]
        with self._lock:
            if self._control is not None:
                try:
                    socket.send_fds(self._control, message, fds)
                except OSError:  # it has ended
                    self._forget()
                else:
                    return
            self._control = self._start(request["environment"])
            socket.send_fds(self._control, message, fds)

    def _start(self, environment: dict[str, str]) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _REQUEST_BYTES)
            with theirs:
                subprocess.run(  # ends at once: what it forks is nobody's child, and leaves us no zombie
                    [sys.executable, "-m", __name__, str(theirs.fileno()), *self._imports],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=environment,
                    # Ctrl-C is for us to act on: an interrupted import would be no answer to anybody.
                    start_new_session=True,
                    check=True,
                )
        except BaseException:
            ours.close()
            raise
        return ours

    def _forget(self) -> None:
        if self._control is not None:
            self._control.close()  # which is what tells it to end
        self._control = None


def _await(ours: socket.socket, timeout_s: float) -> Exit | None:
    timed_out = False
    ours.settimeout(timeout_s)
    try:
        try:
            if not _receive(ours):
                return None
        except TimeoutError:  # its imports do not end, neither here nor in a process of its own
            return Exit(returncode=-signal.SIGKILL, peak_rss_bytes=None, timed_out=True)
        try:
            said = _receive(ours)
        except TimeoutError:
            timed_out = True
            said = _end(ours)
    except BaseException:
        _end(ours)
        raise
    if not said:
        # The process between us and the child was killed, and the child with it.
        return Exit(returncode=-signal.SIGKILL, peak_rss_bytes=None, timed_out=timed_out)
    found = json.loads(said)
    return Exit(returncode=found["returncode"], peak_rss_bytes=found["peak_rss_bytes"], timed_out=timed_out)


def _end(ours: socket.socket) -> bytes:
    """Have the child ended, wait for it, return the last that is said of it."""
    ours.settimeout(None)
    with contextlib.suppress(OSError):
        ours.shutdown(socket.SHUT_WR)
    last = b""
    while said := _receive(ours):
        last = said
    return last


def _receive(ours: socket.socket) -> bytes:
    try:
        return ours.recv(_MESSAGE_BYTES)
    except ConnectionError:
        return b""


# --- the process ---------------------------------------------------------------------------------------------------


def main() -> None:
    """Import what was asked for, then fork on request until nobody is there to ask."""
    if os.fork():
        os._exit(0)
    control = socket.socket(fileno=int(sys.argv[1]))
    for name in sys.argv[2:]:
        # What cannot be imported here cannot be in the child, which says so to somebody who listens.
        with contextlib.suppress(Exception):
            _import(name)
    # Memory that no collection writes to stays shared with the children.
    gc.collect()
    gc.freeze()
    _Parent(control).serve()


def _import(reference: str) -> None:
    """Import a module, or call a function of one that imports: `package.module` or `package.module:function`."""
    module, _, function = reference.partition(":")
    found = importlib.import_module(module)
    if function:
        getattr(found, function)()


class _Parent:
    """Forks a child for each request, and tells its asker how it ended."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._selector = selectors.DefaultSelector()
        self._children: list[_Child] = []

    def serve(self) -> None:
        """Until nobody asks any more, or has asked for long."""
        self._selector.register(self._control, selectors.EVENT_READ)
        while ready := self._selector.select(None if self._children else _IDLE_S):
            for key, _ in ready:
                if key.fileobj is self._control:
                    self._take()
                elif key.data in self._children:
                    self._look_after(key.data, is_asker=key.fileobj is key.data.asker)

    def _take(self) -> None:
        request, fds, _, _ = socket.recv_fds(self._control, _REQUEST_BYTES, 2)
        if not request:
            for child in self._children:
                _end_group(child.pid)
            os._exit(0)
        asker, log_fd = socket.socket(fileno=fds[0]), fds[1]
        try:
            pid = os.fork()
        except OSError:  # no memory: whoever asked tries it in another way
            asker.close()
            os.close(log_fd)
            return
        if pid == 0:
            self._leave(asker)
            _work(json.loads(request), log_fd)
        os.close(log_fd)
        child = _Child(pid, os.pidfd_open(pid), asker)
        self._children.append(child)
        self._selector.register(child.pidfd, selectors.EVENT_READ, child)
        self._selector.register(asker, selectors.EVENT_READ, child)
        _tell(asker, {"pid": pid})

    def _look_after(self, child: _Child, *, is_asker: bool) -> None:
        # Not reaped yet, so that its number is surely still that of its group.
        _end_group(child.pid)
        if is_asker:  # it turned away; what is left is to see the child end
            self._selector.unregister(child.asker)
            return
        self._children.remove(child)
        self._selector.unregister(child.pidfd)
        os.close(child.pidfd)
        if child.asker.fileno() in self._selector.get_map():
            self._selector.unregister(child.asker)
        # wait4: only it tells this child's peak memory apart from that of its siblings.
        _, status, usage = os.wait4(child.pid, 0)
        _tell(child.asker, {"returncode": os.waitstatus_to_exitcode(status), "peak_rss_bytes": usage.ru_maxrss * 1024})
        child.asker.close()

    def _leave(self, asker: socket.socket) -> None:
        """In the child: keep nothing open that tells others whether this process lives."""
        self._selector.close()
        self._control.close()
        asker.close()
        for child in self._children:
            child.asker.close()
            os.close(child.pidfd)


def _work(request: dict[str, Any], log_fd: int) -> NoReturn:
    """In the child: be a program whose command line is the arguments and whose work is the module's `main`."""
    code = 1
    try:
        os.setsid()
        os.dup2(log_fd, 1)
        os.dup2(log_fd, 2)
        os.close(log_fd)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["cwd"])
        gc.unfreeze()
        sys.argv = [request["module"], *request["arguments"]]
        importlib.import_module(request["module"]).main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001  (what Python itself does with whatever ends a program)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Not sys.exit: nothing of the process that was copied is to be tidied up a second time.
        os._exit(code)


def _tell(asker: socket.socket, message: dict[str, int]) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        asker.send(json.dumps(message).encode())


def _end_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # It ended by itself a moment ago, or was forked a moment ago and has no group yet.
        os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True, eq=False)
class _Child:
    pid: int
    pidfd: int
    asker: socket.socket


if __name__ == "__main__":
    main()
