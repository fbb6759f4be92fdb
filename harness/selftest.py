"""Campaigns that measure the detector: builds that are slower by a known amount, compared on this machine.

The comparison is the one that `harness compare` makes. The network is small, so that one takes seconds and a campaign
has thousands. The builds are the runtime's own library with something put in front of it (`harness/deploy/injection`);
the unchanged build is called through such a library too, with nothing in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

import harness
from harness import statistics
from harness.comparison import Build, prepare
from harness.deploy.injection.build import build_injected
from harness.deploy.runtimes import find_library
from harness.deploy.targets import host_target
from harness.device.halting import Halt, halting
from harness.device.hold import confined, single_processors
from harness.device.registry import find_device
from harness.errors import DeviceTimedOut, RunnerDied, UsageError
from harness.measure.interleaved import run_trials
from harness.records import ComparePlan, SuiteRuntime
from harness.regress.decision import MARGINS
from harness.regress.selftest.campaign import (
    CAMPAIGN_SCHEMA,
    VALUES_A_PROCESS,
    Campaign,
    CampaignPlan,
    Subject,
    TrialValues,
    begin,
    require_same_subject,
)
from harness.regress.selftest.scenario import BIMODAL_SHARE, ON_BOTH, Scenario
from harness.regress.trials import trial_log_ratio
from harness.statistics import samples_ns
from harness.text import count

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from harness.device.device import Device, RunningProgram
    from harness.measure.interleaved import Arm
    from harness.records import ProcessRecord, Trial

MODEL: Final = "mobilenet_v3_small"
ARTIFACT: Final = "tflite/fp32"
RUNTIME: Final = "litert"
TRIALS: Final = 100
DRIFT_PERIOD_NS: Final = 430_000_000
"""Of what slows both builds alike: about the time of a trial, and no multiple of it."""
_BUSY: Final = "while True: sum(range(1000))"


class Rig:
    """Everything that a comparison needs: this machine, the network on it, and builds of the runtime as asked for.

    Attributes:
        device: This machine.
        affinity: The processors to use.
        subject: What identifies what is compared.
    """

    def __init__(self, model: str = MODEL, *, affinity: str = "any", accept: Collection[str] = ()) -> None:
        """Blocks for a minute where the network was never converted.

        Args:
            model: A model that converts to `ARTIFACT`, or a ready .tflite file.
            affinity: The processors to use, as of any build.
            accept: Names of what stands against a stable figure here and is taken as it is.

        Raises:
            MissingTool: A converter, the runtime or a C compiler is not there.
        """
        self.device = find_device("host")
        self.affinity = affinity
        self._library = find_library(RUNTIME, target=host_target())
        self._model, self._accept = model, accept
        self._arms: dict[tuple[str, tuple[tuple[str, int], ...]], Arm] = {}
        self._one_at_a_time = threading.Lock()
        question = self.arm({}).question
        facts = self.device.facts()
        virtual = f", virtual machine ({facts.virtual_machine})" if facts.virtual_machine else ""
        self.subject = Subject(
            model=model,
            artifact_sha256=question.artifact.sha256,
            choice=question.choice,
            library_sha256=self._library.sha256,
            machine=f"{facts.cpu}, {facts.cores} cores, {facts.os}{virtual}",
            harness_version=harness.__version__,
            code_sha256=code_sha256(),
        )

    def arm(self, injected: Mapping[str, int], *, affinity: str | None = None) -> Arm:
        """A build of the runtime, ready for its first process, from any thread.

        Args:
            injected: What is built into the library, by the macros of its source.
            affinity: The processors to use; None: those of the rig.
        """
        with self._one_at_a_time:
            return self._arm(injected, affinity or self.affinity)

    def _arm(self, injected: Mapping[str, int], affinity: str) -> Arm:
        key = (affinity, tuple(sorted(injected.items())))
        if key not in self._arms:
            build = Build(
                said=f"{self._model} with {dict(injected) or 'nothing'} added",
                reference=self._model,
                artifact=None if self._model.endswith(".tflite") else ARTIFACT,
                runtime=SuiteRuntime(name=RUNTIME, driver="bench"),
                affinity=affinity,
                version=self._library.version,
                library=str(build_injected(self._library, injected)),
            )
            self._arms[key] = prepare(build, self.device, accept=self._accept).arm
        return self._arms[key]


def code_sha256() -> str:
    """The digest of what makes the values of a trial: the timed loop, what is put before it, trials, their ratios."""
    root = Path(harness.__file__).parent
    sources = [
        *(path for folder in ("bench", "injection") for path in (root / "deploy" / folder).glob("*.[ch]")),
        *(root / "measure" / "interleaved.py", root / "regress" / "trials.py", root / "regress" / "effect.py"),
    ]
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def open_campaign(
    folder: Path,
    rig: Rig,
    scenarios: Sequence[Scenario],
    *,
    trials: int = TRIALS,
    lanes: int = 1,
    seed: int | None = None,
) -> Campaign:
    """The campaign in a folder to go on with, or a new one.

    Args:
        folder: Where it is or will be.
        rig: What is compared.
        scenarios: Of a new one; one that is there keeps its own.
        trials: Of each comparison of a new one.
        lanes: Comparisons at once of a new one.
        seed: Of a new one; None draws it.

    Raises:
        UsageError: The one that is there compares something else, or on another machine; or that has fewer
            processors than the campaign has lanes.
    """
    if (folder / "plan.json").exists():
        campaign = Campaign.open(folder)
        require_same_subject(campaign.plan.subject, rig.subject)
        _affinities(rig, campaign.plan.lanes)
        return campaign
    _affinities(rig, lanes)  # before anything is measured
    drawn = secrets.randbelow(2**31) if seed is None else seed
    unchanged = rig.arm({})
    found = run_trials(unchanged, unchanged, rig.device, ComparePlan(trials=3, memory_trials=3, seed=drawn)).trials
    processes = [process for trial in found for process in (*trial.a, *trial.b)]
    peaks = [trial.a_memory.peak_bytes for trial in found if trial.a_memory is not None]
    plan = CampaignPlan(
        schema=CAMPAIGN_SCHEMA,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=drawn,
        scenarios=tuple(scenarios),
        trials=trials,
        lanes=lanes,
        subject=rig.subject,
        baseline_ns=statistics.median([statistics.median(samples_ns(process)) for process in processes]),
        baseline_cold_ns=statistics.median([p.load_ns + p.first_inference_ns for p in processes]),
        baseline_memory_bytes=round(statistics.median(peaks)),
    )
    return begin(folder, plan)


def comparers(
    rig: Rig, plan: CampaignPlan, *, halt: Halt | None = None, require: Callable[[], None] = lambda: None
) -> tuple[Comparisons, ...]:
    """What makes the comparisons of a campaign, one for each of its lanes.

    Args:
        rig: What is compared.
        plan: Of the campaign.
        halt: Ends what is under way when it stops.
        require: Raises LeaseLost where another run has taken the machine over.

    Raises:
        UsageError: The rig has fewer processors than that.
    """
    device = halting(rig.device, halt or Halt())
    affinities = _affinities(rig, plan.lanes)
    return tuple(Comparisons(rig, plan, device, affinity=affinity, require=require) for affinity in affinities)


def _affinities(rig: Rig, lanes: int) -> tuple[str | None, ...]:
    """Of each lane; None: whatever the rig uses, where there is no other lane to keep clear of."""
    if lanes == 1:
        return (None,)
    processors = single_processors(rig.device, rig.affinity)
    if len(processors) < lanes:
        found = count(len(processors), "processor", "processors")
        raise UsageError(
            f"{lanes} lanes need as many processors that a program can be confined to, and with the affinity "
            f"{rig.affinity!r} this machine has {found} of the kind"
        )
    return tuple(str(processor) for processor in processors[:lanes])


class Comparisons:
    """Makes comparisons on a rig; a `harness.regress.selftest.run.Comparer`. Made by `comparers`."""

    def __init__(
        self, rig: Rig, plan: CampaignPlan, device: Device, *, affinity: str | None, require: Callable[[], None]
    ) -> None:
        self._rig, self._plan, self._device = rig, plan, device
        self._affinity, self._require = affinity, require

    def __call__(self, scenario: Scenario, *, trials: int, seed: int) -> tuple[TrialValues, ...]:
        """The trials of one comparison; see `Comparer`."""
        b = injected(scenario, self._plan)
        a = b if scenario.kind in ON_BOTH else {}
        plan = ComparePlan(trials=trials, seed=seed, memory_trials=trials if scenario.metric == "memory" else 0)
        beside = None
        if scenario.kind == "neighbour":
            beside = _Neighbour(self._device, self._busy_commands(), after=trials // 2)
        with contextlib.nullcontext() if beside is None else beside:
            found = run_trials(
                self._rig.arm(a, affinity=self._affinity),
                self._rig.arm(b, affinity=self._affinity),
                self._device,
                plan,
                watch=(lambda _trial: None) if beside is None else beside.see,
            )
        self._require()  # another run on the machine would be in the values
        return tuple(values_of(trial) for trial in found.trials)

    def _busy_commands(self) -> tuple[tuple[str, ...], ...]:
        """Keep every processor of this lane busy, and no other lane's."""
        command = (sys.executable, "-c", _BUSY)
        if self._affinity is None:
            return (command,) * (self._device.facts().cores or 1)
        return (confined(command, (int(self._affinity),)),)


def injected(scenario: Scenario, plan: CampaignPlan) -> dict[str, int]:
    """What is built into the second build's library, by the macros of its source."""
    ns = round(scenario.dose * plan.baseline_ns)
    by_kind: dict[str, dict[str, int]] = {
        "aa": {},
        "neighbour": {},
        "spin": {"SPIN_NS": ns},
        "repeat": {"REPEAT_PPM": round(1e6 * scenario.dose)},
        "memory": {"MEMORY_BYTES": round(scenario.dose * (plan.baseline_memory_bytes or 0))},
        "cold": {"COLD_NS": round(scenario.dose * plan.baseline_cold_ns)},
        "bimodal": {"TRIPLE_EVERY": round(1 / BIMODAL_SHARE)},
        "ramp": {"RAMP_NS": ns, "PERIOD_NS": DRIFT_PERIOD_NS},
        "step": {"STEP_NS": ns, "PERIOD_NS": DRIFT_PERIOD_NS},
    }
    return by_kind[scenario.kind]


def values_of(trial: Trial) -> TrialValues:
    """What a campaign keeps of a trial."""
    log_ratios = {metric: trial_log_ratio(trial, metric) for metric in MARGINS if metric != "size"}
    return TrialValues(
        log_ratios={metric: value for metric, value in log_ratios.items() if value is not None},
        a_ns=_means(trial.a),
        b_ns=_means(trial.b),
    )


def _means(processes: Sequence[ProcessRecord]) -> tuple[int, ...]:
    """Means of consecutive times of one side, as many as are kept."""
    samples = [ns for process in processes for ns in samples_ns(process)]
    parts = np.array_split(np.asarray(samples), max(1, min(VALUES_A_PROCESS, len(samples))))
    return tuple(round(float(part.mean())) for part in parts if part.size)


class _Neighbour:
    """Programs that keep processors busy, from the middle of a trial in mid-run to the end of the last one."""

    def __init__(self, device: Device, commands: Sequence[tuple[str, ...]], *, after: int) -> None:
        self._device, self._commands, self._left = device, commands, after
        self._programs: list[RunningProgram] = []
        self._at = time.monotonic()
        self._timer: threading.Timer | None = None

    def see(self, _trial: Trial) -> None:
        """Count one trial; half a trial after the last of them that are to be quiet, begin."""
        self._left -= 1
        now = time.monotonic()
        if self._left == 0:
            self._timer = threading.Timer((now - self._at) / 2, self._begin)
            self._timer.start()
        self._at = now

    def _begin(self) -> None:
        for command in self._commands:
            self._programs.append(self._device.start(command, environment={}))

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        ended = [code for program in self._programs if (code := _ended(program)) is not None]
        for program in self._programs:
            program.end()
        if kind is None and (ended or not self._programs):
            # What was measured is a comparison with less of a neighbour, and would count as one with it.
            raise RunnerDied(self._device.id, self._commands[0], ended[0] if ended else 0, "")


def _ended(program: RunningProgram) -> int | None:
    try:
        return program.wait(timeout_s=0)
    except DeviceTimedOut:
        return None
