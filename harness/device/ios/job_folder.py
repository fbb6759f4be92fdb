"""The two folders that host and app exchange, below the app's `Documents`.

    models/ inputs/             what is deployed, named by content; the app checks every digest before it runs a job
    receipts/RECEIPT            empty: the app has checked a deployed item, so it need not be sent again
    jobs/ID/job.json            a `JobFile`
    jobs/ID/ready               SHA-256 of job.json; sent last, so that half a job is never taken for one
    results/.ID.partial/        what the app is writing
    results/ID/                 the same, renamed when complete
    results/ID/messages.ndjson  the words of `harness.protocol`
    results/ID/outputs/         the files that its `outputs` message names
    results/ID/done.json        a `Done`: how the job ended, and the digest of every other file there

No client of AFC or of CoreDevice can compute a digest on the phone or rename a file there. So intact arrival is proved
by the app (job) and by the host (result), and a name that appears last stands for completeness.
"""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

import msgspec

from harness.decoding import decode
from harness.errors import RunnerUnreadable
from harness.protocol import Job  # noqa: TC001  (msgspec reads the annotation)
from harness.records import Record
from harness.workspace import sha256_file

JOB_SCHEMA = 1
DOCUMENTS = PurePosixPath("/Documents")


class SentFile(Record, frozen=True, kw_only=True):
    """One file, as its sender read it."""

    path: str
    """Relative to `Documents` in a job, to the result folder in a result."""
    sha256: str
    size_bytes: int


class SentItem(Record, frozen=True, kw_only=True):
    """A deployed file or package with all its files."""

    path: str
    receipt: str
    files: tuple[SentFile, ...]


class JobFile(Record, frozen=True, kw_only=True):
    """A job.json. An app that finds another `schema`, or a key that it does not know, refuses the job."""

    schema: int
    id: str
    job: Job | None
    """Paths in it are absolute below `/Documents`. None: say only in which state the phone is."""
    items: tuple[SentItem, ...]


class AppState(Record, frozen=True, kw_only=True):
    """What the app reads of its phone. Source: Foundation's ProcessInfo, UIKit's UIDevice."""

    at: str
    thermal_state: str
    """nominal, fair, serious or critical; "unknown" for one that this app does not know."""
    low_power_mode: bool
    battery_pct: float | None
    charging: bool | None
    free_memory_bytes: int | None
    """os_proc_available_memory: what this app may still take."""
    memory_bytes: int | None
    processors: int | None
    os: str
    os_build: str | None
    product: str
    """The machine's own name, `iPhone11,8`."""
    app_version: str | None


class Done(Record, frozen=True, kw_only=True):
    """A done.json."""

    schema: int
    id: str
    returncode: int
    """0 when the last message is `end`; 1 after an `error` message; 70 when the app was ended in the middle."""
    last_words: str
    before: AppState | None
    after: AppState | None
    files: tuple[SentFile, ...]


def describe(local: Path, remote: PurePosixPath) -> SentItem:
    """A file or folder with the digests of all files in it.

    Args:
        local: What is to be sent.
        remote: Its name there, below `DOCUMENTS`.
    """
    below = remote.relative_to(DOCUMENTS)
    paths = sorted(path for path in local.rglob("*") if path.is_file()) if local.is_dir() else [local]
    files = tuple(
        SentFile(
            path=(below / path.relative_to(local).as_posix()).as_posix() if local.is_dir() else below.as_posix(),
            sha256=sha256_file(path),
            size_bytes=path.stat().st_size,
        )
        for path in paths
    )
    return SentItem(path=below.as_posix(), receipt=_receipt(files), files=files)


def write_job(folder: Path, job: JobFile) -> tuple[Path, Path]:
    """Write job.json and ready into a folder; returns both, in the order in which they have to be sent."""
    folder.mkdir(parents=True, exist_ok=True)
    content = msgspec.json.format(msgspec.json.encode(job), indent=1)
    job_file, ready = folder / "job.json", folder / "ready"
    job_file.write_bytes(content)
    ready.write_text(hashlib.sha256(content).hexdigest(), encoding="ascii")
    return job_file, ready


def read_result(folder: Path, job_id: str, device_id: str) -> Done:
    """What a result folder says, after every byte in it has been checked.

    Raises:
        RunnerUnreadable: A file is missing, cut short or changed, or `done.json` is of another job or version.
    """
    path = folder / "done.json"
    try:
        done = decode(path.read_bytes(), Done)
    except (OSError, msgspec.DecodeError) as error:
        raise RunnerUnreadable(device_id, "done.json", str(error)) from None
    if done.schema != JOB_SCHEMA:
        problem = f"the app writes version {done.schema}, this program reads version {JOB_SCHEMA}"
        raise RunnerUnreadable(device_id, "done.json", problem)
    if done.id != job_id:
        raise RunnerUnreadable(device_id, "done.json", f"it is the result of job {done.id}, not of {job_id}")
    for file in done.files:
        if PurePosixPath(file.path).is_absolute() or ".." in PurePosixPath(file.path).parts:
            raise RunnerUnreadable(device_id, file.path, "a result may name files of its own folder only")
        local = folder / file.path
        size = local.stat().st_size if local.is_file() else None
        if size != file.size_bytes:
            found = "is not there" if size is None else f"has {size:,} bytes"
            raise RunnerUnreadable(device_id, file.path, f"it {found}, the app wrote {file.size_bytes:,} bytes")
        if sha256_file(local) != file.sha256:
            raise RunnerUnreadable(device_id, file.path, "other bytes arrived than the app wrote")
    return done


def _receipt(files: tuple[SentFile, ...]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.path} {file.size_bytes} {file.sha256}\n".encode())
    return digest.hexdigest()
