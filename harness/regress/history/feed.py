"""How a run gets into the history."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.regress.history.folder import HistoryFolder, history_dir
from harness.regress.history.point import points_of
from harness.regress.history.revision import checked_out

if TYPE_CHECKING:
    from harness.store import StoredRun


def remember(run: StoredRun, reports: Path, *, made_here: bool = True) -> int:
    """Add a run to the history; one that is there already counts once, as it is now.

    Args:
        run: Complete or not.
        reports: The folder that `history_dir` goes by.
        made_here: Whether it was made just now and from here, so that the commit that is checked out is the one it was
            made at.

    Returns:
        How many cells had a figure.

    Raises:
        UnwritableFolder, DeviceFull: It cannot be stored.
    """
    points = points_of(run, revision=checked_out(Path.cwd()) if made_here else None)
    HistoryFolder(history_dir(reports)).add(points)
    return len(points)
