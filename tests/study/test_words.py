"""The sentences and pictures say what the figures say, whichever way they fell."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from harness.records import Estimate
from harness.report.pareto import front
from harness.study.folder import Study
from harness.study.profiles import PROFILES
from harness.study.report import full_table
from harness.study.rows import StudyRow, Timing
from harness.study.words import claims, what_paid


def row(variant: str, eer: float, *, p50_ms: float = 10.0, **fields: Any) -> StudyRow:
    estimate = Estimate(value=eer, low=eer - 0.001, high=eer + 0.001)
    return msgspec.structs.replace(
        StudyRow(
            variant=variant,
            kind="teacher",
            method="none",
            network="resnet18",
            asked_ratio=None,
            reached_ratio=None,
            backbone_ratio=None,
            parameters=1000,
            nonzero_parameters=1000,
            macs=10,
            format="tflite",
            precision="fp32",
            size_bytes=4000,
            deflated_bytes=3600,
            eer_before=estimate,
            eer_after=estimate,
            executed_by="LiteRT",
            timings=(
                Timing(
                    device="host",
                    runtime="litert",
                    is_emulated=False,
                    p50_ns=p50_ms * 1e6,
                    p50_low_ns=p50_ms * 0.999e6,
                    p50_high_ns=p50_ms * 1.001e6,
                    peak_memory_bytes=None,
                ),
            ),
        ),
        **fields,
    )


def pruned(method: str, eer: float, **fields: Any) -> StudyRow:
    defaults: dict[str, Any] = {"kind": "pruned", "method": method, "asked_ratio": 8.0, "nonzero_parameters": 125}
    return row(**{"variant": f"{method}-8x", "eer": eer, **defaults, **fields})


STUDY = Study(
    schema=1,
    created_at="2026-11-26T00:00:00+00:00",
    harness_version="0.1.0",
    profile=PROFILES["smoke"],
    data="synthetic",
    dataset="synthetic",
    is_synthetic=True,
)
TEACHER = row("teacher", 0.03)
STUDENT = row("student-mobilenet_v2", 0.04, p50_ms=3.0, kind="student", network="mobilenet_v2", nonzero_parameters=250)


def test_the_pruning_that_wins_is_named_with_the_others() -> None:
    text = claims([TEACHER, pruned("layer-magnitude", 0.05), pruned("random", 0.2)])[0]

    assert "At 8x layer-magnitude with an EER of 5.00 (4.90–5.10) % before random 20.00" in text
    assert "so do these figures" in text


def test_figures_that_disagree_with_the_paper_say_so() -> None:
    text = claims([TEACHER, pruned("layer-magnitude", 0.05), pruned("global-gradient", 0.02)])[0]

    assert "here it is global-gradient" in text


def test_a_difference_within_the_intervals_is_said_to_be_one() -> None:
    text = claims([TEACHER, pruned("layer-magnitude", 0.05), pruned("random", 0.0505)])[0]

    assert "within each other's intervals" in text


@pytest.mark.parametrize(("eer", "said"), [(0.05, "here it is better."), (0.03, "here it is worse.")])
def test_distillation_is_better_or_worse_as_it_fell(eer: float, said: str) -> None:
    assert said in claims([TEACHER, pruned("layer-magnitude", eer), STUDENT])[1]


def test_the_fastest_of_each_kind_are_compared_where_they_were_measured() -> None:
    text = claims([TEACHER, pruned("random", 0.05), STUDENT])[2]

    assert "mobilenet_v2 (tflite/fp32), takes 3.00 ms" in text
    assert "random-8x (tflite/fp32), 10.0 ms" in text


def test_without_measurements_nothing_is_said_of_time() -> None:
    rows = [msgspec.structs.replace(one, timings=()) for one in (TEACHER, pruned("random", 0.05), STUDENT)]

    assert "Nothing was measured yet" in claims(rows)[2]
    assert what_paid(rows) == ()


def test_times_on_an_emulated_device_are_compared_with_nothing() -> None:
    rows = [
        msgspec.structs.replace(one, timings=(msgspec.structs.replace(one.timings[0], is_emulated=True),))
        for one in (TEACHER, pruned("random", 0.05), STUDENT)
    ]

    assert "Only emulated devices were measured" in claims(rows)[2]
    assert what_paid(rows) == ()
    assert "p50 ms, host (emulated), litert" in full_table(STUDY, rows)


def test_without_networks_nothing_is_claimed() -> None:
    assert "No pruned network was evaluated" in claims([])[0]


def test_what_a_compression_bought_is_told_against_the_uncompressed_file() -> None:
    faster = pruned("layer-magnitude", 0.04, p50_ms=9.93, deflated_bytes=900)
    text = what_paid([TEACHER, faster])[1]

    assert text == (
        "- layer-magnitude-8x tflite/fp32: 8.00x fewer weights, 4.00x smaller deflated, 0.7 % faster, EER +1.00 points"
    )


def test_a_time_within_the_intervals_is_no_difference() -> None:
    text = what_paid([TEACHER, pruned("random", 0.04, p50_ms=9.99)])[1]

    assert "within the intervals: no difference shown" in text


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    assert front([(1, 5), (2, 6), (2, 3), (3, 3), (4, 1)]) == [(1, 5), (2, 3), (4, 1)]
