"""The sentences and pictures say what the figures say, whichever way they fell."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from harness.records import Estimate
from harness.report.pareto import front
from harness.study.claims import answer, claims, in_short
from harness.study.folder import Study
from harness.study.profiles import PROFILES
from harness.study.report import full_table
from harness.study.rows import StudyRow, Timing
from harness.study.words import same_work, what_paid


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
            eer_validation=estimate,
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


def redrawn(**eers: tuple[float, ...]) -> dict[str, tuple[float, ...]]:
    """By variant, which has dashes."""
    return {name.replace("_", "-"): drawn for name, drawn in eers.items()}


def test_the_pruning_that_is_chosen_is_compared_with_each_other_one_on_the_same_draws() -> None:
    rows = [TEACHER, pruned("layer-magnitude", 0.05), pruned("random", 0.2), pruned("global-gradient", 0.052)]
    # Each by itself varies by points; the difference to `random` never does, and that to the other changes its sign.
    drawn = redrawn(layer_magnitude_8x=(0.04, 0.05, 0.06), random_8x=(0.19, 0.2, 0.21), global_gradient_8x=(0.05,) * 3)
    text = claims(rows, drawn)[0]

    assert "At 8x layer-magnitude is chosen, with an EER of 5.00 (4.90–5.10) %; against it " in text
    assert "random +15.00 (+15.00 to +15.00) points." in text
    assert "global-gradient +0.20 (-0.95 to +0.95) points, no difference shown" in text
    assert text.endswith("here it is chosen, too, but global-gradient is not shown to be worse.")
    assert answer(rows, drawn) == (
        "**Which pruning wins?** The paper names layerwise magnitude at 8x; here it is chosen, too, but "
        "global-gradient is not shown to be worse."
    )
    assert answer(rows[:2], drawn) == claims(rows[:2], drawn)[0]


def test_networks_are_chosen_on_validation_subjects_and_not_where_they_are_tested() -> None:
    lucky = pruned("random", 0.04, eer_validation=Estimate(value=0.3))
    text = claims([TEACHER, pruned("layer-magnitude", 0.05), lucky], {})[0]

    assert "At 8x layer-magnitude is chosen" in text
    assert "against it random -1.00 points, no difference shown" in text


@pytest.mark.parametrize(
    ("papers", "said"),
    [
        (0.06, "here it is global-gradient."),
        (0.021, "here it is global-gradient, but layerwise magnitude is not shown"),
    ],
)
def test_figures_that_disagree_with_the_paper_say_so(papers: float, said: str) -> None:
    drawn = redrawn(layer_magnitude_8x=(papers, papers), global_gradient_8x=(0.01, 0.03))
    text = claims([TEACHER, pruned("layer-magnitude", papers), pruned("global-gradient", 0.02)], drawn)[0]

    assert said in text


@pytest.mark.parametrize(
    ("eer", "said"),
    [(0.05, "here it is better."), (0.03, "here it is worse."), (0.041, "here no difference is shown.")],
)
def test_distillation_is_better_or_worse_as_it_fell(eer: float, said: str) -> None:
    drawn = {STUDENT.variant: (0.038, 0.042), "layer-magnitude-8x": (eer, eer)}

    assert said in claims([TEACHER, pruned("layer-magnitude", eer), STUDENT], drawn)[1]


def test_networks_with_fewer_channels_stand_for_pruning_too() -> None:
    slim = pruned("structured", 0.02, kind="structured")

    text = claims([TEACHER, pruned("layer-magnitude", 0.05), slim, STUDENT], {})[1]

    assert "the network chosen of those pruned to 8x or more, structured-8x, 2.00 (1.90–2.10) %" in text


def test_what_the_teacher_adds_is_told_against_the_same_network_on_labels_alone() -> None:
    control = row("labels-mobilenet_v2", 0.06, kind="control", network="mobilenet_v2")
    drawn = {STUDENT.variant: (0.04, 0.041), control.variant: (0.06, 0.062)}

    text = claims([TEACHER, pruned("random", 0.05), control, STUDENT], drawn)[2]

    assert text == (
        "**What does the teacher add?** mobilenet_v2, trained as long on labels alone, has an EER of "
        "6.00 (5.90–6.10) %; with the teacher 4.00 %: -2.00 (-2.10 to -2.00) points."
    )


def test_the_chosen_and_the_fastest_are_compared_where_they_were_measured() -> None:
    text = claims([TEACHER, pruned("random", 0.05), STUDENT], {})[2]

    assert (
        "On host with litert the chosen student takes 3.00 ms (3.00 ms to 3.00 ms) and the chosen pruned network, "
        "random-8x, 10.0 ms (9.99 ms to 10.0 ms) (both tflite/fp32): the student is faster"
    ) in text
    assert text.startswith("**Distillation or pruning, in time?** The paper finds distillation faster. ")
    assert "The fastest as tflite/fp32 on host with litert: student mobilenet_v2 at 3.00 ms" in text
    assert "with zeros random-8x at 10.0 ms" in text


def test_the_fastest_are_compared_in_one_kind_of_file() -> None:
    small = row("mobilenet_v2", 0.04, kind="student", network="mobilenet_v2", precision="int8", p50_ms=1.0)

    text = claims([TEACHER, pruned("random", 0.05), STUDENT, small], {})[2]

    assert "at 1.00 ms" not in text, "of the pruned network there is no such file"


def test_times_of_files_that_do_the_same_work_are_no_finding() -> None:
    several = [pruned(method, 0.04, p50_ms=p50) for method, p50 in (("random", 12.0), ("layer-magnitude", 9.0))]

    paid, about = what_paid([TEACHER, *several, STUDENT]), same_work([TEACHER, *several, STUDENT])

    assert "20.0 % slower (the same work: the machine's)" in paid[1]
    assert "took from 9.00 ms to 12.0 ms" in about[0]
    assert about[0].startswith("On host with litert, tflite/fp32: its work and that of the 2 files")
    assert about[0].endswith("the machine's.")


def test_in_short_either_claim_is_a_sentence() -> None:
    first, second = in_short([TEACHER, pruned("random", 0.05), STUDENT], redrawn(random_8x=(0.05,) * 2))

    assert first.startswith("**Which pruning wins?**")
    assert second == (
        "**Distillation or pruning?** The chosen student, mobilenet_v2, is not shown to err less or more than the "
        "chosen pruned network, random-8x (EER -1.00 points); in time, on host with litert the student is faster."
    )


def test_where_no_file_with_full_weights_was_measured_the_halved_one_is_the_measure() -> None:
    teacher = row("teacher", 0.03, format="coreml", precision="fp16")
    text = what_paid([teacher, pruned("random", 0.04, p50_ms=5.0, format="coreml", precision="fp16")])

    assert text[0] == "**host, litert** (uncompressed, coreml/fp16: 10.0 ms)."
    assert "50.0 % faster" in text[1]


def test_without_measurements_nothing_is_said_of_time() -> None:
    rows = [msgspec.structs.replace(one, timings=()) for one in (TEACHER, pruned("random", 0.05), STUDENT)]

    assert "Nothing was measured yet" in claims(rows, {})[2]
    assert what_paid(rows) == ()


def test_times_on_an_emulated_device_are_compared_with_nothing() -> None:
    rows = [
        msgspec.structs.replace(one, timings=(msgspec.structs.replace(one.timings[0], is_emulated=True),))
        for one in (TEACHER, pruned("random", 0.05), STUDENT)
    ]

    assert "Only emulated devices were measured" in claims(rows, {})[2]
    assert what_paid(rows) == ()
    assert "p50 ms, host (emulated), litert" in full_table(STUDY, rows)


def test_without_networks_nothing_is_claimed() -> None:
    assert "No pruned network was evaluated" in claims([], {})[0]


def test_what_a_compression_bought_is_told_against_the_uncompressed_file() -> None:
    faster = pruned("layer-magnitude", 0.04, p50_ms=9.93, deflated_bytes=900)
    text = what_paid([TEACHER, faster])[1]

    assert text == (
        "- layer-magnitude-8x tflite/fp32: 8.00x fewer weights, 4.00x smaller deflated, "
        "0.7 % faster (the same work: the machine's), EER +1.00 points"
    )


def test_a_time_within_the_intervals_is_no_difference() -> None:
    text = what_paid([TEACHER, pruned("structured", 0.04, p50_ms=9.99, kind="structured")])[1]

    assert "within the intervals: no difference shown" in text


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    assert front([(1, 5), (2, 6), (2, 3), (3, 3), (4, 1)]) == [(1, 5), (2, 3), (4, 1)]


def test_files_with_the_same_work_say_how_far_the_machine_itself_goes() -> None:
    rows = [TEACHER, pruned("random", 0.04, p50_ms=9.0), pruned("global-gradient", 0.04, p50_ms=11.0)]

    head, lines = what_paid([*rows, row("wide", 0.03, kind="student", network="wide", deflated_bytes=7200)])

    assert "of the 2 files whose zeros a dense runtime computes like any number is the same" in head
    assert "took from 9.00 ms to 11.0 ms" in head
    assert "2.00x larger deflated" in lines


def test_a_method_without_a_rival_was_not_chosen() -> None:
    assert "At 8x random alone was tried" in claims([TEACHER, pruned("random", 0.05)], {})[0]


def test_a_core_ml_file_is_marked_by_what_it_is_proved_to_be() -> None:
    checked = row("teacher", 0.03, format="coreml", precision="fp16", evidence="graph-checked", timings=())
    (timing,) = row("teacher", 0.03).timings
    phone = msgspec.structs.replace(timing, device="iphone", runtime="coreml", evidence="measured(device)")

    text = full_table(STUDY, [checked, row("teacher", 0.03), msgspec.structs.replace(checked, timings=(phone,))])

    assert "| coreml/fp16 (graph-checked) |" in text
    assert "| tflite/fp32 |" in text
    assert "| coreml/fp16 (graph-checked) (measured(device)) |" in text
