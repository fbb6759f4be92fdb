"""A picture grid of the drawn eyes, for the README and for whoever doubts them: a row a subject, two images a session.

    .venv/bin/python scripts/eyes.py

Of the same people and at the same size as in the small ocular study. Writes reports/baselines/pictures/eyes.png.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from matplotlib import image

from harness.catalog.datasets import open_dataset
from harness.study.profiles import PROFILES

TO: Final = Path(__file__).resolve().parents[1] / "reports/baselines/pictures/eyes.png"
SUBJECTS: Final = 6
ENLARGED: Final = 2
GAP: Final = 4


def main() -> None:
    """Draw the first subjects of the study."""
    profile = PROFILES["small"]
    dataset = open_dataset(profile.data, size=profile.size)
    pixels = np.load(dataset.pixels, mmap_mode="r")
    rows = []
    for subject in range(SUBJECTS):
        places = np.flatnonzero(dataset.subject == subject)
        places = places[np.argsort(dataset.session[places], kind="stable")]
        enlarged = pixels[places].repeat(ENLARGED, axis=1).repeat(ENLARGED, axis=2)
        framed = np.pad(enlarged, ((0, 0), (GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255)
        rows.append(np.concatenate(framed, axis=1))
    TO.parent.mkdir(parents=True, exist_ok=True)
    image.imsave(TO, np.concatenate(rows))


if __name__ == "__main__":
    main()
