from __future__ import annotations

import re
import subprocess
import sys
import time
import tomllib
from importlib import metadata
from pathlib import Path

import msgspec
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from harness import doctor
from harness.deploy.worker.session import RUNTIMES
from harness.doctor import PACKAGES, Finding, Package, examine

ROOT = Path(__file__).resolve().parent.parent


def findings() -> dict[str, Finding]:
    return {finding.name: finding for finding in examine()}


def installed(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    """Let these packages alone be installed."""

    def version(name: str) -> str:
        if name.replace("-", "_") not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name.replace("-", "_")]

    monkeypatch.setattr(metadata, "version", version)


def test_the_table_of_packages_is_that_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name not in {"all", "dev"}}
    wanted = {
        (requirement.name, extra, requirement.specifier)
        for extra, lines in extras.items()
        for requirement in map(Requirement, lines)
        if requirement.marker is None or requirement.marker.evaluate()
    }

    ours = {
        (package.name, extra, SpecifierSet(f">={package.at_least}" + (f",<{package.below}" if package.below else "")))
        for package in PACKAGES
        for extra in package.extras
    }
    assert ours == wanted


def test_python_is_judged_by_what_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert project["requires-python"] == f">={'.'.join(map(str, doctor.PYTHON_AT_LEAST))}"
    assert findings()["python"].ok


def test_every_runtime_that_can_be_timed_is_looked_at() -> None:
    assert {package.runtime for package in PACKAGES if package.runtime} == set(RUNTIMES)


def test_a_package_that_is_missing_comes_with_the_command_that_adds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)

    found = findings()

    assert found["ai-edge-litert"].version is None
    assert not found["ai-edge-litert"].ok
    assert found["ai-edge-litert"].fix == "pip install 'inference-harness[litert]'"
    assert found["litert-torch"].fix == "pip install 'inference-harness[tflite]'"
    assert {found[package.name].ok for package in PACKAGES} == {False}


@pytest.mark.parametrize(
    ("version", "ok"),
    [("2.8.9", False), ("2.9", True), ("2.9.0", True), ("2.13.0+cpu", True), ("2.14.0", False), ("3.0", False)],
)
def test_a_package_is_judged_by_its_version_too(version: str, ok: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, torch=version)

    torch = findings()["torch"]

    assert (torch.version, torch.ok) == (version, ok)
    assert torch.detail == ("" if ok else "needed: 2.9 or newer, below 2.14")
    assert torch.fix == ("" if ok else "pip install 'inference-harness[torch]'")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is one name only")
def test_either_name_of_tensorflow_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, tensorflow="2.21.0")

    assert findings()["tensorflow-cpu"].ok


def test_a_folder_that_does_not_exist_yet_is_judged_by_its_nearest_parent_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "a" / "b"))

    cache = findings()["cache folder"]

    assert cache.ok
    assert re.fullmatch(r"\d+\.\d GiB free", cache.version or "")
    assert not (tmp_path / "a").exists()


def test_a_folder_that_cannot_be_written_is_said_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "file" / "cache"))

    cache = findings()["cache folder"]

    assert (cache.ok, cache.version) == (False, None)
    assert cache.detail == f"{tmp_path}/file/cache: {tmp_path}/file cannot be written"
    assert cache.fix == "export HARNESS_CACHE=/another/folder"


def test_a_disk_that_is_nearly_full_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ENOUGH_CACHE_BYTES", 2**60)

    assert not findings()["cache folder"].ok


def test_the_clock_is_measured() -> None:
    clock = findings()["clock"]

    assert re.fullmatch(r"steps of [\d.]+ (ns|µs)", clock.version or "")


def test_what_stands_in_the_way_of_stable_figures_is_told_in_the_detail() -> None:
    stability = findings()["stability"]

    assert stability.ok == (stability.fix == "")
    assert stability.version


def test_findings_can_be_written_as_json() -> None:
    assert b'"name":"python"' in msgspec.json.encode(examine())


def test_an_answer_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from harness.doctor import examine\n"
        "examine()\n"
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'ai_edge_litert', 'pandas', 'tensorflow'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)

    assert said.stdout == "[]\n"


def test_a_deep_look_starts_each_installed_runtime() -> None:
    found = {finding.name: finding for finding in examine(deep=True)}

    answer = found["onnxruntime"]
    assert answer.ok
    assert answer.detail.startswith(f"answers as {answer.version}: ")
    assert "CPUExecutionProvider" in answer.detail


def test_a_runtime_that_is_installed_and_does_not_start_is_not_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Package("broken", "1.0", ("onnxruntime",), "run .onnx files", runtime="broken")
    monkeypatch.setattr(doctor, "PACKAGES", (broken,))
    installed(monkeypatch, broken="1.5")

    found = next(finding for finding in examine(deep=True) if finding.name == "broken")

    assert (found.version, found.ok) == ("1.5", False)
    assert found.detail.startswith("does not start (exit code 1): usage: python -m harness.deploy.probe onnxruntime")
    assert found.fix == "pip install --force-reinstall --no-deps broken"


def test_a_quick_look_starts_nothing() -> None:
    began = time.monotonic()

    assert findings()["onnxruntime"].detail == ""
    assert time.monotonic() - began < 2
