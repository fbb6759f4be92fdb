"""From stored campaigns to rates: how often each rule called the second build slower, and what effect was found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from harness import statistics
from harness.errors import MissingExtra
from harness.regress.decision import MARGINS, FamilyRule, compare_trials, confirm, is_settled_by_screening
from harness.regress.effect import MIN_TRIALS, estimate, p_slower
from harness.regress.other_tools import asv, criterion, google_benchmark, pyperf
from harness.regress.selftest.scenario import MUST_NOT_ALARM, OF_THE_DEVICE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from harness.regress.selftest.campaign import Campaign, CampaignPlan, Done, TrialValues
    from harness.regress.selftest.scenario import Scenario

CONFIDENCE: Final = 0.95
"""Of the intervals of rates."""
INTERLEAVED: Final = "interleaved"
ONE_AFTER_THE_OTHER: Final = "one after the other"
SLOWER: Final = frozenset({"regression", "small slowdown"})
"""Verdicts that claim that B is slower."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How often something happened.

    Attributes:
        count: So often.
        of: Out of so many.
    """

    count: int
    of: int

    @property
    def share(self) -> float | None:
        """In [0, 1]; None out of nothing."""
        return self.count / self.of if self.of else None

    @property
    def at_most(self) -> float:
        """The one-sided 95 % upper limit of the true rate. Source: Clopper and Pearson 1934, Biometrika 26, 404-413."""
        return 1.0 if self.count >= self.of else _beta_quantile(CONFIDENCE, self.count + 1, self.of - self.count)

    @property
    def at_least(self) -> float:
        """The one-sided 95 % lower limit, likewise."""
        return 0.0 if self.count == 0 else _beta_quantile(1 - CONFIDENCE, self.count, self.of - self.count + 1)


@dataclass(frozen=True, kw_only=True)
class ScenarioOutcome:
    """What the detector made of one scenario.

    Attributes:
        scenario: What was done to the second build, with the most comparisons that any of the campaigns planned.
        done: Comparisons that are there.
        verdicts: Verdict on the scenario's metric -> how often.
        slower: How often the second build was called slower at all, by however little.
        regressions: How often it was called slower by more than the metric's margin, which is what fails a gate.
        two_stage: How often after screening and confirmation, of a build with itself; None of another scenario.
        covered: How often the interval held the effect that was injected; None where that is not a number.
        recovered_points: Median of the estimated effect less the injected one, in percentage points; None likewise.
        noise: Median robust standard deviation of one trial.
        seconds: Median time of a comparison.
        seconds_p95: What 95 of 100 comparisons took at most.
    """

    scenario: Scenario
    done: int
    verdicts: Mapping[str, int]
    slower: Rate
    regressions: Rate
    two_stage: Rate | None
    covered: Rate | None
    recovered_points: float | None
    noise: float | None
    seconds: float | None
    seconds_p95: float | None


@dataclass(frozen=True, kw_only=True)
class RuleOutcome:
    """How often one rule called the second build slower, for each scenario in which p50 is compared.

    Attributes:
        rule: Its name.
        order: `INTERLEAVED`, as the campaign ran; `ONE_AFTER_THE_OTHER`, B with the unchanged build of a comparison
            before, as these tools are used: first a run of one build, later one of the other.
        rates: Scenario -> rate.
    """

    rule: str
    order: str
    rates: Mapping[str, Rate]


def scenario_outcomes(campaigns: Iterable[Campaign]) -> tuple[ScenarioOutcome, ...]:
    """One for each scenario, in the order of the plans; that of several campaigns is one, with all its comparisons."""
    parts: dict[str, list[_Part]] = {}
    for campaign in campaigns:
        for part in _parts(campaign):
            parts.setdefault(part.scenario.name, []).append(part)
    return tuple(_outcome(of_one) for of_one in parts.values())


def p_values(campaigns: Iterable[Campaign]) -> list[float]:
    """Of every comparison of the same build: uniform between 0 and 1, if the test is what it says."""
    parts = [part for campaign in campaigns for part in _parts(campaign) if part.scenario.kind == "aa"]
    values = [_values(one.trials, "p50") for part in parts for one in part.done]
    return [p_slower(found) for found in values if len(found) >= MIN_TRIALS["trimmed t"]]


def uniformity_p(values: Sequence[float]) -> float | None:
    """P-value of the Kolmogorov-Smirnov test that the values are uniform; None below 5 of them."""
    if len(values) < 5:
        return None
    return float(_stats().kstest(values, "uniform").pvalue)


def rule_outcomes(
    campaigns: Iterable[Campaign], *, watch: Callable[[int, int], None] = lambda _done, _of: None
) -> tuple[RuleOutcome, ...]:
    """Ours and those of other tools, on the same recorded values.

    Args:
        campaigns: With what is done. None has a base in another one.
        watch: Told how many rules of how many are through; criterion's resampling takes a while.
    """
    triples = [triple for campaign in campaigns for triple in _with_bases(campaign)]
    jobs = [(name, sequence) for name in RULES for sequence in (INTERLEAVED, ONE_AFTER_THE_OTHER)]
    found = []
    for number, (name, sequence) in enumerate(jobs, start=1):
        flags: dict[str, list[bool]] = {}
        for scenario, before, this in triples:
            base = this if sequence == INTERLEAVED else before
            flag = None if base is None else RULES[name](base.trials, this.trials, this.index)
            if flag is not None:
                flags.setdefault(scenario.name, []).append(flag)
        rates = {key: Rate(count=sum(values), of=len(values)) for key, values in flags.items()}
        found.append(RuleOutcome(rule=name, order=sequence, rates=rates))
        watch(number, len(jobs))
    return tuple(found)


def _with_bases(campaign: Campaign) -> Iterator[tuple[Scenario, Done | None, Done]]:
    """Each comparison of p50 with the last one before it whose A was the unchanged build, left alone.

    None for the first, and where what was done was done to the device: it was not there when the base was measured,
    and to call that a slowdown would be right.
    """
    order, scenarios = campaign.plan.order, campaign.plan.scenarios
    base = None
    for this in campaign.done:
        scenario = scenarios[order[this.index]]
        is_of_the_device = scenario.kind in OF_THE_DEVICE
        if scenario.metric == "p50":
            yield scenario, None if is_of_the_device else base, this
        if not is_of_the_device:
            base = this


class _Part(NamedTuple):
    """What one campaign has of a scenario."""

    plan: CampaignPlan
    scenario: Scenario
    done: Sequence[Done]


def _parts(campaign: Campaign) -> list[_Part]:
    """One for each scenario, in the plan's order."""
    plan, order = campaign.plan, campaign.plan.order
    found: list[list[Done]] = [[] for _ in plan.scenarios]
    for one in campaign.done:
        found[order[one.index]].append(one)
    return [_Part(plan, scenario, done) for scenario, done in zip(plan.scenarios, found, strict=True)]


def _outcome(parts: Sequence[_Part]) -> ScenarioOutcome:
    scenario = max((part.scenario for part in parts), key=lambda one: one.comparisons)
    done = [one for part in parts for one in part.done]
    margin = MARGINS[scenario.metric]
    trials = [_values(one.trials, scenario.metric) for one in done]
    decided = [compare_trials(values, margin) for values in trials]
    verdicts: dict[str, int] = {}
    for verdict, _ in decided:
        verdicts[verdict] = verdicts.get(verdict, 0) + 1
    injected = [_injected(scenario, part.plan, one) for part in parts for one in part.done]
    known = [
        (effect, true)
        for (_, effect), true in zip(decided, injected, strict=True)
        if effect is not None and true is not None
    ]
    covered = sum(effect.low <= true <= effect.high for effect, true in known)
    seconds = [one.seconds for one in done]
    noises = [effect.noise for _, effect in decided if effect is not None and effect.noise is not None]
    return ScenarioOutcome(
        scenario=scenario,
        done=len(done),
        verdicts=verdicts,
        slower=Rate(count=sum(verdicts.get(verdict, 0) for verdict in SLOWER), of=len(done)),
        regressions=Rate(count=verdicts.get("regression", 0), of=len(done)),
        two_stage=_two_stage(scenario, done) if scenario.kind == "aa" else None,
        covered=Rate(count=covered, of=len(known)) if known else None,
        recovered_points=(
            100 * statistics.median([effect.ratio - math.exp(true) for effect, true in known]) if known else None
        ),
        noise=statistics.median(noises) if noises else None,
        seconds=statistics.median(seconds) if done else None,
        seconds_p95=statistics.percentile(seconds, 0.95) if done else None,
    )


def _injected(scenario: Scenario, plan: CampaignPlan, done: Done) -> float | None:
    """The true log ratio; None where the injection is not a ratio of the metric."""
    if scenario.kind in MUST_NOT_ALARM:
        return 0.0
    if scenario.kind == "spin":
        # A fixed time, which is more or less of an inference as the machine is slow or fast just then.
        base = [ns for trial in done.trials for ns in trial.a_ns]
        return math.log1p(scenario.dose * plan.baseline_ns / statistics.median(base)) if base else None
    return math.log1p(scenario.dose) if scenario.kind in {"repeat", "memory", "cold"} else None


def _two_stage(scenario: Scenario, done: Sequence[Done]) -> Rate:
    """How often screening and confirmation together claim a slowdown that is not there, in a family of one cell.

    The trials of all comparisons of the build with itself, in the order of time, are dealt out: to each decision those
    of its screen and as many fresh ones, whether it would have asked for them or not. No trial serves twice.
    """
    rule, margin = FamilyRule(), MARGINS[scenario.metric]
    values = [value for one in done for value in _values(one.trials, scenario.metric)]
    each = rule.screen_trials + rule.confirm_trials
    groups = [values[start : start + each] for start in range(0, len(values) - each + 1, each)]
    alarms = 0
    for group in groups:
        screen, fresh = group[: rule.screen_trials], group[rule.screen_trials :]
        if not is_settled_by_screening(screen, margin, rule):
            verdict, _ = confirm({"cell": fresh}, {"cell": margin}, family=1, rule=rule)["cell"]
            alarms += verdict in SLOWER
    return Rate(count=alarms, of=len(groups))


def _ours(base: Sequence[TrialValues], new: Sequence[TrialValues], _index: int) -> bool | None:
    """The interval of all trials lies above zero. A ratio is of one trial: in a sequence there is none."""
    if base is not new:
        return None
    values = _values(new, "p50")
    return len(values) >= MIN_TRIALS["trimmed t"] and estimate(values).low > 0


def _criterion(base: Sequence[TrialValues], new: Sequence[TrialValues], index: int) -> bool | None:
    a, b = _sides(base, new)
    return criterion.is_slower(a[0], b[0], seed=index) if a and b and len(a[0]) > 1 < len(b[0]) else None


def _google(base: Sequence[TrialValues], new: Sequence[TrialValues], _index: int) -> bool | None:
    a, b = _sides(base, new)
    if not a or not b:
        return None
    repetitions = google_benchmark.REPETITIONS
    return google_benchmark.is_slower(_means(a[0], repetitions), _means(b[0], repetitions))


def _asv(base: Sequence[TrialValues], new: Sequence[TrialValues], _index: int) -> bool | None:
    a, b = _sides(base, new)
    rounds, repeats = 2, 10
    if len(a) < rounds or len(b) < rounds:
        return None
    return asv.is_slower(
        [mean for process in a[:rounds] for mean in _means(process, repeats)],
        [mean for process in b[:rounds] for mean in _means(process, repeats)],
    )


def _pyperf(base: Sequence[TrialValues], new: Sequence[TrialValues], _index: int) -> bool | None:
    a, b = _sides(base, new)
    count = min(len(a), len(b))
    if count < 2:
        return None
    values = pyperf.VALUES_A_PROCESS
    # Its first value of each process is a warm-up.
    return pyperf.is_slower(
        [mean for process in a[:count] for mean in _means(process, values + 1)[1:]],
        [mean for process in b[:count] for mean in _means(process, values + 1)[1:]],
    )


RULES: Final[dict[str, Callable[[Sequence[TrialValues], Sequence[TrialValues], int], bool | None]]] = {
    "this program": _ours,
    "criterion.rs": _criterion,
    "Google Benchmark": _google,
    "asv": _asv,
    "pyperf": _pyperf,
}
"""Name -> whether it calls `new` slower than `base`; None where it has no answer."""


def _sides(
    base: Sequence[TrialValues], new: Sequence[TrialValues]
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """The values of each process of the old build, and of the new one."""
    return [trial.a_ns for trial in base if trial.a_ns], [trial.b_ns for trial in new if trial.b_ns]


def _means(values: Sequence[int], count: int) -> list[float]:
    """As many means of consecutive values, of all of them."""
    return [float(np.mean(part)) for part in np.array_split(np.asarray(values, dtype=np.float64), count) if part.size]


def _values(trials: Sequence[TrialValues], metric: str) -> list[float]:
    return [trial.log_ratios[metric] for trial in trials if metric in trial.log_ratios]


def _beta_quantile(q: float, a: float, b: float) -> float:
    return float(_stats().beta.ppf(q, a, b))


def _stats() -> Any:  # noqa: ANN401  (a module without types)
    try:
        from scipy import stats  # noqa: PLC0415  (a second)
    except ImportError:
        raise MissingExtra("scipy", "the rates of a campaign", "analysis") from None
    return stats
