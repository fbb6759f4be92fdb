"""Every row of Core ML and of an iPhone says how far it is proved, and what was not timed shows no time."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import msgspec
import pytest

from harness.regress.history.point import points_of
from harness.report import render
from harness.report.view import view
from harness.summary import summarise_all
from tests.fakes import records
from tests.report.test_terminal import printed

if TYPE_CHECKING:
    from harness.records import CellResult, DeviceFacts

PHONE = records.device(id="phone", kind="ios", device_class="phone", name="iPhone XR")
SIMULATOR = records.device(id="sim", kind="ios", device_class="emulated", name="iPhone 16 Pro (simulator)")
MAC = records.device(id="mac", name="Mac mini", os="macOS 15.1")
LINUX = records.device(id="host")


def checked(result: CellResult) -> CellResult:
    """The same with a package that our evaluator computed."""
    assert result.artifact is not None
    parity = msgspec.structs.replace(result.artifact.parity, evidence="graph-checked")
    return msgspec.structs.replace(result, artifact=msgspec.structs.replace(result.artifact, parity=parity))


def core_ml(device: DeviceFacts, **more: object) -> CellResult:
    of = records.cell(format="coreml", precision="fp16", device_id=device.id, accelerator="all")
    return checked(records.result(of=of, **more))  # type: ignore[arg-type]


RUN = records.run(
    [
        core_ml(PHONE),
        core_ml(SIMULATOR),
        core_ml(MAC),
        core_ml(LINUX, outcome=records.not_runnable("Core ML runs on Apple's systems only")),
        records.result(device_id="host"),
        records.result(device_id="phone", outcome=records.not_runnable("no ONNX Runtime"), no_artifact=True),
    ],
    devices=[PHONE, SIMULATOR, MAC, LINUX],
)


def test_each_row_has_the_mark_that_its_device_and_outcome_give_it() -> None:
    assert [(row.evidence, row.status) for row in view(RUN).rows] == [
        ("measured(device)", "measured"),
        ("simulated", "simulated"),
        ("measured(mac)", "measured"),
        ("graph-checked", "not_runnable"),
        (None, "measured"),
        (None, "not_runnable"),
    ]


def test_what_was_simulated_or_only_checked_has_no_figure_in_any_form() -> None:
    untimed = {row.cell.id for row in view(RUN).rows if row.evidence in {"simulated", "graph-checked"}}
    document = json.loads(render(RUN, "json"))
    rows = list(csv.DictReader(io.StringIO(render(RUN, "csv"))))

    assert len(untimed) == 2
    assert [document["summaries"][cell] for cell in untimed] == [None, None]
    assert {row["p50_ns"] for row in rows if row["cell"] in untimed} == {""}
    # What is known of the file is on the page, and so in the data.
    assert {row["size_bytes"] for row in rows if row["cell"] in untimed} == {str(int(13.6 * 2**20))}
    assert all(document["files"][cell]["parity_relative_l2"] is not None for cell in untimed)
    assert {row["evidence"] for row in rows if row["cell"] in untimed} == {"simulated", "graph-checked"}


@pytest.mark.parametrize("kind", ["md", "html", "table"])
def test_every_report_says_the_mark_of_each_row_and_what_it_means(kind: str) -> None:
    text = printed(RUN) if kind == "table" else render(RUN, kind)
    words = " ".join(text.replace("\\", "").split())

    for mark in ("measured(device)", "simulated", "measured(mac)", "graph-checked"):
        assert f"{mark}: mobilenet_v2 coreml/fp16 all" in words
    assert "graph-checked · 13.6 MiB · parity" in words
    assert "Core ML did not, so no times" in words
    assert "1 simulated, without times" in words


def test_a_simulator_is_never_among_the_fastest_and_its_picture_is_not_drawn() -> None:
    answer = " ".join(json.loads(render(RUN, "json"))["answer"])

    assert "simulator" not in answer.split("cannot run")[0].split("Fastest")[-1]


def test_what_a_simulator_computed_is_in_no_history_and_no_comparison() -> None:
    stored = records.run(RUN.results, devices=[PHONE, SIMULATOR, MAC, LINUX])

    assert {point.device_id for point in points_of(stored)} == {"phone", "mac", "host"}  # type: ignore[arg-type]
    simulated = next(result for result in RUN.results if result.cell.device_id == "sim")
    assert summarise_all([simulated], [SIMULATOR]) == {simulated.cell.id: None}
    assert summarise_all([simulated], [PHONE])[simulated.cell.id] is not None


def test_a_ready_package_beside_itself_is_not_said_to_be_near_anything() -> None:
    of = records.cell(format="coreml", precision="source", device_id="host", accelerator="all")
    found = records.result(of=of, outcome=records.not_runnable("Core ML runs on Apple's systems only"))
    assert found.artifact is not None
    parity = records.parity(evidence="converted", outputs=(records.parity().outputs[0],))
    alone = msgspec.structs.replace(found, artifact=msgspec.structs.replace(found.artifact, parity=parity))

    text = " ".join(printed(records.run([alone], devices=[LINUX])).split())

    assert "converted · 13.6 MiB" in text
    assert "converted · 13.6 MiB · parity" not in text
    assert "that it computes the right thing is not proved" in text
