"""The only reader and writer of runs.

A run is a folder: `plan.json`, written before the first step, and `cells/<id>.json`, each written as its cell ends and
either whole or not there. Killing the writer at any moment loses at most the cell under way. Beside them may be
`accuracy/<sha256>.json`, what a measured file still recognises; it is of a file and not of a cell.
"""

from __future__ import annotations

import errno
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec

from harness.decoding import convert, decode
from harness.errors import UNWRITABLE, RunLocked, UnreadableRecord, UnwritableFolder, UsageError
from harness.records import SCHEMA_VERSION, Accuracy, Cell, CellResult, NotRun, Plan
from harness.workspace import cache_dir, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_Stored = TypeVar("_Stored", Plan, CellResult, Accuracy)

UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""Schema version -> what turns a document of that version into one of the next."""


class StoredRun:
    """A run as it is on disk.

    Attributes:
        folder: Where it is.
        plan: What it set out to do.
        results: What is done, in the plan's order.
        accuracies: What is known of the files that were measured, by their SHA-256; empty where nothing is.
    """

    def __init__(
        self, folder: Path, plan: Plan, results: tuple[CellResult, ...], accuracies: Mapping[str, Accuracy]
    ) -> None:
        self.folder, self.plan, self.results, self.accuracies = folder, plan, results, accuracies

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Read a run, complete or not.

        Raises:
            UnreadableRecord: There is no run, a file of it is damaged, or a newer version wrote it.
        """
        folder = Path(folder)
        plan = _read(folder / "plan.json", Plan)
        paths = {cell.id: folder / "cells" / f"{cell.id}.json" for cell in plan.cells}
        results = tuple(_read(path, CellResult) for path in paths.values() if path.exists())
        known = [_read(path, Accuracy) for path in sorted((folder / "accuracy").glob("*.json"))]
        return cls(folder, plan, results, {accuracy.file_sha256: accuracy for accuracy in known})

    @property
    def missing(self) -> tuple[Cell, ...]:
        """The cells that have not been run, in the plan's order."""
        done = {result.cell.id for result in self.results if not isinstance(result.outcome, NotRun)}
        return tuple(cell for cell in self.plan.cells if cell.id not in done)


class RunWriter:
    """Writes one run, alone. Made by `write_run`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, result: CellResult) -> None:
        """Store one cell, now.

        Raises:
            DeviceFull: The disk is full; what was stored before is intact.
        """
        path = self.folder / "cells" / f"{result.cell.id}.json"
        with _explained(self.folder):
            write_atomically(path, msgspec.json.encode(result))

    @property
    def logs(self) -> Path:
        """Where logs of failed steps are kept."""
        return self.folder / "logs"


@contextmanager
def write_run(folder: Path, plan: Plan | None = None) -> Iterator[RunWriter]:
    """Hold a run for writing while the block lasts.

    Args:
        folder: Where it is or will be.
        plan: What a new run sets out to do; None to go on with the one that is there.

    Raises:
        RunLocked: Another process holds it.
        UnwritableFolder: The folder cannot be made or written.
        UnreadableRecord: A run is there already, and `plan` is of another one.
        DeviceFull: The disk is full.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415  (40 ms)

    with _explained(folder):
        (folder / "cells").mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "run.lock")
        try:
            # The system drops the lock of a process that dies, however it dies.
            lock.acquire(timeout=0)
        except Timeout:
            raise RunLocked(str(folder)) from None
    try:
        if plan is not None:
            path = folder / "plan.json"
            if path.exists():
                raise UnreadableRecord(str(folder), "a run is there already; --resume goes on with it")
            with _explained(folder):
                write_atomically(path, msgspec.json.format(msgspec.json.encode(plan), indent=1))
        yield RunWriter(folder)
    finally:
        lock.release()


def remove_empty_run(folder: Path) -> None:
    """Take away a run that ended before its first cell. Whatever else is in its folder stays."""
    if any((folder / "cells").glob("*.json")):
        return
    for name in ("plan.json", "run.lock"):
        (folder / name).unlink(missing_ok=True)
    for empty in (folder / "cells", folder):
        with suppress(OSError):  # not empty
            empty.rmdir()


def keep_accuracy(accuracy: Accuracy, folder: Path) -> None:
    """Store beside a run what one of its files still recognises, in the place of what was known of that file before.

    Args:
        accuracy: Of a converted file.
        folder: The run's.

    Raises:
        UnwritableFolder, DeviceFull: It cannot be written.
    """
    with _explained(folder):
        path = folder / "accuracy" / f"{accuracy.file_sha256}.json"
        write_atomically(path, msgspec.json.format(msgspec.json.encode(accuracy), indent=1))


def keep_run(stored: StoredRun, folder: Path) -> int:
    """Copy a run to be kept in git: plan, cells and accuracies, without the paths of this machine.

    The cache becomes `<cache>`, the folder where the user works nothing. What is there and not in the run is removed.

    Returns:
        How many cells were kept.

    Raises:
        UnwritableFolder, DeviceFull: It cannot be written.
        UsageError: The run is not complete.
    """
    if stored.missing:
        raise UsageError(f"{stored.folder} is not complete: {len(stored.missing)} cells are missing; --resume it first")
    cells = [f"cells/{result.cell.id}.json" for result in stored.results]
    accuracies = [f"accuracy/{sha256}.json" for sha256 in stored.accuracies]
    with _explained(folder):
        for path in (stored.folder / name for name in ("plan.json", *cells, *accuracies)):
            text = path.read_text(encoding="utf-8")
            text = text.replace(str(cache_dir().absolute()), "<cache>").replace(f"{Path.cwd()}/", "")
            write_atomically(folder / path.relative_to(stored.folder), text.encode())
        for old in (*folder.glob("cells/*.json"), *folder.glob("accuracy/*.json")):
            if old.relative_to(folder).as_posix() not in {*cells, *accuracies}:
                old.unlink()
    return len(cells)


def latest_run(reports: Path) -> Path | None:
    """The run that was planned last, by the time in its plan."""
    runs = [_read(path, Plan) for path in reports.glob("*/plan.json")]
    newest = max(runs, key=lambda plan: plan.created_at, default=None)
    return None if newest is None else reports / newest.run


def _read(path: Path, kind: type[_Stored]) -> _Stored:
    try:
        data: Any = decode(path.read_bytes(), object)
    except FileNotFoundError:
        raise UnreadableRecord(str(path.parent), f"there is no run here ({path.name} is missing)") from None
    except OSError as error:
        raise UnreadableRecord(str(path), error.strerror or str(error)) from error
    except msgspec.DecodeError as error:
        raise UnreadableRecord(str(path), f"damaged: {error}") from error
    found = data.get("schema") if isinstance(data, dict) else None
    if not isinstance(found, int) or found < 1:
        raise UnreadableRecord(str(path), "not a record of this program: it has no schema version")
    if found > SCHEMA_VERSION:
        problem = f"written by a newer version (schema {found}, this program reads up to {SCHEMA_VERSION}); update"
        raise UnreadableRecord(str(path), problem)
    for version in range(found, SCHEMA_VERSION):
        data = UPGRADES[version](data)
    try:
        return convert(data, kind)
    except msgspec.ValidationError as error:
        raise UnreadableRecord(str(path), f"damaged: {error}") from error


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # Some file systems, /proc among them, say of a folder that nobody may make that it is not there.
        if error.errno in {*UNWRITABLE, errno.ENOENT}:
            raise UnwritableFolder(str(folder), error.strerror or str(error)) from error
        raise
