"""One row a cell, flat: the columns of the CSV file and of the data frame."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_type_hints

from harness.report.accuracy import error_of
from harness.report.view import view
from harness.report.words import parity_of
from harness.summary import Summary

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.records import Accuracy, DeviceFacts
    from harness.report.accuracy import Error
    from harness.report.view import Row, Run, View

Kind: TypeAlias = Literal["text", "whole", "number", "yes_no", "time"]
Value: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True)
class Column:
    """One column: what it is called, what it holds, where it comes from."""

    name: str
    kind: Kind
    read: Callable[[View, Row], Value]
    meaning: str


def rows_of(run: Run) -> list[dict[str, Value]]:
    """Every planned cell of a run, in the plan's order; None where a value is unknown or does not apply."""
    shown = view(run)
    return [{column.name: column.read(shown, row) for column in COLUMNS} for row in shown.rows]


def _which() -> tuple[Column, ...]:
    return (
        Column("run", "text", lambda view, _: view.plan.run, "Name of the run"),
        Column("cell", "text", lambda _, row: row.cell.id, "Id of the cell, unique in the run"),
        Column("device", "text", lambda _, row: row.cell.device_id, "Id of the device"),
        Column("device_name", "text", _device(lambda facts: facts.name), "As people call it"),
        Column("processor", "text", _device(lambda facts: facts.cpu), "Of the device"),
        Column(
            "device_class", "text", _device(lambda facts: facts.device_class), "phone, tablet, board, host or emulated"
        ),
        Column("model", "text", lambda _, row: row.cell.model, "Name of the model"),
        Column("trained", "yes_no", _trained, "False: the weights are untrained, latency only"),
        Column("format", "text", lambda _, row: row.cell.format, "Of the file"),
        Column("precision", "text", lambda _, row: row.cell.precision, "Of weights and activations"),
        Column("runtime", "text", lambda _, row: row.cell.choice.runtime, "As asked for"),
        Column(
            "runtime_version",
            "text",
            lambda _, row: row.measured.ran.version if row.measured else None,
            "As it says of itself",
        ),
        Column("accelerator", "text", lambda _, row: row.cell.choice.accelerator, "As asked for"),
        Column(
            "nodes_delegated",
            "whole",
            lambda _, row: row.measured.ran.nodes_delegated if row.measured else None,
            "Nodes of the graph that ran on that accelerator",
        ),
        Column(
            "nodes_total",
            "whole",
            lambda _, row: row.measured.ran.nodes_total if row.measured else None,
            "Nodes of the graph after optimization",
        ),
        Column("runtime_asked", "text", lambda _, row: row.cell.choice.title, "With the version that was asked for"),
        Column("graph_optimization", "text", lambda _, row: row.cell.choice.graph_optimization, "As asked for"),
        Column("options", "text", _options, "Of the runtime, as JSON; empty: none"),
        Column("driver", "text", lambda _, row: row.cell.choice.driver, "What times it, as asked for"),
        Column("affinity", "text", lambda _, row: row.cell.choice.affinity, "The processors, as asked for"),
        Column("threads", "whole", lambda _, row: row.threads, "As asked for; none of Core ML, which takes no number"),
        Column(
            "threads_ran",
            "whole",
            lambda _, row: row.measured.ran.threads if row.measured else None,
            "As counted in the process",
        ),
        Column("status", "text", lambda _, row: row.status, "measured, failed, not_runnable, not_run or simulated"),
        Column(
            "evidence",
            "text",
            lambda _, row: row.evidence,
            "Of Core ML and iPhones: converted, graph-checked, coreml-numerics, measured(mac) or (device), simulated",
        ),
        Column(
            "failure_kind", "text", lambda _, row: row.failure.kind if row.failure else None, "What went wrong, a word"
        ),
        Column("reason", "text", lambda _, row: row.reason or None, "Why there is no figure, a sentence"),
        Column(
            "warnings",
            "text",
            lambda _, row: " ".join(warning.kind for warning in row.warnings),
            "Reasons for care, by name, with spaces between",
        ),
        Column("parameters", "whole", lambda _, row: row.result.parameters if row.result else None, "Of the model"),
        Column(
            "macs", "whole", lambda _, row: row.result.macs if row.result else None, "Multiply-accumulates, batch of 1"
        ),
        Column("started_at", "time", lambda _, row: row.result.started_at if row.result else None, "UTC"),
        Column("seconds", "number", lambda _, row: row.result.seconds if row.result else None, "Spent on the cell"),
    )


def _options(_view: View, row: Row) -> str | None:
    options = row.cell.choice.options
    return json.dumps(options, sort_keys=True) if options else None


def _device(read: Callable[[DeviceFacts], str | None]) -> Callable[[View, Row], Value]:
    return lambda view, row: next((read(facts) for facts in view.plan.devices if facts.id == row.cell.device_id), None)


def _trained(view: View, row: Row) -> bool | None:
    return next((model.spec.trained for model in view.plan.models if model.name == row.cell.model), None)


def _figures() -> tuple[Column, ...]:
    hints = get_type_hints(Summary)
    return tuple(Column(name, _kind(hints[name]), _figure(name), "See Summary") for name in Summary.__struct_fields__)


def _errors() -> tuple[Column, ...]:
    """Empty for a row whose file nobody has tested."""
    return (
        Column(
            "file_sha256",
            "text",
            lambda _, row: row.result.artifact.sha256 if row.result and row.result.artifact else None,
            "Of the converted file, by which rows and accuracies belong together",
        ),
        Column("error_metric", "text", _error(lambda error: error.metric), "EER, or top-1 error"),
        Column("error", "number", _error(lambda error: error.estimate.value), "Of the file, a share of 1"),
        Column("error_low", "number", _error(lambda error: error.estimate.low), "Lower end of its 95 % interval"),
        Column("error_high", "number", _error(lambda error: error.estimate.high), "Upper end"),
        Column("error_dataset", "text", _tested(lambda of: of.dataset), "The images it was found on"),
        Column("error_is_synthetic", "yes_no", _tested(lambda of: of.is_synthetic), "Whether a program drew them"),
        Column("error_fold", "whole", _tested(lambda of: of.fold), "Whose subjects were tested; empty: all"),
        Column("error_executed_by", "text", _tested(lambda of: of.executed_by), "What computed the answers"),
    )


def _error(read: Callable[[Error], Value]) -> Callable[[View, Row], Value]:
    return lambda _, row: read(error) if (error := error_of(row.accuracy)) else None


def _tested(read: Callable[[Accuracy], Value]) -> Callable[[View, Row], Value]:
    return lambda _, row: read(row.accuracy) if row.accuracy else None


def _figure(name: str) -> Callable[[View, Row], Value]:
    return lambda _, row: getattr(row.summary, name) if row.summary else _of_its_file(row, name)


def _of_its_file(row: Row, name: str) -> Value:
    """What is known of a row that nothing was measured of."""
    artifact = row.result.artifact if row.result else None
    if artifact is None:
        return None
    known = {"size_bytes": artifact.size_bytes, "deflated_bytes": artifact.deflated_bytes}
    return parity_of(row) if name == "parity_relative_l2" else known.get(name)


def _kind(hint: object) -> Kind:
    named = str(hint)
    if hint is bool:
        return "yes_no"
    if "float" in named:
        return "number"
    return "whole" if "int" in named else "text"


COLUMNS = (*_which(), *_figures(), *_errors())
