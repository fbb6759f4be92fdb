"""Noise that was recorded on a shared machine, for tests of what decides in spite of it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

_FILE = Path(__file__).resolve().parent.parent / "data" / "recorded_noise.json"
_RECORDED = msgspec.json.decode(_FILE.read_bytes())

AA_TRIALS: Final[list[float]] = _RECORDED["aa_trial_log_ratios"]
"""Log ratios of 400 trials of a build with itself."""
PROCESS_MEDIANS: Final[list[float]] = _RECORDED["process_medians_ms"]
"""Medians of 1,000 processes, one after the other, in ms."""
