"""How long does `harness history MODEL` take on a million measurements?

    python -m tests.bench.history [--output FOLDER]

Makes a history of 1,000,000 points (50 models, 20 series each, 1,000 nights; one change in each series), in packed
files, and the last nights as files of single runs, as `harness run` leaves them. The change is 50 nights ago, among the
100 that are shown. The command is started as a user starts it, in fresh processes. Time includes starting Python,
checking the digest of every file, the query, the search for changes and the table.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from harness.regress.history.folder import COLUMNS, HistoryFolder
from harness.regress.history.point import points_of
from harness.statistics import median
from harness.store import StoredRun
from tests.bench.result import Result

if TYPE_CHECKING:
    import duckdb

ROOT = Path(__file__).resolve().parent.parent.parent
MODELS, SERIES, NIGHTS = 50, 20, 1000
NIGHTS_A_FILE = 100
LOOSE_RUNS = 3
ROUNDS = 11

MADE = """
CREATE OR REPLACE TABLE made AS SELECT base.* REPLACE (
    'model_' || lpad(m::VARCHAR, 2, '0') AS model,
    1 + s % 4 AS threads,
    ['fp32', 'fp16', 'int8', 'int8_dynamic', 'source'][1 + s // 4] AS precision,
    strftime(day, '%Y-%m-%d-%H%M%S') || '-nightly' AS run,
    strftime(day, '%Y-%m-%dT%H:%M:%S.000+00:00') AS planned_at,
    strftime(day + to_seconds(30 * (m * 20 + s)), '%Y-%m-%dT%H:%M:%S.000+00:00') AS measured_at,
    strftime(day + to_hours(9), '%Y-%m-%dT%H:%M:%S+00:00') AS added_at,
    sha256(m || '-' || s) AS cell,
    sha256(m || '/' || s || '/' || night // 40) AS artifact_sha256,
    sha256(night::VARCHAR) AS revision,
    '1.' || (20 + night // 200) || '.0' AS runtime_version,
    base.p50_ns * (1 + s / 10) * (1 + 0.02 * (random() - 0.5)) * (1 + 0.05 * (night > 950)::INT) AS p50_ns,
    base.p90_ns * (1 + s / 10) * (1 + 0.05 * random()) AS p90_ns,
    base.canary_ns * (1 + 0.02 * random()) AS canary_ns,
    random() AS load_1min)
FROM base, range({models}) models(m), range({series}) series(s),
     (SELECT r AS night, TIMESTAMP '2024-01-01 01:00:00' + to_days(r::INT) AS day FROM range({first}, {last}) n(r))
"""


def main() -> None:
    """Make, ask, say."""
    result = Result.begin(
        "history",
        f"History: `harness history MODEL` on {MODELS * SERIES * NIGHTS:,} stored measurements, fresh processes",
    )
    with tempfile.TemporaryDirectory() as scratch:
        history = HistoryFolder(Path(scratch) / "reports" / "history")
        began = time.monotonic()
        _fill(history)
        filled_s = time.monotonic() - began
        size = sum(path.stat().st_size for path in history.folder.iterdir())
        command = [sys.executable, "-m", "harness", "history", "model_07"]
        took = [_took_s(command, Path(scratch)) for _ in range(ROUNDS)]
        result.add(
            measurements=f"{history.query('SELECT count(*) FROM points')[0][0]:,}",
            files=str(len(list(history.folder.glob("v*")))),
            size=f"{size / 2**20:.0f} MiB",
            median=f"{median(took):.2f} s",
            slowest=f"{max(took):.2f} s",
            limit=result.limit("below 1 s", holds=median(took) < 1, of="an answer"),
        )
    print(f"made in {filled_s:.0f} s")
    result.finish()


def _fill(history: HistoryFolder) -> None:
    (one, *_) = points_of(StoredRun.open(ROOT / "reports" / "baselines" / "quick"))

    def fill(connection: duckdb.DuckDBPyConnection) -> None:
        columns = ", ".join(f"${name}::{kind} AS {name}" for name, kind in COLUMNS.items())
        connection.execute(f"CREATE TABLE base AS SELECT {columns}", msgspec.structs.asdict(one))
        packed = NIGHTS - LOOSE_RUNS
        for first in range(0, packed, NIGHTS_A_FILE):
            last = min(first + NIGHTS_A_FILE, packed)
            connection.execute(MADE.format(models=MODELS, series=SERIES, first=first, last=last))
            history.add_table(connection, "made")
        for night in range(packed, NIGHTS):
            connection.execute(MADE.format(models=MODELS, series=SERIES, first=night, last=night + 1))
            rows: list[tuple[Any, ...]] = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM made").fetchall()
            history.add([type(one)(**dict(zip(COLUMNS, row, strict=True))) for row in rows])

    history.ask(fill)


def _took_s(command: list[str], folder: Path) -> float:
    began = time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, check=True, cwd=folder, env=environment, capture_output=True, text=True)
    took = time.monotonic() - began
    assert "+5." in done.stdout or "+4." in done.stdout, f"the change was not found:\n{done.stdout}"
    return took


if __name__ == "__main__":
    main()
