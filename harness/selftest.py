"""Campaigns that measure the detector: builds that are slower by a known amount, compared on this machine.

The network is small, so that a comparison takes seconds and a campaign has thousands. The builds are the runtime's own
library with something put in front of it (`harness/deploy/injection`); the unchanged build is called through such a
library too, with nothing in it.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

import harness
from harness import statistics
from harness.catalog.checkpoint import make_checkpoint
from harness.catalog.models import find_model
from harness.convert.convert import make_artifact
from harness.deploy.bench_build import build_bench
from harness.deploy.injection.build import build_injected
from harness.deploy.push import push
from harness.deploy.runtimes import find_library, host_target
from harness.device.registry import find_device
from harness.measure.program import Transcript, run_program
from harness.protocol import First, Job, Loaded, Memory, TimedBlock
from harness.records import RuntimeChoice
from harness.regress.effect import block_median_log_ratio, log_ratio, percentile_log_ratio
from harness.regress.selftest.campaign import (
    CAMPAIGN_SCHEMA,
    VALUES_A_PROCESS,
    Campaign,
    CampaignPlan,
    Subject,
    Trial,
    begin,
    require_same_subject,
)
from harness.regress.selftest.scenario import BIMODAL_SHARE, ON_BOTH, Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.deploy.runtimes import RuntimeLibrary
    from harness.device.device import Device
    from harness.records import Deployment

MODEL: Final = "mobilenet_v3_small"
CHOICE: Final = RuntimeChoice(runtime="litert", threads=1)
TRIALS: Final = 20
CONFIRM_TRIALS: Final = 40
BLOCKS: Final = 4
BLOCK_S: Final = 0.02
WARMUP_S: Final = 0.05
WARMUP_CAP_S: Final = 0.5
MEMORY_ITERATIONS: Final = 5
TIMEOUT_S: Final = 60.0
"""For one process."""
_BASELINE_PROCESSES: Final = 5
_NEIGHBOUR: Final = "while True: sum(range(1000))"


@dataclass(frozen=True, kw_only=True)
class Rig:
    """Everything that a comparison needs, ready.

    Attributes:
        device: This machine.
        deployment: The network and its inputs on it.
        library: The real runtime library.
        subject: What identifies all this.
    """

    device: Device
    deployment: Deployment
    library: RuntimeLibrary
    subject: Subject

    def command(self, injected: Mapping[str, int]) -> tuple[str, ...]:
        """What starts the timing program with a build of the library."""
        built = build_injected(self.library, injected)
        return (str(build_bench()), "--library", str(built), "--library-version", self.library.version)

    def job(self, mode: Literal["latency", "memory"] = "latency") -> Job:
        """One process of a comparison."""
        return Job(
            choice=CHOICE,
            model=self.deployment.remote_path,
            inputs=self.deployment.remote_inputs,
            samples=self.deployment.samples,
            output_folder=str(self.device.work_folder / "outputs" / "selftest"),
            mode=mode,
            blocks=BLOCKS,
            block_s=BLOCK_S,
            warmup_s=WARMUP_S,
            warmup_cap_s=WARMUP_CAP_S,
            memory_iterations=MEMORY_ITERATIONS,
        )

    def run(self, injected: Mapping[str, int], mode: Literal["latency", "memory"] = "latency") -> Transcript:
        """One fresh process of a build."""
        return run_program(self.device, self.job(mode), self.command(injected), timeout_s=TIMEOUT_S)


def open_rig(model: str = MODEL) -> Rig:
    """Make or look up everything that is compared. Blocks for a minute where the network was never converted.

    Raises:
        MissingTool: A converter, the runtime or a C compiler is not there.
    """
    spec = find_model(model).spec
    checkpoint = make_checkpoint(spec)
    artifact = make_artifact(spec, checkpoint, "tflite", "fp32")
    device = find_device("host")
    with np.load(Path(checkpoint.folder) / "inputs.npz", allow_pickle=False) as archive:
        inputs = {name: archive[name][:1] for name in archive.files}
    library = find_library(CHOICE.runtime, target=host_target())
    facts = device.facts()
    return Rig(
        device=device,
        deployment=push(artifact, inputs, device),
        library=library,
        subject=Subject(
            model=model,
            artifact_sha256=artifact.sha256,
            choice=CHOICE,
            library_sha256=library.sha256,
            machine=f"{facts.cpu}, {facts.cores} cores, {facts.os}"
            + (f", virtual machine ({facts.virtual_machine})" if facts.virtual_machine else ""),
            harness_version=harness.__version__,
        ),
    )


def open_campaign(
    folder: Path, rig: Rig, scenarios: Sequence[Scenario], *, trials: int = TRIALS, seed: int | None = None
) -> Campaign:
    """The campaign in a folder to go on with, or a new one.

    Args:
        folder: Where it is or will be.
        rig: What is compared.
        scenarios: Of a new one; one that is there keeps its own.
        trials: Of each comparison of a new one.
        seed: Of a new one; None draws it.

    Raises:
        UsageError: The one that is there compares something else, or on another machine.
    """
    if (folder / "plan.json").exists():
        campaign = Campaign.open(folder)
        require_same_subject(campaign.plan.subject, rig.subject)
        return campaign
    timed = [rig.run({}) for _ in range(_BASELINE_PROCESSES)]
    peak = {message.at: message.resident_bytes for message in rig.run({}, "memory").all(Memory)}["peak"]
    plan = CampaignPlan(
        schema=CAMPAIGN_SCHEMA,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=secrets.randbelow(2**31) if seed is None else seed,
        scenarios=tuple(scenarios),
        trials=trials,
        confirm_trials=CONFIRM_TRIALS,
        subject=rig.subject,
        baseline_ns=statistics.median([statistics.median(_samples(one)) for one in timed]),
        baseline_cold_ns=statistics.median([_cold_ns(one) for one in timed]),
        baseline_memory_bytes=peak,
    )
    return begin(folder, plan)


class Comparisons:
    """Makes comparisons on a rig; a `harness.regress.selftest.run.Comparer`."""

    def __init__(self, rig: Rig, plan: CampaignPlan) -> None:
        self._rig, self._plan = rig, plan

    def __call__(self, scenario: Scenario, *, trials: int, seed: int) -> tuple[Trial, ...]:
        """The trials of one comparison; see `Comparer`."""
        b = injected(scenario, self._plan)
        a = b if scenario.kind in ON_BOTH else {}
        draw = random.Random(seed)  # noqa: S311  (no secret)
        found = []
        for number in range(trials):
            is_beside = scenario.kind == "neighbour" and number >= trials // 2
            with _neighbour(self._rig.device) if is_beside else contextlib.nullcontext():
                found.append(_trial(self._rig, a, b, draw, with_memory=scenario.metric == "memory"))
        return tuple(found)


def injected(scenario: Scenario, plan: CampaignPlan) -> dict[str, int]:
    """What is built into a library, by the macros of its source."""
    ns = round(scenario.dose * plan.baseline_ns)
    # A process is timed for this long; what grows or steps in it has to do so meanwhile.
    seconds = WARMUP_S + BLOCKS * BLOCK_S
    return {
        "aa": {},
        "neighbour": {},
        "spin": {"SPIN_NS": ns},
        "repeat": {"REPEAT_PPM": round(1e6 * scenario.dose)},
        "memory": {"MEMORY_BYTES": round(scenario.dose * (plan.baseline_memory_bytes or 0))},
        "cold": {"COLD_NS": round(scenario.dose * plan.baseline_cold_ns)},
        "bimodal": {"TRIPLE_EVERY": round(1 / BIMODAL_SHARE)},
        "ramp": {"RAMP_NS_PER_S": round(ns / seconds)},
        "step": {"STEP_NS": ns, "STEP_AFTER_US": round(1e6 * (WARMUP_S + seconds) / 2)},
    }[scenario.kind]


def _trial(rig: Rig, a: Mapping[str, int], b: Mapping[str, int], draw: random.Random, *, with_memory: bool) -> Trial:
    """Fresh processes of both builds in the order A B B A or B A A B."""
    order = ("a", "b", "b", "a") if draw.random() < 0.5 else ("b", "a", "a", "b")
    found: dict[str, list[Transcript]] = {"a": [], "b": []}
    for side in order:
        found[side].append(rig.run(a if side == "a" else b))
    times = {side: [_samples(one) for one in processes] for side, processes in found.items()}
    together = {side: [ns for process in processes for ns in process] for side, processes in times.items()}
    cold = {side: statistics.median([_cold_ns(one) for one in processes]) for side, processes in found.items()}
    log_ratios = {
        "p50": block_median_log_ratio(zip(times["a"], times["b"], strict=True)),
        "p90": percentile_log_ratio(together["a"], together["b"], 0.9),
        "cold_start": log_ratio(cold["a"], cold["b"]),
    }
    if with_memory:
        log_ratios["memory"] = log_ratio(_peak_bytes(rig.run(a, "memory")), _peak_bytes(rig.run(b, "memory")))
    return Trial(log_ratios=log_ratios, a_ns=_means(together["a"]), b_ns=_means(together["b"]))


def _samples(transcript: Transcript) -> list[float]:
    return [ns / block.iterations_per_sample for block in transcript.all(TimedBlock) for ns in block.ns]


def _cold_ns(transcript: Transcript) -> float:
    return float(transcript.one(Loaded).ns + transcript.one(First).ns)


def _peak_bytes(transcript: Transcript) -> float:
    return next(float(message.resident_bytes) for message in transcript.all(Memory) if message.at == "peak")


def _means(samples: Sequence[float]) -> tuple[int, ...]:
    """Means of consecutive times, as many as are kept."""
    parts = np.array_split(np.asarray(samples), min(VALUES_A_PROCESS, len(samples)))
    return tuple(round(float(part.mean())) for part in parts)


@contextlib.contextmanager
def _neighbour(device: Device) -> Iterator[None]:
    """A program that keeps one processor busy meanwhile."""
    program = device.start((sys.executable, "-c", _NEIGHBOUR), environment={})
    try:
        yield
    finally:
        program.end()
