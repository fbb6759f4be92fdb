"""Jobs for a child process, as typed requests and answers; errors cross over as themselves.

The parent calls `run_job`, the child's `main` calls `serve`. What the child raises on purpose arrives in the parent as
the same exception; a signal, a time-out or a kill becomes a `ConversionFailed` that says which it was.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from harness import errors
from harness.child import Ended, read_request, run_child
from harness.decoding import decode
from harness.errors import ConversionFailed, DeviceFull, HarnessError
from harness.records import Record
from harness.workspace import cache_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import UnionType

_Request = TypeVar("_Request", bound=Record)
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, kw_only=True)
class Done(Generic[_Answer]):
    """What a job answered, and what it took.

    Attributes:
        answer: The child's answer.
        seconds: Wall time. Where `imports` were given and could be done beforehand, those are not in it.
        peak_rss_bytes: The child's largest resident memory, its libraries included.
    """

    answer: _Answer
    seconds: float
    peak_rss_bytes: int | None


class _Raised(Record, frozen=True, kw_only=True):
    """An error on its way from child to parent."""

    name: str
    arguments: list[str | int | float | list[str] | None]
    hint: str


class _Reply(Record, frozen=True, kw_only=True):
    """What a child leaves behind beside its answer, as its last act."""

    raised: _Raised | None = None
    peak_rss_bytes: int | None = None


def run_job(
    module: str,
    request: Record,
    answer: type[_Answer],
    *,
    what: str,
    timeout_s: float,
    imports: Sequence[str] = (),
) -> Done[_Answer]:
    """Run `python -m module` on a request and return its answer.

    Args:
        module: Has a `main` that calls `serve`.
        request: What to do.
        answer: The type of what comes back.
        what: Names the job in messages and in its log's file name.
        timeout_s: The child is ended after this.
        imports: What it will import, done once for all jobs with the same; see `run_child`.

    Raises:
        HarnessError: The very error that the child raised.
        ConversionFailed: The child was ended by a signal or by the time-out, or raised something unforeseen. Its output
            is kept under the cache's `logs/`.
        DeviceFull: There is no space for the request.
    """
    log = _log_file(what)
    try:
        with tempfile.TemporaryDirectory(prefix="job-", dir=_made(cache_dir() / "jobs")) as name:
            folder = Path(name)
            (folder / "request.json").write_bytes(msgspec.json.encode(request))
            ended = run_child(module, [str(folder)], log=log, timeout_s=timeout_s, imports=imports)
            reply = _read_reply(folder / "reply.json")
            if reply is None or reply.raised is not None:
                raise _error_of(reply, ended, what)
            found = decode((folder / "answer.json").read_bytes(), answer)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DeviceFull("this machine", str(cache_dir()), None) from error
        raise
    log.unlink(missing_ok=True)
    return Done(
        answer=found,
        seconds=ended.seconds,
        # The child's own figure where it has one: the kernel's maximum for a child begins with its parent's memory.
        peak_rss_bytes=reply.peak_rss_bytes or ended.peak_rss_bytes,
    )


def serve(request: type[_Request] | UnionType, work: Callable[[_Request], object]) -> None:
    """Be the child: read the request, do the work, leave the reply, exit.

    Args:
        request: The type of what the parent asks.
        work: Does it. An exception that is not a `HarnessError` becomes a `ConversionFailed` with its last words.
    """
    folder = Path(sys.argv[1])
    # Converters drop gigabytes into the temporary folder and are sometimes killed: this one is cleared by the parent.
    tempfile.tempdir = str(_made(folder / "tmp"))
    try:
        done = work(decode(read_request(folder / "request.json"), request))
        (folder / "answer.json").write_bytes(msgspec.json.encode(done))
        reply = _Reply(peak_rss_bytes=_peak_rss_bytes())
    except HarnessError as error:
        traceback.print_exc()
        reply = _Reply(raised=_packed(error))
    except Exception as error:  # noqa: BLE001  (the boundary: whatever a converter raises has to reach the parent)
        traceback.print_exc()
        reply = _Reply(raised=_packed(_foreseen(error)))
    (folder / "reply.json").write_bytes(msgspec.json.encode(reply))
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: what native libraries do while Python shuts down can only spoil a job that is done.
    os._exit(0 if reply.raised is None else 1)


def last_line(text: str) -> str:
    """The last line of a message that says something, without terminal colours, at most 300 characters."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory could not be had."""
    return isinstance(error, MemoryError) or bool(
        # torch's allocator, C++'s, and ONNX Runtime's arena.
        re.search(r"not enough memory|bad_alloc|Failed to allocate memory|can't allocate memory", str(error))
    )


def _foreseen(error: Exception) -> HarnessError:
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DeviceFull("this machine", str(error.filename or tempfile.tempdir), None)
    cause = "out_of_memory" if is_out_of_memory(error) else "failed"
    return ConversionFailed("", cause, f"{type(error).__name__}: {last_line(str(error))}", "")


def _packed(error: HarnessError) -> _Raised:
    arguments = [list(map(str, value)) if isinstance(value, tuple) else value for value in error.args]
    return _Raised(name=type(error).__name__, arguments=arguments, hint=error.hint)


def _error_of(reply: _Reply | None, ended: Ended, what: str) -> HarnessError:
    """The error to raise for a child that has no answer."""
    log = str(ended.log)
    if reply is not None and reply.raised is not None:
        kind = getattr(errors, reply.raised.name)
        arguments = [tuple(value) if isinstance(value, list) else value for value in reply.raised.arguments]
        if kind is ConversionFailed:
            arguments = [arguments[0] or what, *arguments[1:3], log]
        else:
            ended.log.unlink(missing_ok=True)
        error = kind(*arguments)
        assert isinstance(error, HarnessError)
        if reply.raised.hint:
            error.hint = reply.raised.hint
        return error
    if ended.timed_out:
        return ConversionFailed(what, "timeout", f"not done after {ended.seconds:.0f} s, and ended", log)
    if ended.signal_name == "SIGKILL":
        problem = "killed by SIGKILL, which is most likely the system running out of memory"
        return ConversionFailed(what, "out_of_memory", problem, log)
    if ended.signal_name:
        return ConversionFailed(what, "crashed", f"ended by {ended.signal_name}", log)
    said = ended.last_lines(1)
    return ConversionFailed(what, "failed", f"exited with code {ended.returncode}: {said}", log)


def _read_reply(path: Path) -> _Reply | None:
    try:
        return decode(path.read_bytes(), _Reply)
    except (FileNotFoundError, msgspec.DecodeError):  # it was ended before or while it wrote
        return None


def _log_file(what: str) -> Path:
    # File systems take 255 bytes; a model may be called after a file with all of them.
    name = re.sub(r"[^\w.-]+", "-", what, flags=re.ASCII).strip("-")[:100]
    return (
        _made(cache_dir() / "logs")
        / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{time.monotonic_ns() % 10**9:09d}-{name}.log"
    )


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _peak_rss_bytes() -> int | None:
    """This process's own largest resident memory; None where the system does not keep it.

    Source: proc_pid_status(5), VmHWM, in kB.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else None
