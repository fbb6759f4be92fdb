"""The order of the stages, with real files, a real worker, and devices that follow a script where that is needed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

import harness
from harness import pipeline
from harness.deploy.runner import Runner
from harness.device import retries
from harness.device.host import HostDevice
from harness.device.lease import Lease, leased
from harness.errors import (
    BadSetting,
    DeviceNotFit,
    DeviceNotFound,
    DeviceOffline,
    HarnessError,
    LeaseLost,
    LinkLost,
    MissingTool,
    RunLocked,
    UnwritableFolder,
)
from harness.events import CellEnded, CellStarted, ConversionEnded, ConversionStarted, Event
from harness.measure.session import measure
from harness.pipeline import failure, plan_run, resume, run
from harness.records import Failure, Measurement, MeasurePlan, NotRun, NotRunnable, Obstacle, Suite, SuiteRuntime
from harness.store import write_run
from tests.fakes import records
from tests.fakes.device import FACTS, FakeDevice
from tests.fakes.models import save_dense_onnx

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.device.device import Device
    from harness.measure.session import Question
    from harness.records import DeviceFacts, RuntimeChoice

FAST = MeasurePlan(processes_min=2, processes_max=2, blocks=2, block_s=0.02, warmup_s=0.01, warmup_cap_s=0.3)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_dense_onnx(tmp_path / "dense.onnx")


def suite(*models: Path, **changes: object) -> Suite:
    settings: dict[str, object] = {
        "schema": 1,
        "name": "tiny",
        "models": tuple(str(path) for path in models),
        "artifacts": ("source",),
        "measure": FAST,
    }
    return Suite(**(settings | changes))  # type: ignore[arg-type]


def test_a_run_is_planned_converted_deployed_measured_and_stored_in_this_order(model: Path, tmp_path: Path) -> None:
    events: list[Event] = []

    stored = run(plan_run(suite(model)), tmp_path / "out", watch=events.append)

    kinds = [type(event) for event in events if isinstance(event, ConversionEnded | CellStarted | CellEnded)]
    assert kinds == [ConversionEnded, CellStarted, CellEnded]
    (result,) = stored.results
    assert isinstance(result.outcome, Measurement)
    assert result.outcome.ran.nodes_by_accelerator == {"CPUExecutionProvider": 1}
    assert result.outcome.parity.passed
    assert result.artifact is not None
    assert result.outcome.deployment.artifact_sha256 == result.artifact.sha256
    assert stored.plan.packages["onnxruntime"] == result.outcome.ran.version
    assert not stored.missing


def test_a_second_run_converts_nothing(model: Path, tmp_path: Path) -> None:
    asked = suite(model, artifacts=("onnx/fp32", "onnx/fp16"))
    run(plan_run(asked), tmp_path / "first")
    events: list[Event] = []

    run(plan_run(asked), tmp_path / "second", watch=events.append)

    artifacts = [e for e in events if isinstance(e, ConversionStarted) and e.artifact != "checkpoint"]
    assert [event.is_cached for event in artifacts] == [True, True]


def test_a_cell_that_cannot_exist_is_recorded_with_its_reason_and_not_tried(model: Path, tmp_path: Path) -> None:
    stored = run(plan_run(suite(model, artifacts=("tflite/fp32",))), tmp_path / "out")

    (result,) = stored.results
    assert isinstance(result.outcome, NotRunnable)
    assert ".onnx" in result.outcome.reason


def test_an_affinity_that_a_device_cannot_give_leaves_out_its_cells_alone(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone = FakeDevice(facts=msgspec.structs.replace(FACTS, id="phone"))
    monkeypatch.setattr(pipeline, "find_device", lambda _id: phone)
    monkeypatch.setattr(pipeline, "choose_runner", lambda _device, _choice: Runner(command=(), driver="bench"))
    monkeypatch.setattr(pipeline, "build_and_fetch", lambda _facts, _choice: None)
    monkeypatch.setattr(pipeline, "measure", lambda *_arguments, **_settings: records.measurement())
    asked = suite(model, devices=("phone",), threads=(1, 2, 3, 4), affinities=("0", "9", "big", "any"))

    stored = run(plan_run(asked), tmp_path / "out")

    outcomes = {(result.cell.choice.affinity, result.cell.choice.threads): result.outcome for result in stored.results}
    measured = {key for key, outcome in outcomes.items() if isinstance(outcome, Measurement)}
    assert measured == {("0", 1), *(("any", threads) for threads in (1, 2, 3, 4))}, "good cells are measured"
    assert {type(outcome) for key, outcome in outcomes.items() if key not in measured} == {NotRunnable}
    shared = outcomes["0", 2]
    assert isinstance(shared, NotRunnable)
    assert "2 threads would share 1 processors" in shared.reason


def test_a_ready_file_with_open_dimensions_is_measured_with_those_its_model_toml_declares(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    save_dense_onnx(folder / "open.onnx", features="n")
    (folder / "model.toml").write_text(
        'schema = 1\nname = "open"\nsource = { kind = "onnx", path = "open.onnx" }\n'
        '[[inputs]]\nname = "x"\nshape = [1, 8]\n'
    )

    (result,) = run(plan_run(suite(folder / "model.toml")), tmp_path / "out").results

    assert isinstance(result.outcome, Measurement)
    assert result.artifact is not None
    assert result.artifact.conversion.settings == {"open_dimensions": "as the model.toml declares them"}


def test_what_nobody_foresaw_in_one_cell_is_a_failure_of_that_cell_with_its_traceback(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object, **_settings: object) -> Measurement:
        raise RuntimeError("can't start new thread")

    plan = plan_run(suite(model, threads=(1, 2)))
    monkeypatch.setattr(pipeline, "measure", broken)

    first, second = run(plan, tmp_path / "out").results

    assert isinstance(first.outcome, Failure)
    assert isinstance(second.outcome, Failure)
    assert first.outcome.kind == "internal"
    assert first.outcome.message == "RuntimeError: can't start new thread"
    assert first.outcome.log is not None
    assert "in broken" in Path(first.outcome.log).read_text()


def test_contact_that_was_made_again_is_in_the_record_of_its_cell_alone(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def after_a_retry(*arguments: Any, **settings: Any) -> Measurement:
        calls.append(1)
        if len(calls) == 1:
            retries.note("host", "the link broke")
        return measure(*arguments, **settings)

    monkeypatch.setattr(pipeline, "measure", after_a_retry)

    first, second = run(plan_run(suite(model, threads=(1, 2))), tmp_path / "out").results

    assert (first.retries, second.retries) == (("the link broke",), ())


def test_resuming_a_complete_run_does_nothing(model: Path, tmp_path: Path) -> None:
    first = run(plan_run(suite(model)), tmp_path / "out")
    events: list[Event] = []

    again = resume(tmp_path / "out", watch=events.append)

    assert again.results == first.results
    assert events == []


def test_a_resumed_run_uses_the_model_as_it_was_planned(model: Path, tmp_path: Path) -> None:
    plan = plan_run(suite(model, threads=(1, 2)))
    with write_run(tmp_path / "out", plan):
        pass

    stored = resume(tmp_path / "out")

    assert [type(result.outcome) for result in stored.results] == [Measurement, Measurement]
    assert stored.plan == plan


def test_resuming_a_run_that_is_under_way_is_refused(model: Path, tmp_path: Path) -> None:
    with write_run(tmp_path / "out", plan_run(suite(model))), pytest.raises(RunLocked):
        resume(tmp_path / "out")


def test_two_models_of_one_name_are_refused_before_anything_starts(model: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    other = save_dense_onnx(tmp_path / "elsewhere" / "dense.onnx", np.eye(8, 4, dtype=np.float32))

    with pytest.raises(BadSetting, match=r"two models are called 'dense'.*elsewhere"):
        plan_run(suite(model, other))


def test_an_accelerator_that_leaves_nodes_is_a_failure_where_it_is_required(tmp_path: Path) -> None:
    tflite = Path(__file__).parent / "data" / "partial.tflite"
    xnnpack = (SuiteRuntime(name="litert", accelerator="xnnpack"),)

    lax = run(plan_run(suite(tflite, runtimes=xnnpack)), tmp_path / "lax")
    strict = run(plan_run(suite(tflite, runtimes=xnnpack), require_accelerator=True), tmp_path / "strict")

    measured, refused = lax.results[0].outcome, strict.results[0].outcome
    assert isinstance(measured, Measurement)
    assert measured.ran.nodes_delegated is not None
    assert measured.ran.nodes_total is not None
    assert 0 < measured.ran.nodes_delegated < measured.ran.nodes_total
    assert isinstance(refused, Failure)
    assert refused.kind == "fallback"
    assert str(measured.ran.fallback_reason) in refused.message


def test_a_device_in_no_fit_state_is_refused_by_name_and_accepted_by_name(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    low = Obstacle(name="low-battery", severity="refusal", found="the battery is at 9 %", advice="Charge it.")
    monkeypatch.setattr(pipeline, "find_device", lambda _id: FakeDevice(obstacles=[low]))
    monkeypatch.setattr(pipeline, "accepted_obstacles", lambda _facts: ())

    with pytest.raises(DeviceNotFit, match="the battery is at 9 %") as caught:
        plan_run(suite(model))

    assert "--accept low-battery" in caught.value.hint
    assert plan_run(suite(model), accept=["low-battery"]).obstacles == {"fake": (low,)}


def test_this_machine_measured_beside_its_own_emulators_says_so(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    virtual = FakeDevice(facts=msgspec.structs.replace(FACTS, id="virtual:a", kind="virtual", name="Virtual"))
    devices = {"host": FakeDevice(facts=msgspec.structs.replace(FACTS, id="host")), "virtual:a": virtual}
    monkeypatch.setattr(pipeline, "find_device", devices.__getitem__)
    monkeypatch.setattr(pipeline, "list_devices", lambda _asked: tuple(devices.values()))

    plan = plan_run(suite(model, devices=("all",)))

    assert [device.id for device in plan.devices] == ["host", "virtual:a"]
    (noise,) = plan.obstacles["host"]
    assert noise.found == "virtual:a work on the same processors at the same time"
    assert plan.obstacles["virtual:a"] == ()


def test_all_devices_are_those_that_can_be_used_now(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    battery = Obstacle(name="low-battery", severity="refusal", found="the battery is at 9 %", advice="Charge it.")
    off, low, busy, good = (
        FakeDevice(facts=msgspec.structs.replace(FACTS, id=name), obstacles=[battery] if name == "low" else [])
        for name in ("off", "low", "busy", "good")
    )
    off.fail_on("shell", DeviceOffline("off", "no route to host"))
    devices = {device.id: device for device in (off, low, busy, good)}
    monkeypatch.setattr(pipeline, "find_device", devices.__getitem__)
    monkeypatch.setattr(pipeline, "list_devices", lambda _asked: tuple(devices.values()))

    with leased((busy,), "the nightly run"):
        plan = plan_run(suite(model, devices=("all@farm:5037",)))

    assert [device.id for device in plan.devices] == ["good"]
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "off is left out",
        "low is left out",
        "busy is left out",
    ]
    del devices["off"], devices["busy"], devices["good"]
    with pytest.raises(DeviceNotFound, match="can be used now"):
        plan_run(suite(model, devices=("all",)))


def test_a_run_is_resumed_on_the_devices_that_are_there(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = HostDevice()
    away = FakeDevice(facts=msgspec.structs.replace(FACTS, id="away"))
    devices: dict[str, Device] = {"host": there, "away": away}
    monkeypatch.setattr(pipeline, "find_device", devices.__getitem__)
    with write_run(tmp_path / "out", plan_run(suite(model, devices=("host", "away")))):
        pass
    away.fail_on("shell", DeviceOffline("away", "unplugged"), times=99)

    stored = resume(tmp_path / "out")

    outcomes = {result.cell.device_id: result.outcome for result in stored.results}
    assert isinstance(outcomes["host"], Measurement)
    assert outcomes["away"] == NotRun(reason=str(DeviceOffline("away", "unplugged")))
    assert [cell.device_id for cell in pipeline.cells_left(stored, retry_failed=False)] == ["away"]
    with pytest.raises(DeviceOffline):
        resume(tmp_path / "out")


def test_another_device_at_the_address_of_a_planned_one_does_not_go_on_with_its_run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = FakeDevice(facts=msgspec.structs.replace(FACTS, id="adb://10.0.0.7", name="Pixel 8"))
    monkeypatch.setattr(pipeline, "find_device", {"adb://10.0.0.7": planned}.__getitem__)
    with write_run(tmp_path / "out", plan_run(suite(model, devices=("adb://10.0.0.7",)))):
        pass
    other = FakeDevice(facts=msgspec.structs.replace(planned.facts(), name="Galaxy S23"))
    monkeypatch.setattr(pipeline, "find_device", {"adb://10.0.0.7": other}.__getitem__)

    with pytest.raises(DeviceNotFound, match="another device is there now, Galaxy S23, and not Pixel 8"):
        resume(tmp_path / "out")


def test_this_machine_begins_when_everything_is_built_and_fetched_for_the_others(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = FakeDevice(facts=msgspec.structs.replace(FACTS, id="host"))
    board = FakeDevice(facts=msgspec.structs.replace(FACTS, id="pi", kind="board", architecture="aarch64"))
    monkeypatch.setattr(pipeline, "find_device", {"host": here, "pi": board}.__getitem__)
    monkeypatch.setattr(pipeline, "choose_runner", lambda _device, _choice: Runner(command=(), driver="bench"))
    happened: list[str] = []

    def build(facts: DeviceFacts, _choice: RuntimeChoice) -> None:
        time.sleep(0.2)
        happened.append(f"built for {facts.id}")
        raise MissingTool("a C compiler", "this", "get one")  # is for the cells to say

    def measured(_question: Question, device: Device, *_arguments: object, **_settings: object) -> Measurement:
        happened.append(f"measured on {device.id}")
        return records.measurement()

    monkeypatch.setattr(pipeline, "build_and_fetch", build)
    monkeypatch.setattr(pipeline, "measure", measured)

    run(plan_run(suite(model, devices=("host", "pi"), threads=(1, 2))), tmp_path / "out")

    of_here = [what for what in happened if what != "measured on pi"]
    assert of_here == ["built for host", "built for pi", "measured on host", "measured on host"]


def test_a_resumed_run_puts_in_order_what_the_one_before_it_could_not(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = FakeDevice(facts=msgspec.structs.replace(FACTS, id="phone"))
    monkeypatch.setattr(pipeline, "find_device", lambda _id: away)
    monkeypatch.setattr(pipeline, "choose_runner", lambda _device, _choice: Runner(command=(), driver="bench"))
    monkeypatch.setattr(pipeline, "build_and_fetch", lambda _facts, _choice: None)

    def cut(_question: Question, device: Device, *_arguments: object, **_settings: object) -> Measurement:
        for call in ("remove", "sha256"):
            away.fail_on(call, LinkLost("phone", call, "reset by peer"), times=99)
        device.remove(device.work_folder / "outputs" / "x", timeout_s=1)
        raise AssertionError

    monkeypatch.setattr(pipeline, "measure", cut)
    run(plan_run(suite(model, devices=("phone",), threads=(1, 2))), tmp_path / "out", patience_s=0.0)
    back = FakeDevice(facts=away.facts())
    monkeypatch.setattr(pipeline, "find_device", lambda _id: back)
    monkeypatch.setattr(pipeline, "measure", lambda *_arguments, **_settings: records.measurement())

    resume(tmp_path / "out")

    assert "remove /fake/outputs/x" in back.log


@pytest.mark.parametrize(
    ("error", "kept"), [(UnwritableFolder("/tmp", "no space"), True), (LeaseLost("phone", "run b"), False)]
)
def test_what_was_measured_is_kept_unless_another_run_had_the_device(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: HarnessError, kept: bool
) -> None:
    calls: list[str] = []

    def require(_self: Lease, device_id: str) -> None:
        calls.append(device_id)
        if len(calls) == 2:  # after the first cell
            raise error

    phone = FakeDevice(facts=msgspec.structs.replace(FACTS, id="phone"))
    monkeypatch.setattr(pipeline, "find_device", lambda _id: phone)
    monkeypatch.setattr(pipeline, "choose_runner", lambda _device, _choice: Runner(command=(), driver="bench"))
    monkeypatch.setattr(pipeline, "build_and_fetch", lambda _facts, _choice: None)
    monkeypatch.setattr(pipeline, "measure", lambda *_arguments, **_settings: records.measurement())
    monkeypatch.setattr(Lease, "require", require)

    (result,) = run(plan_run(suite(model, devices=("phone",))), tmp_path / "out").results

    assert isinstance(result.outcome, Measurement if kept else Failure)


def test_a_failure_record_keeps_the_facts_of_its_error() -> None:
    record = failure("measure", DeviceNotFit("pixel", "low-battery", "the battery is at 9 %", "Charge it."))

    assert record.kind == "not_fit"
    assert record.facts == {
        "device": "pixel",
        "obstacle": "low-battery",
        "found": "the battery is at 9 %",
        "advice": "Charge it.",
    }
    assert record.message == "pixel: the battery is at 9 %"


def test_a_stored_run_is_a_data_frame_from_python(model: Path, tmp_path: Path) -> None:
    run(plan_run(suite(model, threads=(1, 2))), tmp_path / "out")

    frame = harness.load(tmp_path / "out").frame()

    assert list(frame["threads"]) == [1, 2]
    assert (frame["p50_ns"] > 0).all()


def test_what_one_device_lacks_is_a_failure_of_its_cells_and_not_of_the_run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing_for_it(*_arguments: object, **_settings: object) -> Runner:
        raise MissingTool("the library of onnxruntime", "a measurement on android-arm64-v8a", "register one")

    plan = plan_run(suite(model))
    monkeypatch.setattr(pipeline, "choose_runner", nothing_for_it)

    (result,) = run(plan, tmp_path / "out").results

    assert isinstance(result.outcome, Failure)
    assert (result.outcome.stage, result.outcome.kind) == ("deploy", "missing_tool")
    assert result.outcome.hint.endswith("register one")
