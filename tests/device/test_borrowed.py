"""A device for one command: put in order at the end, or told what is not."""

from __future__ import annotations

import sys
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pytest

from harness.device import borrowed as module
from harness.device import debts
from harness.device.borrowed import borrowed
from harness.device.device import ShellResult, TellsPrograms
from harness.device.halting import Owed
from harness.device.host import HostDevice
from harness.device.lease import Lease
from harness.errors import DeviceBusy, LeaseLost, LinkLost
from tests.fakes.device import FakeDevice

if TYPE_CHECKING:
    from pathlib import Path

GONE = LinkLost("fake", "remove /x", "reset by peer")


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_LEASES", str(tmp_path / "leases"))
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_POLL_S", 0.01)


def leave_something(device: FakeDevice, *, absent: int, patience_s: float = 5.0) -> None:
    """Have a command fail to remove a file, `absent` times in all."""
    with borrowed(device, "compare", patience_s=patience_s) as ours:
        device.fail_on("remove", GONE, times=absent)
        with pytest.raises(LinkLost):
            ours.device.remove(device.work_folder / "outputs" / "x", timeout_s=1)


def test_what_is_owed_is_done_once_the_device_answers_again(caplog: pytest.LogCaptureFixture) -> None:
    device = FakeDevice()

    leave_something(device, absent=3)

    assert device.log.count("remove /fake/outputs/x") == 4
    assert "not in order; waiting" in caplog.text
    assert "devices clean" not in caplog.text


def test_what_stays_owed_is_told_with_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    leave_something(FakeDevice(), absent=10**6, patience_s=0.05)

    assert "harness devices clean fake --older-than 0 (it keeps /fake/outputs/x)" in caplog.text


def test_what_stays_owed_is_done_by_the_next_command(tmp_path: Path) -> None:
    leave_something(FakeDevice(), absent=10**6, patience_s=0.05)
    assert list((tmp_path / "cache" / "owed").iterdir())
    device = FakeDevice()

    with borrowed(device, "gate"):
        assert device.log[-1] == "remove /fake/outputs/x"

    assert not list((tmp_path / "cache" / "owed").iterdir())
    with borrowed(device, "gate"):
        pass
    assert device.log.count("remove /fake/outputs/x") == 1


def test_a_command_is_owed_until_the_system_starts_again_and_a_file_for_longer() -> None:
    owed = Owed(paths={PurePosixPath("/fake/outputs/x")}, commands={("cmd", "power", "off")})
    debts.keep("phone", "boot-1", owed)

    assert debts.owed_to("phone", "boot-1") == owed
    assert debts.owed_to("phone", "boot-2") == Owed(paths=owed.paths)
    assert not debts.owed_to("another", "boot-1")
    debts.keep("phone", "boot-1", Owed())
    assert not debts.owed_to("phone", "boot-1")


def test_a_damaged_note_of_what_is_owed_is_no_reason_to_fail(tmp_path: Path) -> None:
    debts.keep("fake", "fake", Owed(commands={("x",)}))
    (note,) = (tmp_path / "cache" / "owed").iterdir()
    note.write_bytes(b"{")

    with borrowed(FakeDevice(), "compare") as ours:
        ours.require()


def test_another_device_at_the_address_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    commands = {"cat": ShellResult(returncode=0, stdout="boot-1\n", stderr="")}
    device = FakeDevice(commands=commands)
    with borrowed(device, "compare", patience_s=0.05) as ours:
        device.fail_on("remove", GONE)
        with pytest.raises(LinkLost):
            ours.device.remove(device.work_folder / "x", timeout_s=1)
        device._commands["cat"] = ShellResult(returncode=0, stdout="boot-2\n", stderr="")

    assert device.log.count("remove /fake/x") == 1
    assert "harness devices clean fake" in caplog.text


def test_after_ctrl_c_nobody_waits() -> None:
    device = FakeDevice()
    device.fail_on("remove", GONE, times=10**6)

    def interrupted() -> None:
        with borrowed(device, "compare", patience_s=600) as ours:
            with pytest.raises(LinkLost):
                ours.device.remove(device.work_folder / "x", timeout_s=1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert device.log.count("remove /fake/x") == 2


def test_it_is_ours_alone_until_another_run_takes_it_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(_self: Lease, device_id: str) -> None:
        raise LeaseLost(device_id, "run b")

    with borrowed(FakeDevice(), "compare") as ours:
        ours.require()
        with pytest.raises(DeviceBusy), borrowed(FakeDevice(), "gate"):
            pytest.fail("it was not refused")
    monkeypatch.setattr(Lease, "require", lost)
    with borrowed(FakeDevice(), "compare") as ours, pytest.raises(LeaseLost):
        ours.require()


def test_programs_that_are_told_lines_are_so_through_it() -> None:
    code = "print(input()[::-1])"
    with borrowed(HostDevice(), "compare") as ours:
        assert isinstance(ours.device, TellsPrograms)
        program = ours.device.start_told((sys.executable, "-c", code), environment={})
        program.tell("abc")
        assert list(program.lines(timeout_s=30)) == ["cba"]
        assert program.wait(timeout_s=30) == 0
        program.end()
    with borrowed(FakeDevice(), "compare") as ours:
        assert not isinstance(ours.device, TellsPrograms)
