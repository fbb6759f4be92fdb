"""What a campaign found, as a record that is kept, as text for a terminal, and as Markdown for the README."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness import units
from harness.records import Record
from harness.regress.decision import FamilyRule, Metric
from harness.regress.selftest.outcome import p_values, rule_outcomes, scenario_outcomes, uniformity_p
from harness.regress.selftest.scenario import MUST_NOT_ALARM, POWER_LEAST, WHAT, Kind
from harness.statistics import median
from harness.text import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.regress.selftest.campaign import Campaign
    from harness.regress.selftest.outcome import Rate, RuleOutcome, ScenarioOutcome

REPORT_SCHEMA: Final = 1
ALARMS_MAX: Final = 0.01
TWO_STAGE_ALARMS_MAX: Final = 0.001
RECOVERED_WITHIN_POINTS: Final = 0.3
RECOVERED_FROM: Final = 20
"""Comparisons of one dose, from which on the median effect is judged."""
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
    regressions: RateTold
    two_stage: RateTold | None
    covered: RateTold | None
    recovered_points: float | None
    noise: float | None
    seconds: float | None
    seconds_p95: float | None


class RuleTold(Record, frozen=True, kw_only=True):
    """One line of the second table."""

    rule: str
    order: str
    rates: dict[str, RateTold]


class SelftestReport(Record, frozen=True, kw_only=True):
    """What one or several campaigns of one detector found."""

    schema: int
    machine: str
    """Of several, each once."""
    baselines_ns: tuple[float, ...] = ()
    """Of the unchanged build, one for each machine and file, lowest first. A file that differs may be all that tells
    two machines of one name apart, or may come of another converter."""
    model: str
    runtime: str
    harness_version: str
    trials: int
    lanes: int = 1
    """Comparisons at once, each on a processor of its own; the most of any of the campaigns."""
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
        campaigns: At least one, all of one detector (`require_same_detector`).
        watch: Told how many rules of how many are through.
    """
    plan = campaigns[0].plan
    done = sorted((one for campaign in campaigns for one in campaign.done), key=lambda one: one.at)
    loads = sorted(one.load_1min for one in done)
    baselines: dict[tuple[str, str], list[float]] = {}
    for campaign in campaigns:
        subject = campaign.plan.subject
        baselines.setdefault((subject.machine, subject.artifact_sha256), []).append(campaign.plan.baseline_ns)
    return SelftestReport(
        schema=REPORT_SCHEMA,
        machine="; ".join(dict.fromkeys(machine for machine, _ in baselines)),
        baselines_ns=tuple(sorted(median(times) for times in baselines.values())),
        model=plan.subject.model,
        runtime=f"{plan.subject.choice.runtime}, {count(plan.subject.choice.threads, 'thread', 'threads')}",
        harness_version=plan.subject.harness_version,
        trials=plan.trials,
        lanes=max(campaign.plan.lanes for campaign in campaigns),
        first_at=done[0].at if done else None,
        last_at=done[-1].at if done else None,
        sessions_load_1min=(loads[0], loads[len(loads) // 2], loads[-1]) if loads else None,
        scenarios=tuple(_scenario(one) for one in scenario_outcomes(campaigns)),
        uniformity_p=uniformity_p(p_values(campaigns)),
        rules=tuple(_rule(one) for one in rule_outcomes(campaigns, watch=watch) if one.rates),
        damaged=tuple((damage.where, damage.problem) for campaign in campaigns for damage in campaign.damaged),
    )


def judgements(report: SelftestReport) -> list[tuple[str, bool | None]]:
    """What is asked of the detector, and whether it is so; None where too little is measured to say.

    A rate is held to be so, or not, where its one-sided 95 % limit shows it. How far off an effect is has no limit: it
    is said from `RECOVERED_FROM` comparisons on.
    """
    found: list[tuple[str, bool | None]] = []
    for one in report.scenarios:
        if one.kind in MUST_NOT_ALARM:
            found.append((f"{one.name}: alarms at most {100 * ALARMS_MAX:g} %", _is_at_most(one.slower, ALARMS_MAX)))
        if one.two_stage is not None:
            text = f"{one.name}, two stages: alarms at most {100 * TWO_STAGE_ALARMS_MAX:g} %"
            found.append((text, _is_at_most(one.two_stage, TWO_STAGE_ALARMS_MAX)))
        if one.kind == "neighbour":
            # Of never, one is a counterexample and any number without one is no proof.
            found.append((f"{one.name}: none of {one.done} a regression", _is_never(one.regressions)))
        least = POWER_LEAST.get(one.dose) if one.kind in {"spin", "repeat"} else None
        if least is not None:
            found.append((f"{one.name}: at least {100 * least:g} % found", _is_at_least(one.slower, least)))
    for one in report.scenarios:
        if one.dose and one.metric == "p50" and one.kind in {"spin", "repeat"}:
            text = f"{one.name}: recovered within {RECOVERED_WITHIN_POINTS} points"
            is_enough = one.recovered_points is not None and one.done >= RECOVERED_FROM
            found.append((text, abs(one.recovered_points or 0) <= RECOVERED_WITHIN_POINTS if is_enough else None))
    longest = max((one.seconds_p95 for one in report.scenarios if one.seconds_p95 is not None), default=None)
    rule = FamilyRule()
    for what, trials in (
        ("a comparison", report.trials),
        ("one in two stages", rule.screen_trials + rule.confirm_trials),
    ):
        seconds = None if longest is None else longest * trials / report.trials
        found.append((f"{what} takes at most {SECONDS_MAX:g} s", None if seconds is None else seconds <= SECONDS_MAX))
    return found


def report_tables(report: SelftestReport) -> list[tuple[str, list[tuple[str, ...]]]]:
    """Title and rows, heads first, of each table."""
    scenarios: list[tuple[str, ...]] = [
        ("what", "done", "slower", "true rate, %", "regression", "points off", "covered")
    ]
    scenarios += [
        (
            one.name,
            f"{one.done}/{one.planned}",
            _share(one.slower),
            _limits(one.slower),
            _share(one.regressions),
            "–" if one.recovered_points is None else f"{one.recovered_points:+.2f}",
            "–" if one.covered is None else _share(one.covered),
        )
        for one in report.scenarios
    ]
    judged: list[tuple[str, ...]] = [("asked for", "is so")]
    judged += [(text, {True: "yes", False: "no", None: "too little measured"}[ok]) for text, ok in judgements(report)]
    return [
        ("What the detector makes of what is done to the second build", scenarios),
        *_rule_tables(report),
        ("What is asked of it", judged),
    ]


def _rule_tables(report: SelftestReport) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """One for each order in which the builds were measured: a rule a line, a slowdown a column."""
    shown = {
        one.name: "aa" if one.kind == "aa" else f"{100 * one.dose:g} %"
        for one in report.scenarios
        if one.metric == "p50" and one.kind in {"aa", "spin"}
    }
    for order in dict.fromkeys(rule.order for rule in report.rules):
        rows: list[tuple[str, ...]] = [("rule", *shown.values())]
        rows += [
            (rule.rule, *(_share(rule.rates[name]) if name in rule.rates else "–" for name in shown))
            for rule in report.rules
            if rule.order == order
        ]
        yield f"Called slower by each rule, of builds slower by so much (spin), {order}", rows


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
    days = dict.fromkeys(at[:10] for at in (report.first_at, report.last_at) if at)
    when = " to ".join(days) or "not begun"
    parts = [
        f"{done:,} comparisons of {report.model} ({report.runtime}), {report.trials} trials each",
        report.machine,
    ]
    if len(report.baselines_ns) > 1:
        *times, last = map(units.duration, report.baselines_ns)
        took = f"{', '.join(times)} and {last}"
        parts.append(f"an inference takes {took} ({len(report.baselines_ns)} machines or files)")
    parts.append(when)
    if report.lanes > 1:
        parts.append(f"{report.lanes} at a time, each on a processor of its own")
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
        regressions=_told(outcome.regressions),
        two_stage=None if outcome.two_stage is None else _told(outcome.two_stage),
        covered=None if outcome.covered is None else _told(outcome.covered),
        recovered_points=outcome.recovered_points,
        noise=outcome.noise,
        seconds=outcome.seconds,
        seconds_p95=outcome.seconds_p95,
    )


def _rule(outcome: RuleOutcome) -> RuleTold:
    rates = {name: _told(rate) for name, rate in outcome.rates.items()}
    return RuleTold(rule=outcome.rule, order=outcome.order, rates=rates)


def _told(rate: Rate) -> RateTold:
    return RateTold(count=rate.count, of=rate.of, at_least=rate.at_least, at_most=rate.at_most)


def _is_at_most(rate: RateTold, limit: float) -> bool | None:
    """True only where the true rate is at most that with 95 % confidence; False where it is more, likewise."""
    if rate.of and rate.at_most <= limit:
        return True
    return False if rate.at_least > limit else None


def _is_at_least(rate: RateTold, limit: float) -> bool | None:
    """Likewise."""
    if rate.of and rate.at_least >= limit:
        return True
    return False if rate.of and rate.at_most < limit else None


def _is_never(rate: RateTold) -> bool | None:
    return rate.count == 0 if rate.of else None


def _share(rate: RateTold) -> str:
    return units.percent(100 * rate.count / rate.of) if rate.of else "–"


def _limits(rate: RateTold) -> str:
    return f"{100 * rate.at_least:.1f} to {100 * rate.at_most:.1f}" if rate.of else "–"


def _has(report: SelftestReport, kind: str) -> bool:
    return any(one.kind == kind for one in report.scenarios)
