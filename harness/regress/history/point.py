"""One measured cell of one run as a row of the history: what it was, what it ran on, what came out.

A series is what may be drawn as one line: points that agree in every field of `SERIES_FIELDS`. What changes from one
day to the next, and may be the reason of a change (versions, hashes), is a property of the point instead.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

from harness import statistics
from harness.records import Measurement
from harness.series import Series, series_of
from harness.summary import summarise_all, warnings

if TYPE_CHECKING:
    from harness.records import CellResult, DeviceFacts, Plan
    from harness.store import StoredRun
    from harness.summary import Summary

POINT_SCHEMA: Final = 1
"""Of the rows; in the name of every file of a history."""

Metric: TypeAlias = Literal["p50", "p90", "cold", "memory", "size"]

METRIC_FIELDS: Final[dict[Metric, str]] = {
    "p50": "p50_ns",
    "p90": "p90_ns",
    "cold": "cold_start_ns",
    "memory": "peak_memory_bytes",
    "size": "size_bytes",
}

SERIES_FIELDS: Final = Series.__struct_fields__
"""In these all points of a series agree."""

METRIC_SERIES_FIELDS: Final[dict[Metric, tuple[str, ...]]] = {
    "p50": ("is_batched",),
    "p90": ("is_batched",),
    "cold": (),
    "memory": ("memory_source",),
    "size": (),
}
"""In these as well: batch means are not single times, and memory of two sources is not comparable."""

CAUSE_FIELDS: Final = (
    *("runtime_version", "library_sha256", "os", "os_build", "converters", "artifact_sha256", "checkpoint_sha256"),
    *("nodes_delegated", "nodes_total", "harness_version", "revision"),
)
"""What may explain a change, in the order in which it is told."""


class Point(Series, frozen=True, kw_only=True):
    """One row of the history."""

    is_batched: bool
    """Whether a sample is the mean of several inferences, because one is too short for the clock."""
    memory_source: str | None

    run: str
    planned_at: str
    cell: str
    measured_at: str
    """ISO 8601, UTC."""
    added_at: str

    runtime_version: str
    library_sha256: str | None
    os: str | None
    os_build: str | None
    converters: str
    """`litert-torch 0.10.0, torch 2.13.0`."""
    artifact_sha256: str | None
    checkpoint_sha256: str | None
    nodes_delegated: int | None
    nodes_total: int | None
    harness_version: str
    revision: str | None
    """Commit that was checked out where the run was made; None where that is not known."""

    load_1min: float | None
    temperature_celsius: float | None
    canary_ns: float | None
    """The fixed piece of work beside the cell's processes, median: how fast the machine was."""
    warnings: str
    """Kinds of `harness.summary.CellWarning`."""

    p50_ns: float
    p50_low_ns: float | None
    p50_high_ns: float | None
    p90_ns: float
    cold_start_ns: float
    peak_memory_bytes: float | None
    size_bytes: int | None
    parity_relative_l2: float | None
    processes: int
    samples: int


def points_of(run: StoredRun, *, revision: str | None = None) -> tuple[Point, ...]:
    """Every measured cell of a run; what failed or cannot run has no figure and is no point.

    Args:
        run: As it is stored, complete or not.
        revision: Commit that was checked out when it was made, where that is known.
    """
    figures = summarise_all(run.results, run.plan.devices)
    devices = {device.id: device for device in run.plan.devices}
    added_at = datetime.now(UTC).isoformat(timespec="seconds")
    found = []
    for result in run.results:
        summary = figures[result.cell.id]
        if summary is not None:
            device = devices[result.cell.device_id]
            found.append(_point(run.plan, result, summary, device, added_at=added_at, revision=revision))
    return tuple(found)


def _point(
    plan: Plan, result: CellResult, summary: Summary, device: DeviceFacts, *, added_at: str, revision: str | None
) -> Point:
    measured, artifact = result.outcome, result.artifact
    assert isinstance(measured, Measurement)
    ran, state = measured.ran, measured.state_before
    return Point(
        **msgspec.structs.asdict(series_of(result, device)),
        is_batched=summary.iterations_per_sample > 1,
        memory_source=summary.memory_source,
        run=plan.run,
        planned_at=plan.created_at,
        cell=result.cell.id,
        measured_at=_utc(result.started_at),
        added_at=added_at,
        runtime_version=ran.version,
        library_sha256=ran.library_sha256,
        os=device.os,
        os_build=device.os_build,
        converters=_converters(result),
        artifact_sha256=artifact.sha256 if artifact else None,
        checkpoint_sha256=artifact.checkpoint_sha256 if artifact else None,
        nodes_delegated=ran.nodes_delegated,
        nodes_total=ran.nodes_total,
        harness_version=plan.harness_version,
        revision=revision,
        load_1min=state.load_1min,
        temperature_celsius=state.temperature_celsius,
        canary_ns=_canary_ns(measured),
        warnings=", ".join(warning.kind for warning in warnings(summary, result, plan)),
        p50_ns=summary.p50_ns,
        p50_low_ns=summary.p50_low_ns,
        p50_high_ns=summary.p50_high_ns,
        p90_ns=summary.p90_ns,
        cold_start_ns=summary.cold_start_ns,
        peak_memory_bytes=summary.peak_memory_bytes,
        size_bytes=summary.size_bytes,
        parity_relative_l2=summary.parity_relative_l2,
        processes=summary.processes,
        samples=summary.samples,
    )


def _converters(result: CellResult) -> str:
    if result.artifact is None:
        return ""
    return ", ".join(f"{name} {version}" for name, version in sorted(result.artifact.conversion.converters.items()))


def _canary_ns(measured: Measurement) -> float | None:
    found = [
        ns
        for process in measured.processes
        if process.discarded is None
        for ns in (process.canary_before_ns, process.canary_after_ns)
        if ns is not None
    ]
    return statistics.median(found) if found else None


def _utc(at: str) -> str:
    """One spelling for all, so that the order of the texts is that of the times."""
    return datetime.fromisoformat(at).astimezone(UTC).isoformat(timespec="milliseconds")
