"""One cell, measured on a device that follows a script. Reads as a specification of the order of things."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
import pytest

from harness.errors import (
    AcceleratorRefused,
    DeviceNotFit,
    NeverSteady,
    NonFiniteOutput,
    ParityFailed,
    RunnerDied,
    RunnerHung,
    RunnerUnreadable,
    RuntimeRefused,
    UnreadableModel,
)
from harness.measure import cooling
from harness.measure.program import heard
from harness.measure.session import Question, measure
from harness.protocol import (
    Canary,
    End,
    First,
    Job,
    Loaded,
    Memory,
    Message,
    Meta,
    Outputs,
    Profile,
    ProgramError,
    TimedBlock,
    Warmup,
)
from harness.records import (
    BlockConditions,
    Deployment,
    MeasurePlan,
    Obstacle,
    ProcessRecord,
    RuntimeChoice,
    TensorSpec,
    Tolerance,
)
from tests.fakes import records
from tests.fakes.device import FakeDevice, FakeProgram, state

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OUTPUT = TensorSpec(name="y", shape=(1, 3), dtype="float32")
EXPECTED = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=np.float32)
PLAN = MeasurePlan(processes_min=5, processes_max=6, blocks=2, memory_processes=1)
MS = 1_000_000


def loaded(**changes: object) -> Loaded:
    message = Loaded(
        ns=20 * MS,
        threads=1,
        graph_optimization="all",
        inputs=(),
        outputs=(OUTPUT,),
        nodes_by_accelerator={"CPUExecutionProvider": 10},
        nodes_total=10,
        nodes_delegated=10,
        partitions=None,
        fallback_reason=None,
    )
    return msgspec.structs.replace(message, **changes)


def latency_lines(
    *, p50_ms: float = 4.0, conditions: BlockConditions | None = None, set_up: Loaded | None = None
) -> list[Message]:
    meta = Meta(
        protocol=1,
        program="python-worker",
        runtime="onnxruntime",
        runtime_version="1.32.0",
        api="InferenceSession",
        library=None,
        pid=1,
        clock="CLOCK_MONOTONIC",
        clock_cost_ns=50,
        startup_ns=MS,
    )
    ns = round(p50_ms * MS)
    blocks = [
        TimedBlock(
            index=index,
            start_ns=index * 10**9,
            iterations_per_sample=1,
            ns=(ns - 1000, ns, ns + 1000),
            conditions=conditions or BlockConditions(steal_ms=0.0),
        )
        for index in range(PLAN.blocks)
    ]
    return [
        meta,
        Canary(when="before", ns=10 * MS),
        set_up or loaded(),
        First(ns=9 * MS),
        Outputs(files=("/fake/outputs/output-0.bin",), sha256="0" * 64),
        Warmup(ns=(5 * MS, 4 * MS), steady=True),
        *blocks,
        Canary(when="after", ns=10 * MS),
        End(),
    ]


def memory_lines() -> list[Message]:
    return [latency_lines()[0], memory("baseline", 40), loaded(), memory("loaded", 60), memory("peak", 75), End()]


def memory(at: Literal["baseline", "loaded", "peak"], size_mib: int) -> Memory:
    return Memory(at=at, source="VmHWM", resident_bytes=size_mib * 2**20, pss_bytes=None, private_dirty_bytes=None)


def latency(lines: list[Message] | None = None, *, outputs: np.ndarray = EXPECTED, **changes: object) -> FakeProgram:
    lines = latency_lines() if lines is None else lines
    return FakeProgram(lines=lines, files={"output-0.bin": outputs.tobytes()}, **changes)  # type: ignore[arg-type]


MEMORY = FakeProgram(lines=memory_lines())


def playing(programs: Sequence[FakeProgram], **settings: object) -> FakeDevice:
    """A device that runs these programs in order; each says truly what it wrote, and where."""
    waiting = list(programs)

    def script(argv: tuple[str, ...]) -> FakeProgram:
        program = waiting.pop(0)
        path = f"{argv[argv.index('--output-folder') + 1]}/output-0.bin"
        digest = hashlib.sha256(program.files.get("output-0.bin", b"")).hexdigest()
        said = Outputs(files=(path,), sha256=digest)
        lines = [said if isinstance(line, Outputs) else line for line in program.lines]
        return dataclasses.replace(program, lines=lines)

    return FakeDevice(programs=script, **settings)  # type: ignore[arg-type]


def question(**changes: object) -> Question:
    artifact = msgspec.structs.replace(records.artifact(), outputs=(OUTPUT,))
    settings: dict[str, object] = {
        "choice": RuntimeChoice(runtime="onnxruntime"),
        "artifact": artifact,
        "deployment": Deployment(
            device_id="fake",
            artifact_sha256=artifact.sha256,
            remote_path="/fake/models/m.onnx",
            remote_inputs=("/fake/inputs/x.bin",),
            samples=2,
            already_there=False,
        ),
        "expected": {"y": EXPECTED},
        "reference": "torch",
        "tolerance": Tolerance(relative_l2=1e-4, cosine=0.999),
    }
    return Question(**(settings | changes))  # type: ignore[arg-type]


def test_the_order_is_timed_processes_then_memory_and_the_state_is_read_before_and_after() -> None:
    device = playing([*[latency() for _ in range(5)], MEMORY])

    measured = measure(question(), device, PLAN)

    assert [call for call in device.calls if call in {"state", "start", "pull"}] == [
        "state",
        *["state", "start", "pull"],  # the thermometer is read before each process
        *["state", "start"] * 4,  # the same bytes again need no second comparison
        "start",
        "state",
    ]
    assert len(measured.processes) == 5
    assert measured.memory[0].peak_bytes == 75 * 2**20
    assert measured.stopped_by == "precision"


PROFILED = Profile(file="/fake/outputs/profile", format="litert-events", ns=(2 * MS, 3 * MS))
EVENTS = b"""{"type":"delegate_op","name":"Convolution","node":0,"us":900}
{"type":"op","name":"CUMSUM","node":1,"us":80}
{"type":"delegate_op","name":"Convolution","node":0,"us":1100}
{"type":"op","name":"CUMSUM","node":1,"us":90}
"""


@pytest.mark.parametrize(
    ("said", "events", "shares", "missing"),
    [
        (PROFILED, EVENTS, [("Convolution #0", "xnnpack", 1e6), ("CUMSUM #1", "builtin", 85e3)], ""),
        (PROFILED, EVENTS[: EVENTS.rindex(b"{")], None, "does not hold 2 inferences of the same operators"),
        (PROFILED, b"Segmentation fault", None, "malformed"),
        (ProgramError(kind="unsupported_profile", message="it does not tell"), b"", None, "it does not tell"),
    ],
    ids=["whole", "one operator short", "rubbish", "refused"],
)
def test_a_profile_is_one_more_process_and_its_failure_loses_no_figure(
    said: Message, events: bytes, shares: list[tuple[str, str, float]] | None, missing: str
) -> None:
    lines = [latency_lines()[0], loaded(), said, *([] if isinstance(said, ProgramError) else [End()])]
    device = playing([*[latency() for _ in range(5)], MEMORY, FakeProgram(lines=lines)])
    device.files[PurePosixPath("/fake/outputs/profile")] = events

    measured = measure(question(), device, msgspec.structs.replace(PLAN, profile_iterations=2))

    found = measured.profile and [(each.name, each.accelerator, each.median_ns) for each in measured.profile.operators]
    assert found == shares
    assert missing in measured.profile_missing
    assert len(measured.processes) == 5


def test_every_raw_time_is_kept_in_run_order_with_the_warm_up_and_the_cold_start() -> None:
    device = playing([*[latency() for _ in range(5)], MEMORY])

    process = measure(question(), device, PLAN).processes[0]

    assert process.load_ns == 20 * MS
    assert process.first_inference_ns == 9 * MS
    assert process.warmup_ns == (5 * MS, 4 * MS)
    assert [block.ns for block in process.blocks] == [(3_999_000, 4_000_000, 4_001_000)] * 2


def test_an_imprecise_figure_gets_more_processes_up_to_the_most_and_stops_there() -> None:
    spread = [latency(latency_lines(p50_ms=value)) for value in (4.0, 5.0, 6.0, 7.0, 8.0, 9.0)]
    device = playing([*spread, MEMORY])

    measured = measure(question(), device, PLAN)

    assert len(measured.processes) == 6
    assert measured.stopped_by == "processes"


def test_the_budget_ends_an_imprecise_cell_but_never_before_the_least_number_of_processes() -> None:
    spread = [latency(latency_lines(p50_ms=value)) for value in (4.0, 5.0, 6.0, 7.0, 8.0, 9.0)]
    device = playing([*spread[:5], MEMORY])

    measured = measure(question(), device, msgspec.structs.replace(PLAN, budget_s=0.0))

    assert len(measured.processes) == 5
    assert measured.stopped_by == "budget"


def test_a_disturbed_process_is_kept_and_repeated_and_does_not_count() -> None:
    stolen = latency_lines(conditions=BlockConditions(steal_ms=5.0))
    device = playing([latency(stolen), *[latency() for _ in range(5)], MEMORY])

    measured = measure(question(), device, PLAN)

    assert [process.discarded is None for process in measured.processes] == [False, *[True] * 5]
    assert [process.attempt for process in measured.processes] == [0, 1, 0, 0, 0, 0]
    assert "hypervisor" in str(measured.processes[0].discarded)


def test_a_device_that_disturbs_every_attempt_gives_no_figure() -> None:
    stolen = latency_lines(conditions=BlockConditions(steal_ms=5.0))
    device = playing([latency(stolen) for _ in range(3)])

    with pytest.raises(NeverSteady, match=r"3 attempts.*hypervisor took"):
        measure(question(), device, PLAN)


@pytest.mark.parametrize(
    ("conditions", "reason"),
    [
        (BlockConditions(throttle_events=2), "throttled itself 2 times"),
        (BlockConditions(cpu_caps_hz=(1.7e9, 1.0e9, 2.9e9)), "fell from 2000 to 1000 MHz"),
        (BlockConditions(cpu_caps_hz=(1.7e9, 2.0e9)), "2 of 3 clocks could be read: processors went offline"),
    ],
)
def test_a_throttled_block_is_discarded_with_its_reason(conditions: BlockConditions, reason: str) -> None:
    first = latency(latency_lines(conditions=BlockConditions(cpu_caps_hz=(1.7e9, 2.0e9, 2.9e9))))
    device = playing([first, latency(latency_lines(conditions=conditions)), *[first] * 4, MEMORY])

    measured = measure(question(), device, PLAN)

    assert reason in str(measured.processes[1].blocks[0].discarded)


def test_one_throttled_block_repeats_its_process_and_one_that_was_taken_from_does_not() -> None:
    def with_last(conditions: BlockConditions) -> FakeProgram:
        lines = latency_lines(conditions=BlockConditions(cpu_caps_hz=(2.0e9,)))
        blocks = [index for index, line in enumerate(lines) if isinstance(line, TimedBlock)]
        lines[blocks[-1]] = msgspec.structs.replace(lines[blocks[-1]], conditions=conditions)
        return latency(lines)

    throttled = with_last(BlockConditions(cpu_caps_hz=(1.0e9,)))
    taken_from = with_last(BlockConditions(steal_ms=5.0, cpu_caps_hz=(2.0e9,)))
    device = playing([throttled, taken_from, *[latency()] * 4, MEMORY])

    measured = measure(question(), device, PLAN)

    reason = "1 of 2 blocks: a clock's upper limit fell from 2000 to 1000 MHz"
    assert [process.discarded for process in measured.processes] == [reason, *[None] * 5]


def test_a_cell_that_begins_throttled_is_no_norm_for_itself() -> None:
    capped = latency(latency_lines(conditions=BlockConditions(cpu_caps_hz=(1.7e9, 1.0e9))))
    cool = latency(latency_lines(conditions=BlockConditions(cpu_caps_hz=(1.7e9, 2.0e9))))
    device = playing([capped, *[cool] * 5, MEMORY], states=[state(cluster_caps_hz=(1.7e9, 2.0e9))])

    measured = measure(question(), device, PLAN)

    assert "fell from 2000 to 1000 MHz" in str(measured.processes[0].discarded)
    assert all(process.discarded is None for process in measured.processes[1:])


def test_a_process_waits_until_the_device_is_as_cool_as_when_the_cell_began(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("harness.measure.cooling.time.sleep", waits.append)
    hot_then_cool = [state(temperature_celsius=value) for value in (40.0, 50.0, 45.0, 42.9)]
    device = playing([*[latency() for _ in range(5)], MEMORY], states=hot_then_cool)

    measure(question(), device, PLAN)

    assert waits == [cooling.COOL_POLL_S] * 2


def test_a_device_without_a_thermometer_is_not_waited_for() -> None:
    device = playing([*[latency() for _ in range(5)], MEMORY], states=[state(temperature_celsius=None)])

    measure(question(), device, PLAN)

    assert device.calls.count("state") == 2


def test_wrong_numbers_end_the_cell_after_its_first_process() -> None:
    device = playing([latency(outputs=EXPECTED + 0.5)])

    with pytest.raises(ParityFailed, match="'y'"):
        measure(question(), device, PLAN)

    assert len(device.started) == 1


def test_a_later_process_that_answers_otherwise_is_compared_as_well() -> None:
    device = playing([latency(), latency(outputs=EXPECTED * -1)])

    with pytest.raises(ParityFailed):
        measure(question(), device, PLAN)


def test_outputs_that_the_program_did_not_write_are_never_compared() -> None:
    lines = latency_lines()
    lines[4] = Outputs(files=("/fake/outputs/output-0.bin",), sha256="0" * 64)
    device = FakeDevice(programs=[FakeProgram(lines=lines)])
    device.files[PurePosixPath("/fake/outputs/output-0.bin")] = EXPECTED.tobytes()

    with pytest.raises(RunnerUnreadable, match="not those that the timing program wrote"):
        measure(question(), device, PLAN)


def test_nan_is_not_a_number_to_report() -> None:
    broken = EXPECTED.copy()
    broken[1, 2] = np.nan
    device = playing([latency(outputs=broken)])

    with pytest.raises(NonFiniteOutput, match="'y' has 1 NaN"):
        measure(question(), device, PLAN)


def test_other_threads_than_asked_for_are_an_error_and_not_a_figure() -> None:
    device = playing([latency(latency_lines(set_up=loaded(threads=4)))])

    with pytest.raises(AcceleratorRefused, match="asked for 1 threads, got 4") as refused:
        measure(question(), device, PLAN)
    # Nobody asked for it here, so that leaving it out helps nobody.
    assert "--require-accelerator" not in refused.value.hint


def fell_back() -> Loaded:
    return loaded(nodes_delegated=7, fallback_reason="the delegate left 3 of 10 nodes: SOFTMAX")


def test_a_fallback_is_recorded() -> None:
    device = playing([*[latency(latency_lines(set_up=fell_back())) for _ in range(5)], MEMORY])

    ran = measure(question(), device, PLAN).ran

    assert (ran.nodes_delegated, ran.nodes_total) == (7, 10)
    assert ran.fallback_reason == "the delegate left 3 of 10 nodes: SOFTMAX"


def test_a_fallback_is_an_error_where_the_accelerator_is_required() -> None:
    device = playing([latency(latency_lines(set_up=fell_back()))])

    with pytest.raises(AcceleratorRefused, match=r"7 of 10 nodes.*SOFTMAX") as refused:
        measure(question(require_accelerator=True), device, PLAN)
    assert refused.value.hint.startswith("Without --require-accelerator")


def test_an_unknown_placement_is_recorded_and_an_error_where_the_accelerator_is_required() -> None:
    untold = loaded(nodes_by_accelerator={}, nodes_total=None, nodes_delegated=None, placement_missing="it is too old")
    device = playing([*[latency(latency_lines(set_up=untold)) for _ in range(5)], MEMORY])
    refusing = playing([latency(latency_lines(set_up=untold))])

    assert measure(question(), device, PLAN).ran.placement_missing == "it is too old"
    with pytest.raises(AcceleratorRefused, match=r"every node on .*, got nobody knows where: it is too old"):
        measure(question(require_accelerator=True), refusing, PLAN)


def test_a_runtime_too_old_to_tell_where_nodes_run_is_an_error_where_the_accelerator_is_required() -> None:
    untold = loaded(nodes_by_accelerator={}, nodes_total=None, nodes_delegated=None)

    with pytest.raises(AcceleratorRefused, match=r"onnxruntime 1\.32\.0 does not tell where its nodes run"):
        measure(question(require_accelerator=True), playing([latency(latency_lines(set_up=untold))]), PLAN)


ON_A_PHONE = loaded(settings={"compute_units": "all"})
PHONE_FACTS = records.device(id="fake", kind="ios", device_class="phone", os_build="22F76", transport="t")


@pytest.mark.parametrize(
    ("said", "missing"),
    [
        ({"version": None}, "the app's version"),
        ({"facts": msgspec.structs.replace(PHONE_FACTS, os_build=None)}, "the system's build"),
        ({"facts": msgspec.structs.replace(PHONE_FACTS, transport=None)}, "the transport"),
        ({"set_up": loaded()}, "the compute units"),
        (
            {"set_up": msgspec.structs.replace(ON_A_PHONE, nodes_total=None, nodes_by_accelerator={})},
            "where operations run, or why nobody knows",
        ),
    ],
)
def test_a_phones_result_that_does_not_say_what_it_was_taken_with_is_refused_by_name(
    said: dict[str, object], missing: str
) -> None:
    said = {"version": "1.0", "facts": PHONE_FACTS, "set_up": ON_A_PHONE} | said
    meta, *rest = latency_lines(set_up=said["set_up"])  # type: ignore[arg-type]
    meta = msgspec.structs.replace(meta, program="ios-runner", program_version=said["version"])
    device = playing([latency([meta, *rest])], facts=said["facts"])

    with pytest.raises(RunnerUnreadable, match=f"it does not say {missing}"):
        measure(question(), device, PLAN)


def test_a_program_that_segfaults_is_named_with_its_signal() -> None:
    device = playing([FakeProgram(lines=latency_lines()[:3], returncode=-11, stderr="Segmentation fault")])

    with pytest.raises(RunnerDied, match=r"ended by SIGSEGV.*Segmentation fault") as caught:
        measure(question(), device, PLAN)

    assert caught.value.signal_name == "SIGSEGV"


def test_a_program_that_stops_in_mid_line_is_a_failure_and_never_a_short_result() -> None:
    lines: list[str | Message] = [*latency_lines()[:7], '{"type":"block","index":1,"start_ns":1000000000,"ns":[40']
    device = playing([FakeProgram(lines=lines, returncode=0)])

    with pytest.raises(RunnerDied, match="exited with code 0 before it was done"):
        measure(question(), device, PLAN)


def test_a_program_that_hangs_is_ended_and_its_last_message_told() -> None:
    device = playing([FakeProgram(lines=latency_lines()[:4], hangs=True)])

    with pytest.raises(RunnerHung, match="last message was `first`"):
        measure(question(), device, PLAN)

    assert any(entry.startswith("end ") for entry in device.log)


@pytest.mark.parametrize("rubbish", ["{warning: not JSON}", "warning: not JSON"])
def test_rubbish_between_its_messages_is_shown(rubbish: str) -> None:
    lines = latency_lines()
    device = playing([FakeProgram(lines=[*lines[:3], rubbish, *lines[3:]])])

    with pytest.raises(RunnerUnreadable, match="not JSON"):
        measure(question(), device, PLAN)


def test_a_missing_block_is_a_failure() -> None:
    lines = latency_lines()
    del lines[6]
    device = playing([FakeProgram(lines=lines)])

    with pytest.raises(RunnerUnreadable, match="2 timedblock messages were expected, 1 came"):
        measure(question(), device, PLAN)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("unreadable_model", UnreadableModel),
        ("no_accelerator", AcceleratorRefused),
        ("unsupported_op", RuntimeRefused),
        ("load_failed", RuntimeRefused),
    ],
)
def test_what_the_program_refuses_becomes_the_error_of_that_kind(kind: str, error: type[Exception]) -> None:
    said = ProgramError(kind=kind, message="op FOO is unknown")
    device = playing([FakeProgram(lines=[said], returncode=1)])

    with pytest.raises(error, match="FOO"):
        measure(question(), device, PLAN)


def test_a_program_that_understood_something_else_is_not_believed() -> None:
    meta, *rest = latency_lines()
    assert isinstance(meta, Meta)
    job = Job(
        choice=RuntimeChoice(runtime="onnxruntime", threads=2), model="m", inputs=(), samples=1, output_folder="."
    )
    understood = msgspec.structs.replace(meta, asked=msgspec.structs.replace(job.asked(), threads=1))
    lines = [msgspec.json.encode(line).decode() for line in (understood, *rest)]

    with pytest.raises(RunnerUnreadable, match="it was asked for threads = 2 and understood 1"):
        list(heard(lines, FakeDevice(), job))


def test_an_interruption_leaves_no_program_behind() -> None:
    def interrupt(_record: ProcessRecord) -> None:
        raise KeyboardInterrupt

    device = playing([latency(), FakeProgram(lines=latency_lines()[:2], hangs=True)])
    stop_now: Callable[[ProcessRecord], None] = interrupt

    with pytest.raises(KeyboardInterrupt):
        measure(question(), device, PLAN, watch=stop_now)

    assert all(program.ended or program.wait(timeout_s=0) == 0 for program in device.started)


def test_each_cell_has_an_output_folder_of_its_own_on_the_device_and_leaves_none_behind() -> None:
    devices = [playing([*[latency() for _ in range(5)], MEMORY]) for _ in range(2)]
    for device in devices:
        measure(question(), device, PLAN)

    removed = [entry for device in devices for entry in device.log if entry.startswith("remove /fake/outputs/")]
    assert len(set(removed)) == 2
    assert not any(path.is_relative_to("/fake/outputs") for device in devices for path in device.files)


def test_a_process_during_which_the_device_began_to_throttle_is_repeated_and_at_last_the_cell_fails() -> None:
    cool, warm = state(thermal_status="none"), state(thermal_status="light")
    device = playing([latency() for _ in range(3)], states=[cool, *[cool, warm] * 3])

    with pytest.raises(NeverSteady, match=r"3 attempts.*thermal status rose to light"):
        measure(question(), device, PLAN)


LOW = Obstacle(name="low-battery", severity="refusal", found="the battery is at 9 %", advice="Charge it.")


def test_a_device_that_is_unfit_when_the_cell_begins_is_refused_by_name() -> None:
    device = playing([])
    device._obstacles = (LOW,)

    with pytest.raises(DeviceNotFit, match="9 %"):
        measure(question(), device, PLAN)


def test_what_is_accepted_is_stamped_only_where_it_was_found() -> None:
    device = playing([*[latency() for _ in range(5)], MEMORY])
    device._obstacles = (LOW,)

    measured = measure(question(accepted_obstacles=("low-battery", "emulated")), device, PLAN)

    assert measured.accepted_obstacles == ("low-battery",)
    assert measured.fixed_performance is None


def test_a_program_that_is_not_on_the_processors_that_were_asked_for_is_no_figure() -> None:
    with pytest.raises(AcceleratorRefused, match="the processors 0-1, got nobody knows which"):
        measure(question(choice=RuntimeChoice(runtime="onnxruntime", affinity="0-1")), playing([latency()]), PLAN)
