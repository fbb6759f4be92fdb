"""How the benchmarks in this folder say what they found: a table for people and a file that the README is made from."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import harness
from harness.device.host import HostDevice


@dataclass
class Result:
    """One benchmark's outcome.

    Attributes:
        name: Of the module that made it.
        what: What the rows say, a sentence.
        rows: Column -> value as shown, for each row.
        machine: What it ran on.
        broken: Limits that did not hold; the program then ends with code 1.
        load_1min: The machine's load when it began: other work shows in the figures.
    """

    name: str
    what: str
    rows: list[dict[str, str]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    at: str = ""
    machine: str = ""
    load_1min: float = 0.0
    harness_version: str = harness.__version__

    @classmethod
    def begin(cls, name: str, what: str) -> Result:
        """Note where and when."""
        facts = HostDevice().facts()
        machine = f"{facts.cpu}, {facts.cores} cores, {facts.os}"
        if facts.virtual_machine:
            machine += f", virtual machine ({facts.virtual_machine})"
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(name, what, at=now, machine=machine, load_1min=os.getloadavg()[0])

    def add(self, **columns: str) -> None:
        """Add a row, and show it at once: some take minutes."""
        self.rows.append(columns)
        print("  ".join(f"{head} {value}" for head, value in columns.items()), flush=True)

    def limit(self, what: str, *, holds: bool | None, of: str = "", unknown: str = "not shown") -> str:
        """The verdict on a limit, for a row; None where the machine was too noisy to tell.

        Args:
            what: As "below 2 s".
            holds: Whether it does.
            of: Whose limit it is, where the row says so anyway and a broken one has to.
            unknown: What is said where the machine was too noisy.
        """
        if holds is False:
            self.broken.append(f"{of} {what}".strip())
        return f"{what}: {unknown if holds is None else 'holds' if holds else 'BROKEN'}"

    def finish(self) -> None:
        """Store it where `--output` says; end with code 1 where a limit is broken."""
        parser = argparse.ArgumentParser(prog=f"python -m tests.bench.{self.name}")
        parser.add_argument("--output", type=Path, help="Folder for the JSON file that the README is made from.")
        output = parser.parse_args(sys.argv[1:]).output
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
            (output / f"{self.name}.json").write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        if self.broken:
            sys.exit(f"broken: {'; '.join(self.broken)}")
