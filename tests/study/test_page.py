"""The study as a page: every file with its figures, every figure in its data, no name taken for markup."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from harness.records import Estimate, RatePoint, Verification
from harness.study.claims import claims, in_short
from harness.study.folder import StudyFolder
from harness.study.page import StudyDocument, as_json, pictures, render
from harness.study.report import figures_of
from tests.report.test_html import HOSTILE, Page
from tests.study.test_words import STUDENT, STUDY, TEACHER, pruned

if TYPE_CHECKING:
    from harness.study.rows import StudyRow

BASELINES = Path(__file__).resolve().parents[2] / "reports" / "baselines"
CURVE = Verification(
    pairing="across sessions",
    genuine_pairs=10,
    impostor_pairs=100,
    embedding_length=8,
    eer=Estimate(value=0.03),
    auc=Estimate(value=0.99),
    fnmr_at_fmr_1e2=None,
    fnmr_at_fmr_1e3=None,
    curve=(RatePoint(threshold=0.1, fmr=0.1, fnmr=0.01), RatePoint(threshold=0.2, fmr=0.0, fnmr=0.1)),
)


def document(*rows: StudyRow, about: tuple[str, ...] = ()) -> StudyDocument:
    curves = {row.variant: CURVE for row in rows[:1]}
    return StudyDocument(
        schema=1,
        study=STUDY,
        about=about,
        claims=claims(rows, {}),
        in_short=in_short(rows, {}),
        rows=rows,
        redrawn={},
        curves=curves,
    )


def figures_of_every_kind() -> StudyDocument:
    failed = pruned("random", 0.05, eer_after=None, size_bytes=None, timings=(), problem="out of memory")
    return document(TEACHER, pruned("layer-magnitude", 0.05), failed, STUDENT, about=("Device `host`: **emulated**.",))


def cells_of(text: str) -> list[list[str]]:
    rows = re.findall(r'<tr class="(?:measured|failed)"[^>]*>(.*?)</tr>', text, re.DOTALL)
    return [[re.sub("<[^>]+>", "", cell).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]


def test_every_file_is_a_row_with_error_time_size_and_compression() -> None:
    _, second, failed, student = cells_of(render(figures_of_every_kind()))

    assert second[:11] == [
        *("layer-magnitude-8x", "layer-magnitude", "tflite/fp32", "host", "litert"),
        *("5.00", "5.00", "4.90 to 5.10", "10.0", "9.99 to 10.0", "–"),
    ]
    assert second[13] == "8.00"
    assert failed[5:] == ["no figure: out of memory"]
    assert student[0] == "mobilenet_v2"


def test_a_file_that_could_not_be_tested_keeps_its_size_and_says_why() -> None:
    (row,) = cells_of(render(document(pruned("random", 0.05, eer_after=None, problem="its runtime crashed"))))

    assert row[6:8] == ["–", "no figure: its runtime crashed"]
    assert row[11] == "0.00400"


def test_every_figure_of_the_page_is_in_its_data_and_in_the_file() -> None:
    figures = figures_of_every_kind()

    (embedded,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', render(figures), re.DOTALL)

    assert json.loads(embedded) == json.loads(as_json(figures)) == msgspec.json.decode(msgspec.json.encode(figures))


def test_the_pictures_are_of_error_against_time_and_size_and_the_det_curves() -> None:
    latency, size, det = pictures(figures_of_every_kind())

    assert (latency.name, size.name, det.name) == ("eer-latency-host", "eer-size", "det")
    assert [datum["label"] for datum in latency.data if datum["front"]] == [
        "teacher tflite/fp32",
        "student-mobilenet_v2 tflite/fp32",
    ]
    assert [(datum["fmr"], datum["fnmr"]) for datum in det.data] == [(10.0, 1.0), (0.0, 10.0)]
    assert all(abs(float(str(datum["x"]))) < 4 for datum in det.data), "a rate of 0 is drawn at the edge"


def test_several_ratios_are_a_picture_of_what_compression_costs() -> None:
    at_2 = pruned("random", 0.04, variant="random-2x", asked_ratio=2.0)

    (ratio,) = (each for each in pictures(document(TEACHER, at_2, pruned("random", 0.09))) if each.name == "eer-ratio")

    assert [(datum["ratio"], datum["eer"]) for datum in ratio.data] == [(2.0, 4.0), (8.0, 9.0)]


def test_emulated_rows_stand_last_stamped_and_in_no_picture() -> None:
    timing = msgspec.structs.replace(TEACHER.timings[0], device="virtual:one", is_emulated=True)
    figures = document(msgspec.structs.replace(TEACHER, timings=(timing,)), STUDENT)

    first, last = cells_of(render(figures))

    assert first[3] == "host"
    assert last[3] == "virtual:one (emulated) times mean nothing"
    assert "eer-latency-virtual-one" not in {each.name for each in pictures(figures)}


def test_no_name_becomes_markup() -> None:
    def shape(figures: StudyDocument) -> list[str]:
        return [tag for tag, _ in Page(render(figures)).elements if tag != "wbr"]

    def of(name: str) -> StudyDocument:
        changes: dict[str, Any] = {"network": name, "method": name, "variant": name}
        failed = msgspec.structs.replace(TEACHER, **changes, size_bytes=None, problem=name, timings=())
        row = msgspec.structs.replace(TEACHER, **changes)
        timing = msgspec.structs.replace(row.timings[0], device=name, runtime=name)
        return document(msgspec.structs.replace(row, timings=(timing,)), failed, about=(name,))

    assert shape(of(HOSTILE)) == shape(of("plain"))


def test_the_first_screen_is_short_and_names_the_machine_the_runtimes_and_what_not_to_trust() -> None:
    """Of the study that is kept with this program, whose runs have cautions."""
    figures = figures_of(StudyFolder.open(BASELINES / "ocular"))

    header, _, rest = render(figures).partition("</header>")

    assert len(figures.in_short) == 2
    assert "AMD EPYC" in header
    assert "litert 2.3.0" in header
    assert "with a wide interval" in header
    assert "runs/host" in header
    assert "Almadan" not in header
    assert "<h2>The two claims</h2>" in rest
    assert "at 32x" in rest.lower()


def test_a_study_without_figures_has_a_page_and_no_pictures() -> None:
    text = render(document(about=("**Not complete:** nothing is measured yet.",)))

    assert "nothing is measured yet" in text
    assert "data-chart" not in text.split("<script")[0]
