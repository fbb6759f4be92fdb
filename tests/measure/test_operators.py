"""Profiles as runtimes write them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from harness.measure.operators import read_profile
from harness.protocol import Profile

if TYPE_CHECKING:
    from pathlib import Path


def event(name: str, ts: int, dur: int, *, tid: int = 1, category: str = "Node") -> dict[str, object]:
    suffix = "_kernel_time" if category == "Node" else ""
    args = {"op_name": name.capitalize(), "provider": "CPUExecutionProvider"}
    return {"cat": category, "name": name + suffix, "ts": ts, "dur": dur, "tid": tid, "args": args}


def read(path: Path, *events: dict[str, object]) -> list[tuple[str, float]]:
    path.write_text(json.dumps([*events, event("model_run", 0, 900, category="Session")]))
    profile = read_profile(path, Profile(file=str(path), format="onnxruntime-trace", ns=(900_000,)))
    return [(operator.name, operator.median_ns) for operator in profile.operators]


def test_the_body_of_an_operator_is_in_its_time_and_no_operator_beside_it(tmp_path: Path) -> None:
    # As ONNX Runtime 1.32.0 wrote them, in the order in which they ended.
    found = read(
        tmp_path / "trace.json",
        event("greater", 26_804, 8),
        event("matmul", 26_822, 318),
        event("sigmoid", 27_145, 20),
        event("SequentialExecutor::Execute", 26_822, 349, category="Session"),
        event("if", 26_816, 360),
        event("sqrt", 27_180, 18),
    )

    assert found == [("greater", 8_000), ("if", 360_000), ("sqrt", 18_000)]


def test_operators_too_short_for_the_clock_and_those_of_other_threads_are_no_bodies(tmp_path: Path) -> None:
    found = read(
        tmp_path / "trace.json",
        event("relu", 10, 0),
        event("add", 11, 1, tid=2),
        event("conv", 10, 9),
        event("mul", 19, 0),
    )

    assert [name for name, _ in found] == ["relu", "add", "conv", "mul"]
