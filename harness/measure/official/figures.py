"""What a tool says, before it is known where and how it was started."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Figures:
    """As `harness.records.ToolSummary`, in which each field is explained."""

    generation: str
    iterations: int | None = None
    mean_ns: float | None = None
    min_ns: float | None = None
    max_ns: float | None = None
    std_ns: float | None = None
    percentiles_ns: dict[str, float] = field(default_factory=dict)
    load_ns: float | None = None
    first_inference_ns: float | None = None
    warmup_iterations: int | None = None
    warmup_mean_ns: float | None = None
    load_memory_bytes: int | None = None
    overall_memory_bytes: int | None = None
    peak_bytes: int | None = None
    nodes_total: int | None = None
    nodes_delegated: int | None = None
    partitions: int | None = None
    delegate: str | None = None
    fallback_reason: str | None = None
