"""A disk of 64 KiB, for real: a tmpfs in a mount namespace of its own, so that it needs no root and leaves nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from functools import cache
from pathlib import Path

import pytest

DISK_BYTES = 64 * 1024
_MOUNT = f'mount -t tmpfs -o size={DISK_BYTES} none "$1" && '


def run_on_a_tiny_disk(script: str, folder: Path) -> str:
    """Run Python lines in which `disk` is an empty folder on the tiny disk.

    Args:
        script: May import from harness and from tests.
        folder: An empty folder, over which the disk is mounted.

    Returns:
        What the script printed. It fails the test where the script fails, and skips it where nobody may mount.
    """
    if not _can_mount():
        pytest.skip("neither root nor a user namespace may mount a tmpfs here")
    program = "import sys\nfrom pathlib import Path\ndisk = Path(sys.argv[1])\n" + textwrap.dedent(script)
    ended = subprocess.run(
        [*_namespace(), "sh", "-c", f'{_MOUNT} exec "$2" -c "$3" "$1"', "sh", str(folder), sys.executable, program],
        cwd=Path(__file__).resolve().parents[2],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def _namespace() -> list[str]:
    return ["unshare", "--user", "--map-root-user", "--mount"]


@cache
def _can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run(
        [*_namespace(), "sh", "-c", f"{_MOUNT} true", "sh", "/mnt"], check=False, capture_output=True, timeout=10
    )
    return tried.returncode == 0
