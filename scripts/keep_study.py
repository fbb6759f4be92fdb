"""Keep a study in git, for the README and for review: `python scripts/keep_study.py STUDY NAME`.

Kept are the figures, from which the report is made again, and no network: weights are made again by the study. No path
of the machine it ran on stays: the cache becomes `<cache>`, the study's folder `<study>`, that of this project nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

from harness.study.folder import StudyFolder
from harness.study.report import write_report
from harness.workspace import cache_dir

ROOT = Path(__file__).resolve().parent.parent
KEPT = (
    *("study.json", "fold-*/networks/*.json", "fold-*/files/*.json"),
    *("runs/*/plan.json", "runs/*/cells/*.json", "runs/*/accuracy/*.json"),
)


def main(study: Path, name: str) -> None:
    """Copy, and make the report from the copy alone."""
    kept = ROOT / "reports" / "baselines" / name
    paths = [path for pattern in KEPT for path in sorted(study.glob(pattern))]
    for path in paths:
        text = path.read_text(encoding="utf-8")
        for private, shown in ((cache_dir().resolve(), "<cache>"), (study.resolve(), "<study>"), (f"{ROOT}/", "")):
            text = text.replace(str(private), shown)
        target = kept / path.relative_to(study)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    write_report(StudyFolder.open(kept))
    for path in kept.glob("*.png"):  # the report shows the same pictures as SVG
        path.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
