"""Fill the README's figures from stored runs; with `--check`, say by the exit code whether they are current.

Between `<!-- begin NAME -->` and `<!-- end NAME -->` nothing is written by hand.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import harness
from harness.decoding import decode
from harness.parity import TOLERANCES
from harness.regress.selftest.report import SelftestReport, report_markdown
from harness.report import render
from harness.study.claims import HOW_CHOSEN
from harness.study.folder import StudyFolder
from harness.study.report import figures_of, summary

ROOT = Path(__file__).resolve().parent.parent
BASELINES = ROOT / "reports" / "baselines"


def main() -> int:
    """Rewrite or check; exit code 1 where the README is not current."""
    path = ROOT / "README.md"
    before = path.read_text(encoding="utf-8")
    after = filled(before)
    if "--check" in sys.argv:
        return int(before != after)
    path.write_text(after, encoding="utf-8")
    return 0


def filled(text: str) -> str:
    """The README with every block made again."""
    blocks = {"quick": _quick, "bench": _bench, "tolerances": _tolerances, "selftest": _selftest, "ocular": _ocular}
    for name, make in blocks.items():
        pattern = rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)"
        text = re.sub(pattern, lambda match: f"{match[1]}{make()}{match[2]}", text, flags=re.DOTALL)  # noqa: B023
    return text


def _quick() -> str:
    """The quick suite's report, without its heading."""
    folder = BASELINES / "quick"
    if not folder.exists():
        return ""
    document = render(harness.load(folder), "md").split("\n", 2)[2].replace("\n## ", "\n#### ")
    return f"{document}\nFrom the stored run in `reports/baselines/quick`.\n"


def _ocular() -> str:
    """The small ocular study: its short table, and what becomes of the paper's claims."""
    folder = BASELINES / "ocular"
    if not folder.exists():
        return ""
    figures = figures_of(StudyFolder.open(folder))
    said = (*figures.claims, f"{HOW_CHOSEN} All of it: `reports/baselines/ocular/report.md`.")
    text = "\n\n".join((*summary(figures), *said)) + "\n"
    # A command that is said for the study's own folder.
    return text.replace("harness report runs/", "harness report reports/baselines/ocular/runs/").replace(
        ", in this folder.", "."
    )


def _tolerances() -> str:
    """How far each precision may be from its checkpoint."""
    lines = ["| precision | relative L2 at most | cosine at least |", "|---|---|---|"]
    for name, limit in TOLERANCES.items():
        found = ("own weights" if value is None else f"{value:g}" for value in (limit.relative_l2, limit.cosine))
        lines.append(f"| {name} | {' | '.join(found)} |")
    return "\n".join(lines) + "\n"


def _selftest() -> str:
    """What the stored campaigns found, with the operating curve (`scripts/operating_curve.py`)."""
    path = BASELINES / "selftest" / "report.json"
    if not path.exists():
        return ""
    report = decode(path.read_bytes(), SelftestReport)
    picture = "![How often a slowdown is found, over its size](reports/baselines/selftest/operating_curve.svg)"
    return f"{picture}\n\n{report_markdown(report)}\nFrom the stored campaigns in `reports/baselines/selftest`.\n"


def _bench() -> str:
    """One table a benchmark."""
    parts = []
    for path in sorted((BASELINES / "bench").glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        heads = list(result["rows"][0])
        lines = [" | ".join(head.replace("_", " ") for head in heads), " | ".join("---" for _ in heads)]
        lines += [" | ".join(row.values()) for row in result["rows"]]
        table = "\n".join(f"| {line} |" for line in lines)
        where = f"{result['machine']}, {result['at'][:10]}, load {result['load_1min']:.1f} when it began"
        script = f"`python -m tests.bench.{result['name']}`"
        parts.append(f"**{result['what']}.** {where}; {script}.\n\n{table}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
