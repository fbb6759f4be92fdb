from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from harness.regress.history.revision import checked_out, own_commit

if TYPE_CHECKING:
    from pathlib import Path


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "-b", "main", "tree")
    folder = tmp_path / "tree"
    git(folder, "commit", "-q", "--allow-empty", "-m", "first")
    return folder


def test_the_commit_is_what_git_says(tree: Path) -> None:
    (tree / "deep" / "er").mkdir(parents=True)

    assert checked_out(tree / "deep" / "er") == git(tree, "rev-parse", "HEAD")


def test_packed_and_detached_and_linked_trees_too(tree: Path) -> None:
    git(tree, "pack-refs", "--all")
    head = git(tree, "rev-parse", "HEAD")
    assert checked_out(tree) == head

    git(tree, "worktree", "add", "-q", "-b", "side", "../linked")
    git(tree.parent / "linked", "commit", "-q", "--allow-empty", "-m", "second")
    assert checked_out(tree.parent / "linked") == git(tree.parent / "linked", "rev-parse", "HEAD") != head

    git(tree, "checkout", "-q", "--detach")
    assert checked_out(tree) == head


def test_where_there_is_none_it_is_unknown(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "empty")

    assert checked_out(tmp_path / "empty") is None
    (tmp_path / "broken" / ".git").mkdir(parents=True)
    assert checked_out(tmp_path / "broken") is None


def test_an_installed_package_has_no_commit_although_it_lies_in_a_repository(tree: Path) -> None:
    (tree / "site-packages").mkdir()

    assert own_commit(tree / "site-packages") is None
    assert own_commit(tree) == git(tree, "rev-parse", "HEAD")
