"""What is kept of campaigns, from which the README's curve is made."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from harness.regress.selftest.campaign import Campaign, begin
from harness.regress.selftest.run import carry_on
from scripts.operating_curve import keep, kept_name
from tests.regress.selftest.test_campaign import Simulated, plan, scenario

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """A campaign of two sessions."""
    begin(tmp_path / "aa", plan(scenario(comparisons=6)))

    def stop_after_two(_scenario: object, _done: object, left: int) -> None:
        if left == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_on(Campaign.open(tmp_path / "aa"), [Simulated()], watch=stop_after_two)
    (first,) = (tmp_path / "aa").glob("session-*")
    first.rename(first.with_name("session-20260101T000000-1.ndjson"))  # sessions of one second are one
    carry_on(Campaign.open(tmp_path / "aa"), [Simulated()])
    return tmp_path / "aa"


def test_a_campaign_is_kept_with_all_its_values(measured: Path, tmp_path: Path) -> None:
    keep(measured, tmp_path / "kept")

    assert len(list((tmp_path / "kept").glob("session-*.ndjson.gz"))) == 2
    for there, before in zip(Campaign.open(tmp_path / "kept").done, Campaign.open(measured).done, strict=True):
        assert (there.index, there.at, there.seconds) == (before.index, before.at, before.seconds)
        for trial, raw in zip(there.trials, before.trials, strict=True):
            assert trial.log_ratios == raw.log_ratios
            assert trial.a_ns == pytest.approx(raw.a_ns, rel=5e-4)
            assert trial.b_ns == pytest.approx(raw.b_ns, rel=5e-4)
    assert Campaign.open(tmp_path / "kept").done != Campaign.open(measured).done, "some 6 digits are not kept"


def test_a_campaign_that_is_kept_as_itself_loses_nothing(measured: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    keep(measured, kept)

    keep(kept, kept)

    assert len(Campaign.open(kept).done) == 6


def test_packed_sessions_are_kept_beside_those_that_came_later(measured: Path, tmp_path: Path) -> None:
    first = min(measured.glob("session-*.ndjson"))
    first.with_name(f"{first.name}.gz").write_bytes(gzip.compress(first.read_bytes()))
    first.unlink()

    keep(measured, tmp_path / "kept")

    assert len(Campaign.open(tmp_path / "kept").done) == 6


def test_what_is_kept_is_told_apart_by_when_it_was_begun(measured: Path) -> None:
    assert kept_name(measured) == "aa-20261126T0100"


def test_another_campaign_takes_the_place_of_the_one_before(measured: Path, tmp_path: Path) -> None:
    begin(tmp_path / "other", plan(scenario(comparisons=3)))
    carry_on(Campaign.open(tmp_path / "other"), [Simulated()])
    keep(measured, tmp_path / "kept")

    keep(tmp_path / "other", tmp_path / "kept")

    assert len(Campaign.open(tmp_path / "kept").done) == 3
    assert not Campaign.open(tmp_path / "kept").damaged
