"""What a row's file still recognises: one error that is better when smaller, and on which images it was found.

It is a property of the file, computed where it was evaluated; a device that computes other outputs has another error,
which is why a row whose outputs are wrong is in no picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from harness.records import Estimate
from harness.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.records import Accuracy
    from harness.report.view import Row

HOW_TO_READ = (
    "Error: of the file, found on labelled images through its own runtime where `harness evaluate` ran. EER: the rate "
    "at which as many strangers are accepted as right persons are refused; top-1 error: the share of images whose "
    "class is not the first answer. Its 95 % interval comes from drawing the subjects, or the images, again."
)


class Error(NamedTuple):
    """One figure for how wrong a file is."""

    metric: str
    """`EER` or `top-1 error`."""
    estimate: Estimate
    """A share of 1."""


class Test(NamedTuple):
    """What errors must have in common to be compared."""

    metric: str
    dataset: str
    dataset_sha256: str
    fold: int | None
    is_synthetic: bool

    def __str__(self) -> str:
        """`EER on eyes (synthetic images), fold 0`."""
        drawn = " (synthetic images)" if self.is_synthetic else ""
        part = "all subjects" if self.fold is None else f"fold {self.fold}"
        return f"{self.metric} on {clean(self.dataset)}{drawn}, {part}"


def error_of(accuracy: Accuracy | None) -> Error | None:
    """The error of a file; None where it is not known."""
    if accuracy is None:
        return None
    if accuracy.verification is not None:
        return Error("EER", accuracy.verification.eer)
    if accuracy.classification is None:
        return None
    top1 = accuracy.classification.top1
    return Error(
        "top-1 error",
        Estimate(
            value=1 - top1.value,
            low=None if top1.high is None else 1 - top1.high,
            high=None if top1.low is None else 1 - top1.low,
        ),
    )


def by_test(rows: Iterable[Row]) -> dict[Test, tuple[Row, ...]]:
    """Rows whose error is known, by what was tested; those of different tests do not compare."""
    found: dict[Test, tuple[Row, ...]] = {}
    for row in rows:
        error = error_of(row.accuracy)
        if error is not None and row.accuracy is not None:
            of = row.accuracy
            test = Test(error.metric, of.dataset, of.dataset_sha256, of.fold, of.is_synthetic)
            found[test] = (*found.get(test, ()), row)
    return found


def has_errors(rows: Iterable[Row]) -> bool:
    """Whether there is anything for a column of errors: a row with figures whose file was tested."""
    return any(row.summary is not None and error_of(row.accuracy) is not None for row in rows)


def error_pct(row: Row) -> str:
    """Per cent without the sign: `4.20`; empty where nobody has tested the file."""
    error = error_of(row.accuracy)
    return "" if error is None else f"{100 * error.estimate.value:.2f}"


def ends_pct(row: Row) -> str:
    """The 95 % interval as `3.10 to 5.30`; empty where there is none."""
    error = error_of(row.accuracy)
    if error is None or error.estimate.low is None or error.estimate.high is None:
        return ""
    return f"{100 * error.estimate.low:.2f} to {100 * error.estimate.high:.2f}"
