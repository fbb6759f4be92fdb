"""Devices at work at once, and what becomes of cells whose device goes away. The devices follow scripts."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from harness import farm
from harness.device.halting import Halt, Halted, HaltingDevice
from harness.errors import DeviceFull, DeviceNotFound, DeviceTimedOut, LinkLost, UnknownName
from harness.events import CellStarted, DeviceCameBack, DeviceSetAside, DeviceWentAway, Event
from harness.farm import Terms, at_work, require_planned
from harness.records import Cell, Failure, NotRun, NotRunnable, Outcome
from tests.fakes import records
from tests.fakes.device import FACTS, FakeDevice, FakeProgram

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from harness.device.device import Device

GONE = LinkLost("a", "push /x", "reset by peer")
DONE = NotRunnable(reason="the test's word for done")


def named(device_id: str) -> FakeDevice:
    return FakeDevice(facts=msgspec.structs.replace(FACTS, id=device_id))


def cells(*names: str) -> tuple[Cell, ...]:
    """`a1` is the first cell of device a."""
    return tuple(records.cell(id=name, device_id=name[0]) for name in names)


def link_lost() -> Failure:
    return records.failure("link_lost", stage="deploy", message=str(GONE))


class Script:
    """A `Work` that does what the test says, and keeps what came of it."""

    def __init__(self, measure: Callable[[Cell, Device], Outcome] | None = None) -> None:
        self._measure = measure or (lambda _cell, _device: DONE)
        self.saved: dict[str, Outcome] = {}

    def foregone(self, cell: Cell) -> Outcome | None:
        return None

    def is_foregone(self, cell: Cell) -> bool:
        return False

    def measure(self, cell: Cell, device: Device) -> Outcome:
        return self._measure(cell, device)

    def save(self, cell: Cell, outcome: Outcome, *, number: int, began_at: datetime, seconds: float) -> None:
        self.saved[cell.id] = outcome


def terms(
    devices: Mapping[str, FakeDevice], *, watch: Callable[[Event], None] = lambda _: None, patience_s: float = 5.0
) -> Terms:
    facts = {name: device.facts() for name, device in devices.items()}
    return Terms(facts=facts, find=lambda name: devices[name], watch=watch, patience_s=patience_s)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farm, "_POLL_S", 0.01)


def test_devices_work_at_once_and_each_on_one_cell_at_a_time() -> None:
    both = threading.Barrier(2, timeout=10)
    busy: dict[str, int] = {"a": 0, "b": 0}

    def measure(cell: Cell, device: Device) -> Outcome:
        busy[device.id] += 1
        assert busy[device.id] == 1
        both.wait()  # breaks unless both devices are in a cell now
        busy[device.id] -= 1
        return DONE

    devices = {"a": named("a"), "b": named("b")}
    work = Script(measure)
    with at_work(cells("a1", "a2", "b1", "b2"), devices, work, terms(devices)):
        pass

    assert set(work.saved) == {"a1", "a2", "b1", "b2"}


def test_a_device_that_goes_away_fails_its_cell_and_its_others_wait_for_its_return() -> None:
    device = named("a")
    events: list[Event] = []

    def measure(cell: Cell, _device: Device) -> Outcome:
        if cell.id == "a1":
            device.fail_on("sha256", DeviceNotFound("a", "nothing listens there"), times=4)
            return link_lost()
        return DONE

    work = Script(measure)
    with at_work(cells("a1", "a2"), {"a": device}, work, terms({"a": device}, watch=events.append)):
        pass

    assert work.saved == {"a1": link_lost(), "a2": DONE}
    kinds = [type(event) for event in events]
    assert kinds == [CellStarted, DeviceWentAway, DeviceCameBack, CellStarted]


def test_the_time_that_is_left_is_that_of_the_cells_that_will_be_timed() -> None:
    events: list[Event] = []
    work = Script(lambda _cell, _device: DONE)
    work.is_foregone = lambda cell: cell.id in {"a3", "a4", "a5"}  # type: ignore[method-assign]

    with at_work(
        cells("a1", "a2", "a3", "a4", "a5"), {"a": named("a")}, work, terms({"a": named("a")}, watch=events.append)
    ):
        pass

    first, second, third, *_ = [event for event in events if isinstance(event, CellStarted)]
    assert first.seconds_left is None
    assert second.seconds_left is not None
    assert second.seconds_left >= 0
    assert third.seconds_left == 0, "of what is left nothing is timed"


def test_a_device_that_is_not_back_in_time_leaves_its_cells_not_run_and_others_go_on() -> None:
    devices = {"a": named("a"), "b": named("b")}
    devices["a"].fail_on("sha256", DeviceNotFound("a", "nothing listens there"), times=10**6)
    events: list[Event] = []
    work = Script(lambda cell, _device: link_lost() if cell.id == "a1" else DONE)

    patient = terms(devices, watch=events.append, patience_s=0.05)
    with at_work(cells("a1", "a2", "a3", "b1", "b2"), devices, work, patient):
        pass

    assert work.saved["a1"] == link_lost()
    for name in ("a2", "a3"):
        outcome = work.saved[name]
        assert isinstance(outcome, NotRun)
        assert outcome.reason == "a: it went away and was not back within 0.05 s: a: nothing listens there"
    assert work.saved["b1"] == work.saved["b2"] == DONE
    assert sum(isinstance(event, DeviceSetAside) for event in events) == 1


def test_an_adb_server_that_has_forgotten_the_device_means_that_it_is_gone() -> None:
    device = named("a")
    left = [UnknownName("device", "a", ())] * 3

    def find(_name: str) -> FakeDevice:
        if left:
            raise left.pop()
        return device

    work = Script(lambda cell, _device: link_lost() if cell.id == "a1" else DONE)
    known = Terms(facts={"a": device.facts()}, find=find, watch=lambda _: None)
    with at_work(cells("a1", "a2"), {"a": device}, work, known):
        pass

    assert work.saved["a2"] == DONE
    assert not left


def test_another_device_at_the_same_address_is_not_the_one_that_is_waited_for() -> None:
    device = named("a")
    other = FakeDevice(facts=msgspec.structs.replace(FACTS, id="a", name="Other phone"))
    work = Script(lambda cell, _device: link_lost())
    known = Terms(facts={"a": device.facts()}, find=lambda _: other, watch=lambda _: None, patience_s=0.05)
    with at_work(cells("a1", "a2"), {"a": device}, work, known):
        pass

    outcome = work.saved["a2"]
    assert isinstance(outcome, NotRun)
    assert "another device is there now, Other phone, and not Fake" in outcome.reason


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"name": "Lab Pixel"}, None),  # a title that was edited
        ({"own_name": "Pixel 8a"}, None),  # one device says one thing of itself, whatever its system is called
        ({"unit_digest": "22"}, "another Pixel 8 is there now"),
        ({"unit_digest": "22", "name": "Lab Pixel"}, "another device is there now, Lab Pixel, and not Pixel 8"),
        ({"unit_digest": None, "own_name": "Galaxy"}, "another Pixel 8 is there now"),
        ({"unit_digest": None, "own_name": None, "name": "Galaxy"}, "another device is there now, Galaxy"),
        ({"cpu": "Another chip"}, "another Pixel 8 is there now"),
    ],
)
def test_a_device_is_told_from_others_by_what_it_says_of_itself(changes: dict[str, str], problem: str | None) -> None:
    planned = msgspec.structs.replace(FACTS, name="Pixel 8", own_name="Pixel 8", unit_digest="11")
    now = msgspec.structs.replace(planned, **changes)

    if problem is None:
        require_planned(planned, now)
    else:
        with pytest.raises(DeviceNotFound, match=problem):
            require_planned(planned, now)


def test_a_device_that_misbehaves_three_times_is_set_aside() -> None:
    device = named("a")
    work = Script(lambda _cell, _device: link_lost())
    with at_work(cells("a1", "a2", "a3", "a4", "a5"), {"a": device}, work, terms({"a": device})):
        pass

    assert [type(work.saved[f"a{number}"]) for number in range(1, 6)] == [Failure, Failure, Failure, NotRun, NotRun]
    outcome = work.saved["a4"]
    assert isinstance(outcome, NotRun)
    assert outcome.reason == f"a: it was set aside after it misbehaved 3 times, at last: {GONE}"


@pytest.mark.parametrize(
    "failure",
    [
        records.failure("runner_died"),
        records.failure("unreadable_output"),
        records.failure("wrong_numbers"),
        records.failure("timeout", facts={"argv": "('bench',)"}),  # a program that hangs, on a device that answers
        records.failure("no_space"),
    ],
)
def test_what_a_model_or_a_runtime_does_wrong_is_not_the_devices_fault(failure: Failure) -> None:
    device = named("a")
    work = Script(lambda _cell, _device: failure)
    with at_work(cells("a1", "a2", "a3", "a4", "a5"), {"a": device}, work, terms({"a": device})):
        pass

    assert list(work.saved.values()) == [failure] * 5


def test_a_program_that_hangs_on_a_device_that_does_not_answer_is_the_devices_fault() -> None:
    device = named("a")
    device.fail_on("sha256", DeviceTimedOut("a", "sha256", 10.0), times=10**6)
    work = Script(lambda _cell, _device: records.failure("timeout", facts={"argv": "('bench',)"}))
    with at_work(cells("a1", "a2"), {"a": device}, work, terms({"a": device}, patience_s=0.05)):
        pass

    assert isinstance(work.saved["a2"], NotRun)


def test_what_could_not_be_removed_is_removed_when_the_device_is_back() -> None:
    device = named("a")

    def measure(cell: Cell, there: Device) -> Outcome:
        if cell.id == "a2":
            return DONE
        device.fail_on("remove", GONE)
        with pytest.raises(LinkLost):
            there.remove(device.work_folder / "outputs" / "x", timeout_s=1)
        return link_lost()

    with at_work(cells("a1", "a2"), {"a": device}, Script(measure), terms({"a": device})):
        pass

    assert device.log == ["remove /fake/outputs/x"] * 2


def test_what_is_owed_is_removed_also_after_the_last_cell() -> None:
    device = named("a")

    def measure(_cell: Cell, there: Device) -> Outcome:
        device.fail_on("remove", GONE)
        with pytest.raises(LinkLost):
            there.remove(device.work_folder / "outputs" / "x", timeout_s=1)
        return records.failure("runner_died")

    with at_work(cells("a1"), {"a": device}, Script(measure), terms({"a": device})):
        pass

    assert device.log == ["remove /fake/outputs/x"] * 2


def away_after_the_last_cell(device: FakeDevice, *, absent: int) -> Script:
    """Its only cell leaves something behind, and the device does not answer for some calls."""

    def measure(_cell: Cell, there: Device) -> Outcome:
        device.fail_on("remove", GONE)
        with pytest.raises(LinkLost):
            there.remove(device.work_folder / "outputs" / "x", timeout_s=1)
        device.fail_on("sha256", GONE, times=absent)
        return link_lost()

    return Script(measure)


def test_a_device_that_is_owed_something_is_waited_for_also_after_its_last_cell() -> None:
    device = named("a")
    events: list[Event] = []
    work = away_after_the_last_cell(device, absent=6)
    with at_work(cells("a1"), {"a": device}, work, terms({"a": device}, watch=events.append)):
        pass

    assert device.log == ["remove /fake/outputs/x"] * 2
    assert [type(event) for event in events] == [CellStarted, DeviceWentAway, DeviceCameBack]


def test_what_stays_owed_to_a_device_is_told(caplog: pytest.LogCaptureFixture) -> None:
    device = named("a")
    work = away_after_the_last_cell(device, absent=10**6)
    with at_work(cells("a1"), {"a": device}, work, terms({"a": device}, patience_s=0.05)):
        pass

    assert "harness devices clean a --older-than 0 (it keeps /fake/outputs/x)" in caplog.text


def test_what_is_owed_is_done_once_more_also_after_ctrl_c(caplog: pytest.LogCaptureFixture) -> None:
    device = named("a")
    owed, left = threading.Event(), threading.Event()

    def measure(_cell: Cell, there: Device) -> Outcome:
        device.fail_on("remove", GONE)
        with pytest.raises(LinkLost):
            there.remove(device.work_folder / "outputs" / "x", timeout_s=1)
        owed.set()
        assert left.wait(10)
        return link_lost()

    def interrupted() -> None:
        with at_work(cells("a1", "a2"), {"a": device}, Script(measure), terms({"a": device})) as halt:
            assert owed.wait(10)
            halt.stop()
            left.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert device.log == ["remove /fake/outputs/x"] * 2
    assert caplog.text == ""


def test_a_result_that_cannot_be_stored_ends_the_work_of_all() -> None:
    devices = {"a": named("a"), "b": named("b")}

    class Full(Script):
        def save(self, cell: Cell, outcome: Outcome, *, number: int, began_at: datetime, seconds: float) -> None:
            raise DeviceFull("this machine", "cells/a1.json", 10)

    def convert_for_ever() -> None:
        with at_work(cells("a1", "a2", "b1"), devices, Full(), terms(devices)) as halt:
            while True:
                halt.sleep(0.01)

    with pytest.raises(DeviceFull):
        convert_for_ever()


def test_ctrl_c_ends_the_programs_that_run_and_stores_none_of_their_cells() -> None:
    device = FakeDevice(facts=named("a").facts(), programs=[FakeProgram(hangs=True)])
    ended, running = threading.Event(), threading.Event()

    def measure(_cell: Cell, there: Device) -> Outcome:
        program = there.start(["bench"], environment={})
        device.started[-1].end = ended.set  # type: ignore[method-assign]
        running.set()
        assert ended.wait(10)
        return records.failure("runner_died", message=str(program.argv))

    work = Script(measure)

    def interrupted() -> None:
        with at_work(cells("a1", "a2"), {"a": device}, work, terms({"a": device})):
            assert running.wait(10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert ended.is_set()
    assert work.saved == {}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            "push",
            (
                "a is not waited for: it is still taking the file /fake/models/net; what arrived of it stays there as "
                "/fake/models/.net.*.part, until `harness devices clean a --older-than 0` removes it with every model"
            ),
        ),
        ("state", "a is not waited for: it is still saying how it is"),
    ],
)
def test_a_device_that_does_not_stop_in_time_is_named_with_what_it_is_at(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str, said: str
) -> None:
    at_it, let_go = threading.Event(), threading.Event()
    device = named("a")

    def blocks(*_arguments: object, **_settings: object) -> None:
        at_it.set()
        let_go.wait(10)

    def measure(_cell: Cell, there: Device) -> Outcome:
        if call == "push":
            there.push(Path(__file__), there.work_folder / "models" / "net", timeout_s=60)
        else:
            there.state()
        return DONE

    def interrupted() -> None:
        with at_work(cells("a1"), {"a": device}, Script(measure), terms({"a": device})):
            assert at_it.wait(10)
            raise KeyboardInterrupt

    monkeypatch.setattr(device, call, blocks)
    monkeypatch.setattr(farm, "_LEAVE_S", 0.05)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    let_go.set()

    (record,) = caplog.records
    assert record.getMessage().startswith(said)
    assert ("clean" in record.getMessage()) == (call == "push"), "nothing of ours is left by a look"


def test_once_all_are_to_stop_a_device_only_tidies_up() -> None:
    device, halt = named("a"), Halt()
    there = HaltingDevice(device, halt)
    halt.stop()

    for call in (there.facts, there.state, there.obstacles):
        with pytest.raises(Halted):
            call()
    with pytest.raises(Halted):
        there.start(["bench"], environment={})
    there.remove(device.work_folder / "x", timeout_s=1)
    there.shell(["cmd", "power"], timeout_s=1)

    assert device.log == ["remove /fake/x", "shell cmd power"]
