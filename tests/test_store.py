"""Runs on disk: whole or not there, alone or refused, old or named as too new."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from harness.errors import RunLocked, UnreadableRecord, UnwritableFolder
from harness.records import SCHEMA_VERSION, Plan
from harness.store import StoredRun, keep_accuracy, keep_run, latest_run, write_run
from tests.fakes import records


@pytest.fixture
def plan() -> Plan:
    return records.run([records.result(), records.result(precision="int8")]).plan


def test_what_is_saved_is_read_back_the_same(tmp_path: Path, plan: Plan) -> None:
    result = records.result()
    with write_run(tmp_path / "run", plan) as writer:
        writer.save(result)

    stored = StoredRun.open(tmp_path / "run")

    assert stored.plan == plan
    assert stored.results == (result,)
    assert [cell.precision for cell in stored.missing] == ["int8"]


def test_results_come_in_the_order_of_the_plan_and_not_of_the_folder(tmp_path: Path, plan: Plan) -> None:
    with write_run(tmp_path, plan) as writer:
        writer.save(records.result(precision="int8"))
        writer.save(records.result())

    assert [result.cell for result in StoredRun.open(tmp_path).results] == list(plan.cells)


def test_a_failure_and_a_cell_that_cannot_run_are_stored_like_any_other(tmp_path: Path, plan: Plan) -> None:
    results = (
        records.result(outcome=records.failure("conversion_failed")),
        records.result(precision="int8", outcome=records.not_runnable()),
    )
    with write_run(tmp_path, plan) as writer:
        for result in results:
            writer.save(result)

    assert StoredRun.open(tmp_path).results == results


def test_the_plan_is_there_before_the_first_cell(tmp_path: Path, plan: Plan) -> None:
    with write_run(tmp_path, plan):
        assert StoredRun.open(tmp_path).missing == plan.cells


def test_a_second_writer_in_the_same_folder_is_refused(tmp_path: Path, plan: Plan) -> None:
    with write_run(tmp_path, plan), pytest.raises(RunLocked, match="another `harness run`"), write_run(tmp_path):
        pass


def test_a_new_run_never_overwrites_one_that_is_there(tmp_path: Path, plan: Plan) -> None:
    with write_run(tmp_path, plan) as writer:
        writer.save(records.result())

    with pytest.raises(UnreadableRecord, match="--resume goes on with it"), write_run(tmp_path, plan):
        pass

    assert len(StoredRun.open(tmp_path).results) == 1


def test_a_killed_writer_leaves_no_lock_and_no_half_cell(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import pathlib, sys, time
        from harness.store import write_run
        from tests.fakes import records
        run = records.run([records.result(), records.result(precision="int8")])
        with write_run(pathlib.Path(sys.argv[1]), run.plan) as writer:
            writer.save(run.results[0])
            print("saved", flush=True)
            time.sleep(60)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "saved\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()

    with write_run(tmp_path):
        stored = StoredRun.open(tmp_path)

    assert len(stored.results) == 1
    assert len(stored.missing) == 1


def test_a_folder_without_a_run_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(UnreadableRecord, match="there is no run here"):
        StoredRun.open(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"schema": "one"}', b'{"schema": 1}', b"\xff\xfe"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plan.json").write_bytes(content)

    with pytest.raises(UnreadableRecord, match=r"plan\.json"):
        StoredRun.open(tmp_path)


def test_a_run_of_a_newer_version_is_refused_with_both_versions(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({"schema": SCHEMA_VERSION + 1}))

    with pytest.raises(UnreadableRecord, match=rf"schema {SCHEMA_VERSION + 1}.*reads up to {SCHEMA_VERSION}"):
        StoredRun.open(tmp_path)


def test_a_field_that_this_version_does_not_know_is_damage_and_not_ignored(tmp_path: Path, plan: Plan) -> None:
    with write_run(tmp_path, plan):
        pass
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"surprise": 1}))

    with pytest.raises(UnreadableRecord, match="surprise"):
        StoredRun.open(tmp_path)


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path, plan: Plan) -> None:
    (tmp_path / "file").write_text("")

    for folder in (tmp_path / "file" / "run", Path("/proc/run")):
        with pytest.raises(UnwritableFolder, match=rf"{folder}.*cannot be written"), write_run(folder, plan):
            pass


def test_the_latest_run_is_the_one_planned_last(tmp_path: Path) -> None:
    for name, when in (("b", "2026-01-01T00:00:00+00:00"), ("a", "2026-06-01T00:00:00+00:00")):
        plan = records.run([records.result()], folder=tmp_path / name).plan
        with write_run(
            tmp_path / name, Plan(**{f: getattr(plan, f) for f in plan.__struct_fields__} | {"created_at": when})
        ):
            pass

    assert latest_run(tmp_path) == tmp_path / "a"


def test_without_a_run_there_is_no_latest(tmp_path: Path) -> None:
    assert latest_run(tmp_path) is None


def test_an_accuracy_is_read_back_with_the_run_by_the_digest_of_its_file(tmp_path: Path, plan: Plan) -> None:
    with write_run(tmp_path / "run", plan) as writer:
        writer.save(records.result())
    first, later = records.accuracy(0.05), records.accuracy(0.04)

    keep_accuracy(first, tmp_path / "run")
    keep_accuracy(later, tmp_path / "run")

    assert StoredRun.open(tmp_path / "run").accuracies == {later.file_sha256: later}


def test_a_run_without_accuracies_has_none(tmp_path: Path, plan: Plan) -> None:
    with write_run(tmp_path / "run", plan):
        pass

    assert StoredRun.open(tmp_path / "run").accuracies == {}


def test_a_damaged_accuracy_is_named(tmp_path: Path, plan: Plan) -> None:
    with write_run(tmp_path / "run", plan):
        pass
    keep_accuracy(records.accuracy(), tmp_path / "run")
    (path,) = (tmp_path / "run/accuracy").iterdir()
    path.write_text('{"schema": 1', encoding="utf-8")

    with pytest.raises(UnreadableRecord, match=path.name):
        StoredRun.open(tmp_path / "run")


def test_a_kept_run_has_its_accuracies_and_no_others(tmp_path: Path) -> None:
    result = records.result()
    with write_run(tmp_path / "run", records.run([result]).plan) as writer:
        writer.save(result)
    accuracy = records.accuracy()
    keep_accuracy(accuracy, tmp_path / "run")
    keep_accuracy(records.accuracy(sha256="00" * 32), tmp_path / "kept")

    keep_run(StoredRun.open(tmp_path / "run"), tmp_path / "kept")

    assert StoredRun.open(tmp_path / "kept").accuracies == {accuracy.file_sha256: accuracy}
