"""Comparisons of a campaign on the real runtime, with what is injected known."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import psutil
import pytest

from harness import selftest
from harness.device.hold import confined, single_processors
from harness.device.host import HostDevice
from harness.errors import RunnerDied, UsageError
from harness.regress.selftest.campaign import Campaign
from harness.regress.selftest.run import carry_on
from harness.regress.selftest.scenario import Scenario, aa_scenarios, power_scenarios
from harness.selftest import Rig, comparers, injected, open_campaign

if TYPE_CHECKING:
    from harness.device.device import RunningProgram
    from harness.records import Trial

TINY = Path(__file__).parent / "data" / "tiny.tflite"


@pytest.fixture(scope="module")
def rig() -> Rig:
    return Rig(str(TINY))


@pytest.fixture(scope="module")
def campaign(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """Three comparisons: a build that takes half as long again, one with more memory, and both slower at once."""
    scenarios = (
        Scenario(kind="spin", dose=0.5, metric="p50", comparisons=1),
        Scenario(kind="memory", dose=0.5, metric="memory", comparisons=1),
        Scenario(kind="step", dose=0.5, metric="p50", comparisons=1),
    )
    folder = tmp_path_factory.mktemp("campaign")
    begun = open_campaign(folder, rig, scenarios, trials=5, seed=1)
    assert carry_on(begun, comparers(rig, begun.plan)) == 3
    return Campaign.open(folder)


def found(campaign: Campaign, kind: str) -> float:
    """The median log ratio of the scenario's metric."""
    (one,) = [done for done in campaign.done if campaign.plan.scenarios[campaign.plan.order[done.index]].kind == kind]
    metric = next(scenario.metric for scenario in campaign.plan.scenarios if scenario.kind == kind)
    return float(np.median([trial.log_ratios[metric] for trial in one.trials if metric in trial.log_ratios]))


def test_what_is_injected_is_found(campaign: Campaign) -> None:
    # A fixed time was added, a share of what an inference took when the campaign was planned: beside other tests, that
    # may be another than what it takes in the comparison.
    (spun,) = [one for one in campaign.done if campaign.plan.scenarios[campaign.plan.order[one.index]].kind == "spin"]
    unchanged_ns = float(np.median([ns for trial in spun.trials for ns in trial.a_ns]))
    expected = math.log1p(0.5 * campaign.plan.baseline_ns / unchanged_ns)
    assert found(campaign, "spin") == pytest.approx(expected, abs=0.25)
    assert found(campaign, "memory") == pytest.approx(math.log(1.5), abs=0.1)


def test_what_slows_both_builds_is_in_no_ratio(campaign: Campaign) -> None:
    assert abs(found(campaign, "step")) < 0.2


def test_every_trial_keeps_the_times_that_other_rules_judge_by(campaign: Campaign) -> None:
    assert {len(side) for done in campaign.done for trial in done.trials for side in (trial.a_ns, trial.b_ns)} == {24}


def test_a_campaign_goes_on_only_with_what_it_began_with(campaign: Campaign, rig: Rig, tmp_path: Path) -> None:
    assert open_campaign(campaign.folder, rig, aa_scenarios(5)).plan == campaign.plan
    other = Rig(str(TINY.with_name("tiny_int8.tflite")))

    with pytest.raises(UsageError, match="artifact_sha256"):
        open_campaign(campaign.folder, other, aa_scenarios(5))


def test_every_scenario_has_its_injection(campaign: Campaign) -> None:
    by_kind = {scenario.kind: injected(scenario, campaign.plan) for scenario in (*aa_scenarios(1), *power_scenarios(1))}

    assert by_kind.pop("aa") == by_kind.pop("neighbour") == {}
    assert all(by_kind.values())
    assert len({str(made) for made in by_kind.values()}) == len(by_kind)


NEIGHBOUR = Scenario(kind="neighbour", dose=0.0, metric="p50", comparisons=1)


def neighbours_of(monkeypatch: pytest.MonkeyPatch) -> list[RunningProgram]:
    """What was started as a neighbour from now on."""
    started: list[RunningProgram] = []
    start = HostDevice.start

    def counting(self: HostDevice, command: tuple[str, ...], **more: Any) -> RunningProgram:
        program = start(self, command, **more)
        if command[-1] == selftest._BUSY:
            started.append(program)
        return program

    monkeypatch.setattr(HostDevice, "start", counting)
    return started


def test_a_neighbour_loads_every_processor_from_mid_run_and_is_gone_afterwards(
    campaign: Campaign, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = neighbours_of(monkeypatch)
    before: list[int] = []
    see = selftest._Neighbour.see

    def watched(self: selftest._Neighbour, trial: Trial) -> None:
        before.append(len(started))
        see(self, trial)

    monkeypatch.setattr(selftest._Neighbour, "see", watched)

    values = comparers(rig, campaign.plan)[0](NEIGHBOUR, trials=8, seed=1)

    assert len(values) == 8
    assert before[:4] == [0] * 4, "the first half is quiet"
    assert len(started) == rig.device.facts().cores
    assert all(program.wait(timeout_s=5) != 0 for program in started)


def test_a_comparison_whose_neighbour_died_does_not_count(
    campaign: Campaign, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "_BUSY", "pass")

    with pytest.raises(RunnerDied):
        comparers(rig, campaign.plan)[0](NEIGHBOUR, trials=8, seed=1)


def test_each_lane_has_a_processor_of_its_own_for_its_builds_and_its_neighbour(
    campaign: Campaign, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = neighbours_of(monkeypatch)
    first, second = comparers(rig, msgspec.structs.replace(campaign.plan, lanes=2))

    with ThreadPoolExecutor() as pool:
        both = [pool.submit(lane, NEIGHBOUR, trials=4, seed=1) for lane in (first, second)]
        assert [len(one.result()) for one in both] == [4, 4]

    ours = single_processors(rig.device, "any")[:2]
    assert {program.argv for program in started} == {
        confined((sys.executable, "-c", selftest._BUSY), (number,)) for number in ours
    }
    used = {rig.arm({}, affinity=lane._affinity).question.choice.affinity for lane in (first, second)}
    assert used == {str(number) for number in ours}
    assert rig.subject.choice.affinity == "any", "what is compared is the same in every lane"


def test_more_lanes_than_processors_are_refused_before_anything_is_measured(rig: Rig, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1000 lanes need as many processors"):
        open_campaign(tmp_path, rig, aa_scenarios(1), lanes=1000)
    assert not list(tmp_path.iterdir())


def test_ctrl_c_ends_every_lane_and_the_same_command_goes_on(tmp_path: Path) -> None:
    options = ("--comparisons", "50", "--trials", "10", "--lanes", "2", "--model", str(TINY), "--output", "made")
    command = [sys.executable, "-m", "harness", "selftest", "aa", *options]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    told = []
    for line in process.stderr:
        told.append(line)
        if " left, some " in line:
            break
    programs = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)

    assert process.returncode == 130, "".join(told) + said
    assert "the same command goes on" in said
    _, alive = psutil.wait_procs(programs, timeout=10)
    assert not alive
    stored = Campaign.open(tmp_path / "made")
    assert 0 < len(stored.done) < 50
    assert not stored.damaged

    done = subprocess.run([*command, "--hours", "0"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(stored.done):,} comparisons are there" in done.stderr
    assert "2 at a time, each on a processor of its own" in " ".join(done.stdout.split())
