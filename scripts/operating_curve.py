"""Store campaigns among the baselines and draw the operating curve that the README shows.

    python scripts/operating_curve.py [CAMPAIGN...]

Without an argument: what `harness selftest aa` and `harness selftest power` left in `reports/selftest/`. Each campaign
is kept with all its values (its sessions packed), and from what is kept the figure and the rates are made; run
`python scripts/readme.py` afterwards.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import msgspec

from harness.regress.selftest.campaign import Campaign, require_same_subject
from harness.regress.selftest.figure import draw
from harness.regress.selftest.report import make_report

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "reports" / "baselines" / "selftest"
USUAL = (ROOT / "reports" / "selftest" / "aa", ROOT / "reports" / "selftest" / "power")


def main() -> int:
    """Keep, compute, draw."""
    given = tuple(map(Path, sys.argv[1:])) or tuple(folder for folder in USUAL if (folder / "plan.json").exists())
    for folder in given:
        _keep(folder)
    campaigns = [Campaign.open(path.parent) for path in sorted(KEPT.glob("*/plan.json"))]
    if not campaigns:
        print("there is no campaign: run `harness selftest aa` and `harness selftest power` first", file=sys.stderr)
        return 2
    for campaign in campaigns:
        require_same_subject(campaigns[0].plan.subject, campaign.plan.subject)
    report = make_report(campaigns, watch=lambda at, of: print(f"rules: {at} of {of}", file=sys.stderr))
    (KEPT / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    draw(report, KEPT / "operating_curve.svg")
    print(f"wrote {KEPT}")
    return 0


def _keep(folder: Path) -> None:
    """Copy a campaign; in place of one of the same name that was kept before."""
    kept = KEPT / folder.name
    kept.mkdir(parents=True, exist_ok=True)
    for old in kept.glob("session-*"):
        old.unlink()
    (kept / "plan.json").write_bytes((folder / "plan.json").read_bytes())
    for path in folder.glob("session-*.ndjson"):
        # No time in it: the same campaign is the same bytes.
        (kept / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))


if __name__ == "__main__":
    sys.exit(main())
