"""An iPhone as a `Device`: jobs go out as folders, results come back as lines, and every fault has its own error."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest

from harness.convert.apple_system import files_for
from harness.device.ios.device import RUNNER, IosDevice
from harness.device.ios.transport import FoundPhone, Hurdle
from harness.device.profile import DeviceProfile, find_product
from harness.errors import (
    AppMissing,
    DeviceCommandFailed,
    DeviceError,
    DeviceFileFailed,
    DeviceFull,
    DeviceLocked,
    DeviceOffline,
    PushCorrupted,
    RunnerDied,
    RunnerHung,
    RunnerUnreadable,
)
from harness.measure.program import run_program
from harness.protocol import (
    End,
    First,
    Job,
    Loaded,
    Memory,
    Meta,
    Outputs,
    ProgramError,
    TimedBlock,
    Warmup,
)
from harness.records import BlockConditions, RuntimeChoice, TensorSpec
from tests.fakes.iphone import STATE, UDID, FakeApp, FakeIphone, FolderTransport

if TYPE_CHECKING:
    from harness.device.device import Device

PHONE = FoundPhone(id=UDID, name="Anna's phone", product_type="iPhone11,8", os="iOS 18.5", os_build="22F76")
TENSOR = TensorSpec(name="x", shape=(1, 4), dtype="float32")
LATENCY = (
    Meta(
        protocol=1,
        program="ios-runner",
        runtime="coreml",
        runtime_version="iOS 18.5 (22F76)",
        api="MLModel",
        library=None,
        pid=500,
        clock="CLOCK_UPTIME_RAW",
        clock_cost_ns=42,
        startup_ns=None,
        program_version="1.0",
    ),
    Loaded(
        ns=1_000_000,
        threads=None,
        graph_optimization=None,
        inputs=(TENSOR,),
        outputs=(TENSOR,),
        nodes_by_accelerator={"cpu": 1, "neural_engine": 9},
        nodes_total=10,
        nodes_delegated=9,
        partitions=None,
        fallback_reason="the CPU computes 1 of 10 operations: softmax",
        settings={"compute_units": "all"},
    ),
    First(ns=2_000_000),
    Outputs(files=("RESULT/outputs/output-0.bin",), sha256="0" * 64),
    Warmup(ns=(1_500_000, 1_400_000), steady=True),
    TimedBlock(index=0, start_ns=1, iterations_per_sample=1, ns=(1_300_000, 1_310_000), conditions=BlockConditions()),
    End(),
)


def memory(at: Any, size: int) -> Memory:
    return Memory(at=at, source="phys_footprint", resident_bytes=size, pss_bytes=None, private_dirty_bytes=None)


@pytest.fixture
def transport(phone: FakeIphone) -> FolderTransport:
    return FolderTransport(phone)


@pytest.fixture
def device(transport: FolderTransport) -> IosDevice:
    profile = find_product("iPhone11,8")
    assert profile is not None
    return IosDevice(PHONE, transport, profile, poll_s=0.01, state_timeout_s=5)


@pytest.fixture
def job(device: IosDevice, tmp_path: Path) -> Job:
    """A job whose model and input have been pushed as `deploy` does it."""
    package = tmp_path / "m.mlpackage"
    package.mkdir()
    (package / "Manifest.json").write_text("{}")
    values = tmp_path / "x.bin"
    values.write_bytes(bytes(16))
    model, given = PurePosixPath("/Documents/models/ab.mlpackage"), PurePosixPath("/Documents/inputs/cd.bin")
    for local, remote in ((package, model), (values, given)):
        device.push(local, remote.with_name(f".{remote.name}.tmp"), timeout_s=5)
        device.rename(remote.with_name(f".{remote.name}.tmp"), remote, timeout_s=5)
    return Job(
        choice=RuntimeChoice(runtime="coreml", accelerator="cpu_and_ne", options={"a": True}),
        model=str(model),
        inputs=(str(given),),
        samples=1,
        output_folder="/Documents/outputs",
        blocks=1,
        block_s=0.0,
        warmup_s=0.0,
    )


def test_an_iphone_looks_like_any_device(device: IosDevice) -> None:
    as_device: Device = device

    assert as_device.worker_command() == (RUNNER,)
    assert as_device.shell(["ls"], timeout_s=1).returncode == 127


def test_a_job_goes_out_as_a_folder_and_its_lines_come_back(device: IosDevice, phone: FakeIphone, job: Job) -> None:
    phone.app = FakeApp(lines=LATENCY, outputs={"output-0.bin": b"\1" * 16}, state=STATE)

    transcript = run_program(device, job, device.worker_command(), timeout_s=10)

    assert [type(message).__name__ for message in transcript.messages] == [type(line).__name__ for line in LATENCY]
    assert transcript.one(TimedBlock).ns == (1_300_000, 1_310_000)
    (sent,) = phone.jobs
    assert sent["job"]["choice"] == {
        "runtime": "coreml",
        "accelerator": "cpu_and_ne",
        "threads": 1,
        "graph_optimization": "all",
        "options": {"a": True},
        "driver": "auto",
        "affinity": "any",
        "version": None,
    }
    assert (sent["schema"], sent["job"]["model"]) == (1, "/Documents/models/ab.mlpackage")
    assert [item["path"] for item in sent["items"]] == ["models/ab.mlpackage", "inputs/cd.bin"]


def test_outputs_are_pulled_under_the_names_that_the_app_gave_them(
    device: IosDevice, phone: FakeIphone, job: Job, tmp_path: Path
) -> None:
    phone.app = FakeApp(lines=LATENCY, outputs={"output-0.bin": b"\1" * 16}, state=STATE)
    transcript = run_program(device, job, device.worker_command(), timeout_s=10)
    (name,) = transcript.one(Outputs).files

    device.pull(PurePosixPath(name), tmp_path / "back.bin", timeout_s=5)

    assert (tmp_path / "back.bin").read_bytes() == b"\1" * 16


def test_a_memory_job_has_its_own_messages(device: IosDevice, phone: FakeIphone, job: Job) -> None:
    lines = (*LATENCY[:2], memory("baseline", 1), memory("loaded", 2), memory("peak", 3), End())
    phone.app = FakeApp(lines=lines, state=STATE)
    in_memory = Job(choice=job.choice, model=job.model, inputs=job.inputs, samples=1, output_folder="o", mode="memory")

    transcript = run_program(device, in_memory, device.worker_command(), timeout_s=10)

    assert [message.at for message in transcript.all(Memory)] == ["baseline", "loaded", "peak"]


def test_nothing_is_left_on_the_phone_but_the_files_that_the_next_job_needs(
    device: IosDevice, phone: FakeIphone, job: Job
) -> None:
    phone.app = FakeApp(lines=LATENCY, outputs={"output-0.bin": b"\1" * 16}, state=STATE)

    run_program(device, job, device.worker_command(), timeout_s=10)

    left = sorted(path.relative_to(phone.documents).as_posix() for path in phone.documents.rglob("*") if path.is_file())
    assert [name for name in left if not name.startswith("receipts/")] == [
        "inputs/cd.bin",
        "models/ab.mlpackage/Manifest.json",
    ]


def test_results_do_not_pile_up_on_this_machine(device: IosDevice, phone: FakeIphone, job: Job, tmp_path: Path) -> None:
    phone.app = FakeApp(lines=LATENCY, outputs={"output-0.bin": b"\1" * 16}, state=STATE)

    for _ in range(3):
        run_program(device, job, device.worker_command(), timeout_s=10)

    assert len(list((tmp_path / "cache" / "device" / "ios" / UDID / "results").iterdir())) == 1


def test_what_the_app_has_certified_is_not_sent_again_not_even_by_another_process(
    device: IosDevice, phone: FakeIphone, transport: FolderTransport, job: Job
) -> None:
    phone.app = FakeApp(lines=LATENCY, outputs={"output-0.bin": b"\1" * 16}, state=STATE)
    run_program(device, job, device.worker_command(), timeout_s=10)
    transport.log.clear()

    other = IosDevice(PHONE, transport, DeviceProfile(schema=1, kind="ios", device_class="phone"), poll_s=0.01)
    run_program(other, job, other.worker_command(), timeout_s=10)

    assert [line for line in transport.log if line.startswith(("put /Documents/models", "put /Documents/inputs"))] == []


def test_ready_is_the_last_thing_that_is_sent(device: IosDevice, transport: FolderTransport, job: Job) -> None:
    program = device.start((RUNNER, *job.argv()), environment={})
    program.end()

    last = [line.rpartition("/")[2] for line in transport.log[-4:]]
    assert last[:3] == ["job.json", "launch", "ready"], "the app of the job before would take it, and be ended in it"


def test_each_job_is_done_by_a_process_that_was_started_for_it(
    device: IosDevice, phone: FakeIphone, transport: FolderTransport, job: Job
) -> None:
    """Starting a client takes seconds, in which the app of the job before is still open and looks for jobs."""
    transport.launch_s = 0.3
    phone.app = FakeApp(lines=LATENCY, outputs={"output-0.bin": b"\1" * 16}, state=STATE)

    for _ in range(2):
        transcript = run_program(device, job, device.worker_command(), timeout_s=10)
        assert transcript.all(End)


def test_half_a_package_on_a_full_phone_is_taken_back_and_sent_again(
    device: IosDevice, phone: FakeIphone, transport: FolderTransport, tmp_path: Path
) -> None:
    package = tmp_path / "p.mlpackage"
    package.mkdir()
    (package / "a").write_bytes(bytes(10))
    (package / "b").write_bytes(bytes(1000))
    remote = PurePosixPath("/Documents/models/full.mlpackage")
    transport.capacity_bytes = 100

    def send() -> None:
        device.push(package, remote.with_name(".full.tmp"), timeout_s=5)
        device.rename(remote.with_name(".full.tmp"), remote, timeout_s=5)

    with pytest.raises(DeviceFull):
        send()

    assert not (phone.documents / "models" / "full.mlpackage").exists()
    assert device.sha256(remote, timeout_s=5) is None, "it would be taken for one that is there"
    transport.capacity_bytes = None
    send()
    assert (phone.documents / "models" / "full.mlpackage" / "b").stat().st_size == 1000


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("unplugged", DeviceOffline), ("locked", DeviceLocked), ("app", AppMissing)],
)
def test_a_fault_while_a_result_is_awaited_is_told_as_what_it_is(
    fault: str, kind: type[DeviceError], device: IosDevice, phone: FakeIphone, transport: FolderTransport, job: Job
) -> None:
    assert phone.app is not None
    phone.app.answers = False
    errors = {
        "unplugged": DeviceOffline(UDID, "no such device"),
        "locked": DeviceLocked(UDID, "it is locked"),
        "app": AppMissing(UDID, "org.inference-harness.runner"),
    }
    transport.fails_to_get_results = errors[fault]

    with pytest.raises(kind):
        run_program(device, job, device.worker_command(), timeout_s=5)


# --- what can be wrong ---


def test_a_result_that_never_comes_is_a_runner_that_hangs(device: IosDevice, phone: FakeIphone, job: Job) -> None:
    assert phone.app is not None
    phone.app.answers = False

    with pytest.raises(RunnerHung):
        run_program(device, job, device.worker_command(), timeout_s=0.1)

    assert list(phone.documents.glob("jobs/*")) == []


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("messages.ndjson", b"", "it has 0 bytes, the app wrote"),
        ("outputs/output-0.bin", b"\2" * 16, "other bytes arrived than the app wrote"),
        ("done.json", b'{"schema": 1, "id"', "Input data was truncated"),
        ("done.json", None, "missing required field"),
    ],
)
def test_a_result_that_is_half_written_is_refused(
    name: str, content: bytes | None, problem: str, device: IosDevice, phone: FakeIphone, job: Job
) -> None:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes(b"{}" if content is None else content)

    phone.app = FakeApp(lines=LATENCY, outputs={"output-0.bin": b"\1" * 16}, state=STATE, damage=damage)

    with pytest.raises(RunnerUnreadable, match=problem):
        run_program(device, job, device.worker_command(), timeout_s=10)


def test_a_result_without_a_file_that_it_names_is_refused(device: IosDevice, phone: FakeIphone, job: Job) -> None:
    def damage(folder: Path) -> None:
        (folder / "outputs" / "output-0.bin").unlink()

    phone.app = FakeApp(lines=LATENCY, outputs={"output-0.bin": b"\1" * 16}, state=STATE, damage=damage)

    with pytest.raises(RunnerUnreadable, match=r"it is not there, the app wrote 16 bytes"):
        run_program(device, job, device.worker_command(), timeout_s=10)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [("id", "other", "it is the result of job other"), ("schema", 2, "the app writes version 2, this program reads")],
)
def test_a_result_of_another_job_or_version_is_refused(
    key: str, value: object, problem: str, device: IosDevice, phone: FakeIphone, job: Job
) -> None:
    def damage(folder: Path) -> None:
        done = json.loads((folder / "done.json").read_text())
        (folder / "done.json").write_text(json.dumps({**done, key: value}))

    phone.app = FakeApp(lines=LATENCY, state=STATE, damage=damage)

    with pytest.raises(RunnerUnreadable, match=problem):
        run_program(device, job, device.worker_command(), timeout_s=10)


def test_a_result_that_names_a_file_outside_its_folder_is_refused(
    device: IosDevice, phone: FakeIphone, job: Job
) -> None:
    def damage(folder: Path) -> None:
        done = json.loads((folder / "done.json").read_text())
        done["files"][0]["path"] = "../../../secret"
        (folder / "done.json").write_text(json.dumps(done))

    phone.app = FakeApp(lines=LATENCY, state=STATE, damage=damage)

    with pytest.raises(RunnerUnreadable, match="may name files of its own folder only"):
        run_program(device, job, device.worker_command(), timeout_s=10)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("os_build", "22G86", "the app says build 22G86, folder said 22F76 when it listed the phone"),
        ("product", "iPhone12,1", r"the app says product iPhone12,1, folder said iPhone11,8"),
    ],
)
def test_a_result_of_another_system_or_phone_than_was_listed_is_refused(
    key: str, value: str, problem: str, device: IosDevice, phone: FakeIphone, job: Job
) -> None:
    phone.app = FakeApp(lines=LATENCY, outputs={"output-0.bin": b"\1" * 16}, state={**STATE, key: value})

    with pytest.raises(RunnerUnreadable, match=problem):
        run_program(device, job, device.worker_command(), timeout_s=10)

    assert device.facts().os_build == "22F76"
    assert list(phone.documents.glob("results/*")) == []


def test_an_app_that_was_ended_in_the_middle_is_a_runner_that_died(
    device: IosDevice, phone: FakeIphone, job: Job
) -> None:
    words = "the app was ended during this job"
    phone.app = FakeApp(lines=LATENCY[:3], returncode=70, last_words=words, state=STATE)

    with pytest.raises(RunnerDied, match=words):
        run_program(device, job, device.worker_command(), timeout_s=10)


@pytest.mark.parametrize("can_remove", [True, False])
def test_a_file_that_arrived_damaged_is_said_with_both_digests_and_sent_again(
    device: IosDevice, phone: FakeIphone, job: Job, monkeypatch: pytest.MonkeyPatch, can_remove: bool
) -> None:
    phone.app = FakeApp(lines=LATENCY, outputs={"output-0.bin": b"\1" * 16}, state=STATE)
    run_program(device, job, device.worker_command(), timeout_s=10)
    if not can_remove:
        monkeypatch.setattr(device.transport, "remove", lambda *_arguments, **_settings: None)
    (phone.documents / "inputs" / "cd.bin").write_bytes(b"damaged")

    with pytest.raises(PushCorrupted, match=r"inputs/cd.bin has SHA-256"):
        run_program(device, job, device.worker_command(), timeout_s=10)
    transcript = run_program(device, job, device.worker_command(), timeout_s=10)

    assert transcript.all(End) == (End(),)


def test_a_refusal_of_the_app_is_the_refusal_of_any_runner(device: IosDevice, phone: FakeIphone, job: Job) -> None:
    refusal = ProgramError(kind="no_accelerator", message="this phone's Neural Engine is not for Core ML")
    phone.app = FakeApp(lines=(LATENCY[0], refusal), returncode=1, state=STATE)

    with pytest.raises(Exception, match="asked for cpu_and_ne, got nothing"):
        run_program(device, job, device.worker_command(), timeout_s=10)


@pytest.mark.parametrize("argv", [("python", "-m", "x"), (RUNNER, "--runtime"), (RUNNER, "--no-such", "1"), ()])
def test_only_a_job_can_be_started(argv: tuple[str, ...], device: IosDevice) -> None:
    with pytest.raises(DeviceCommandFailed):
        device.start(argv, environment={})


def test_a_job_for_what_was_never_pushed_is_refused_here(device: IosDevice, job: Job) -> None:
    device.remove(PurePosixPath(job.model), timeout_s=5)

    with pytest.raises(DeviceFileFailed, match="nothing was pushed under this name"):
        device.start((RUNNER, *job.argv()), environment={})


@pytest.mark.parametrize("path", ["/etc/passwd", "/Documents/../Library/x"])
def test_only_the_apps_own_folder_can_be_reached(path: str, device: IosDevice, tmp_path: Path) -> None:
    with pytest.raises(DeviceFileFailed, match="only /Documents is the app's own"):
        device.push(tmp_path, PurePosixPath(path), timeout_s=5)


# --- what it is, and in which state ---


def test_facts_come_from_the_list_of_phones_and_the_profile_of_the_product(device: IosDevice) -> None:
    facts = device.facts()

    assert (facts.id, facts.kind, facts.device_class) == (UDID, "ios", "phone")
    assert (facts.name, facts.cpu) == ("iPhone XR", "Apple A12 Bionic")
    assert (facts.os, facts.os_build, facts.cores) == ("iOS 18.5", "22F76", None)
    assert facts.core_ml_units == ("cpu", "gpu", "neural_engine")


def test_a_phone_that_is_only_looked_at_is_not_asked_to_run_anything(
    device: IosDevice, transport: FolderTransport
) -> None:
    assert device.state().thermal_status is None
    assert device.facts().cores is None
    assert device.obstacles()[0].name == "no-clock-control"
    assert transport.log == []


@pytest.mark.usefixtures("job")
def test_a_thermal_state_that_the_app_cannot_name_is_none_and_never_waited_for(
    device: IosDevice, phone: FakeIphone
) -> None:
    assert phone.app is not None
    phone.app.state = {**STATE, "thermal_state": "unknown"}

    assert device.state().thermal_status is None


@pytest.mark.usefixtures("job")
def test_the_state_of_a_phone_in_use_is_asked_from_the_app(device: IosDevice, phone: FakeIphone) -> None:
    assert phone.app is not None
    phone.app.state = {**STATE, "thermal_state": "fair", "low_power_mode": True}

    state = device.state()

    assert (state.thermal_status, state.power_mode, state.battery_pct, state.charging) == (
        "fair",
        "low-power",
        80,
        True,
    )
    assert (state.temperature_celsius, state.cpu_hz) == (None, None)
    assert [job["job"] for job in phone.jobs] == [None]
    assert device.facts().cores == 6
    assert [(obstacle.name, obstacle.severity) for obstacle in device.obstacles()][:2] == [
        ("thermal-status", "warning"),
        ("power-mode", "refusal"),
    ]


def test_a_state_that_came_with_a_result_is_not_asked_for_again(device: IosDevice, phone: FakeIphone, job: Job) -> None:
    phone.app = FakeApp(lines=LATENCY, outputs={"output-0.bin": b"\1" * 16}, state=STATE)
    run_program(device, job, device.worker_command(), timeout_s=10)

    assert device.state().thermal_status == "nominal"
    assert len(phone.jobs) == 1


def test_where_no_app_answers_the_state_is_unknown_and_nobody_waits(
    device: IosDevice, transport: FolderTransport, phone: FakeIphone
) -> None:
    device.push(Path(__file__), PurePosixPath("/Documents/inputs/a"), timeout_s=5)
    transport.missing = (Hurdle(name="app", found="not installed", advice="install it"),)

    assert device.state().thermal_status is None
    assert transport.log == []
    assert next((obstacle.name, obstacle.severity) for obstacle in device.obstacles()) == ("app", "refusal")


@pytest.mark.parametrize("system", ["iOS 12.5.7", "iOS 13.0", "iPadOS 14.8", "iOS 18.5", None])
def test_a_system_for_which_no_file_can_be_made_is_refused(transport: FolderTransport, system: str | None) -> None:
    phone = replace(PHONE, os=system)
    device = IosDevice(phone, transport, DeviceProfile(schema=1, kind="ios", device_class="phone"))

    refused = [obstacle.found for obstacle in device.obstacles() if obstacle.name == "system"]

    assert bool(refused) == all(files_for(system).values())
    assert refused in ([], ["iOS 12.5.7 loads no Core ML file that can be made here"])


def test_a_simulated_phone_is_stamped_and_refused(transport: FolderTransport) -> None:
    phone = FoundPhone(id="SIM", name="iPhone 16", os="iOS 18.5 (simulator)", is_simulated=True)
    device = IosDevice(phone, transport, DeviceProfile(schema=1, kind="ios", device_class="phone"))

    assert (device.facts().is_emulated, device.facts().virtual_machine) == (True, "iOS simulator")
    refusals = [obstacle for obstacle in device.obstacles() if obstacle.severity == "refusal"]
    assert [obstacle.name for obstacle in refusals] == ["emulated"]
    assert "it computes on the Mac" in refusals[0].found
