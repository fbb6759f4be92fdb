"""The folder a history is kept in: files that are written once, read with DuckDB.

    v1-<run>-<digest>.ndjson       the points of one run, one JSON object a line; written without any optional package
    v1-<rows>-<digest>.parquet     many runs, packed together and sorted by model
    pins.json                      reference builds, see `pins.py`

`v1` is the version of the rows and `digest` the start of the SHA-256 of the file's bytes, so that a file which is
damaged, half copied or changed by hand is known before a figure is taken from it: it is named and left out. Nothing is
changed in place. A run that is stored twice (it was resumed, or its file and its export were both added) counts once,
as it was stored last.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import sys
import typing
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from harness.errors import MissingExtra, UnreadableRecord, UnwritableFolder
from harness.regress.history.point import POINT_SCHEMA, Point
from harness.workspace import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import duckdb

LOOSE_MAX: Final = 64
"""Files of single runs before they are packed: DuckDB opens some thousand files a second, not more."""
LOOSE_BYTES_MAX: Final = 4_000_000
"""Or so much in them: JSON is read at some hundred MB a second."""
PACKED_ROWS_MIN: Final = 100_000
"""A packed file below this is packed again with the next ones, so that there are never many of them."""

_NAME = re.compile(r"v(?P<schema>\d+)-.*-(?P<digest>[0-9a-f]{16})\.(?P<kind>ndjson|parquet)")
_SQL_TYPES: Final = {str: "VARCHAR", int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN"}
COLUMNS: Final[dict[str, str]] = {}
"""Column -> SQL type, of every field of `Point`."""
OPTIONAL_COLUMNS: Final[set[str]] = set()
"""Those that may be unknown."""


class Damage(NamedTuple):
    """A file that was left out, and why."""

    file: str
    problem: str


def history_dir(reports: Path) -> Path:
    """Where the history of the runs under `reports` is kept. `HARNESS_HISTORY` moves it."""
    chosen = os.environ.get("HARNESS_HISTORY")
    return Path(chosen) if chosen else reports / "history"


class HistoryFolder:
    """One history.

    Attributes:
        folder: Where it is; made with the first file.
        damaged: The files that the last reading left out.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged: tuple[Damage, ...] = ()
        self._refused: dict[Path, str] = {}

    def add(self, points: Sequence[Point]) -> Path | None:
        """Store the points of one run, now, in a file of their own.

        Returns:
            The file; None where there was nothing to store.

        Raises:
            UnwritableFolder: The folder cannot be made or written.
            DeviceFull: There is no space; nothing is left behind.
        """
        if not points:
            return None
        content = msgspec.json.Encoder().encode_lines(points)
        path = self.folder / _name(re.sub(r"[^A-Za-z0-9._]+", "_", points[0].run)[:80], content, "ndjson")
        with said_if_unwritable(self.folder):
            write_atomically(path, content)
        return path

    def add_table(self, connection: duckdb.DuckDBPyConnection, table: str) -> Path:
        """Store the rows of a table that has the columns of `points`.

        Raises:
            UnwritableFolder: The folder cannot be made or written.
        """
        making = self.folder / f".adding.{secrets.token_hex(4)}"
        try:
            with said_if_unwritable(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                return self._put(connection, f"SELECT {_SELECTED} FROM {table}", making)
        finally:
            making.unlink(missing_ok=True)

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Ask about the table `points`, which has every field of `Point` as a column, and each cell of a run once.

        Raises:
            MissingExtra: DuckDB is not installed.
        """
        rows: list[tuple[Any, ...]] = self.ask(lambda asked: asked.execute(sql, list(parameters)).fetchall())
        return rows

    def ask(self, question: Callable[[duckdb.DuckDBPyConnection], Any]) -> Any:  # noqa: ANN401  (what the question answers)
        """Like `query`, for what is more than a list of rows. The question may be asked again, and must not mind."""
        for _ in range(5):
            files, self.damaged = self._sound()
            try:
                with _connected(files) as connection:
                    return question(connection)
            except _engine().Error as error:
                if all(path.exists() for path in files):
                    self._refuse_unreadable(files, error)
            # Another process packed these files meanwhile, or one of them was found out: look again.
        raise UnreadableRecord(str(self.folder), "its files change faster than they can be read")

    def pack_if_many(self) -> bool:
        """Put many small files into one, where nobody else is just doing that.

        Returns:
            Whether it was done; False also where the folder cannot be written, or is full: tidying up costs no answer.
        """
        loose = list(self.folder.glob("*.ndjson")) if self.folder.is_dir() else []
        if len(loose) <= LOOSE_MAX and sum(path.stat().st_size for path in loose) <= LOOSE_BYTES_MAX:
            return False
        from filelock import FileLock  # noqa: PLC0415  (40 ms)

        try:
            with said_if_unwritable(self.folder), FileLock(self.folder / "history.lock", timeout=0):
                self._pack()
        except UnwritableFolder:  # or somebody else has the lock
            return False
        return True

    def _pack(self) -> None:
        files, damaged = self._sound()
        large = {path for path in files if path.suffix == ".parquet" and _rows_in(path) >= PACKED_ROWS_MIN}
        packed = [path for path in files if path not in large]
        making = self.folder / f".packing.{secrets.token_hex(4)}"
        try:
            with _connected(packed) as connection:
                self._put(connection, f"SELECT {_SELECTED} FROM points", making)
        finally:
            making.unlink(missing_ok=True)
        self.damaged = damaged
        # Whoever is killed here leaves some runs in two files, which count once.
        for path in packed:
            path.unlink(missing_ok=True)

    def _put(self, connection: duckdb.DuckDBPyConnection, rows: str, making: Path) -> Path:
        """Write what `rows` selects as one packed file; it appears whole, under its name, or not at all."""
        count = connection.execute(
            f"COPY ({rows} ORDER BY model, measured_at) TO '{sql_text(making)}' "
            "(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 20480)"
        ).fetchall()[0][0]
        path = self.folder / _name(str(count), making.read_bytes(), "parquet")
        with making.open("rb+") as file:
            os.fsync(file.fileno())
        making.replace(path)
        return path

    def _sound(self) -> tuple[list[Path], tuple[Damage, ...]]:
        """The files whose bytes are those that were written, and the others with what is wrong."""
        sound, damaged = [], []
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else []:
            if path.name.startswith(".") or path.suffix not in {".ndjson", ".parquet"}:
                continue
            problem = self._refused.get(path) or _problem(path)
            if problem is None:
                sound.append(path)
            elif path.exists():
                damaged.append(Damage(path.name, problem))
        return sound, tuple(damaged)

    def _refuse_unreadable(self, files: Sequence[Path], error: Exception) -> None:
        """Find the files whose digest is right and that cannot be read all the same.

        Raises:
            Exception: `error`, where all can be read: then the question itself was wrong.
        """
        before = len(self._refused)
        for path in files:
            try:
                with _connected([path]) as connection:
                    connection.execute("SELECT count(COLUMNS(*)) FROM points").fetchall()
            except _engine().Error as why:
                self._refused[path] = str(why).splitlines()[0]
        if len(self._refused) == before:
            raise error


def _problem(path: Path) -> str | None:
    named = _NAME.fullmatch(path.name)
    if named is None:
        return "its name is not one that this program gives; `harness history import` takes foreign files"
    if int(named["schema"]) > POINT_SCHEMA:
        return f"written by a newer version (rows of version {named['schema']}, this one reads {POINT_SCHEMA}); update"
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return error.strerror or str(error)
    if not found.startswith(named["digest"]):
        return "damaged or cut off: its bytes are not those that were written"
    return None


def _name(what: str, content: bytes, kind: str) -> str:
    return f"v{POINT_SCHEMA}-{what}-{hashlib.sha256(content).hexdigest()[:16]}.{kind}"


def _rows_in(path: Path) -> int:
    """As its name says, which its digest does not cover; it decides only what is packed with what."""
    rows = path.name.split("-")[1]
    return int(rows) if rows.isdigit() else 0


@contextmanager
def _connected(files: Sequence[Path]) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = _engine().connect()
    try:
        connection.execute("SET enable_progress_bar = false")
        connection.execute(f"CREATE VIEW points AS {_points_sql(files)}")
        yield connection
    finally:
        connection.close()


def _points_sql(files: Sequence[Path]) -> str:
    parts = []
    loose = [path for path in files if path.suffix == ".ndjson"]
    packed = [path for path in files if path.suffix == ".parquet"]
    if packed:
        parts.append(f"SELECT {_SELECTED} FROM read_parquet([{_listed(packed)}], union_by_name = true)")
    if loose:
        columns = ", ".join(f"{name}: '{kind}'" for name, kind in COLUMNS.items())
        parts.append(
            f"SELECT {_SELECTED} FROM read_json([{_listed(loose)}], "
            f"format = 'newline_delimited', columns = {{{columns}}})"
        )
    if not parts:
        nothing = ", ".join(f"NULL::{kind} AS {name}" for name, kind in COLUMNS.items())
        return f"SELECT {nothing} WHERE false"
    return (
        f"SELECT * FROM ({' UNION ALL '.join(parts)}) "
        "QUALIFY row_number() OVER (PARTITION BY model, run, planned_at, cell, device_name ORDER BY added_at DESC) = 1"
    )


def _listed(files: Sequence[Path]) -> str:
    return ", ".join(f"'{sql_text(path)}'" for path in files)


def sql_text(path: Path) -> str:
    """A path as it is written inside of quotes in SQL, where a parameter cannot stand."""
    return str(path).replace("'", "''")


@contextmanager
def said_if_unwritable(folder: Path) -> Iterator[None]:
    """Say of a folder what the system, or DuckDB, says where it cannot be written.

    Raises:
        UnwritableFolder: It cannot.
    """
    try:
        yield
    except OSError as error:
        raise UnwritableFolder(str(folder), error.strerror or str(error)) from error
    except Exception as error:
        duckdb = sys.modules.get("duckdb")  # points are added without it, and then the error is not its own
        if duckdb is None or not isinstance(error, duckdb.IOException):
            raise
        raise UnwritableFolder(str(folder), str(error).splitlines()[0]) from error


def _engine() -> Any:  # noqa: ANN401  (a module without types)
    try:
        import duckdb  # noqa: PLC0415  (optional, and a third of a second)
    except ImportError:
        raise MissingExtra("duckdb", "reading the history", "analysis") from None
    return duckdb


for _field, _hint in typing.get_type_hints(Point).items():
    _kinds = set(typing.get_args(_hint)) or {_hint}
    if type(None) in _kinds:
        OPTIONAL_COLUMNS.add(_field)
    COLUMNS[_field] = _SQL_TYPES[(_kinds - {type(None)}).pop()]
_SELECTED: Final = ", ".join(COLUMNS)
