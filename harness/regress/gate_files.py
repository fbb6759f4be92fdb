"""A gate's result as files and lines that other programs show: JUnit XML, Markdown, GitHub's annotations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from harness.regress.levels import UNITS
from harness.regress.words import METRIC_NAMES, cell_verdict, change, device_changed, interval

if TYPE_CHECKING:
    from harness.regress.gate import GateResult
    from harness.regress.levels import Level
    from harness.regress.runs import CellComparison
    from harness.regress.trials import Finding

COMMENT_MARK = "<!-- inference-harness gate -->"
"""Begins the comment, so that a bot finds its own and replaces it."""
SIGNS = {"passed": "✅", "failed": "❌", "refused": "⛔", "warned": "⚠️"}


def junit(result: GateResult) -> str:
    """JUnit XML: a test case a cell. A failed cell is a failure, one that was refused an error."""
    states = [result.state(cell) for cell in result.cells]
    counts = {
        "tests": str(len(states)),
        "failures": str(states.count("failed")),
        "errors": str(states.count("refused")),
        "skipped": str(sum(cell.status in {"new", "not measured"} for cell in result.cells)),
    }
    root = ET.Element("testsuites")
    suite = ET.SubElement(root, "testsuite", {"name": "harness gate", **counts, "time": "0"})
    for cell, state in zip(result.cells, states, strict=True):
        case = ET.SubElement(suite, "testcase", name=_xml_text(cell.name), classname="gate", time="0")
        text = _xml_text(_cell_lines(cell))
        if cell.status in {"new", "not measured"}:
            ET.SubElement(case, "skipped", message=cell.status)
        elif state in {"failed", "refused"}:
            kind = "failure" if state == "failed" else "error"
            ET.SubElement(case, kind, type=cell_verdict(cell), message=_xml_text(headline(cell))).text = text
        if state != "failed":
            ET.SubElement(case, "system-out").text = text
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def markdown(result: GateResult) -> str:
    """A comment for a pull request, and a step's summary."""
    lines = [
        COMMENT_MARK,
        f"### {SIGNS[result.word]} Performance gate {result.word}",
        "",
        f"`{_cell_text(result.b)}` against `{_cell_text(result.a)}`",
        "",
        "| | cell | metric | change | interval | margin | verdict |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    for cell in result.cells:
        sign = SIGNS[result.state(cell)]
        if cell.status != "compared":
            lines.append(f"| {sign} | {_cell_text(cell.name)} | | | | | {_cell_text(headline(cell))} |")
        for index, finding in enumerate(cell.findings):
            ratio = "–" if finding.effect is None else change(finding.effect.ratio)
            name = _cell_text(cell.name) if index == 0 else ""
            lines.append(
                f"| {sign if index == 0 else ''} | {name} | {METRIC_NAMES[finding.metric]} | {ratio} | "
                f"{interval(finding)} | {100 * finding.margin:g} % | {finding.verdict} |"
            )
    changed = [(cell.name, device_changed(cell)) for cell in result.cells]
    notes = [*result.notes, *(f"{_cell_text(name)}: {text}" for name, text in changed if text)]
    return "\n".join([*lines, "", *[f"<sub>{note}</sub>  " for note in notes], ""])


def annotation_lines(result: GateResult) -> list[str]:
    """GitHub's workflow commands: a line for each cell that is not well.

    Source: GitHub Actions documentation, "Workflow commands", `error` and `warning`.
    """
    lines = []
    for cell in result.cells:
        state = result.state(cell)
        if state != "passed":
            level = "warning" if state == "warned" else "error"
            title = _escaped(f"{cell.name}: {cell_verdict(cell)}").replace(":", "%3A").replace(",", "%2C")
            lines.append(f"::{level} title={title}::{_escaped(headline(cell))}")
    return lines


def as_json(result: GateResult) -> dict[str, Any]:
    """The whole result for programs."""
    return {
        "schema": 1,
        "result": result.word,
        "exit_code": result.exit_code,
        "a": result.a,
        "b": result.b,
        "notes": result.notes,
        "cells": [_cell_json(cell, result) for cell in result.cells],
    }


def headline(cell: CellComparison) -> str:
    """What is to be known of a cell, in one line."""
    if cell.status == "incomparable":
        return "incomparable: " + "; ".join(f"{d.key}: {d.a} | {d.b}" for d in cell.differences)
    if cell.status == "broken":
        return f"measured before, fails now: {cell.problem}"
    if cell.status != "compared":
        return {"gone": "measured before, not in this run", "new": "nothing to compare with"}.get(
            cell.status, cell.status
        )
    verdict = cell_verdict(cell)
    told = [finding for finding in cell.findings if finding.verdict == verdict]
    return "; ".join(
        f"{METRIC_NAMES[f.metric]} {change(f.effect.ratio) if f.effect else '–'} ({interval(f)}): {f.verdict}"
        for f in told
    )


def _cell_lines(cell: CellComparison) -> str:
    lines = [headline(cell)] if cell.status != "compared" else []
    lines += [
        f"{METRIC_NAMES[f.metric]}: {change(f.effect.ratio) if f.effect else '–'}, {interval(f)}, "
        f"margin {100 * f.margin:g} %, {f.verdict}"
        for f in cell.findings
    ]
    changed = device_changed(cell)
    return "\n".join([*lines, changed] if changed else lines)


def _cell_json(cell: CellComparison, result: GateResult) -> dict[str, Any]:
    return {
        "name": cell.name,
        "status": cell.status,
        "state": result.state(cell),
        "verdict": cell_verdict(cell),
        "differences": cell.differences,
        "problem": cell.problem or None,
        "canary_ratio": cell.canary,
        "findings": [finding_json(finding, cell.levels.get(finding.metric)) for finding in cell.findings],
    }


def finding_json(finding: Finding, level: Level | None) -> dict[str, Any]:
    """One metric's finding for programs. Ratios are B over A; `a` and `b` are in `unit`, null where unknown."""
    effect = finding.effect
    return {
        "metric": finding.metric,
        "verdict": finding.verdict,
        "a": level.a if level else None,
        "b": level.b if level else None,
        "unit": UNITS[finding.metric],
        "margin": finding.margin,
        "ratio": effect.ratio if effect else None,
        "ratio_low": effect.ratio_low if effect else None,
        "ratio_high": effect.ratio_high if effect else None,
        "confidence": effect.confidence if effect else None,
        "method": effect.method if effect else None,
        "trials": effect.trials if effect else None,
        "noise": effect.noise if effect else None,
        "disturbed": finding.disturbed,
        "trial_ratios": [math.exp(value) for value in finding.values],
    }


def _cell_text(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _xml_text(text: str) -> str:
    """Without the control characters that XML 1.0 cannot hold, in whatever form."""
    return "".join(letter for letter in text if letter in "\t\n\r" or letter >= " ")
