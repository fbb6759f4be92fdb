"""Benchmark neural networks on devices: convert, prove, push, time, report.

From Python, a stored run is read with `load`:

    >>> import harness
    >>> run = harness.load("reports/nightly")  # doctest: +SKIP
    >>> run.frame()  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from harness.run import Run

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def load(folder: str | Path) -> Run:
    """Read a stored run, complete or not.

    Args:
        folder: The run's folder, as `harness run` printed it.

    Raises:
        UnreadableRecord: The folder holds no run, a damaged one, or one written by a newer version.
    """
    # Imported here so that `harness --help` does not pay for the record machinery.
    from harness.run import Run  # noqa: PLC0415

    return Run.open(folder)
