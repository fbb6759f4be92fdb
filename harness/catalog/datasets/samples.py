"""What training and evaluation read: labelled images, a few at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Samples(Protocol):
    """Labelled images that are read when asked for."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class, or identity, of each sample: `[samples]`; how many there are is its size."""
        ...

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """The images of some samples, in the order asked for: `[len(indices), C, H, W]`."""
        ...
