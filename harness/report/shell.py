"""What every page has around what it says: nothing remote, no script but its own, its data beside its pictures.

A page is complete without a script; with it tables sort and filter, pictures can be explored, the figures can be saved.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness.report import pictures
from harness.report.markup import Markup, element, join
from harness.report.spec import page_spec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.report.spec import Chart

_HERE = Path(__file__).parent
_LONG_NAME = 24
"""Characters. A column of names that break is wide, too."""


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
    """The place of a picture, which the script fills. On a narrow screen it is moved sideways in a frame."""
    place = element("div", data_chart=number, role="group", aria_label=f"{drawn.title}. {drawn.says}", class_="chart")
    return element(
        "figure",
        element("figcaption", drawn.title),
        element("p", drawn.says, class_="quiet"),
        element("div", place, class_="scroll", role="region", aria_label=f"Picture: {drawn.title}", tabindex=0),
    )


def places(drawn: Sequence[Chart]) -> list[Markup]:
    """The places of all pictures, one below the other; none where they cannot be drawn."""
    return [chart(each, number) for number, each in enumerate(drawn)] if drawn and can_draw() else []


@dataclass(frozen=True, kw_only=True)
class Head:
    """What stands above a column.

    Attributes:
        title: Its name.
        group: What it has in common with its neighbours, unit included; a column of a group can be hidden.
        style: More classes of its cells.
        is_number: At the right edge of its column, as its figures are.
        is_detail: Hidden until it is asked for: a table that has to be scrolled sideways is not read.
        tip: What it means, where its name does not say it.
    """

    title: str
    group: str = ""
    style: str = ""
    is_number: bool = False
    is_detail: bool = False
    tip: str = ""


def tools(
    *, placeholder: str, choices: Mapping[str, Sequence[str]] | None = None, heads: Sequence[Head] = ()
) -> Markup:
    """What narrows a page's tables, and what takes its figures elsewhere.

    Args:
        placeholder: An example of words to look for.
        choices: Name -> values of the `data-NAME` attribute of rows; a choice between fewer than two is none.
        heads: Of the table whose columns can be hidden.
    """
    controls = element(
        "div",
        element("label", "Filter rows ", for_="filter"),
        element("input", id="filter", type="search", placeholder=placeholder, autocomplete="off"),
        *(_choice(name, values) for name, values in (choices or {}).items() if len(values) > 1),
        element("span", id="count", role="status"),
        _columns_menu(heads) if any(head.group for head in heads) else None,
        element("button", "Copy the figures", id="copy", type="button"),
        element("button", "Save the figures (JSON)", id="save", type="button"),
        element("button", "Theme: system", id="theme", type="button"),
        element("a", "How to read this", href="#how-to-read"),
        class_="tools",
        role="search",
        aria_label="Tables",
    )
    # On paper there are no controls: which rows a filter has left is said in words.
    return join(controls, element("p", id="narrowed", class_="printed"))


def answer(*paragraphs: Markup) -> Markup:
    """What a page says before it shows anything."""
    return element("section", *paragraphs, class_="answer", aria_label="Answer")


def table(name: str, heads: Sequence[Head], rows: Iterable[Markup]) -> Markup:
    """A table that sorts by each of its heads; groups of them stand above."""
    groups = _groups(heads) if any(head.group for head in heads) else None
    cells = (
        element(
            "th",
            element("button", head.title, type="button", title=head.tip or None),
            scope="col",
            class_=cell_style(heads, number),
        )
        for number, head in enumerate(heads)
    )
    whole = element("table", element("thead", groups, element("tr", *cells)), element("tbody", *rows), aria_label=name)
    return element("div", whole, class_="scroll", role="region", aria_label=name, tabindex=0)


def cell_style(heads: Sequence[Head], number: int) -> str | None:
    """Classes of the cells of a column; a line stands left of each group."""
    head = heads[number]
    starts = head.group and head.group != heads[number - 1].group
    return " ".join(filter(None, ("first" if starts else "", "" if head.is_number else "text", head.style))) or None


def name_style(name: str) -> str:
    """Classes of a cell that holds a name: ordinary ones stay on one line, and only a very long one may break."""
    return "text long" if len(name) > _LONG_NAME else "text"


def sortable(value: float | None) -> str:
    """What a cell's column is sorted by, for its `data-v`; empty where the figure is unknown."""
    return "" if value is None else f"{value:.7g}"


def _choice(name: str, values: Sequence[str]) -> Markup:
    every = element("option", f"every {name}", value="")
    options = (element("option", value, value=value) for value in values)
    return element("select", every, *options, data_filter=name, aria_label=name.capitalize())


def _columns_menu(heads: Sequence[Head]) -> Markup:
    """The script hides the details when it starts, so that without it nothing is hidden."""
    switches = (
        element(
            "label",
            element("input", type="checkbox", checked=True, data_column=number, data_detail=head.is_detail),
            f" {head.group}: {head.title}",
        )
        for number, head in enumerate(heads)
        if head.group
    )
    return element(
        "details",
        element("summary", "Columns"),
        element("div", *switches, class_="menu", role="group", aria_label="Columns"),
        class_="columns-menu",
    )


def _groups(heads: Sequence[Head]) -> Markup:
    ungrouped = sum(not head.group for head in heads)
    spans = Counter(head.group for head in heads if head.group)
    cells = (element("th", group, colspan=span, scope="colgroup", class_="first") for group, span in spans.items())
    return element("tr", element("td", colspan=ungrouped), *cells, class_="groups")


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
