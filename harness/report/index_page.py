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
from harness.report.view import view
from harness.text import clean, count

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


_STUDY_HEADS: Final = (
    shell.Head(title="Study"),
    shell.Head(title="When"),
    shell.Head(title="Data"),
    shell.Head(title="Networks", is_number=True),
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


@dataclass(frozen=True, kw_only=True)
class ListedStudy:
    """A study's folder, as it was found.

    Attributes:
        name: Of the folder.
        link: The study's own page, from where the index lies.
        created_at: When it was begun; None where it could not be read.
        data: What it was done on, as people call it.
        networks: How many it has.
        said: Its answer, in sentences.
        problem: Why it could not be read.
    """

    name: str
    link: str | None = None
    created_at: str | None = None
    data: str = ""
    networks: int = 0
    said: str = ""
    problem: str = ""


def render(found: Sequence[Listed], *, version: str, studies: Sequence[ListedStudy] = ()) -> str:
    """The whole page.

    Args:
        found: The runs, in any order; the newest are shown first.
        version: Of this program.
        studies: Likewise.
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
        header=_header(found, views, studies),
        main=(_studies(studies), _table(newest_first, views), trends.table(several, links), *shell.places(drawn)),
        footer=element(
            "footer",
            element("h2", "How to read this", id="how-to-read"),
            element(
                "p",
                "Days differ: heat, other programs and updates move figures that have nothing to do with the model. "
                "Whether one really changed is judged by `harness history MODEL` and `harness compare`.",
                class_="legend",
            ),
            element("p", trends.HOW_TO_READ, class_="legend") if several else None,
        ),
        data={
            "studies": {each.name: {"created_at": each.created_at, "answer": each.said} for each in studies},
            "runs": {name: _figures(shown) for name, shown in views.items()},
            "trends": several,
        },
        drawn=drawn,
    )


def _header(found: Sequence[Listed], views: Mapping[str, View], studies: Sequence[ListedStudy]) -> Markup:
    cells = sum(len(shown.rows) for shown in views.values())
    statuses = Counter(row.status for shown in views.values() for row in shown.rows)
    unread = len(found) - len(views) + sum(bool(study.problem) for study in studies)
    runs = count(len(views), "run", "runs")
    told = [f"{statuses['failed']} failed"]
    told += [f"{statuses['not_runnable']} cannot run there"] if statuses["not_runnable"] else []
    told += [f"{statuses['not_run']} not run yet"] if statuses["not_run"] else []
    sentences = [f"{runs} with {count(cells, 'cell', 'cells')}; {', '.join(told)}."]
    if studies:
        sentences.append(f"{count(len(studies), 'study', 'studies')}.")
    if unread:
        sentences.append(f"{count(unread, 'folder', 'folders')} could not be read; the table says why.")
    return element(
        "header",
        element("h1", "Runs"),
        shell.answer(*(element("p", text) for text in sentences)),
        shell.tools(placeholder="nightly pixel"),
    )


def _studies(studies: Sequence[ListedStudy]) -> Markup | None:
    if not studies:
        return None
    newest_first = sorted(studies, key=lambda study: study.created_at or "", reverse=True)
    return shell.table("Studies", _STUDY_HEADS, (_study(study) for study in newest_first))


def _study(study: ListedStudy) -> Markup:
    if study.created_at is None:
        return _unreadable(study, _STUDY_HEADS)
    said = clean(study.said)
    return element(
        "tr",
        _first(study),
        element("td", words.moment(study.created_at), class_="text"),
        element("td", clean(study.data), class_="text"),
        element("td", str(study.networks), data_v=study.networks),
        element("td", said, class_="text long"),
        class_="measured",
        data_text=clean(f"{study.name} {study.data} {said}").lower(),
    )


def _table(found: Sequence[Listed], views: Mapping[str, View]) -> Markup:
    return shell.table("Runs", _HEADS, (_row(each, views.get(each.name)) for each in found))


def _row(listed: Listed, shown: View | None) -> Markup:
    if shown is None:
        return _unreadable(listed, _HEADS)
    statuses = Counter(row.status for row in shown.rows)
    devices = ", ".join(clean(device.name) + (" (emulated)" if device.is_emulated else "") for device in shown.devices)
    said = answer(shown)[0]
    return element(
        "tr",
        _first(listed),
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


def _first(listed: Listed | ListedStudy) -> Markup:
    name = breakable(clean(listed.name))
    linked = element("a", name, href=listed.link) if listed.link else name
    return element("th", linked, scope="row", class_="text long")


def _unreadable(listed: Listed | ListedStudy, heads: Sequence[shell.Head]) -> Markup:
    said = element("p", element("strong", "unreadable"), f": {clean(listed.problem)}")
    why = element("td", said, colspan=len(heads) - 1, class_="why")
    return element("tr", _first(listed), why, class_="failed", data_text=clean(f"{listed.name} unreadable").lower())


def _figures(shown: View) -> dict[str, object]:
    return {
        "created_at": shown.plan.created_at,
        "suite": shown.plan.suite,
        "summaries": {row.cell.id: row.summary for row in shown.rows},
    }
