from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.catalog.coreml_package import (
    package_deflated_size,
    package_digest,
    package_size,
    read_spec,
    weights_folder,
)
from harness.errors import UnreadableModel
from tests.catalog.ml_program.building import mb, random, write

X = random(1, 4, 8, 8)


def convolution(x: Any) -> Any:
    return mb.relu(x=mb.conv(x=x, weight=random(8, 4, 3, 3, seed=1), name="first"), name="last")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write(convolution, [X], tmp_path / "a.mlpackage")


def test_the_same_model_stored_twice_has_other_bytes_and_the_same_digest(package: Path, tmp_path: Path) -> None:
    again = write(convolution, [X], tmp_path / "b.mlpackage")

    assert (package / "Manifest.json").read_bytes() != (again / "Manifest.json").read_bytes()
    assert package_digest(package) == package_digest(again)


def test_a_conversion_date_is_no_part_of_the_digest(package: Path) -> None:
    before = package_digest(package)
    _change(
        package,
        lambda spec: spec.description.metadata.userDefined.update(
            {"com.github.apple.coremltools.conversion_date": "2020-02-02"}
        ),
    )

    assert package_digest(package) == before


def _change(package: Path, change: Any) -> None:
    spec = read_spec(package)
    change(spec)
    (package / "Data/com.apple.CoreML/model.mlmodel").write_bytes(spec.SerializeToString())


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: setattr(spec, "specificationVersion", spec.specificationVersion + 1),
        lambda spec: spec.description.metadata.userDefined.update({"author": "me"}),
        lambda spec: setattr(spec.description.input[0], "name", "y"),
        lambda spec: setattr(
            next(iter(spec.mlProgram.functions["main"].block_specializations.values())).operations[-1], "type", "tanh"
        ),
    ],
)
def test_anything_else_in_the_model_changes_the_digest(package: Path, change: Any) -> None:
    before = package_digest(package)
    _change(package, change)

    assert package_digest(package) != before


def test_one_changed_weight_changes_the_digest(package: Path) -> None:
    before = package_digest(package)
    file = weights_folder(package) / "weight.bin"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)

    assert package_digest(package) != before


def test_a_weight_file_of_another_name_changes_the_digest(package: Path) -> None:
    before = package_digest(package)
    file = weights_folder(package) / "weight.bin"
    file.rename(file.with_name("other.bin"))

    assert package_digest(package) != before


def test_the_digest_is_the_same_in_another_process(package: Path) -> None:
    program = (
        "import sys; from harness.catalog.coreml_package import package_digest; print(package_digest(sys.argv[1]));"
        "assert 'coremltools' not in sys.modules"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(package)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={"PYTHONHASHSEED": "7"},
    )

    assert ended.stdout.strip() == package_digest(package)
    assert ended.stderr == ""


def test_a_size_is_that_of_all_files_and_deflated_that_of_a_zip(package: Path, tmp_path: Path) -> None:
    files = [file for file in package.rglob("*") if file.is_file()]
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for file in files:
            archive.write(file)
        deflated = sum(entry.compress_size for entry in archive.infolist())

    assert package_size(package) == sum(len(file.read_bytes()) for file in files)
    # A zip's streams lack zlib's header and checksum: six bytes a file.
    assert package_deflated_size(package) == deflated + 6 * len(files)


def test_weights_are_where_the_manifest_says(package: Path) -> None:
    manifest = json.loads((package / "Manifest.json").read_text())

    assert manifest["rootModelIdentifier"] in manifest["itemInfoEntries"]
    assert np.fromfile(weights_folder(package) / "weight.bin", np.uint32)[0] == 1  # one blob


def test_a_folder_that_is_no_package_is_said_to_lack_its_manifest(tmp_path: Path) -> None:
    with pytest.raises(UnreadableModel, match=r"as a Core ML package: there is no Manifest\.json in it$"):
        read_spec(tmp_path)


def test_the_reader_gets_on_with_the_whole_of_coremltools_in_either_order(package: Path) -> None:
    program = f"""
from harness.catalog.coreml_package import import_coremltools, read_spec
first = read_spec({str(package)!r})
ct = import_coremltools()
second, third = read_spec({str(package)!r}), ct.utils.load_spec({str(package)!r})
assert first.SerializeToString(deterministic=True) == third.SerializeToString(deterministic=True)
assert second == third
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )

    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "")
