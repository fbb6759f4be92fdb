"""How often does a 95 % interval for p50 hold the true p50? Five ways to make one, on populations that are known.

    python tests/bench/interval_coverage.py            the table behind the choice in harness/statistics.py (5 minutes)
    python tests/bench/interval_coverage.py --quick    a twentieth of it

A population is a distribution of process medians; its true median is taken from 400,000 draws. Nothing here is
measured on a machine, so the table is the same everywhere.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from harness.statistics import half_width_pct, median_interval

Array: TypeAlias = NDArray[np.float64]
Draw: TypeAlias = Callable[[np.random.Generator, int], Array]
Ends: TypeAlias = tuple[float, float]

COUNTS = (5, 6, 7, 8, 10, 15, 20)
RESAMPLES = 999


def _calm(rng: np.random.Generator, n: int) -> Array:
    return np.exp(0.01 * rng.standard_normal(n))


def _noisy(rng: np.random.Generator, n: int) -> Array:
    return np.exp(0.07 * rng.standard_normal(n))


def _heavy_tails(rng: np.random.Generator, n: int) -> Array:
    return np.exp(0.01 * rng.standard_t(3, n))


def _strays(rng: np.random.Generator, n: int) -> Array:
    """One process in seven is slowed by something else, by a fifth on average."""
    slowed = rng.random(n) < 0.15
    return _calm(rng, n) * np.where(slowed, 1 + rng.exponential(0.2, n), 1)


def _two_modes(rng: np.random.Generator, n: int) -> Array:
    """About one process in three comes out 4 % slower (a memory layout, a core of the other kind)."""
    return np.exp(0.003 * rng.standard_normal(n) + 0.04 * (rng.random(n) < 0.35))


def _skewed(rng: np.random.Generator, n: int) -> Array:
    return 1 + 0.03 * rng.gamma(1.5, 1, n)


def _skewed_strays(rng: np.random.Generator, n: int) -> Array:
    return _skewed(rng, n) * np.where(rng.random(n) < 0.1, 1 + rng.exponential(0.5, n), 1)


POPULATIONS: dict[str, Draw] = {
    "calm": _calm,
    "noisy": _noisy,
    "heavy tails": _heavy_tails,
    "strays": _strays,
    "two modes": _two_modes,
    "skewed": _skewed,
    "skewed, strays": _skewed_strays,
}


def _order_statistics(values: Array, _: np.random.Generator) -> Ends:
    interval = median_interval(values.tolist())
    assert interval is not None
    return interval.low, interval.high


def _percentile(values: Array, rng: np.random.Generator) -> Ends:
    low, high = np.quantile(np.median(_resampled(values, rng), axis=1), [0.025, 0.975])
    return float(low), float(high)


def _bca_median(values: Array, rng: np.random.Generator) -> Ends:
    left_out = [float(np.median(np.delete(values, i))) for i in range(values.size)]
    return _bca(np.median(_resampled(values, rng), axis=1), float(np.median(values)), left_out)


def _bca_geometric(values: Array, rng: np.random.Generator) -> Ends:
    logs = np.log(values)
    left_out = ((logs.sum() - logs) / (logs.size - 1)).tolist()
    low, high = _bca(_resampled(logs, rng).mean(axis=1), float(logs.mean()), left_out)
    return float(np.exp(low)), float(np.exp(high))


def _t_on_logs(values: Array, _: np.random.Generator) -> Ends:
    logs = np.log(values)
    reach = stats.t.ppf(0.975, logs.size - 1) * logs.std(ddof=1) / np.sqrt(logs.size)
    return float(np.exp(logs.mean() - reach)), float(np.exp(logs.mean() + reach))


METHODS: dict[str, Callable[[Array, np.random.Generator], Ends]] = {
    "order statistics": _order_statistics,
    "percentile": _percentile,
    "BCa median": _bca_median,
    "t on logs": _t_on_logs,
    "BCa geo. mean": _bca_geometric,
}


def main(arguments: Sequence[str]) -> None:
    """Print one line a population and count: coverage and mean half-width of each method, in per cent."""
    repetitions = 200 if "--quick" in arguments else 4000
    print(f"{'population':16}{'n':>3}" + "".join(f"{name:>18}" for name in METHODS))
    extremes = {name: [100.0, 0.0] for name in METHODS}
    for population, draw in POPULATIONS.items():
        rng = np.random.default_rng(20261123)
        truth = float(np.median(draw(rng, 400_000)))
        for n in COUNTS:
            line = f"{population:16}{n:3}"
            samples = [draw(rng, n) for _ in range(repetitions)]
            for name, method in METHODS.items():
                ends = [method(sample, rng) for sample in samples]
                held = 100 * np.mean([low <= truth <= high for low, high in ends])
                width = 100 * np.mean([(high - low) / 2 / truth for low, high in ends])
                extremes[name] = [min(extremes[name][0], float(held)), max(extremes[name][1], float(held))]
                line += f"{held:10.1f} ±{width:5.2f} "
            print(line, flush=True)
    print("lowest, highest    " + "".join(f"{low:8.1f} {high:5.1f}    " for low, high in extremes.values()))
    print("\nStopping at ±1 %, 5 to 10 processes (the default of a run): held the truth, %; mean processes")
    for population, draw in POPULATIONS.items():
        rng = np.random.default_rng(20261124)
        truth = float(np.median(draw(rng, 400_000)))
        stopped = [_stop_on_precision(draw(rng, 10)) for _ in range(repetitions)]
        held = 100 * np.mean([low <= truth <= high for low, high, _ in stopped])
        print(f"{population:16}{held:6.1f} {np.mean([n for _, _, n in stopped]):6.1f}")


def _stop_on_precision(values: Array) -> tuple[float, float, int]:
    for n in range(5, values.size + 1):
        width = half_width_pct(values[:n].tolist())
        if n == values.size or (width is not None and width <= 1):
            break
    interval = median_interval(values[:n].tolist())
    assert interval is not None
    return interval.low, interval.high, n


def _resampled(values: Array, rng: np.random.Generator) -> Array:
    return values[rng.integers(0, values.size, (RESAMPLES, values.size))]


def _bca(resampled: Array, estimate: float, left_out: Sequence[float]) -> Ends:
    """Bias-corrected and accelerated, Efron 1987; ties of a discrete median count half."""
    below = (np.mean(resampled < estimate) + np.mean(resampled <= estimate)) / 2
    bias = stats.norm.ppf(np.clip(below, 1e-3, 1 - 1e-3))
    off = np.mean(left_out) - np.asarray(left_out)
    spread = float(np.sum(off**2))
    acceleration = float(np.sum(off**3)) / (6 * spread**1.5) if spread > 0 else 0.0
    z = bias + stats.norm.ppf([0.025, 0.975])
    low, high = np.quantile(resampled, stats.norm.cdf(bias + z / (1 - acceleration * z)))
    return float(low), float(high)


if __name__ == "__main__":
    main(sys.argv[1:])
