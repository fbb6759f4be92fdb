"""What is done to the second build in a campaign, and what the detector has to make of it."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from harness.records import Record
from harness.regress.decision import Metric  # noqa: TC001  (msgspec reads the annotation)

Kind: TypeAlias = Literal["aa", "spin", "repeat", "memory", "cold", "bimodal", "ramp", "step", "neighbour"]

SPEED_DOSES: Final = (0.005, 0.01, 0.02, 0.03, 0.05, 0.10)
MEMORY_DOSES: Final = (0.01, 0.02, 0.05)
COLD_DOSES: Final = (0.10, 0.25)
DRIFT_DOSE: Final = 0.10
"""Of what slows both builds alike."""
BIMODAL_SHARE: Final = 0.05
"""Of the iterations, which take three times as long."""

WHAT: Final[dict[Kind, str]] = {
    "aa": "the same build twice",
    "spin": "every inference longer by a fixed time",
    "repeat": "every inference longer by a share of itself, spent in memory",
    "memory": "so much more memory, touched and kept",
    "cold": "a longer cold start",
    "bimodal": "one inference in twenty takes three times as long",
    "ramp": "both builds slow down steadily, again and again, as when throttled",
    "step": "both builds slower for half a second, and again",
    "neighbour": "the same build twice, and a neighbour that loads the machine in mid-run",
}
MUST_NOT_ALARM: Final[frozenset[Kind]] = frozenset({"aa", "ramp", "step", "neighbour"})
ON_BOTH: Final[frozenset[Kind]] = frozenset({"ramp", "step"})
"""What happens to the device and not to a build happens to both."""


class Scenario(Record, frozen=True, kw_only=True):
    """One kind of comparison of a campaign.

    Attributes:
        kind: What is done.
        dose: How much: 0.03 is 3 % of what the unchanged build has; 0 where nothing is.
        metric: In which metric it shows.
        comparisons: How many of them.
    """

    kind: Kind
    dose: float
    metric: Metric
    comparisons: int

    @property
    def name(self) -> str:
        """`spin 2 %`."""
        return f"{self.kind} {100 * self.dose:g} %" if self.dose else self.kind


def aa_scenarios(comparisons: int) -> tuple[Scenario, ...]:
    """A build with itself, and a tenth as many comparisons beside a neighbour."""
    beside = max(1, comparisons // 10)
    return (
        Scenario(kind="aa", dose=0.0, metric="p50", comparisons=comparisons),
        Scenario(kind="neighbour", dose=0.0, metric="p50", comparisons=beside),
    )


def power_scenarios(comparisons: int) -> tuple[Scenario, ...]:
    """Every injection, so many times each."""
    found = [
        Scenario(kind=kind, dose=dose, metric="p50", comparisons=comparisons)
        for kind in ("spin", "repeat")
        for dose in SPEED_DOSES
    ]
    found += [Scenario(kind="memory", dose=dose, metric="memory", comparisons=comparisons) for dose in MEMORY_DOSES]
    found += [Scenario(kind="cold", dose=dose, metric="cold_start", comparisons=comparisons) for dose in COLD_DOSES]
    found += [
        Scenario(kind="bimodal", dose=BIMODAL_SHARE, metric="p50", comparisons=comparisons),
        Scenario(kind="ramp", dose=DRIFT_DOSE, metric="p50", comparisons=comparisons),
        Scenario(kind="step", dose=DRIFT_DOSE, metric="p50", comparisons=comparisons),
    ]
    return tuple(found)
