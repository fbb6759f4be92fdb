"""Where the time of an inference goes, as tables: for whoever cannot see the picture, or wants to copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness import statistics, units
from harness.report import shell, words
from harness.report.markup import Markup, breakable, element
from harness.report.operators import all_operators_ns, longest_operators, number_profiled, profiled
from harness.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.records import OperatorTime, PlacedNode
    from harness.report.view import DeviceRows, Row

_PLACES: Final = tuple(shell.Head(title=title) for title in ("Gives", "Kind", "Planned on"))
_HEADS: Final = (
    shell.Head(title="Operator"),
    shell.Head(title="Kind"),
    shell.Head(title="Ran on"),
    shell.Head(title="µs", is_number=True),
    shell.Head(title="% of all", is_number=True),
)


def operator_tables(device: DeviceRows) -> list[Markup]:
    """A table a row, folded away: of the time of its operators, or at least of where they are computed."""
    planned = [row for row in device.rows if row.measured and row.measured.ran.nodes and not row.measured.profile]
    return [
        *(_table(row) for row in profiled(device)),
        *_cut("Operators timed", device.room, number_profiled(device)),
        *(_plan(row) for row in planned[: device.room]),
        *_cut("Operations planned", device.room, len(planned)),
    ]


def _cut(what: str, room: int, total: int) -> list[Markup]:
    said = words.first_of(room, total)
    return [element("p", f"{what}:{said}", class_="quiet")] if said else []


def _plan(row: Row) -> Markup:
    assert row.measured is not None
    nodes, name = row.measured.ran.nodes, f"{clean(row.cell.model)} {row.name}"
    return _folded(
        f"Where {name} is computed",
        "What the runtime means to do, by its own plan; it does not say what it did.",
        _PLACES,
        (_line(node) for node in nodes),
    )


def _table(row: Row) -> Markup:
    assert row.measured is not None
    assert row.measured.profile is not None
    profile, shown, whole = row.measured.profile, longest_operators(row), all_operators_ns(row)
    name = f"{clean(row.cell.model)} {row.name}"
    rest = len(profile.operators) - len(shown)
    each = units.duration(statistics.median(profile.inferences_ns))
    said = [f"{clean(profile.source)}: {len(profile.inferences_ns)} inferences of {each} each while they were timed"]
    said.append(f"its operators take {units.duration(whole)} together")
    if row.summary is not None:
        said.append(f"{units.duration(row.summary.p50_ns)} undisturbed")
    if rest:
        share = 100 * (1 - sum(operator.median_ns for operator in shown) / whole) if whole else 0.0
        said.append(f"{rest} more operators take {share:.1f} %")
    lines = (_line(operator, *_times(operator, whole)) for operator in shown)
    return _folded(f"Operators of {name}", f"{'; '.join(said)}.", _HEADS, lines)


def _folded(title: str, said: str, heads: Sequence[shell.Head], lines: Iterable[Markup]) -> Markup:
    return element(
        "details", element("summary", title), element("p", said, class_="quiet"), shell.table(title, heads, lines)
    )


def _line(operator: OperatorTime | PlacedNode, *figures: Markup) -> Markup:
    return element(
        "tr",
        element("th", breakable(clean(operator.name)), scope="row", class_=shell.name_style(operator.name)),
        element("td", clean(operator.kind), class_="text"),
        element("td", clean(operator.accelerator), class_="text"),
        *figures,
    )


def _times(operator: OperatorTime, whole: float) -> tuple[Markup, Markup]:
    share = 100 * operator.median_ns / whole if whole else 0.0
    return (
        element("td", units.three_digits(operator.median_ns / 1e3), data_v=shell.sortable(operator.median_ns)),
        element("td", f"{share:.1f}", data_v=shell.sortable(share)),
    )
