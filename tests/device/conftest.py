from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.device.host import HostDevice

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostDevice:
    """This machine, its work folder in an empty place."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return HostDevice()
