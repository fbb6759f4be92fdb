from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.catalog.checkpoint import make_checkpoint
from harness.convert.convert import make_artifact

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.records import Artifact, ModelFormat, ModelSpec, Precision

    Make = Callable[[ModelSpec, ModelFormat, Precision], Artifact]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache for all tests here, so that each conversion is paid for once; children find `tests.fakes`."""
    monkeypatch.setenv("HARNESS_CACHE", str(shared_cache))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def make() -> Make:
    def made(spec: ModelSpec, model_format: ModelFormat, precision: Precision) -> Artifact:
        return make_artifact(spec, make_checkpoint(spec), model_format, precision)

    return made
