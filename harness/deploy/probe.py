"""Import one runtime in a process of its own and say what answers: `python -m harness.deploy.probe onnxruntime`."""

from __future__ import annotations

import sys

import msgspec

from harness.deploy.worker.session import RUNTIMES, runtime_module
from harness.records import Record


class Answer(Record, frozen=True, kw_only=True):
    """What a runtime says of itself."""

    version: str
    library: str | None
    accelerators: tuple[str, ...] | None
    """Execution providers or delegates, in the runtime's own words; None where it has no such list."""


def probe(runtime: str) -> Answer:
    """Import a runtime, here and now."""
    module = runtime_module(runtime)
    version = module.version()
    accelerators = None
    if runtime == "onnxruntime":
        import onnxruntime  # noqa: PLC0415  (heavy)

        accelerators = tuple(onnxruntime.get_available_providers())
    return Answer(version=version, library=module.library(), accelerators=accelerators)


if __name__ == "__main__":
    if sys.argv[1:2] == [] or sys.argv[1] not in RUNTIMES:
        sys.exit(f"usage: python -m harness.deploy.probe {'|'.join(RUNTIMES)}")
    sys.stdout.buffer.write(msgspec.json.encode(probe(sys.argv[1])))
