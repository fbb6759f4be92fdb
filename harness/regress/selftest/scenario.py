"""What is done to the second build in a campaign, and what the detector has to make of it."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from harness.records import Record
from harness.regress.decision import Metric  # noqa: TC001  (msgspec reads the annotation)

Kind: TypeAlias = Literal["aa", "spin", "repeat", "memory", "cold", "bimodal", "ramp", "step", "neighbour"]

SPEED_DOSES: Final = (0.005, 0.01, 0.02, 0.03, 0.05, 0.10)
POWER_LEAST: Final = {0.02: 0.90, 0.03: 0.95}
"""Dose -> the share of slowdowns that has to be found."""
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
"""What is put into both builds, in place of a device that slows down."""
OF_THE_DEVICE: Final[frozenset[Kind]] = ON_BOTH | {"neighbour"}
"""What happens to the device and not to a build: the unchanged build is slower in it, too."""


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
    """A build with itself, and three tenths as many comparisons beside a neighbour."""
    return (
        Scenario(kind="aa", dose=0.0, metric="p50", comparisons=comparisons),
        Scenario(kind="neighbour", dose=0.0, metric="p50", comparisons=_at_least_one(0.3 * comparisons)),
    )


def power_scenarios(comparisons: int) -> tuple[Scenario, ...]:
    """Every injection, the larger part of them where a rate is asked for.

    Args:
        comparisons: Of each slowdown of which a share has to be found. Of what must not alarm there are half as many
            more, since 1 in 100 is shown by no fewer than 299, and of the rest a quarter as many.
    """
    few, more = _at_least_one(comparisons / 4), _at_least_one(1.5 * comparisons)
    found = [
        Scenario(kind=kind, dose=dose, metric="p50", comparisons=comparisons if dose in POWER_LEAST else few)
        for kind in ("spin", "repeat")
        for dose in SPEED_DOSES
    ]
    found += [Scenario(kind="memory", dose=dose, metric="memory", comparisons=few) for dose in MEMORY_DOSES]
    found += [Scenario(kind="cold", dose=dose, metric="cold_start", comparisons=few) for dose in COLD_DOSES]
    found += [
        Scenario(kind="bimodal", dose=BIMODAL_SHARE, metric="p50", comparisons=few),
        Scenario(kind="ramp", dose=DRIFT_DOSE, metric="p50", comparisons=more),
        Scenario(kind="step", dose=DRIFT_DOSE, metric="p50", comparisons=more),
    ]
    return tuple(found)


def _at_least_one(number: float) -> int:
    return max(1, round(number))
