"""Pictures for the README, made from the stored quick run: the page's first screen, light and dark, and two charts.

    .venv/bin/python scripts/screenshots.py

Needs Chromium (scripts/install-test-tools). Writes reports/baselines/pictures/.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from harness import load
from harness.report import write_report
from harness.report.pictures import write_pictures

ROOT = Path(__file__).resolve().parents[1]
RUN = ROOT / "reports/baselines/quick"
PICTURES = ROOT / "reports/baselines/pictures"
WIDTH, HEIGHT = 1300, 760
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
        page_file = Path(scratch) / "report.html"
        write_report(run, "html", page_file)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=1.25)
            page.emulate_media(color_scheme=scheme)
            page.goto(page_file.as_uri())
            page.wait_for_selector("html[data-drawn=yes]")
            page.screenshot(path=PICTURES / f"page-{scheme}.png")
        browser.close()
        for path in write_pictures(run, Path(scratch)):
            if path.suffix == ".svg" and path.stem.startswith(CHARTS):
                shutil.copyfile(path, PICTURES / path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
