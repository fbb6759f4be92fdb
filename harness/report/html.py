"""A run as one HTML page that needs nothing else: no server, no network, no script for what it says.

With scripts the tables sort and filter and the pictures can be explored; without them everything that was measured is
still there, and the pictures of raw samples with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from harness import units
from harness.report import accuracy, cautions, figures, json_file, pictures, shell, words
from harness.report.answer import answer
from harness.report.charts import charts
from harness.report.markup import Markup, breakable, element
from harness.report.operator_tables import operator_tables
from harness.report.view import view
from harness.text import clean, count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness.records import MeasurePlan, Plan
    from harness.report.spec import Chart
    from harness.report.view import DeviceRows, Row, Run, View
    from harness.summary import Summary, WarningKind


@dataclass(frozen=True)
class _Column:
    group: str
    title: str
    sort_by: Callable[[Summary], float | None]
    show: Callable[[Summary], str]
    style: str = ""
    is_detail: bool = False
    tip: str = ""

    @property
    def head(self) -> shell.Head:
        return shell.Head(
            title=self.title,
            group=self.group,
            style=self.style,
            is_number=True,
            is_detail=self.is_detail,
            tip=self.tip,
        )


def _ms(read: Callable[[Summary], float | None]) -> Callable[[Summary], str]:
    return lambda summary: units.milliseconds(read(summary))


def _mib(read: Callable[[Summary], float | None]) -> Callable[[Summary], str]:
    return lambda summary: units.mebibytes(read(summary))


def _share(pct: float | None) -> str:
    return "–" if pct is None else f"{pct:.1f}"


_INTERVAL: Final = "interval"
"""Its level is in the head where it is the same for all rows of a page."""
_COLUMNS = (
    _Column(
        "Warm inference, ms",
        "p50",
        lambda s: s.p50_ns,
        _ms(lambda s: s.p50_ns),
        "p50",
        tip="The median over processes of each process's median",
    ),
    _Column("Warm inference, ms", _INTERVAL, lambda s: s.half_width_pct, words.ends_ms),
    _Column("Warm inference, ms", "p90", lambda s: s.p90_ns, _ms(lambda s: s.p90_ns)),
    _Column(
        "Warm inference, ms",
        "p90≤",
        lambda s: s.p90_early_stopping_ns,
        _ms(lambda s: s.p90_early_stopping_ns),
        is_detail=True,
        tip="What the true p90 does not exceed, with 99 % confidence",
    ),
    _Column("Warm inference, ms", "min", lambda s: s.min_ns, _ms(lambda s: s.min_ns), is_detail=True),
    _Column(
        "Outputs",
        "parity",
        lambda s: s.parity_relative_l2,
        lambda s: words.scientific(s.parity_relative_l2),
        tip="Relative L2 distance of the outputs from the checkpoint's",
    ),
    _Column("Cold start, ms", "load", lambda s: s.load_ns, _ms(lambda s: s.load_ns)),
    _Column("Cold start, ms", "first", lambda s: s.first_inference_ns, _ms(lambda s: s.first_inference_ns)),
    _Column(
        "Cold start, ms", "first/p50", lambda s: s.cold_over_warm, lambda s: f"{s.cold_over_warm:.1f}×", is_detail=True
    ),
    _Column("Memory, MiB", "peak", lambda s: s.peak_memory_bytes, _mib(lambda s: s.peak_memory_bytes)),
    _Column(
        "Memory, MiB", "model", lambda s: s.model_memory_bytes, _mib(lambda s: s.model_memory_bytes), is_detail=True
    ),
    _Column("File, MiB", "size", lambda s: s.size_bytes, _mib(lambda s: s.size_bytes)),
    _Column("File, MiB", "zipped", lambda s: s.deflated_bytes, _mib(lambda s: s.deflated_bytes), is_detail=True),
    _Column("Spread, %", "within", lambda s: s.within_cv_pct, lambda s: _share(s.within_cv_pct), is_detail=True),
    _Column("Spread, %", "between", lambda s: s.between_cv_pct, lambda s: _share(s.between_cv_pct), is_detail=True),
    _Column(
        "Amount",
        "inferences/s",
        lambda s: s.throughput_per_s,
        lambda s: units.three_digits(s.throughput_per_s),
        is_detail=True,
    ),
    _Column(
        "Amount", "samples / processes", lambda s: s.samples, lambda s: f"{s.samples:,} / {s.processes}", is_detail=True
    ),
)
_HEADS = (
    *(shell.Head(title=title) for title in ("Model", "File", "Threads", "Notes")),
    *(column.head for column in _COLUMNS),
)
_ERROR_HEADS = tuple(
    shell.Head(title=title, group="Accuracy, %", is_number=True) for title in ("error", "95 % interval")
)
"""Last, and only on a page that has something to say there: most runs are of files that nobody has tested."""


def render(run: Run) -> str:
    """The whole page."""
    shown = view(run)
    drawn = charts(shown)
    can_draw = bool(drawn) and shell.can_draw()
    heads = tuple(_with_level(head, shown.rows) for head in _HEADS)
    if has_errors := accuracy.has_errors(shown.rows):
        heads += _ERROR_HEADS
    devices = (_device(device, index, heads, drawn if can_draw else ()) for index, device in enumerate(shown.devices))
    return shell.page(
        title=f"{clean(shown.plan.suite)} · {words.moment(shown.plan.created_at)}",
        name=clean(shown.plan.run),
        version=clean(shown.plan.harness_version),
        header=_header(shown, heads),
        main=(*devices, _no_pictures() if drawn and not can_draw else None, _conditions(shown)),
        footer=_footer(has_errors=has_errors),
        data=json_file.figures(shown),
        drawn=drawn,
    )


def _with_level(head: shell.Head, rows: Sequence[Row]) -> shell.Head:
    levels = {row.summary.p50_confidence_pct for row in rows if row.summary} - {None}
    if head.title != _INTERVAL or len(levels) != 1:
        return head
    return replace(head, title=f"{levels.pop():g} % {_INTERVAL}")


def _header(shown: View, heads: Sequence[shell.Head]) -> Markup:
    plan = shown.plan
    counted = ((shown.rows, "cell"), (plan.models, "model"), (shown.devices, "device"))
    counts = ", ".join(count(len(several), one, f"{one}s") for several, one in counted)
    return element(
        "header",
        element("h1", f"{clean(plan.suite)}: latency, memory and size"),
        element("p", words.subject(shown)),
        element("p", f"{words.heading(plan)} · {counts}", class_="quiet"),
        element("p", element("code", clean(" ".join(plan.command))), class_="quiet"),
        shell.answer(*(element("p", text) for text in answer(shown))),
        _tools(shown, heads),
    )


def _tools(shown: View, heads: Sequence[shell.Head]) -> Markup:
    """What narrows the tables, and what takes the figures elsewhere."""
    cells = [row.cell for row in shown.rows]
    choices: dict[str, list[str]] = {
        "model": sorted({clean(cell.model) for cell in cells}),
        "precision": sorted({cell.precision for cell in cells}),
        "runtime": sorted({cell.choice.title for cell in cells}),
        "device": [clean(device.name) for device in shown.devices],
    }
    return shell.tools(placeholder="mobilenet int8", choices=choices, heads=heads)


def _device(device: DeviceRows, index: int, heads: Sequence[shell.Head], drawn: Sequence[Chart]) -> Markup:
    notes = cautions.notes(device.rows)
    marks = cautions.marks(notes, device.rows)
    stamp = element("p", words.EMULATED, class_="stamp") if device.is_emulated else None
    listed = (
        element(
            "li",
            element("b", marks.get(kind, "all")),
            f"{note.what} ",
            element("span", note.advice, class_="quiet"),
            id=f"note-{index}-{kind}",
        )
        for kind, note in notes.items()
    )
    return element(
        "section",
        element("h2", clean(device.name)),
        element("p", words.device_line(device, with_name=False), class_="quiet"),
        stamp,
        _table(device, index, heads, marks),
        element("ul", *listed, class_="notes") if notes else None,
        *(element("p", text, class_="quiet") for text in words.evidence(device.rows)),
        *(element("p", text, class_="quiet") for text in words.accuracies(device.rows)),
        # What an emulated device took says nothing, and a picture of it less.
        *(_figure(model.rows, words.model_line(model)) for model in device.models if not device.is_emulated),
        *(shell.chart(chart, number) for number, chart in enumerate(drawn) if chart.device_id == device.id),
        *(() if device.is_emulated else operator_tables(device)),
    )


def _table(device: DeviceRows, index: int, heads: Sequence[shell.Head], marks: Mapping[WarningKind, str]) -> Markup:
    caption = f"Figures of {clean(device.name)}"
    rows = (
        _row(row, index, heads, marks, device=clean(device.name), is_untrained=model.is_untrained)
        for model in device.models
        for row in model.rows
    )
    return shell.table(caption, heads, rows)


def _row(
    row: Row,
    index: int,
    heads: Sequence[shell.Head],
    marks: Mapping[WarningKind, str],
    *,
    device: str,
    is_untrained: bool,
) -> Markup:
    chip = element("span", "latency only", class_="chip", title="the weights are untrained") if is_untrained else None
    first = (
        element(
            "th", breakable(clean(row.cell.model)), " ", chip, scope="row", class_=shell.name_style(row.cell.model)
        ),
        element("td", breakable(row.file), class_=shell.name_style(row.file)),
        element("td", words.threads_of(row), data_v=row.cell.choice.threads),
    )
    proved = row.evidence or ""
    told = f"{row.status} {words.STATUS[row.status]} {proved} {row.cell.choice.title} {device}"
    text = clean(f"{row.cell.model} {row.name} {told}").lower()
    return element(
        "tr",
        *first,
        *_figures_or_why(row, index, heads, marks),
        class_=row.status,
        data_text=text,
        data_model=clean(row.cell.model),
        data_precision=row.cell.precision,
        data_runtime=row.cell.choice.title,
        data_device=device,
    )


def _figures_or_why(
    row: Row, index: int, heads: Sequence[shell.Head], marks: Mapping[WarningKind, str]
) -> list[Markup]:
    summary = row.summary
    if summary is None:
        status = element("strong", words.status(row))
        why = f": {words.problem(row)}" if row.result else None
        return [element("td", element("p", status, why), colspan=len(heads) - 3, class_="why")]
    cells = [
        element(
            "td", column.show(summary), data_v=shell.sortable(column.sort_by(summary)), class_=_cell_style(row, number)
        )
        for number, column in enumerate(_COLUMNS, start=len(_HEADS) - len(_COLUMNS))
    ]
    links = (
        element("a", marks[warning.kind], href=f"#note-{index}-{warning.kind}")
        for warning in row.warnings
        if warning.kind in marks
    )
    if len(heads) > len(_HEADS):
        cells += _errors(row, heads)
    return [element("td", *_spaced(links), class_="text"), *cells]


def _errors(row: Row, heads: Sequence[shell.Head]) -> list[Markup]:
    found = accuracy.error_of(row.accuracy)
    value = shell.sortable(found.estimate.value if found else None)
    return [
        element("td", said, data_v=value, class_=shell.cell_style(heads, number))
        for number, said in enumerate((accuracy.error_pct(row), accuracy.ends_pct(row)), start=len(_HEADS))
    ]


def _cell_style(row: Row, number: int) -> str | None:
    wrong = _HEADS[number].title == "parity" and row.summary is not None and not row.summary.parity_passed
    return " ".join(filter(None, (shell.cell_style(_HEADS, number), "wrong" if wrong else ""))) or None


def _figure(rows: tuple[Row, ...], title: str) -> Markup | None:
    picture = figures.latencies(rows, title=f"Latency of {title}")
    if not picture:
        return None
    scroll = element("div", picture, class_="scroll", role="region", aria_label=f"Latency of {title}", tabindex=0)
    return element("figure", element("figcaption", title), scroll)


def _no_pictures() -> Markup:
    said = ("More pictures stand here where the drawing library is installed: ", element("code", pictures.INSTALL))
    return element("p", *said, class_="quiet")


def _conditions(shown: View) -> Markup:
    return element(
        "section",
        element("h2", "Conditions"),
        *(_conditions_of(device, shown.plan) for device in shown.devices),
        element("details", element("summary", "How it was measured"), _pairs(_protocol(shown.plan.measure))),
        _versions(shown.plan),
    )


def _versions(plan: Plan) -> Markup | None:
    if not plan.packages:
        return None
    packages = {clean(name): clean(version) for name, version in sorted(plan.packages.items())}
    return element("details", element("summary", "Versions"), _pairs(packages))


def _conditions_of(device: DeviceRows, plan: Plan) -> Markup:
    seen = words.device_conditions(device)
    facts = words.device_facts(device.facts) if device.facts else {}
    columns = element("div", _pairs(facts), _pairs(seen), class_="columns")
    obstacles = (
        element(
            "li",
            element("b", each.severity),
            f"{words.full_stop(clean(each.found))} ",
            element("span", words.full_stop(clean(each.advice))),
        )
        for each in plan.obstacles.get(device.id, ())
    )
    listed = element("ul", *obstacles, class_="notes wide") if plan.obstacles.get(device.id) else None
    return element("div", element("h3", clean(device.name)), columns, listed)


def _protocol(plan: MeasurePlan) -> dict[str, str]:
    return {
        "Processes for each row": f"{_range(plan.processes_min, plan.processes_max)}, each fresh",
        **(
            {}
            if plan.processes_min == plan.processes_max
            else {
                "Stops when": f"the interval is within ±{plan.target_half_width_pct:g} %, or after {plan.budget_s:g} s"
            }
        ),
        "Blocks in a process": f"{plan.blocks} of {plan.block_s:g} s and {plan.block_iterations} inferences or more",
        "Warm-up": (
            f"{plan.warmup_iterations} inferences and {plan.warmup_s:g} s or more, until steady, "
            f"{plan.warmup_cap_s:g} s at most"
        ),
        "Memory": (
            f"{count(plan.memory_processes, 'process of its', 'processes of their')} own, "
            f"{plan.memory_iterations} inferences each"
        ),
        "Disturbed processes": f"repeated up to {plan.disturbed_retries} times",
    }


def _range(least: int, most: int) -> str:
    return f"{least}" if least == most else f"{least} to {most}"


def _pairs(pairs: Mapping[str, str]) -> Markup:
    return element("dl", *(part for name, said in pairs.items() for part in (element("dt", name), element("dd", said))))


def _footer(*, has_errors: bool) -> Markup:
    picture = (
        "In the pictures each shape holds every counted sample, its height growing with the root of their number; the "
        "line is the p50, the grey band its interval. At the right a dot is the cold start of one process, the bar the "
        "part spent loading."
    )
    said = (words.LEGEND, accuracy.HOW_TO_READ, picture) if has_errors else (words.LEGEND, picture)
    return element(
        "footer",
        element("h2", "How to read this", id="how-to-read"),
        *(element("p", text, class_="legend") for text in said),
    )


def _spaced(parts: Iterable[Markup]) -> list[str]:
    return [piece for part in parts for piece in (part, Markup(" "))]
