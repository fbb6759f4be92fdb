"""The gate's rules and its exit codes, and the files that other programs read."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lxml import etree

from harness.errors import BadSetting
from harness.regress.effect import exact_effect
from harness.regress.gate import CellMargins, GateResult, GateSettings, Margins, read_gate
from harness.regress.gate_files import annotation_lines, as_json, junit, markdown
from harness.regress.runs import CellComparison, Difference
from harness.regress.trials import Finding
from harness.tables import to_json

if TYPE_CHECKING:
    from harness.regress.decision import Verdict
    from harness.regress.gate import Means

SCHEMA = Path(__file__).parents[1] / "data" / "junit.xsd"


def cell(verdict: Verdict = "pass", *, name: str = "host_a") -> CellComparison:
    """A compared cell."""
    finding = Finding(metric="p50", verdict=verdict, effect=exact_effect(100, 105), margin=0.03, values=())
    return CellComparison(name=name, status="compared", findings=(finding,))


UNLIKE = CellComparison(name="host_<b>&", status="incomparable", differences=(Difference(key="threads", a="1", b="2"),))
BROKEN = CellComparison(name="host_c", status="broken", problem="it was ended by SIGSEGV\x1b[0m")
NEW = CellComparison(name="host_d", status="new")
GONE = CellComparison(name="host_e", status="gone")


def result(*cells: CellComparison, inconclusive: Means = "pass", gone: Means = "fail") -> GateResult:
    """What a gate said of these."""
    return GateResult(a="old", b="new", cells=cells, inconclusive=inconclusive, gone=gone, notes=("a note",))


def small(low: float, high: float) -> CellComparison:
    """A certain slowdown, of which the margin is 3 %."""
    effect = replace(exact_effect(100, 101), low=math.log(low), high=math.log(high))
    finding = Finding(metric="p50", verdict="small slowdown", effect=effect, margin=0.03, values=())
    return CellComparison(name="host_a", status="compared", findings=(finding,))


EVERYTHING = result(cell(), cell("regression"), cell("inconclusive"), cell("small slowdown"), UNLIKE, BROKEN, NEW, GONE)


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (result(cell()), 0),
        (result(cell("improvement"), NEW), 0),
        (result(cell("small slowdown")), 0),
        (result(cell("inconclusive")), 0),
        (result(cell("inconclusive"), inconclusive="fail"), 1),
        (result(cell(), GONE), 1),
        (result(cell(), GONE, gone="pass"), 0),
        (result(small(1.01, 1.02), inconclusive="fail"), 0),
        (result(small(1.01, 1.15)), 0),
        (result(small(1.01, 1.15), inconclusive="fail"), 1),
        (result(cell(), cell("regression")), 1),
        (result(cell(), BROKEN), 1),
        (result(cell(), UNLIKE), 2),
        (result(UNLIKE, cell("regression")), 1),
        (result(), 2),
        (result(NEW), 2),
        (result(GONE), 1),
        (result(GONE, gone="pass"), 2),
    ],
)
def test_the_exit_code_is_that_of_the_gravest_cell_and_nothing_compared_is_no_pass(
    found: GateResult, code: int
) -> None:
    assert found.exit_code == code


def test_margins_of_a_cell_override_those_of_all(tmp_path: Path) -> None:
    path = tmp_path / "gate.toml"
    path.write_text(
        'inconclusive = "fail"\n[margins]\np50_pct = 2\n[[cells]]\nmatch = "*_int8_*"\nmargins = { p50_pct = 5 }\n',
        encoding="utf-8",
    )

    settings = read_gate(path)

    assert settings.inconclusive == "fail"
    assert settings.margins_of("host_a_fp32_x")["p50"] == 0.02
    assert settings.margins_of("host_a_int8_x")["p50"] == 0.05
    assert settings.margins_of("host_a_int8_x")["size"] == GateSettings().margins_of("x")["size"] == 0.005


def test_a_pattern_that_names_no_cell_is_told() -> None:
    margins = Margins(p50_pct=1)
    settings = GateSettings(cells=tuple(CellMargins(match=match, margins=margins) for match in ("*_int8_*", "*_in8_*")))

    assert settings.idle_patterns(["host_a_int8_x", "host_b"]) == ("*_in8_*",)


@pytest.mark.parametrize(
    "wrong", ["[margins]\np50 = 2", "[margins]\np50_pct = -1", 'inconclusive = "maybe"', "schema = 9"]
)
def test_a_wrong_gate_toml_is_refused_with_its_line(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "gate.toml").write_text(wrong, encoding="utf-8")

    with pytest.raises(BadSetting, match=r"gate\.toml, line \d"):
        read_gate(tmp_path / "gate.toml")


def test_junit_xml_is_what_its_schema_says() -> None:
    document = etree.fromstring(junit(EVERYTHING).encode())

    etree.XMLSchema(etree.parse(str(SCHEMA))).assertValid(document)
    (suite,) = document
    assert [suite.get(key) for key in ("tests", "failures", "errors", "skipped")] == ["8", "3", "1", "1"]
    assert len(suite.findall("testcase/failure")) == 3
    assert len(suite.findall("testcase/error")) == 1


def test_a_comment_shows_every_cell_and_can_be_found_again() -> None:
    text = markdown(EVERYTHING)

    assert text.startswith("<!-- inference-harness gate -->\n### ❌ Performance gate failed")
    assert "| ❌ | host_a | p50 | +5.00 % | exact | 3 % | regression |" in text
    assert "| ⛔ | host_<b>& | | | | | incomparable: threads: 1 \\| 2 |" in text
    assert "a note" in text


def test_annotations_are_one_line_for_each_cell_that_is_not_well() -> None:
    lines = annotation_lines(EVERYTHING)

    assert lines[0] == "::error title=host_a%3A regression::p50 +5.00 %25 (exact): regression"
    assert [line.split(" ")[0] for line in lines] == [
        "::error",
        "::warning",
        "::warning",
        "::error",
        "::error",
        "::error",
    ]
    assert not any("\n" in line for line in lines)


def test_json_holds_the_verdict_ratio_and_interval_of_each_metric() -> None:
    found = json.loads(to_json(as_json(result(cell("regression")))))

    assert (found["result"], found["exit_code"]) == ("failed", 1)
    (finding,) = found["cells"][0]["findings"]
    assert finding["ratio"] == finding["ratio_low"] == pytest.approx(1.05)
    assert finding["verdict"] == "regression"
