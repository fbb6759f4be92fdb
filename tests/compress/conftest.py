from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from harness.records import BuiltinSource, InputSpec, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Squares:
    """Four classes of noisy images, told apart by their brightness."""

    labels: NDArray[np.int64]
    pixels: NDArray[np.float32]

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.pixels[indices]


@pytest.fixture(scope="session")
def squares() -> Squares:
    labels = np.arange(48) % 4
    noise = np.random.default_rng(5).standard_normal((48, 3, 32, 32)).astype(np.float32)
    return Squares(labels, 0.3 * noise + labels[:, None, None, None].astype(np.float32) - 1.5)


@pytest.fixture
def spec() -> ModelSpec:
    return ModelSpec(
        schema=1,
        name="small",
        source=BuiltinSource(network="resnet10_w32", arguments={"num_classes": 4, "embedding": 16}),
        inputs=(InputSpec(name="images", shape=(1, 3, 32, 32)),),
    )


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HARNESS_CACHE", str(shared_cache))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
