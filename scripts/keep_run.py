"""Keep a run in git, for the README and for review: `python scripts/keep_run.py RUN NAME`.

Only the plan and the cells are kept, from which every report can be made again, and no path of the machine it ran on:
the cache becomes `<cache>`, the folder of this project nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

from harness.store import StoredRun, keep_run

ROOT = Path(__file__).resolve().parent.parent


def main(run: Path, name: str) -> None:
    """Copy, and make sure that what was copied can be read."""
    kept = ROOT / "reports" / "baselines" / name
    keep_run(StoredRun.open(run), kept)
    StoredRun.open(kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
