"""A run as one JSON document: everything that is stored of it, and every figure that any report shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from harness import statistics
from harness.records import Accuracy, CellResult, Evidence, OperatorTime, Plan, Record
from harness.report.answer import answer
from harness.report.operators import all_operators_ns, longest_operators, profiled
from harness.report.view import Status, view
from harness.report.words import device_conditions, parity_of, problem
from harness.summary import CellWarning, Summary  # noqa: TC001  (msgspec reads the annotations)

if TYPE_CHECKING:
    from harness.report.view import Row, Run, View

DOCUMENT_SCHEMA: Final = 1
"""Of the document as a whole; `plan` and each of `results` carry the version of the records besides."""


class FileFigures(Record, frozen=True, kw_only=True):
    """Of a file that nothing was measured of."""

    size_bytes: int
    deflated_bytes: int | None
    parity_relative_l2: float | None
    """Of the worst output, when the file was made."""


class OperatorTotals(Record, frozen=True, kw_only=True):
    """What shares of operators are shares of, and how many operators there are besides those that are listed."""

    inference_ns: float
    """The median inference while operators were timed, which slows it down."""
    all_operators_ns: float
    """The medians of all operators together; what is missing to the inference is the runtime's own."""
    operators: int


class Document(Record, frozen=True, kw_only=True):
    """What `harness report --to json` writes."""

    schema: int
    answer: tuple[str, ...]
    """The run in one to three sentences."""
    plan: Plan
    summaries: dict[str, Summary | None]
    """By cell id, every planned cell; null where there is no figure."""
    warnings: dict[str, tuple[CellWarning, ...]]
    """By cell id."""
    evidence: dict[str, Evidence]
    """By cell id, how far a Core ML file or an iPhone's row is proved; other rows have none."""
    accuracies: dict[str, Accuracy]
    """By cell id, what its file still recognises; cells whose file nobody has tested have none."""
    statuses: dict[str, Status]
    """By cell id, every planned cell."""
    files: dict[str, FileFigures]
    """By cell id, of rows without a summary that have a file: what a page says of it."""
    reasons: dict[str, str]
    """By cell id, why there is no figure; as the page says it."""
    operators: dict[str, tuple[OperatorTime, ...]]
    """By cell id, the operators that take longest where they were timed, of the first such cells of each device, 60 in
    all at most; all of them are in `results`."""
    operator_totals: dict[str, OperatorTotals]
    """By cell id, every cell whose operators were timed."""
    parameters: dict[str, int]
    """By model, where they are known."""
    macs: dict[str, int]
    """By model, multiply-accumulates for one input of batch 1, where they are known."""
    conditions: dict[str, dict[str, str]]
    """By device id, what the device was like while it was measured, as the page says it; all states are in
    `results`."""
    results: tuple[CellResult, ...]
    """As stored, raw samples and all; cells that have not been run are missing."""


def render(run: Run) -> str:
    """The whole document, on one line."""
    return msgspec.json.encode(document(view(run), run.results)).decode() + "\n"


def figures(shown: View) -> dict[str, object]:
    """The document without raw results: what a page has room for, and no empty list where they would be."""
    whole = document(shown, ())
    return {name: getattr(whole, name) for name in whole.__struct_fields__ if name != "results"}


def document(shown: View, results: tuple[CellResult, ...]) -> Document:
    """The document as a record.

    Args:
        shown: The run's figures.
        results: Its raw results, nearly all of the document's size; none for the figures alone, and then without the
            curves of accuracies, too.
    """
    return Document(
        schema=DOCUMENT_SCHEMA,
        answer=answer(shown),
        plan=shown.plan,
        summaries={row.cell.id: row.summary for row in shown.rows},
        warnings={row.cell.id: row.warnings for row in shown.rows},
        evidence={row.cell.id: row.evidence for row in shown.rows if row.evidence is not None},
        accuracies={
            row.cell.id: row.accuracy if results else _without_curve(row.accuracy)
            for row in shown.rows
            if row.accuracy is not None
        },
        statuses={row.cell.id: row.status for row in shown.rows},
        files={row.cell.id: found for row in shown.rows if (found := _file(row)) is not None},
        reasons={row.cell.id: problem(row) for row in shown.rows if row.summary is None and row.result is not None},
        operators={row.cell.id: longest_operators(row) for device in shown.devices for row in profiled(device)},
        operator_totals={row.cell.id: totals for row in shown.rows if (totals := _operator_totals(row)) is not None},
        parameters={
            row.cell.model: row.result.parameters
            for row in shown.rows
            if row.result is not None and row.result.parameters is not None
        },
        macs={
            row.cell.model: row.result.macs
            for row in shown.rows
            if row.result is not None and row.result.macs is not None
        },
        conditions={device.id: device_conditions(device) for device in shown.devices},
        results=results,
    )


def _file(row: Row) -> FileFigures | None:
    artifact = row.result.artifact if row.result else None
    if row.summary is not None or artifact is None:
        return None
    return FileFigures(
        size_bytes=artifact.size_bytes, deflated_bytes=artifact.deflated_bytes, parity_relative_l2=parity_of(row)
    )


def _operator_totals(row: Row) -> OperatorTotals | None:
    profile = row.measured.profile if row.measured else None
    if profile is None:
        return None
    return OperatorTotals(
        inference_ns=statistics.median(profile.inferences_ns),
        all_operators_ns=all_operators_ns(row),
        operators=len(profile.operators),
    )


def _without_curve(accuracy: Accuracy) -> Accuracy:
    if accuracy.verification is None:
        return accuracy
    return msgspec.structs.replace(accuracy, verification=msgspec.structs.replace(accuracy.verification, curve=()))
