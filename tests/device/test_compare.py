"""Two builds in turn on a device that is reached over adb, the native loop a server there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.comparison import compare, parse_build, prepare
from harness.errors import DeviceNotFit, UsageError
from harness.records import ComparePlan
from tests.device.conftest import LISTENER, on, over, require_listening, until

if TYPE_CHECKING:
    from harness.device.adb import AndroidDevice
    from harness.device.virtual import VirtualDevice

pytestmark = [pytest.mark.virtual, pytest.mark.timeout(900)]

TINY = Path(__file__).resolve().parents[1] / "data" / "tiny.onnx"


@pytest.fixture
def direct(request: pytest.FixtureRequest, virtual: VirtualDevice, tmp_path: Path) -> AndroidDevice:
    """The virtual device; that both ways can tell a program lines is a test of its own."""
    return over("direct", request, virtual.address, tmp_path)


def test_a_program_is_told_lines_and_its_end_is_the_end_of_all(phone: AndroidDevice) -> None:
    require_listening(phone.start_told(("/system/bin/sh", "-c", LISTENER), environment={}), timeout_s=60)


def test_a_told_program_that_does_not_listen_is_ended_when_we_go(phone: AndroidDevice) -> None:
    program = phone.start_told(("/system/bin/sh", "-c", "echo up; sleep 4909"), environment={})
    assert next(program.lines(timeout_s=60)) == "up"

    program.end()

    until(lambda: not on(phone, "pgrep -f '[s]leep 4909'").strip())


def test_two_builds_are_alive_together_on_a_device_and_nothing_of_them_stays(direct: AndroidDevice) -> None:
    plan = ComparePlan(trials=1, turns=1, block_s=0.01, warmup_s=0.0, warmup_cap_s=0.1, memory_trials=0)
    a, b = (prepare(parse_build(f"{TINY},threads={threads}"), direct, accept=["emulated"]) for threads in (1, 2))
    with pytest.raises(UsageError, match=r"library= is a file of this machine, and phone is another"):
        prepare(parse_build(f"{TINY},library=/opt/libonnxruntime.so"), direct)
    not_accepted = replace(a, arm=replace(a.arm, question=replace(a.arm.question, accepted_obstacles=())))

    with pytest.raises(DeviceNotFit, match="emulated"):
        compare(not_accepted, not_accepted, direct, plan)
    compared = compare(a, b, direct, plan)

    (trial,) = compared.trials
    assert trial.how == "alive together"
    assert (compared.a.ran.threads, compared.b.ran.threads) == (1, 2)
    assert (compared.a.ran.driver, compared.device.is_emulated) == ("bench", True)
    assert "emulated" in compared.accepted_obstacles
    # One clock of the device for both processes.
    blocks = [(block.start_ns, name) for name, side in (("A", trial.a), ("B", trial.b)) for block in side[0].blocks]
    assert "".join(name for _, name in sorted(blocks)) == trial.order
    assert "bench" not in on(direct, "ps -e -o comm 2>/dev/null || ps")
    assert on(direct, f"ls {direct.work_folder}/outputs").strip() == ""
