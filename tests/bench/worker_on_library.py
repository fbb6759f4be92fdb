"""The Python worker on the very library file that bench loads: what the two loops differ by, and nothing else.

    python -m tests.bench.worker_on_library RUNTIMES.so LIBRARY FLAGS...

The worker's own runtimes come with their Python packages, and those of ONNX Runtime's wheel are compiled a second time
into its Python module: the worker and bench then time two builds. Here `worker.__main__` with its loop, its processes
and its messages opens its session through bench's own `onnxruntime.c` or `litert.c`, as `RUNTIMES.so` made from them.
"""

from __future__ import annotations

import ctypes
import sys
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from harness.deploy.worker import __main__ as worker
from harness.deploy.worker.session import RUNTIMES, SAME_ANSWER, JobRefused, Placement
from harness.records import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from harness.records import RuntimeChoice

_Field = tuple[str, type]


class _Tensor(ctypes.Structure):
    """`struct tensor` of runtime.h."""

    _fields_: ClassVar[Sequence[_Field]] = [
        ("name", ctypes.c_char_p),
        ("dtype", ctypes.c_char_p),
        ("item_bytes", ctypes.c_size_t),
        ("rank", ctypes.c_size_t),
        ("shape", ctypes.c_int64 * 16),
        ("is_quantized", ctypes.c_bool),
        ("scale", ctypes.c_double),
        ("zero_point", ctypes.c_int64),
    ]


class _Choice(ctypes.Structure):
    """`struct choice` of runtime.h."""

    _fields_: ClassVar[Sequence[_Field]] = [
        ("runtime", ctypes.c_char_p),
        ("accelerator", ctypes.c_char_p),
        ("threads", ctypes.c_int),
        ("graph_optimization", ctypes.c_char_p),
        ("options", ctypes.c_void_p),
        ("option_count", ctypes.c_size_t),
        ("profile", ctypes.c_char_p),
    ]


class _Session(ctypes.Structure):
    """`struct session` of runtime.h; its placement, which nobody asks for here, is the room behind."""

    _fields_: ClassVar[Sequence[_Field]] = [
        ("state", ctypes.c_void_p),
        ("inputs", ctypes.POINTER(_Tensor)),
        ("input_count", ctypes.c_size_t),
        ("outputs", ctypes.POINTER(_Tensor)),
        ("output_count", ctypes.c_size_t),
        ("graph_optimization", ctypes.c_char_p),
        ("placement", ctypes.c_char * 4096),
    ]


class _Failure(ctypes.Structure):
    """`struct failure` of failure.h."""

    _fields_: ClassVar[Sequence[_Field]] = [("kind", ctypes.c_char_p), ("message", ctypes.c_char * 8192)]


_PASSED = ctypes.c_bool
_WHY = ctypes.POINTER(_Failure)
_TAKE = ctypes.CFUNCTYPE(_PASSED, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_INVOKE = ctypes.CFUNCTYPE(_PASSED, ctypes.c_void_p, _WHY)


class _Runtime(ctypes.Structure):
    """`struct runtime` of runtime.h, as far as it is used."""

    _fields_: ClassVar[Sequence[_Field]] = [
        ("name", ctypes.c_char_p),
        ("api", ctypes.c_char_p),
        ("load_library", ctypes.CFUNCTYPE(_PASSED, ctypes.c_char_p, ctypes.c_char_p, _WHY)),
        ("check_file", ctypes.c_void_p),
        (
            "open",
            ctypes.CFUNCTYPE(
                _PASSED, ctypes.POINTER(_Session), ctypes.c_char_p, ctypes.POINTER(_Choice), ctypes.POINTER(_Failure)
            ),
        ),
        ("read_placement", ctypes.c_void_p),
        (
            "set_input",
            ctypes.CFUNCTYPE(
                _PASSED, ctypes.POINTER(_Session), ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, _WHY
            ),
        ),
        ("invoke", _INVOKE),
        (
            "read_output",
            ctypes.CFUNCTYPE(_PASSED, ctypes.POINTER(_Session), ctypes.c_size_t, _TAKE, ctypes.c_void_p, _WHY),
        ),
    ]


class _OnLibrary:
    """A `Session` of the worker: calls of bench's table, as its own loop makes them."""

    graph_optimization = None
    same_answer = SAME_ANSWER

    def __init__(self, runtime: _Runtime, model: str, choice: RuntimeChoice) -> None:
        self._runtime, self._session, self._why = runtime, _Session(), _Failure()
        self._kept = _Choice(
            runtime=choice.runtime.encode(),
            accelerator=choice.accelerator.encode(),
            threads=choice.threads,
            graph_optimization=choice.graph_optimization.encode(),
        )
        self._require(runtime.open(self._session, model.encode(), self._kept, self._why))
        self.inputs = tuple(_spec(self._session.inputs[index]) for index in range(self._session.input_count))
        self.outputs = tuple(_spec(self._session.outputs[index]) for index in range(self._session.output_count))

    def set_inputs(self, arrays: Sequence[NDArray[np.generic]]) -> None:
        """See `Session`."""
        for index, array in enumerate(np.ascontiguousarray(each) for each in arrays):
            self._require(self._runtime.set_input(self._session, index, array.ctypes.data, array.nbytes, self._why))

    def invoke(self) -> None:
        """See `Session`."""
        if not self._runtime.invoke(self._session.state, self._why):
            self._require(passed=False)

    def read_outputs(self) -> list[NDArray[np.generic]]:
        """See `Session`."""
        return [self._read(index, spec) for index, spec in enumerate(self.outputs)]

    def placement(self) -> Placement:
        """Nobody asks."""
        return Placement(
            nodes_by_accelerator={}, nodes_total=None, nodes_delegated=None, partitions=None, missing="not asked"
        )

    def _read(self, index: int, spec: TensorSpec) -> NDArray[np.generic]:
        found: list[bytes] = []

        def take(_: object, memory: int, count: int) -> bool:
            found.append(ctypes.string_at(memory, count))
            return True

        self._require(self._runtime.read_output(self._session, index, _TAKE(take), None, self._why))
        return np.frombuffer(found[0], dtype=spec.dtype).reshape(spec.shape).copy()

    def _require(self, passed: bool) -> None:
        if not passed:
            raise JobRefused((self._why.kind or b"internal").decode(), self._why.message.decode())


def _spec(tensor: _Tensor) -> TensorSpec:
    return TensorSpec(name=tensor.name.decode(), shape=tuple(tensor.shape[: tensor.rank]), dtype=tensor.dtype.decode())


def main(arguments: Sequence[str]) -> int:
    """Load the library as bench does, and be the worker."""
    made, library, *flags = arguments
    name = flags[flags.index("--runtime") + 1]
    runtime = _Runtime.in_dll(ctypes.CDLL(made), f"{name}_runtime")
    version, why = ctypes.create_string_buffer(64), _Failure()
    if not runtime.load_library(library.encode(), ctypes.cast(version, ctypes.c_char_p), why):
        sys.exit(why.message.decode())
    module = ModuleType("on_library")
    vars(module).update(
        API="bench's own calls",
        version=version.value.decode,
        library=lambda: library,
        open_session=lambda model, choice: _OnLibrary(runtime, model, choice),
    )
    sys.modules[module.__name__], RUNTIMES[name] = module, module.__name__
    return worker.main(flags)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
