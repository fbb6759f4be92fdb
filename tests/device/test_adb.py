"""Android devices: a real adbd on an emulated machine, over both ways to it."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pytest

from harness.deploy.clean import clean
from harness.device.adb import WORK_FOLDER, AndroidDevice, link_to
from harness.device.adb_direct import DirectLink
from harness.device.adb_server import ServerLink
from harness.device.shell_device import free_bytes
from harness.errors import (
    BadSetting,
    DeviceError,
    DeviceFileFailed,
    DeviceFull,
    DeviceNotFound,
    DeviceTimedOut,
    LinkLost,
    MissingTool,
)
from tests.device.conftest import DISK_MIB, frozen, on, until

if TYPE_CHECKING:
    from pathlib import Path

    from harness.device.virtual import VirtualDevice

MIB = 2**20
BROKEN_LINE = """\
Filesystem     1K-blocks  Used Available Use% Mounted on
/dev/block/bootdevice/by-name/userdata
                  112222   100    112122   1% /data
"""


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A file of 1 MiB that does not repeat."""
    path = tmp_path / "local.bin"
    path.write_bytes(os.urandom(MIB))
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def left_there(device: AndroidDevice) -> list[str]:
    """Every file below the work folder."""
    found = on(device, f"find {WORK_FOLDER} -type f 2>/dev/null").split()
    return [path for path in found if "/.digests/" not in path]


def running_there(device: AndroidDevice, what: str) -> str:
    return on(device, f"pgrep -f '[{what[0]}]{what[1:]}'").strip()


# --- without a device ---


@pytest.mark.parametrize(
    ("device_id", "kind"),
    [
        ("R5CT1234ABC", ServerLink),
        ("192.168.1.5:5555", ServerLink),
        ("R5CT1234ABC@farm:5037", ServerLink),
        ("adb-R5CT-x1._adb-tls-connect._tcp", ServerLink),
        ("adb://192.168.1.5", DirectLink),
        ("adb://[::1]:5556", DirectLink),
    ],
)
def test_an_id_says_which_way_to_take(device_id: str, kind: type[object]) -> None:
    assert isinstance(link_to(device_id), kind)


@pytest.mark.parametrize("device_id", ["adb://", "adb://host:0", "adb://host:70000", "adb://a b", "adb://host/x"])
def test_an_address_that_is_none_is_refused(device_id: str) -> None:
    with pytest.raises(BadSetting, match="is no address"):
        link_to(device_id)


def test_a_remote_server_is_read_from_the_id() -> None:
    link = link_to("ABC@farm")

    assert isinstance(link, ServerLink)
    assert (link._serial, str(link._server)) == ("ABC", "farm:5037")


@pytest.mark.parametrize(
    ("text", "free"),
    [
        (
            "Filesystem 1024-blocks Used Available Capacity Mounted on\ntmpfs 262144 144 262000 1% /data\n",
            262000 * 1024,
        ),
        (BROKEN_LINE, 112122 * 1024),
        ("Filesystem 1024-blocks Used Available Capacity Mounted on\n", None),
        ("df: /x: No such file or directory\n", None),
        ("", None),
    ],
)
def test_free_space_is_read_from_df(text: str, free: int | None) -> None:
    assert free_bytes(text) == free


# --- with one ---


@pytest.mark.virtual
def test_a_pushed_megabyte_is_the_same_there_and_back_and_under_its_new_name(
    phone: AndroidDevice, local: Path, tmp_path: Path
) -> None:
    first, second = WORK_FOLDER / "a b" / "it's", WORK_FOLDER / "moved"

    phone.push(local, first, timeout_s=60)
    assert phone.sha256(first, timeout_s=30) == digest(local)
    phone.rename(first, second, timeout_s=30)
    phone.pull(second, tmp_path / "back", timeout_s=60)

    assert digest(tmp_path / "back") == digest(local)
    assert phone.sha256(first, timeout_s=30) is None
    assert left_there(phone) == [str(second)]


@pytest.mark.virtual
def test_a_digest_is_computed_once_and_again_when_the_file_has_changed(phone: AndroidDevice, local: Path) -> None:
    first, second = WORK_FOLDER / "first", WORK_FOLDER / "second"
    phone.push(local, first, timeout_s=60)
    phone.sha256(first, timeout_s=30)
    phone.rename(first, second, timeout_s=30)
    kept = on(phone, f"head -n 1 {WORK_FOLDER}/.digests/*").split()[0]
    assert kept == digest(local)

    # What is kept is believed, so a wrong one shows that nothing was computed.
    on(phone, f"for f in {WORK_FOLDER}/.digests/*; do sed -i 's/{kept}/{'0' * 64}/' $f; done")
    assert phone.sha256(second, timeout_s=30) == "0" * 64
    on(phone, f"echo X >>{second}")

    assert phone.sha256(second, timeout_s=30) == hashlib.sha256(local.read_bytes() + b"X\n").hexdigest()


@pytest.mark.virtual
def test_an_empty_file_and_one_that_fills_blocks_exactly_arrive(phone: AndroidDevice, tmp_path: Path) -> None:
    for size in (0, 65536, 16 * 65536, 16 * 65536 + 1):
        local = tmp_path / str(size)
        local.write_bytes(os.urandom(size))
        phone.push(local, WORK_FOLDER / "f", timeout_s=60)
        assert phone.sha256(WORK_FOLDER / "f", timeout_s=30) == digest(local), size


@pytest.mark.virtual
def test_an_executable_file_stays_one(phone: AndroidDevice, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/system/bin/sh\necho it runs\n")
    script.chmod(0o755)
    phone.push(script, WORK_FOLDER / "script", timeout_s=30)

    assert phone.shell([str(WORK_FOLDER / "script")], timeout_s=30).stdout == "it runs\n"


@pytest.mark.virtual
def test_a_command_has_its_exit_code_its_output_and_its_errors_apart(phone: AndroidDevice) -> None:
    result = phone.shell(["sh", "-c", "echo 'out $x'; echo err >&2; exit 3"], timeout_s=30)

    assert (result.returncode, result.stdout, result.stderr) == (3, "out $x\n", "err\n")


@pytest.mark.virtual
def test_a_command_that_is_killed_has_minus_the_signals_number(phone: AndroidDevice) -> None:
    assert phone.shell(["sh", "-c", "kill -SEGV $$"], timeout_s=30).returncode == -11


@pytest.mark.virtual
def test_a_command_that_takes_too_long_is_ended_there(phone: AndroidDevice) -> None:
    began = time.monotonic()
    with pytest.raises(DeviceTimedOut, match="sleep 4711"):
        phone.shell(["sleep", "4711"], timeout_s=2)

    assert time.monotonic() - began < 6
    until(lambda: not running_there(phone, "sleep 4711"))


@pytest.mark.virtual
def test_a_programs_lines_come_while_it_runs_and_then_its_exit_code(phone: AndroidDevice) -> None:
    script = "echo $WORD; sleep 2; echo two; echo trouble >&2; exit 5"
    program = phone.start(["sh", "-c", script], environment={"WORD": "one $WORD"})

    lines = program.lines(timeout_s=60)
    assert next(lines) == "one $WORD"
    first = time.monotonic()
    assert list(lines) == ["two"]

    assert time.monotonic() - first > 1.5
    assert (program.wait(timeout_s=30), program.last_words()) == (5, "trouble")


@pytest.mark.virtual
def test_a_program_starts_in_the_work_folder_and_leaves_no_child_behind(phone: AndroidDevice) -> None:
    program = phone.start(["sh", "-c", "sleep 4712 & pwd"], environment={})

    assert list(program.lines(timeout_s=30)) == [str(WORK_FOLDER)]
    assert program.wait(timeout_s=30) == 0
    until(lambda: not running_there(phone, "sleep 4712"))


@pytest.mark.virtual
def test_ending_a_program_ends_all_that_it_started(phone: AndroidDevice) -> None:
    script = "trap '' HUP TERM INT; sleep 4713 & sleep 4713 & echo up; wait"
    program = phone.start(["sh", "-c", script], environment={})
    assert next(program.lines(timeout_s=30)) == "up"

    program.end()

    assert running_there(phone, "sleep 4713") == ""
    assert program.wait(timeout_s=1) == -9
    program.end()


@pytest.mark.virtual
def test_a_program_that_prints_what_nobody_reads_ends_all_the_same(phone: AndroidDevice) -> None:
    program = phone.start(["sh", "-c", "yes line | head -n 20000"], environment={})

    assert program.wait(timeout_s=60) in {0, 127}


@pytest.mark.virtual
def test_waiting_for_a_program_that_runs_on_times_out(phone: AndroidDevice) -> None:
    program = phone.start(["sleep", "4714"], environment={})

    with pytest.raises(DeviceTimedOut):
        list(program.lines(timeout_s=1))
    program.end()

    assert running_there(phone, "sleep 4714") == ""


@pytest.mark.virtual
def test_what_runs_left_is_removed_by_age(phone: AndroidDevice, local: Path) -> None:
    for name in ("old", "new"):
        phone.push(local, WORK_FOLDER / "models" / name, timeout_s=60)
    on(phone, f"touch -d '2020-01-01 00:00:00' {WORK_FOLDER}/models/old")

    assert clean(phone, older_than_days=30) == (WORK_FOLDER / "models" / "old",)
    assert left_there(phone) == [str(WORK_FOLDER / "models" / "new")]


@pytest.mark.virtual
def test_a_missing_file_is_named(phone: AndroidDevice, tmp_path: Path) -> None:
    with pytest.raises(DeviceFileFailed, match=r"cannot pull .*/none: .*[Nn]o such file"):
        phone.pull(WORK_FOLDER / "none", tmp_path / "back", timeout_s=30)

    assert list(tmp_path.glob("*back*")) == []


@pytest.mark.virtual
def test_a_file_too_large_for_the_device_is_refused_before_a_byte_is_sent(phone: AndroidDevice, tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(DISK_MIB * MIB)

    began = time.monotonic()
    with pytest.raises(DeviceFull) as caught:
        phone.push(large, WORK_FOLDER / "large", timeout_s=60)

    assert caught.value.needed_bytes == DISK_MIB * MIB
    assert time.monotonic() - began < 10
    assert left_there(phone) == []


@pytest.mark.virtual
def test_a_disk_that_fills_up_in_mid_push_is_told_and_nothing_stays(
    phone: AndroidDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.device.shell_device.free_bytes", lambda _text: 2**40)  # somebody else takes the space
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate((DISK_MIB + 8) * MIB)

    with pytest.raises(DeviceFull):
        phone.push(large, WORK_FOLDER / "large", timeout_s=120)

    assert left_there(phone) == []


@pytest.mark.virtual
def test_adbd_killed_in_mid_push_is_a_failure_and_the_device_is_clean_when_it_is_back(
    phone: AndroidDevice, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    large.write_bytes(os.urandom(24 * MIB))
    wait = f"set -- {WORK_FOLDER}/.*.part; while [ ! -e $1 ]; do set -- {WORK_FOLDER}/.*.part; done"
    killer = phone.start(["sh", "-c", f"p=$(pidof adbd); echo ready; {wait}; kill -9 $p"], environment={})
    assert next(killer.lines(timeout_s=30)) == "ready"

    began = time.monotonic()
    with pytest.raises(DeviceError) as caught:
        phone.push(large, WORK_FOLDER / "large", timeout_s=60)
    killer.end()

    assert not isinstance(caught.value, DeviceTimedOut | DeviceFull), caught.value
    assert time.monotonic() - began < 40
    small = tmp_path / "small"
    small.write_bytes(b"small")
    until(lambda: _pushes(phone, small))
    assert left_there(phone) == [str(WORK_FOLDER / "small")]


def _pushes(device: AndroidDevice, local: Path) -> bool:
    try:
        device.push(local, WORK_FOLDER / local.name, timeout_s=20)
    except DeviceError:
        return False
    return True


@pytest.mark.virtual
def test_a_program_does_not_outlive_adbd(phone: AndroidDevice) -> None:
    program = phone.start(["sh", "-c", "echo up; sleep 4715"], environment={})
    lines = program.lines(timeout_s=60)
    assert next(lines) == "up"
    with pytest.raises(DeviceError):
        on(phone, "kill -9 $(pidof adbd); sleep 5")

    with pytest.raises(LinkLost):
        list(lines)

    until(lambda: _is_back(phone))
    until(lambda: not running_there(phone, "sleep 4715"))


def _is_back(device: AndroidDevice) -> bool:
    try:
        return on(device, "echo back", timeout_s=5) == "back\n"
    except DeviceError:
        return False


@pytest.mark.virtual
def test_a_program_does_not_outlive_its_connection(phone: AndroidDevice) -> None:
    program = phone.start(["sh", "-c", "echo up; sleep 4716"], environment={})
    assert next(program.lines(timeout_s=30)) == "up"

    program._stream.close()  # type: ignore[attr-defined]  # as a cable that is pulled

    with pytest.raises(LinkLost):
        program.wait(timeout_s=10)
    until(lambda: not running_there(phone, "sleep 4716"))


@pytest.mark.virtual
def test_a_frozen_device_times_out_and_is_usable_when_it_is_back(
    phone: AndroidDevice, virtual: VirtualDevice, local: Path
) -> None:
    with frozen(virtual):
        began = time.monotonic()
        with pytest.raises(DeviceTimedOut):
            phone.shell(["true"], timeout_s=1)
        with pytest.raises(DeviceTimedOut):
            phone.push(local, WORK_FOLDER / "f", timeout_s=1)
        assert time.monotonic() - began < 20

    until(lambda: _is_back(phone))
    phone.push(local, WORK_FOLDER / "f", timeout_s=60)
    assert phone.sha256(WORK_FOLDER / "f", timeout_s=30) == digest(local)


@pytest.mark.virtual
def test_a_program_survives_that_its_device_stands_still_for_a_while(
    phone: AndroidDevice, virtual: VirtualDevice
) -> None:
    program = phone.start(["sh", "-c", "echo up; sleep 1; echo done"], environment={})
    lines = program.lines(timeout_s=60)
    assert next(lines) == "up"
    with frozen(virtual):
        time.sleep(2)

    assert list(lines) == ["done"]
    assert program.wait(timeout_s=30) == 0


@pytest.mark.virtual
def test_it_says_that_it_is_emulated(phone: AndroidDevice) -> None:
    facts = phone.facts()

    assert (facts.id, facts.kind, facts.device_class) == ("phone", "virtual", "emulated")
    assert (facts.architecture, facts.cores) == ("aarch64", 2)
    assert facts.memory_bytes is not None
    assert 600 * MIB < facts.memory_bytes < 768 * MIB


@pytest.mark.virtual
def test_an_adbd_that_nobody_called_virtual_is_known_by_its_properties(virtual: VirtualDevice) -> None:
    facts = AndroidDevice(f"adb://{virtual.address}").facts()

    assert (facts.kind, facts.device_class) == ("android", "emulated")


@pytest.mark.virtual
def test_its_state_is_read_and_what_it_has_not_got_is_none(phone: AndroidDevice) -> None:
    state = phone.state()

    assert state.load_1min is not None
    assert state.cpu_busy_pct is not None
    assert state.free_memory_bytes is not None
    assert (state.thermal_status, state.battery_pct, state.charging, state.temperature_celsius) == (None,) * 4
    assert "emulated" in {obstacle.name for obstacle in phone.obstacles()}


def test_there_is_no_python_on_it() -> None:
    with pytest.raises(MissingTool, match="Python"):
        AndroidDevice("adb://127.0.0.1:1").worker_command()


def test_nothing_at_an_address_is_said_at_once(caplog: pytest.LogCaptureFixture) -> None:
    began = time.monotonic()
    with caplog.at_level(logging.WARNING), pytest.raises(DeviceNotFound, match="nothing listens"):
        AndroidDevice("adb://127.0.0.1:1").remove(PurePosixPath("/x"), timeout_s=10)

    assert time.monotonic() - began < 2
    assert caplog.records == []
