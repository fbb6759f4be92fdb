"""Where things are: the cache, the built-in data, the user's own folders, and files that appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import DeviceFull, UnwritableFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGE = Path(__file__).resolve().parent


def cache_dir() -> Path:
    """Converted files and checkpoints, by content. `HARNESS_CACHE` moves it; deleting it costs only time."""
    chosen = os.environ.get("HARNESS_CACHE")
    if chosen:
        return Path(chosen)
    from platformdirs import user_cache_path  # noqa: PLC0415  (8 ms that --help need not pay)

    return user_cache_path("inference-harness", appauthor=False)


def config_dir() -> Path:
    """What the user told this program once and for all. `HARNESS_CONFIG` moves it."""
    chosen = os.environ.get("HARNESS_CONFIG")
    if chosen:
        return Path(chosen)
    from platformdirs import user_config_path  # noqa: PLC0415  (as above)

    return user_config_path("inference-harness", appauthor=False)


def builtin_dir(name: str) -> Path:
    """The folder `models` or `device_profiles` that came with the program: in a checkout, or in an installed wheel."""
    installed = _PACKAGE / "builtin" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def data_dirs(name: str) -> tuple[Path, ...]:
    """The user's own folder of this name first, where there is one, then the built-in one."""
    own, builtin = Path.cwd() / name, builtin_dir(name)
    return (own, builtin) if own.is_dir() and own.resolve() != builtin.resolve() else (builtin,)


def require_writable(folder: Path, *, chosen_by: str = "--output") -> None:
    """Make a folder and a file in it, to know before anything slow that it can be done.

    Args:
        folder: That is to be written.
        chosen_by: The option or variable that chooses another one.

    Raises:
        UnwritableFolder: It cannot.
        DeviceFull: There is no space.
    """
    try:
        write_atomically(folder / ".writable", b"")
        (folder / ".writable").unlink()
    except OSError as error:
        raise UnwritableFolder(str(folder), error.strerror or str(error), chosen_by) from error


def require_cache() -> None:
    """See before anything slow that the cache can be written. Raises what `require_writable` raises."""
    require_writable(cache_dir(), chosen_by="HARNESS_CACHE")


def require_output(folder: Path, *, chosen_by: str = "--output") -> None:
    """See before anything slow that a folder can be made and written, and leave nothing behind.

    Arguments and errors as for `require_writable`.
    """
    missing = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
    try:
        require_writable(folder, chosen_by=chosen_by)
    finally:
        for each in missing:  # the innermost first; what somebody has put something into stays
            with suppress(OSError):
                each.rmdir()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_tree(path: Path) -> str:
    """SHA-256 of a file; of a folder, SHA-256 over the names and digests of all files in it."""
    if not path.is_dir():
        return sha256_file(path)
    digest = hashlib.sha256()
    for file in sorted(found for found in path.rglob("*") if found.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()} {sha256_file(file)}\n".encode())
    return digest.hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is either the old one or the whole new one, also after a crash or on a full disk.

    Raises:
        DeviceFull: There is no space; nothing is left behind.
        OSError: It cannot be written; `filename` is `path`.
    """
    temporary = _temporary_beside(path)
    try:
        with _space_for(path, len(content)):
            _make_folder(path.parent)
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # the name that somebody chose, not the temporary file's or a folder's
        raise


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        # "File exists" would be said of the file that was to be made.
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from error


@contextmanager
def folder_in_the_making(final: Path) -> Iterator[Path]:
    """Fill a folder beside `final`, which takes that name only when the block ends well.

    Two processes may make the same folder at once; the first one to finish wins, and both then read the same content.

    Raises:
        DeviceFull: There is no space; nothing is left behind.
        OSError: It cannot be made; `filename` is `final`.
    """
    making = _temporary_beside(final)
    try:
        with _space_for(final, None):
            try:
                making.mkdir(parents=True)
            except OSError as error:
                error.filename = str(final)  # the name that somebody chose, as in `write_atomically`
                raise
            yield making
            try:
                making.rename(final)
            except OSError as error:
                if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                    error.filename = str(final)
                    raise
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _temporary_beside(path: Path) -> Path:
    # Not by tempfile, whose files and folders only their owner may read: reports are made to be shared.
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


@contextmanager
def _space_for(path: Path, size_bytes: int | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DeviceFull("this machine", str(path), size_bytes) from error
        raise
