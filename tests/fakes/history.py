"""Points of a history, of which a test changes only what it is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import msgspec

from harness.regress.history.point import Point, points_of
from tests.fakes import records

if TYPE_CHECKING:
    from harness.store import StoredRun

FIRST_NIGHT = datetime(2026, 1, 1, 1, tzinfo=UTC)


def point(night: int = 0, **changes: Any) -> Point:
    """A measured cell in the run of a night."""
    at = FIRST_NIGHT + timedelta(days=night)
    run = cast("StoredRun", records.run([records.result()]))  # as far as it is asked
    (made,) = points_of(run)
    named = {
        "run": f"night-{night:03d}",
        "planned_at": at.isoformat(),
        "measured_at": at.isoformat(timespec="milliseconds"),
        "added_at": (at + timedelta(hours=1)).isoformat(),
    }
    return msgspec.structs.replace(made, **(named | changes))


def nights(values_ns: list[float], **changes: Any) -> list[Point]:
    """One point a night, with these p50."""
    return [point(night, p50_ns=value, **changes) for night, value in enumerate(values_ns)]
