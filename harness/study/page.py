"""A study as one HTML page in the style of a run's: the claims, every file in a table, pictures to be explored."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from harness import units
from harness.records import Record, Verification
from harness.report import shell, words
from harness.report.answer import distrust
from harness.report.markup import Markup, breakable, element
from harness.report.view import view
from harness.study.charts import HOW, charts, shown_in_det
from harness.study.claims import HOW_CHOSEN, PAPER, claims, in_short
from harness.study.folder import STUDY_SCHEMA, Study
from harness.study.rows import StudyRow, redrawn_of
from harness.study.words import evidence_of, file_of, name_of, share, what_paid
from harness.text import clean, count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.records import Estimate
    from harness.report.spec import Chart
    from harness.study.folder import StudyFolder
    from harness.study.rows import Timing


class StudyDocument(Record, frozen=True, kw_only=True):
    """Every figure that a study's page shows."""

    schema: int
    study: Study
    about: tuple[str, ...]
    """What was done, on which data and devices, and what is not complete."""
    claims: tuple[str, ...]
    in_short: tuple[str, ...] = ()
    """Either claim in a sentence."""
    measured_on: tuple[str, ...] = ()
    """Each machine with its processor and system, and the runtimes there with their versions."""
    distrust: tuple[str, ...] = ()
    """For each device what its run says is not to be trusted, and where to read which rows that is true of."""
    rows: tuple[StudyRow, ...]
    redrawn: dict[str, tuple[float, ...]]
    """EERs of each checkpoint where the test subjects were drawn again, the same draws for all: for differences."""
    curves: dict[str, Verification]
    """Of the networks whose DET curves are drawn, by name; each as its checkpoint does it, of the first fold."""


def _number(title: str, group: str, *, is_detail: bool = False, style: str = "") -> shell.Head:
    return shell.Head(title=title, group=group, is_number=True, is_detail=is_detail, style=style)


_WHICH: Final = tuple(shell.Head(title=title) for title in ("Network", "Method", "File", "Device", "Runtime"))
_HEADS: Final = (
    *_WHICH,
    _number("before", "EER, %"),
    _number("after conversion", "EER, %", style="p50"),
    _number("interval", "EER, %"),
    _number("p50", "Warm inference, ms", style="p50"),
    _number("interval", "Warm inference, ms"),
    _number("peak", "Memory, MiB"),
    _number("raw", "File, MB"),
    _number("deflated", "File, MB"),
    _number("asked", "Compression, ×"),
    _number("reached", "Compression, ×", is_detail=True),
    _number("of backbone", "Compression, ×", is_detail=True),
    _number("parameters", "Amount"),
    _number("non-zero", "Amount", is_detail=True),
    _number("MACs", "Amount"),
)


def document(folder: StudyFolder, rows: Sequence[StudyRow], about: Sequence[str]) -> StudyDocument:
    """The study's figures as one record."""
    fold = folder.study.profile.folds[0]
    networks = {variant.name: folder.network(variant, fold) for variant in folder.study.variants}
    curves = {
        name: network.accuracy.verification
        for name in shown_in_det(rows)
        if (network := networks.get(name)) is not None
        and network.accuracy is not None
        and network.accuracy.verification is not None
    }
    redrawn = redrawn_of(folder)
    runs = [(stored.folder.name, view(stored)) for stored in folder.runs()]
    return StudyDocument(
        schema=STUDY_SCHEMA,
        study=folder.study,
        about=tuple(about),
        claims=claims(rows, redrawn),
        in_short=in_short(rows, redrawn),
        measured_on=tuple(words.where(shown) for _, shown in runs),
        distrust=tuple(_distrust(name, said) for name, shown in runs if (said := distrust(shown))),
        rows=tuple(rows),
        redrawn=redrawn,
        curves=curves,
    )


def pictures(figures: StudyDocument) -> tuple[Chart, ...]:
    """What the page draws."""
    return charts(figures.rows, figures.curves, data_of(figures.study))


def render(figures: StudyDocument) -> str:
    """The whole page."""
    study, drawn = figures.study, pictures(figures)
    return shell.page(
        title=f"Ocular study, {clean(study.profile.name)} · {words.moment(study.created_at)}",
        name=f"ocular-{study.profile.name}",
        version=clean(study.harness_version),
        header=_header(figures),
        main=(_table(figures), _claims(figures), *shell.places(drawn), _paid(figures.rows), _about(figures)),
        footer=_footer(study),
        data=figures,
        drawn=drawn,
    )


def _header(figures: StudyDocument) -> Markup:
    study = figures.study
    files = sum(row.format is not None for row in figures.rows)
    networks = count(len({row.variant for row in figures.rows}), "network", "networks")
    when = f"{words.moment(study.created_at)} · harness {clean(study.harness_version)}"
    return element(
        "header",
        element("h1", "Ocular study: error, size and latency of compressed networks"),
        element(
            "p",
            f"profile {clean(study.profile.name)} · {when} · {networks}, {count(files, 'file', 'files')}",
            class_="quiet",
        ),
        *(element("p", said) for said in figures.measured_on),
        element("p", "SYNTHETIC IMAGES, drawn by a program", class_="stamp") if study.is_synthetic else None,
        shell.answer(
            *(element("p", *marked(text)) for text in (*figures.in_short, *figures.distrust)),
            *(element("p", *marked(text)) for text in figures.about if "Not complete" in text),
            element("p", element("a", "The claims with every figure", href="#claims")),
        ),
        shell.tools(placeholder="distilled int8", choices=_choices(figures.rows), heads=_HEADS),
    )


def _distrust(run: str, said: str) -> str:
    """The sentence of a run, with the folder of that run: its own page tells which rows it is about."""
    about = said[:1].lower() + said[1:]
    name = clean(run)
    return f"**Times on {name}:** {about} Which rows: `harness report runs/{name} --to html`, in this folder."


def _claims(figures: StudyDocument) -> Markup:
    source = f"The claims are from {PAPER}: other eyes, networks and devices. {HOW_CHOSEN}"
    said = (element("p", *marked(text)) for text in figures.claims)
    return element("section", element("h2", "The two claims"), element("p", source, class_="quiet"), *said, id="claims")


def _choices(rows: Sequence[StudyRow]) -> dict[str, list[str]]:
    timings = [timing for row in rows for timing in row.timings]
    return {
        "method": list(dict.fromkeys(clean(row.method) for row in rows)),
        "network": list(dict.fromkeys(clean(row.network) for row in rows)),
        "file": list(dict.fromkeys(file_of(row) for row in rows)),
        "device": list(dict.fromkeys(_device(timing) for timing in timings)),
        "runtime": list(dict.fromkeys(clean(timing.runtime) for timing in timings)),
    }


def _table(figures: StudyDocument) -> Markup:
    # What was timed on an emulated device stands below everything else.
    lines = [(row, timing) for row in figures.rows for timing in (row.timings or (None,))]
    lines.sort(key=lambda line: line[1] is not None and line[1].is_emulated)
    return shell.table("Every file", _HEADS, (_line(row, timing) for row, timing in lines))


def _line(row: StudyRow, timing: Timing | None) -> Markup:
    network = name_of(row)
    device = _device(timing) if timing else "–"
    runtime = clean(timing.runtime) if timing else "–"
    stamp = element("span", "times mean nothing", class_="chip") if timing and timing.is_emulated else None
    problem = f"no figure: {clean(row.problem)}" if row.problem else None
    mark = evidence_of(row, timing)
    return element(
        "tr",
        element("th", breakable(clean(network)), scope="row", class_=shell.name_style(network)),
        element("td", clean(row.method), class_="text"),
        element("td", breakable(file_of(row)), " ", mark and element("span", mark, class_="chip"), class_="text"),
        element("td", device, " ", stamp, class_="text"),
        element("td", runtime, class_="text"),
        *(_no_file(problem) if problem and row.size_bytes is None else _figures(row, timing, problem)),
        class_="failed" if row.problem else "measured",
        data_text=clean(
            f"{row.variant} {row.network} {HOW[row.kind]} {row.method} {file_of(row)} {device} {runtime}"
        ).lower(),
        data_method=clean(row.method),
        data_network=clean(row.network),
        data_file=file_of(row),
        data_device=device,
        data_runtime=runtime,
    )


def _no_file(problem: str) -> list[Markup]:
    return [element("td", element("p", element("strong", problem)), colspan=len(_HEADS) - len(_WHICH), class_="why")]


def _figures(row: StudyRow, timing: Timing | None, problem: str | None) -> list[Markup]:
    """In the order of the heads; why there is no error stands where its interval would."""
    after = row.eer_after
    p50, low, high, peak = (
        (timing.p50_ns, timing.p50_low_ns, timing.p50_high_ns, timing.peak_memory_bytes) if timing else (None,) * 4
    )
    figures: tuple[tuple[str, float | None], ...] = (
        (share(row.eer_before), _value(row.eer_before)),
        (share(after), _value(after)),
        (_interval(after) if problem is None else problem, after.low if after else None),
        (units.milliseconds(p50), p50),
        (units.milliseconds_between(low, high), low),
        (units.mebibytes(peak), peak),
        (units.megabytes(row.size_bytes), row.size_bytes),
        (units.megabytes(row.deflated_bytes), row.deflated_bytes),
        (_ratio(row.asked_ratio), row.asked_ratio),
        (_ratio(row.reached_ratio), row.reached_ratio),
        (_ratio(row.backbone_ratio), row.backbone_ratio),
        (units.count(row.parameters), row.parameters),
        (units.count(row.nonzero_parameters), row.nonzero_parameters),
        (units.count(row.macs), row.macs),
    )
    return [
        element(
            "td",
            shown,
            data_v=shell.sortable(value),
            class_="text long" if shown == problem else shell.cell_style(_HEADS, number),
        )
        for number, (shown, value) in enumerate(figures, start=len(_WHICH))
    ]


def _paid(rows: Sequence[StudyRow]) -> Markup | None:
    said = what_paid(rows)
    if not said:
        return None
    parts: list[Markup] = []
    for text in said:
        lines = text.split("\n")
        if all(line.startswith("- ") for line in lines):
            items = (element("li", *marked(clean(line[2:]))) for line in lines)
            parts.append(element("details", element("summary", "Each file"), element("ul", *items)))
        else:
            parts.append(element("p", *marked(text)))
    intro = "Against the uncompressed file, on the same runtime. Deflated: zlib, level 6."
    return element("section", element("h2", "What paid off where"), element("p", intro, class_="quiet"), *parts)


def _about(figures: StudyDocument) -> Markup:
    said = (element("p", *marked(text)) for text in figures.about)
    return element("section", element("h2", "What was done"), *said)


def _footer(study: Study) -> Markup:
    folds = (
        "its 95 % interval comes from drawing the subjects again"
        if len(study.profile.folds) == 1
        else "over folds, mean and one standard deviation"
    )
    said = (
        "EER: the rate at which as many strangers are accepted as right persons are refused; "
        f"{folds}. Before: of the checkpoint. After conversion: of the file, through its own runtime; "
        "Core ML's through the evaluator of this program. Parameters and "
        "MACs: of what is deployed, the classifier not counted. Compression: parameters before over parameters left. "
        "p50: the median over processes of each process's median, with its interval; a dash: not measured."
    )
    return element("footer", element("h2", "How to read this", id="how-to-read"), element("p", said, class_="legend"))


def marked(text: str) -> Iterator[str]:
    """Our own sentences as Markup: `**bold**` and `` `code` ``; everything else stays text, and is escaped."""
    for piece in re.split(r"(\*\*[^*]+\*\*|`[^`]+`)", clean(text)):
        if piece.startswith("**") and piece.endswith("**") and len(piece) > 4:
            yield element("strong", piece[2:-2])
        elif piece.startswith("`") and piece.endswith("`") and len(piece) > 2:
            yield element("code", piece[1:-1])
        else:
            yield piece


def data_of(study: Study) -> str:
    """What a study was done on, as people call it."""
    return "synthetic images" if study.is_synthetic else clean(study.dataset)


def _device(timing: Timing) -> str:
    return f"{clean(timing.device)} (emulated)" if timing.is_emulated else clean(timing.device)


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value


def _interval(estimate: Estimate | None) -> str:
    if estimate is None or estimate.low is None or estimate.high is None:
        return "–"
    return f"{100 * estimate.low:.2f} to {100 * estimate.high:.2f}"


def _ratio(ratio: float | None) -> str:
    return "–" if ratio is None else units.three_digits(ratio)


def as_json(figures: StudyDocument) -> bytes:
    """The same figures as a file."""
    return msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n"
