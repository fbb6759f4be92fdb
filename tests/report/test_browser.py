"""The page in a real browser: what a reader does with it, by mouse, keyboard, screen reader and printer."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from harness import selftest_page
from harness.regress.selftest.report import RateTold, ScenarioTold, SelftestReport
from harness.report import comparison_page, index_page, render
from harness.study import page
from harness.study.folder import StudyFolder
from harness.study.report import figures_of
from tests.fakes import records
from tests.fakes.heavy import CELLS, DEVICES, heavy_run, warming
from tests.report import test_charts, test_comparison_page, test_index_page
from tests.study import test_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, ConsoleMessage, Dialog, Error, Page, Request

    from harness.records import OperatorTime
    from tests.fakes.records import FakeRun

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("HARNESS_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
MAX_BYTES = 6_000_000
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>' onmouseover='alert(3)"
LONG = "a_network_with_" + "a_very_long_name_" * 12
P50 = "td.p50"
PAPER_PX = 1031
"""A4 on its side, less two margins of 12 mm, at 96 pixels an inch."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.fail("these tests open the page in Chromium, which is not here: run scripts/install-test-tools")
    with sync_playwright() as playwright:
        # In a container its sandbox has no rights to build itself; what it opens is our own.
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@dataclasses.dataclass
class Opened:
    """A page, and what it did besides being there."""

    page: Page
    path: Path
    asked_for: list[str] = dataclasses.field(default_factory=list)
    complaints: list[str] = dataclasses.field(default_factory=list)

    def asks(self, request: Request) -> None:
        self.asked_for.append(request.url)

    def says(self, message: ConsoleMessage) -> None:
        self.complaints.append(message.text)

    def fails(self, error: Error) -> None:
        self.complaints.append(str(error))

    def interrupts(self, dialog: Dialog) -> None:
        self.complaints.append(dialog.message)
        dialog.dismiss()


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Any]:
    """Opens a run's page, or a page's text, with the network off; fails where it complains or asks for anything."""
    context = browser.new_context(accept_downloads=True, viewport={"width": 1280, "height": 900})
    context.set_offline(True)
    every: list[Opened] = []

    def open_run(run: FakeRun | str, **emulated: Any) -> Opened:
        path = tmp_path / f"page-{len(every)}.html"
        path.write_text(run if isinstance(run, str) else render(run, "html"), encoding="utf-8")
        page = context.new_page()
        found = Opened(page, path)
        page.on("request", found.asks)
        page.on("console", found.says)
        page.on("pageerror", found.fails)
        page.on("dialog", found.interrupts)
        page.emulate_media(**emulated)
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-drawn=yes]")
        every.append(found)
        return found

    yield open_run
    for found in every:
        assert found.complaints == []
        assert [url for url in found.asked_for if url != found.path.as_uri() and not url.startswith("blob:")] == []
    context.close()


def run_of_every_outcome(model: str = "mobilenet_v2", **device: Any) -> FakeRun:
    """Two models, formats and numbers of threads, operators of some; a failure, one that cannot be, one not run."""
    measured = [
        records.result(
            model=name,
            format=format_,
            threads=threads,
            p50_ms=p50,
            size_mib=size,
            processes=[warming(process) for process in records.calm_processes(p50)],
            measured={"profile": test_charts.PROFILE if format_ == "onnx" else None},
        )
        for name, size, base in ((model, 13.6, 10.0), ("resnet_18", 44.7, 30.0))
        for format_, factor in (("onnx", 1.0), ("tflite", 1.3))
        for threads, p50 in ((1, base * factor), (2, base * factor / 1.7))
    ]
    others = [
        records.result(model=model, precision="int8", outcome=records.failure(message=f"no {model}", hint=model)),
        records.result(model=model, precision="fp16", outcome=records.not_runnable(model)),
    ]
    return records.run(
        [*measured, *others], missing=[records.cell(model=model, threads=4)], devices=[records.device(**device)]
    )


def shown(page: Page, selector: str) -> list[str]:
    """Texts of what can be seen, in the order of the page."""
    return [each.inner_text() for each in page.locator(selector).all() if each.is_visible()]


# --- the table -----------------------------------------------------------------------------------------------------


def test_a_click_on_a_head_sorts_and_another_one_turns_it_round(opened: Any) -> None:
    page = opened(run_of_every_outcome()).page
    head = page.locator("thead th.p50")

    head.get_by_role("button").click()
    rising = [float(text) for text in shown(page, P50)]
    head.get_by_role("button").click()
    falling = [float(text) for text in shown(page, P50)]

    assert rising == sorted(rising)
    assert falling == rising[::-1]
    assert head.get_attribute("aria-sort") == "descending"
    assert "failed" in str(page.locator("tbody tr").nth(8).get_attribute("class")), "rows without figures stay last"


def test_words_and_choices_narrow_the_rows_together(opened: Any) -> None:
    page = opened(run_of_every_outcome()).page

    page.get_by_label("Filter rows").fill("mobilenet onnx")
    page.get_by_label("Precision", exact=True).select_option("fp32")

    assert page.get_by_role("status").inner_text() == "3 of 11 rows"
    assert len(shown(page, P50)) == 2
    page.get_by_label("Filter rows").fill("")
    page.get_by_label("Precision", exact=True).select_option("")
    assert page.get_by_role("status").inner_text() == ""
    assert len(shown(page, "tbody tr")) == 11


def test_columns_come_and_go_by_the_menu(opened: Any) -> None:
    page = opened(run_of_every_outcome()).page
    assert "zipped" not in shown(page, "thead button")

    page.get_by_text("Columns", exact=True).click()
    page.get_by_label("File, MiB: zipped").check()
    page.get_by_label("Memory, MiB: peak").uncheck()

    heads = shown(page, "thead button")
    assert "zipped" in heads
    assert "peak" not in heads
    assert "Memory, MiB" not in shown(page, "thead th"), "a group without columns is gone"
    page.get_by_text("Operators of mobilenet_v2 onnx/fp32, 1 thread").click()
    page.get_by_text("Columns", exact=True).click()
    page.get_by_label("Warm inference, ms: p50").uncheck()
    assert "p50" not in shown(page, "thead button")
    assert "% of all" in shown(page, "details[open] thead button"), "the fifth column there is another one"


def test_the_menu_of_columns_goes_away_by_escape_and_by_a_click_elsewhere(opened: Any) -> None:
    page = opened(run_of_every_outcome()).page
    menu, box = page.get_by_text("Columns", exact=True), page.get_by_label("File, MiB: zipped")

    menu.click()
    box.check()
    assert box.is_visible(), "a click within it leaves it open"
    page.keyboard.press("Escape")
    assert not box.is_visible()
    menu.click()
    page.locator("h1").click()

    assert not box.is_visible()


def test_everything_can_be_done_from_the_keyboard(opened: Any) -> None:
    page = opened(run_of_every_outcome()).page

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the figures"
    page.keyboard.press("Tab")
    page.keyboard.type("resnet")
    assert page.get_by_role("status").inner_text() == "4 of 11 rows"
    page.locator("thead th.p50 button").focus()
    page.keyboard.press("Enter")

    assert page.locator("thead th.p50").get_attribute("aria-sort") == "ascending"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", "focus can be seen"


def test_one_kind_of_a_picture_is_chosen_by_keyboard_as_by_a_click_in_its_legend(opened: Any) -> None:
    page = opened(run_of_every_outcome()).page
    picture = page.locator("[data-chart]").first
    faint = "marks => marks.filter(mark => Number(mark.getAttribute('opacity')) < 0.1).length"
    points = picture.locator(".mark-symbol.role-mark path")
    choice = picture.get_by_label("Show one model in the picture")
    assert points.count() == 8
    assert points.evaluate_all(faint) == 0

    choice.focus()
    page.keyboard.press("ArrowDown")
    assert choice.input_value() == "mobilenet_v2"
    assert points.evaluate_all(faint) == 4
    box = picture.locator(".role-legend-label text", has_text="resnet_18").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert choice.input_value() == "resnet_18"
    assert points.evaluate_all(faint) == 4
    choice.select_option("")
    assert points.evaluate_all(faint) == 0


def require_live_legends(page: Page) -> None:
    """Where there is a list beside a legend, the legend itself takes clicks as well."""
    for place in page.locator("[data-chart]", has=page.locator("select[aria-label^='Show one']")).all():
        assert place.locator(".role-legend-symbol:not([pointer-events=none])").count() > 0, place.inner_text()


# --- its data ------------------------------------------------------------------------------------------------------


def test_the_figures_can_be_saved_and_are_those_of_the_json_report(opened: Any, tmp_path: Path) -> None:
    run = run_of_every_outcome()
    page = opened(run).page

    with page.expect_download() as download:
        page.get_by_text("Save the figures").click()
    download.value.save_as(tmp_path / "saved.json")

    saved = json.loads((tmp_path / "saved.json").read_text(encoding="utf-8"))
    said = json.loads(render(run, "json"))
    assert saved["summaries"] == said["summaries"]
    assert download.value.suggested_filename == f"{run.plan.run}.json"


def test_no_name_runs_or_becomes_an_element(opened: Any) -> None:
    page = opened(run_of_every_outcome(HOSTILE, name=HOSTILE, cpu=HOSTILE)).page

    assert page.locator("img").count() == 0
    assert HOSTILE in page.locator("h2").first.inner_text()
    # The pictures name it too, as text.
    assert page.locator("[data-chart] text", has_text="</script>").count() > 0


# --- how it looks --------------------------------------------------------------------------------------------------


def test_every_picture_is_drawn(opened: Any) -> None:
    page = opened(run_of_every_outcome()).page

    places = page.locator("[data-chart]")
    assert places.count() == 6
    assert page.locator("select[aria-label^='Show one']").count() == 2
    require_live_legends(page)
    for place in places.all():
        box = place.locator("svg").first.bounding_box()
        assert box is not None
        assert box["width"] > 300


def test_a_picture_that_cannot_be_drawn_says_so_and_the_others_are_there(opened: Any) -> None:
    text = render(run_of_every_outcome(), "html")
    before, start, rest = text.partition('<script type="application/json" id="charts">')
    specs, end, after = rest.partition("</script>")
    (first, *others) = json.loads(specs)
    broken = json.dumps([{**first, "transform": [{"filter": "datum..model ("}]}, *others])

    page = opened(before + start + broken.replace("<", "\\u003c") + end + after).page

    places = page.locator("[data-chart]")
    assert places.first.inner_text().startswith("This picture could not be drawn: ")
    assert page.locator("[data-chart] svg").count() == places.count() - 1


def test_the_theme_follows_the_system_until_a_reader_chooses(opened: Any) -> None:
    def ground(page: Page) -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = opened(run_of_every_outcome(), color_scheme="light").page
    page = opened(run_of_every_outcome(), color_scheme="dark").page

    dark = ground(page)
    assert dark != ground(light)
    page.get_by_text("Theme: system").click()
    assert page.get_by_text("Theme: light").is_visible()
    assert ground(page) == ground(light)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_stands_in_the_way_of_a_screen_reader(opened: Any, scheme: str) -> None:
    page = opened(run_of_every_outcome(), color_scheme=scheme).page

    found = Axe().run(page).response["violations"]

    serious = [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in {"serious", "critical"}]
    assert serious == []


def test_a_phone_shows_it_without_scrolling_the_page_sideways(opened: Any) -> None:
    page = opened(run_of_every_outcome(LONG, name=LONG)).page

    for width in (360, 800, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_prints_with_everything_unfolded(opened: Any, tmp_path: Path) -> None:
    page = opened(run_of_every_outcome()).page

    folded = page.locator("details:not([open])").count()
    counted = "document.querySelectorAll('details:not([open]):not(.columns-menu)').length"
    page.evaluate(f"addEventListener('beforeprint', () => window.foldedOnPaper = {counted})")

    page.pdf(path=tmp_path / "page.pdf", prefer_css_page_size=True)

    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF-")
    assert page.evaluate("window.foldedOnPaper") == 0
    assert page.locator("details:not([open])").count() == folded > 1, "the page is as it was before"
    page.get_by_text("Theme: system").click()
    page.get_by_text("Theme: light").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)", "paper is white"
    assert not page.get_by_label("Filter rows").is_visible(), "paper has no controls"
    words = page.locator("[data-chart] .role-axis-label text")
    assert words.count() > 20
    inks = words.evaluate_all("each => [...new Set(each.map(one => getComputedStyle(one).fill))]")
    assert inks == ["rgb(0, 0, 0)"], "a picture is drawn for the screen, and is dark on paper all the same"


def test_paper_says_in_words_what_was_filtered_and_chosen_and_has_no_lists(opened: Any) -> None:
    page = opened(run_of_every_outcome()).page
    page.get_by_label("Filter rows").fill("mobilenet onnx")
    page.get_by_label("Precision", exact=True).select_option("fp32")
    page.get_by_label("Row of the picture").first.select_option(index=1)
    row = page.get_by_label("Row of the picture").first.input_value()

    assert shown(page, ".printed") == []
    page.emulate_media(media="print")

    assert shown(page, "select") == []
    said = page.locator(".printed").all_text_contents()  # the text that is seen is empty below the screen
    heads = page.locator("thead button").evaluate_all("each => each.map(one => getComputedStyle(one).display)")
    assert set(heads) == {"contents"}, "Chromium leaves buttons out where it prints a head again on the next page"
    assert said[0] == "3 of 11 rows: mobilenet, onnx, fp32"
    assert row in said


def test_no_name_in_a_picture_is_cut_at_its_edge_or_runs_into_its_neighbour(opened: Any) -> None:
    page = opened(run_of_every_outcome("a_network_whose_name_is_as_long_as_a_sentence_v2"), color_scheme="light").page
    page.set_viewport_size({"width": 1280, "height": 6000})  # what is out of sight is not laid out

    over = page.locator("[data-chart] .role-axis-label text").evaluate_all(
        """each => each.filter(one => one.getBoundingClientRect().left < one.closest("figure")
           .getBoundingClientRect().left).map(one => one.textContent)"""
    )
    sizes = page.locator("[data-chart] .role-axis-label text, [data-chart] .role-legend-label text").evaluate_all(
        "each => [...new Set(each.map(one => getComputedStyle(one).fontSize))]"
    )
    labels = page.locator("[data-chart] .role-axis-label text").all_text_contents()

    assert over == []
    assert sizes == ["12px"], "as it was laid out"
    assert any("…" in label and label.endswith("onnx/fp32, 1 thread") for label in labels), "its end tells it apart"


BEYOND = """each => each.filter(one => {
    const [part, frame] = [one, one.closest(".chart")].map(of => of.getBoundingClientRect());
    return part.right > frame.right + 1 || part.left < frame.left - 1;
}).map(one => one.textContent)"""


@pytest.mark.parametrize("width", [390, 800, 1280])
def test_no_legend_is_cut_and_a_narrow_screen_moves_a_picture_in_its_frame(opened: Any, width: int) -> None:
    several = [
        records.result(model=f"network_number_{number}", format=format_, p50_ms=5.0 + number, size_mib=3.0 + number)
        for number in range(7)
        for format_ in ("onnx", "tflite")
    ]
    page = opened(records.run(several)).page
    page.set_viewport_size({"width": width, "height": 6000})
    page.reload()
    page.wait_for_selector("html[data-drawn=yes]")

    assert page.locator("[data-chart] .role-legend-label text").count() > 7
    assert page.locator("[data-chart] .role-legend-label text").evaluate_all(BEYOND) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    plots = page.locator("[data-chart] .role-frame.root > g > path.background")
    widths = plots.evaluate_all("each => each.map(one => one.getBoundingClientRect().width)")
    assert min(widths) > 200, "there is room for what is drawn"


def test_another_row_of_the_operators_is_laid_out_with_its_own_names(opened: Any) -> None:
    longest = "convolution_with_a_name_that_is_as_long_as_a_sentence"
    profiled = [
        records.result(format=format_, measured={"profile": profile})
        for format_, profile in (
            ("onnx", test_charts.PROFILE),
            ("tflite", msgspec.structs.replace(test_charts.PROFILE, operators=_named(longest))),
        )
    ]
    page = opened(records.run(profiled)).page
    page.set_viewport_size({"width": 1280, "height": 6000})
    operators = page.locator("figure", has_text="Time of each operator")
    operators.get_by_label("Row of the picture").select_option(index=1)

    labels = operators.locator(".role-axis-label text")
    assert any(text.endswith(longest[-20:]) for text in labels.all_text_contents())
    assert labels.evaluate_all(BEYOND) == []


def _named(name: str) -> tuple[OperatorTime, ...]:
    return tuple(msgspec.structs.replace(each, kind="conv", name=name) for each in test_charts.PROFILE.operators[:1])


@pytest.mark.parametrize("width", [390, 1280, 1366])
def test_the_menu_of_columns_stays_in_the_window(opened: Any, width: int) -> None:
    page = opened(run_of_every_outcome()).page
    page.set_viewport_size({"width": width, "height": 900})
    page.get_by_label("Filter rows").fill("onnx")
    page.get_by_text("Columns", exact=True).click()

    box = page.locator(".menu").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_pictures_follow_the_theme(opened: Any) -> None:
    page = opened(run_of_every_outcome(), color_scheme="light").page
    ink = "getComputedStyle(document.querySelector('[data-chart] .role-axis-label text')).fill"
    assert page.evaluate(ink) == page.evaluate("getComputedStyle(document.body).color") == "rgb(26, 29, 33)"

    page.get_by_text("Theme: system").click()
    page.get_by_text("Theme: light").click()

    colours = """marks => [...new Set(marks.flatMap(mark => {
        const { fill, stroke, opacity } = getComputedStyle(mark);
        return Number(opacity) ? [fill, stroke] : [];
    }))]"""
    drawn = page.locator("[data-chart] :is(.role-mark, .role-legend-symbol) :is(path, line, rect)")
    assert not {"rgb(0, 0, 0)", "black"} & set(drawn.evaluate_all(colours)), "black on a dark page"
    assert page.evaluate(ink) == page.evaluate("getComputedStyle(document.body).color") == "rgb(231, 234, 237)"


@pytest.mark.parametrize("name", ["mobilenet_v2", LONG], ids=["usual names", "long names"])
def test_every_column_of_every_table_is_on_the_paper(opened: Any, name: str) -> None:
    page = opened(run_of_every_outcome(name, name=name)).page
    page.set_viewport_size({"width": PAPER_PX, "height": 700})
    page.evaluate("document.querySelectorAll('details').forEach(each => (each.open = true))")
    page.locator("input[data-column]").evaluate_all("every => every.forEach(one => one.checked || one.click())")

    page.emulate_media(media="print")

    assert "zipped" in shown(page, "thead button")
    ends = page.locator("table").evaluate_all("every => every.map(one => one.getBoundingClientRect().right)")
    assert len(ends) > 4
    assert max(ends) <= PAPER_PX


SELFTEST = SelftestReport(
    schema=1,
    machine="a machine",
    model="net",
    runtime="litert, 1 threads",
    harness_version="0.1.0",
    trials=20,
    first_at="2026-11-26T01:00:00+00:00",
    last_at="2026-11-26T09:00:00+00:00",
    sessions_load_1min=(0.1, 0.5, 1.2),
    scenarios=tuple(
        ScenarioTold(
            name="aa" if dose == 0 else f"spin {100 * dose:g} %",
            kind="aa" if dose == 0 else "spin",
            dose=dose,
            metric="p50",
            planned=100,
            done=100,
            verdicts={},
            slower=RateTold(count=count, of=100, at_least=0.0, at_most=1.0),
            regressions=RateTold(count=0, of=100, at_least=0.0, at_most=1.0),
            two_stage=None,
            covered=None,
            recovered_points=0.1 if dose else None,
            noise=0.01,
            seconds=20.0,
            seconds_p95=22.0,
        )
        for dose, count in ((0.0, 0), (0.02, 92))
    ),
    uniformity_p=0.4,
    rules=(),
    damaged=(),
)


# --- other pages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        index_page.render(
            [test_index_page.listed(test_index_page.run_of(day, 9.0 + day)) for day in (1, 2)], version="1"
        ),
        comparison_page.render("monday", "tuesday", test_comparison_page.ROWS, version="1", data={}),
        page.render(test_page.figures_of_every_kind()),
        page.render(figures_of(StudyFolder.open(ROOT / "reports" / "baselines" / "ocular"))),
        selftest_page.render(SELFTEST, version="1"),
    ],
    ids=["many runs", "a comparison", "a study", "the stored study", "a self-test"],
)
def test_the_other_pages_are_pages_of_the_same_kind(opened: Any, text: str) -> None:
    shown = opened(text).page

    shown.set_viewport_size({"width": 360, "height": 800})
    assert shown.evaluate("document.documentElement.scrollWidth") <= 360
    places = shown.locator("[data-chart]").count()
    assert places >= 1
    assert shown.locator("[data-chart] > svg, [data-chart] > div > svg").count() == places
    require_live_legends(shown)
    shown.locator("thead button").first.click()
    shown.get_by_label("Filter rows").fill("no such row")
    assert shown.get_by_role("status").inner_text().endswith("nothing matches")
    found = Axe().run(shown).response["violations"]
    assert [each["id"] for each in found if each["impact"] in {"serious", "critical"}] == []


# --- the extremes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (records.run([]), "No cell"),
        (
            records.run([records.result(threads=n, outcome=records.failure(), no_artifact=True) for n in (1, 2)]),
            "failed",
        ),
    ],
    ids=["no cells", "all failed"],
)
def test_a_run_without_figures_still_opens_and_says_so(opened: Any, run: FakeRun, says: str) -> None:
    page = opened(run).page

    assert says.lower() in page.get_by_label("Answer").inner_text().lower()
    assert page.locator("[data-chart]").count() == 0


def test_a_thousand_rows_on_several_devices_fit_into_one_page(opened: Any) -> None:
    found = opened(heavy_run())

    assert found.page.locator("section > .scroll tbody tr").count() == CELLS
    assert found.page.get_by_text("Operators timed: The first 20 rows of").count() == len(DEVICES)
    assert found.path.stat().st_size < MAX_BYTES
    found.page.get_by_label("Filter rows").fill("network_007 pixel")
    assert found.page.get_by_role("status").inner_text() == f"4 of {CELLS} rows"
