"""Which commit is checked out, read from the files git keeps: no git has to be installed, and none is started."""

from __future__ import annotations

import re
from pathlib import Path

_SOURCE = Path(__file__).resolve().parents[3]
"""The folder that this package is in."""
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LINKS_MAX = 5
"""A symbolic reference that points to more than so many others is a loop."""


def own_commit(source: Path = _SOURCE) -> str | None:
    """The commit that this program's own source was taken from; None where it is installed and no working tree.

    Args:
        source: The folder that the package is in.
    """
    # An installed package may well lie in the working tree of somebody else's repository.
    return checked_out(source) if (source / ".git").exists() else None


def checked_out(folder: Path) -> str | None:
    """The commit of the working tree that `folder` is in.

    Returns:
        None outside of one, before the first commit, or where references are kept in a way this does not read.

    Source: gitrepository-layout(5).
    """
    for parent in (folder.absolute(), *folder.absolute().parents):
        if (parent / ".git").exists():
            try:
                return _head(_git_dir(parent / ".git"))
            except (OSError, UnicodeDecodeError):
                return None
    return None


def _git_dir(entry: Path) -> Path:
    """The folder itself; in a linked working tree, the one that its `.git` file names."""
    if entry.is_dir():
        return entry
    return entry.parent / entry.read_text(encoding="utf-8").removeprefix("gitdir:").strip()


def _head(git_dir: Path) -> str | None:
    common_file = git_dir / "commondir"
    common = git_dir / common_file.read_text(encoding="utf-8").strip() if common_file.exists() else git_dir
    content = (git_dir / "HEAD").read_text(encoding="utf-8").strip()
    for _ in range(_LINKS_MAX):
        if not content.startswith("ref:"):
            return content if _COMMIT.fullmatch(content) else None
        name = content.removeprefix("ref:").strip()
        loose = [path for path in (git_dir / name, common / name) if path.is_file()]
        content = loose[0].read_text(encoding="utf-8").strip() if loose else _packed(common / "packed-refs", name)
    return None


def _packed(path: Path, name: str) -> str:
    if not path.is_file():
        return ""
    for line in path.read_text(encoding="utf-8").splitlines():
        commit, _, found = line.partition(" ")
        if found == name:
            return commit
    return ""
