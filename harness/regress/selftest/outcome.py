"""From a stored campaign to rates: how often each rule called the second build slower, and what effect was found."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from harness import statistics
from harness.errors import MissingExtra
from harness.regress.decision import MARGINS, FamilyRule, compare_trials, confirm, is_settled_by_screening
from harness.regress.effect import MIN_TRIALS, estimate, p_slower
from harness.regress.other_tools import asv, criterion, google_benchmark, pyperf
from harness.regress.selftest.scenario import MUST_NOT_ALARM

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.regress.selftest.campaign import Campaign, Done, TrialValues
    from harness.regress.selftest.scenario import Scenario

CONFIDENCE: Final = 0.95
"""Of the intervals of rates."""
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
        scenario: What was done to the second build.
        done: Comparisons that are there.
        verdicts: Verdict on the scenario's metric -> how often.
        slower: How often the second build was called slower at all, by however little.
        two_stage: How often after screening and confirmation; None where no comparison had a second stage planned.
        covered: How often the interval held the effect that was injected; None where that is not a number.
        recovered_points: Median estimated effect less the injected one, in percentage points; None likewise.
        noise: Median robust standard deviation of one trial.
        seconds: Median time of a comparison.
    """

    scenario: Scenario
    done: int
    verdicts: Mapping[str, int]
    slower: Rate
    two_stage: Rate | None
    covered: Rate | None
    recovered_points: float | None
    noise: float | None
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class RuleOutcome:
    """How often one rule called the second build slower, for each scenario in which p50 is compared.

    Attributes:
        rule: Its name.
        order: `interleaved`, as the campaign ran; `one after the other`, B with the A of the comparison before, as
            these tools are used: first a run of one build, later one of the other.
        rates: Scenario -> rate.
    """

    rule: str
    order: str
    rates: Mapping[str, Rate]


def scenario_outcomes(campaign: Campaign) -> tuple[ScenarioOutcome, ...]:
    """One for each scenario, in the plan's order."""
    by_scenario = _by_scenario(campaign)
    return tuple(
        _outcome(scenario, by_scenario[place], has_second_stage=campaign.plan.confirm_trials > 0)
        for place, scenario in enumerate(campaign.plan.scenarios)
    )


def p_values(campaign: Campaign) -> list[float]:
    """Of every comparison of the same build: uniform between 0 and 1, if the test is what it says."""
    aa = [place for place, scenario in enumerate(campaign.plan.scenarios) if scenario.kind == "aa"]
    values = [_values(one.trials, "p50") for place in aa for one in _by_scenario(campaign)[place]]
    return [p_slower(found) for found in values if len(found) >= MIN_TRIALS["trimmed t"]]


def uniformity_p(values: Sequence[float]) -> float | None:
    """P-value of the Kolmogorov-Smirnov test that the values are uniform; None below 5 of them."""
    if len(values) < 5:
        return None
    return float(_stats().kstest(values, "uniform").pvalue)


def rule_outcomes(
    campaign: Campaign, *, watch: Callable[[int, int], None] = lambda _done, _of: None
) -> tuple[RuleOutcome, ...]:
    """Ours and those of other tools, on the same recorded values.

    Args:
        campaign: With what is done.
        watch: Told how many rules of how many are through; criterion's resampling takes a while.
    """
    order = campaign.plan.order
    pairs = list(itertools.pairwise(campaign.done))
    jobs = [(name, sequence) for name in RULES for sequence in ("interleaved", "one after the other")]
    found = []
    for number, (name, sequence) in enumerate(jobs, start=1):
        flags: dict[str, list[bool]] = {}
        for before, this in pairs:
            scenario = campaign.plan.scenarios[order[this.index]]
            if scenario.metric == "p50":
                base = this if sequence == "interleaved" else before
                flag = RULES[name](base.trials, this.trials, this.index)
                if flag is not None:
                    flags.setdefault(scenario.name, []).append(flag)
        rates = {key: Rate(count=sum(values), of=len(values)) for key, values in flags.items()}
        found.append(RuleOutcome(rule=name, order=sequence, rates=rates))
        watch(number, len(jobs))
    return tuple(found)


def _outcome(scenario: Scenario, done: Sequence[Done], *, has_second_stage: bool) -> ScenarioOutcome:
    margin = MARGINS[scenario.metric]
    trials = [_values(one.trials, scenario.metric) for one in done]
    decided = [compare_trials(values, margin) for values in trials]
    verdicts: dict[str, int] = {}
    for verdict, _ in decided:
        verdicts[verdict] = verdicts.get(verdict, 0) + 1
    effects = [effect for _, effect in decided if effect is not None]
    injected = _injected(scenario)
    is_number = injected is not None and bool(effects)
    covered = sum(effect.low <= (injected or 0.0) <= effect.high for effect in effects)
    noises = [effect.noise for effect in effects if effect.noise is not None]
    return ScenarioOutcome(
        scenario=scenario,
        done=len(done),
        verdicts=verdicts,
        slower=Rate(count=sum(verdicts.get(verdict, 0) for verdict in SLOWER), of=len(done)),
        two_stage=_two_stage(scenario, done, margin) if has_second_stage and scenario.kind == "aa" else None,
        covered=Rate(count=covered, of=len(effects)) if is_number else None,
        recovered_points=(
            100 * (statistics.median([effect.ratio for effect in effects]) - math.exp(injected or 0.0))
            if is_number
            else None
        ),
        noise=statistics.median(noises) if noises else None,
        seconds=statistics.median([one.seconds for one in done]) if done else None,
    )


def _injected(scenario: Scenario) -> float | None:
    """The true log ratio; None where the injection is not a ratio of the metric."""
    if scenario.kind in MUST_NOT_ALARM:
        return 0.0
    return math.log1p(scenario.dose) if scenario.kind in {"spin", "repeat", "memory", "cold"} else None


def _two_stage(scenario: Scenario, done: Sequence[Done], margin: float) -> Rate:
    """How often screening and confirmation together claim a slowdown that is not there, in a family of one cell."""
    rule = FamilyRule()
    alarms, judged = 0, 0
    for one in done:
        screen = _values(one.trials, scenario.metric)[: rule.screen_trials]
        if is_settled_by_screening(screen, margin, rule):
            judged += 1
        elif one.confirmation is not None:
            judged += 1
            fresh = {"cell": _values(one.confirmation, scenario.metric)}
            verdict, _ = confirm(fresh, {"cell": margin}, family=1, rule=rule)["cell"]
            alarms += verdict in SLOWER
    return Rate(count=alarms, of=judged)


def _ours(base: Sequence[TrialValues], new: Sequence[TrialValues], _index: int) -> bool | None:
    """The effect of all trials, one-sided at 1 %. A ratio is of one trial: in a sequence there is none."""
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


def _by_scenario(campaign: Campaign) -> dict[int, list[Done]]:
    order = campaign.plan.order
    found: dict[int, list[Done]] = {place: [] for place in range(len(campaign.plan.scenarios))}
    for one in campaign.done:
        found[order[one.index]].append(one)
    return found


def _beta_quantile(q: float, a: float, b: float) -> float:
    return float(_stats().beta.ppf(q, a, b))


def _stats() -> Any:  # noqa: ANN401  (a module without types)
    try:
        from scipy import stats  # noqa: PLC0415  (a second)
    except ImportError:
        raise MissingExtra("scipy", "the rates of a campaign", "analysis") from None
    return stats
