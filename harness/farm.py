"""Devices at work at once: a thread each, one cell at a time on each, and what becomes of cells whose device goes away.

    a device that goes away in mid-cell     that cell failed; the others of the device wait for its return
    ... and is not back in time             they are recorded as not run
    a device that misbehaves three times    is set aside: its other cells are recorded as not run

Knows nothing of stages: what a cell is made of, how it is measured and where it is stored is handed in as a `Work`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from harness.device.halting import Halt, Halted, HaltingDevice, tell_owed
from harness.errors import DeviceError, DeviceNotFound, HarnessError
from harness.events import CellStarted, DeviceCameBack, DeviceSetAside, DeviceWentAway, Event
from harness.records import Cell, Failure, NotRun, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from harness.device.device import Device
    from harness.device.halting import Owed
    from harness.records import DeviceFacts

_log = logging.getLogger(__name__)

PATIENCE_S = 300.0
"""For a device that has gone away, where nobody says: a phone restarts in one or two minutes."""
STRIKES = 3
_POLL_S = 2.0
_PROBE_S = 10.0
_LEAVE_S = 30.0
"""For the threads of devices to leave: a push in mid-file is finished first, since it then can be taken back."""

MISBEHAVIOUR = frozenset(
    {"link_lost", "offline", "not_found", "unauthorized", "locked", "refused", "push_corrupted", "lease_lost"}
)
"""Kinds of failures that are a device's fault, and not that of the model or the runtime."""


class Work(Protocol):
    """What is to be done with cells. Called from the threads of several devices at once."""

    def foregone(self, cell: Cell) -> Outcome | None:
        """What becomes of a cell without its device being touched; None for one that can be measured.

        Blocks until that is known.
        """
        ...

    def is_foregone(self, cell: Cell) -> bool:
        """Whether it is known by now that the device will not be touched for a cell. Never blocks."""
        ...

    def measure(self, cell: Cell, device: Device) -> Outcome:
        """Measure a cell."""
        ...

    def save(self, cell: Cell, outcome: Outcome, *, number: int, began_at: datetime, seconds: float) -> None:
        """Store what became of a cell, the `number`th that was begun.

        Raises:
            HarnessError: It cannot be stored, which ends the run.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What holds for all devices of a run."""

    facts: Mapping[str, DeviceFacts]
    """As planned, by id: another device at the same address is not the one that is waited for."""
    find: Callable[[str], Device]
    watch: Callable[[Event], None]
    patience_s: float = PATIENCE_S
    owed: Mapping[str, Owed] = field(default_factory=dict)
    """What earlier runs still owe to a device, by id."""
    keep: Callable[[str, Owed], None] = lambda _device_id, _owed: None
    """Keeps what is owed to a device when its cells are through."""


class Progress:
    """How many cells of the run were begun; shared by all devices."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._begun = 0
        self._lock = threading.Lock()

    def next(self) -> int:
        """The number of the cell that begins now, from 1."""
        with self._lock:
            self._begun += 1
            return self._begun


@contextlib.contextmanager
def at_work(cells: Sequence[Cell], devices: Mapping[str, Device], work: Work, terms: Terms) -> Iterator[Halt]:
    """Have devices work on cells while the block goes on, and wait for them at its end.

    The block is handed what says that all are to stop, which it may check.

    Leaving the block by an exception, Ctrl-C above all, stops all devices: what runs there is ended and tidied up, and
    cells under way are not stored. A second Ctrl-C leaves at once.

    Raises:
        HarnessError: A cell could not be stored, or a step failed in a way that ends the run.
    """
    halt, progress = Halt(), Progress(len(cells))
    lanes = [
        _Lane(device, [cell for cell in cells if cell.device_id == device_id], work, terms, halt, progress)
        for device_id, device in devices.items()
    ]
    for lane in lanes:
        lane.start()
    try:
        yield halt
        for lane in lanes:
            lane.over.wait()
    except Halted:  # by the block, which saw that a device's thread has stopped all
        _leave(lanes, halt)
    except BaseException:
        _leave(lanes, halt)
        raise
    for lane in lanes:
        if lane.error is not None:
            raise lane.error


def _leave(lanes: Sequence[_Lane], halt: Halt) -> None:
    halt.stop()
    deadline = time.monotonic() + _LEAVE_S
    for lane in lanes:
        if not lane.over.wait(max(0.0, deadline - time.monotonic())):
            _log.warning("%s is not waited for: %s", lane.device_id, lane.unfinished())


class _Lane:
    """One device and its cells."""

    def __init__(
        self, device: Device, cells: Sequence[Cell], work: Work, terms: Terms, halt: Halt, progress: Progress
    ) -> None:
        self.device_id, self._device = device.id, HaltingDevice(device, halt, terms.owed.get(device.id))
        self._cells, self._work, self._terms = cells, work, terms
        self._halt, self._progress = halt, progress
        self._gone: str | None = None
        """Why it is thought to have gone away."""
        self._aside: str | None = None
        """Why it gets nothing more to do."""
        self._strikes = 0
        self._spent: list[float] = []
        self.error: BaseException | None = None
        """What ended the thread, where that ends the run."""
        self.over = threading.Event()
        """Set when its thread is done. `Thread.join` will not do: a Ctrl-C in it makes Python 3.11 take a thread that
        runs on for one that has ended (bpo-45274), and nobody would wait for it to tidy up."""

    def unfinished(self) -> str:
        """What it is at, and what that leaves on the device if nobody waits for it."""
        doing, arriving = self._device.doing, self._device.arriving
        if arriving is None:
            return f"it is still {doing}" if doing else "what it was at goes on for a while"
        return (
            f"it is still {doing}; what arrived of it stays there as {arriving.parent}/.{arriving.name}.*.part, until "
            f"`harness devices clean {self.device_id} --older-than 0` removes it with every model that is kept there"
        )

    def start(self) -> None:
        """Begin, in a thread of its own."""
        threading.Thread(target=self._run, name=f"device {self.device_id}", daemon=True).start()

    def _run(self) -> None:
        try:
            if self._device.owed:
                with contextlib.suppress(HarnessError):  # it is tried again at the end
                    self._device.pay(timeout_s=_PROBE_S)
            for index, cell in enumerate(self._cells):
                self._halt.check()
                self._do(cell, self._cells[index:])
            self._tidy()
        except Halted:
            self._tidy_at_once()
        except BaseException as error:  # noqa: BLE001  (raised again in the main thread)
            self.error = error
            self._halt.stop()
        finally:
            self._terms.keep(self.device_id, self._device.owed)
            self.over.set()

    def _do(self, cell: Cell, left: Sequence[Cell]) -> None:
        outcome = self._work.foregone(cell)
        number = self._progress.next()
        began, began_at = time.monotonic(), datetime.now(UTC)
        if outcome is None and self._is_usable():
            average = sum(self._spent) / len(self._spent) if self._spent else None
            timed = sum(not self._work.is_foregone(each) for each in left)
            seconds_left = None if average is None else average * timed
            self._terms.watch(CellStarted(cell, number, self._progress.total, seconds_left))
            began, began_at = time.monotonic(), datetime.now(UTC)
            outcome = self._work.measure(cell, self._device)
            self._halt.check()  # a program that was ended by us has not failed
            self._spent.append(time.monotonic() - began)
            if isinstance(outcome, Failure):
                self._judge(outcome)
        elif outcome is None:
            outcome = NotRun(reason=self._aside or "")
        self._work.save(cell, outcome, number=number, began_at=began_at, seconds=time.monotonic() - began)

    # --- devices that go away ---

    def _judge(self, failure: Failure) -> None:
        """Whether a failure is the device's fault, and what follows."""
        # A device that times out says at what; a timing program that hangs is the model's or the runtime's fault.
        timed_out = failure.kind == "timeout"
        blamed = failure.kind in MISBEHAVIOUR or (timed_out and "what" in failure.facts)
        if not (blamed or timed_out):
            return
        absent = self._absent()
        if not blamed and absent is None:
            return
        self._strikes += 1
        if self._strikes >= STRIKES:
            self._set_aside(f"it was set aside after it misbehaved {STRIKES} times, at last: {failure.message}")
        elif absent is not None:
            self._gone = absent

    def _is_usable(self) -> bool:
        """Whether the device is there; waits for one that has gone away."""
        if self._aside is None and self._gone is not None:
            self._await_return(self._gone)
        return self._aside is None

    def _await_return(self, why: str) -> None:
        self._terms.watch(DeviceWentAway(self.device_id, why, self._terms.patience_s))
        began = time.monotonic()
        while True:
            absent = self._absent()
            if absent is None:
                self._gone = None
                self._terms.watch(DeviceCameBack(self.device_id, time.monotonic() - began))
                return
            left_s = self._terms.patience_s - (time.monotonic() - began)
            if left_s <= 0:
                self._set_aside(f"it went away and was not back within {self._terms.patience_s:g} s: {absent}")
                return
            self._halt.sleep(min(_POLL_S, left_s))

    def _absent(self) -> str | None:
        """Why it is not there, or None: then it is, and nothing is owed to it any more."""
        try:
            self._contact()
            self._device.pay(timeout_s=_PROBE_S)
        except HarnessError as error:  # UnknownName, too: an adb server forgets what is unplugged
            return str(error)
        return None

    def _contact(self) -> None:
        """See that it answers, and that it is the one that was planned with."""
        found = self._terms.find(self.device_id)
        _probe(found)
        require_planned(self._terms.facts[self.device_id], found.facts())
        try:
            # Only the old object knows what broken pushes left there; but its address may not be the device's any more.
            _probe(self._device)
        except DeviceError:
            self._device = HaltingDevice(found, self._halt, self._device.owed)

    def _set_aside(self, why: str) -> None:
        self._aside = f"{self.device_id}: {why}"
        self._terms.watch(DeviceSetAside(self.device_id, why))

    def _tidy(self) -> None:
        """Do what is owed, and tell what is left. A device that is not there is waited for, but not twice."""
        if self._device.owed and (absent := self._absent()) is not None and self._aside is None:
            self._await_return(absent)
        tell_owed(self._device)

    def _tidy_at_once(self) -> None:
        """Do what is owed if the device is there: all are to stop, and somebody waits for that."""
        if not self._device.owed:
            return
        with contextlib.suppress(HarnessError):
            found = self._terms.find(self.device_id)
            require_planned(self._terms.facts[self.device_id], found.facts())
            HaltingDevice(found, self._halt, self._device.owed).pay(timeout_s=_PROBE_S)
        tell_owed(self._device)


def require_planned(planned: DeviceFacts, now: DeviceFacts) -> None:
    """See that a device is the one that a run was planned with, by what it says of itself.

    What a profile calls it may be edited while a run waits to be resumed.

    Raises:
        DeviceNotFound: Another one has its address now.
    """
    if planned.unit_digest is not None and now.unit_digest is not None:
        is_same = planned.unit_digest == now.unit_digest
    elif planned.own_name is not None and now.own_name is not None:
        is_same = planned.own_name == now.own_name
    else:  # planned before that was asked
        is_same = planned.name == now.name
    if is_same and planned.cpu == now.cpu:
        return
    if planned.name == now.name:
        raise DeviceNotFound(planned.id, f"another {now.name} is there now")
    raise DeviceNotFound(planned.id, f"another device is there now, {now.name}, and not {planned.name}")


def _probe(device: Device) -> None:
    device.sha256(device.work_folder / ".is-it-there", timeout_s=_PROBE_S)
