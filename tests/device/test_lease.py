"""One run at a time on a device."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil
import pytest

from harness.device import lease
from harness.device.device import ShellResult
from harness.device.lease import Holder, identity, leased
from harness.errors import DeviceBusy, LeaseLost
from tests.fakes.device import FACTS, FakeDevice

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent.parent
HOLD = """
import sys, time
from harness.device.lease import leased
from harness.errors import LeaseLost
from tests.fakes.device import FakeDevice
with leased([FakeDevice()], sys.argv[1]) as lease:
    print("held", flush=True)
    sys.stdin.readline()
    try:
        lease.require("fake")
        print("still ours", flush=True)
    except LeaseLost as error:
        print(error, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_LEASES", str(tmp_path / "leases"))
    return tmp_path / "leases"


@pytest.fixture
def other() -> Iterator[subprocess.Popen[str]]:
    """A process that has the device `fake` for its run `nightly`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, "nightly"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ.copy(),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def device(device_id: str = "fake", boot_id: str | None = None) -> FakeDevice:
    answers = {"cat": ShellResult(returncode=0, stdout=f"{boot_id}\n", stderr="")} if boot_id else {}
    return FakeDevice(facts=msgspec.structs.replace(FACTS, id=device_id), commands=answers)


def held(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.json") if path.read_bytes()]


def test_a_device_that_another_run_uses_is_refused_with_its_name_and_free_afterwards(
    other: subprocess.Popen[str],
) -> None:
    with (
        pytest.raises(DeviceBusy, match=rf"run nightly of .+ \(process {other.pid}\) is using it"),
        leased([device()], "b"),
    ):
        pytest.fail("it was not refused")


def test_a_device_is_given_back(folder: Path) -> None:
    for run in ("first", "second"):
        with leased([device()], run):
            assert len(held(folder)) == 1
    assert held(folder) == []


def test_a_lease_of_a_process_that_was_killed_is_taken_over_and_said(other: subprocess.Popen[str]) -> None:
    other.kill()
    other.wait()
    said: list[tuple[str, str]] = []

    with leased([device()], "b", taken_over=lambda *what: said.append(what)):
        pass

    ((device_id, previous),) = said
    assert device_id == "fake"
    assert previous.startswith("run nightly of ")
    assert previous.endswith("which has ended without giving it back")


def test_a_lease_that_a_stopped_process_no_longer_renews_is_taken_over_and_lost_for_it(
    other: subprocess.Popen[str], folder: Path
) -> None:
    psutil.Process(other.pid).suspend()
    (path,) = held(folder)
    old = msgspec.json.decode(path.read_bytes(), type=Holder)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(old, renewed=time.time() - 1000)))
    said: list[str] = []

    with leased([device()], "b", taken_over=lambda _device, previous: said.append(previous)) as ours:
        assert "which has not renewed it for 1000 s" in said[0]

        psutil.Process(other.pid).resume()
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write("are you still there?\n")
        other.stdin.flush()
        found = other.stdout.readline()
        assert found.startswith("fake was taken over by run b of ")
        assert f"(process {os.getpid()})" in found
        ours.require("fake")


def test_who_was_taken_over_is_told_before_its_next_cell(folder: Path) -> None:
    with leased([device()], "a") as ours:
        ours.require("fake")
        (path,) = held(folder)
        mine = msgspec.json.decode(path.read_bytes(), type=Holder)
        theirs = msgspec.structs.replace(mine, token="x", run="b", pid=17)
        path.write_bytes(msgspec.json.encode(theirs))

        with pytest.raises(LeaseLost, match=r"taken over by run b of .+ \(process 17\)"):
            ours.require("fake")

    assert held(folder) == [path], "what is another's is not given back"


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_a_lease_that_cannot_be_written_for_a_while_is_still_ours(folder: Path) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with leased([device()], "a") as ours:
        (path,) = held(folder)
        before = path.read_bytes()
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
        try:
            ours.require("fake")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == before, "it was emptied, and would have let another run in"
        with pytest.raises(DeviceBusy, match="run a of"), leased([device()], "b"):
            pytest.fail("it was not refused")
        ours.require("fake")
        assert len(path.read_bytes()) == len(before), "another length may need more space than there is"

    assert held(folder) == []


def test_a_lease_is_renewed_while_it_is_held(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.02)
    with leased([device()], "a"):
        (path,) = held(folder)
        first = msgspec.json.decode(path.read_bytes(), type=Holder).renewed
        deadline = time.monotonic() + 10
        while msgspec.json.decode(path.read_bytes() or b"null", type=Holder | None) in {None, first}:
            assert time.monotonic() < deadline
        while True:
            now = msgspec.json.decode(path.read_bytes() or b"null", type=Holder | None)
            if now is not None and now.renewed > first:
                break
            assert time.monotonic() < deadline, "it was not renewed"


def test_one_phone_by_two_addresses_is_one_device() -> None:
    usb, wireless = device("R5CT", "b1-b2"), device("adb://10.0.0.7", "b1-b2")

    with leased([usb], "a"), pytest.raises(DeviceBusy), leased([wireless], "b"):
        pytest.fail("it was not refused")
    with pytest.raises(DeviceBusy, match="it is the same device as R5CT"), leased([usb, wireless], "c"):
        pytest.fail("it was not refused")


@pytest.mark.parametrize("name", ["virtual:ci", "ssh://pi", "phone"])
def test_one_name_of_two_users_is_two_devices_unless_it_is_the_same_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "device_profiles").mkdir()
    text = 'schema = 1\nkind = "android"\ndevice_class = "phone"\nreached_by = "{}"\n'
    monkeypatch.chdir(tmp_path)
    profile = tmp_path / "device_profiles" / "phone.toml"

    profile.write_text(text.format("R5CT"))
    with leased([device(name, "b1")], "mine"):
        with pytest.raises(DeviceBusy), leased([device(name, "b2")], "mine, after its restart"):
            pytest.fail("it was not refused")
        monkeypatch.setattr(lease, "_user", lambda: "another")
        profile.write_text(text.format("R6AB"))
        with leased([device(name, "b3")], "theirs"):
            pass
        with pytest.raises(DeviceBusy), leased([device(name, "b1")], "theirs, on the same one"):
            pytest.fail("it was not refused")
        if name == "phone":
            with pytest.raises(DeviceBusy), leased([device("R5CT", "b4")], "by what mine is reached by"):
                pytest.fail("it was not refused")


def test_all_devices_are_leased_or_none(folder: Path) -> None:
    with leased([device("b")], "first"):
        with pytest.raises(DeviceBusy), leased([device("a"), device("b")], "second"):
            pytest.fail("it was not refused")
        assert len(held(folder)) == 1


def test_a_device_that_does_not_say_which_it_is_counts_by_its_id() -> None:
    assert identity(device("iphone")) == "iphone"
    assert identity(device("pixel", "b1-b2")) == "b1-b2"


def test_a_device_that_only_its_profile_knows_is_the_same_by_both_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "device_profiles").mkdir()
    text = 'schema = 1\nkind = "ios"\ndevice_class = "phone"\nreached_by = "00008020-001A"\n'
    (tmp_path / "device_profiles" / "lab7.toml").write_text(text)
    monkeypatch.chdir(tmp_path)

    assert identity(device("lab7")) == identity(device("00008020-001A")) == "00008020-001A"


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="becomes other users")
def test_users_keep_off_each_others_devices_and_take_over_what_is_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as shared:  # pytest's own folders are closed to others
        Path(shared).chmod(0o755)
        folder = Path(shared) / "leases"
        monkeypatch.setenv("HARNESS_LEASES", str(folder))
        with leased([device("another")], "a"):
            pass
        assert folder.stat().st_mode & 0o7777 == 0o1777
        for user in (65534, 65533):
            process = as_user(user)
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "held\n"
                with pytest.raises(DeviceBusy, match="run theirs"), leased([device()], "mine"):
                    pytest.fail("it was not refused")
            finally:  # one that is left behind fails tests of others, which look for such
                process.kill()
                process.communicate()
        with leased([device()], "mine"):
            pass


def as_user(user: int) -> subprocess.Popen[str]:
    # What this Python needs is imported before, since its files may be closed to others; so is what finding the cache
    # imports, which it does only where HARNESS_CACHE does not say it.
    ready = "from harness.workspace import cache_dir; cache_dir()"
    become = f"{ready}; import os; os.setgroups([]); os.setgid({user}); os.setuid({user})\nwith leased"
    program = HOLD.replace("with leased", become)
    command = [sys.executable, "-c", program, "theirs"]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
