"""What is set on a device is read back, and undone in any case."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from harness.deploy.worker import system
from harness.device.device import ShellResult
from harness.device.halting import Halt, HaltingDevice
from harness.device.hold import (
    confined,
    confined_as_asked,
    fixed_performance,
    processors_for,
    read_processors,
    single_processors,
    why_not_confined,
)
from harness.device.registry import find_device
from harness.errors import DeviceRefused, DeviceTimedOut
from harness.records import CpuCluster, RuntimeChoice
from tests.fakes.device import FACTS, FakeDevice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.device.virtual import VirtualDevice

PHONE = msgspec.structs.replace(
    FACTS,
    kind="android",
    device_class="phone",
    cores=8,
    clusters=(
        CpuCluster(processors=(0, 1, 2, 3), max_hz=1.7e9),
        CpuCluster(processors=(4, 5, 6), max_hz=2.4e9),
        CpuCluster(processors=(7,), max_hz=2.9e9),
    ),
)
MODE = "cmd power set-fixed-performance-mode-enabled"


class Phone(FakeDevice):
    """Says yes or no to the mode, and keeps what it was asked."""

    def __init__(self, *, code: int = 0, breaks_at: str = "") -> None:
        super().__init__(facts=PHONE)
        self.asked: list[str] = []
        self._code, self._breaks_at = code, breaks_at

    def shell(self, argv: Sequence[str], *, timeout_s: float) -> ShellResult:
        self.asked.append(" ".join(argv))
        if argv[-1] == self._breaks_at:
            raise DeviceTimedOut("phone", "shell", timeout_s)
        return ShellResult(returncode=self._code, stdout="", stderr="")


@pytest.mark.parametrize(("code", "took"), [(0, True), (255, False)])
def test_the_mode_is_switched_on_and_off_and_whether_it_took_is_told(code: int, took: bool) -> None:
    phone = Phone(code=code)

    with fixed_performance(phone) as held:
        assert held is took
        assert phone.asked == [f"{MODE} true"]

    assert phone.asked == [f"{MODE} true", f"{MODE} false"]


def test_it_is_switched_off_after_ctrl_c() -> None:
    phone = Phone()

    with pytest.raises(KeyboardInterrupt), fixed_performance(phone):
        raise KeyboardInterrupt

    assert phone.asked[-1] == f"{MODE} false"


def test_it_is_switched_off_when_the_answer_was_lost() -> None:
    phone = Phone(breaks_at="true")

    with pytest.raises(DeviceTimedOut), fixed_performance(phone):
        pass

    assert phone.asked[-1] == f"{MODE} false"


def test_a_device_that_has_gone_does_not_hide_what_went_wrong(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="first"), fixed_performance(Phone(breaks_at="false")):
        raise ValueError("first")

    assert "may be in its fixed-performance mode (" in caplog.text, "nobody would find it again"


def test_the_mode_of_a_device_that_has_gone_is_switched_off_when_it_is_back() -> None:
    away = Phone(breaks_at="false")
    before = HaltingDevice(away, Halt())
    with fixed_performance(before):
        pass
    back = Phone()

    HaltingDevice(back, Halt(), before.owed).pay(timeout_s=1)

    assert back.asked == [f"{MODE} false"]
    assert not before.owed


def test_only_android_has_the_mode() -> None:
    with fixed_performance(FakeDevice()) as held:
        assert held is None


@pytest.mark.parametrize(
    ("text", "processors"),
    [
        ("any", None),
        ("big", (4, 5, 6, 7)),
        ("little", (0, 1, 2, 3)),
        ("4-6", (4, 5, 6)),
        ("7,0", (0, 7)),
        ("0xf0", (4, 5, 6, 7)),
    ],
)
def test_an_affinity_means_processors(text: str, processors: tuple[int, ...] | None) -> None:
    assert processors_for(PHONE, text) == processors


@pytest.mark.parametrize("text", ["", "huge", "8", "0-8", "0x100", "3-1", "-1", "0x0", "0-99999999999"])
def test_what_the_device_does_not_have_is_refused(text: str) -> None:
    with pytest.raises(DeviceRefused):
        processors_for(PHONE, text)


def test_big_and_little_are_refused_where_nobody_knows_them() -> None:
    with pytest.raises(DeviceRefused, match="does not say which"):
        processors_for(FACTS, "big")


def test_threads_do_not_share_processors() -> None:
    choice = RuntimeChoice(runtime="litert", threads=4, affinity="7")

    with pytest.raises(DeviceRefused, match="4 threads would share 1 processors"):
        confined_as_asked(("bench",), PHONE, choice)

    on_four = msgspec.structs.replace(choice, affinity="big")
    assert confined_as_asked(("bench",), PHONE, on_four) == ("taskset", "f0", "bench")
    assert "4 threads would share" in (why_not_confined(PHONE, choice) or "")
    assert why_not_confined(PHONE, on_four) is None


def test_a_program_is_confined_and_says_so_itself() -> None:
    code = "from harness.deploy.worker import system; print(system.allowed_processors())"
    said = subprocess.run(
        confined((sys.executable, "-c", code), (0,)), check=True, capture_output=True, text=True
    ).stdout.strip()

    assert read_processors(said) == (0,)
    assert read_processors(system.allowed_processors() or "") != ()
    assert confined(("x",), None) == ("x",)


@pytest.mark.virtual
def test_a_virtual_devices_program_is_confined_too(virtual: VirtualDevice) -> None:
    command = confined(("grep", "Cpus_allowed_list", "/proc/self/status"), (1,))

    said = find_device(virtual.id).shell(command, timeout_s=30)

    assert said.stdout.split()[-1] == "1", said


@pytest.mark.parametrize(("affinity", "single"), [("any", (7,)), ("little", (0, 1, 2, 3)), ("2-6", (4, 5, 6))])
def test_the_fastest_of_the_processors_that_are_allowed_are_shared(affinity: str, single: tuple[int, ...]) -> None:
    assert single_processors(Phone(), affinity) == single


def test_none_is_shared_where_no_program_can_be_confined() -> None:
    assert single_processors(Phone(code=127), "any") == ()


def test_a_processor_of_this_machine_is_one_that_it_may_use() -> None:
    found = single_processors(find_device("host"), "any")

    assert found
    assert set(found) <= os.sched_getaffinity(0)
