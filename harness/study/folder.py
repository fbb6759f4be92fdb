"""What a study keeps in its folder, each file written once and whole, so that a killed study goes on where it was.

study.json                      what it set out to do
fold-0/trained/<variant>/       each network with its classifier
fold-0/models/<variant>/        each network as it is deployed: an ordinary model
fold-0/networks/<variant>.json  `NetworkResult`
fold-0/files/<variant>.<format>.<precision>.json   `FileResult`
runs/<device>/                  an ordinary run: what was measured, and the accuracies of its files beside it
report.html, .md, .json, *.svg, *.png   made again from the others whenever asked
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

import msgspec

from harness.decoding import decode
from harness.errors import UnreadableRecord, UsageError
from harness.records import (
    Accuracy,
    Artifact,
    Compression,
    Failure,
    ModelFormat,
    NotRunnable,
    Precision,
    Record,
)
from harness.store import StoredRun
from harness.study.profiles import Profile  # noqa: TC001  (msgspec reads the annotation)
from harness.study.variants import Variant, variants_of
from harness.workspace import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

STUDY_SCHEMA = 1


class Study(Record, frozen=True, kw_only=True):
    """What a study sets out to do."""

    schema: int
    created_at: str
    harness_version: str
    profile: Profile
    data: str
    """As `open_dataset` reads it."""
    dataset: str
    """Its name, as tables show it."""
    is_synthetic: bool
    dataset_sha256: str = ""

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Its networks, parents before children."""
        return variants_of(self.profile)


class NetworkResult(Record, frozen=True, kw_only=True):
    """One trained network, before any conversion."""

    schema: int
    variant: Variant
    parameters: int | None
    """Of what is deployed: the classifier is not counted."""
    nonzero_parameters: int
    macs: int | None
    compression: Compression | None
    accuracy: Accuracy | None
    """On the subjects that nothing is trained on or chosen by."""
    validation: Accuracy | None = None
    """On those by which networks are chosen, who are not trained on either."""
    problem: Failure | None = None
    """Why there is no accuracy."""


class FileResult(Record, frozen=True, kw_only=True):
    """One converted file, or why there is none, and what it still recognises."""

    schema: int
    variant: Variant
    format: ModelFormat
    precision: Precision
    artifact: Artifact | None
    accuracy: Accuracy | None
    problem: Failure | NotRunnable | None = None
    """Why there is no file, or no accuracy of it."""


_Kept = TypeVar("_Kept", Study, NetworkResult, FileResult)


class StudyFolder:
    """A study on disk.

    Attributes:
        path: The folder.
        study: What it set out to do.
    """

    def __init__(self, path: Path, study: Study) -> None:
        self.path, self.study = path, study

    @classmethod
    def begin(cls, path: Path, study: Study) -> StudyFolder:
        """Begin a study, or go on with the one that is there.

        Raises:
            UsageError: The one that is there is another one.
        """
        if not (path / "study.json").exists():
            write_atomically(path / "study.json", msgspec.json.format(msgspec.json.encode(study), indent=1))
        there = cls.open(path)
        for field in ("profile", "data", "dataset", "dataset_sha256"):
            if getattr(there.study, field) != getattr(study, field):
                raise UsageError(
                    f"{path} holds a study with another {field}; take another --output, or delete that folder"
                )
        return there

    @classmethod
    def open(cls, path: Path) -> StudyFolder:
        """Read what is there.

        Raises:
            UnreadableRecord: There is no study, or it is damaged.
        """
        return cls(path, _read(path / "study.json", Study))

    def fold(self, fold: int) -> Path:
        """Where the networks of a fold are."""
        return self.path / f"fold-{fold}"

    def run(self, device: str) -> Path:
        """Where the run on a device is, or will be."""
        return self.path / "runs" / re.sub(r"[^A-Za-z0-9._-]+", "-", device)

    def runs(self) -> tuple[StoredRun, ...]:
        """What was measured, complete or not, by device."""
        return tuple(StoredRun.open(path.parent) for path in sorted(self.path.glob("runs/*/plan.json")))

    def network(self, variant: Variant, fold: int) -> NetworkResult | None:
        """What is known of a network; None before it was evaluated."""
        return self._find(self._network_path(variant, fold), NetworkResult)

    def file(self, variant: Variant, fold: int, model_format: ModelFormat, precision: Precision) -> FileResult | None:
        """What is known of a file; None before it was evaluated."""
        return self._find(self._file_path(variant, fold, model_format, precision), FileResult)

    def keep(self, result: NetworkResult | FileResult, fold: int) -> None:
        """Write a result, whole or not at all."""
        path = (
            self._network_path(result.variant, fold)
            if isinstance(result, NetworkResult)
            else self._file_path(result.variant, fold, result.format, result.precision)
        )
        write_atomically(path, msgspec.json.format(msgspec.json.encode(result), indent=1))

    def _network_path(self, variant: Variant, fold: int) -> Path:
        return self.fold(fold) / "networks" / f"{variant.name}.json"

    def _file_path(self, variant: Variant, fold: int, model_format: ModelFormat, precision: Precision) -> Path:
        return self.fold(fold) / "files" / f"{variant.name}.{model_format}.{precision}.json"

    def _find(self, path: Path, kind: type[_Kept]) -> _Kept | None:
        return _read(path, kind) if path.exists() else None


def require_own(path: Path) -> None:
    """Raise UsageError where a study would be written into a folder that holds something else."""
    if path.is_dir() and not (path / "study.json").exists() and any(path.iterdir()):
        raise UsageError(f"{path} is not empty and holds no study: give a new folder with --output, or empty that one")


def _read(path: Path, kind: type[_Kept]) -> _Kept:
    try:
        return decode(path.read_bytes(), kind)
    except FileNotFoundError:
        raise UnreadableRecord(str(path.parent), "there is no study here (study.json is missing)") from None
    except msgspec.MsgspecError as error:
        raise UnreadableRecord(str(path), f"damaged: {error}") from error
