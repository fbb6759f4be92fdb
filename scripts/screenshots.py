"""Pictures for the README, made from the stored quick run: the page's first screen, light and dark, and two charts.

    .venv/bin/python scripts/screenshots.py

Where the ocular study is stored (`scripts/keep_study.py`), the first screen of its page, too.
Needs Chromium (scripts/install-test-tools). Writes reports/baselines/pictures/.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final, Literal

from playwright.sync_api import sync_playwright

from harness import load
from harness.report import write_report
from harness.report.pictures import write_pictures
from harness.study import page
from harness.study.folder import StudyFolder
from harness.study.report import figures_of

ROOT = Path(__file__).resolve().parents[1]
RUN = ROOT / "reports/baselines/quick"
STUDY = ROOT / "reports/baselines/ocular"
PICTURES = ROOT / "reports/baselines/pictures"
WIDTH, HEIGHT = 1300, 760
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
CHARTS = ("size-latency", "runtimes")


def main() -> int:
    """Make them all again."""
    chromium = os.environ.get("HARNESS_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("error: Chromium is not here: run scripts/install-test-tools", file=sys.stderr)
        return 4
    run = load(RUN)
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        page_file, study_file = Path(scratch) / "report.html", Path(scratch) / "study.html"
        write_report(run, "html", page_file)
        shots = [(page_file, scheme, f"page-{scheme}.png") for scheme in SCHEMES]
        if STUDY.exists():
            stored = StudyFolder.open(STUDY)
            study_file.write_text(page.render(figures_of(stored)), encoding="utf-8")
            shots.append((study_file, "light", "study-page.png"))
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for path, scheme, name in shots:
            window = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=1.25)
            window.emulate_media(color_scheme=scheme)
            window.goto(path.as_uri())
            window.wait_for_selector("html[data-drawn=yes]")
            window.screenshot(path=PICTURES / name)
        browser.close()
        for path in write_pictures(run, Path(scratch)):
            if path.suffix == ".svg" and path.stem.startswith(CHARTS):
                shutil.copyfile(path, PICTURES / path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
