"""ONNX Runtime through its Python `InferenceSession`, inputs and outputs bound once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.deploy.worker.session import SAME_ANSWER, JobRefused, Placement
from harness.records import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from harness.records import RuntimeChoice

API = "InferenceSession"

# ONNX Runtime's own names; what a session was really built with is read back through the same table.
_LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "layout": "ORT_ENABLE_LAYOUT",
    "all": "ORT_ENABLE_ALL",
}
_DTYPES = {"float": "float32", "double": "float64"}
_CPU = "CPUExecutionProvider"


def version() -> str:
    """The version the library reports."""
    import onnxruntime  # noqa: PLC0415

    return str(onnxruntime.get_version_string())


def library() -> str | None:
    """The extension module; in a wheel it contains the whole runtime."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # noqa: PLC0415

    return str(Path(state.__file__))


def open_session(model: str, choice: RuntimeChoice) -> OnnxRuntimeSession:
    """Load a model. See `RuntimeModule.open_session`."""
    import onnxruntime as ort  # noqa: PLC0415

    provider = _provider(choice.accelerator, ort.get_available_providers())
    options = ort.SessionOptions()
    options.intra_op_num_threads = choice.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if choice.graph_optimization not in _LEVELS:
        problem = f"graph_optimization is one of {', '.join(_LEVELS)}, not {choice.graph_optimization!r}"
        raise JobRefused("bad_setting", problem)
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[choice.graph_optimization])
    # Without this entry the runtime forgets which provider took which node.
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    provider_options: dict[str, str] = {}
    for key, value in choice.options.items():
        # ONNX Runtime's session settings have dotted names ("session.x"); a provider's never do.
        if "." in key:
            options.add_session_config_entry(key, _text(value))
        else:
            provider_options[key] = _text(value)
    providers: list[object] = [(provider, provider_options)] if provider_options else [provider]
    try:
        session = ort.InferenceSession(model, options, providers=providers)
    except Exception as error:
        # The runtime's exceptions share no base class below Exception; the code is only in the text.
        raise _refusal(error) from error
    return OnnxRuntimeSession(session, provider)


class OnnxRuntimeSession:
    """A session whose inputs and outputs are bound to memory allocated once."""

    same_answer = SAME_ANSWER

    def __init__(self, session: Any, provider: str) -> None:  # noqa: ANN401  (the package has no types)
        import onnxruntime as ort  # noqa: PLC0415

        self._session, self._provider = session, provider
        self.inputs = tuple(_tensor(argument) for argument in session.get_inputs())
        self.outputs = tuple(_tensor(argument) for argument in session.get_outputs())
        level = session.get_session_options().graph_optimization_level
        self.graph_optimization = next((ours for ours, theirs in _LEVELS.items() if theirs == level.name), None)
        self._binding = session.io_binding()
        self._bound_inputs: list[Any] = []
        self._fixed_outputs: list[Any] = []
        for tensor in self.outputs:
            if any(size < 1 for size in tensor.shape):
                # The runtime alone knows this output's size, and allocates it in each run.
                self._binding.bind_output(tensor.name, "cpu")
                continue
            value = ort.OrtValue.ortvalue_from_shape_and_type(list(tensor.shape), np.dtype(tensor.dtype), "cpu")
            self._fixed_outputs.append(value)
            self._binding.bind_ortvalue_output(tensor.name, value)

    def set_inputs(self, arrays: Sequence[NDArray[np.generic]]) -> None:
        """See `Session`."""
        import onnxruntime as ort  # noqa: PLC0415

        # The binding refers to this memory, so it has to live as long as the session.
        self._bound_inputs = [ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array)) for array in arrays]
        for tensor, value in zip(self.inputs, self._bound_inputs, strict=True):
            self._binding.bind_ortvalue_input(tensor.name, value)

    def invoke(self) -> None:
        """See `Session`."""
        self._session.run_with_iobinding(self._binding)

    def read_outputs(self) -> list[NDArray[np.generic]]:
        """See `Session`."""
        return [np.array(value) for value in self._binding.copy_outputs_to_cpu()]

    def placement(self) -> Placement:
        """Counts nodes as they were when providers took them, after graph-level optimization."""
        nodes: Counter[str] = Counter()
        groups = self._session.get_provider_graph_assignment_info()
        for group in groups:
            nodes[group.ep_name] += len(group.get_nodes())
        total = sum(nodes.values())
        delegated = nodes[self._provider]
        reason = None
        if delegated < total:
            reason = f"{self._provider} did not take {total - delegated} of {total} nodes"
        partitions = sum(group.ep_name == self._provider for group in groups) if self._provider != _CPU else None
        return Placement(
            nodes_by_accelerator=dict(nodes),
            nodes_total=total,
            nodes_delegated=delegated,
            partitions=partitions,
            fallback_reason=reason,
        )


def _provider(accelerator: str, available: Sequence[str]) -> str:
    """The provider's full name, from a name as people write it: cpu, coreml, XnnpackExecutionProvider."""
    by_short = {name.removesuffix("ExecutionProvider").lower(): name for name in available}
    found = by_short.get(accelerator.removesuffix("ExecutionProvider").lower())
    if found is None:
        problem = f"this ONNX Runtime has the providers {', '.join(by_short)}, not {accelerator!r}"
        raise JobRefused("no_accelerator", problem)
    return found


def _tensor(argument: Any) -> TensorSpec:  # noqa: ANN401
    element = argument.type.removeprefix("tensor(").removesuffix(")")
    dtype = _DTYPES.get(element, element)
    shape = [size if isinstance(size, int) else -1 for size in argument.shape]
    if shape and shape[0] == -1:
        shape[0] = 1
    return TensorSpec(name=argument.name, shape=tuple(shape), dtype=dtype)


def _refusal(error: Exception) -> JobRefused:
    text = " ".join(str(error).split())
    if any(sign in text for sign in ("NOT_IMPLEMENTED", "is not a registered function/op", "No Op registered for")):
        return JobRefused("unsupported_op", text)
    if any(word in text for word in ("INVALID_PROTOBUF", "INVALID_GRAPH", "NO_SUCHFILE", "NO_MODEL")):
        return JobRefused("unreadable_model", text)
    return JobRefused("load_failed", text)


def _text(value: bool | float | str) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
