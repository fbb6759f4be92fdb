"""The history as CSV and Parquet, out and in, for other tools and other machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from harness.errors import UnreadableRecord, UsageError
from harness.regress.history.folder import COLUMNS, OPTIONAL_COLUMNS, said_if_unwritable, sql_text

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

    from harness.regress.history.folder import HistoryFolder

KINDS: Final = {".csv": "csv", ".parquet": "parquet"}


class Imported(NamedTuple):
    """What an import brought."""

    rows: int
    new: int
    """Those that were not there yet."""


def export_points(history: HistoryFolder, to: Path, *, model: str | None = None) -> int:
    """Write the points, each once, in the order of their time.

    Args:
        history: Where from.
        to: A `.csv` or `.parquet` file; one that is there is replaced.
        model: Of this one only.

    Returns:
        How many rows.

    Raises:
        UsageError: The name ends otherwise.
        UnwritableFolder: The file cannot be written.
    """
    kind = _kind(to)
    making = to.with_name(f".{to.name}.making")
    chosen = "WHERE model = ?" if model is not None else ""

    def write(connection: duckdb.DuckDBPyConnection) -> int:
        how = "FORMAT csv, HEADER" if kind == "csv" else "FORMAT parquet, COMPRESSION zstd"
        rows = connection.execute(
            f"COPY (SELECT * FROM points {chosen} ORDER BY measured_at, model, cell) TO '{sql_text(making)}' ({how})",
            [model] if model is not None else [],
        ).fetchall()
        return int(rows[0][0])

    try:
        with said_if_unwritable(to.parent):
            to.parent.mkdir(parents=True, exist_ok=True)
            making.touch()
            rows = int(history.ask(write))
            making.replace(to)
    finally:
        making.unlink(missing_ok=True)
    return rows


def import_points(history: HistoryFolder, path: Path) -> Imported:
    """Add the rows of a file that `export_points` made, or another program in the same columns.

    Rows that are there already (model, run, when it was planned, cell and device) count once, as before.

    Raises:
        UsageError: The name does not say what the file is.
        UnreadableRecord: It cannot be read, a column is missing, or a value is.
    """
    reader = "read_csv" if _kind(path) == "csv" else "read_parquet"
    if not path.is_file():
        raise UnreadableRecord(str(path), "there is no such file")

    def read(connection: duckdb.DuckDBPyConnection) -> Imported:
        options = ", all_varchar = true, header = true" if reader == "read_csv" else ""
        connection.execute(f"CREATE VIEW given AS SELECT * FROM {reader}('{sql_text(path)}'{options})")
        found = {row[0] for row in connection.execute("DESCRIBE given").fetchall()}
        missing = [name for name in COLUMNS if name not in found and name not in OPTIONAL_COLUMNS]
        if missing:
            raise UnreadableRecord(str(path), f"a history has the columns {', '.join(missing)}, this file has not")
        wanted = ", ".join(
            f"CAST({name if name in found else 'NULL'} AS {kind}) AS {name}" for name, kind in COLUMNS.items()
        )
        connection.execute(f"CREATE TABLE incoming AS SELECT {wanted} FROM given")
        for name in COLUMNS:
            if name not in OPTIONAL_COLUMNS:
                empty = connection.execute(f"SELECT count(*) FROM incoming WHERE {name} IS NULL").fetchall()[0][0]
                # A CSV file cannot tell an empty text from none.
                if empty and COLUMNS[name] == "VARCHAR" and reader == "read_csv":
                    connection.execute(f"UPDATE incoming SET {name} = '' WHERE {name} IS NULL")
                elif empty:
                    raise UnreadableRecord(str(path), f"{empty} rows have no {name}")
        return _keep_new(history, connection)

    return _translated(history, path, read)


def _keep_new(history: HistoryFolder, connection: duckdb.DuckDBPyConnection) -> Imported:
    rows = connection.execute("SELECT count(*) FROM incoming").fetchall()[0][0]
    connection.execute(
        "CREATE TABLE new AS SELECT * FROM incoming WHERE NOT EXISTS (SELECT 1 FROM points WHERE "
        + " AND ".join(f"points.{name} = incoming.{name}" for name in ("model", "run", "planned_at", "cell"))
        + " AND points.device_name = incoming.device_name)"
    )
    new = connection.execute("SELECT count(*) FROM new").fetchall()[0][0]
    if new:
        history.add_table(connection, "new")
    return Imported(rows, new)


def _translated(history: HistoryFolder, path: Path, read: object) -> Imported:
    import duckdb  # noqa: PLC0415  (there, or `ask` has said that it is not)

    try:
        return history.ask(read)  # type: ignore[arg-type,no-any-return]
    except duckdb.Error as error:
        raise UnreadableRecord(str(path), str(error).splitlines()[0]) from error


def _kind(path: Path) -> str:
    if path.suffix not in KINDS:
        raise UsageError(f"{path}: a history is read and written as {' or '.join(KINDS)}")
    return KINDS[path.suffix]
