"""Two builds in turn, with real processes on this machine and a network that takes no time."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from harness.comparison import Build, Pair, build_at, compare, gate_pairs, parse_build, prepare, prepare_pairs
from harness.device.host import HostDevice
from harness.device.registry import find_device
from harness.errors import Incomparable, RunnerDied, RunnerHung, RunnerUnreadable, UsageError
from harness.measure.interleaved import _turns, run_trials
from harness.records import ComparePlan, SuiteRuntime
from harness.regress.decision import MARGINS, FamilyRule
from harness.regress.trials import findings
from tests.fakes.models import dense_weight, save_dense_onnx

if TYPE_CHECKING:
    from pathlib import Path

    from harness.comparison import Ready
    from harness.device.device import Device
    from harness.records import Comparison, DeviceFacts

PLAN = ComparePlan(
    trials=7,
    turns=2,
    block_s=0.002,
    warmup_s=0.0,
    warmup_cap_s=0.05,
    memory_trials=1,
    memory_iterations=2,
    timeout_s=60,
)


@pytest.fixture(scope="module")
def device() -> Device:
    return find_device("host")


@pytest.fixture(scope="module")
def ready(device: Device, tmp_path_factory: pytest.TempPathFactory) -> Ready:
    return prepare(parse_build(str(save_dense_onnx(tmp_path_factory.mktemp("model") / "dense.onnx"))), device)


# --- trials ---------------------------------------------------------------------------------------------------------


def test_the_blocks_of_a_trial_are_run_in_the_order_that_its_record_says(ready: Ready, device: Device) -> None:
    found = run_trials(ready.arm, ready.arm, device, msgspec.structs.replace(PLAN, trials=2))

    for trial in found.trials:
        (a,), (b,) = trial.a, trial.b
        # One clock of this machine for both processes.
        blocks = sorted([(block.start_ns, "A") for block in a.blocks] + [(block.start_ns, "B") for block in b.blocks])
        assert "".join(name for _, name in blocks) == trial.order
        assert len(trial.order) == 4 * PLAN.turns
        assert trial.processor in os.sched_getaffinity(0)
        assert all(trial.order[start : start + 4] in {"ABBA", "BAAB"} for start in range(0, len(trial.order), 4))
        assert trial.how == "alive together"
    assert [trial.a_memory is not None for trial in found.trials] == [True, False]


def test_the_seed_decides_every_order(ready: Ready, device: Device) -> None:
    plan = msgspec.structs.replace(PLAN, trials=2, memory_trials=0, seed=5)
    orders = [[trial.order for trial in run_trials(ready.arm, ready.arm, device, plan).trials] for _ in range(2)]

    assert orders[0] == orders[1]
    assert orders[0][0] != orders[0][1] or plan.turns == 1


def test_programs_of_several_threads_are_left_where_they_were(tmp_path: Path, device: Device) -> None:
    file = str(save_dense_onnx(tmp_path / "a.onnx"))
    two = prepare(parse_build(f"{file},threads=2"), device)
    one = prepare(parse_build(file), device)

    for a, b in ((two, two), (one, two)):
        (trial,) = run_trials(a.arm, b.arm, device, msgspec.structs.replace(PLAN, trials=1)).trials
        assert trial.processor is None


@pytest.mark.parametrize(("inference_ms", "turns"), [(0.2, 10), (30.0, 5), (300.0, 4), (5.0, 10)])
def test_a_slow_network_gets_fewer_turns_for_the_time_of_a_trial(inference_ms: float, turns: int) -> None:
    cold_and_warm = [int(9e9)] * 3 + [int(inference_ms * 1e6)] * 4

    assert _turns(ComparePlan(), [cold_and_warm, [int(1e5)] * 5]) == turns


def test_where_two_cannot_be_told_whole_processes_take_turns(ready: Ready, device: Device) -> None:
    arm = dataclasses.replace(ready.arm, can_serve=False)

    (trial,) = run_trials(arm, ready.arm, device, msgspec.structs.replace(PLAN, trials=1, memory_trials=0)).trials

    assert trial.how == "whole processes"
    assert trial.order in {"ABBA", "BAAB"}
    assert (len(trial.a), len(trial.b)) == (2, 2)
    assert all(len(process.blocks) == PLAN.process_blocks for process in (*trial.a, *trial.b))
    began = sorted((process.at, name) for name, side in (("A", trial.a), ("B", trial.b)) for process in side)
    assert "".join(name for _, name in began) == trial.order


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("exit 3", RunnerDied),
        ("kill -9 $$", RunnerDied),
        ("exec sleep 60", RunnerHung),
        ('echo \'{"type": "nonsense"}\'; exec sleep 60', RunnerUnreadable),
    ],
)
def test_a_program_that_does_not_say_what_it_should_is_an_error_and_no_trial(
    ready: Ready, device: Device, script: str, error: type[Exception]
) -> None:
    arm = dataclasses.replace(ready.arm, command=("/bin/sh", "-c", script))

    with pytest.raises(error):
        run_trials(ready.arm, arm, device, msgspec.structs.replace(PLAN, trials=1, timeout_s=2))


# --- from names to a comparison -------------------------------------------------------------------------------------


def test_a_build_that_is_held_against_itself_is_stored_whole(ready: Ready, device: Device) -> None:
    seen: list[int] = []
    compared = compare(ready, ready, device, PLAN, watch=lambda trial: seen.append(trial.index))

    assert seen == list(range(7))
    assert msgspec.json.decode(msgspec.json.encode(compared), type=type(compared)) == compared
    found = {finding.metric: finding for finding in findings(compared)}
    assert found["size"].verdict == "pass"
    assert len(found["p50"].values) + found["p50"].disturbed == 7


def test_a_much_slower_build_is_a_regression_of_the_family_and_an_identical_one_is_none(
    device: Device, tmp_path: Path
) -> None:
    small = str(save_dense_onnx(tmp_path / "small.onnx", dense_weight()))
    large = str(save_dense_onnx(tmp_path / "large.onnx", np.ones((40_000, 4), dtype=np.float32), features=40_000))
    builds = [(parse_build(small), parse_build(large)), (parse_build(small), parse_build(small))]
    with pytest.raises(Incomparable, match="model-inputs"):
        prepare_pairs(builds, device)
    pairs, broken = prepare_pairs(builds, device, accept=["model-inputs"])

    cells = gate_pairs(pairs, device, PLAN, lambda _cell: MARGINS, rule=FamilyRule(screen_trials=7, confirm_trials=7))

    assert broken == ()
    slower, same = ({finding.metric: finding.verdict for finding in cell.findings} for cell in cells)
    assert slower["p50"] == slower["size"] == "regression"
    assert same["p50"] != "regression"
    assert same["size"] == "pass"
    assert cells[0].levels["p50"].b > cells[0].levels["p50"].a > 0
    assert set(cells[1].levels) == {finding.metric for finding in cells[1].findings}


def test_two_cells_of_one_name_are_refused_and_not_told_as_one(device: Device, tmp_path: Path) -> None:
    file = str(save_dense_onnx(tmp_path / "a.onnx"))
    builds = [
        (parse_build(file, {"threads": threads}), parse_build(f"{file},threads=2", {"threads": threads}))
        for threads in ("1", "2")
    ]

    with pytest.raises(UsageError, match="two of the cells are one"):
        prepare_pairs(builds, device)


class EmulatedHost(HostDevice):
    """This machine, that takes itself for an emulated one."""

    def facts(self) -> DeviceFacts:
        return msgspec.structs.replace(super().facts(), device_class="emulated")


def test_no_time_of_an_emulated_device_is_judged_however_often_it_is_taken(tmp_path: Path) -> None:
    device = EmulatedHost()
    small = str(save_dense_onnx(tmp_path / "small.onnx", dense_weight()))
    large = str(save_dense_onnx(tmp_path / "large.onnx", np.ones((40_000, 4), dtype=np.float32), features=40_000))
    pairs, _ = prepare_pairs([(parse_build(small), parse_build(large))], device, accept=["model-inputs", "emulated"])
    stages: list[str] = []

    (cell,) = gate_pairs(
        pairs,
        device,
        PLAN,
        lambda _cell: MARGINS,
        rule=FamilyRule(screen_trials=7, confirm_trials=7),
        keep=lambda _name, stage, _compared: stages.append(stage),
    )

    verdicts = {finding.metric: finding.verdict for finding in cell.findings}
    assert verdicts["p50"] == verdicts["p90"] == verdicts["cold_start"] == "inconclusive"
    assert verdicts["size"] == "regression"


def test_a_build_that_cannot_be_made_is_a_broken_cell_and_no_pass(device: Device, tmp_path: Path) -> None:
    good = save_dense_onnx(tmp_path / "good.onnx")
    (tmp_path / "cut.onnx").write_bytes(good.read_bytes()[:60])

    pairs, (broken,) = prepare_pairs([(parse_build(str(good)), parse_build(str(tmp_path / "cut.onnx")))], device)

    assert pairs == ()
    assert broken.status == "broken"
    assert "cut.onnx" in broken.problem


def test_an_a_that_crashes_is_no_verdict_on_b(device: Device, ready: Ready) -> None:
    crashing = dataclasses.replace(ready, arm=dataclasses.replace(ready.arm, command=("sh", "-c", "kill -SEGV $$")))

    with pytest.raises(RunnerDied, match="SIGSEGV") as caught:
        gate_pairs([Pair(name="a", a=crashing, b=ready)], device, PLAN, lambda _cell: MARGINS, rule=FamilyRule())

    assert caught.value.build == "A"


def test_a_build_that_breaks_when_it_is_measured_again_is_a_broken_cell_and_the_others_are_judged(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = str(save_dense_onnx(tmp_path / "small.onnx", dense_weight()))
    large = str(save_dense_onnx(tmp_path / "large.onnx", np.ones((40_000, 4), dtype=np.float32), features=40_000))
    builds = [(parse_build(small), parse_build(large)), (parse_build(small), parse_build(small))]
    pairs, _ = prepare_pairs(builds, device, accept=["model-inputs"])
    kept: list[tuple[str, str, int]] = []

    def breaks_later(a: Ready, b: Ready, *rest: Any, **more: Any) -> Comparison:
        crashing = dataclasses.replace(b, arm=dataclasses.replace(b.arm, command=("sh", "-c", "kill -SEGV $$")))
        return compare(a, crashing if b is pairs[0].b and kept else b, *rest, **more)

    monkeypatch.setattr("harness.comparison.compare", breaks_later)
    cells = gate_pairs(
        pairs,
        device,
        PLAN,
        lambda _cell: MARGINS,
        rule=FamilyRule(screen_trials=7, confirm_trials=8),
        keep=lambda name, stage, compared: kept.append((name, stage, len(compared.trials))),
    )

    assert [cell.status for cell in cells] == ["broken", "compared"]
    assert "SIGSEGV" in cells[0].problem
    assert kept[:2] == [(pairs[0].name, "screening", 7), (pairs[1].name, "screening", 7)]
    assert all(trials == 8 for _, stage, trials in kept if stage == "confirmation")


def test_what_is_said_of_a_build_overrides_what_is_said_of_both() -> None:
    shared = {"artifact": "onnx/fp32", "threads": "2"}

    found = parse_build("net,threads=4,affinity=0-1,runtime=onnxruntime,graph_optimization=basic,x=true", shared)
    assert found.affinity == "0-1"

    assert (found.reference, found.artifact, found.threads) == ("net", "onnx/fp32", 4)
    assert found.runtime == SuiteRuntime(name="onnxruntime", graph_optimization="basic", options={"x": True})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("net,threads", "KEY=VALUE"),
        ("net,threads=0", "from 1 on"),
        ("net,accelerator=xnnpack", "name the runtime"),
        ("net,runtime=onnxruntime,driver=magic", "driver"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        parse_build(text)


# --- the files of another commit ------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One commit with one weight; the working tree has another."""
    save_dense_onnx(tmp_path / "net.onnx", dense_weight(0))
    git = shutil.which("git")
    assert git is not None
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    for words in (("init", "-q"), ("add", "net.onnx"), (*identity, "commit", "-qm", "one")):
        subprocess.run([git, *words], cwd=tmp_path, check=True)
    save_dense_onnx(tmp_path / "net.onnx", dense_weight(1))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_build_from_a_commit_has_the_file_of_then_and_leaves_that_of_now(repository: Path) -> None:
    now = (repository / "net.onnx").read_bytes()

    then = build_at(parse_build("net.onnx"), "HEAD")

    assert then.said == "net.onnx at HEAD"
    with open(then.reference, "rb") as file:  # noqa: PTH123  (a name, as the user would have said it)
        assert file.read() != now
    assert (repository / "net.onnx").read_bytes() == now


@pytest.mark.parametrize(
    ("reference", "ref", "problem"),
    [
        ("net.onnx", "nowhere", "no such commit"),
        ("other.onnx", "HEAD", "did not exist"),
        ("mobilenet_v2", "HEAD", "part of this program"),
        ("net.onnx", "--output=x", "no such commit"),
    ],
)
def test_what_a_commit_does_not_have_is_refused(repository: Path, reference: str, ref: str, problem: str) -> None:
    save_dense_onnx(repository / "other.onnx")

    with pytest.raises(UsageError, match=problem):
        build_at(Build(said=reference, reference=reference), ref)
