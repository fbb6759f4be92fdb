"""Every warning has its sentence, and stands once above the rows it is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import pytest

from harness.report import cautions
from harness.report.view import view
from harness.summary import CellWarning, WarningKind
from tests.fakes import records

if TYPE_CHECKING:
    from harness.records import Setting

FACTS: dict[str, dict[str, Setting]] = {
    "emulated": {"device": "phone"},
    "wrong_numbers": {"relative_l2": 0.4},
    "fallback": {"asked": "xnnpack", "ran": "cpu 6", "delegated": 60, "total": 66, "reason": "dynamic shapes"},
    "placement_unknown": {"asked": "all", "reason": "the system does not tell"},
    "other_threads": {"asked": 4, "ran": 2},
    "crowded": {"threads": 16, "cores": 2},
    "untrained": {},
    "not_fresh": {"processes": 2, "of": 5},
    "few_processes": {"processes": 3, "needed": 5},
    "few_samples": {"samples": 20, "needed": 64},
    "imprecise": {"half_width_pct": 3.14, "target_pct": 1.0, "stopped_by": "budget"},
    "not_steady": {"processes": 2, "of": 5},
    "drift": {"pct_per_min": -12.0, "limit_pct_per_min": 1.0},
    "disturbed": {"processes": 2, "of": 5},
    "discarded": {"processes": 1, "blocks": 3},
    "batched": {"iterations_per_sample": 16},
    "unprofiled": {"reason": "it has none"},
    "accepted_obstacles": {"names": "load"},
    "virtual_machine": {"name": "KVM"},
}
SAID = {
    "fallback": "60 of 66 nodes on xnnpack. Reason: dynamic shapes.",
    "placement_unknown": "(all was asked for). Reason: the system does not tell.",
    "other_threads": "2 ran where 4 were asked for",
    "crowded": "16 threads on 2 processors",
    "not_fresh": "2 of 5 processes had done other jobs before",
    "imprecise": "±1 % asked for (up to ±3.1 %)",
    "not_steady": "in 2 of 5 processes",
    "drift": "up to -12 % a minute",
    "discarded": "1 process and 3 blocks",
    "batched": "up to 16",
    "unprofiled": "not known. Reason: it has none.",
    "virtual_machine": "(KVM)",
}


@pytest.mark.parametrize("kind", get_args(WarningKind))
def test_every_kind_of_warning_has_a_sentence_and_advice(kind: WarningKind) -> None:
    what, advice = cautions.SENTENCES[kind]([FACTS[kind]])

    assert what.endswith(".")
    assert advice.endswith(".")
    assert SAID.get(kind, "") in what


def test_sentences_are_in_the_order_of_seriousness() -> None:
    assert tuple(cautions.SENTENCES) == get_args(WarningKind)


def test_a_note_about_every_row_needs_no_letter() -> None:
    warning = CellWarning(kind="virtual_machine", facts={"name": "KVM"})
    run = records.run([records.result(threads=n) for n in (1, 2)], devices=[records.device(virtual_machine="KVM")])
    rows = view(run).rows
    notes = cautions.notes(rows)

    assert all(warning in row.warnings for row in rows)
    assert cautions.marks(notes, rows) == {}
