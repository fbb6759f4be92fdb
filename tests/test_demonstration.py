"""The demonstration of the gate, in its short form."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts" / "demonstrate_gate.py"


def test_a_slower_build_fails_the_same_one_passes_and_an_unlike_run_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--short"],
        env=os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") == 3
