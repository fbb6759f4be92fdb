"""`harness compare`, `gate` and `calibrate` as a user or a CI job runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.device.host import HostDevice
from harness.device.lease import Lease, leased
from harness.device.profile import Noise, keep_noise, noise_of
from harness.errors import LeaseLost
from harness.store import StoredRun, write_run
from tests.fakes import records
from tests.fakes.models import save_dense_onnx

if TYPE_CHECKING:
    from harness.records import CellResult

ROOT = Path(__file__).parents[1]


def harness(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "GITHUB_ACTIONS": ""} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def stored(folder: Path, *results: CellResult) -> str:
    with write_run(folder, records.run(results, folder=folder).plan) as writer:
        for result in results:
            writer.save(result)
    return str(folder)


def test_two_runs_with_other_threads_are_refused_by_name_and_compared_when_that_is_accepted(tmp_path: Path) -> None:
    one = stored(tmp_path / "one", records.result(threads=1))
    two = stored(tmp_path / "two", records.result(threads=2))

    refused = harness("compare", one, two, folder=tmp_path)
    accepted = harness("compare", one, two, "--accept", "threads", folder=tmp_path)

    assert refused.returncode == 2
    assert "threads: 1 | 2" in refused.stdout
    assert "--accept threads" in refused.stderr
    assert accepted.returncode == 0
    assert "what changed on the device meanwhile" in accepted.stderr
    assert max(map(len, accepted.stdout.splitlines())) <= 80
    assert accepted.stdout.startswith("mobilenet_v2 onnx/fp32, 2 threads: ")
    assert accepted.stdout.splitlines()[-2].startswith("1 comparison: 1 ")
    assert "Worst change of p50: " in accepted.stdout


def test_a_gate_against_a_baseline_leaves_files_and_a_code_for_ci(tmp_path: Path) -> None:
    base = stored(tmp_path / "base", records.result(p50_ms=10))
    slow = stored(tmp_path / "slow", records.result(p50_ms=12))
    summary = tmp_path / "summary.md"

    failed = harness(
        *("gate", slow, "--baseline", base, "--junit", "gate.xml", "--comment", "gate.md", "--format", "json"),
        *("--page", "gate.html"),
        folder=tmp_path,
        GITHUB_ACTIONS="true",
        GITHUB_STEP_SUMMARY=str(summary),
    )
    passed = harness("gate", base, "--baseline", base, folder=tmp_path)

    assert failed.returncode == 1
    assert json.loads(failed.stdout)["result"] == "failed"
    assert "::error title=" in failed.stderr
    assert "<failure" in (tmp_path / "gate.xml").read_text(encoding="utf-8")
    assert (tmp_path / "gate.md").read_text(encoding="utf-8") == summary.read_text(encoding="utf-8")
    page = (tmp_path / "gate.html").read_text(encoding="utf-8")
    assert ">regression</td>" in page
    assert "bench-01 (AMD EPYC 7763, Debian GNU/Linux 13) at 2026-11-" in page, "a page says on what and when"
    assert '"trial_ratios"' in page
    p50 = json.loads(failed.stdout)["cells"][0]["findings"][0]
    assert (p50["unit"], p50["a"], p50["b"]) == ("ns", pytest.approx(10e6, rel=0.01), pytest.approx(12e6, rel=0.01))
    assert p50["confidence"] == 0.995
    assert ">99.5 % interval, %</button>" in page
    assert ">12.1 ms</td>" in page
    assert passed.returncode == 0
    assert "gate passed" in passed.stderr


@pytest.mark.parametrize("asked", [("gate", "B", "--baseline", "A"), ("compare", "A", "B")], ids=["gate", "compare"])
def test_a_page_that_cannot_be_written_takes_no_verdict_with_it(tmp_path: Path, asked: tuple[str, ...]) -> None:
    stored(tmp_path / "A", records.result(p50_ms=10))
    stored(tmp_path / "B", records.result(p50_ms=12))
    (tmp_path / "a-file").write_text("")

    done = harness(*asked, "--page", "a-file/page.html", folder=tmp_path)

    assert done.returncode == 2
    assert "regression" in done.stdout
    assert "error: a-file/page.html cannot be written" in done.stderr


def test_a_run_that_was_cut_off_does_not_pass_for_what_it_measured(tmp_path: Path) -> None:
    base = stored(tmp_path / "base", records.result(), records.result(threads=2))
    cut = records.run([records.result()], folder=tmp_path / "cut", missing=[records.cell(threads=2)])
    with write_run(tmp_path / "cut", cut.plan) as writer:
        writer.save(cut.results[0])

    done = harness("gate", str(tmp_path / "cut"), "--baseline", base, folder=tmp_path)

    assert done.returncode == 2
    assert "1 of 2 cells are missing; --resume it first" in done.stderr


def test_an_update_shows_what_it_changes_and_the_new_baseline_then_passes(tmp_path: Path) -> None:
    base = stored(tmp_path / "base", records.result(p50_ms=10), records.result(model="old"))
    slow = stored(tmp_path / "slow", records.result(p50_ms=12))

    updated = harness("gate", slow, "--baseline", base, "--update", folder=tmp_path)

    assert updated.returncode == 0
    assert "regression" in updated.stdout
    assert "baseline changed" in updated.stderr
    assert "without " in updated.stderr, "a cell that is compared no more is named"
    assert len(StoredRun.open(base).results) == 1
    assert harness("gate", slow, "--baseline", base, folder=tmp_path).returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("gate", "x"),
        ("gate", "x", "--against", "y", "--ref", "z"),
        ("gate", "x", "--against", "y", "--update"),
        ("gate", "x", "--baseline", "nowhere", "--inconclusive", "maybe"),
        ("gate", "x", "--baseline", "nowhere", "--output", "kept"),
        ("compare", "x", "y", "--margin", "p50"),
        ("compare", "x", "y", "--accept", "threads"),
    ],
)
def test_what_cannot_be_meant_leaves_with_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert harness(*arguments, folder=tmp_path).returncode == 2


def test_two_builds_are_announced_compared_and_kept(tmp_path: Path) -> None:
    save_dense_onnx(tmp_path / "a.onnx")
    save_dense_onnx(tmp_path / "b.onnx")

    done = harness("compare", "a.onnx", "b.onnx", "--trials", "7", "-o", "kept.json", folder=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "is found in 9 of 10 comparisons" in done.stderr
    assert "file size +0.00 % exact 0.5 % pass" in " ".join(done.stdout.split())
    assert len(json.loads((tmp_path / "kept.json").read_text(encoding="utf-8"))["trials"]) == 7


def test_a_gate_keeps_the_trials_that_it_was_decided_by(tmp_path: Path) -> None:
    save_dense_onnx(tmp_path / "a.onnx")
    save_dense_onnx(tmp_path / "b.onnx")
    (tmp_path / "gate.toml").write_text(
        "[margins]\np50_pct = 200\np90_pct = 900\ncold_start_pct = 900\nmemory_pct = 100\n"
        '[[cells]]\nmatch = "*_int9_*"\nmargins = { p50_pct = 1 }\n',
        encoding="utf-8",
    )

    done = harness(
        *("gate", "b.onnx", "--against", "a.onnx", "--screen-trials", "7", "--confirm-trials", "7", "-o", "kept"),
        folder=tmp_path,
    )

    assert done.returncode == 0, done.stderr
    assert "1 cell: 7 trials, 7 fresh ones where these leave it open; some " in done.stderr
    assert "No cell is called '*_int9_*'" in done.stderr
    (screened,) = (tmp_path / "kept").glob("*-screening.json")
    assert len(json.loads(screened.read_text(encoding="utf-8"))["trials"]) == 7
    assert "kept the trials in kept" in done.stderr


def test_a_build_that_does_not_run_is_a_failure_with_all_its_files(tmp_path: Path) -> None:
    save_dense_onnx(tmp_path / "a.onnx")
    (tmp_path / "libnot.so").write_bytes(b"no library")

    done = harness(
        *("gate", "a.onnx,library=libnot.so", "--against", "a.onnx", "--junit", "gate.xml", "--comment", "gate.md"),
        folder=tmp_path,
    )

    assert done.returncode == 1, done.stdout + done.stderr
    assert "nobody knows how long this takes" in done.stderr
    assert "<failure" in (tmp_path / "gate.xml").read_text(encoding="utf-8")
    assert "fails now" in (tmp_path / "gate.md").read_text(encoding="utf-8")


def test_what_would_switch_a_gate_off_is_no_baseline(tmp_path: Path) -> None:
    base = stored(tmp_path / "base", records.result())
    failing = stored(tmp_path / "failing", records.result(outcome=records.failure()))
    other = stored(tmp_path / "other", records.result(threads=2))

    refused = harness("gate", failing, "--baseline", base, "--update", folder=tmp_path)
    unlike = harness("gate", other, "--baseline", base, "--update", folder=tmp_path)
    before = (tmp_path / "base" / "plan.json").read_bytes()
    taken = harness("gate", other, "--baseline", base, "--update", "--accept", "threads", folder=tmp_path)

    assert refused.returncode == 2
    assert "is no baseline" in refused.stderr
    assert unlike.returncode == 2
    assert "--accept threads" in unlike.stderr
    assert taken.returncode == 0, taken.stderr
    assert (tmp_path / "base" / "plan.json").read_bytes() != before


TINY = str(ROOT / "tests" / "data" / "tiny.tflite")


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "a.onnx", "a.onnx"),
        ("gate", "a.onnx", "--against", "a.onnx"),
        ("calibrate", "host", "--model", "a.onnx", "--artifact", "source"),
        ("selftest", "aa", "--comparisons", "1", "--model", TINY),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_device_that_another_run_has_is_not_measured_beside_it(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    save_dense_onnx(tmp_path / "a.onnx")
    with leased((HostDevice(),), "the nightly run"):
        done = harness(*arguments, folder=tmp_path)

    assert done.returncode == 3, done.stdout + done.stderr
    assert "the nightly run" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "a.onnx", "a.onnx", "--trials", "7"),
        ("gate", "a.onnx", "--against", "a.onnx"),
        ("calibrate", "host", "--model", "a.onnx", "--artifact", "source", "--trials", "7"),
        ("selftest", "aa", "--comparisons", "1", "--trials", "10", "--model", TINY),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_device_that_another_run_has_taken_over_gives_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    def lost(_self: Lease, device_id: str) -> None:
        raise LeaseLost(device_id, "the nightly run")

    save_dense_onnx(tmp_path / "a.onnx")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Lease, "require", lost)

    done = CliRunner().invoke(app, arguments)

    assert isinstance(done.exception, LeaseLost), done.output


def test_a_calibration_is_in_the_devices_profile_and_counts_on_this_processor_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_dense_onnx(tmp_path / "a.onnx")
    (tmp_path / "device_profiles").mkdir()
    monkeypatch.chdir(tmp_path)

    done = harness(
        *("calibrate", "host", "--model", "a.onnx", "--artifact", "source", "--trials", "7", "--format", "json"),
        folder=tmp_path,
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    facts = records.device(id="host", cpu=found["noise"]["cpu"])
    noise = noise_of(facts)
    assert noise is not None
    assert noise.p50_pct == found["noise"]["p50_pct"]
    assert noise_of(records.device(id="host", cpu="Another")) is None
    assert found["detectable"][0]["slowdown_pct"] > found["detectable"][-1]["slowdown_pct"]


def test_a_second_calibration_replaces_the_first_and_nothing_else(tmp_path: Path) -> None:
    facts = records.device(id="host")
    noise = Noise(cpu="C", p50_pct=1.5, trial_s=2.0, trials=40, model="m", measured_at="2026-11-23T08:15:00+00:00")
    path = keep_noise(facts, noise, tmp_path)
    first = path.read_text(encoding="utf-8")

    keep_noise(facts, noise, tmp_path)

    assert path.read_text(encoding="utf-8") == first
    assert first.count("[noise]") == 1
    assert "The machine that the harness runs on" in first
