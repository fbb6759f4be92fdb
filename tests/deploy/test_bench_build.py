"""Building the native loop on demand, and choosing between it and the Python worker."""

from __future__ import annotations

import shutil
import stat
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

import msgspec
import pytest

from harness.deploy import bench_build, runner
from harness.deploy.bench_build import build_bench, find_compiler
from harness.deploy.runner import choose_runner
from harness.deploy.runtime_library import RuntimeLibrary
from harness.deploy.targets import host_target, target_of
from harness.device.host import HostDevice
from harness.errors import AbiMismatch, BuildFailed, MissingTool
from harness.records import RuntimeChoice
from tests.fakes.device import FACTS, FakeDevice

if TYPE_CHECKING:
    from collections.abc import Callable

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


def test_a_provider_that_bench_cannot_ask_for_is_timed_by_the_worker_unless_bench_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "_bench", lambda _device, _choice: runner.Runner(command=("bench",), driver="bench"))

    def of(device: FakeDevice, accelerator: str, driver: Literal["auto", "bench"] = "auto") -> tuple[str, str | None]:
        choice = RuntimeChoice(runtime="onnxruntime", accelerator=accelerator, driver=driver)
        chosen = choose_runner(device, choice)
        return chosen.driver, chosen.why_not_bench

    rocm = ("python-worker", "bench cannot ask ONNX Runtime for the provider rocm")
    assert of(FakeDevice(), "rocm") == rocm
    for accelerator in ("XnnpackExecutionProvider", "nnapi", "CUDAExecutionProvider", "tensorrt"):
        assert of(FakeDevice(), accelerator) == ("bench", None)
    assert of(FakeDevice(), "rocm", "bench") == ("bench", None)
    phone = FakeDevice()
    phone.fail_on("worker_command", MissingTool("Python", "the worker", "none"), times=9)
    assert of(phone, "rocm") == ("bench", None), "what its library says is told"


# --- other devices ---------------------------------------------------------------------------------------------------


def device_of(**changes: object) -> FakeDevice:
    facts = {"kind": "virtual", "architecture": "aarch64", "os": "Debian GNU/Linux 13 (trixie)"} | changes
    return FakeDevice(facts=msgspec.structs.replace(FACTS, **facts))


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Stands in for the building and the fetching: a program and a library for an architecture, by its ELF number."""

    def make(machine: int, program_machine: int | None = None) -> None:
        files = {"bench": program_machine or machine, "libonnxruntime.so.1.27.0": machine}
        for name, number in files.items():
            (tmp_path / name).write_bytes(elf_header(number))
        library = RuntimeLibrary(
            runtime="onnxruntime",
            version="1.27.0",
            target="linux-aarch64",
            path=str(tmp_path / "libonnxruntime.so.1.27.0"),
            sha256="0" * 64,
            source="fetched",
        )
        monkeypatch.setattr(runner, "build_bench", lambda _target: tmp_path / "bench")
        monkeypatch.setattr(runner, "library_for", lambda _runtime, **_what: library)

    return make


def elf_header(machine: int) -> bytes:
    """Of a 64-bit file without segments."""
    return b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0)


def test_a_device_gets_program_and_library_under_names_made_of_their_content(made: Callable[[int], None]) -> None:
    made(183)
    device = device_of()

    chosen = choose_runner(device, RuntimeChoice(runtime="onnxruntime"))

    program, flag, library = chosen.command[:3]
    assert (chosen.driver, flag, library) == ("bench", "--library", chosen.library)
    assert chosen.command[3:] == ("--library-version", "1.27.0")
    assert {path.name for path in device.files} == {"bench", "libonnxruntime.so.1.27.0"}
    assert all(device.files[PurePosixPath(path)] == elf_header(183) for path in (program, library))
    sent = len(device.log)
    assert choose_runner(device, RuntimeChoice(runtime="onnxruntime")).command == chosen.command
    assert len(device.log) == sent


def test_two_devices_of_one_target_wait_for_one_build(
    made: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made(183)
    at_work: list[int] = []

    def build(_target: str) -> Path:
        at_work.append(1)
        time.sleep(0.1)
        assert len(at_work) == 1, "another build is under way"
        at_work.pop()
        return tmp_path / "bench"

    monkeypatch.setattr(runner, "build_bench", build)
    with ThreadPoolExecutor(2) as threads:
        choices = [threads.submit(choose_runner, device_of(), RuntimeChoice(runtime="onnxruntime")) for _ in range(2)]

    assert [choice.result().driver for choice in choices] == ["bench", "bench"]


def test_what_is_built_for_another_device_is_refused_before_anything_is_sent(made: Callable[..., None]) -> None:
    made(62, program_machine=183)
    device = device_of()

    with pytest.raises(AbiMismatch, match=r"linux-aarch64, and .* is built for linux-x86_64"):
        choose_runner(device, RuntimeChoice(runtime="onnxruntime"))
    assert not device.files


def test_a_phone_without_an_ndk_here_is_told_about_the_ndk_and_not_about_python(
    monkeypatch: pytest.MonkeyPatch, made: Callable[[int], None]
) -> None:
    made(183)
    monkeypatch.setattr(runner, "build_bench", build_bench)
    for name in bench_build.NDK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    device = device_of(kind="android", os="Android 16")
    device.fail_on("worker_command", MissingTool("Python", "there", "nothing helps"))

    with pytest.raises(MissingTool, match="NDK") as caught:
        choose_runner(device, RuntimeChoice(runtime="onnxruntime"))
    assert "ANDROID_NDK_HOME" in caught.value.hint


def test_the_ndks_own_compiler_is_taken_for_android(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "toolchains" / "llvm" / "prebuilt" / "linux-x86_64" / "bin"
    folder.mkdir(parents=True)
    (folder / f"aarch64-linux-android{bench_build.ANDROID_API}-clang").touch()
    (tmp_path / "source.properties").write_text("Pkg.Desc = Android NDK\nPkg.Revision = 27.1.12297006\n")
    monkeypatch.setenv("ANDROID_NDK_HOME", str(tmp_path))

    compiler = find_compiler("android-arm64-v8a")
    assert Path(compiler.command[0]).parent == folder
    assert "27.1.12297006" in compiler.identity
    with pytest.raises(MissingTool, match="android-x86_64"):
        find_compiler("android-x86_64")


@pytest.mark.parametrize(
    ("facts", "target"),
    [
        ({}, "linux-aarch64"),
        ({"kind": "android", "os": "Android 16"}, "android-arm64-v8a"),
        ({"kind": "android", "os": None, "architecture": "armv8l"}, "android-armeabi-v7a"),
        ({"kind": "android", "os": "Linux 6.12"}, "linux-aarch64"),
        ({"os": "Alpine Linux v3.20"}, "musl-aarch64"),
        ({"kind": "host"}, host_target()),
    ],
)
def test_what_runs_on_a_device_is_known_from_what_it_is(facts: dict[str, object], target: str) -> None:
    assert target_of(device_of(**facts).facts()) == target


def test_another_version_than_python_has_is_not_timed_by_the_worker() -> None:
    with pytest.raises(MissingTool, match=r"onnxruntime==0\.1"):
        choose_runner(FakeDevice(), RuntimeChoice(runtime="onnxruntime", version="0.1", driver="python-worker"))
