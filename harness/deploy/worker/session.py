"""The seam between the timed loop and a runtime: one file a runtime, with a class that looks like this."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

from harness.records import PlacedNode  # noqa: TC001  (a dataclass's annotation)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from harness.records import RuntimeChoice, Setting, TensorSpec

RUNTIMES = {
    "onnxruntime": "harness.deploy.worker.onnxruntime_session",
    "litert": "harness.deploy.worker.litert_session",
    "coreml": "harness.deploy.worker.coreml_session",
}
"""Runtime -> the module that speaks to it. A new runtime is a file and a line here."""

SAME_ANSWER = 1e-3
"""By which share of the largest value two runs in single precision differ at most: threads add in another order."""


class JobRefused(Exception):
    """The job cannot be done as it was asked; told to the parent as an `error` message."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind, self.message = kind, message


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Which node runs where. Unknown is None."""

    nodes_by_accelerator: dict[str, int]
    nodes_total: int | None
    nodes_delegated: int | None
    partitions: int | None
    fallback_reason: str | None = None
    nodes: tuple[PlacedNode, ...] = ()
    """Each of them, where the runtime has a plan."""
    missing: str | None = None
    """Why it is not known, from a runtime that tells it elsewhere."""


class Session(Protocol):
    """A loaded model, ready to run."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    graph_optimization: str | None
    same_answer: float
    """By which share of the largest value two runs on one input may differ."""

    def set_inputs(self, arrays: Sequence[NDArray[np.generic]]) -> None:
        """Put one sample, batch dimension included, where the runtime reads it. It stays there."""
        ...

    def invoke(self) -> None:
        """Run once, and return when the outputs are there. The only thing that is timed."""
        ...

    def read_outputs(self) -> list[NDArray[np.generic]]:
        """A copy of what the last `invoke` computed, batch dimension included."""
        ...

    def placement(self) -> Placement:
        """What the runtime says of where its nodes run. Asked for after the first inference: it may take a while."""
        ...


@runtime_checkable
class SaysSettings(Protocol):
    """A session that knows more of what it set up than `Session` asks for."""

    def settings(self) -> dict[str, Setting]:
        """What was set up, by the runtime's own words."""
        ...


@runtime_checkable
class SaysLoad(Protocol):
    """A session whose opening holds work that is not the runtime's."""

    @property
    def load_ns(self) -> int:
        """What the runtime itself took."""
        ...


@runtime_checkable
class SaysTimings(Protocol):
    """A session that knows of what the time of its loading is made."""

    def timings_ns(self) -> dict[str, int]:
        """Each part, and what else tells about loading. May load once more: asked for after the first inference."""
        ...


class RuntimeModule(Protocol):
    """What a file in `RUNTIMES` offers."""

    API: str

    def version(self) -> str:
        """The runtime's version, asked from the runtime. Imports it."""
        ...

    def library(self) -> str | None:
        """Path of its shared library."""
        ...

    def open_session(self, model: str, choice: RuntimeChoice) -> Session:
        """Load a model.

        Raises:
            JobRefused: The file cannot be read, an op is not supported, or the accelerator is not there.
        """
        ...


def runtime_module(name: str) -> RuntimeModule:
    """The module of a runtime.

    Raises:
        JobRefused: There is none of that name.
    """
    if name not in RUNTIMES:
        kind, problem = "unknown_name", f"this program knows the runtimes {', '.join(RUNTIMES)}, not {name!r}"
        raise JobRefused(kind, problem)
    return cast("RuntimeModule", import_module(RUNTIMES[name]))
