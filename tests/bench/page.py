"""How large the page of a thousand rows is, and how long it takes to make and to open.

    python -m tests.bench.page [--output FOLDER]

Opened in Chromium from disk, the network off: until its table can be used (the document is loaded and its script has
run), and until the last picture is drawn. Medians of five.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from harness.report import render
from tests.bench.result import Result
from tests.fakes.heavy import heavy_run

ROUNDS = 5
MAX_MB = 6.0
MAX_USABLE_S = 2.0


def main() -> None:
    """Measure and say."""
    result = Result.begin("page", "The page of 1,000 rows on three devices, with sensors, operators and 100 failures")
    chromium = os.environ.get("HARNESS_CHROMIUM") or shutil.which("chromium") or "google-chrome"
    run = heavy_run()
    began = time.perf_counter()
    text = render(run, "html")
    made_s = time.perf_counter() - began
    usable, drawn = [], []
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        path = Path(scratch) / "page.html"
        path.write_text(text, encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(ROUNDS):
            page = browser.new_page()
            began = time.perf_counter()
            page.goto(path.as_uri(), wait_until="load")
            usable.append(time.perf_counter() - began)
            page.wait_for_selector("html[data-drawn=yes]")
            drawn.append(time.perf_counter() - began)
            page.close()
        browser.close()
    size_mb = len(text.encode()) / 1e6
    # A busy machine may double a time, and halves none: one round within the limit and most beyond it tell nothing.
    is_quick = True if statistics.median(usable) < MAX_USABLE_S else False if min(usable) >= MAX_USABLE_S else None
    for what, found, limit in (
        ("size", f"{size_mb:.1f} MB", result.limit(f"below {MAX_MB:g} MB", holds=size_mb < MAX_MB)),
        ("making it", f"{made_s:.1f} s", "–"),
        (
            "opening, until its table can be used",
            f"{statistics.median(usable):.2f} s",
            result.limit(f"below {MAX_USABLE_S:g} s", holds=is_quick),
        ),
        ("opening, until the last picture is drawn", f"{statistics.median(drawn):.2f} s", "–"),
    ):
        result.add(what=what, found=found, limit=limit)
    result.finish()


if __name__ == "__main__":
    main()
