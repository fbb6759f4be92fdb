from __future__ import annotations

import json
import os
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import psutil
import pytest

from harness.device import host as host_module
from harness.device import signals
from harness.device.host import LOOK_S, HostDevice
from harness.device.profile import DeviceProfile
from harness.errors import DeviceFileFailed, DeviceFull, DeviceTimedOut
from tests.fakes.disk import run_on_a_tiny_disk

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_facts_are_those_of_this_machine(host: HostDevice) -> None:
    facts = host.facts()

    assert (facts.id, facts.kind, facts.device_class) == ("host", "host", "host")
    assert facts.cores == os.cpu_count()
    assert facts.architecture == platform.machine()
    assert facts.memory_bytes == psutil.virtual_memory().total
    assert facts.os_build is not None
    assert platform.release() in facts.os_build


def test_facts_are_found_out_once(host: HostDevice) -> None:
    assert host.facts() is host.facts()


def test_the_profile_names_the_machine_and_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = HostDevice(DeviceProfile(schema=1, kind="host", device_class="board", title="the board")).facts()

    assert (facts.name, facts.device_class) == ("the board", "board")


@linux_only
def test_an_emulator_stays_one_whatever_the_profile_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "hypervisor", lambda files: "QEMU")
    monkeypatch.setattr(host_module, "_systemd_detect_virt", lambda: "qemu")
    device = HostDevice(DeviceProfile(schema=1, kind="host", device_class="board"), look_s=0.0)

    assert device.facts().is_emulated
    assert device.obstacles()[0].name == "emulated"


def test_a_state_is_of_now_and_within_what_can_be(host: HostDevice) -> None:
    before = datetime.now(UTC)

    state = host.state()

    at = datetime.fromisoformat(state.at)
    assert before.timestamp() - 0.001 <= at.timestamp() <= datetime.now(UTC).timestamp()
    assert state.cpu_busy_pct is None or 0 <= state.cpu_busy_pct <= 100
    assert state.steal_pct is None or 0 <= state.steal_pct <= 100
    assert state.free_memory_bytes is not None
    assert 0 < state.free_memory_bytes < psutil.virtual_memory().total


def test_a_look_takes_as_long_as_was_asked_and_sleeps(host: HostDevice) -> None:
    host.facts()
    began, work = time.monotonic(), time.process_time()

    host.state()

    assert time.monotonic() - began >= LOOK_S
    assert time.process_time() - work < 0.1


@linux_only
def test_a_busy_machine_is_seen_to_be_busy() -> None:
    busy = HostDevice(look_s=0.5).start(
        [sys.executable, "-c", "print('up', flush=True)\nwhile True: pass"], environment={}
    )
    assert next(busy.lines(timeout_s=10)) == "up"

    state = HostDevice(look_s=0.5).state()
    busy.end()

    assert state.cpu_busy_pct is not None
    assert state.cpu_busy_pct > 0.8 * 100 / (os.cpu_count() or 1)


def test_a_machine_that_says_nothing_has_an_unknown_state_and_not_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    device = HostDevice(look_s=0.0)
    facts = device.facts()
    monkeypatch.setattr(signals, "read_files", lambda patterns: {})

    state = host_module._linux_conditions(facts, 0.0).state

    known = {name for name in state.__struct_fields__ if getattr(state, name) is not None}
    assert known == {"at"}


def test_machines_that_are_not_linux_are_read_with_psutil(host: HostDevice) -> None:
    conditions = host_module._other_conditions(host.facts(), 0.05)

    assert conditions.state.cpu_busy_pct is not None
    assert conditions.state.free_memory_bytes is not None
    assert conditions.state.steal_pct is None


@pytest.mark.skipif(sys.platform != "linux", reason="runs the other systems' code where it is not at home")
def test_machines_that_are_not_linux_have_facts() -> None:
    facts = host_module._other_facts()

    assert facts.cores == os.cpu_count()
    assert facts.memory_bytes == psutil.virtual_memory().total


def test_the_work_folder_is_in_the_cache_also_where_that_is_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", "cache")

    assert HostDevice().work_folder == PurePosixPath(tmp_path.as_posix()) / "cache/device/host"


# --- files ---


def test_a_push_leaves_nothing_beside_the_file(host: HostDevice, tmp_path: Path) -> None:
    (tmp_path / "local").write_bytes(b"x" * 10_000_000)

    host.push(tmp_path / "local", host.work_folder / "models" / "a.onnx", timeout_s=20)

    assert os.listdir(Path(host.work_folder) / "models") == ["a.onnx"]  # noqa: PTH208  (the hidden ones as well)


def test_a_push_that_takes_too_long_leaves_nothing(host: HostDevice, tmp_path: Path) -> None:
    (tmp_path / "local").write_bytes(b"x" * 10_000_000)

    with pytest.raises(DeviceTimedOut, match=r"host: push .*a\.onnx took longer than 0 s"):
        host.push(tmp_path / "local", host.work_folder / "a.onnx", timeout_s=0)

    assert os.listdir(host.work_folder) == []  # noqa: PTH208  (the hidden ones as well)


def test_a_push_onto_a_full_disk_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    said = run_on_a_tiny_disk(
        """
        import json, os
        os.environ["HARNESS_CACHE"] = str(disk)
        from harness.device.host import HostDevice
        from harness.errors import DeviceFull

        host, source = HostDevice(), disk / "source"
        source.write_bytes(b"small")
        target = host.work_folder / "a.onnx"
        host.push(source, target, timeout_s=5)
        source.write_bytes(bytes(40_000))
        try:
            host.push(source, target, timeout_s=5)
        except DeviceFull as error:
            print(json.dumps([error.needed_bytes, os.listdir(host.work_folder), Path(target).read_text()]))
        """,
        tmp_path,
    )

    assert json.loads(said) == [40_000, ["a.onnx"], "small"]


def test_a_push_of_a_file_that_is_not_there_is_a_failure_that_says_so(host: HostDevice, tmp_path: Path) -> None:
    with pytest.raises(DeviceFileFailed, match=r"host: cannot push .*: No such file or directory"):
        host.push(tmp_path / "none", host.work_folder / "a", timeout_s=5)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_device_is_full_also_on_the_way_back(host: HostDevice, tmp_path: Path) -> None:
    (tmp_path / "local").write_bytes(b"x")
    with pytest.raises(DeviceFull), host_module._mapped("pull", PurePosixPath("/x"), 1):
        Path("/dev/full").write_bytes(b"x")


def test_a_digest_that_takes_too_long_is_a_time_out(host: HostDevice, tmp_path: Path) -> None:
    (tmp_path / "local").write_bytes(b"x")

    with pytest.raises(DeviceTimedOut, match=r"sha256 .*local took longer than 0 s"):
        host.sha256(PurePosixPath((tmp_path / "local").as_posix()), timeout_s=0)


def test_a_link_is_removed_and_not_what_it_points_to(host: HostDevice, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_bytes(b"")
    Path(host.work_folder).mkdir(parents=True)
    (Path(host.work_folder) / "link").symlink_to(tmp_path / "precious")

    host.remove(host.work_folder / "link", timeout_s=5)

    assert (tmp_path / "precious" / "file").exists()
    assert not (Path(host.work_folder) / "link").is_symlink()


# --- programs ---


def test_telemetry_is_off_in_every_program_whatever_is_asked(host: HostDevice) -> None:
    show = [sys.executable, "-c", "import os; print(os.environ['ORT_DISABLE_TELEMETRY'], os.environ.get('A'))"]

    program = host.start(show, environment={"A": "b", "ORT_DISABLE_TELEMETRY": "0"})

    assert list(program.lines(timeout_s=10)) == ["1 b"]
    assert host.shell(show, timeout_s=10).stdout == "1 None\n"


def test_a_program_runs_in_the_work_folder_where_no_file_of_the_users_shadows_a_module(
    host: HostDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "__init__.py").write_text("raise RuntimeError('the wrong one')")
    monkeypatch.chdir(tmp_path)

    program = host.start([sys.executable, "-c", "import os, harness.errors; print(os.getcwd())"], environment={})

    assert list(program.lines(timeout_s=10)) == [str(host.work_folder)], program.last_words()


def test_the_worker_is_found_from_the_work_folder(host: HostDevice) -> None:
    program = host.start([*host.worker_command(), "--no-such-flag"], environment={})

    said = [*program.lines(timeout_s=30), program.last_words()]

    assert program.wait(timeout_s=5) not in {0, 127}
    assert "No module named" not in " ".join(said)
