"""The runtimes' libraries: found, fetched, registered."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.deploy import runtime_wheels
from harness.deploy.runtime_library import is_version
from harness.deploy.runtime_register import forget, register, register_library
from harness.deploy.runtime_wheels import fetch_library
from harness.deploy.runtimes import (
    find_library,
    installed_library,
    installed_version,
    is_fetched,
    library_for,
    list_libraries,
)
from harness.deploy.targets import host_target
from harness.errors import BadSetting, MissingTool, UnknownName, UnreadableModel, UnreadableRecord, UsageError
from harness.workspace import sha256_file


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HARNESS_CONFIG", str(tmp_path / "config"))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    library = tmp_path / 'my "own" lib.so'
    library.write_bytes(b"\x7fELF own")
    return library


class FakePip:
    """In place of subprocess: looks up and writes the wheel that was asked for, or fails."""

    def __init__(self, *members: str, returncode: int = 0, stated: str | None = None) -> None:
        self.returncode, self.calls = returncode, list[str]()
        self.TimeoutExpired = TimeoutError
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as wheel:
            for member in members:
                wheel.writestr(member, b"content of " + member.encode())
        self.wheel = content.getvalue()
        self.sha256 = stated or hashlib.sha256(self.wheel).hexdigest()

    def run(self, command: list[str], **_settings: object) -> SimpleNamespace:
        asked = command[command.index("pip") + 1]
        self.calls.append(asked)
        if self.returncode == 0 and asked == "install":
            hashes = {"archive_info": {"hashes": {"sha256": self.sha256}}}
            report = {"install": [{"metadata": {"version": "1.0"}, "download_info": hashes}]}
            Path(command[command.index("--report") + 1]).write_text(json.dumps(report), encoding="utf-8")
        elif self.returncode == 0:
            requirement = Path(command[command.index("--requirement") + 1]).read_text(encoding="utf-8")
            assert f"--hash=sha256:{self.sha256}" in requirement
            (Path(command[command.index("--dest") + 1]) / "package-1.0-py3-none-any.whl").write_bytes(self.wheel)
        return SimpleNamespace(returncode=self.returncode, stderr="ERROR: No matching distribution found\n")


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_the_library_of_an_installed_package_is_found_with_version_and_digest(runtime: str) -> None:
    library = installed_library(runtime)

    assert library is not None
    assert library.target == host_target()
    assert library.sha256 == sha256_file(Path(library.path))
    assert library.version[0].isdigit()
    assert library in list_libraries()


def test_a_registered_library_is_found_by_target_and_version(own: Path) -> None:
    added = register_library("onnxruntime", "1.29.0", "android-arm64-v8a", own)

    assert added.sha256 == sha256_file(own)
    assert list_libraries()[0] == added
    assert find_library("onnxruntime", target="android-arm64-v8a") == added
    assert find_library("onnxruntime", target="android-arm64-v8a", version="1.29.0") == added


def test_registering_again_replaces_and_keeps_the_rest(own: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.so"
    other.write_bytes(b"other")
    register_library("litert", "2.3.0", "android-arm64-v8a", own)
    register_library("onnxruntime", "1.29.0", "android-arm64-v8a", own)
    register_library("onnxruntime", "1.29.0", "android-arm64-v8a", other)

    paths = [library.path for library in list_libraries() if library.source == "registered"]
    assert paths == [str(own), str(other)]


def test_what_was_registered_can_be_forgotten(own: Path) -> None:
    kept = register_library("onnxruntime", "1.29.0", "android-x86_64", own)
    added = register_library("onnxruntime", "1.29.0", "android-arm64-v8a", own)

    with pytest.raises(UnknownName, match=r"onnxruntime 1\.28") as caught:
        forget("onnxruntime", "1.28")
    assert "onnxruntime 1.29.0 for android-arm64-v8a" in caught.value.hint
    assert forget("onnxruntime", "1.29.0", "arm64-v8a") == (added,)
    assert [library for library in list_libraries() if library.source == "registered"] == [kept]
    assert own.is_file()
    assert forget("onnxruntime", "1.29.0") == (kept,)
    assert not [library for library in list_libraries() if library.source == "registered"]


def test_two_versions_of_one_runtime_stand_side_by_side(own: Path) -> None:
    installed = installed_library("onnxruntime")
    added = register_library("onnxruntime", "0.0.1", host_target(), own)

    assert find_library("onnxruntime", target=host_target()) == installed
    assert find_library("onnxruntime", target=host_target(), version="0.0.1") == added


def test_a_damaged_register_is_said_and_left_alone(own: Path, tmp_path: Path) -> None:
    register = tmp_path / "config" / "runtimes.toml"
    register.parent.mkdir()
    register.write_text("[[runtime]]\nname = 3\n", encoding="utf-8")

    with pytest.raises(BadSetting, match=r"runtimes\.toml"):
        register_library("onnxruntime", "1.29.0", "android-arm64-v8a", own)
    assert register.read_text(encoding="utf-8") == "[[runtime]]\nname = 3\n"


def test_a_library_that_is_nowhere_is_a_missing_tool() -> None:
    with pytest.raises(MissingTool, match=r"onnxruntime 0\.0\.1"):
        find_library("onnxruntime", target="android-x86_64", version="0.0.1")


@pytest.mark.parametrize("missing", [Path("/no/such/file.so"), Path("/")])
def test_only_a_file_can_be_registered(missing: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        register_library("onnxruntime", "1.29.0", "linux-x86_64", missing)


def test_a_fetched_library_comes_out_of_the_wheel_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pip = FakePip("onnxruntime/capi/libonnxruntime.so.1.0", "onnxruntime/capi/libonnxruntime_providers_shared.so")
    monkeypatch.setattr(runtime_wheels, "subprocess", pip)

    library = fetch_library("onnxruntime", "1.0", "linux-aarch64")

    assert Path(library.path).read_bytes() == b"content of onnxruntime/capi/libonnxruntime.so.1.0"
    assert Path(library.path).is_relative_to(tmp_path / "cache")
    assert fetch_library("onnxruntime", "1.0", "linux-aarch64") == library
    assert find_library("onnxruntime", target="linux-aarch64", version="1.0") == library
    assert library_for("onnxruntime", target="linux-aarch64", version="1.0") == library
    assert pip.calls == ["install", "download"]
    assert (library.origin, library.origin_sha256) == ("package-1.0-py3-none-any.whl", pip.sha256)
    assert not list((tmp_path / "cache").rglob("*.whl"))


def test_a_fetched_library_that_was_changed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_wheels, "subprocess", FakePip("ai_edge_litert/libLiteRt.so"))
    library = fetch_library("litert", "1.0", "linux-x86_64")
    Path(library.path).write_bytes(b"something else")

    with pytest.raises(UnreadableRecord, match="not the file that was fetched; delete"):
        fetch_library("litert", "1.0", "linux-x86_64")
    with pytest.raises(UnreadableRecord, match="not the file that was fetched; delete"):
        library_for("litert", target="linux-x86_64", version="1.0")


def test_a_registered_library_that_was_built_again_is_refused_until_it_is_registered_again(own: Path) -> None:
    register_library("onnxruntime", "1.29.0", "android-arm64-v8a", own)
    own.write_bytes(b"\x7fELF own, built again")

    with pytest.raises(UnreadableRecord, match=r"harness runtimes register .*--runtime onnxruntime --version 1\.29\.0"):
        library_for("onnxruntime", target="android-arm64-v8a")

    again = register_library("onnxruntime", "1.29.0", "android-arm64-v8a", own)
    assert library_for("onnxruntime", target="android-arm64-v8a") == again


@pytest.mark.parametrize(
    ("pip", "says"),
    [(FakePip(returncode=1), "No matching distribution"), (FakePip("ai_edge_litert/__init__.py"), "C library")],
    ids=["not there", "without a library"],
)
def test_what_cannot_be_fetched_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pip: FakePip, says: str
) -> None:
    monkeypatch.setattr(runtime_wheels, "subprocess", pip)

    with pytest.raises(MissingTool, match=says):
        fetch_library("litert", "9.9", "linux-x86_64")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_version_that_the_index_does_not_have_is_told_with_the_newest_that_it_has() -> None:
    with pytest.raises(UnknownName, match=r"no onnxruntime for linux-aarch64 called '99\.0'") as caught:
        fetch_library("onnxruntime", "99.0", "linux-aarch64")

    assert len(caught.value.known) == 8
    assert all(version.startswith("1.") for version in caught.value.known)


@pytest.mark.parametrize(("runtime", "target"), [("tvm", "linux-x86_64"), ("litert", "android-arm64-v8a")])
def test_an_unknown_runtime_or_target_is_refused_with_those_that_are_known(runtime: str, target: str) -> None:
    with pytest.raises(UnknownName):
        fetch_library(runtime, "1.0", target)


def test_a_wheel_that_is_not_what_the_index_states_is_refused_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(runtime_wheels, "subprocess", FakePip("ai_edge_litert/libLiteRt.so", stated="0" * 64))

    with pytest.raises(UnreadableRecord, match="index states 000000000000"):
        fetch_library("litert", "1.0", "linux-x86_64")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_without_a_version_a_device_gets_that_which_is_installed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr(
        "harness.deploy.runtimes.fetch_library", lambda _runtime, version, _target: asked.append(version)
    )

    library_for("onnxruntime", target="linux-aarch64")

    assert asked == [installed_version("onnxruntime")]


def test_of_a_library_that_only_the_user_can_bring_any_version_will_do(own: Path) -> None:
    added = register_library("onnxruntime", "0.0.1", "android-arm64-v8a", own)

    assert library_for("onnxruntime", target="android-arm64-v8a") == added


def test_a_registered_file_that_is_gone_is_not_used(own: Path) -> None:
    register_library("onnxruntime", "0.0.1", "android-arm64-v8a", own)
    own.unlink()

    with pytest.raises(MissingTool) as caught:
        find_library("onnxruntime", target="android-arm64-v8a")
    assert "harness runtimes register FILE.aar --runtime onnxruntime" in caught.value.hint
    assert not is_fetched("onnxruntime", target="android-arm64-v8a")


@pytest.mark.parametrize(("asked", "found"), [("1.27", "1.27.0"), ("1.27.0", "1.27"), ("2.0.0", "2")])
def test_trailing_zeros_make_no_other_version(asked: str, found: str) -> None:
    assert is_version(asked, found)
    assert not is_version(asked, f"{found}.1")


def test_a_library_is_registered_for_what_it_is_built_for() -> None:
    installed = installed_library("litert")
    assert installed is not None

    assert register(Path(installed.path), runtime="litert", version="2.3.0").target == host_target()
    with pytest.raises(BadSetting, match="not for android-arm64-v8a"):
        register(Path(installed.path), runtime="litert", version="2.3.0", abi="arm64-v8a")


def test_an_archive_gives_the_library_of_one_abi_and_what_that_needs(tmp_path: Path) -> None:
    archive = tmp_path / "onnxruntime-android.aar"
    with zipfile.ZipFile(archive, "w") as file:
        for abi, machine in (("arm64-v8a", 183), ("x86_64", 62)):
            file.writestr(f"jni/{abi}/libonnxruntime.so", android_library(machine, needed="libc++_shared.so"))
            file.writestr(f"jni/{abi}/libc++_shared.so", android_library(machine))
            file.writestr(f"jni/{abi}/libother.so", b"not needed")

    with pytest.raises(BadSetting, match="several ABIs"):
        register(archive, runtime="onnxruntime", version="1.27.0")
    added = register(archive, runtime="onnxruntime", version="1.27.0", abi="arm64-v8a")
    archive.unlink()

    assert added.target == "android-arm64-v8a"
    assert added.origin == "onnxruntime-android.aar"
    assert sorted(path.name for path in Path(added.path).parent.iterdir()) == ["libc++_shared.so", "libonnxruntime.so"]
    assert find_library("onnxruntime", target="android-arm64-v8a") == added

    forget("onnxruntime", "1.27.0")
    assert not Path(added.path).parent.exists()  # a copy of ours, and nothing else would delete it


@pytest.mark.parametrize(
    ("content", "error"), [(b"not a library", UnreadableModel), (b"\x7fELF" + bytes(70), UnknownName)]
)
def test_what_is_no_library_is_refused(tmp_path: Path, content: bytes, error: type[Exception]) -> None:
    file = tmp_path / "lib.so"
    file.write_bytes(content)

    with pytest.raises(error):
        register(file, runtime="litert", version="1.0")


def android_library(machine: int, *, needed: str = "libm.so") -> bytes:
    """A 64-bit shared library's header, as the NDK would write it: it needs Android's libc, and another."""
    strings = b"\0libc.so\0" + needed.encode() + b"\0"
    headers = 64 + 2 * 56
    dynamic = struct.pack("<8Q", 1, 1, 1, 9, 5, headers + 64, 0, 0)
    size = headers + len(dynamic) + len(strings)
    head = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, size, size, 4096)
    table = struct.pack("<IIQQQQQQ", 2, 6, headers, headers, headers, len(dynamic), len(dynamic), 8)
    return head + load + table + dynamic + strings
