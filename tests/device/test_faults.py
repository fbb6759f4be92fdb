"""What goes wrong with devices, for real: whole runs on an emulated machine with a real adbd.

Each fault leaves a clear record, a clean device and no process behind, and the cells after it go on. A file that is cut
off by the death of adbd is in `test_adb.py`, where it can be watched from the device.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

from harness import pipeline
from harness.deploy.runner import Runner, choose_runner
from harness.deploy.runtimes import library_for
from harness.deploy.targets import host_target
from harness.device.adb import WORK_FOLDER, AndroidDevice
from harness.device.adb_direct import DirectLink
from harness.device.lease import lease_folder, leased
from harness.errors import AbiMismatch, DeviceBusy
from harness.events import ConversionStarted, DeviceCameBack, DeviceWentAway, Event
from harness.farm import PATIENCE_S
from harness.pipeline import plan_run, resume, run
from harness.records import Failure, MeasurePlan, NotRun, RuntimeChoice, Suite
from harness.store import StoredRun
from tests.device.conftest import DISK_MIB, on, over, until
from tests.fakes.models import save_dense_onnx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from harness.device.virtual import VirtualDevice

pytestmark = pytest.mark.virtual

TINY = Path(__file__).parent.parent / "data" / "tiny.onnx"
ENDS = "exit 3"
SLEEPS = "sleep 4801"
"""A timing program that works on, and can be looked for."""


@pytest.fixture
def direct(virtual: VirtualDevice, tmp_path: Path) -> Iterator[AndroidDevice]:
    """The virtual device without an adb server, its work folder empty before and after."""
    device = AndroidDevice("phone", DirectLink("phone", virtual.host, virtual.port, keys=tmp_path), kind="virtual")
    device.remove(WORK_FOLDER, timeout_s=60)
    yield device
    device.remove(WORK_FOLDER, timeout_s=60)


@pytest.fixture
def a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., StoredRun]:
    """A run on one device with a cell for each given timing program, a script for its shell."""
    monkeypatch.setenv("HARNESS_LEASES", str(tmp_path / "leases"))

    def go(
        device: AndroidDevice,
        *programs: str,
        timeout_s: float = 60.0,
        patience_s: float = PATIENCE_S,
        watch: Callable[[Event], None] = lambda _: None,
    ) -> StoredRun:
        def scripted(_device: object, choice: RuntimeChoice) -> Runner:
            return Runner(command=("/system/bin/sh", "-c", programs[choice.threads - 1]), driver="bench")

        monkeypatch.setattr(pipeline, "find_device", lambda _: device)
        monkeypatch.setattr(pipeline, "choose_runner", scripted)
        monkeypatch.setattr(pipeline, "build_and_fetch", lambda _facts, _choice: None)
        suite = Suite(
            schema=1,
            name="faults",
            models=(str(TINY),),
            artifacts=("source",),
            threads=tuple(range(1, len(programs) + 1)),
            devices=(device.id,),
            measure=MeasurePlan(processes_min=2, processes_max=2, timeout_s=timeout_s),
        )
        plan = plan_run(suite, accept=["emulated"])
        return run(plan, tmp_path / "out", patience_s=patience_s, watch=watch)

    return go


def failures(stored: StoredRun) -> list[tuple[str, str]]:
    """Kind and message of each cell."""
    return [
        (result.outcome.kind, result.outcome.message) if isinstance(result.outcome, Failure) else ("none", "")
        for result in stored.results
    ]


def assert_clean(device: AndroidDevice) -> None:
    """Nothing runs there, and nothing is there but whole files under the names of their contents."""
    until(lambda: not on(device, "pgrep -f '[s]leep 4801'").strip())
    found = on(device, f"find {WORK_FOLDER} -type f").split()
    assert [path for path in found if "/.digests/" not in path and "/." in path.removeprefix(str(WORK_FOLDER))] == []
    assert on(device, f"ls {WORK_FOLDER}/outputs 2>/dev/null").split() == []
    assert [path for path in lease_folder().glob("*.json") if path.read_bytes()] == []


def test_each_way_a_timing_program_can_fail_is_told_apart_and_the_next_cell_goes_on(
    direct: AndroidDevice, a_run: Callable[..., StoredRun]
) -> None:
    stored = a_run(
        direct,
        "kill -SEGV $$",
        SLEEPS,
        "echo 'Segmentation violation at 0x0'; echo 'and more'",
        """printf '{"message": "canary", "when": "bef'""",
        "echo 'no room' >&2; exit 3",
        timeout_s=10.0,
    )

    (segfault, hang, garbage, cut_off, exits) = failures(stored)
    assert segfault[0] == "runner_died"
    assert "SIGSEGV" in segfault[1]
    assert hang[0] == "timeout"
    assert "was not done after 10 s and was ended" in hang[1]
    assert garbage[0] == "unreadable_output"
    assert "Segmentation violation" in garbage[1]
    assert cut_off[0] == "runner_died"
    assert exits == ("runner_died", "phone: the timing program exited with code 3 before it was done: no room")
    assert_clean(direct)


def test_a_program_for_another_processor_is_told_with_the_systems_words(
    direct: AndroidDevice, a_run: Callable[..., StoredRun], tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_bytes(Path("/bin/true").resolve().read_bytes())
    foreign.chmod(0o755)
    direct.push(foreign, WORK_FOLDER / "programs" / "foreign", timeout_s=60)

    ((kind, message),) = failures(a_run(direct, f"exec {WORK_FOLDER}/programs/foreign"))

    assert kind == "runner_died"
    assert "code 126" in message
    assert_clean(direct)


def test_adbd_killed_in_mid_measurement_fails_that_cell_and_the_next_waits_for_its_return(
    phone: AndroidDevice, a_run: Callable[..., StoredRun]
) -> None:
    first, second = failures(a_run(phone, f"kill -9 $(pidof adbd); {SLEEPS}", ENDS))

    assert first[0] == "link_lost"
    assert second[0] == "runner_died"
    assert_clean(phone)


def test_a_link_that_is_cut_fails_its_cell_the_others_are_not_run_and_a_resumed_run_does_them(
    virtual: VirtualDevice, a_run: Callable[..., StoredRun], tmp_path: Path
) -> None:
    with Cable(virtual.port) as cable:
        device = AndroidDevice("phone", DirectLink("phone", "127.0.0.1", cable.port, keys=tmp_path), kind="virtual")
        after(device, "start", cable.cut)

        stored = a_run(device, SLEEPS, ENDS, ENDS, patience_s=1.0)

        first, second, third = (result.outcome for result in stored.results)
        assert isinstance(first, Failure)
        assert first.kind in {"link_lost", "not_found"}
        assert isinstance(second, NotRun)
        assert isinstance(third, NotRun)
        assert "phone: it went away and was not back within 1 s" in second.reason
        assert len(stored.missing) == 2

        cable.mend()
        again = resume(tmp_path / "out")

        assert [kind for kind, _ in failures(again)] == [first.kind, "runner_died", "runner_died"]
        assert not again.missing
        assert_clean(device)


@pytest.mark.parametrize("way", ["direct", "server"])
def test_a_link_that_is_cut_and_mended_costs_one_cell_and_what_was_left_is_removed(
    virtual: VirtualDevice, a_run: Callable[..., StoredRun], request: pytest.FixtureRequest, way: str, tmp_path: Path
) -> None:
    with Cable(virtual.port) as cable:
        device = over(way, request, cable.address, tmp_path)
        after(device, "start", cable.cut)
        events: list[Event] = []

        def watch(event: Event) -> None:
            events.append(event)
            if isinstance(event, DeviceWentAway):
                cable.mend()

        stored = a_run(device, SLEEPS, ENDS, watch=watch)

        assert [kind for kind, _ in failures(stored)][1] == "runner_died"
        assert [type(event) for event in events if isinstance(event, DeviceWentAway | DeviceCameBack)] == [
            DeviceWentAway,
            DeviceCameBack,
        ]
        assert_clean(device)


def test_a_program_that_a_silent_link_left_behind_is_ended_when_the_device_is_back(
    direct: AndroidDevice, virtual: VirtualDevice, a_run: Callable[..., StoredRun], tmp_path: Path
) -> None:
    """A cable that is pulled tells neither side: the device goes on, and nobody there ends what we started."""
    found: list[str] = []
    with Cable(virtual.port) as cable:
        device = AndroidDevice("phone", DirectLink("phone", "127.0.0.1", cable.port, keys=tmp_path), kind="virtual")

        def pull() -> None:
            until(lambda: on(direct, "pgrep -f '[s]leep 4801'").strip())
            time.sleep(0.5)  # its number is on the way
            cable.silence()

        def watch(event: Event) -> None:
            if isinstance(event, DeviceWentAway):
                found.append(on(direct, "pgrep -f '[s]leep 4801'").strip())
                cable.mend()

        after(device, "start", pull)
        first, second = failures(a_run(device, SLEEPS, ENDS, timeout_s=8.0, watch=watch))

        assert first[0] == "timeout"
        assert second[0] == "runner_died"
        assert found != [""]
        assert found, "the device was not missed"
        assert_clean(device)


def test_a_device_that_stands_still_for_a_while_costs_one_cell(
    phone: AndroidDevice, virtual: VirtualDevice, a_run: Callable[..., StoredRun]
) -> None:
    machine = psutil.Process(virtual.pid)
    thaw = threading.Timer(12.0, machine.resume)

    def freeze() -> None:
        time.sleep(0.5)
        machine.suspend()
        thaw.start()

    after(phone, "start", freeze)
    try:
        first, second = failures(a_run(phone, SLEEPS, ENDS, timeout_s=8.0))
    finally:
        thaw.cancel()
        machine.resume()

    assert first[0] == "timeout"
    assert second[0] == "runner_died"
    assert_clean(phone)


def test_a_full_disk_is_told_and_nothing_is_left_of_the_push(
    phone: AndroidDevice, a_run: Callable[..., StoredRun]
) -> None:
    on(phone, f"head -c {(DISK_MIB - 8) * 2**20} /dev/zero >/data/filler", timeout_s=120)
    try:
        stored = a_run(phone, ENDS)
    finally:
        on(phone, "rm -f /data/filler")

    ((kind, message),) = failures(stored)
    assert kind == "no_space"
    assert message.startswith("phone: no space left for /data/local/tmp/inference-harness/")
    assert_clean(phone)


def test_a_runtime_for_another_processor_is_refused_before_anything_of_it_is_sent(
    direct: AndroidDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check by what the device says of itself and what the file says: both are real."""
    here = library_for("onnxruntime", target=host_target())
    monkeypatch.setattr("harness.deploy.runner.library_for", lambda _runtime, **_which: here)

    with pytest.raises(AbiMismatch, match=r"linux-aarch64, and .* is built for linux-x86_64"):
        choose_runner(direct, RuntimeChoice(runtime="onnxruntime"))

    assert on(direct, f"find {WORK_FOLDER} -type f 2>/dev/null").strip() == ""


def test_ctrl_c_in_the_middle_of_a_push_leaves_no_part_of_a_file(
    phone: AndroidDevice, a_run: Callable[..., StoredRun], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    large = tmp_path / "large.onnx"
    save_dense_onnx(large, np.random.default_rng(0).standard_normal((8, 1_000_000)).astype(np.float32))
    monkeypatch.setattr("tests.device.test_faults.TINY", large)
    under_way, when_interrupted = threading.Event(), []
    real = phone.push

    def interrupt() -> None:
        when_interrupted.append(under_way.is_set())
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def push(*arguments: Any, **settings: Any) -> None:
        under_way.set()
        threading.Timer(0.15, interrupt).start()
        real(*arguments, **settings)
        under_way.clear()

    monkeypatch.setattr(phone, "push", push)

    with pytest.raises(KeyboardInterrupt):
        a_run(phone, SLEEPS)

    assert when_interrupted == [True], "it was not in the middle"
    assert StoredRun.open(tmp_path / "out").results == ()
    assert_clean(phone)


def test_a_second_run_is_kept_off_the_device_by_whatever_address_it_comes(
    direct: AndroidDevice, virtual: VirtualDevice, a_run: Callable[..., StoredRun], tmp_path: Path
) -> None:
    other = AndroidDevice(f"adb://{virtual.address}", DirectLink("other", virtual.host, virtual.port, keys=tmp_path))

    with leased([other], "nightly"), pytest.raises(DeviceBusy, match=r"run nightly of .* is using it"):
        a_run(direct, ENDS)

    assert not (tmp_path / "out").exists(), "the same command can be given again"
    assert [kind for kind, _ in failures(a_run(direct, ENDS))] == ["runner_died"]
    assert_clean(direct)


@pytest.mark.parametrize("stage", ["conversion", "push", "measurement"])
def test_ctrl_c_leaves_nothing_behind_at_any_stage(
    phone: AndroidDevice, a_run: Callable[..., StoredRun], stage: str, tmp_path: Path
) -> None:
    def interrupt() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def watch(event: Event) -> None:
        if stage == "conversion" and isinstance(event, ConversionStarted):
            interrupt()

    if stage != "conversion":
        after(phone, "push" if stage == "push" else "start", interrupt)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        a_run(phone, SLEEPS, ENDS, watch=watch)

    assert time.monotonic() - began < 60
    stored = StoredRun.open(tmp_path / "out")
    assert stored.results == ()
    until(lambda: "device phone" not in [thread.name for thread in threading.enumerate()], timeout_s=1)
    on(phone, f"mkdir -p {WORK_FOLDER}")
    assert_clean(phone)


def after(device: AndroidDevice, call: str, then: Callable[[], None]) -> None:
    """Do something right after the first call of a method of a device."""
    real: Callable[..., Any] = getattr(device, call)
    left = [then]

    def wrapped(*arguments: Any, **settings: Any) -> Any:
        result = real(*arguments, **settings)
        if left:
            left.pop()()
        return result

    setattr(device, call, wrapped)


class Cable:
    """A way to a port on this machine that can be cut and mended."""

    def __init__(self, port: int) -> None:
        self._to, self._ends = port, list[socket.socket]()
        self._quiet = threading.Event()
        self.port = 0
        self._listener: socket.socket | None = None

    def __enter__(self) -> Self:
        self.mend()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    def mend(self) -> None:
        """Let connections through, at the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    @property
    def address(self) -> str:
        """Where it begins."""
        return f"127.0.0.1:{self.port}"

    def silence(self) -> None:
        """Carry nothing more, without a word to either side, and let no new connection in."""
        self._quiet.set()
        self._quiet = threading.Event()  # of those to come
        if self._listener is not None:
            _end(self._listener)

    def cut(self) -> None:
        """End all connections, and let no new one in."""
        ends, self._ends = self._ends, []
        for end in (self._listener, *ends):
            if end is not None:
                _end(end)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                here = listener.accept()[0]
                there = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                return
            self._ends += [here, there]
            for one, other in ((here, there), (there, here)):
                threading.Thread(target=_carry, args=(one, other, self._quiet), daemon=True).start()


def _carry(one: socket.socket, other: socket.socket, quiet: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while (data := one.recv(65536)) and not quiet.is_set():
            other.sendall(data)
    if quiet.is_set():
        return
    _end(one)
    _end(other)


def _end(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
