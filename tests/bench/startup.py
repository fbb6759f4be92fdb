"""How long `harness --help` and `harness models` take, as a person waits for them.

    python -m tests.bench.startup [--output FOLDER]

Medians of 21 fresh processes each, the two commands and a bare `python -c pass` in turn.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from tests.bench.result import Result

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "harness --help": [sys.executable, "-m", "harness", "--help"],
    "harness models": [sys.executable, "-m", "harness", "models"],
}
LIMITS_MS = {"harness --help": 150, "harness models": 300}
ROUNDS = 21


def main() -> None:
    """Measure and say."""
    result = Result.begin("startup", f"Start-up: median of {ROUNDS} fresh processes, the commands in turn")
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times[name].append((time.perf_counter() - began) * 1e3)
    for name, values in times.items():
        median, limit = statistics.median(values), "–"
        if name in LIMITS_MS:
            limit = result.limit(f"below {LIMITS_MS[name]} ms", holds=median < LIMITS_MS[name], of=name)
        result.add(command=f"`{name}`", median=f"{median:.0f} ms", limit=limit)
    result.finish()


if __name__ == "__main__":
    main()
