from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from harness.errors import UnwritableFolder
from harness.regress.history import folder as folder_module
from harness.regress.history.folder import COLUMNS, OPTIONAL_COLUMNS, HistoryFolder, history_dir
from harness.regress.history.point import Point
from tests.fakes.history import nights, point


@pytest.fixture
def history(tmp_path: Path) -> HistoryFolder:
    return HistoryFolder(tmp_path / "history")


def runs(history: HistoryFolder) -> list[str]:
    return [row[0] for row in history.query("SELECT run FROM points ORDER BY run")]


def test_a_point_comes_back_as_it_went_in(history: HistoryFolder) -> None:
    made = point(revision="a" * 40, options='{"x": "it\'s"}', canary_ns=None)
    history.add([made])

    (row,) = history.query(f"SELECT {', '.join(COLUMNS)} FROM points")

    assert Point(**dict(zip(COLUMNS, row, strict=True))) == made


def test_a_run_that_is_stored_again_counts_once_as_it_was_stored_last(history: HistoryFolder) -> None:
    history.add([point(p50_ns=1.0, added_at="2026-01-01T02:00:00+00:00")])
    history.add([point(p50_ns=2.0, added_at="2026-01-01T03:00:00+00:00"), point(cell="another")])

    assert history.query("SELECT p50_ns FROM points WHERE cell <> 'another'") == [(2.0,)]
    assert len(runs(history)) == 2


def test_an_empty_history_is_an_empty_table_and_no_points_are_no_file(history: HistoryFolder) -> None:
    assert history.add([]) is None
    assert runs(history) == []
    assert not history.folder.exists()


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), "damaged or cut off"),
        (lambda path: path.write_bytes(b""), "damaged or cut off"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"host", b"hoSt", 1)), "damaged or cut off"),
        (lambda path: path.rename(path.with_name("notes.ndjson")), "its name is not one"),
        (lambda path: path.rename(path.with_name(path.name.replace("v1-", "v2-"))), "newer version"),
    ],
)
def test_a_damaged_file_is_named_and_left_out(history: HistoryFolder, damage: object, problem: str) -> None:
    history.add([point(0)])
    path = history.add([point(1)])
    damage(path)  # type: ignore[operator]

    assert runs(history) == ["night-000"]
    (found,) = history.damaged
    assert problem in found.problem
    assert (history.folder / found.file).exists()


@pytest.mark.parametrize("kind", ["ndjson", "parquet"])
def test_a_file_whose_digest_is_right_and_that_cannot_be_read_is_named_and_left_out(
    history: HistoryFolder, kind: str
) -> None:
    history.add([point(0)])
    content = b'{"model": [1, 2\n'
    (history.folder / folder_module._name("x", content, kind)).write_bytes(content)

    assert runs(history) == ["night-000"]
    assert len(history.damaged) == 1


def test_half_written_and_foreign_files_are_not_looked_at(history: HistoryFolder) -> None:
    history.add([point(0)])
    (history.folder / ".v1-x.ndjson.tmp").write_bytes(b"{")
    (history.folder / "README.md").write_bytes(b"mine")

    assert runs(history) == ["night-000"]
    assert history.damaged == ()


def test_many_small_files_become_one_and_say_the_same(history: HistoryFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "LOOSE_MAX", 3)
    for night in range(5):
        history.add([point(night)])
    cut = history.add([point(9)])
    assert cut is not None
    cut.write_bytes(cut.read_bytes()[:-1])
    before = history.query("SELECT * FROM points ORDER BY run")

    assert history.pack_if_many()

    assert history.query("SELECT * FROM points ORDER BY run") == before
    files = sorted(path.name for path in history.folder.glob("v*"))
    assert [name.endswith(".parquet") for name in files].count(True) == 1
    # What is damaged stays where it is, for whoever wants to save it.
    assert cut.exists()
    assert [damage.file for damage in history.damaged] == [cut.name]


def test_packed_files_are_packed_again_until_they_are_large(
    history: HistoryFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "LOOSE_MAX", 1)
    monkeypatch.setattr(folder_module, "PACKED_ROWS_MIN", 5)
    for night in range(12):
        history.add([point(night)])
        history.pack_if_many()

    assert len(runs(history)) == 12
    assert len(list(history.folder.glob("*.parquet"))) == 2


def test_few_files_are_left_as_they_are(history: HistoryFolder) -> None:
    history.add([point(0)])

    assert not history.pack_if_many()
    assert not HistoryFolder(history.folder / "none").pack_if_many()


def test_a_reader_does_not_mind_that_another_packs_meanwhile(
    history: HistoryFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "LOOSE_MAX", 1)
    for point_of_night in nights([1.0, 2.0, 3.0]):
        history.add([point_of_night])
    asked: list[bool] = []

    def question(connection: object) -> object:
        if not asked:
            asked.append(True)
            assert HistoryFolder(history.folder).pack_if_many()
        return connection.execute("SELECT count(*) FROM points").fetchall()  # type: ignore[attr-defined]

    assert history.ask(question) == [(3,)]


@pytest.mark.skipif(os.name == "nt", reason="a folder's rights are something else there")
def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(UnwritableFolder, match="file"):
        HistoryFolder(tmp_path / "file" / "history").add([point()])


def test_a_question_that_is_wrong_says_so(history: HistoryFolder) -> None:
    history.add([point(0)])

    with pytest.raises(Exception, match="no_such_column"):
        history.query("SELECT no_such_column FROM points")
    assert runs(history) == ["night-000"]


def test_the_history_is_beside_the_runs_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_HISTORY", raising=False)
    assert history_dir(Path("reports")) == Path("reports/history")
    monkeypatch.setenv("HARNESS_HISTORY", "/srv/history")
    assert history_dir(Path("reports")) == Path("/srv/history")


def test_every_field_of_a_point_is_a_column() -> None:
    assert list(COLUMNS) == list(Point.__struct_fields__)
    assert "cpu" in OPTIONAL_COLUMNS
    assert "model" not in OPTIONAL_COLUMNS
    assert (COLUMNS["threads"], COLUMNS["p50_ns"], COLUMNS["is_batched"]) == ("BIGINT", "DOUBLE", "BOOLEAN")
    assert set(msgspec.structs.asdict(point())) == set(COLUMNS)
