"""Many runs on one page: what each measured, what came out, a link to its own page; and the same row run after run.

It is made from the stored runs alone. Whether a figure really changed is judged by `harness history` and
`harness compare`; this page shows the figures side by side and says that days differ.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from harness.report import shell, trends, words
from harness.report.answer import answer
from harness.report.markup import Markup, breakable, element
from harness.report.view import clean, view

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.report.view import Run, View

FILE_NAME: Final = "index.html"
_HEADS: Final = (
    shell.Head(title="Run"),
    shell.Head(title="When"),
    shell.Head(title="Suite"),
    shell.Head(title="Devices"),
    shell.Head(title="Cells", is_number=True),
    shell.Head(title="Failed", is_number=True),
    shell.Head(title="Not run", is_number=True),
    shell.Head(title="Result"),
)


@dataclass(frozen=True)
class Listed:
    """A run's folder, as it was found."""

    name: str
    link: str | None
    """The run's own page, from where the index lies; None where there is none."""
    run: Run | None
    problem: str = ""
    """Why it could not be read."""


def render(found: Sequence[Listed], *, version: str) -> str:
    """The whole page.

    Args:
        found: The runs, in any order; the newest are shown first.
        version: Of this program.
    """
    views = {each.name: view(each.run) for each in found if each.run is not None}
    several = trends.trends_of(views.values())
    drawn = [picture] if (picture := trends.chart(several)) is not None else []
    links = {clean(views[each.name].plan.run): each.link for each in found if each.run is not None}
    newest_first = sorted(found, key=lambda each: views[each.name].plan.created_at if each.run else "", reverse=True)
    return shell.page(
        title="Runs",
        name="runs",
        version=clean(version),
        header=_header(found, views),
        main=(_table(newest_first, views), trends.table(several, links), *shell.places(drawn)),
        footer=element(
            "footer",
            element("h2", "How to read this"),
            element(
                "p",
                "Days differ: heat, other programs and updates move figures that have nothing to do with the model. "
                "Whether one really changed is judged by `harness history MODEL` and `harness compare`.",
                class_="legend",
            ),
            element("p", trends.HOW_TO_READ, class_="legend") if several else None,
        ),
        data={"runs": {name: _figures(shown) for name, shown in views.items()}, "trends": several},
        drawn=drawn,
    )


def _header(found: Sequence[Listed], views: Mapping[str, View]) -> Markup:
    cells = sum(len(shown.rows) for shown in views.values())
    failed = sum(row.status == "failed" for shown in views.values() for row in shown.rows)
    unread = len(found) - len(views)
    runs = words.count(len(views), "run", "runs")
    sentences = [f"{runs} with {words.count(cells, 'cell', 'cells')}; {failed} failed."]
    if unread:
        sentences.append(f"{words.count(unread, 'folder', 'folders')} could not be read; the table says why.")
    return element(
        "header",
        element("h1", "Runs"),
        element("section", *(element("p", text) for text in sentences), class_="answer", aria_label="Answer"),
        shell.tools(placeholder="nightly pixel"),
    )


def _table(found: Sequence[Listed], views: Mapping[str, View]) -> Markup:
    return shell.table("Runs", _HEADS, (_row(each, views.get(each.name)) for each in found))


def _row(listed: Listed, shown: View | None) -> Markup:
    name = breakable(clean(listed.name))
    linked = element("a", name, href=listed.link) if listed.link else name
    first = element("th", linked, scope="row", class_="text long")
    if shown is None:
        why = element("td", element("p", element("strong", "unreadable"), f": {clean(listed.problem)}"), colspan=7)
        return element("tr", first, why, class_="failed", data_text=clean(f"{listed.name} unreadable").lower())
    statuses = Counter(row.status for row in shown.rows)
    devices = ", ".join(clean(device.name) + (" (emulated)" if device.is_emulated else "") for device in shown.devices)
    said = answer(shown)[0]
    return element(
        "tr",
        first,
        element("td", words.moment(shown.plan.created_at), class_="text"),
        element("td", clean(shown.plan.suite), class_="text"),
        element("td", devices, class_="text"),
        element("td", str(len(shown.rows)), data_v=len(shown.rows)),
        element(
            "td", str(statuses["failed"]), data_v=statuses["failed"], class_="wrong" if statuses["failed"] else None
        ),
        element("td", str(statuses["not_run"]), data_v=statuses["not_run"]),
        element("td", said, class_="text long"),
        class_="measured",
        data_text=clean(f"{listed.name} {shown.plan.suite} {devices} {said}").lower(),
    )


def _figures(shown: View) -> dict[str, object]:
    return {
        "created_at": shown.plan.created_at,
        "suite": shown.plan.suite,
        "summaries": {row.cell.id: row.summary for row in shown.rows},
    }
