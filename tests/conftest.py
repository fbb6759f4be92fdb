"""How the tests are shared between processes (pytest-xdist, `--dist loadgroup`)."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests stay together, for their fixtures are dear; so do all that use the one virtual device."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            shares_a_device = "virtual" in getattr(item, "fixturenames", ())
            item.add_marker(pytest.mark.xdist_group("virtual" if shares_a_device else item.nodeid.partition("::")[0]))
