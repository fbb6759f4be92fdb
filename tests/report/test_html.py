"""The page: needs nothing else, says everything, and takes no name for markup."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from harness.records import Obstacle, OperatorProfile, OperatorTime
from harness.report import render
from harness.report.markup import Markup, breakable, element
from tests.fakes import records

if TYPE_CHECKING:
    from tests.fakes.records import FakeRun

VOID = {"meta", "link", "input", "wbr", "br", "hr"}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"' onmouseover='alert(3) <!-- & \u2028 模型"


class Page(HTMLParser):
    """What a browser makes of it: elements with attributes, text by element, and whether all is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))

    def text_of(self, tag: str) -> list[str]:
        return [text for where, text in self.texts if where == tag]

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def run_of(model: str = "mobilenet_v2", **device: Any) -> FakeRun:
    return records.run(
        [
            records.result(model=model),
            records.result(model=model, threads=2, outcome=records.failure(message=f"no {model}", hint=model)),
            records.result(model=model, threads=3, outcome=records.not_runnable(model)),
        ],
        missing=[records.cell(model=model, threads=4)],
        devices=[records.device(**{"virtual_machine": "KVM", **device})],
        models=[records.planned_model(model, trained=False)],
    )


def test_the_page_is_well_formed_and_holds_every_row() -> None:
    page = Page(render(run_of(), "html"))

    rows = [each for each in page.attributes("tr") if "data-text" in each]
    assert all(str(each["data-runtime"]) in str(each["data-text"]) for each in rows), "a runtime can be looked for, too"
    assert [row["class"] for row in rows] == ["measured", "failed", "not_runnable", "not_run"]


def test_the_page_asks_for_nothing() -> None:
    page = Page(render(run_of(), "html"))

    for tag, attributes in page.elements:
        assert tag not in {"img", "iframe", "object", "embed", "base", "form"}
        for name in ("src", "href", "action", "srcset", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,")), (tag, attributes)
    styles = "".join(page.text_of("style"))
    assert "url(" not in styles
    assert "@import" not in styles


def test_only_the_pages_own_script_may_run() -> None:
    page = Page(render(run_of(), "html"))

    (policy,) = (each for each in page.attributes("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in str(policy["content"])
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]{44}' 'sha256-[A-Za-z0-9+/=]{44}'$", str(policy["content"]))
    kinds = [attributes.get("type", "script") for attributes in page.attributes("script")]
    assert kinds == ["application/json", "application/json", "script", "script"], (
        "the figures, the pictures; their library, ours"
    )


def test_no_name_becomes_markup() -> None:
    run = run_of(HOSTILE, name=HOSTILE, cpu=HOSTILE, virtual_machine=HOSTILE)

    plain, hostile = Page(render(run_of(), "html")), Page(render(run, "html"))

    def shape(page: Page) -> list[str]:
        # A long name may break in more places; everything else is the same page.
        return [tag for tag, _ in page.elements if tag != "wbr"]

    assert shape(hostile) == shape(plain)
    assert not any(name.startswith("on") for _, attributes in hostile.elements for name in attributes)


def test_the_embedded_figures_are_json_and_survive_any_name() -> None:
    text = render(run_of(HOSTILE), "html")

    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    document = json.loads(data)

    assert document["plan"]["models"][0]["spec"]["name"] == HOSTILE
    assert "results" not in document, "an empty list would say that there were none"
    (measured,) = (each for each in document["summaries"].values() if each)
    assert measured["samples"] == 500
    assert "<" not in data


def test_figures_come_with_their_interval_and_reasons_stand_in_their_rows() -> None:
    text = render(run_of(), "html")

    assert "10.0 to 10.1 (±0.2%)" in text
    assert re.search(r"<strong>failed</strong>: no mobilenet_v2\. mobilenet_v2 \(measure, runner_died\)", text)
    assert "<strong>cannot run here</strong>: mobilenet_v2" in text
    assert "latency only" in text
    assert "The device is a virtual machine (KVM)" in text


def test_the_first_screen_names_models_devices_and_runtimes_although_all_failed() -> None:
    run = records.run([records.result(outcome=records.failure(), no_artifact=True)])

    header = render(run, "html").partition("<main")[0]

    for name in ("mobilenet_v2", "AMD EPYC 7763", "Debian GNU/Linux 13", "onnxruntime"):
        assert f"{name}" in header.partition('<section class="answer"')[0], name


def test_emulated_figures_are_stamped_and_apart() -> None:
    text = render(run_of(device_class="emulated"), "html")

    assert '<p class="stamp">EMULATED' in text


def test_an_emulated_device_has_neither_pictures_nor_operators_of_times() -> None:
    operators = (OperatorTime(name="conv", kind="Conv", accelerator="CPU", median_ns=1e3),)
    profile = OperatorProfile(source="onnxruntime-trace", inferences_ns=(2000,), operators=operators)

    def page_on(**device: Any) -> str:
        results = [records.result(threads=n, measured={"profile": profile}) for n in (1, 2)]
        return render(records.run(results, devices=[records.device(**device)]), "html")

    for sign in ("<svg", "data-chart", "Operators of"):
        assert sign in page_on().partition("<footer")[0]
        assert sign not in page_on(device_class="emulated").partition("<footer")[0]


def test_every_picture_can_be_read_aloud() -> None:
    page = Page(render(run_of(), "html"))

    (picture,) = page.attributes("svg")
    assert picture["role"] == "img"
    assert any(text.startswith("onnx/fp32, 1 thread: 10.1 ms (10.0 ms to 10.1 ms") for text in page.text_of("desc"))


def test_what_a_picture_leaves_out_it_names() -> None:
    text = render(run_of(), "html")

    picture = text[text.index("<svg") : text.index("</svg>")]
    assert picture.count('class="none"') == 3


def test_a_model_without_figures_has_no_picture() -> None:
    run = records.run([records.result(outcome=records.failure())])

    assert "<svg" not in render(run, "html")


@pytest.mark.parametrize("milliseconds", [(0.0001, 5000), (10, 10.0001), (3, 4), (1, 100)])
def test_a_picture_stays_within_its_axes(milliseconds: tuple[float, float]) -> None:
    run = records.run([records.result(p50_ms=ms, threads=n) for n, ms in enumerate(milliseconds, start=1)])

    text = render(run, "html")

    shapes = re.findall(r'<path d="M([\d.]+) ([^"]*)" class="shape">', text)
    assert len(shapes) == 2
    for first, rest in shapes:
        # A bin is a stroke, three pixels wide; each move is from the one before.
        last = float(first) + sum(map(float, re.findall(r"m([\d.]+)", rest)))
        assert float(first) - 1.5 >= 228
        assert last - 1.5 <= 590


def test_an_obstacle_of_the_device_is_told_with_the_conditions() -> None:
    run = run_of()
    obstacle = Obstacle(name="load", severity="warning", found="load is 3.1", advice="close other programs")
    plan = msgspec.structs.replace(run.plan, obstacles={"host": (obstacle,)}, packages={"onnxruntime": "1.24.0"})

    text = render(records.FakeRun(run.folder, plan, run.results), "html")

    assert "<b>warning</b>load is 3.1. <span>close other programs.</span>" in text
    assert "<dt>onnxruntime</dt><dd>1.24.0</dd>" in text


def test_text_is_escaped_unless_it_was_made_by_element() -> None:
    made = element("p", "a < b & ", element("b", '"c"'), title="'d'", hidden=True, lang=None)

    assert made == '<p title="&#x27;d&#x27;" hidden>a &lt; b &amp; <b>&quot;c&quot;</b></p>'
    assert isinstance(made, Markup)


def test_a_name_may_break_after_a_separator() -> None:
    assert breakable("tflite/int8_<x>") == "tflite/<wbr>int8_<wbr>&lt;x&gt;"
