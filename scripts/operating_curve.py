"""Measure the gate itself and make what the README shows of it: `python scripts/operating_curve.py [--hours HOURS]`.

Goes on with both campaigns of `harness selftest` in `reports/selftest` (or begins them, with `--lanes` comparisons at
once), for so many hours, keeps them with all their values among the baselines (times to four digits), and makes the
rates, the curve and the README's tables from all that is kept there. What is given as CAMPAIGN... is kept instead, and
nothing is measured.

A campaign goes on where it was begun. Another machine begins its own, which is kept beside the others and counted with
them; of another detector, they are refused together, and the old ones are to be deleted.
"""

from __future__ import annotations

import argparse
import gzip
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness.decoding import decode
from harness.regress.selftest.campaign import Campaign, Done, require_same_detector
from harness.regress.selftest.figure import draw
from harness.regress.selftest.report import make_report

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "reports" / "baselines" / "selftest"
MEASURED = ROOT / "reports" / "selftest"
KINDS = ("aa", "power")


def main(arguments: Sequence[str]) -> int:
    """Measure, keep, compute, draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("campaigns", metavar="CAMPAIGN", nargs="*", type=Path, help="Keep these, and measure nothing.")
    parser.add_argument("--hours", type=float, help="Measure for so long; default: until everything is measured.")
    parser.add_argument("--lanes", type=int, default=1, help="Comparisons at once of new campaigns; default: 1.")
    asked = parser.parse_args(arguments)
    if not asked.campaigns:
        _measure(asked.hours, asked.lanes)
    for folder in asked.campaigns or [MEASURED / kind for kind in KINDS]:
        keep(folder, folder if folder.resolve().parent == KEPT else KEPT / kept_name(folder))
    campaigns = [Campaign.open(path.parent) for path in sorted(KEPT.glob("*/plan.json"))]
    require_same_detector(campaigns)
    report = make_report(campaigns, watch=lambda at, of: print(f"rules: {at} of {of}", file=sys.stderr))
    (KEPT / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    draw(report, KEPT / "operating_curve.svg")
    print(f"wrote {KEPT.relative_to(ROOT)}; now the README")
    return subprocess.run([sys.executable, ROOT / "scripts" / "readme.py"], check=False).returncode


def kept_name(folder: Path) -> str:
    """Its own name and when it was begun: `aa-20261127T1909`. Machines that begin one each do not share it."""
    begun = Campaign.open(folder).plan.created_at[:16]
    return f"{folder.name}-{begun.replace('-', '').replace(':', '')}"


def keep(folder: Path, kept: Path) -> None:
    """Copy a campaign, its sessions packed, in place of what was kept there before.

    What was there is deleted last, so that nothing is lost by a full disk, or where a campaign is kept as itself.
    """
    kept.mkdir(parents=True, exist_ok=True)
    sessions = {path.name.removesuffix(".gz"): path for path in sorted(folder.glob("session-*.ndjson*"))}
    copies = {f"{name}.gz" for name in sessions}
    for name, path in sessions.items():
        if path.resolve() != (kept / f"{name}.gz").resolve():
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            shortened = b"".join(_shortened(line) for line in content.splitlines(keepends=True))
            # No time in it: the same campaign is the same bytes.
            (kept / f"{name}.gz").write_bytes(gzip.compress(shortened, mtime=0))
    if folder.resolve() != kept.resolve():
        (kept / "plan.json").write_bytes((folder / "plan.json").read_bytes())
    for old in kept.glob("session-*"):
        if old.name not in copies:
            old.unlink()


def _shortened(line: bytes) -> bytes:
    """A comparison with its times to four digits, which saves a third of its size.

    By the times other tools' rules alone judge, of builds that differ by half a per cent at least. A line that is cut
    or damaged stays as it is.
    """
    try:
        done = decode(line, Done)
    except msgspec.DecodeError:
        return line
    trials = tuple(
        msgspec.structs.replace(
            trial, a_ns=tuple(map(_four_digits, trial.a_ns)), b_ns=tuple(map(_four_digits, trial.b_ns))
        )
        for trial in done.trials
    )
    return msgspec.json.encode(msgspec.structs.replace(done, trials=trials)) + b"\n"


def _four_digits(ns: int) -> int:
    return int(float(f"{ns:.4g}"))


def _measure(hours: float | None, lanes: int) -> None:
    """Go on with each campaign, for its share of the time. An interruption ends the measuring and keeps the rest."""
    for kind in KINDS:
        limit = [] if hours is None else ["--hours", str(hours / len(KINDS))]
        command = [sys.executable, "-m", "harness", "selftest", kind, "--output", str(MEASURED / kind)]
        subprocess.run([*command, "--lanes", str(lanes), *limit], cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
