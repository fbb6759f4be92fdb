"""A campaign on disk: a plan that is fixed before its first comparison, and what was done of it.

    plan.json                     which comparisons, in which order; what is compared; on which machine
    session-<time>-<pid>.ndjson   one comparison a line, each written as it ends; `.ndjson.gz` is read as well

A campaign that is killed goes on where it was, and several sessions may add to one, one after the other. Raw values are
kept; every verdict is computed when it is shown.
"""

from __future__ import annotations

import gzip
import os
import random
import zlib
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from harness.decoding import decode
from harness.errors import RunLocked, UnreadableRecord, UnwritableFolder, UsageError
from harness.records import Record, RuntimeChoice
from harness.regress.selftest.scenario import Scenario  # noqa: TC001  (msgspec reads the annotation)
from harness.workspace import write_atomically

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

CAMPAIGN_SCHEMA: Final = 1
VALUES_A_PROCESS: Final = 24
"""Means of consecutive inferences that are kept of each process, for the rules of other tools."""


class Subject(Record, frozen=True, kw_only=True):
    """What is compared, and where: in all of this the sessions of a campaign have to agree."""

    model: str
    artifact_sha256: str
    choice: RuntimeChoice
    library_sha256: str
    machine: str
    harness_version: str
    code_sha256: str
    """Of what times and compares: another one may measure otherwise under the same version."""


class CampaignPlan(Record, frozen=True, kw_only=True):
    """What a campaign sets out to do."""

    schema: int
    created_at: str
    seed: int
    scenarios: tuple[Scenario, ...]
    trials: int
    """Of each comparison."""
    lanes: int = 1
    """So many comparisons at once; where it is more than one, each on a processor of its own."""
    subject: Subject
    baseline_ns: float
    """An inference of the unchanged build when the campaign was planned: what a dose is a share of."""
    baseline_cold_ns: float
    baseline_memory_bytes: int | None

    @property
    def order(self) -> tuple[int, ...]:
        """Comparison -> its scenario. Shuffled, so that quiet and loud hours fall on all scenarios alike."""
        every = [place for place, scenario in enumerate(self.scenarios) for _ in range(scenario.comparisons)]
        random.Random(self.seed).shuffle(every)  # noqa: S311  (no secret)
        return tuple(every)


class TrialValues(Record, frozen=True, kw_only=True):
    """One trial as it was measured."""

    log_ratios: dict[str, float]
    """Metric -> log(B / A), by `harness.regress.trials`; one that was not measured or was disturbed is not there."""
    a_ns: tuple[int, ...] = ()
    """Means of consecutive timed inferences of A's process, in order."""
    b_ns: tuple[int, ...] = ()


class Done(Record, frozen=True, kw_only=True):
    """One comparison as it was measured."""

    schema: int
    index: int
    """Its place in the plan's order."""
    at: str
    seconds: float
    load_1min: float
    lane: int = 0
    """Which of the plan's lanes made it."""
    trials: tuple[TrialValues, ...]


class Damage(NamedTuple):
    """A line that was left out, and why."""

    where: str
    problem: str


class Campaign:
    """A stored campaign.

    Attributes:
        folder: Where it is.
        plan: What it set out to do.
        done: What is done, in the order of time, each comparison once.
        damaged: Lines that could not be read; those comparisons are done again.
    """

    def __init__(self, folder: Path, plan: CampaignPlan, done: tuple[Done, ...], damaged: tuple[Damage, ...]) -> None:
        self.folder, self.plan, self.done, self.damaged = folder, plan, done, damaged

    @classmethod
    def open(cls, folder: Path) -> Campaign:
        """Read a campaign, complete or not.

        Raises:
            UnreadableRecord: There is none, its plan is damaged, or a newer version wrote it.
        """
        path = folder / "plan.json"
        try:
            plan = decode(path.read_bytes(), CampaignPlan)
        except FileNotFoundError:
            raise UnreadableRecord(str(folder), "there is no campaign here (plan.json is missing)") from None
        except (OSError, msgspec.DecodeError) as error:
            raise UnreadableRecord(str(path), f"damaged: {error}") from error
        if plan.schema > CAMPAIGN_SCHEMA:
            raise UnreadableRecord(str(path), f"written by a newer version (schema {plan.schema}); update")
        done, damaged = _read_sessions(folder, total=sum(one.comparisons for one in plan.scenarios))
        return cls(folder, plan, done, damaged)

    @property
    def left(self) -> tuple[int, ...]:
        """The comparisons that are still to be done, in order."""
        known = {one.index for one in self.done}
        return tuple(index for index in range(len(self.plan.order)) if index not in known)


def begin(folder: Path, plan: CampaignPlan) -> Campaign:
    """Store a new campaign's plan.

    Raises:
        UsageError: There is a campaign here already.
        UnwritableFolder: The folder cannot be written.
    """
    path = folder / "plan.json"
    if path.exists():
        raise UsageError(f"{folder}: a campaign is there already; it goes on without being planned again")
    try:
        write_atomically(path, msgspec.json.format(msgspec.json.encode(plan), indent=1))
    except OSError as error:
        raise UnwritableFolder(str(folder), error.strerror or str(error)) from error
    return Campaign.open(folder)


def require_same_subject(planned: Subject, found: Subject) -> None:
    """Refuse to add to a campaign what would be of another kind.

    Raises:
        UsageError: They differ; the message names each difference with both values.
    """
    if different := _differences(planned, found):
        raise UsageError(f"this campaign cannot go on here: {'; '.join(different)}; begin another one with --output")


def require_same_detector(campaigns: Sequence[Campaign]) -> None:
    """Refuse to count comparisons together that were made in different ways.

    Machines may differ, and with them the weights of an untrained network, which a seed does not settle to the last
    digit on every processor: each comparison is of builds on one machine, and what is counted is the comparison.

    Raises:
        UsageError: They differ in anything else; the message names each difference with both values.
    """
    first, *others = campaigns
    for other in others:
        different = _differences(first.plan.subject, other.plan.subject, but=("machine", "artifact_sha256"))
        if first.plan.trials != other.plan.trials:
            different.append(f"trials {first.plan.trials} and {other.plan.trials}")
        if different:
            raise UsageError(
                f"{first.folder} and {other.folder} are of different detectors and cannot be counted together: "
                f"{'; '.join(different)}; show each alone"
            )


def _differences(before: Subject, now: Subject, *, but: Collection[str] = ()) -> list[str]:
    pairs = [(name, getattr(before, name), getattr(now, name)) for name in before.__struct_fields__ if name not in but]
    return [f"{name} was {one!r} and is {other!r}" for name, one, other in pairs if one != other]


class Session:
    """Adds to one campaign, alone. Made by `session`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, done: Done) -> None:
        """Store one comparison, now.

        Raises:
            UnwritableFolder: It cannot be written. What was stored before is intact.
        """
        try:
            with self.path.open("ab") as file:
                file.write(msgspec.json.encode(done) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UnwritableFolder(str(self.path.parent), error.strerror or str(error)) from error


@contextmanager
def session(folder: Path) -> Iterator[Session]:
    """Hold a campaign for writing while the block lasts: two at once would do its comparisons twice.

    Raises:
        RunLocked: Another process adds to it.
        UnwritableFolder: The folder cannot be written.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415  (40 ms)

    lock = FileLock(folder / "campaign.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunLocked(str(folder)) from None
    except OSError as error:
        raise UnwritableFolder(str(folder), error.strerror or str(error)) from error
    try:
        yield Session(folder / f"session-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.ndjson")
    finally:
        lock.release()


def _read_sessions(folder: Path, *, total: int) -> tuple[tuple[Done, ...], tuple[Damage, ...]]:
    found: dict[int, Done] = {}
    damaged = []
    for path in sorted([*folder.glob("session-*.ndjson"), *folder.glob("session-*.ndjson.gz")]):
        try:
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        except (OSError, EOFError, zlib.error) as error:
            damaged.append(Damage(path.name, str(error)))
            continue
        for number, line in enumerate(content.splitlines(), start=1):
            try:
                done = decode(line, Done)
            except msgspec.DecodeError as error:
                damaged.append(Damage(f"{path.name}:{number}", str(error)))
                continue
            if done.schema > CAMPAIGN_SCHEMA or not 0 <= done.index < total:
                damaged.append(Damage(f"{path.name}:{number}", "not of this campaign, or of a newer version"))
            else:
                found.setdefault(done.index, done)
    return tuple(sorted(found.values(), key=lambda one: one.at)), tuple(damaged)
