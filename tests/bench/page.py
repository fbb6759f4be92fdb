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
from tests.fakes import records

ROUNDS = 5
LIMITS = {"size": "6 MB", "usable": "2 s"}


def main() -> None:
    """Measure and say."""
    result = Result.begin("page", "The page of 1,000 rows (250 networks x 2 files x 2 numbers of threads)")
    chromium = os.environ.get("HARNESS_CHROMIUM") or shutil.which("chromium") or "google-chrome"
    processes = records.calm_processes()
    run = records.run(
        [
            records.result(model=f"network_{n:03}", format=format_, threads=threads, processes=processes)
            for n in range(250)
            for format_ in ("onnx", "tflite")
            for threads in (1, 2)
        ]
    )
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
    result.add(what="size", found=f"{len(text.encode()) / 1e6:.1f} MB", limit=LIMITS["size"])
    result.add(what="making it", found=f"{made_s:.1f} s", limit="–")
    result.add(
        what="opening, until its table can be used", found=f"{statistics.median(usable):.2f} s", limit=LIMITS["usable"]
    )
    result.add(what="opening, until the last picture is drawn", found=f"{statistics.median(drawn):.2f} s", limit="–")
    result.finish()


if __name__ == "__main__":
    main()
