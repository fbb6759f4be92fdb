"""Carry a campaign on: one comparison after the other, each stored as it ends."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from harness.errors import DeviceError, LeaseLost
from harness.regress.selftest.campaign import CAMPAIGN_SCHEMA, Done, session

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.regress.selftest.campaign import Campaign, TrialValues
    from harness.regress.selftest.scenario import Scenario

FAILURES_MAX: Final = 5
"""So many comparisons one after the other that cannot be made end a session."""


class Comparer(Protocol):
    """Makes the trials of one comparison, on the device, through the code that `harness compare` uses."""

    def __call__(self, scenario: Scenario, *, trials: int, seed: int) -> tuple[TrialValues, ...]:
        """Compare the unchanged build with itself under a scenario. Blocks for seconds.

        Raises:
            DeviceError: A program died, or every attempt was disturbed.
        """
        ...


def carry_on(
    campaign: Campaign,
    comparer: Comparer,
    *,
    at_most_s: float | None = None,
    watch: Callable[[Scenario, Done | DeviceError, int], None] = lambda _scenario, _done, _left: None,
) -> int:
    """Do what is left of a campaign, or as much of it as there is time for.

    A comparison that cannot be made is told and tried again in a later session; what it would have said does not decide
    whether it counts.

    Args:
        campaign: As it is stored.
        comparer: Makes the trials.
        at_most_s: Begin no further comparison after so many seconds.
        watch: Told of every comparison and how many are left.

    Returns:
        How many were done.

    Raises:
        RunLocked, UnwritableFolder: It cannot be stored.
        LeaseLost: Another run has taken the device over. The comparison that it was in is not kept.
        DeviceError: The last `FAILURES_MAX` could not be made; this is what the last one said.
    """
    plan, order = campaign.plan, campaign.plan.order
    left = campaign.left
    began = time.monotonic()
    done, failures = 0, 0
    with session(campaign.folder) as writer:
        for place, index in enumerate(left):
            if at_most_s is not None and time.monotonic() - began >= at_most_s:
                break
            scenario = plan.scenarios[order[index]]
            try:
                one = _compare(campaign, comparer, scenario, index)
            except LeaseLost:  # another run is on the device, and would be in every further one, too
                raise
            except DeviceError as error:
                failures += 1
                if failures == FAILURES_MAX:
                    raise
                watch(scenario, error, len(left) - place - 1)
                continue
            failures = 0
            writer.save(one)
            done += 1
            watch(scenario, one, len(left) - place - 1)
    return done


def _compare(campaign: Campaign, comparer: Comparer, scenario: Scenario, index: int) -> Done:
    at, began, load = datetime.now(UTC), time.monotonic(), os.getloadavg()[0]
    trials = comparer(scenario, trials=campaign.plan.trials, seed=campaign.plan.seed + index)
    return Done(
        schema=CAMPAIGN_SCHEMA,
        index=index,
        at=at.isoformat(timespec="seconds"),
        seconds=time.monotonic() - began,
        load_1min=load,
        trials=trials,
    )
