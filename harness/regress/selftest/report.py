"""What a campaign found, as a record that is kept, as text for a terminal, and as Markdown for the README."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness import units
from harness.records import Record
from harness.regress.decision import Metric  # noqa: TC001  (msgspec reads the annotation)
from harness.regress.selftest.outcome import p_values, rule_outcomes, scenario_outcomes, uniformity_p
from harness.regress.selftest.scenario import MUST_NOT_ALARM, WHAT, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.regress.selftest.campaign import Campaign
    from harness.regress.selftest.outcome import Rate, ScenarioOutcome

REPORT_SCHEMA: Final = 1
ALARMS_MAX: Final = 0.01
POWER_LEAST: Final = {0.02: 0.90, 0.03: 0.95}
"""Dose -> the share of slowdowns that has to be found."""
RECOVERED_WITHIN_POINTS: Final = 0.3
SECONDS_MAX: Final = 60.0


class RateTold(Record, frozen=True, kw_only=True):
    """So often, with the one-sided 95 % limits of the true rate."""

    count: int
    of: int
    at_least: float
    at_most: float


class ScenarioTold(Record, frozen=True, kw_only=True):
    """One line of the first table. `harness.regress.selftest.outcome.ScenarioOutcome` says what each field is."""

    name: str
    kind: Kind
    dose: float
    metric: Metric
    planned: int
    done: int
    verdicts: dict[str, int]
    slower: RateTold
    two_stage: RateTold | None
    covered: RateTold | None
    recovered_points: float | None
    noise: float | None
    seconds: float | None


class RuleTold(Record, frozen=True, kw_only=True):
    """One line of the second table."""

    rule: str
    order: str
    rates: dict[str, RateTold]


class SelftestReport(Record, frozen=True, kw_only=True):
    """What one or several campaigns of one subject found."""

    schema: int
    machine: str
    model: str
    runtime: str
    harness_version: str
    trials: int
    first_at: str | None
    last_at: str | None
    sessions_load_1min: tuple[float, float, float] | None
    """Lowest, median and highest load of the machine over the comparisons."""
    scenarios: tuple[ScenarioTold, ...]
    uniformity_p: float | None
    """Kolmogorov-Smirnov test that the p-values of the comparisons of one build with itself are uniform."""
    rules: tuple[RuleTold, ...]
    damaged: tuple[tuple[str, str], ...]


def make_report(
    campaigns: Sequence[Campaign], *, watch: Callable[[int, int], None] = lambda _done, _of: None
) -> SelftestReport:
    """Compute all rates.

    Args:
        campaigns: At least one, all of one subject (`require_same_subject`).
        watch: Told how many rules of how many are through, for each campaign.
    """
    plan = campaigns[0].plan
    done = sorted((one for campaign in campaigns for one in campaign.done), key=lambda one: one.at)
    loads = sorted(one.load_1min for one in done)
    rules: dict[tuple[str, str], dict[str, RateTold]] = {}
    for campaign in campaigns:
        for outcome in rule_outcomes(campaign, watch=watch):
            told = rules.setdefault((outcome.rule, outcome.order), {})
            told.update({name: _told(rate) for name, rate in outcome.rates.items()})
    values = [value for campaign in campaigns for value in p_values(campaign)]
    return SelftestReport(
        schema=REPORT_SCHEMA,
        machine=plan.subject.machine,
        model=plan.subject.model,
        runtime=f"{plan.subject.choice.runtime}, {plan.subject.choice.threads} threads",
        harness_version=plan.subject.harness_version,
        trials=plan.trials,
        first_at=done[0].at if done else None,
        last_at=done[-1].at if done else None,
        sessions_load_1min=(loads[0], loads[len(loads) // 2], loads[-1]) if loads else None,
        scenarios=tuple(_scenario(one) for campaign in campaigns for one in scenario_outcomes(campaign)),
        uniformity_p=uniformity_p(values),
        rules=tuple(RuleTold(rule=rule, order=order, rates=rates) for (rule, order), rates in rules.items() if rates),
        damaged=tuple((damage.where, damage.problem) for campaign in campaigns for damage in campaign.damaged),
    )


def judgements(report: SelftestReport) -> list[tuple[str, bool | None]]:
    """What is asked of the detector, and whether it is so; None where too little is measured to say."""
    by_name = {one.name: one for one in report.scenarios}
    found: list[tuple[str, bool | None]] = []
    for one in report.scenarios:
        if one.kind in MUST_NOT_ALARM:
            found.append((f"{one.name}: alarms at most {100 * ALARMS_MAX:g} %", _is_at_most(one.slower, ALARMS_MAX)))
        if one.two_stage is not None:
            found.append((f"{one.name}, two stages: alarms at most 0.1 %", _is_at_most(one.two_stage, 0.001)))
    for kind in ("spin", "repeat"):
        for dose, least in POWER_LEAST.items():
            told = by_name.get(f"{kind} {100 * dose:g} %")
            if told is not None:
                share = told.slower.count / told.done if told.done else None
                text = f"{told.name}: at least {100 * least:g} % found"
                found.append((text, None if share is None else share >= least))
    for one in report.scenarios:
        if one.recovered_points is not None and one.dose and one.metric == "p50":
            text = f"{one.name}: recovered within {RECOVERED_WITHIN_POINTS} points"
            found.append((text, abs(one.recovered_points) <= RECOVERED_WITHIN_POINTS))
    slowest = max((one.seconds for one in report.scenarios if one.seconds is not None), default=None)
    found.append((f"a comparison takes at most {SECONDS_MAX:g} s", None if slowest is None else slowest <= SECONDS_MAX))
    return found


def report_tables(report: SelftestReport) -> list[tuple[str, list[tuple[str, ...]]]]:
    """Title and rows, heads first, of each table."""
    scenarios: list[tuple[str, ...]] = [
        ("what", "done", "called slower", "true rate", "found - injected", "interval holds")
    ]
    scenarios += [
        (
            one.name,
            f"{one.done} of {one.planned}",
            _share(one.slower),
            _limits(one.slower),
            "–" if one.recovered_points is None else f"{one.recovered_points:+.2f} points",
            "–" if one.covered is None else _share(one.covered),
        )
        for one in report.scenarios
    ]
    names = [one.name for one in report.scenarios if one.metric == "p50" and one.kind in {"aa", "spin"}]
    rules: list[tuple[str, ...]] = [("rule", "order", *names)]
    rules += [
        (rule.rule, rule.order, *(_share(rule.rates[name]) if name in rule.rates else "–" for name in names))
        for rule in report.rules
    ]
    judged: list[tuple[str, ...]] = [("asked for", "is so")]
    judged += [(text, {True: "yes", False: "no", None: "too little measured"}[ok]) for text, ok in judgements(report)]
    return [
        ("What the detector makes of what is done to the second build", scenarios),
        ("Called slower by each rule on the same recorded times", rules),
        ("What is asked of it", judged),
    ]


def report_text(report: SelftestReport) -> str:
    """For a terminal."""
    lines = [report_heading(report)]
    for title, rows in report_tables(report):
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines += ["", title, ""]
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
    return "\n".join(lines)


def report_markdown(report: SelftestReport) -> str:
    """For the README."""
    parts = [report_heading(report)]
    for title, (heads, *rows) in report_tables(report):
        lines = [" | ".join(heads), " | ".join("---" for _ in heads), *(" | ".join(row) for row in rows)]
        parts.append(f"**{title}.**\n\n" + "\n".join(f"| {line} |" for line in lines))
    parts.append("; ".join(f"{kind}: {what}" for kind, what in WHAT.items() if _has(report, kind)) + ".")
    return "\n\n".join(parts) + "\n"


def report_heading(report: SelftestReport) -> str:
    """What was compared, where and when."""
    done = sum(one.done for one in report.scenarios)
    when = f"{report.first_at[:10]} to {report.last_at[:10]}" if report.first_at and report.last_at else "not begun"
    parts = [
        f"{done:,} comparisons of {report.model} ({report.runtime}), {report.trials} trials each",
        report.machine,
        when,
    ]
    if report.sessions_load_1min is not None:
        low, middle, high = report.sessions_load_1min
        parts.append(f"load {low:.1f} to {high:.1f}, median {middle:.1f}")
    if report.uniformity_p is not None:
        parts.append(f"p-values of equal builds uniform: p = {report.uniformity_p:.2g}")
    return "; ".join(parts) + "."


def _scenario(outcome: ScenarioOutcome) -> ScenarioTold:
    scenario = outcome.scenario
    return ScenarioTold(
        name=scenario.name,
        kind=scenario.kind,
        dose=scenario.dose,
        metric=scenario.metric,
        planned=scenario.comparisons,
        done=outcome.done,
        verdicts=dict(sorted(outcome.verdicts.items())),
        slower=_told(outcome.slower),
        two_stage=None if outcome.two_stage is None else _told(outcome.two_stage),
        covered=None if outcome.covered is None else _told(outcome.covered),
        recovered_points=outcome.recovered_points,
        noise=outcome.noise,
        seconds=outcome.seconds,
    )


def _told(rate: Rate) -> RateTold:
    return RateTold(count=rate.count, of=rate.of, at_least=rate.at_least, at_most=rate.at_most)


def _is_at_most(rate: RateTold, limit: float) -> bool | None:
    """True only where the true rate is at most that with 95 % confidence; False where it is more, likewise."""
    if rate.of and rate.at_most <= limit:
        return True
    return False if rate.at_least > limit else None


def _share(rate: RateTold) -> str:
    return units.percent(100 * rate.count / rate.of) if rate.of else "–"


def _limits(rate: RateTold) -> str:
    return f"{100 * rate.at_least:.1f} to {100 * rate.at_most:.1f} %" if rate.of else "–"


def _has(report: SelftestReport, kind: str) -> bool:
    return any(one.kind == kind for one in report.scenarios)
