"""The seam between this program and whatever carries files to an iPhone."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

from harness.device.local_process import LocalProgram
from harness.errors import AppMissing, DeviceLocked, DeviceOffline, DeviceTimedOut, DeviceUnauthorized
from harness.text import without_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.errors import DeviceError


OFFLINE_HINT = "Plug it in, and unlock it; `harness devices` lists what answers."
TRUST_HINT = "Unlock it, and accept this computer in the dialog it shows."


def offline(device_id: str, problem: str) -> DeviceOffline:
    """A phone that is not there, with what to do about a phone."""
    return DeviceOffline(device_id, problem, OFFLINE_HINT)


def untrusted(device_id: str, problem: str) -> DeviceUnauthorized:
    """A phone that does not trust this computer, with what to do about a phone."""
    return DeviceUnauthorized(device_id, problem, TRUST_HINT)


@dataclass(frozen=True, kw_only=True)
class FoundPhone:
    """A phone as a transport lists it. Unknown is None."""

    id: str
    """Its UDID."""
    name: str | None = None
    product_type: str | None = None
    """`iPhone11,8`: the key under which `device_profiles/` knows it."""
    os: str | None = None
    os_build: str | None = None
    is_simulated: bool = False


@dataclass(frozen=True, kw_only=True)
class Hurdle:
    """Something without which no job can be run there."""

    name: str
    """`offline`, `pairing`, `locked`, `developer-mode`, `tunnel` or `app`."""
    found: str
    advice: str
    blocks: bool = True
    """False: a job can be run all the same, if somebody opens the app by hand."""


def hurdle_of(device_id: str, error: DeviceError) -> Hurdle:
    """What an error says is missing. Any other one is told like a phone that is away: it does not answer as it should.

    Args:
        device_id: The phone's UDID.
        error: Of a question to it.
    """
    problem = error.problem if isinstance(error, DeviceOffline | DeviceUnauthorized) else str(error)
    # Whoever shows it says of which phone.
    found = without_name(problem, device_id).replace(f"{device_id} is", "it is", 1)
    return Hurdle(name=_HURDLES.get(error.kind, DeviceOffline.kind), found=found, advice=error.hint)


_HURDLES = {
    DeviceOffline.kind: DeviceOffline.kind,
    DeviceUnauthorized.kind: "pairing",
    DeviceLocked.kind: "locked",
    AppMissing.kind: "app",
}


class Transport(Protocol):
    """One phone. Paths are below the app's container: `/Documents/...`. Every call blocks for no longer than told."""

    name: str
    can_remove: bool
    """Whether `remove` does anything."""

    def hurdles(self) -> tuple[Hurdle, ...]:
        """What is missing to use it."""
        ...

    def put(self, local: Path, remote: PurePosixPath, *, timeout_s: float) -> None:
        """Send a file or folder to exactly this name, parents made, what is there replaced file by file."""
        ...

    def get(self, remote: PurePosixPath, local: Path, *, timeout_s: float) -> bool:
        """Fetch a file or folder to exactly this name. False, and nothing fetched, where there is none."""
        ...

    def remove(self, remote: PurePosixPath, *, timeout_s: float) -> None:
        """Remove a file or folder; nothing happens where there is none."""
        ...

    def launch(self, *, timeout_s: float) -> str | None:
        """Start the app anew, so that it looks for a job in a fresh process.

        Returns:
            None when it runs; else why it could not be started, and somebody has to open it by hand.
        """
        ...

    def install(self, app: Path, *, timeout_s: float) -> None:
        """Install a signed app.

        Raises:
            AppRefused: It is not signed for this phone, or is none.
            DeviceFull: There is no space.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a client's command ended."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    words: str
    """The end of its standard error, on one line."""


def run_client(device_id: str, argv: Sequence[str], *, environment: Mapping[str, str], timeout_s: float) -> Ended:
    """Run a client to its end.

    Raises:
        ClientTimedOut: It took longer; it has been ended.
    """
    program = LocalProgram(device_id, argv, environment=environment, folder=Path.cwd())
    try:
        lines = list(program.lines(timeout_s=timeout_s))
        returncode = program.wait(timeout_s=timeout_s)
    except DeviceTimedOut as error:
        raise ClientTimedOut(device_id, error.what, timeout_s, program.last_words()) from None
    finally:
        program.end()
    return Ended(argv=program.argv, returncode=returncode, stdout="\n".join(lines), words=program.last_words())


class ClientTimedOut(DeviceTimedOut):
    """A client did not end; what it said until then often says why."""

    hint = OFFLINE_HINT

    def __init__(self, device: str, what: str, timeout_s: float, words: str) -> None:
        super().__init__(device, what, timeout_s)
        self.args = (device, what, timeout_s, words)
        self.words = words


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder on this machine that is gone after the block."""
    with tempfile.TemporaryDirectory(prefix="harness-ios-") as folder:
        yield Path(folder)


def move_into_place(found: Path, local: Path) -> None:
    """Give what was fetched its name, replacing what has it."""
    if local.is_dir():
        shutil.rmtree(local)
    local.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(found, local)
