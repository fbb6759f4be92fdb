from __future__ import annotations

import gzip
import re
import threading
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.decoding import decode
from harness.errors import DeviceTimedOut, LeaseLost, RunLocked, UnreadableRecord, UsageError
from harness.records import RuntimeChoice
from harness.regress.decision import FamilyRule
from harness.regress.selftest import run as run_module
from harness.regress.selftest.campaign import (
    CAMPAIGN_SCHEMA,
    Campaign,
    CampaignPlan,
    Subject,
    TrialValues,
    begin,
    require_same_detector,
    require_same_subject,
    session,
)
from harness.regress.selftest.figure import draw
from harness.regress.selftest.outcome import (
    Rate,
    _with_bases,
    p_values,
    rule_outcomes,
    scenario_outcomes,
    uniformity_p,
)
from harness.regress.selftest.report import (
    RateTold,
    SelftestReport,
    judgements,
    make_report,
    report_markdown,
    report_text,
)
from harness.regress.selftest.run import carry_on
from harness.regress.selftest.scenario import Scenario, aa_scenarios, power_scenarios
from harness.selftest_page import operating_curve
from harness.selftest_page import render as render_page
from tests.report.test_html import HOSTILE, Page

if TYPE_CHECKING:
    from pathlib import Path

NOISE = 0.012
SUBJECT = Subject(
    model="net",
    artifact_sha256="a" * 64,
    choice=RuntimeChoice(runtime="litert"),
    library_sha256="b" * 64,
    machine="a machine",
    harness_version="0.1.0",
    code_sha256="c" * 64,
)


def plan(*scenarios: Scenario, trials: int = 20) -> CampaignPlan:
    return CampaignPlan(
        schema=CAMPAIGN_SCHEMA,
        created_at="2026-11-26T01:00:00+00:00",
        seed=7,
        scenarios=scenarios,
        trials=trials,
        subject=SUBJECT,
        baseline_ns=1e6,
        baseline_cold_ns=1e7,
        baseline_memory_bytes=10**7,
    )


def scenario(kind: str = "aa", dose: float = 0.0, comparisons: int = 10, metric: str = "p50") -> Scenario:
    return Scenario(kind=kind, dose=dose, metric=metric, comparisons=comparisons)  # type: ignore[arg-type]


class Simulated:
    """A machine whose mood wanders between trials, and that measures what is injected with a little noise."""

    def __init__(self, noise: float = NOISE, *, inference_ns: float = 1e6) -> None:
        self.asked: list[tuple[str, int]] = []
        self._noise, self._inference_ns = noise, inference_ns

    def __call__(self, scenario: Scenario, *, trials: int, seed: int) -> tuple[TrialValues, ...]:
        self.asked.append((scenario.name, seed))
        random = np.random.default_rng(seed)
        inference_ns = self._inference_ns * np.exp(random.normal(0, 0.05))
        # A spin is of a fixed length, by what an inference took when the campaign was planned.
        share_of_ns = {"spin": 1e6, "repeat": inference_ns}.get(scenario.kind, 0.0)
        slower = 1 + scenario.dose * share_of_ns / inference_ns
        made = []
        for _ in range(trials):
            a, b = (inference_ns * np.exp(random.normal(0, self._noise, (2, 24)))) * [[1.0], [slower]]
            ratio = float(np.log(slower) + random.normal(0, self._noise))
            log_ratios = {"p50": ratio, "p90": ratio, "cold_start": ratio, "memory": ratio / 10}
            made.append(TrialValues(log_ratios=log_ratios, a_ns=tuple(map(int, a)), b_ns=tuple(map(int, b))))
        return tuple(made)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    folder = tmp_path_factory.mktemp("campaign")
    begun = begin(folder, plan(scenario(comparisons=60), scenario("spin", 0.03, 60), scenario("spin", 0.005, 20)))
    carry_on(begun, [Simulated()])
    return Campaign.open(folder)


@pytest.fixture(scope="module")
def told(campaign: Campaign) -> SelftestReport:
    return make_report([campaign])


def test_a_campaign_that_was_stopped_goes_on_and_does_each_comparison_once(tmp_path: Path) -> None:
    folder = tmp_path / "campaign"
    first, second = Simulated(), Simulated()
    begin(folder, plan(scenario(comparisons=6), scenario("spin", 0.05, 4)))

    def kill_after_four(_scenario: object, _done: object, left: int) -> None:
        if left == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_on(Campaign.open(folder), [first], watch=kill_after_four)
    assert len(Campaign.open(folder).left) == 6

    assert carry_on(Campaign.open(folder), [second]) == 6
    whole = Campaign.open(folder)
    assert whole.left == ()
    assert sorted(one.index for one in whole.done) == list(range(10))
    seeds = {seed for _, seed in first.asked} | {seed for _, seed in second.asked}
    assert len(seeds) == len(first.asked) + len(second.asked)


def test_the_order_is_fixed_by_the_plan_and_mixes_the_scenarios() -> None:
    planned = plan(scenario(comparisons=50), scenario("spin", 0.02, 50))

    assert planned.order == plan(scenario(comparisons=50), scenario("spin", 0.02, 50)).order
    assert sorted(planned.order) == [0] * 50 + [1] * 50
    assert 10 < sum(planned.order[:50]) < 40


def test_a_cut_line_is_named_and_its_comparison_done_again(tmp_path: Path) -> None:
    folder = tmp_path / "campaign"
    carry_on(begin(folder, plan(scenario(comparisons=3))), [Simulated()])
    (path,) = folder.glob("session-*.ndjson")
    content = path.read_bytes()
    path.write_bytes(content[:-30])

    cut = Campaign.open(folder)

    assert len(cut.done) == 2
    assert len(cut.left) == 1
    assert cut.damaged[0].where == f"{path.name}:3"
    assert carry_on(cut, [Simulated()]) == 1


def test_packed_sessions_are_read_and_what_is_stored_twice_counts_once(tmp_path: Path) -> None:
    folder = tmp_path / "campaign"
    carry_on(begin(folder, plan(scenario(comparisons=3))), [Simulated()])
    (path,) = folder.glob("session-*.ndjson")
    packed = folder / "session-0.ndjson.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))

    assert len(Campaign.open(folder).done) == 3
    packed.write_bytes(packed.read_bytes()[:-40])
    assert [damage.where for damage in Campaign.open(folder).damaged] == [packed.name]


def test_two_sessions_at_once_are_refused(tmp_path: Path) -> None:
    begun = begin(tmp_path, plan(scenario(comparisons=1)))
    with session(tmp_path), pytest.raises(RunLocked):
        carry_on(begun, [Simulated()])


def test_a_session_ends_when_its_time_is_over(tmp_path: Path) -> None:
    assert carry_on(begin(tmp_path, plan(scenario(comparisons=5))), [Simulated()], at_most_s=0) == 0


def test_a_comparison_that_cannot_be_made_is_told_and_left_for_later(tmp_path: Path) -> None:
    class Failing(Simulated):
        def __call__(self, scenario: Scenario, *, trials: int, seed: int) -> tuple[TrialValues, ...]:
            if not self.asked:
                self.asked.append(("failed", seed))
                raise DeviceTimedOut("host", "bench", 1.0)
            return super().__call__(scenario, trials=trials, seed=seed)

    told: list[object] = []
    done = carry_on(
        begin(tmp_path, plan(scenario(comparisons=3))), [Failing()], watch=lambda _s, one, _left: told.append(one)
    )

    assert done == 2
    assert isinstance(told[0], DeviceTimedOut)
    assert len(Campaign.open(tmp_path).left) == 1


def test_a_machine_that_can_make_none_ends_the_session(tmp_path: Path) -> None:
    def failing(scenario: Scenario, *, trials: int, seed: int) -> tuple[TrialValues, ...]:
        raise DeviceTimedOut("host", "bench", 1.0)

    begun = begin(tmp_path, plan(scenario(comparisons=run_module.FAILURES_MAX + 3)))
    with pytest.raises(DeviceTimedOut):
        carry_on(begun, [failing])


def test_a_machine_that_another_run_has_taken_over_ends_the_session_at_once(tmp_path: Path) -> None:
    told: list[object] = []

    def lost(scenario: Scenario, *, trials: int, seed: int) -> tuple[TrialValues, ...]:
        raise LeaseLost("host", "the nightly run")

    with pytest.raises(LeaseLost):
        carry_on(begin(tmp_path, plan(scenario(comparisons=3))), [lost], watch=lambda *what: told.append(what))

    assert told == []
    assert len(Campaign.open(tmp_path).left) == 3


def test_lanes_work_at_once_and_make_each_comparison_once(tmp_path: Path) -> None:
    together = threading.Barrier(2, timeout=10)

    class Waiting(Simulated):
        def __call__(self, scenario: Scenario, *, trials: int, seed: int) -> tuple[TrialValues, ...]:
            together.wait()  # for one of the other lane that is under way, too
            return super().__call__(scenario, trials=trials, seed=seed)

    left: list[int] = []
    begun = begin(tmp_path, plan(scenario(comparisons=8)))
    assert carry_on(begun, [Waiting(), Waiting()], watch=lambda *what: left.append(what[2])) == 8

    stored = Campaign.open(tmp_path)
    assert sorted(one.index for one in stored.done) == list(range(8))
    assert sorted(one.lane for one in stored.done) == [0] * 4 + [1] * 4
    assert left == [7, 6, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("error", [LeaseLost("host", "the nightly run"), KeyboardInterrupt(), OSError("no memory")])
def test_what_ends_one_lane_ends_the_others_at_once_and_is_what_is_told(tmp_path: Path, error: BaseException) -> None:
    stopped, begun = threading.Event(), threading.Event()

    def failing(scenario: Scenario, *, trials: int, seed: int) -> tuple[TrialValues, ...]:
        assert begun.wait(timeout=10)
        raise error

    def long(scenario: Scenario, *, trials: int, seed: int) -> tuple[TrialValues, ...]:
        begun.set()
        assert stopped.wait(timeout=10), "it was not told to stop"
        raise DeviceTimedOut("host", "what it was stopped in", 1.0)

    campaign = begin(tmp_path, plan(scenario(comparisons=9)))
    with pytest.raises(type(error)) as caught:
        carry_on(campaign, [failing, long], stop=stopped.set)

    assert caught.value is error
    assert len(Campaign.open(tmp_path).left) == 9


def test_a_decision_in_two_stages_has_trials_of_its_own(campaign: Campaign) -> None:
    aa, *_ = scenario_outcomes([campaign])
    rule = FamilyRule()

    trials = 60 * 20
    assert aa.two_stage == Rate(count=0, of=trials // (rule.screen_trials + rule.confirm_trials))


def test_another_machine_or_build_may_not_add_to_a_campaign() -> None:
    other = msgspec.structs.replace(SUBJECT, machine="another", library_sha256="c" * 64)

    require_same_subject(SUBJECT, SUBJECT)
    with pytest.raises(UsageError, match="machine was 'a machine' and is 'another'"):
        require_same_subject(SUBJECT, other)


def test_what_a_spin_is_a_share_of_is_the_machine_as_it_was_in_the_comparison(tmp_path: Path) -> None:
    begun = begin(tmp_path, plan(scenario("spin", 0.1, 20)))
    carry_on(begun, [Simulated(inference_ns=1.3e6)])

    (spin,) = scenario_outcomes([Campaign.open(tmp_path)])

    assert spin.recovered_points == pytest.approx(0, abs=0.3)  # and not 7.7 less 10
    assert spin.covered is not None
    assert spin.covered.count >= 19


def campaign_of(folder: Path, *scenarios: Scenario, **subject: str) -> Campaign:
    replaced = msgspec.structs.replace(SUBJECT, **subject)
    begun = begin(folder, msgspec.structs.replace(plan(*scenarios), subject=replaced))
    carry_on(begun, [Simulated()])
    return Campaign.open(folder)


def test_comparisons_on_several_machines_count_together(tmp_path: Path) -> None:
    spin = scenario("spin", 0.03, 5)
    first = campaign_of(tmp_path / "first", scenario(comparisons=12), spin)
    # The weights are drawn on the machine, and two processors of one name may draw others.
    second = campaign_of(tmp_path / "second", scenario(comparisons=8), artifact_sha256="d" * 64)
    third = campaign_of(tmp_path / "third", scenario(comparisons=4), machine="a board")
    campaigns = [first, second, third]

    require_same_detector(campaigns)
    told = make_report(campaigns)

    assert [(one.name, one.done, one.planned) for one in told.scenarios] == [("aa", 24, 12), ("spin 3 %", 5, 5)]
    (ours,) = (one for one in told.rules if one.rule == "this program")
    assert (ours.rates["aa"].of, ours.rates["spin 3 %"].of) == (24, 5)
    assert (told.machine, told.baselines_ns) == ("a machine; a board", (1e6, 1e6, 1e6))
    assert "a machine; a board; an inference takes 1.00 ms, 1.00 ms and 1.00 ms (3 machines or files)" in (
        report_text(told)
    )


def test_campaigns_of_different_detectors_are_not_counted_together(tmp_path: Path) -> None:
    ours = campaign_of(tmp_path / "ours", scenario(comparisons=2))
    other = campaign_of(tmp_path / "other", scenario(comparisons=2), code_sha256="e" * 64)

    with pytest.raises(UsageError, match=r"ours and .*other are of different detectors.* code_sha256 was 'ccc"):
        require_same_detector([ours, other])
    longer = Campaign(ours.folder, msgspec.structs.replace(ours.plan, trials=30), (), ())
    with pytest.raises(UsageError, match="trials 20 and 30"):
        require_same_detector([ours, longer])


def test_a_second_plan_for_one_folder_is_refused_and_none_is_said(tmp_path: Path) -> None:
    begin(tmp_path, plan(scenario()))
    with pytest.raises(UsageError):
        begin(tmp_path, plan(scenario()))
    with pytest.raises(UnreadableRecord, match="no campaign"):
        Campaign.open(tmp_path / "none")
    (tmp_path / "plan.json").write_bytes(b"{")
    with pytest.raises(UnreadableRecord, match="damaged"):
        Campaign.open(tmp_path)


def test_rates_are_those_that_were_simulated(campaign: Campaign) -> None:
    aa, large, small = scenario_outcomes([campaign])

    assert aa.slower.count <= 3
    assert large.slower == Rate(count=60, of=60)
    assert small.slower.count < 15
    assert large.recovered_points == pytest.approx(0, abs=0.3)
    assert large.noise == pytest.approx(NOISE, rel=0.3)
    assert aa.covered is not None
    assert aa.covered.count >= 56


def test_p_values_of_one_build_are_uniform(campaign: Campaign) -> None:
    values = p_values([campaign])

    assert len(values) == 60
    assert (uniformity_p(values) or 0) > 0.001
    assert uniformity_p(values[:4]) is None
    assert (uniformity_p([0.001] * 30) or 0) < 0.001


def test_rules_are_judged_on_the_same_values_in_both_orders(told: SelftestReport) -> None:
    found = {(one.rule, one.order): one.rates for one in told.rules}

    for rule in ("criterion.rs", "Google Benchmark", "asv", "pyperf"):
        # The first of all comparisons has none before it.
        assert found[rule, "interleaved"]["aa"].of - found[rule, "one after the other"]["aa"].of in {0, 1}
        assert found[rule, "one after the other"]["aa"].of > 50
    assert ("this program", "one after the other") not in found
    # The mood of the simulated machine is in the second order only.
    in_turn, mixed = found["pyperf", "one after the other"]["aa"], found["pyperf", "interleaved"]["aa"]
    assert in_turn.count > 3 * mixed.count
    assert found["this program", "interleaved"]["spin 3 %"].at_least > 0.8


def test_a_run_before_is_always_of_the_unchanged_build_on_an_untouched_machine(tmp_path: Path) -> None:
    kinds = ("aa", "step", "ramp", "neighbour", "spin")
    made = begin(tmp_path, plan(*(scenario(kind, 0.1 * (kind not in {"aa", "neighbour"}), 8) for kind in kinds)))
    carry_on(made, [Simulated()])
    stored = Campaign.open(tmp_path)
    kind_of = {one.index: stored.plan.scenarios[stored.plan.order[one.index]].kind for one in stored.done}

    pairs = list(_with_bases(stored))

    assert len(pairs) == 40
    for shown, base, this in pairs:
        if shown.kind in {"step", "ramp", "neighbour"}:
            assert base is None
        elif base is not None:
            assert kind_of[base.index] in {"aa", "spin"}
            assert base.at <= this.at
            assert base is not this
    rates = {one.order: one.rates for one in rule_outcomes([stored]) if one.rule == "pyperf"}
    assert set(rates["one after the other"]) == {"aa", "spin 10 %"}


def test_one_regression_beside_a_neighbour_is_one_too_many(told: SelftestReport) -> None:
    (aa, *_) = told.scenarios

    def judged(regressions: int, of: int) -> bool | None:
        rate = RateTold(count=regressions, of=of, at_least=0.0, at_most=1.0)
        one = msgspec.structs.replace(aa, name="neighbour", kind="neighbour", done=of, regressions=rate)
        found = dict(judgements(msgspec.structs.replace(told, scenarios=(one,))))
        return found[f"neighbour: none of {of} a regression"]

    assert judged(1, 300) is False
    assert judged(0, 300) is True
    assert judged(0, 0) is None


@pytest.mark.parametrize(("found", "of", "is_so"), [(59, 59, True), (20, 20, None), (50, 60, False), (58, 60, None)])
def test_a_share_is_claimed_where_its_limit_shows_it(
    told: SelftestReport, found: int, of: int, is_so: bool | None
) -> None:
    spin = next(one for one in told.scenarios if one.name == "spin 3 %")
    rate = Rate(count=found, of=of)
    slower = RateTold(count=found, of=of, at_least=rate.at_least, at_most=rate.at_most)

    one = msgspec.structs.replace(spin, done=of, slower=slower)

    judged = dict(judgements(msgspec.structs.replace(told, scenarios=(one,))))
    assert judged["spin 3 %: at least 95 % found"] is is_so


def test_limits_of_a_rate_are_those_of_clopper_and_pearson() -> None:
    assert Rate(count=4, of=1000).at_most == pytest.approx(0.0091, abs=1e-4)
    assert Rate(count=5, of=1000).at_most == pytest.approx(0.0105, abs=1e-4)
    assert Rate(count=0, of=299).at_most == pytest.approx(0.01, abs=1e-4)
    assert (Rate(count=0, of=9).at_least, Rate(count=9, of=9).at_most) == (0.0, 1.0)
    assert Rate(count=9, of=9).at_least == pytest.approx(1 - Rate(count=0, of=9).at_most)
    assert Rate(count=0, of=0).share is None


def test_the_report_says_what_is_asked_and_claims_nothing_from_too_little(told: SelftestReport) -> None:
    judged = dict(judgements(told))

    assert judged["spin 3 %: at least 95 % found"] is True
    assert judged["aa: alarms at most 1 %"] is None  # 60 comparisons cannot show it
    assert judged["a comparison takes at most 60 s"] is True
    text, markdown = report_text(told), report_markdown(told)
    for word in ("criterion.rs", "too little measured", "spin 0.5 %", "100.0 %", "net"):
        assert word in text
        assert word in markdown


def test_a_campaign_without_comparisons_has_no_rates(tmp_path: Path) -> None:
    empty = begin(tmp_path, plan(*aa_scenarios(20), *power_scenarios(3)))
    told = make_report([empty])

    assert {one.done for one in told.scenarios} == {0}
    assert {ok for _, ok in judgements(told)} == {None}
    assert "not begun" in report_text(told)


def test_the_operating_curve_is_drawn(told: SelftestReport, tmp_path: Path) -> None:
    draw(told, tmp_path / "made" / "curve.svg")

    assert (tmp_path / "made" / "curve.svg").read_text(encoding="utf-8").count('id="axes_') == 2
    with pytest.raises(UsageError):
        draw(told, tmp_path / "curve.xlsx")


def test_the_report_is_a_page_with_the_operating_curve_of_every_rule(told: SelftestReport) -> None:
    text = render_page(told, version="1")
    page = Page(text)

    said = " ".join(words for _, words in page.texts)
    for word in ("criterion.rs", "too little measured", "Too little is measured to say", "spin 3 %"):
        assert word in said
    curve = operating_curve(told)
    assert curve is not None
    rules = {str(datum["rule"]) for datum in curve.data}
    assert "this program, interleaved" in rules
    assert {f"pyperf, {order}" for order in ("interleaved", "one after the other")} <= rules
    by_dose = {datum["dose_pct"]: datum for datum in curve.data if datum["tool"] == "this program"}
    told_of = {one.name: one.slower for one in told.scenarios}
    assert by_dose[3.0]["found_pct"] == pytest.approx(100 * told_of["spin 3 %"].count / told_of["spin 3 %"].of)
    (embedded,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert decode(embedded.encode(), SelftestReport) == told


def test_a_page_of_a_campaign_without_comparisons_has_no_picture(tmp_path: Path) -> None:
    empty = make_report([begin(tmp_path, plan(*aa_scenarios(20)))])

    assert operating_curve(empty) is None
    assert "not begun" in render_page(empty, version="1")


def test_no_name_of_a_machine_becomes_markup(told: SelftestReport) -> None:
    hostile = msgspec.structs.replace(told, machine=HOSTILE, model=HOSTILE)

    def shape(report: SelftestReport) -> list[str]:
        return [tag for tag, _ in Page(render_page(report, version="1")).elements if tag != "wbr"]

    assert shape(hostile) == shape(told)


def test_the_command_writes_the_page_beside_the_table(campaign: Campaign, tmp_path: Path) -> None:
    page = tmp_path / "made" / "selftest.html"

    result = CliRunner().invoke(app, ["selftest", "report", str(campaign.folder), "--page", str(page)])

    assert result.exception is None, result.exception
    assert "spin 3 %" in result.stdout
    assert "How often this program is wrong about a slowdown" in page.read_text(encoding="utf-8")


def test_the_pages_tables_sort_by_their_numbers(told: SelftestReport) -> None:
    page = Page(render_page(told, version="1"))

    values = [cell.get("data-v") for cell in page.attributes("td")]
    assert {"100.0", "60"} <= set(values)
