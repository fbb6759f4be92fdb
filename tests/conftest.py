"""How the tests are spread over processes (pytest-xdist, `--dist loadgroup`), and leases of their own."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


DEAR_GROUPS = (
    "virtual",
    *(f"coreml-{name}" for name in ("densenet121", "resnet50", "light_cnn29", "")),
    *("tests/study/test_study.py", "tests/test_demonstration.py", "tests/report/test_browser.py"),
)
"""The beginnings of the names of groups that take minutes, by `--durations`, the dearest first."""

# A time limit on an example would be a test of how busy the machine is.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

# A shell starts its background jobs without Ctrl-C, and so would every program be that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests stay together, for their fixtures are dear; so do all that use the one virtual device."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            shares_a_device = "virtual" in getattr(item, "fixturenames", ())
            item.add_marker(pytest.mark.xdist_group("virtual" if shares_a_device else item.nodeid.partition("::")[0]))
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    """What takes minutes goes first: begun last, one process would do it while the others have nothing left."""
    marker = item.get_closest_marker("xdist_group")
    group = marker.args[0] if marker is not None else ""
    return next((rank for rank, dear in enumerate(DEAR_GROUPS) if group.startswith(dear)), len(DEAR_GROUPS))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Without groups everything passes as well, and takes half as long again."""
    wanted = getattr(session.config.option, "loadgroup", False)
    if wanted and not all("@" in item.nodeid for item in session.items):
        raise pytest.UsageError("pytest-xdist did not group the tests: is there a pytest that it does not know?")


@pytest.fixture(scope="session", autouse=True)
def temporary_folder() -> Iterator[None]:
    """Goes with what coremltools leaves in the system's when its process is not left by the front door."""
    with tempfile.TemporaryDirectory(prefix="harness-tests-") as folder, pytest.MonkeyPatch.context() as patch:
        Path(folder).chmod(0o755)  # a test becomes other users
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture(scope="session", autouse=True)
def leases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Other runs on this machine, tests in other processes above all, do not keep us from its devices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_LEASES", str(tmp_path_factory.mktemp("leases")))
        yield
