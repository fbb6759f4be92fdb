"""What every page has around what it says: nothing remote, no script but its own, its data beside its pictures.

A page is complete without a script; with it tables sort and filter, pictures can be explored, the figures can be saved.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness.report import pictures
from harness.report.markup import Markup, element
from harness.report.spec import page_spec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.report.spec import Chart

_HERE = Path(__file__).parent


def page(
    *,
    title: str,
    name: str,
    version: str,
    header: Markup,
    main: Iterable[Markup | None],
    footer: Markup,
    data: object,
    drawn: Sequence[Chart] = (),
) -> str:
    """A whole page.

    Args:
        title: Of the window.
        name: Of the file in which a reader saves the data.
        version: Of this program.
        header: Says what it is, and the answer.
        main: Everything else.
        footer: How to read it.
        data: What the page's figures are made of, as JSON.
        drawn: The pictures, in the order of the places that `chart` made for them.
    """
    library = pictures.page_script() if drawn else None
    scripts = tuple(script for script in (library, _asset("page.js")) if script)
    body = element(
        "body",
        element("a", "Skip to the figures", href="#figures", class_="skip"),
        header,
        element("main", *main, id="figures"),
        footer,
        element("script", _embedded(data), type="application/json", id="data"),
        element("script", _embedded([page_spec(each) for each in drawn]), type="application/json", id="charts")
        if library
        else None,
        *(element("script", Markup(script)) for script in scripts),
    )
    whole = element("html", _head(title, version, scripts), body, lang="en", data_run=name)
    return f"<!DOCTYPE html>\n{whole}\n"


def can_draw() -> bool:
    """Whether the drawing library is installed."""
    return pictures.page_script() is not None


def chart(drawn: Chart, number: int) -> Markup:
    """The place of a picture, which the script fills."""
    return element(
        "figure",
        element("figcaption", drawn.title),
        element("p", drawn.says, class_="quiet"),
        element("div", data_chart=number, role="group", aria_label=f"{drawn.title}. {drawn.says}", class_="chart"),
    )


def places(drawn: Sequence[Chart]) -> list[Markup]:
    """The places of all pictures, one below the other; none where they cannot be drawn."""
    return [chart(each, number) for number, each in enumerate(drawn)] if drawn and can_draw() else []


def tools(*, placeholder: str) -> Markup:
    """What narrows a page's only table, and what takes its figures elsewhere."""
    return element(
        "div",
        element("label", "Filter rows ", for_="filter"),
        element("input", id="filter", type="search", placeholder=placeholder, autocomplete="off"),
        element("span", id="count", role="status"),
        element("button", "Save the figures (JSON)", id="save", type="button"),
        element("button", "Theme: system", id="theme", type="button"),
        class_="tools",
        role="search",
        aria_label="Table",
    )


def table(name: str, heads: Sequence[str], rows: Iterable[Markup]) -> Markup:
    """A table that sorts by each of its heads."""
    cells = (element("th", element("button", head, type="button"), scope="col", class_="text") for head in heads)
    whole = element("table", element("thead", element("tr", *cells)), element("tbody", *rows), aria_label=name)
    return element("div", whole, class_="scroll", role="region", aria_label=name, tabindex=0)


def _head(title: str, version: str, scripts: Sequence[str]) -> Markup:
    # Nothing remote may load, whatever a name in the data tries: only scripts whose digests are given may run.
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {allowed}"
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content=f"harness {version}"),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", Markup(_asset("page.css"))),
    )


def _embedded(data: object) -> Markup:
    """JSON that cannot end its own script element."""
    text = msgspec.json.encode(data).decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _asset(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
