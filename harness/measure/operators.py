"""Profiles of operators as runtimes write them, read into one form.

Two forms: the trace that ONNX Runtime's own profiler writes (Chrome's trace events as one JSON array, since it opened
the session), and the events of LiteRT's profiler as `bench` writes them (one JSON object a line, without the time at
which a delegate's operator began).
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import msgspec

from harness.decoding import decode
from harness.records import OperatorProfile, OperatorTime

if TYPE_CHECKING:
    from pathlib import Path

    from harness.protocol import Profile


class _TraceEvent(msgspec.Struct, frozen=True):
    """Source: what ONNX Runtime 1.24 to 1.32 write; unknown keys are theirs to add."""

    cat: str
    name: str
    ts: int = 0
    dur: int = 0
    """Both in microseconds."""
    tid: int = 0
    args: dict[str, Any] = {}


class _LiteRtEvent(msgspec.Struct, frozen=True, tag_field="type"):
    name: str
    node: int
    us: int


class _Op(_LiteRtEvent, frozen=True, tag="op"):
    """A node that a built-in kernel ran, or one that stands for a whole delegate."""


class _DelegateOp(_LiteRtEvent, frozen=True, tag="delegate_op"):
    """A node inside a delegate, with a number of the delegate's own."""


def read_profile(path: Path, said: Profile) -> OperatorProfile:
    """Read what the runtime wrote.

    Args:
        path: The file, pulled.
        said: What the timing program said of it. Inferences before those it counts are left out.

    Raises:
        ValueError: The file is not in the form that was said, or does not hold the same operators for every inference.
    """
    read = _onnxruntime if said.format == "onnxruntime-trace" else _litert
    inferences = read(path.read_bytes(), len(said.ns))
    names = [[operator.name for operator in operators] for operators in inferences]
    if not inferences or not names[0] or any(each != names[0] for each in names):
        problem = f"the profile does not hold {len(said.ns)} inferences of the same operators"
        raise ValueError(problem)
    return OperatorProfile(
        source=said.format,
        inferences_ns=said.ns,
        operators=tuple(
            msgspec.structs.replace(same[0], median_ns=statistics.median(each.median_ns for each in same))
            for same in zip(*inferences, strict=True)
        ),
    )


def _onnxruntime(content: bytes, count: int) -> list[list[OperatorTime]]:
    """The operators of the last inferences. An inference's own event follows those of its operators."""
    inferences: list[list[OperatorTime]] = []
    running: list[_TraceEvent] = []
    for event in decode(content, list[_TraceEvent]):
        if event.cat == "Node" and event.name.endswith("_kernel_time"):
            # An If, Loop or Scan ends after the operators of its body, has their time in its own, and runs others next
            # time: it stands for them.
            running = [other for other in running if not _is_within(other, event)]
            running.append(event)
        elif event.cat == "Session" and event.name == "model_run":
            inferences.append([_onnxruntime_operator(each) for each in running])
            running = []
    return inferences[-count:]


def _is_within(inner: _TraceEvent, outer: _TraceEvent) -> bool:
    # Operators follow one another without a gap, and may begin in the same microsecond; a body begins after its holder.
    ends_first = inner.ts + inner.dur <= outer.ts + outer.dur
    return inner.tid == outer.tid and inner.ts > outer.ts and ends_first


def _onnxruntime_operator(event: _TraceEvent) -> OperatorTime:
    return OperatorTime(
        name=event.name.removesuffix("_kernel_time"),
        kind=str(event.args.get("op_name", "unknown")),
        accelerator=str(event.args.get("provider", "unknown")),
        median_ns=1e3 * event.dur,
    )


def _litert(content: bytes, count: int) -> list[list[OperatorTime]]:
    """The operators of every inference. They come in the order in which they ended, inference by inference."""
    events = [decode(line, _Op | _DelegateOp) for line in content.splitlines()]
    operators = [_litert_operator(event) for event in events]
    each, left = divmod(len(operators), count)
    if left:
        return []
    return [operators[index * each : (index + 1) * each] for index in range(count)]


def _litert_operator(event: _Op | _DelegateOp) -> OperatorTime:
    is_delegates = isinstance(event, _DelegateOp)
    return OperatorTime(
        name=f"{event.name} #{event.node}",
        kind=event.name,
        # XNNPACK is the only delegate of `bench`; a node of its own has the number that it has there.
        accelerator="xnnpack" if is_delegates else "builtin",
        median_ns=1e3 * event.us,
    )
