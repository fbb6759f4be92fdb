"""Carry a campaign on: one comparison after the other in each lane, each stored as it ends."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from harness.errors import DeviceError, LeaseLost
from harness.regress.selftest.campaign import CAMPAIGN_SCHEMA, Done, session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.regress.selftest.campaign import Campaign, Session, TrialValues
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
    lanes: Sequence[Comparer],
    *,
    at_most_s: float | None = None,
    watch: Callable[[Scenario, Done | DeviceError, int], None] = lambda _scenario, _done, _left: None,
    stop: Callable[[], None] = lambda: None,
) -> int:
    """Do what is left of a campaign, or as much of it as there is time for.

    A comparison that cannot be made is told and tried again in a later session; what it would have said does not decide
    whether it counts.

    Args:
        campaign: As it is stored.
        lanes: Each makes one comparison at a time, in a thread of its own.
        at_most_s: Begin no further comparison after so many seconds.
        watch: Told of every comparison and how many are left, by one thread at a time.
        stop: Has the comparisons that are under way end at once, by an exception in their threads.

    Returns:
        How many were done.

    Raises:
        RunLocked, UnwritableFolder: It cannot be stored.
        LeaseLost: Another run has taken the device over. The comparisons under way are not kept.
        DeviceError: The last `FAILURES_MAX` could not be made; this is what the last one said.
    """
    with session(campaign.folder) as writer:
        work = _Work(campaign, writer, watch, until=None if at_most_s is None else time.monotonic() + at_most_s)
        with ThreadPoolExecutor(len(lanes), thread_name_prefix="lane") as pool:
            threads = [pool.submit(work.go_on, comparer, lane) for lane, comparer in enumerate(lanes)]
            try:
                wait(threads, return_when=FIRST_EXCEPTION)
            finally:
                if not all(thread.done() for thread in threads):  # Ctrl-C, or one of them has failed
                    work.close()
                    stop()
    if work.errors:
        raise work.errors[0]  # those after it were stopped
    return work.done


class _Work:
    """What is left of a campaign, handed out to lanes."""

    def __init__(
        self,
        campaign: Campaign,
        writer: Session,
        watch: Callable[[Scenario, Done | DeviceError, int], None],
        *,
        until: float | None,
    ) -> None:
        self._plan, self._order = campaign.plan, campaign.plan.order
        self._writer, self._watch, self._until = writer, watch, until
        self._left = iter(campaign.left)
        self._unmade = len(campaign.left)
        self._closed = False
        self._lock = threading.Lock()
        self._failures = 0
        self.done = 0
        self.errors: list[BaseException] = []
        """What ended a lane before its time, the earliest first."""

    def close(self) -> None:
        """Hand out no more."""
        self._closed = True

    def go_on(self, comparer: Comparer, lane: int) -> None:
        """Make one comparison after the other."""
        try:
            while (index := self._next()) is not None:
                self._make(comparer, index, lane)
        except BaseException as error:
            self.errors.append(error)
            self.close()
            raise

    def _next(self) -> int | None:
        with self._lock:
            is_late = self._until is not None and time.monotonic() >= self._until
            return None if self._closed or is_late else next(self._left, None)

    def _make(self, comparer: Comparer, index: int, lane: int) -> None:
        scenario = self._plan.scenarios[self._order[index]]
        at, began, load = datetime.now(UTC), time.monotonic(), os.getloadavg()[0]
        made: Done | DeviceError
        try:
            trials = comparer(scenario, trials=self._plan.trials, seed=self._plan.seed + index)
        except LeaseLost:  # another run is on the device, and would be in every further one, too
            raise
        except DeviceError as error:
            made = error
        else:
            made = Done(
                schema=CAMPAIGN_SCHEMA,
                index=index,
                at=at.isoformat(timespec="seconds"),
                seconds=time.monotonic() - began,
                load_1min=load,
                lane=lane,
                trials=trials,
            )
        with self._lock:
            self._keep(scenario, made)

    def _keep(self, scenario: Scenario, made: Done | DeviceError) -> None:
        self._unmade -= 1
        if isinstance(made, Done):
            self._failures = 0
            self._writer.save(made)
            self.done += 1
        else:
            self._failures += 1
            if self._failures == FAILURES_MAX:
                raise made
        self._watch(scenario, made, self._unmade)
