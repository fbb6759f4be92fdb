"""Example records, complete and plausible, of which a test changes only what it is about.

result(p50_ms=4.2)                          a measured cell
result(outcome=failure("conversion_failed"))
run([result(), result(precision="int8")])   a stored run of them, ready for `harness.report`
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from harness.records import (
    Accuracy,
    Artifact,
    Block,
    BlockConditions,
    BuiltinSource,
    Cell,
    CellResult,
    Conversion,
    Deployment,
    DeviceFacts,
    DeviceState,
    Estimate,
    Failure,
    Measurement,
    MeasurePlan,
    MemoryRecord,
    ModelSpec,
    NotRunnable,
    Outcome,
    OutputParity,
    Parity,
    Plan,
    PlannedModel,
    ProcessRecord,
    RatePoint,
    RuntimeChoice,
    RuntimeRan,
    TensorSpec,
    Tolerance,
    Verification,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MIB = 2**20


@dataclasses.dataclass(frozen=True)
class FakeRun:
    """What `harness.report` needs of a stored run."""

    folder: Path
    plan: Plan
    results: tuple[CellResult, ...]
    accuracies: Mapping[str, Accuracy] = dataclasses.field(default_factory=dict)

    @property
    def missing(self) -> tuple[Cell, ...]:
        """Planned cells without a result."""
        done = {result.cell.id for result in self.results}
        return tuple(cell for cell in self.plan.cells if cell.id not in done)


def run(
    results: Sequence[CellResult],
    *,
    missing: Sequence[Cell] = (),
    devices: Sequence[DeviceFacts] | None = None,
    models: Sequence[PlannedModel] | None = None,
    measure: MeasurePlan | None = None,
    folder: Path = Path("reports/2026-11-23-quick"),
    accuracies: Sequence[Accuracy] = (),
) -> FakeRun:
    """A run of these cells; devices and models are made up for those that the cells name."""
    cells = (*(result.cell for result in results), *missing)
    device_ids = dict.fromkeys(cell.device_id for cell in cells)
    names = dict.fromkeys(cell.model for cell in cells)
    return FakeRun(
        folder=folder,
        results=tuple(results),
        accuracies={accuracy.file_sha256: accuracy for accuracy in accuracies},
        plan=Plan(
            schema=1,
            run=folder.name,
            suite="quick",
            created_at="2026-11-23T08:15:00Z",
            harness_version="0.1.0",
            command=("harness", "run", "quick"),
            models=tuple(models if models is not None else (planned_model(name) for name in names)),
            devices=tuple(devices if devices is not None else (device(id=each) for each in device_ids)),
            measure=measure or MeasurePlan(),
            cells=cells,
        ),
    )


def planned_model(name: str = "mobilenet_v2", *, origin: str = "", **changes: Any) -> PlannedModel:
    """A trained classifier; `changes` are of its ModelSpec."""
    spec = ModelSpec(
        schema=1,
        name=name,
        source=BuiltinSource(network=name),
        task="classification",
        trained=True,
        licence="Apache-2.0",
    )
    return PlannedModel(spec=msgspec.structs.replace(spec, **changes), origin=origin or f"models/{name}/model.toml")


def device(**changes: Any) -> DeviceFacts:
    """A small real machine."""
    facts = DeviceFacts(
        id="host",
        kind="host",
        device_class="host",
        name="bench-01",
        cpu="AMD EPYC 7763",
        cores=2,
        architecture="x86_64",
        memory_bytes=8 * 2**30,
        os="Debian GNU/Linux 13",
        os_build="6.12.0-1-amd64",
    )
    return msgspec.structs.replace(facts, **changes)


def state(**changes: Any) -> DeviceState:
    """A quiet moment on a machine with few sensors."""
    calm = DeviceState(
        at="2026-11-23T08:15:02Z",
        load_1min=0.3,
        cpu_busy_pct=4.0,
        steal_pct=0.0,
        governor="performance",
        cpu_hz=2.45e9,
        cpu_cap_hz=2.45e9,
        temperature_celsius=None,
        thermal_status=None,
        battery_pct=None,
        charging=None,
        free_memory_bytes=6 * 2**30,
    )
    return msgspec.structs.replace(calm, **changes)


def cell(
    *,
    model: str = "mobilenet_v2",
    format: str = "onnx",  # noqa: A002  (the record's own word)
    precision: str = "fp32",
    threads: int = 1,
    runtime: str = "",
    device_id: str = "host",
    id: str = "",  # noqa: A002
    accelerator: str = "cpu",
) -> Cell:
    """One point of the matrix; the runtime follows from the format."""
    runtime = runtime or {"onnx": "onnxruntime", "tflite": "litert", "coreml": "coreml"}[format]
    data = {
        "id": id or f"{model}-{format}-{precision}-{runtime}-t{threads}-{device_id}",
        "model": model,
        "format": format,
        "precision": precision,
        "choice": RuntimeChoice(runtime=runtime, accelerator=accelerator, threads=threads),
        "device_id": device_id,
    }
    return msgspec.convert(data, Cell)


def result(
    *,
    p50_ms: float = 10.0,
    outcome: Outcome | None = None,
    of: Cell | None = None,
    processes: Sequence[ProcessRecord] | None = None,
    size_mib: float = 13.6,
    no_artifact: bool = False,
    measured: dict[str, Any] | None = None,
    **which: Any,
) -> CellResult:
    """A stored cell: measured at about `p50_ms`, unless another outcome is given.

    Args:
        p50_ms: What the process medians are near.
        outcome: Failure, NotRunnable or a Measurement of the caller's own.
        of: The cell; otherwise made by `cell(**which)`.
        processes: In place of five calm ones.
        size_mib: Of the artifact.
        no_artifact: Leave it out, as after a failed conversion.
        measured: Fields of the Measurement to change.
        which: What `cell` takes.
    """
    point = of or cell(**which)
    if outcome is None:
        outcome = measurement(p50_ms=p50_ms, processes=processes, choice=point.choice, **(measured or {}))
    return CellResult(
        schema=1,
        cell=point,
        outcome=outcome,
        artifact=None if no_artifact else artifact(point, size_mib=size_mib),
        parameters=3_504_872,
        macs=300_774_272,
        started_at="2026-11-23T08:15:02Z",
        seconds=9.8,
    )


def failure(kind: str = "runner_died", **changes: Any) -> Failure:
    """A cell whose runtime crashed."""
    died = Failure(
        stage="measure",
        kind=kind,
        message="host: the timing program was ended by SIGSEGV before it was done, and said nothing",
        hint="By hand: python -m harness.deploy.worker --runtime litert",
    )
    return msgspec.structs.replace(died, **changes)


def not_runnable(reason: str = "litert has no build for this machine") -> NotRunnable:
    """A cell that cannot exist here."""
    return NotRunnable(reason=reason)


def measurement(
    *,
    p50_ms: float = 10.0,
    processes: Sequence[ProcessRecord] | None = None,
    choice: RuntimeChoice | None = None,
    **changes: Any,
) -> Measurement:
    """Five calm processes, one memory pass, outputs as they should be."""
    choice = choice or RuntimeChoice(runtime="onnxruntime")
    found = Measurement(
        ran=RuntimeRan(
            runtime=choice.runtime,
            version="1.24.0",
            api="python",
            driver="python-worker",
            library_sha256=None,
            threads=choice.threads,
            graph_optimization="all",
            nodes_by_accelerator={"CPUExecutionProvider": 100},
            nodes_total=100,
            nodes_delegated=100,
            partitions=1,
            fallback_reason=None,
        ),
        deployment=Deployment(
            device_id="host",
            artifact_sha256="ab" * 32,
            remote_path="/cache/model",
            remote_inputs=("/cache/input-0.bin",),
            samples=4,
            already_there=True,
        ),
        processes=tuple(processes) if processes is not None else calm_processes(p50_ms),
        memory=(memory(),),
        parity=parity(),
        page_cache="warm",
        state_before=state(),
        state_after=state(at="2026-11-23T08:15:12Z"),
        stopped_by="precision",
    )
    return msgspec.structs.replace(found, **changes)


def calm_processes(p50_ms: float = 10.0, *, count: int = 5, seed: int = 0) -> tuple[ProcessRecord, ...]:
    """Processes that differ by a few thousandths, with a tail to the slow side as real ones have."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(count):
        centre = 1e6 * p50_ms * (1 + 0.002 * rng.standard_normal())
        blocks = [
            (centre * (1 + 0.004 * rng.standard_normal(25) + 0.02 * rng.gamma(0.5, 1, 25))).astype(int).tolist()
            for _ in range(4)
        ]
        made.append(process(blocks, index=index))
    return tuple(made)


def process(blocks_ns: Sequence[Sequence[int] | Block], *, index: int = 0, **changes: Any) -> ProcessRecord:
    """One fresh process with these blocks, the processes one second apart."""
    start = 1_000_000_000 * (100 + index)
    blocks = tuple(
        each if isinstance(each, Block) else block(each, start_ns=start + 250_000_000 * number)
        for number, each in enumerate(blocks_ns)
    )
    typical = int(np.median([ns for each in blocks for ns in each.ns] or [1_000_000]))
    made = ProcessRecord(
        index=index,
        attempt=0,
        at="2026-11-23T08:15:04Z",
        startup_ns=85_000_000,
        load_ns=42_000_000,
        first_inference_ns=3 * typical,
        warmup_ns=(2 * typical, *[typical] * 9),
        steady=True,
        blocks=blocks,
        canary_before_ns=20_000_000,
        canary_after_ns=20_100_000,
        outputs_sha256="cd" * 32,
    )
    return msgspec.structs.replace(made, **changes)


def block(ns: Sequence[int], *, start_ns: int = 0, **changes: Any) -> Block:
    """A quiet block."""
    quiet = Block(start_ns=start_ns, iterations_per_sample=1, ns=tuple(ns), conditions=BlockConditions())
    return msgspec.structs.replace(quiet, **changes)


def memory(**changes: Any) -> MemoryRecord:
    """One memory pass."""
    made = MemoryRecord(
        source="VmHWM (clear_refs)",
        baseline_bytes=60 * MIB,
        loaded_bytes=85 * MIB,
        peak_bytes=92 * MIB,
        pss_bytes=88 * MIB,
        private_dirty_bytes=40 * MIB,
        iterations=20,
    )
    return msgspec.structs.replace(made, **changes)


def parity(**changes: Any) -> Parity:
    """Outputs that agree."""
    made = Parity(
        executed_by="onnxruntime 1.24.0, cpu, 1 thread",
        reference="torch 2.13.0",
        samples=4,
        tolerance=Tolerance(relative_l2=1e-3, cosine=0.9999),
        outputs=(OutputParity(tensor="logits", max_abs=2.1e-6, relative_l2=4.4e-7, cosine=1.0, top1_agreement=1.0),),
        passed=True,
    )
    return msgspec.structs.replace(made, **changes)


def accuracy(eer: float = 0.05, *, sha256: str = "ab" * 32, **changes: Any) -> Accuracy:
    """What a file recognises; the file is that of `artifact` where nothing else is said."""
    rates = Verification(
        pairing="across sessions",
        genuine_pairs=600,
        impostor_pairs=18_000,
        embedding_length=64,
        eer=Estimate(value=eer, low=eer * 0.8, high=eer * 1.2),
        auc=Estimate(value=0.98),
        fnmr_at_fmr_1e2=None,
        fnmr_at_fmr_1e3=None,
        curve=(RatePoint(threshold=0.5, fmr=eer, fnmr=eer),),
    )
    known: dict[str, Any] = {
        "schema": 1,
        "model": "mobilenet_v2",
        "file_sha256": sha256,
        "format": "onnx",
        "precision": "fp32",
        "executed_by": "onnxruntime 1.27.0",
        "dataset": "eyes",
        "dataset_sha256": "12" * 32,
        "is_synthetic": False,
        "fold": 0,
        "subjects": 30,
        "images": 600,
        "bootstrap_samples": 1000,
        "verification": rates,
    }
    return Accuracy(**(known | changes))


def artifact(of: Cell | None = None, *, size_mib: float = 13.6, **changes: Any) -> Artifact:
    """The converted file of a cell."""
    of = of or cell()
    made = Artifact(
        model=of.model,
        checkpoint_sha256="ef" * 32,
        format=of.format,
        precision=of.precision,
        path=f"/cache/artifacts/{of.model}-{of.precision}.{of.format}",
        sha256="ab" * 32,
        size_bytes=int(size_mib * MIB),
        deflated_bytes=int(size_mib * MIB * 0.92),
        inputs=(TensorSpec(name="image", shape=(1, 3, 224, 224), dtype="float32"),),
        outputs=(TensorSpec(name="logits", shape=(1, 1000), dtype="float32"),),
        parity=parity(),
        conversion=Conversion(converters={"torch": "2.13.0"}, settings={}, seconds=6.1, peak_rss_bytes=900 * MIB),
    )
    return msgspec.structs.replace(made, **changes)
