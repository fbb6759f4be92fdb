from __future__ import annotations

import resource
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from harness.errors import UnreadableRecord, UnwritableFolder, UsageError
from harness.regress.history.exchange import Imported, export_points, import_points
from harness.regress.history.folder import COLUMNS, HistoryFolder
from tests.fakes.history import point

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALL = f"SELECT {', '.join(COLUMNS)} FROM points ORDER BY run, cell"


@pytest.fixture
def history(tmp_path: Path) -> HistoryFolder:
    made = HistoryFolder(tmp_path / "history")
    made.add([point(0, options='{"a": "b, \\"c\\""}'), point(1, cpu=None, p50_low_ns=None, accepted_obstacles="")])
    return made


@pytest.mark.parametrize("name", ["it's all.csv", "all.parquet"])
def test_what_goes_out_comes_in_the_same(history: HistoryFolder, tmp_path: Path, name: str) -> None:
    other = HistoryFolder(tmp_path / "other")

    assert export_points(history, tmp_path / name) == 2
    assert import_points(other, tmp_path / name) == Imported(rows=2, new=2)

    assert other.query(ALL) == history.query(ALL)


def test_what_is_there_already_counts_once(history: HistoryFolder, tmp_path: Path) -> None:
    export_points(history, tmp_path / "all.csv")
    history.add([point(2)])

    assert import_points(history, tmp_path / "all.csv") == Imported(rows=2, new=0)
    assert len(history.query(ALL)) == 3


def test_one_model_alone_can_be_exported(history: HistoryFolder, tmp_path: Path) -> None:
    history.add([point(3, model="other")])

    assert export_points(history, tmp_path / "other.csv", model="other") == 1


def test_a_table_of_another_program_needs_only_what_must_be_known(history: HistoryFolder, tmp_path: Path) -> None:
    export_points(history, tmp_path / "all.csv")
    header, *rows = (tmp_path / "all.csv").read_text().splitlines()
    # The last column but two is optional; a table without it is as good.
    place = header.split(",").index("parity_relative_l2")
    assert place == len(header.split(",")) - 3
    fewer = [",".join([*line.rsplit(",", 3)[:-3], *line.rsplit(",", 3)[-2:]]) for line in (header, *rows)]
    (tmp_path / "fewer.csv").write_text("\n".join(fewer))
    other = HistoryFolder(tmp_path / "other")

    assert import_points(other, tmp_path / "fewer.csv").new == 2
    assert other.query("SELECT DISTINCT parity_relative_l2 FROM points") == [(None,)]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", "model,run\nx,y\n", "has the columns"),
        ("a.csv", "", "all.csv|a.csv"),
        ("a.parquet", "PAR1 not", "a.parquet"),
        ("none.csv", None, "no such file"),
    ],
)
def test_what_is_no_history_is_refused(
    history: HistoryFolder, tmp_path: Path, name: str, content: str | None, problem: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)

    with pytest.raises(UnreadableRecord, match=problem):
        import_points(history, tmp_path / name)
    assert len(history.query(ALL)) == 2


def test_a_figure_that_is_none_or_no_number_is_refused(history: HistoryFolder, tmp_path: Path) -> None:
    export_points(history, tmp_path / "all.csv")
    text = (tmp_path / "all.csv").read_text()
    p50 = f"{point().p50_ns}"
    assert p50 in text
    for wrong in ("", "fast"):
        (tmp_path / "wrong.csv").write_text(text.replace(p50, wrong))

        with pytest.raises(UnreadableRecord):
            import_points(HistoryFolder(tmp_path / "other"), tmp_path / "wrong.csv")
    assert not (tmp_path / "other").exists()


def test_other_kinds_of_files_are_refused(history: HistoryFolder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.csv or \.parquet"):
        export_points(history, tmp_path / "all.xlsx")


@contextmanager
def no_file_may_grow() -> Iterator[None]:
    """As on a disk without space: whatever is written fails, whoever writes it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_said_and_leaves_nothing(history: HistoryFolder, tmp_path: Path) -> None:
    with no_file_may_grow(), pytest.raises(UnwritableFolder):
        export_points(history, tmp_path / "all.parquet")

    assert not list(tmp_path.glob("*all.parquet*"))


def test_tidying_up_on_a_full_disk_costs_no_answer(history: HistoryFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.regress.history.folder.LOOSE_MAX", 1)
    history.add([point(2)])

    with no_file_may_grow():
        assert not history.pack_if_many()

    assert len(history.query(ALL)) == 3
    assert history.pack_if_many()
