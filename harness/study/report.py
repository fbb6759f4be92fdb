"""The study's report: tables, pictures and sentences, made from what is stored, as often as asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness import units
from harness.matrix import parse_artifact
from harness.report.pictures import write_charts
from harness.report.words import EVIDENCE
from harness.study import page
from harness.study.claims import HOW_CHOSEN, PAPER
from harness.study.rows import rows_of
from harness.study.variants import artifacts_of
from harness.study.words import evidence_of, file_of, same_work, share, share_interval, what_paid
from harness.text import count
from harness.workspace import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from harness.records import Training
    from harness.study.folder import NetworkResult, Study, StudyFolder
    from harness.study.rows import StudyRow, Timing


@dataclass(frozen=True, kw_only=True)
class WrittenReport:
    """A report that was written.

    Attributes:
        path: The Markdown file; its pictures are beside it, as SVG and PNG.
        text: What it says.
        figures: What it says it of.
    """

    path: Path
    text: str
    figures: page.StudyDocument


def write_report(folder: StudyFolder) -> WrittenReport:
    """Write `report.md` and its pictures into the study's folder; what is not done yet is a dash.

    Raises:
        MissingExtra: The drawing library is not installed.
        UnreadableRecord: A stored result is damaged.
    """
    figures = figures_of(folder)
    drawn = write_charts(page.pictures(figures), folder.path)
    text = document(figures, [path for path in drawn if path.suffix == ".svg"])
    path = folder.path / "report.md"
    write_atomically(path, text.encode())
    return WrittenReport(path=path, text=text, figures=figures)


def write_page(folder: Path, figures: page.StudyDocument) -> Path:
    """Write `report.html`, a page that needs nothing else, and its figures as `report.json`, into a study's folder."""
    path = folder / "report.html"
    write_atomically(path, page.render(figures).encode())
    write_atomically(folder / "report.json", page.as_json(figures))
    return path


def figures_of(folder: StudyFolder) -> page.StudyDocument:
    """Everything that the reports show, as one record.

    Raises:
        UnreadableRecord: A stored result is damaged.
    """
    rows = rows_of(folder)
    return page.document(folder, rows, tuple(_about(folder, rows)))


def document(figures: page.StudyDocument, pictures: Sequence[Path]) -> str:
    """The whole report as Markdown."""
    study, rows = figures.study, figures.rows
    parts = [f"# Ocular study, profile {study.profile.name}", *figures.about, "## The two claims"]
    parts += [f"They are from {PAPER}: eyes of real people, networks of another size, other devices. {HOW_CHOSEN}"]
    parts += figures.claims
    parts += ["## Summary", *summary(figures)]
    parts += [f"![{path.stem}]({path.name})" for path in pictures]
    parts += ["## Every file", full_table(study, rows)]
    paid = what_paid(rows)
    if paid:
        intro = "Against the uncompressed file, on the same runtime. `x smaller deflated` is zlib, level 6."
        parts += ["## What paid off where", intro, *paid]
    return "\n\n".join(parts) + "\n"


def summary(figures: page.StudyDocument) -> tuple[str, ...]:
    """The short table, and how far its times are to be trusted."""
    return (summary_table(figures.study, figures.rows), *figures.distrust, *same_work(figures.rows))


def summary_table(study: Study, rows: Sequence[StudyRow]) -> str:
    """One line a network: its TFLite fp32 file, the smallest table that answers the question."""
    shown = [row for row in rows if (row.format, row.precision) in {("tflite", "fp32"), ("tflite", "int8")}]
    places = _places(shown)
    heads = [
        "network",
        "compression",
        "file",
        "weights",
        "deflated MB",
        "EER %",
        *[f"p50 ms, {device}" for device in places.values()],
    ]
    lines = [_line(heads), _line(["---"] * 3 + ["---:"] * (len(heads) - 3))]
    for row in shown:
        times = [_of(row, place) for place in places]
        lines.append(
            _line(
                [
                    row.network,
                    method_of(row),
                    file_of(row),
                    units.count(row.nonzero_parameters),
                    units.megabytes(row.deflated_bytes),
                    share_interval(row.eer_after),
                    *map(_p50, times),
                ]
            )
        )
    return f"{images_of(study)}\n\n" + "\n".join(lines)


def _p50(timing: Timing | None) -> str:
    """With its interval, in ms."""
    if timing is None or timing.p50_low_ns is None:
        return units.milliseconds(timing.p50_ns if timing else None)
    between = units.milliseconds_between(timing.p50_low_ns, timing.p50_high_ns).replace(" to ", "–")
    return f"{units.milliseconds(timing.p50_ns)} ({between})"


def full_table(study: Study, rows: Sequence[StudyRow]) -> str:
    """Every file: what was asked and reached, size, error before and after conversion, time and memory."""
    places = _places(rows)
    heads = [
        *("network", "method", "ratio asked", "reached", "of backbone", "parameters", "non-zero", "MACs", "file"),
        *("MB", "deflated MB", "EER % before", "after (interval)"),
        *[f"{what}, {device}, {runtime}" for (_, runtime), device in places.items() for what in ("p50 ms", "peak MiB")],
    ]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for row in rows:
        times: list[str] = []
        for place in places:
            timing = _of(row, place)
            times += (
                [units.milliseconds(timing.p50_ns), units.mebibytes(timing.peak_memory_bytes)] if timing else ["–"] * 2
            )
        lines.append(
            _line(
                [
                    row.network,
                    row.method,
                    _ratio(row.asked_ratio),
                    _ratio(row.reached_ratio),
                    _ratio(row.backbone_ratio),
                    units.count(row.parameters),
                    units.count(row.nonzero_parameters),
                    units.count(row.macs),
                    _file(row),
                    units.megabytes(row.size_bytes),
                    units.megabytes(row.deflated_bytes),
                    share(row.eer_before),
                    share_interval(row.eer_after),
                    *times,
                ]
            )
        )
    problems = [f"- {row.variant} {file_of(row)}: {row.problem}" for row in rows if row.problem]
    return f"{images_of(study)}\n\n" + "\n".join(lines) + ("\n\n" + "\n".join(problems) if problems else "")


def _recipe(training: Training) -> str:
    return f"{count(training.epochs, 'epoch', 'epochs')} in steps of at most {training.learning_rate:g}"


def _about(folder: StudyFolder, rows: Sequence[StudyRow]) -> Iterator[str]:
    study, profile = folder.study, folder.study.profile
    networks = [folder.network(variant, profile.folds[0]) for variant in study.variants]
    first = next((network.accuracy for network in networks if network is not None and network.accuracy), None)
    yield (
        f"{images_of(study)} {profile.size} x {profile.size} pixels; teacher {profile.teacher} with an embedding of "
        f"{profile.embedding}, trained for {_recipe(profile.training)}; fine-tuned after pruning for "
        f"{_recipe(profile.finetuning)}; students taught for {_recipe(profile.distillation)}. "
        f"Made int8 are the students, {' and '.join(profile.quantized)}. Seed {profile.seed}. "
        f"Made by inference-harness {study.harness_version}."
    )
    if first is not None and first.verification is not None:
        tested = first.verification
        yield (
            f"Tested on {first.subjects} subjects of whom no image was trained on ({first.images} images, "
            f"{tested.genuine_pairs:,} genuine and {tested.impostor_pairs:,} impostor pairs, {tested.pairing}). "
            f"{_validated(networks)}Intervals: 95 %, from drawing the subjects again {first.bootstrap_samples} times"
            + ("." if len(profile.folds) == 1 else "; over folds, mean and one standard deviation.")
        )
    untrained = next((row for row in rows if row.kind == "untrained"), None)
    if untrained is not None:
        yield f"The untrained {untrained.network} has an EER of {share_interval(untrained.eer_before)} %."
    devices = [stored.plan.devices[0] for stored in folder.runs()]
    if devices:
        plan = profile.measure
        most = "" if plan.processes_min == plan.processes_max else f" to {plan.processes_max}"
        others = count(plan.memory_processes, "process of its own", "processes of their own")
        yield (
            f"Times: 1 thread, batch 1, the median over {plan.processes_min}{most} fresh processes a file, one file "
            f"after the other; peak memory of {others}; intervals and what disturbed them are in each device's own run."
        )
    for device in devices:
        facts = ", ".join(str(fact) for fact in (device.cpu, device.os, device.virtual_machine) if fact)
        stamp = " **Emulated: its times mean nothing.**" if device.is_emulated else ""
        yield f"Device {device.id}: {device.name}; {facts}.{stamp}"
    unknown = sum(
        folder.network(variant, fold) is None
        or any(folder.file(variant, fold, *parse_artifact(text)) is None for text in artifacts_of(profile, variant))
        for fold in profile.folds
        for variant in study.variants
    )
    if unknown:
        yield (
            f"**Not complete:** {unknown} of {len(study.variants) * len(profile.folds)} networks are not evaluated in "
            "all their files yet. What is said of the best holds among the others."
        )
    missing = sum(len(stored.missing) for stored in folder.runs())
    if not devices:
        yield "**Not complete:** nothing is measured yet."
    elif missing:
        yield f"**Not complete:** {missing} cells are not measured yet."
    if any(row.format == "coreml" for row in rows):
        yield "Core ML files are tested by this program's own evaluator of ML Programs, not by Apple's runtime."
    marks = {mark for row in rows for mark in (evidence_of(row), *(evidence_of(row, t) for t in row.timings))}
    yield from (f"{mark}: {EVIDENCE[mark]}." for mark in EVIDENCE if mark in marks)


def _validated(networks: Sequence[NetworkResult | None]) -> str:
    """How many people a choice between networks rests on."""
    known = next((each.validation for each in networks if each is not None and each.validation is not None), None)
    return f"Networks are chosen on {known.subjects} others ({known.images} images). " if known is not None else ""


def images_of(study: Study) -> str:
    """On which images a study was made, and whether a program drew them."""
    return (
        f"**Synthetic images**, drawn by a program (`{study.dataset}`)." if study.is_synthetic else f"{study.dataset}."
    )


def _places(rows: Sequence[StudyRow]) -> dict[tuple[str, str], str]:
    """Device and runtime -> the device as a column's head names it; those where anything was measured."""
    return {
        (timing.device, timing.runtime): f"{timing.device}{' (emulated)' if timing.is_emulated else ''}"
        for row in rows
        for timing in row.timings
        if timing.p50_ns is not None
    }


def _of(row: StudyRow, place: tuple[str, str]) -> Timing | None:
    return next((timing for timing in row.timings if (timing.device, timing.runtime) == place), None)


def method_of(row: StudyRow) -> str:
    """How a network was made smaller, and how much was asked."""
    ratio = "" if row.asked_ratio is None else f" {row.asked_ratio:g}x"
    return f"{row.method}{ratio}"


def _file(row: StudyRow) -> str:
    """With the marks of a Core ML file: what it is proved to be here, and on each device that ran it."""
    marks = dict.fromkeys(mark for mark in (evidence_of(row), *(evidence_of(row, t) for t in row.timings)) if mark)
    return " ".join((file_of(row) if row.format else "–", *(f"({mark})" for mark in marks)))


def _ratio(ratio: float | None) -> str:
    return "–" if ratio is None else f"{units.three_digits(ratio)}x"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
