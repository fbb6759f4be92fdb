"""Profiles of operators as Chrome trace events: Perfetto (ui.perfetto.dev) and chrome://tracing open the file.

A process of the trace is a row of the run. Its operators stand end to end, each as long as its median over the profiled
inferences: runtimes time operators in whole microseconds, and a delegate does not say when one began. Source of the
form: the Trace Event Format, docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from harness.report.view import view
from harness.report.words import distinct
from harness.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.records import OperatorProfile
    from harness.report.view import Run


_WHAT_IT_IS: Final = (
    "Not a real timeline: each operator is as long as its median over the profiled inferences, and they are laid end "
    "to end in the order in which they ran. Gaps and operators that ran at once are not in it."
)


def render(run: Run) -> str:
    """The whole document, on one line. A run without profiles has no events."""
    events: list[dict[str, Any]] = []
    for number, row in enumerate(view(run).rows, start=1):
        if row.measured is not None and row.measured.profile is not None:
            name = f"{clean(row.cell.model)} {row.name} on {clean(row.cell.device_id)}"
            events.append({"ph": "M", "name": "process_name", "pid": number, "args": {"name": name}})
            events.extend(_events(row.measured.profile, number))
    document = {"displayTimeUnit": "ms", "otherData": {"times": _WHAT_IT_IS}, "traceEvents": events}
    return msgspec.json.encode(document).decode() + "\n"


def why_empty(run: Run) -> str:
    """Why a run's trace has no event, and what would change that; empty where it has some."""
    measured = [row.measured for row in view(run).rows if row.measured is not None]
    if any(each.profile is not None for each in measured):
        return ""
    reasons = distinct(each.profile_missing for each in measured if each.profile_missing)
    if reasons:
        return f"its operators were to be timed, and were not: {reasons}"
    if measured and all(each.ran.nodes for each in measured):
        return "its runtime says where it means to compute each operation, and times none; `--to html` has that plan"
    return "no cell has the time of its operators; measure with --profile-ops"


def _events(profile: OperatorProfile, number: int) -> Iterator[dict[str, Any]]:
    at_us = 0.0
    for operator in profile.operators:
        us = operator.median_ns / 1e3
        yield {
            "ph": "X",
            "name": operator.name,
            "cat": operator.kind,
            "ts": round(at_us, 3),
            "dur": round(us, 3),
            "pid": number,
            "tid": 1,
            "args": {"kind": operator.kind, "accelerator": operator.accelerator, "timed by": profile.source},
        }
        at_us += us
