"""Building the native loop on demand, and choosing between it and the Python worker."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

from harness.deploy import bench_build, runner
from harness.deploy.bench_build import build_bench, find_compiler
from harness.deploy.runner import choose_runner
from harness.deploy.targets import host_target
from harness.device.host import HostDevice
from harness.errors import BuildFailed, MissingTool
from harness.records import RuntimeChoice
from tests.fakes.device import FakeDevice

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bench runs on Linux")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def own_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the ziglang package: its own compiler is quicker, too."""
    assert shutil.which("gcc") or shutil.which("cc"), "a C compiler is needed: apt-get install gcc"
    monkeypatch.setattr(bench_build, "find_spec", lambda name: None)


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sources, to be changed."""
    copy = tmp_path / "sources"
    shutil.copytree(bench_build.SOURCES, copy)
    monkeypatch.setattr(bench_build, "SOURCES", copy)
    return copy


@pytest.mark.usefixtures("own_compiler")
def test_a_second_call_finds_the_first_ones_program_in_milliseconds(cache: Path) -> None:
    program = build_bench()
    changed = program.stat().st_mtime_ns
    began = time.perf_counter()

    assert build_bench() == program
    assert time.perf_counter() - began < 0.1
    assert program.stat().st_mtime_ns == changed
    assert program.is_relative_to(cache)
    assert program.stat().st_mode & stat.S_IXUSR
    assert "usage: bench" in subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout


@pytest.mark.usefixtures("own_compiler")
def test_no_path_of_this_machine_is_in_the_program(cache: Path) -> None:
    content = build_bench().read_bytes()

    assert str(Path.home()).encode() + b"/" not in content
    assert str(bench_build.SOURCES).encode() not in content


@pytest.mark.usefixtures("own_compiler", "cache")
def test_a_changed_source_is_built_anew(sources: Path) -> None:
    before = build_bench()
    with (sources / "loop.c").open("a", encoding="utf-8") as file:
        file.write("/* changed */\n")

    assert build_bench() != before


@pytest.mark.usefixtures("own_compiler")
def test_a_source_that_does_not_compile_is_said_with_the_command_and_leaves_nothing(cache: Path, sources: Path) -> None:
    (sources / "loop.c").write_text("this is not C\n", encoding="utf-8")

    with pytest.raises(BuildFailed, match="could not be built") as caught:
        build_bench()

    assert "-std=c11" in caught.value.hint
    assert not list(cache.rglob("bench"))[1:]


@pytest.mark.usefixtures("own_compiler", "cache")
def test_another_architecture_without_zig_is_a_missing_tool_with_the_command_that_brings_it() -> None:
    with pytest.raises(MissingTool, match="linux-") as caught:
        build_bench("linux-aarch64" if host_target() != "linux-aarch64" else "linux-x86_64")

    assert caught.value.hint.endswith("-m pip install ziglang")


def test_zig_is_asked_for_an_old_libc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_build, "find_spec", lambda name: object())
    monkeypatch.setattr(metadata, "version", lambda name: "1.2.3")

    compiler = find_compiler("linux-aarch64")
    assert compiler.command[-2:] == ("-target", "aarch64-linux-gnu.2.28")
    assert "1.2.3" in compiler.identity


@pytest.mark.usefixtures("own_compiler", "cache")
@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_on_the_host_the_native_loop_is_taken_with_the_library_of_the_installed_package(runtime: str) -> None:
    chosen = choose_runner(HostDevice(), RuntimeChoice(runtime=runtime))

    assert (chosen.driver, chosen.why_not_bench) == ("bench", None)
    assert chosen.command[:3] == (str(build_bench()), "--library", chosen.library)
    assert Path(str(chosen.library)).is_file()


def test_the_python_worker_is_taken_when_it_is_asked_for() -> None:
    device = HostDevice()
    chosen = choose_runner(device, RuntimeChoice(runtime="onnxruntime", driver="python-worker"))

    assert (chosen.driver, chosen.command, chosen.why_not_bench) == ("python-worker", device.worker_command(), None)


def _no_compiler(target: str | None = None) -> Path:
    raise MissingTool("a C compiler", "bench", "get one")


def test_the_python_worker_is_taken_where_bench_cannot_be_built_and_the_reason_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "build_bench", _no_compiler)
    device = FakeDevice()
    chosen = choose_runner(device, RuntimeChoice(runtime="onnxruntime"))

    assert (chosen.driver, chosen.command) == ("python-worker", device.worker_command())
    assert chosen.why_not_bench == "bench needs a C compiler, which is not installed"


def test_bench_asked_for_by_name_is_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "build_bench", _no_compiler)

    with pytest.raises(MissingTool):
        choose_runner(FakeDevice(), RuntimeChoice(runtime="onnxruntime", driver="bench"))


def test_a_runtime_that_bench_does_not_know_is_timed_by_the_worker() -> None:
    chosen = choose_runner(FakeDevice(), RuntimeChoice(runtime="openvino"))

    assert chosen.driver == "python-worker"
