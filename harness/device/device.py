"""The seam between this program and a device. Everything above it also runs against a fake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path, PurePosixPath

    from harness.records import DeviceFacts, DeviceState, Obstacle


@dataclass(frozen=True, kw_only=True)
class ShellResult:
    """What a finished command left."""

    returncode: int
    stdout: str
    stderr: str


class RunningProgram(Protocol):
    """A program that was started on a device and prints lines."""

    @property
    def argv(self) -> tuple[str, ...]:
        """What was started, as it could be typed."""
        ...

    def lines(self, *, timeout_s: float) -> Iterator[str]:
        """Its standard output line by line, as it comes; ends when the program closes it.

        Raises:
            DeviceTimedOut: The program was still running `timeout_s` seconds after this call.
        """
        ...

    def wait(self, *, timeout_s: float) -> int:
        """Its exit code, or minus the signal's number. Blocks.

        Raises:
            DeviceTimedOut: It is still running after `timeout_s` seconds.
        """
        ...

    def last_words(self) -> str:
        """The end of its standard error, on one line."""
        ...

    def end(self) -> None:
        """End it and everything it started, at once. Does nothing if it has ended."""
        ...


@runtime_checkable
class MayStayBehind(Protocol):
    """A running program that a device which does not answer may keep."""

    @property
    def left_over(self) -> tuple[str, ...] | None:
        """What ends it there once the device answers again; None where nothing was left."""
        ...


class ToldProgram(RunningProgram, Protocol):
    """A running program that reads lines, too."""

    def tell(self, line: str) -> None:
        """Write a line to its standard input. What is told to a program that has ended is lost."""
        ...


@runtime_checkable
class TellsPrograms(Protocol):
    """A device that can also talk to a program while it runs. Not every way to reach one can."""

    def start_told(self, argv: Sequence[str], *, environment: Mapping[str, str]) -> ToldProgram:
        """Start a program whose standard input stays open, and return at once."""
        ...


@runtime_checkable
class PaysLater(Protocol):
    """A device whose owner will make good what cannot be done there now."""

    def owe(self, argv: Sequence[str]) -> None:
        """Have a command run once the device answers again."""
        ...


@runtime_checkable
class TakesApps(Protocol):
    """A device on which work is done by an app, which has to be installed first."""

    def install(self, app: Path, *, timeout_s: float) -> None:
        """Install a signed app, or replace an older one and keep its files.

        Raises:
            AppRefused: It is not signed for this device, or is none.
            DeviceFull: There is no space.
        """
        ...


@runtime_checkable
class CleansItself(Protocol):
    """A device without a shell, on which only its own object finds what was sent."""

    def clean(self, *, older_than_days: int, timeout_s: float) -> tuple[PurePosixPath, ...]:
        """Remove what was sent longer ago, and return it; 0 days removes all.

        Raises:
            DeviceRefused: Nothing can be removed there.
        """
        ...


class Device(Protocol):
    """One reachable device. Time-outs are in seconds; every call blocks for no longer."""

    @property
    def id(self) -> str:
        """What people call it, and what reports show: `host`, an adb serial, an address."""
        ...

    @property
    def work_folder(self) -> PurePosixPath:
        """A folder on the device that this program may fill."""
        ...

    def facts(self) -> DeviceFacts:
        """What it is."""
        ...

    def state(self) -> DeviceState:
        """Its condition now. May take up to a second: it looks at the processors for a while."""
        ...

    def obstacles(self) -> tuple[Obstacle, ...]:
        """What stands in the way of a stable figure now."""
        ...

    def push(self, local: Path, remote: PurePosixPath, *, timeout_s: float) -> None:
        """Copy a file to the device, replacing what is there; a folder with all its files. A program stays executable.

        Raises:
            DeviceFull: There is no space. Nothing is left behind.
        """
        ...

    def pull(self, remote: PurePosixPath, local: Path, *, timeout_s: float) -> None:
        """Copy a file from the device."""
        ...

    def sha256(self, remote: PurePosixPath, *, timeout_s: float) -> str | None:
        """SHA-256 of a file there, computed there; None where there is no such file.

        Of a folder, as `harness.workspace.sha256_tree` computes it, where a device takes folders.
        """
        ...

    def rename(self, source: PurePosixPath, target: PurePosixPath, *, timeout_s: float) -> None:
        """Give a file there another name, replacing what has it, in one step."""
        ...

    def make_folder(self, remote: PurePosixPath, *, timeout_s: float) -> None:
        """Make a folder there, with its parents; content that is there stays."""
        ...

    def remove(self, remote: PurePosixPath, *, timeout_s: float) -> None:
        """Remove a file or folder there; nothing happens where there is none."""
        ...

    def shell(self, argv: Sequence[str], *, timeout_s: float) -> ShellResult:
        """Run a command to its end.

        Raises:
            DeviceTimedOut: It took longer.
        """
        ...

    def start(self, argv: Sequence[str], *, environment: Mapping[str, str]) -> RunningProgram:
        """Start a program and return at once."""
        ...

    def worker_command(self) -> tuple[str, ...]:
        """The command that starts the Python worker there, without its flags.

        Raises:
            MissingTool: This device cannot run Python.
        """
        ...
