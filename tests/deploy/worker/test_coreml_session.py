"""Core ML behind the worker's seam: a fake predictor stands in for a Mac; the tests marked `mac` need a real one."""

from __future__ import annotations

import ctypes
import io
import os
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest

from harness.deploy.worker import __main__ as worker
from harness.deploy.worker import coreml_session, system
from harness.deploy.worker.coreml_session import CoreMLSession, Predictor, core_ml_units, operations_of, read_plan
from harness.deploy.worker.session import JobRefused, SaysSettings, Session, runtime_module
from harness.protocol import Job, Loaded, read_message
from harness.records import Measurement, PlacedNode, RuntimeChoice, TensorSpec
from harness.store import StoredRun
from harness.summary import evidence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

X = TensorSpec(name="x", shape=(1, 4), dtype="float32")
Y = TensorSpec(name="y", shape=(1, 4), dtype="float16")
MIXED = (
    PlacedNode(name="x_1", kind="conv", accelerator="neural_engine"),
    PlacedNode(name="y", kind="softmax", accelerator="cpu"),
)


@dataclass
class FakePredictor:
    """Doubles its input, in another dtype than it declares, as Core ML does."""

    ops: Sequence[PlacedNode] | None = MIXED
    inputs: tuple[TensorSpec, ...] = (X,)
    outputs: tuple[TensorSpec, ...] = (Y,)
    timings_ns: Mapping[str, int] = field(default_factory=lambda: {"compile": 5, "load_cold": 6})
    seen: list[NDArray[np.generic]] = field(default_factory=list)
    answers: str = "y"
    calls: list[str] = field(default_factory=list)

    def predict(self, values: Mapping[str, NDArray[np.generic]]) -> Mapping[str, NDArray[np.generic]]:
        self.calls.append("predict")
        self.seen.append(values["x"])
        return {self.answers: values["x"].astype(np.float32) * 2}

    def load_again_ns(self) -> int:
        self.calls.append("load again")
        return 3

    def plan(self) -> Sequence[PlacedNode] | None:
        self.calls.append("plan")
        return self.ops


def session(accelerator: str = "cpu_and_ne", **changes: Any) -> CoreMLSession:
    return CoreMLSession(FakePredictor(**changes), accelerator)


def test_the_session_is_one_of_the_workers_and_the_fake_is_a_predictor() -> None:
    fake: Predictor = FakePredictor()
    as_session: Session = CoreMLSession(fake, "all")

    assert isinstance(as_session, SaysSettings)
    assert as_session.graph_optimization is None
    assert runtime_module("coreml").API == "CompiledMLModel"


def test_outputs_come_in_the_declared_dtype_and_order() -> None:
    opened = session()
    opened.set_inputs([np.array([[1, 2, 3, 4]], dtype=np.float32)])

    opened.invoke()

    (found,) = opened.read_outputs()
    assert found.dtype == np.float16
    assert found.tolist() == [[2, 4, 6, 8]]


def test_inputs_that_the_caller_changes_later_are_not_what_is_predicted() -> None:
    fake = FakePredictor()
    opened = CoreMLSession(fake, "all")
    given = np.zeros((1, 4), dtype=np.float32)
    opened.set_inputs([given])
    given[:] = 9

    opened.invoke()

    assert fake.seen[0].tolist() == [[0, 0, 0, 0]]


def test_an_output_under_another_name_is_an_error_that_says_what_came() -> None:
    opened = session(answers="z")
    opened.set_inputs([np.zeros((1, 4), dtype=np.float32)])
    opened.invoke()

    with pytest.raises(JobRefused, match="output 'y' did not come, but z"):
        opened.read_outputs()


@pytest.mark.parametrize(
    ("accelerator", "delegated", "reason"),
    [
        ("cpu_and_ne", 1, "1 of 2 operations are planned elsewhere than neural_engine: softmax"),
        ("cpu_and_gpu", 0, "2 of 2 operations are planned elsewhere than gpu: conv, softmax"),
        ("cpu_only", 1, "1 of 2 operations are planned elsewhere than cpu: conv"),
        ("all", 1, None),
    ],
)
def test_an_operation_that_is_planned_elsewhere_is_a_fallback_unless_the_choice_was_left_to_core_ml(
    accelerator: str, delegated: int, reason: str | None
) -> None:
    placement = session(accelerator).placement()

    assert placement.nodes_by_accelerator == {"neural_engine": 1, "cpu": 1}
    assert (placement.nodes_total, placement.nodes_delegated) == (2, delegated)
    assert placement.fallback_reason == reason


def test_where_there_is_no_plan_nothing_is_known() -> None:
    placement = session(ops=None).placement()

    assert (placement.nodes_total, placement.nodes_delegated, placement.fallback_reason) == (None, None, None)


def test_cold_and_cached_loads_are_told_apart() -> None:
    opened = session()

    assert opened.timings_ns() == {"compile": 5, "load_cold": 6, "load_cached": 3}
    assert opened.settings() == {"compute_units": "CPU_AND_NE"}


@pytest.mark.parametrize(
    ("mode", "called"),
    [("latency", ["predict", "load again", "plan"]), ("memory", ["predict"])],
)
def test_core_ml_loads_no_second_time_before_the_first_inference_and_never_where_memory_is_measured(
    mode: Literal["latency", "memory"], called: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakePredictor()
    runtime = SimpleNamespace(open_session=lambda _model, _choice: CoreMLSession(fake, "all"))
    monkeypatch.setattr(worker, "runtime_module", lambda _name: runtime)
    (tmp_path / "x.bin").write_bytes(np.zeros(4, np.float32).tobytes())
    job = Job(
        choice=RuntimeChoice(runtime="coreml", accelerator="all"),
        model="m.mlpackage",
        inputs=(str(tmp_path / "x.bin"),),
        samples=1,
        output_folder=str(tmp_path / "out"),
        mode=mode,
        blocks=1,
        block_s=0.001,
        warmup_s=0.0,
        warmup_cap_s=0.001,
    )
    out = io.BytesIO()

    if mode == "memory":
        worker._memory_job(job, out)
    else:
        worker._latency_job(job, out, 40)

    assert list(dict.fromkeys(fake.calls)) == called
    said = [read_message(line) for line in out.getvalue().splitlines()]
    (loaded,) = [message for message in said if isinstance(message, Loaded)]
    assert loaded.timings_ns == ({"compile": 5, "load_cold": 6, "load_cached": 3} if mode == "latency" else {})
    assert (loaded.placement_missing is None) == (mode == "latency")


def test_the_memory_of_a_mac_is_read_where_the_system_writes_it() -> None:
    def proc_pid_rusage(pid: int, flavor: int, buffer: Any) -> int:
        assert (pid, flavor) == (os.getpid(), 4)
        words = ctypes.cast(buffer, ctypes.POINTER(ctypes.c_uint64))
        for index in range(37):
            words[index] = index
        return 0

    found = system.mac_footprint(SimpleNamespace(proc_pid_rusage=proc_pid_rusage))  # type: ignore[arg-type]

    # Sixteen bytes, then words: the eighth and the twenty-ninth, of thirty-five.
    assert ctypes.sizeof(system.RusageInfo) == 16 + 35 * 8
    assert (found.ri_phys_footprint, found.ri_lifetime_max_phys_footprint) == (2 + 7, 2 + 28)


@pytest.mark.parametrize(
    ("choice", "kind"),
    [
        (RuntimeChoice(runtime="coreml", accelerator="npu"), "no_accelerator"),
        (RuntimeChoice(runtime="coreml", options={"a": 1}), "bad_setting"),
        (RuntimeChoice(runtime="coreml", threads=4), "bad_setting"),
        (RuntimeChoice(runtime="coreml", graph_optimization="none"), "bad_setting"),
    ],
)
def test_what_core_ml_does_not_have_is_refused(choice: RuntimeChoice, kind: str) -> None:
    with pytest.raises(JobRefused) as caught:
        core_ml_units(choice)

    assert caught.value.kind == kind


def test_cpu_is_what_a_job_asks_for_that_names_nothing_else() -> None:
    assert core_ml_units(RuntimeChoice(runtime="coreml")) == "CPU_ONLY"


def test_a_plan_counts_operations_and_leaves_constants_out() -> None:
    class MLGPUComputeDevice: ...

    usages = {"const": None, "conv": SimpleNamespace(preferred_compute_device=MLGPUComputeDevice())}
    plan = SimpleNamespace(get_compute_device_usage_for_mlprogram_operation=lambda op: usages[op.operator_name])
    operations = [
        SimpleNamespace(operator_name=kind, outputs=[SimpleNamespace(name=name)])
        for name, kind in (("w", "const"), ("x_1", "conv"), ("x_2", "conv"))
    ]

    assert read_plan(plan, operations) == [
        PlacedNode(name=name, kind="conv", accelerator="gpu") for name in ("x_1", "x_2")
    ]


@pytest.mark.parametrize(("function", "found"), [("main", None), ("embed", ["conv"])])
def test_a_plan_is_of_the_function_that_runs_whatever_it_is_called(function: str, found: list[str] | None) -> None:
    program = SimpleNamespace(functions={"embed": SimpleNamespace(block=SimpleNamespace(operations=["conv"]))})

    assert operations_of(program, function) == found
    assert operations_of(None, function) is None


def test_a_unit_that_this_program_does_not_know_is_refused() -> None:
    usage = SimpleNamespace(preferred_compute_device=object())
    plan = SimpleNamespace(get_compute_device_usage_for_mlprogram_operation=lambda _: usage)

    with pytest.raises(JobRefused, match="Core ML plans for a object"):
        read_plan(plan, [SimpleNamespace(operator_name="conv")])


@pytest.mark.skipif(platform.system() == "Darwin", reason="a Mac has Core ML")
def test_elsewhere_than_on_a_mac_the_reason_is_said(tmp_path: Path) -> None:
    with pytest.raises(JobRefused, match="Core ML computes on Apple's systems only; this is"):
        coreml_session.open_session(str(tmp_path / "m.mlpackage"), RuntimeChoice(runtime="coreml"))


# --- on a Mac ---


@pytest.mark.mac
@pytest.mark.skipif(platform.system() != "Darwin", reason="needs macOS")
@pytest.mark.parametrize("accelerator", ["cpu_only", "cpu_and_gpu", "all"])
def test_a_mac_predicts_plans_and_loads(accelerator: str, tmp_path: Path) -> None:
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb  # type: ignore[import-not-found,unused-ignore]  # noqa: N813

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 4))])  # type: ignore[untyped-decorator,unused-ignore]
    def program(x: Any) -> Any:
        return mb.mul(x=x, y=2.0, name="y")

    path = str(tmp_path / "double.mlpackage")
    ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.macOS13,
        compute_precision=ct.precision.FLOAT32,
        compute_units=ct.ComputeUnit.CPU_ONLY,
    ).save(path)

    opened = coreml_session.open_session(path, RuntimeChoice(runtime="coreml", accelerator=accelerator))
    opened.set_inputs([np.array([[1, 2, 3, 4]], dtype=np.float32)])
    opened.invoke()

    assert opened.read_outputs()[0].tolist() == [[2, 4, 6, 8]]
    assert opened.placement().nodes_total in {None, 1}
    assert opened.timings_ns()["load_cold"] > 0


@pytest.mark.mac
@pytest.mark.skipif(platform.system() != "Darwin", reason="needs macOS")
def test_a_run_on_a_mac_measures_a_network_with_core_ml_and_says_where_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    command = ["run", "squeezenet1_1", "-a", "coreml/fp16", "--processes", "2", "--output", str(tmp_path / "out")]

    ended = subprocess.run(
        [sys.executable, "-m", "harness", *command], capture_output=True, text=True, check=False, timeout=800
    )

    assert ended.returncode == 0, ended.stderr
    stored = StoredRun.open(tmp_path / "out")
    (result,) = stored.results
    assert isinstance(result.outcome, Measurement), result.outcome
    assert evidence(result, stored.plan.devices[0]) == "measured(mac)"
    assert result.outcome.parity.passed
    assert set(result.outcome.processes[0].load_timings_ns) == {"compile", "load_cold", "load_cached"}
    assert {memory.source for memory in result.outcome.memory} == {"phys_footprint"}
    assert result.outcome.memory[0].peak_bytes >= result.outcome.memory[0].loaded_bytes > 0
    ran = result.outcome.ran
    if tuple(int(part) for part in platform.mac_ver()[0].split(".")[:2]) >= (14, 4):
        assert sum(ran.nodes_by_accelerator.values()) == ran.nodes_total != 0
        assert ran.placement_missing is None
