"""A program on a device that is reached over adb: started, listened to, and ended with everything it started."""

from __future__ import annotations

import contextlib
import queue
import shlex
import textwrap
import threading
import time
from typing import TYPE_CHECKING

from harness.device.adb_link import Deadline, log
from harness.device.adb_services import EXIT, STDERR, STDIN, STDOUT, ShellPackets, exit_code, run, shell_packet
from harness.device.local_process import LINE_LIMIT_BYTES
from harness.errors import DeviceError, DeviceTimedOut, LinkLost

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.device.adb_link import AdbLink

START_S = 30.0
END_S = 10.0
_KEPT_STDERR_BYTES = 64 * 1024
_LAST_LINES = 3
_WORDS_SHOWN = 120
"""Characters of a command that errors show."""
_QUEUED_LINES = 256

# What is started runs in a session of its own, whose number is the first line that comes back, so that all of it can be
# ended with one signal. A second process waits for the end of standard input, which comes when the connection or adbd
# itself has gone, and then ends the session: nobody is left to do it from outside. It is read by the shell itself and
# not by `cat`, which would stay behind. Descriptor 3, because a shell gives /dev/null to what it starts with &.
_GUARDED = """\
{folder}exec 3<&0
setsid {shell} -c 'echo $$; exec "$@"' sh {program} 3<&- </dev/null &
p=$!
(while read -r x; do :; done; kill -9 -$p) <&3 >/dev/null 2>&1 &
w=$!
exec 3<&-
trap 'kill -9 -$p; exit 129' HUP
wait $p
r=$?
kill -9 -$p $w 2>/dev/null
exit $r
"""

# The same for a program that is told lines: the second process hands on the lines that come and kills at their end.
# What it hands them to waits for the program, so that it can end the second process, which else would wait for lines; a
# pipe is all that the two share, since Android lets nobody make a named one where programs may be put. `$$` is the
# number of the session in all of it, and the first line through the pipe is the second process's own. Descriptor 3 is
# opened anew in the session, because mksh closes those above 2 in whatever it starts.
_TOLD = """\
{folder}exec 3<&0
setsid {shell} -c 'echo $$
exec 3<&0
({shell} -c "echo \\$PPID"; while read -r x; do echo "$x"; done; kill -9 -$$) <&3 2>/dev/null |
(exec 3<&-; read -r w; "$@"; r=$?; kill -9 $w; exit $r)' sh {program} <&3 3<&- &
p=$!
exec 3<&-
trap 'kill -9 -$p; exit 129' HUP
wait $p
r=$?
kill -9 -$p 2>/dev/null
exit $r
"""
_GONE = "kill -9 -{group} 2>/dev/null; i=0; while kill -0 -{group} 2>/dev/null && [ $i -lt 100 ]; do sleep 0.05; \
i=$((i+1)); done; ! kill -0 -{group} 2>/dev/null"
_LEFT_OVER = "[ /proc/{group}/cwd -ef {folder} ] && kill -9 -{group}; :"
"""Later the number may be another program's: ours runs in our folder."""


def guarded_command(
    argv: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
    *,
    shell: str = "/system/bin/sh",
    is_told: bool = False,
) -> str:
    """The command for the device's shell, called `shell`, that runs a program so that it leaves nothing behind.

    The program's standard input is empty, or the lines that the command's gets (`is_told`).
    """
    changes = [f"{name}={value}" for name, value in environment.items()]
    program = shlex.join(["env", *changes, *argv] if changes else argv)
    return (_TOLD if is_told else _GUARDED).format(
        folder=f"mkdir -p {shlex.quote(folder)}; cd {shlex.quote(folder)}; ", program=program, shell=shell
    )


class RemoteProgram:
    """A `RunningProgram` on a device; a `ToldProgram` if it `is_told`.

    Args:
        device_id: For error messages.
        link: The way to the device.
        argv: What to start.
        environment: Variables beside those of the device's shell.
        folder: Where it runs; made if it is not there.
        shell: What the device's shell is called.
        is_told: Whether `tell` will be called. Else its standard input is empty.

    Raises:
        DeviceError: The device cannot be reached. A program that is not there exits with 127 instead.
    """

    def __init__(
        self,
        device_id: str,
        link: AdbLink,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: str,
        shell: str = "/system/bin/sh",
        is_told: bool = False,
    ) -> None:
        self._device_id, self._link, self._argv = device_id, link, tuple(argv)
        self._folder, self._shell = folder, shell
        self._left_over: tuple[str, ...] | None = None
        command = guarded_command(argv, environment, folder, shell=shell, is_told=is_told)
        self._stream = link.open(f"shell,v2,raw:{command}", Deadline(device_id, f"start {self._words}", START_S))
        self._group: int | None = None
        """The number of its process group there, once it has said it."""
        self._lines: queue.Queue[str | None] = queue.Queue(maxsize=_QUEUED_LINES)
        self._unheard = threading.Event()
        """Set once nobody will read more lines: they are then dropped, so that the program never waits for a reader."""
        self._stderr = bytearray()
        self._returncode: int | None = None
        self._broken: DeviceError | None = None
        self._ended = False
        self._over = threading.Event()
        threading.Thread(target=self._listen, name=f"{device_id} {argv[0]}", daemon=True).start()

    @property
    def argv(self) -> tuple[str, ...]:
        """What was started."""
        return self._argv

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        # How it ended is told by whoever reads its lines; that it no longer listens says less.
        with contextlib.suppress(LinkLost):
            self._stream.send(
                shell_packet(STDIN, f"{line}\n".encode()), Deadline(self._device_id, f"tell {line}", START_S)
            )

    def lines(self, *, timeout_s: float) -> Iterator[str]:
        """Its standard output line by line.

        Raises:
            LinkLost: The connection ended before the program did.
        """
        return self._lines_until(time.monotonic() + timeout_s, timeout_s)

    def wait(self, *, timeout_s: float) -> int:
        """Its exit code, or minus the signal's number. Lines that nobody read are dropped.

        Raises:
            LinkLost: The connection ended before the program did.
        """
        self._drop_lines()
        if not self._over.wait(timeout_s):
            raise DeviceTimedOut(self._device_id, self._words, timeout_s)
        if self._returncode is not None:
            return self._returncode
        if self._ended:
            return -9
        raise self._broken or LinkLost(self._device_id, self._words, "no exit code came")

    def last_words(self) -> str:
        """The end of its standard error, on one line."""
        text = bytes(self._stderr).decode(errors="replace")
        return " | ".join([line.strip() for line in text.splitlines() if line.strip()][-_LAST_LINES:])

    def end(self) -> None:
        """End it and everything it started, and see that it is gone."""
        self._drop_lines()
        if self._over.is_set() and self._returncode is not None:
            return  # the device has tidied up already
        self._ended = True
        self._stream.close()
        self._over.wait(END_S)
        if self._group:
            self._end_group(self._group)

    @property
    def left_over(self) -> tuple[str, ...] | None:
        """See `device.MayStayBehind`."""
        return self._left_over

    @property
    def _words(self) -> str:
        # For people: a runner's options fill ten lines, and hide what happened to it.
        return textwrap.shorten(shlex.join(self._argv), _WORDS_SHOWN, placeholder=" ...")

    def _end_group(self, group: int) -> None:
        deadline = Deadline(self._device_id, f"end {self._words}", END_S)
        try:
            gone = run(self._link, _GONE.format(group=group), deadline).returncode == 0
        except DeviceError as error:
            # The guard over there ends it, too, if it ever sees that we have gone: a cable that is pulled tells nobody.
            text = _LEFT_OVER.format(group=group, folder=shlex.quote(self._folder))
            self._left_over = (self._shell, "-c", text)
            log.warning("%s: could not see `%s` end: %s", self._device_id, self._words, error)
        else:
            if not gone:
                log.warning("%s: `%s` does not end (process group %d)", self._device_id, self._words, group)

    def _lines_until(self, end: float, timeout_s: float) -> Iterator[str]:
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise DeviceTimedOut(self._device_id, self._words, timeout_s) from None
            if line is None:
                self._lines.put(None)  # a second caller finds the end as well
                if self._broken is not None and not self._ended:
                    raise self._broken
                return
            yield line

    def _drop_lines(self) -> None:
        self._unheard.set()
        # The reader may be waiting for a place in the queue; the line it then puts there is dropped with the rest.
        with contextlib.suppress(queue.Empty):
            while True:
                self._lines.get_nowait()
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)

    def _listen(self) -> None:
        """The thread that reads. Ends with the stream."""
        text = _Lines()
        try:
            self._read(text)
        except DeviceError as error:
            self._broken = error
        finally:
            self._stream.close()
            for line in text.rest():
                self._say(line)
            self._over.set()
            if self._unheard.is_set():
                with contextlib.suppress(queue.Full):
                    self._lines.put_nowait(None)
            else:
                self._lines.put(None)

    def _read(self, text: _Lines) -> None:
        packets, forever = ShellPackets(), Deadline(self._device_id, self._words, None)
        while data := self._stream.receive(forever):
            for kind, payload in packets.feed(data):
                if kind == STDOUT:
                    for line in text.feed(payload):
                        self._say(line)
                elif kind == STDERR:
                    self._stderr += payload
                    del self._stderr[:-_KEPT_STDERR_BYTES]
                elif kind == EXIT:
                    self._returncode = exit_code(payload)
                    return
        self._broken = LinkLost(self._device_id, self._words, "the device closed the stream")

    def _say(self, line: str) -> None:
        if self._group is None:
            self._group = int(line) if line.isdecimal() else 0
        elif not self._unheard.is_set():
            self._lines.put(line)


class _Lines:
    """Bytes to lines."""

    def __init__(self) -> None:
        self._begun = bytearray()

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines that are complete with this data. One that is too long comes in pieces."""
        *whole, rest = data.split(b"\n")
        for line in whole:
            self._begun += line
            yield self._take()
        self._begun += rest
        if len(self._begun) > LINE_LIMIT_BYTES:
            yield self._take()

    def rest(self) -> Iterator[str]:
        """What stands behind the last line end."""
        if self._begun:
            yield self._take()

    def _take(self) -> str:
        line = bytes(self._begun).decode(errors="replace").rstrip("\r")
        self._begun.clear()
        return line
