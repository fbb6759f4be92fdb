"""Files of this project's git repository as they were at another commit, beside and not in place of those that are."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

from harness.errors import MissingTool, UsageError
from harness.workspace import cache_dir, folder_in_the_making

_TIMEOUT_S = 300.0


def files_at(ref: str) -> Path:
    """The whole tree of a commit, as a folder in the cache. The working tree stays as it is.

    Args:
        ref: A branch, tag or commit.

    Raises:
        MissingTool: git is not installed.
        UsageError: There is no repository here, or no such commit in it (in CI: not fetched).
    """
    commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}", of=ref).decode().strip()
    folder = cache_dir().absolute() / "refs" / commit
    if not folder.is_dir():
        # --full-tree is what `git archive` does at the top only.
        top = _git("rev-parse", "--show-toplevel", of=ref).decode().strip()
        content = _git("-C", top, "archive", "--format=tar", commit, of=ref)
        with folder_in_the_making(folder) as making, tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(making, filter="data")
    return folder


def path_at(path: Path, ref: str) -> Path:
    """Where a file of the working tree is among the files of a commit.

    Raises:
        MissingTool, UsageError: As `files_at`; the file is outside the repository, or was not there.
    """
    top = Path(_git("rev-parse", "--show-toplevel", of=ref).decode().strip())
    absolute = path.absolute()
    if not absolute.is_relative_to(top):
        raise UsageError(f"{path} is not in the repository {top}, so there is none at {ref}")
    there = files_at(ref) / absolute.relative_to(top)
    if not there.exists():
        raise UsageError(f"{path} did not exist at {ref}")
    return there


def _git(*arguments: str, of: str) -> bytes:
    git = shutil.which("git")
    if git is None:
        raise MissingTool("git", f"the files at {of}", "apt-get install git")
    done = subprocess.run(
        (git, *arguments), stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_TIMEOUT_S
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise UsageError(f"git has no files at {of}: {said or 'there is no such commit here'}")
    return done.stdout
