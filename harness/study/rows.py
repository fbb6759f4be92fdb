"""The figures of a study, a row a file: joined from what was evaluated and what was measured, nothing stored twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.records import Estimate, Evidence, Failure, ModelFormat, NotRunnable, Precision, Record
from harness.study.variants import Kind, artifacts_of
from harness.summary import evidence, summarise_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.records import Accuracy, CellResult, DeviceFacts
    from harness.study.folder import NetworkResult, StudyFolder
    from harness.study.variants import Variant
    from harness.summary import Summary


class Timing(Record, frozen=True, kw_only=True):
    """What one file took on one device."""

    device: str
    runtime: str
    is_emulated: bool
    p50_ns: float | None
    """None: it was not measured, or failed."""
    p50_low_ns: float | None
    p50_high_ns: float | None
    peak_memory_bytes: float | None
    evidence: Evidence | None = None
    """Of Core ML and iPhones: how far it is proved there."""


class StudyRow(Record, frozen=True, kw_only=True):
    """One file of one network, or a network of which no file was made."""

    variant: str
    kind: Kind
    method: str
    network: str
    asked_ratio: float | None
    reached_ratio: float | None
    """Of the whole network that was trained, its classifier included."""
    backbone_ratio: float | None
    """Of what is deployed."""
    parameters: int | None
    """Of what is deployed, zeros included."""
    nonzero_parameters: int
    macs: int | None
    format: ModelFormat | None
    precision: Precision | None
    size_bytes: int | None
    deflated_bytes: int | None
    eer_before: Estimate | None
    """Of the checkpoint. With several folds: the mean, and one standard deviation to either side."""
    eer_validation: Estimate | None
    """Of the checkpoint on other subjects: by this one networks are chosen."""
    eer_after: Estimate | None
    """Of the file, through its own runtime."""
    executed_by: str | None
    evidence: Evidence | None = None
    """Of a Core ML file: how far it was proved when it was made."""
    timings: tuple[Timing, ...] = ()
    problem: str | None = None
    """Why a figure is not there."""


def rows_of(folder: StudyFolder) -> tuple[StudyRow, ...]:
    """Every row for which there is anything to show, in the order in which the networks were made."""
    measured = [
        (stored.plan.devices[0], result, summaries[result.cell.id])
        for stored in folder.runs()
        for summaries in [summarise_all(stored.results, stored.plan.devices)]
        for result in stored.results
    ]
    return tuple(row for variant in folder.study.variants for row in _rows(folder, variant, measured))


def redrawn_of(folder: StudyFolder) -> dict[str, tuple[float, ...]]:
    """EERs of each network's checkpoint where the test subjects were drawn again; with several folds their means."""
    found = {}
    for variant in folder.study.variants:
        networks = [folder.network(variant, fold) for fold in folder.study.profile.folds]
        drawn = [
            network.accuracy.verification.eer_redrawn
            for network in networks
            if network is not None and network.accuracy is not None and network.accuracy.verification is not None
        ]
        if len(drawn) == len(networks):
            found[variant.name] = tuple(sum(eers) / len(eers) for eers in zip(*drawn, strict=False))
    return found


def _rows(
    folder: StudyFolder, variant: Variant, measured: Sequence[tuple[DeviceFacts, CellResult, Summary | None]]
) -> Iterator[StudyRow]:
    folds = folder.study.profile.folds
    networks = [network for fold in folds if (network := folder.network(variant, fold)) is not None]
    if not networks:
        return
    files = artifacts_of(folder.study.profile, variant)
    if not files:
        yield _row(variant, networks)
    for text in files:
        model_format, _, precision = text.partition("/")
        found = [
            file
            for fold in folds
            if (file := folder.file(variant, fold, model_format, precision)) is not None  # type: ignore[arg-type]
        ]
        if not found:
            continue
        first = found[0].artifact
        yield _row(
            variant,
            networks,
            format=found[0].format,
            precision=found[0].precision,
            size_bytes=first.size_bytes if first else None,
            deflated_bytes=first.deflated_bytes if first else None,
            eer_after=_over_folds([file.accuracy for file in found]),
            executed_by=next((file.accuracy.executed_by for file in found if file.accuracy), None),
            evidence=first.parity.evidence if first else None,
            timings=tuple(
                _timing(result, summary, device)
                for device, result, summary in measured
                if (result.cell.model, result.cell.format, result.cell.precision)
                == (variant.name, found[0].format, found[0].precision)
            ),
            problem=_problem(found[0].problem),
        )


def _row(variant: Variant, networks: Sequence[NetworkResult], **figures: object) -> StudyRow:
    network = networks[0]
    compression = network.compression
    known: dict[str, object] = {
        "format": None,
        "precision": None,
        "size_bytes": None,
        "deflated_bytes": None,
        "eer_after": None,
        "executed_by": None,
        "evidence": None,
        "problem": _problem(network.problem),
        **{name: value for name, value in figures.items() if value is not None},
    }
    return StudyRow(
        variant=variant.name,
        kind=variant.kind,
        method=variant.method,
        network=variant.network,
        asked_ratio=variant.ratio,
        reached_ratio=compression.reached_ratio if compression else None,
        backbone_ratio=compression.reached_backbone_ratio if compression else None,
        parameters=network.parameters,
        nonzero_parameters=network.nonzero_parameters,
        macs=network.macs,
        eer_before=_over_folds([result.accuracy for result in networks]),
        eer_validation=_over_folds([result.validation for result in networks]),
        **known,  # type: ignore[arg-type]
    )


def _over_folds(accuracies: Sequence[Accuracy | None]) -> Estimate | None:
    """One fold: its figure with the interval over subjects. Several: mean and standard deviation over folds."""
    eers = [a.verification.eer for a in accuracies if a is not None and a.verification is not None]
    if len(eers) < len(accuracies) or not eers:
        return None
    if len(eers) == 1:
        return eers[0]
    mean = sum(eer.value for eer in eers) / len(eers)
    spread = (sum((eer.value - mean) ** 2 for eer in eers) / (len(eers) - 1)) ** 0.5
    return Estimate(value=mean, low=mean - spread, high=mean + spread)


def _timing(result: CellResult, summary: Summary | None, device: DeviceFacts) -> Timing:
    return Timing(
        device=result.cell.device_id,
        runtime=result.cell.choice.runtime,
        is_emulated=device.is_emulated,
        p50_ns=summary.p50_ns if summary else None,
        p50_low_ns=summary.p50_low_ns if summary else None,
        p50_high_ns=summary.p50_high_ns if summary else None,
        peak_memory_bytes=summary.peak_memory_bytes if summary else None,
        evidence=evidence(result, device),
    )


def _problem(outcome: Failure | NotRunnable | None) -> str | None:
    if isinstance(outcome, Failure):
        return outcome.message
    return outcome.reason if isinstance(outcome, NotRunnable) else None
