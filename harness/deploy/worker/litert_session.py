"""LiteRT (TensorFlow Lite) through its Python `Interpreter`.

The newer `CompiledModel` runs the same kernels at the same speed on a processor, but says only whether *all* nodes were
taken; the interpreter lists them, so that a fallback can be counted.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.deploy.worker.session import SAME_ANSWER, JobRefused, Placement
from harness.records import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from harness.records import RuntimeChoice

API = "Interpreter"

_ACCELERATORS = ("cpu", "xnnpack", "builtin")


def version() -> str:
    """The wheel's version; the library itself does not say one."""
    from importlib.metadata import version as package_version  # noqa: PLC0415

    import ai_edge_litert.interpreter  # noqa: F401, PLC0415  (so that importing it is part of start-up)

    return package_version("ai-edge-litert")


def library() -> str | None:
    """The shared library with interpreter and kernels."""
    import ai_edge_litert  # noqa: PLC0415

    return str(Path(str(ai_edge_litert.__file__)).parent / "libpywrap_litert_common.so")


def open_session(model: str, choice: RuntimeChoice) -> LiteRtSession:
    """Load a model. See `RuntimeModule.open_session`.

    `cpu` and `xnnpack` are the same configuration, XNNPACK first and built-in kernels for what it leaves; asked for as
    `xnnpack`, nodes that it leaves count as a fallback. `builtin` is the built-in kernels alone.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType  # noqa: PLC0415

    if choice.accelerator not in _ACCELERATORS:
        problem = f"LiteRT's interpreter has {', '.join(_ACCELERATORS)} here, not {choice.accelerator!r}"
        raise JobRefused("no_accelerator", problem)
    if choice.graph_optimization != "all":
        problem = f"LiteRT has no levels of graph optimization; {choice.graph_optimization!r} cannot be had"
        raise JobRefused("bad_setting", problem)
    if choice.options:
        problem = f"LiteRT's interpreter takes no options, {', '.join(choice.options)} came"
        raise JobRefused("bad_setting", problem)
    plain = choice.accelerator == "builtin"
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if plain else OpResolverType.AUTO
    try:
        interpreter = Interpreter(model_path=model, num_threads=choice.threads, experimental_op_resolver_type=resolver)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise _refusal(error) from error
    return LiteRtSession(interpreter, choice.accelerator)


class LiteRtSession:
    """An interpreter with its tensors allocated."""

    graph_optimization = None
    same_answer = SAME_ANSWER

    def __init__(self, interpreter: Any, accelerator: str) -> None:  # noqa: ANN401  (the package has no types)
        self._interpreter, self._accelerator = interpreter, accelerator
        self._input_details = interpreter.get_input_details()
        self._output_details = interpreter.get_output_details()
        self.inputs = tuple(_tensor(details) for details in self._input_details)
        self.outputs = tuple(_tensor(details) for details in self._output_details)

    def set_inputs(self, arrays: Sequence[NDArray[np.generic]]) -> None:
        """See `Session`. The interpreter keeps input tensors from being overwritten by a run."""
        for details, array in zip(self._input_details, arrays, strict=True):
            self._interpreter.set_tensor(details["index"], array)

    def invoke(self) -> None:
        """See `Session`."""
        self._interpreter.invoke()

    def read_outputs(self) -> list[NDArray[np.generic]]:
        """See `Session`."""
        return [self._interpreter.get_tensor(details["index"]) for details in self._output_details]

    def placement(self) -> Placement:
        """Counts a graph's own nodes by whether a delegate computes them."""
        # The list holds the graph's nodes and, after them, one DELEGATE node a partition; it does not say which nodes
        # a partition replaced. Those are the ones between the partition's inputs and outputs.
        ops = self._interpreter._get_ops_details()  # noqa: SLF001  (the only place that has them)
        partitions = [op for op in ops if op["op_name"] == "DELEGATE"]
        nodes = [op for op in ops if op["op_name"] != "DELEGATE"]
        maker = {int(tensor): index for index, op in enumerate(nodes) for tensor in op["outputs"]}
        taken: set[int] = set()
        for partition in partitions:
            stop = {int(tensor) for tensor in partition["inputs"]}
            waiting = [int(tensor) for tensor in partition["outputs"]]
            while waiting:
                tensor = waiting.pop()
                index = maker.get(tensor)
                if tensor in stop or index is None or index in taken:
                    continue
                taken.add(index)
                waiting += [int(source) for source in nodes[index]["inputs"]]
        left = len(nodes) - len(taken)
        names = sorted({op["op_name"] for index, op in enumerate(nodes) if index not in taken})
        wanted = self._accelerator == "xnnpack"
        return Placement(
            nodes_by_accelerator={"xnnpack": len(taken), "builtin": left},
            nodes_total=len(nodes),
            nodes_delegated=len(taken) if wanted else len(nodes),
            partitions=len(partitions),
            fallback_reason=f"XNNPACK left {left} of {len(nodes)} nodes: {', '.join(names)}"
            if wanted and left
            else None,
        )


def _tensor(details: dict[str, Any]) -> TensorSpec:
    scale, zero_point = details["quantization"]
    return TensorSpec(
        name=details["name"],
        shape=tuple(int(size) for size in details["shape"]),
        dtype=np.dtype(details["dtype"]).name,
        scale=float(scale) if scale else None,
        zero_point=int(zero_point) if scale else None,
    )


def _refusal(error: Exception) -> JobRefused:
    text = " ".join(str(error).split())
    if "Encountered unresolved custom op" in text or "Didn't find op for builtin opcode" in text:
        return JobRefused("unsupported_op", text)
    if "could not be opened" in text.lower() or "flatbuffer" in text.lower() or "identifier" in text.lower():
        return JobRefused("unreadable_model", text)
    return JobRefused("load_failed", text)
