from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from harness import workspace
from harness.errors import UnwritableFolder
from harness.workspace import (
    builtin_dir,
    cache_dir,
    data_dirs,
    folder_in_the_making,
    require_output,
    sha256_file,
    write_atomically,
)
from tests.fakes.disk import run_on_a_tiny_disk


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))

    assert cache_dir() == tmp_path / "cache"


@pytest.mark.parametrize("value", [None, ""])
def test_the_cache_is_the_users_own_where_the_environment_says_nothing(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HARNESS_CACHE", raising=False)
    if value is not None:
        monkeypatch.setenv("HARNESS_CACHE", value)

    assert cache_dir().name == "inference-harness"
    assert cache_dir().is_relative_to(Path.home())


def test_built_in_data_are_found_in_a_checkout() -> None:
    assert (builtin_dir("device_profiles") / "host.toml").is_file()


def test_built_in_data_are_found_in_an_installed_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "harness" / "builtin" / "device_profiles"
    installed.mkdir(parents=True)
    monkeypatch.setattr(workspace, "_PACKAGE", tmp_path / "harness")

    assert builtin_dir("device_profiles") == installed


def test_the_users_own_folder_comes_before_the_built_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert data_dirs("models") == (builtin_dir("models"),)

    (tmp_path / "models").mkdir()
    assert data_dirs("models") == (tmp_path / "models", builtin_dir("models"))


def test_in_a_checkout_the_two_folders_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(builtin_dir("models").parent)

    assert data_dirs("models") == (builtin_dir("models"),)


def test_a_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")

    assert sha256_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_file_is_written_with_its_folders_and_nothing_beside_it(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b.json", b"new")

    assert _tree(tmp_path) == {"a/b.json": b"new"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("file/new.json", "Not a directory"),
        ("file/deep/new.json", "Not a directory"),
        ("loop/new.json", "Not a directory"),
        ("folder", "Is a directory"),
    ],
)
def test_what_cannot_be_written_is_named_as_it_was_asked_for(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    before = _tree(tmp_path)

    with pytest.raises(OSError, match=said) as caught:
        write_atomically(tmp_path / name, b"new")

    assert caught.value.filename == str(tmp_path / name)
    assert _tree(tmp_path) == before


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_bytes(b"a long old content")

    write_atomically(tmp_path / "b.json", b"new")

    assert _tree(tmp_path) == {"b.json": b"new"}


def test_a_file_has_the_rights_that_any_new_file_has(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_bytes(b"")
    write_atomically(tmp_path / "ours", b"")
    with folder_in_the_making(tmp_path / "our folder"):
        (tmp_path / "ordinary folder").mkdir()

    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "ordinary").stat().st_mode
    assert (tmp_path / "our folder").stat().st_mode == (tmp_path / "ordinary folder").stat().st_mode


def test_a_file_that_cannot_be_written_leaves_nothing_and_the_systems_own_error(tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()

    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "a folder", b"new")

    assert os.listdir(tmp_path) == ["a folder"]  # noqa: PTH208  (the hidden ones as well)


def test_on_a_full_disk_the_old_file_stays_and_nothing_is_left_behind(tmp_path: Path) -> None:
    said = run_on_a_tiny_disk(
        """
        import json, os
        from harness.errors import DeviceFull
        from harness.workspace import write_atomically

        write_atomically(disk / "run.json", b"old")
        try:
            write_atomically(disk / "run.json", bytes(100_000))
        except DeviceFull as error:
            print(json.dumps([str(error), os.listdir(disk), (disk / "run.json").read_text()]))
        """,
        tmp_path,
    )

    problem = f"this machine: no space left for {tmp_path}/run.json (100,000 bytes are needed)"
    assert json.loads(said) == [problem, ["run.json"], "old"]


def test_a_folder_appears_whole_when_its_block_ends_well(tmp_path: Path) -> None:
    final = tmp_path / "a" / "b"

    with folder_in_the_making(final) as making:
        (making / "one").write_bytes(b"1")
        assert not final.exists()

    assert _tree(tmp_path) == {"a/b/one": b"1"}


def test_a_folder_does_not_appear_when_its_block_fails(tmp_path: Path) -> None:
    def fail(making: Path) -> None:
        (making / "one").write_bytes(b"1")
        raise RuntimeError

    with pytest.raises(RuntimeError), folder_in_the_making(tmp_path / "b") as making:
        fail(making)

    assert os.listdir(tmp_path) == []  # noqa: PTH208  (the hidden ones as well)


def test_a_folder_that_cannot_be_made_is_named_as_it_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    final = tmp_path / "file" / "model"

    with pytest.raises(NotADirectoryError) as caught, folder_in_the_making(final):
        pass

    assert caught.value.filename == str(final)


def test_seeing_that_a_folder_can_be_made_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()

    require_output(tmp_path / "a" / "b")
    require_output(tmp_path / "there")

    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert not list((tmp_path / "there").iterdir())


def test_a_folder_that_cannot_be_written_is_said_with_what_chooses_another(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(UnwritableFolder, match="file cannot be written: Not a directory") as caught:
        require_output(tmp_path / "file", chosen_by="--plots")

    assert "--plots" in caught.value.hint


def test_of_two_that_make_one_folder_the_first_to_finish_wins(tmp_path: Path) -> None:
    both_began = threading.Barrier(2)
    first_done = threading.Event()

    def make(content: bytes, wait_for: threading.Event | None) -> None:
        with folder_in_the_making(tmp_path / "b") as making:
            both_began.wait(10)
            (making / "one").write_bytes(content)
            if wait_for is not None:
                wait_for.wait(10)
        first_done.set()

    threads = [threading.Thread(target=make, args=args) for args in ((b"first", None), (b"second", first_done))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert _tree(tmp_path) == {"b/one": b"first"}


def test_a_folder_on_a_full_disk_is_a_full_disk_and_leaves_nothing(tmp_path: Path) -> None:
    said = run_on_a_tiny_disk(
        """
        import json, os
        from harness.errors import DeviceFull
        from harness.workspace import folder_in_the_making

        try:
            with folder_in_the_making(disk / "artifact") as making:
                (making / "weights").write_bytes(bytes(100_000))
        except DeviceFull as error:
            print(json.dumps([str(error), os.listdir(disk)]))
        """,
        tmp_path,
    )

    assert json.loads(said) == [f"this machine: no space left for {tmp_path}/artifact", []]


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
