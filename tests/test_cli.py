"""The commands as a user runs them: real processes, real runtimes, on models that take no time."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from harness import store
from harness.device.lease import leased
from harness.device.registry import find_device
from harness.records import Failure, Measurement
from harness.regress.history.revision import own_commit
from tests.fakes.models import save_dense_onnx

QUICK = """
schema = 1
name = "tiny"
models = [{models}]
artifacts = ["source"]
threads = [{threads}]

[measure]
processes_min = 2
processes_max = 2
blocks = 2
block_s = {block_s}
warmup_s = 0.01
warmup_cap_s = 0.5
"""
WAIT_S = 60


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Where the user works: two good models, one that answers NaN, one that is cut off."""
    save_dense_onnx(tmp_path / "good.onnx")
    save_dense_onnx(tmp_path / "other.onnx", np.eye(8, 4, dtype=np.float32))
    save_dense_onnx(tmp_path / "nan.onnx", np.full((8, 4), np.nan, dtype=np.float32))
    (tmp_path / "cut.onnx").write_bytes((tmp_path / "good.onnx").read_bytes()[:60])
    (tmp_path / "picture.tflite").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 100)
    (tmp_path / "typo.toml").write_text('schema = 1\nname = "typo"\nmodels = ["good.onnx", "goood"]\n')
    suite(tmp_path)
    return tmp_path


def suite(folder: Path, *models: str, threads: str = "1", block_s: float = 0.02) -> str:
    names = ", ".join(f'"{name}"' for name in models or ("good.onnx", "other.onnx"))
    (folder / "tiny.toml").write_text(QUICK.format(models=names, threads=threads, block_s=block_s))
    return "tiny.toml"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "harness", *arguments]


def environment(cache: Path, **more: str) -> dict[str, str]:
    source = str(Path(__file__).resolve().parent.parent)
    return os.environ | {"HARNESS_CACHE": str(cache), "PYTHONPATH": source, "COLUMNS": "80", "NO_COLOR": "1"} | more


def harness(
    here: Path, cache: Path, *arguments: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(*arguments),
        cwd=here,
        env=environment(cache, **(env or {})),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def started(here: Path, cache: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments),
        cwd=here,
        env=environment(cache),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_cells(run: Path, count: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while len(list((run / "cells").glob("*.json"))) < count:
        assert time.monotonic() < deadline, "no cell was stored in time"
        time.sleep(0.02)


def worker_of(process: subprocess.Popen[str]) -> psutil.Process:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        for child in psutil.Process(process.pid).children(recursive=True):
            try:
                if "harness.deploy.worker" in child.cmdline() or "bench" in child.name():
                    return child
            except psutil.Error:
                continue
        time.sleep(0.01)
    pytest.fail("no timing program was started in time")


def outcomes(run: Path) -> dict[str, str]:
    stored = store.StoredRun.open(run)
    return {
        result.cell.model: getattr(result.outcome, "kind", type(result.outcome).__name__) for result in stored.results
    }


def test_a_run_ends_with_a_table_on_stdout_and_reports_in_its_folder(here: Path, cache: Path) -> None:
    done = harness(here, cache, "run", "tiny.toml", "--output", "out")

    assert done.returncode == 0, done.stderr
    assert "good" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert {path.name for path in (here / "out").glob("report.*")} == {
        "report.html",
        "report.md",
        "report.csv",
        "report.json",
    }
    assert "report.html" in done.stderr


def test_models_named_on_the_command_line_need_no_suite(here: Path, cache: Path) -> None:
    done = harness(here, cache, "run", "good.onnx", "--processes", "2", "--output", "out")

    assert done.returncode == 0, done.stderr
    assert outcomes(here / "out") == {"good": "Measurement"}


def test_the_time_of_each_operator_is_in_the_record_on_the_page_and_in_the_trace(here: Path, cache: Path) -> None:
    done = harness(here, cache, "run", "tiny.toml", "--profile-ops", "--output", "out")

    assert done.returncode == 0, done.stderr
    trace = json.loads((here / "out" / "operators.trace.json").read_text())
    assert {event["name"] for event in trace["traceEvents"] if event["ph"] == "M"} == {"process_name"}
    assert {event["cat"] for event in trace["traceEvents"] if event["ph"] == "X"} == {"MatMul"}
    page = (here / "out" / "report.html").read_text()
    assert "Operators of good onnx/source, 1 thread" in page
    assert "Operators of other onnx/source, 1 thread" in page
    stored = store.StoredRun.open(here / "out")
    assert stored.plan.harness_commit == own_commit()
    for result in stored.results:
        assert isinstance(result.outcome, Measurement)
        assert result.outcome.profile is not None
        assert result.outcome.profile_missing == ""


def test_one_bad_model_stops_no_other_and_the_exit_code_says_so(here: Path, cache: Path) -> None:
    suite(here, "nan.onnx", "cut.onnx", "picture.tflite", "good.onnx")

    done = harness(here, cache, "run", "tiny.toml", "--output", "out")

    assert done.returncode == 1
    assert "3 of 4 cells failed" in done.stderr
    assert outcomes(here / "out") == {
        "nan": "non_finite_output",
        "cut": "unreadable_model",
        "picture": "unreadable_model",
        "good": "Measurement",
    }


def test_an_interrupted_run_keeps_its_cells_and_says_how_to_go_on(here: Path, cache: Path) -> None:
    suite(here, threads="1, 2, 3, 4", block_s=0.3)
    process = started(here, cache, "run", "tiny.toml", "--output", "out")
    wait_for_cells(here / "out", 1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=WAIT_S)

    assert process.returncode == 130
    assert "harness run --resume --output out" in said
    before = {path: path.stat().st_mtime_ns for path in (here / "out" / "cells").glob("*.json")}
    assert 1 <= len(before) < 8

    done = harness(here, cache, "run", "--resume", "--output", "out")

    assert done.returncode == 0, done.stderr
    stored = store.StoredRun.open(here / "out")
    assert len(stored.results) == 8
    assert {path: path.stat().st_mtime_ns for path in before} == before, "finished cells are not measured again"


def test_a_killed_run_loses_only_the_cell_under_way_and_leaves_no_process(here: Path, cache: Path) -> None:
    suite(here, threads="1, 2", block_s=0.3)
    process = started(here, cache, "run", "tiny.toml", "--output", "out")
    wait_for_cells(here / "out", 1)
    worker = worker_of(process)
    process.kill()
    process.communicate(timeout=WAIT_S)

    psutil.wait_procs([worker], timeout=WAIT_S)
    assert not worker.is_running()
    assert harness(here, cache, "run", "--resume", "--output", "out").returncode == 0
    assert len(store.StoredRun.open(here / "out").results) == 4


def test_a_runtime_that_segfaults_is_a_failure_with_its_signal_and_the_next_cell_goes_on(
    here: Path, cache: Path
) -> None:
    suite(here, block_s=1.0)
    process = started(here, cache, "run", "tiny.toml", "--output", "out")
    worker_of(process).send_signal(signal.SIGSEGV)
    process.communicate(timeout=WAIT_S)

    assert process.returncode == 1
    first, second = store.StoredRun.open(here / "out").results
    assert isinstance(first.outcome, Failure)
    assert first.outcome.kind == "runner_died"
    assert "SIGSEGV" in first.outcome.message
    assert isinstance(second.outcome, Measurement)


def test_retrying_does_the_failed_cells_again_and_no_other(here: Path, cache: Path) -> None:
    suite(here, block_s=1.0)
    process = started(here, cache, "run", "tiny.toml", "--output", "out")
    worker_of(process).send_signal(signal.SIGSEGV)
    process.communicate(timeout=WAIT_S)

    assert harness(here, cache, "run", "--resume", "--output", "out").returncode == 1
    assert harness(here, cache, "run", "--resume", "--retry-failed", "--output", "out").returncode == 0


def test_a_second_run_in_the_same_folder_is_refused_while_the_first_goes_on(here: Path, cache: Path) -> None:
    suite(here, block_s=0.5)
    process = started(here, cache, "run", "tiny.toml", "--output", "out")
    wait_for_cells(here / "out", 0)
    worker_of(process)

    second = harness(here, cache, "run", "--resume", "--output", "out")
    process.communicate(timeout=WAIT_S)

    assert second.returncode == 2
    assert "another `harness run` is writing to out" in second.stderr
    assert process.returncode == 0


def test_a_folder_with_a_finished_run_is_never_overwritten(here: Path, cache: Path) -> None:
    assert harness(here, cache, "run", "tiny.toml", "--output", "out").returncode == 0

    again = harness(here, cache, "run", "tiny.toml", "--output", "out")

    assert again.returncode == 5
    assert "--resume" in again.stderr


def test_a_place_that_cannot_be_written_is_told_before_anything_is_converted(here: Path, cache: Path) -> None:
    (here / "file").write_text("")

    done = harness(here, cache, "run", "tiny.toml", "--output", "file/out")

    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "converting" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small tmpfs")
def test_a_run_that_is_refused_for_a_lease_leaves_no_folder(here: Path, cache: Path) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "notes.txt").write_text("")

    with leased((find_device("host"),), "the nightly run"):
        done = harness(here, cache, "run", "tiny.toml")
        other = harness(here, cache, "run", "tiny.toml", "--output", "mine")

    assert (done.returncode, other.returncode) == (3, 3)
    assert "host is in use" in done.stderr
    assert not list((here / "reports").glob("*"))
    assert [path.name for path in (here / "mine").iterdir()] == ["notes.txt"]


def test_a_full_disk_ends_the_run_with_what_was_stored_intact(here: Path, cache: Path) -> None:
    suite(here, threads="1, 2, 3", block_s=0.02)
    script = 'mount -t tmpfs -o size=160k none disk && exec "$@"'
    unshare = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    (here / "disk").mkdir()
    save = ["sh", "-c", '"$@"; code=$?; cp -r disk/out kept; exit $code', "sh"]
    done = subprocess.run(
        [*unshare, *save, *command("run", "tiny.toml", "--output", "disk/out")],
        cwd=here,
        env=environment(cache),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )

    assert done.returncode == 3, done.stderr
    assert "no space left" in done.stderr
    assert "Traceback" not in done.stderr
    stored = store.StoredRun.open(here / "kept")
    assert stored.missing
    assert not list((here / "kept" / "cells").glob(".*"))


def test_a_report_is_made_again_from_the_record_alone(here: Path, cache: Path) -> None:
    harness(here, cache, "run", "tiny.toml", "--output", "out")
    page = (here / "out" / "report.html").read_text()
    for path in here.glob("*.onnx"):
        path.unlink()

    done = harness(here, cache, "report", "out", "--to", "html", "--output", "again.html")

    assert done.returncode == 0, done.stderr
    assert (here / "again.html").read_text() == page
    told = harness(here, cache, "report", "out", "--to", "table", "-o", "table.txt")
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "wrote table.txt\n")
    assert "p50: the median over processes" in (here / "table.txt").read_text()


def test_what_cannot_be_written_or_is_not_there_is_said_in_a_sentence(here: Path, cache: Path) -> None:
    harness(here, cache, "run", "tiny.toml", "--output", "out")
    (here / "a-file").write_text("")

    unwritable = harness(here, cache, "report", "out", "--to", "html", "--output", "a-file/page.html")
    without = harness(here, cache, "report", "out", "--to", "trace", "--output", "t.json")

    assert (unwritable.returncode, "Traceback" in unwritable.stderr) == (2, False)
    assert "error: a-file/page.html cannot be written or read: Not a directory" in unwritable.stderr
    assert "Name another file or folder" in unwritable.stderr
    assert without.returncode == 2
    assert "measure with --profile-ops" in without.stderr
    assert not (here / "t.json").exists()


def test_pictures_for_papers_are_written_as_svg_and_png(here: Path, cache: Path) -> None:
    harness(here, cache, "run", "tiny.toml", "--output", "out")

    done = harness(here, cache, "report", "out", "--figures", "pictures")

    assert done.returncode == 0, done.stderr
    written = {path.suffix: path for path in sorted((here / "pictures").iterdir())}
    assert set(written) == {".svg", ".png"}
    assert written[".png"].read_bytes().startswith(b"\x89PNG")
    assert f"wrote {written['.svg'].relative_to(here)}" in done.stderr


@pytest.mark.parametrize("to", ["md", "csv", "json"])
def test_a_report_goes_to_stdout_alone_for_pipes(here: Path, cache: Path, to: str) -> None:
    harness(here, cache, "run", "tiny.toml", "--output", "out")

    done = harness(here, cache, "report", "out", "--to", to)

    assert done.stdout == (here / "out" / f"report.{to}").read_text(encoding="utf-8-sig"), "a mark is for files only"


def test_an_index_links_every_run_and_makes_a_stale_page_again(here: Path, cache: Path) -> None:
    harness(here, cache, "run", "tiny.toml", "--output", "reports/50% #1")
    page = here / "reports" / "50% #1" / "report.html"
    whole = page.read_text()
    page.write_text("made before something was added")
    os.utime(page, (0, 0))

    done = harness(here, cache, "report", "--index")

    assert done.returncode == 0, done.stderr
    assert 'href="./50%25%20%231/report.html"' in (here / "reports" / "index.html").read_text()
    assert page.read_text() == whole


def test_the_last_run_is_reported_without_naming_it(here: Path, cache: Path) -> None:
    harness(here, cache, "run", "tiny.toml")

    done = harness(here, cache, "report")

    assert done.returncode == 0
    assert "good" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["models"], ["models", "resnet18"], ["devices"], ["devices", "show", "host"], ["doctor"]]
)
def test_every_list_is_json_where_machines_read(here: Path, cache: Path, arguments: list[str]) -> None:
    done = harness(here, cache, *arguments, "--format", "json")

    assert done.returncode == 0
    assert json.loads(done.stdout)


def test_a_run_as_json_is_one_document_on_stdout(here: Path, cache: Path) -> None:
    done = harness(here, cache, "run", "tiny.toml", "--format", "json")

    assert json.loads(done.stdout)["schema"] == 1


def test_a_dry_run_says_which_cells_cannot_run_and_on_what_the_others_would(here: Path, cache: Path) -> None:
    done = harness(here, cache, "run", "good.onnx", "--dry-run", "--affinity", "0", "--affinity", "500")

    assert done.returncode == 0, done.stderr
    assert "affinity" in done.stdout.splitlines()[0]
    assert "1 cell, at least" in done.stdout
    assert "cannot run: host_good_onnx_source" in done.stdout
    assert "its processors are 0 to" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--affinity", "xx", "there is no affinity called 'xx'"),
        ("--accept", "nonsense", "there is no obstacle called 'nonsense'"),
        ("--accept", "pairing", "there is no obstacle called 'pairing'"),
    ],
)
def test_a_word_that_means_nothing_is_refused_before_anything_is_made(
    here: Path, cache: Path, option: str, value: str, says: str
) -> None:
    done = harness(here, cache, "run", "good.onnx", option, value, "--output", "out")

    assert done.returncode == 2
    assert says in done.stderr
    assert "Known: " in done.stderr
    assert not (here / "out").exists()


def test_a_dry_run_says_what_would_be_measured_and_writes_nothing(here: Path, cache: Path) -> None:
    done = harness(here, cache, "run", "--dry-run")

    assert done.returncode == 0, done.stderr
    assert "24 cells" in done.stdout
    assert not (here / "reports").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "mobilenetv2"], 2, "mobilenet_v2"),
        (["run", "resnet18", "-a", "onnx/fp8"], 2, "there is no artifact called 'onnx/fp8'"),
        (["run", "resnet18", "-d", "pixel"], 2, "there is no device called 'pixel'"),
        (["run", "nowhere.onnx"], 2, "nowhere.onnx"),
        (["run", "nowhere.toml"], 2, "cannot be read"),
        (["run", "--nonsense"], 2, "No such option"),
        (["run", "typo.toml"], 2, "typo.toml, line 3: models[1]: there is no model called 'goood'"),
        (["report", "nowhere"], 5, "there is no run here"),
        (["report"], 2, "reports"),
        (["report", "--index", "--to", "csv"], 2, "a page of its own"),
        (["report", "--figures", "pictures", "--to", "md"], 2, "without --to"),
        (["run", "--resume", "--profile-ops", "-t", "2"], 2, "takes no --threads, --profile-ops"),
        (["run", "--resume", "-H", "bench", "-P", "5038"], 2, "takes no --adb-host, --adb-port"),
        (["devices", "show", "pixel"], 2, "Known: host"),
        (["convert", "resnet18", "-a", "tflite"], 2, "tflite/int8"),
    ],
)
def test_a_mistake_is_one_clear_sentence_with_its_exit_code(
    here: Path, cache: Path, arguments: list[str], code: int, said: str
) -> None:
    done = harness(here, cache, *arguments)

    assert done.returncode == code
    assert said in done.stderr
    assert done.stdout == ""


def test_a_missing_extra_is_one_sentence_with_the_pip_command(here: Path, cache: Path) -> None:
    (here / "hidden").mkdir()
    (here / "hidden" / "sitecustomize.py").write_text(
        "from importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        "PathFinder.find_spec = lambda name, *more: None if name in {'torch', 'onnxruntime'} else find(name, *more)\n"
    )
    source = str(Path(__file__).resolve().parent.parent)
    hidden = {"PYTHONPATH": f"{here / 'hidden'}:{source}"}

    runtime = harness(here, cache, "run", "good.onnx", env=hidden)
    converter = harness(here, cache, "convert", "resnet18", "-a", "tflite/fp32", env=hidden)

    assert runtime.returncode == converter.returncode == 4
    assert "pip install 'inference-harness[onnxruntime]'" in runtime.stderr
    assert "pip install 'inference-harness[torch]'" in converter.stderr


def test_a_reader_that_leaves_early_is_no_error(here: Path, cache: Path) -> None:
    line = f"{shutil.which('env')} {' '.join(command('models', '--format', 'json'))} | head -c 1"
    done = subprocess.run(
        ["sh", "-c", line], cwd=here, env=environment(cache), capture_output=True, text=True, check=False, timeout=60
    )

    assert done.stdout == "["
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        *(["run"], ["models"], ["convert"], ["report"], ["devices"], ["devices", "show"], ["doctor"], ["tool"]),
        *(["runtimes"], ["runtimes", "fetch"], ["runtimes", "register"]),
    ],
)
def test_every_command_has_a_help_with_an_example(here: Path, cache: Path, arguments: list[str]) -> None:
    done = harness(here, cache, *arguments, "--help")

    assert done.returncode == 0
    assert re.search(r"^  Examples?:\n\n      harness ", done.stdout, re.MULTILINE)
    assert f"harness {' '.join(arguments)}" in done.stdout
