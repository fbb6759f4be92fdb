from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from harness.errors import UnknownName, UnreadableRecord
from harness.regress.history.folder import HistoryFolder
from harness.regress.history.picture import draw
from harness.regress.history.pins import Pin, read_pins, write_pin
from harness.regress.history.story import Cause, list_models, require_measured, tell
from harness.regress.history.words import models_text, story_text
from tests.fakes.history import nights, point

if TYPE_CHECKING:
    from pathlib import Path

MS = 1e6


@pytest.fixture
def history(tmp_path: Path) -> HistoryFolder:
    return HistoryFolder(tmp_path / "history")


def levels(*parts: tuple[int, float], seed: int = 0) -> list[float]:
    random = np.random.default_rng(seed)
    return [float(level * MS * np.exp(random.normal(0, 0.004))) for count, level in parts for _ in range(count)]


def slower_after_an_update(history: HistoryFolder, **changes: Any) -> None:
    """A model that is 8 % slower since the runtime was updated, on night 30."""
    for made in nights(levels((30, 5.0), (20, 5.4)), **changes):
        version = "1.24.0" if made.run < "night-030" else "1.25.0"
        history.add([point(**{**_fields(made), "runtime_version": version})])


def _fields(made: Any) -> dict[str, Any]:
    return {name: getattr(made, name) for name in made.__struct_fields__}


def test_a_change_is_told_with_what_came_with_it(history: HistoryFolder) -> None:
    slower_after_an_update(history)

    (series,) = tell(history, "mobilenet_v2").series

    (change,) = series.changes
    assert (change.run, change.standing) == ("night-030", "confirmed")
    assert change.ratio == pytest.approx(1.08, abs=0.01)
    assert change.causes == (Cause(field="runtime_version", before="1.24.0", after="1.25.0"),)


def test_a_change_with_nothing_recorded_beside_it_says_so(history: HistoryFolder) -> None:
    history.add(nights(levels((30, 5.0), (20, 5.4))))

    story = tell(history, "mobilenet_v2")

    assert story.series[0].changes[0].causes == ()
    assert "nothing that is recorded changed with it" in story_text(story)


def test_a_change_that_the_fixed_piece_of_work_shows_too_is_the_machines(history: HistoryFolder) -> None:
    for made in nights(levels((30, 5.0), (20, 5.4))):
        history.add([point(**{**_fields(made), "canary_ns": 1.0e6 if made.run < "night-030" else 1.08e6})])

    (change,) = tell(history, "mobilenet_v2").series[0].changes

    assert change.standing == "machine"


def test_points_that_may_not_be_compared_are_series_of_their_own(history: HistoryFolder) -> None:
    history.add([point(0), point(1, cpu="another"), point(2, threads=7), point(3, device_class="emulated")])
    history.add([point(4, cpu=None), point(5, os_build="7.0", artifact_sha256="b" * 64)])

    labels = [series.label for series in tell(history, "mobilenet_v2").series]

    assert len(labels) == len(set(labels)) == 5
    assert any("cpu another" in label for label in labels)
    assert any("device class emulated" in label for label in labels)
    assert [len(series.values) for series in tell(history, "mobilenet_v2").series].count(2) == 1


def test_memory_of_two_sources_is_two_series_and_time_one(history: HistoryFolder) -> None:
    history.add([point(0, memory_source="VmHWM"), point(1, memory_source="phys_footprint")])

    assert len(tell(history, "mobilenet_v2", "memory").series) == 2
    assert len(tell(history, "mobilenet_v2", "p50").series) == 1


def test_a_point_without_the_metric_is_not_one_of_zero(history: HistoryFolder) -> None:
    history.add([point(0), point(1, peak_memory_bytes=None, memory_source=None)])

    story = tell(history, "mobilenet_v2", "memory")

    assert [len(series.values) for series in story.series] == [1]
    assert story.points_not_shown == 1


def test_ratios_are_to_the_pinned_run(history: HistoryFolder) -> None:
    history.add(nights([4 * MS, 5 * MS, 6 * MS]))
    history.add([point(0, threads=9, p50_ns=1.0, run="elsewhere")])
    write_pin(history.folder, "mobilenet_v2", Pin(run="night-001"))

    story = tell(history, "mobilenet_v2")

    assert {series.ratios for series in story.series} == {(0.8, 1.0, 1.2), (None,)}
    assert "ratio: to run night-001" in story_text(story)


def test_ratios_to_a_model_of_the_same_run_show_no_change_of_the_machine(history: HistoryFolder) -> None:
    speeds = [1.0] * 30 + [1.3] * 30
    current = levels((30, 5.0), (30, 5.0))
    reference = levels((60, 4.0), seed=1)
    history.add(nights([ns * speed for ns, speed in zip(current, speeds, strict=True)], canary_ns=None))
    history.add(nights([ns * s for ns, s in zip(reference, speeds, strict=True)], model="pinned", canary_ns=None))
    assert tell(history, "mobilenet_v2").series[0].changes

    write_pin(history.folder, "mobilenet_v2", Pin(model="pinned"))
    (series,) = tell(history, "mobilenet_v2").series

    assert series.changes == ()
    assert all(ratio == pytest.approx(1.25, abs=0.03) for ratio in series.ratios)


def test_a_run_without_the_reference_has_no_ratio(history: HistoryFolder) -> None:
    history.add([point(0), point(0, model="pinned", cell="other"), point(1)])
    write_pin(history.folder, "mobilenet_v2", Pin(model="pinned"))

    assert tell(history, "mobilenet_v2").series[0].ratios == (1.0, None)


def test_a_pin_can_be_changed_and_taken_away(history: HistoryFolder) -> None:
    write_pin(history.folder, "a", Pin(run="x"))
    write_pin(history.folder, "b", Pin(model="y"))
    write_pin(history.folder, "a", Pin(run="z"))
    write_pin(history.folder, "b", None)

    assert read_pins(history.folder) == {"a": Pin(run="z")}


def test_a_damaged_file_of_pins_is_said_and_not_overwritten(history: HistoryFolder) -> None:
    write_pin(history.folder, "a", Pin(run="x"))
    (history.folder / "pins.json").write_bytes(b'{"a": ')

    with pytest.raises(UnreadableRecord, match="pin again"):
        write_pin(history.folder, "b", Pin(run="x"))
    assert (history.folder / "pins.json").read_bytes() == b'{"a": '


def test_figures_are_shown_without_references_where_their_file_is_damaged(history: HistoryFolder) -> None:
    slower_after_an_update(history)
    (history.folder / "pins.json").write_bytes(b'{"a": ')

    told = tell(history, "mobilenet_v2")

    assert told.series
    assert told.reference is None
    assert [damage.file for damage in history.damaged] == ["pins.json"]
    assert list_models(history)
    assert [damage.file for damage in history.damaged] == ["pins.json"]


@pytest.mark.parametrize("pin", [Pin(run="night-009"), Pin(model="nobody")])
def test_a_pin_to_what_is_not_there_is_refused(history: HistoryFolder, pin: Pin) -> None:
    history.add([point(0)])

    with pytest.raises(UnknownName):
        require_measured(history, "mobilenet_v2", pin)


def test_an_unknown_model_is_told_with_those_that_are_known(history: HistoryFolder) -> None:
    history.add([point(0)])

    with pytest.raises(UnknownName, match="mobilenet_v3"):
        tell(history, "mobilenet_v3")


def test_what_is_older_is_counted(history: HistoryFolder) -> None:
    history.add(nights([5.0 * MS] * 9))

    story = tell(history, "mobilenet_v2", last=4)

    assert story.series[0].runs == ("night-005", "night-006", "night-007", "night-008")
    assert story.points_not_shown == 5


def test_a_size_changes_at_once_and_certainly(history: HistoryFolder) -> None:
    history.add(
        [point(night, size_bytes=1000 if night < 3 else 1010, artifact_sha256=f"{night // 3}") for night in range(4)]
    )

    (change,) = tell(history, "mobilenet_v2", "size").series[0].changes

    assert (change.run, change.standing) == ("night-003", "confirmed")
    assert change.causes[0].field == "artifact_sha256"


def test_the_table_fits_80_columns_and_holds_what_was_asked(history: HistoryFolder) -> None:
    slower_after_an_update(history)

    text = story_text(tell(history, "mobilenet_v2"))

    assert max(len(line) for line in text.splitlines()) <= 80
    assert "runtime version: 1.24.0 -> 1.25.0" in text
    assert "2026-01-31" in text
    assert "▁" in text
    assert "█" in text


def test_models_are_listed(history: HistoryFolder) -> None:
    history.add([point(0), point(1), point(0, model="other", cell="c")])
    write_pin(history.folder, "other", Pin(run="night-000"))

    told = list_models(history)

    assert [(one.model, one.points, one.runs, one.reference) for one in told] == [
        ("mobilenet_v2", 2, 2, None),
        ("other", 1, 1, Pin(run="night-000")),
    ]
    assert "run night-000" in models_text(told)


def test_the_picture_has_a_panel_a_series_with_its_changes(history: HistoryFolder, tmp_path: Path) -> None:
    slower_after_an_update(history)
    history.add([point(0, threads=4, cell="another")])

    assert draw(tell(history, "mobilenet_v2"), tmp_path / "made" / "history.svg") == 0
    assert draw(tell(history, "mobilenet_v2"), tmp_path / "history.png") == 0

    picture = (tmp_path / "made" / "history.svg").read_text(encoding="utf-8")
    assert picture.count('id="axes_') == 2
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")


def test_files_that_were_left_out_are_in_the_story(history: HistoryFolder) -> None:
    history.add([point(0)])
    cut = history.add([point(1)])
    assert cut is not None
    cut.write_bytes(b"")

    assert [file for file, _ in tell(history, "mobilenet_v2").damaged] == [cut.name]
