"""Core ML on a Mac through coremltools: compile, load, `predict`.

A prediction from Python copies inputs and outputs between NumPy and Core ML, in every iteration; the times are those of
this interface, and the runner app on an iPhone has its own. Written against the documented interface of coremltools 9
and tested with a fake predictor; it is run for real by the macOS workflow (tests marked `mac`).
"""

from __future__ import annotations

import platform
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from harness.deploy.worker.session import JobRefused, Placement
from harness.records import PlacedNode, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from harness.records import RuntimeChoice, Setting

API = "CompiledMLModel"

UNITS = {
    "cpu": ("CPU_ONLY", "cpu"),
    "cpu_only": ("CPU_ONLY", "cpu"),
    "cpu_and_gpu": ("CPU_AND_GPU", "gpu"),
    "cpu_and_ne": ("CPU_AND_NE", "neural_engine"),
    "all": ("ALL", None),
}
"""What a job asks for -> Core ML's compute units, and the unit that is meant; `all` leaves the choice to Core ML."""

_DTYPES = {65552: "float16", 65568: "float32", 65600: "float64", 131104: "int32", 131080: "int8"}
"""ArrayFeatureType.ArrayDataType. Source: coremltools 9.0, mlmodel/format/FeatureTypes.proto."""


class Predictor(Protocol):
    """A loaded Core ML model: the seam at which tests stand in for a Mac."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def timings_ns(self) -> Mapping[str, int]:
        """What making it took: `compile` and `load_cold`."""
        ...

    def predict(self, values: Mapping[str, NDArray[np.generic]]) -> Mapping[str, NDArray[np.generic]]:
        """Compute once."""
        ...

    def load_again_ns(self) -> int:
        """Load the compiled model a second time, when the system's caches are filled, and say how long that took."""
        ...

    def plan(self) -> Sequence[PlacedNode] | None:
        """Every operation but constants, on `cpu`, `gpu` or `neural_engine`; None where there is no plan."""
        ...


def version() -> str:
    """Of the system, since Core ML is a part of it, and of coremltools."""
    from importlib.metadata import version as package_version  # noqa: PLC0415

    import coremltools  # noqa: F401, PLC0415  (so that importing it is part of start-up)

    system = platform.mac_ver()[0]  # empty elsewhere, where coremltools converts and predicts nothing
    return f"{f'macOS {system}' if system else 'no Core ML'}, coremltools {package_version('coremltools')}"


def library() -> str | None:
    """None: the framework lives in the system's shared cache and is no file."""
    return None


def open_session(model: str, choice: RuntimeChoice) -> CoreMLSession:
    """Load a model. See `RuntimeModule.open_session`."""
    units = core_ml_units(choice)
    if platform.system() != "Darwin":
        raise JobRefused("unsupported", "Core ML computes on Apple's systems only; this is " + platform.system())
    return CoreMLSession(_CoreMLTools(model, units), choice.accelerator)


def core_ml_units(choice: RuntimeChoice) -> str:
    """Core ML's word for what is asked.

    Raises:
        JobRefused: Core ML has no such units, or takes no such setting.
    """
    if choice.accelerator not in UNITS:
        problem = f"Core ML has {', '.join(UNITS)}, not {choice.accelerator!r}"
        raise JobRefused("no_accelerator", problem)
    if choice.options:
        raise JobRefused("bad_setting", f"Core ML takes no options, {', '.join(choice.options)} came")
    if choice.graph_optimization != "all":
        problem = f"Core ML has one way to optimize a graph; {choice.graph_optimization!r} cannot be had"
        raise JobRefused("bad_setting", problem)
    if choice.threads != 1:
        # It starts as many as it likes and has no setting; a number in a report would look as if it had been kept.
        raise JobRefused("bad_setting", f"Core ML takes no number of threads, {choice.threads} came")
    return UNITS[choice.accelerator][0]


class CoreMLSession:
    """See `Session`."""

    graph_optimization: str | None = None
    same_answer = 1e-2  # half precision, added in another order, is that far apart

    def __init__(self, predictor: Predictor, accelerator: str) -> None:
        self._predictor, self._accelerator = predictor, accelerator
        self.inputs, self.outputs = predictor.inputs, predictor.outputs
        self._values: dict[str, NDArray[np.generic]] = {}
        self._answer: Mapping[str, NDArray[np.generic]] = {}

    def set_inputs(self, arrays: Sequence[NDArray[np.generic]]) -> None:
        """See `Session`. Copied: what Core ML reads in each prediction must not be somebody else's to change."""
        pairs = zip(self.inputs, arrays, strict=True)
        self._values = {tensor.name: np.array(array, order="C") for tensor, array in pairs}

    def invoke(self) -> None:
        """See `Session`."""
        self._answer = self._predictor.predict(self._values)

    def read_outputs(self) -> list[NDArray[np.generic]]:
        """See `Session`. A prediction gives the dtype that Core ML likes; it is stored as the model declares it."""
        found = []
        for tensor in self.outputs:
            if tensor.name not in self._answer:
                came = ", ".join(sorted(self._answer)) or "none"
                raise JobRefused("wrong_numbers", f"output {tensor.name!r} did not come, but {came}")
            found.append(np.array(self._answer[tensor.name], dtype=np.dtype(tensor.dtype), order="C"))
        return found

    def placement(self) -> Placement:
        """From the compute plan: what Core ML means to do. It never says what it did."""
        plan = self._predictor.plan()
        if plan is None:
            return Placement(
                nodes_by_accelerator={},
                nodes_total=None,
                nodes_delegated=None,
                partitions=None,
                missing="Core ML tells its plan from macOS 14.4 on, and of ML Programs only",
            )
        nodes = Counter(node.accelerator for node in plan)
        wanted = UNITS[self._accelerator][1]
        delegated = len(plan) - nodes["cpu"] if wanted is None else nodes[wanted]
        reason = None
        if wanted is not None and delegated < len(plan):
            others = ", ".join(sorted({node.kind for node in plan if node.accelerator != wanted}))
            reason = f"{len(plan) - delegated} of {len(plan)} operations are planned elsewhere than {wanted}: {others}"
        return Placement(
            nodes_by_accelerator=dict(nodes),
            nodes_total=len(plan),
            nodes_delegated=delegated,
            partitions=None,
            fallback_reason=reason,
            nodes=tuple(plan),
        )

    def settings(self) -> dict[str, Setting]:
        """See `SaysSettings`."""
        return {"compute_units": UNITS[self._accelerator][0]}

    @property
    def load_ns(self) -> int:
        """See `SaysLoad`. That coremltools reads the file once more for its signature is not Core ML's."""
        return sum(self._predictor.timings_ns.values())

    def timings_ns(self) -> dict[str, int]:
        """See `SaysTimings`. Loads once more, which is what Core ML's own cache is there for."""
        return {**self._predictor.timings_ns, "load_cached": self._predictor.load_again_ns()}


class _CoreMLTools:
    """The real `Predictor`."""

    def __init__(self, model: str, units: str) -> None:
        import coremltools as ct  # noqa: PLC0415
        from coremltools.models import CompiledMLModel  # noqa: PLC0415
        from coremltools.models.utils import compile_model, load_spec  # noqa: PLC0415

        self._units = ct.ComputeUnit[units]
        try:
            spec = load_spec(model)
        except Exception as error:  # protobuf's and coremltools' own errors share no base class below Exception
            raise JobRefused("unreadable_model", " ".join(str(error).split())) from error
        self._function = spec.description.defaultFunctionName or "main"
        self.inputs = tuple(_tensor(feature) for feature in spec.description.input)
        self.outputs = tuple(_tensor(feature) for feature in spec.description.output)
        # A name that is used once and goes with the process: the system caches compiled models by their place.
        self._folder = tempfile.TemporaryDirectory(prefix="harness-coreml-")
        self._compiled = str(Path(self._folder.name) / "model.mlmodelc")
        try:
            began = time.perf_counter_ns()
            compile_model(model, self._compiled)
            compiled_at = time.perf_counter_ns()
            self._model = CompiledMLModel(self._compiled, self._units)
            loaded_at = time.perf_counter_ns()
        except Exception as error:  # NSError arrives as a bare RuntimeError or Exception
            self._folder.cleanup()
            raise JobRefused("load_failed", " ".join(str(error).split())) from error
        self.timings_ns = {"compile": compiled_at - began, "load_cold": loaded_at - compiled_at}

    def predict(self, values: Mapping[str, NDArray[np.generic]]) -> Mapping[str, NDArray[np.generic]]:
        """See `Predictor`."""
        answer: Mapping[str, NDArray[np.generic]] = self._model.predict(values)
        return answer

    def load_again_ns(self) -> int:
        """See `Predictor`."""
        from coremltools.models import CompiledMLModel  # noqa: PLC0415

        began = time.perf_counter_ns()
        CompiledMLModel(self._compiled, self._units)
        return time.perf_counter_ns() - began

    def plan(self) -> Sequence[PlacedNode] | None:
        """See `Predictor`. Plans begin with macOS 14.4; those of older neural networks are not read here."""
        from coremltools.models.compute_plan import MLComputePlan  # noqa: PLC0415

        if tuple(int(part) for part in platform.mac_ver()[0].split(".")[:2]) < (14, 4):
            return None
        plan = MLComputePlan.load_from_path(path=self._compiled, compute_units=self._units)
        operations = operations_of(plan.model_structure.program, self._function)
        return None if operations is None else read_plan(plan, operations)


def operations_of(program: Any, function: str) -> Sequence[Any] | None:  # noqa: ANN401  (the package has no types)
    """Those of the function that runs, whatever it is called; None for what is no ML Program, or has none of the name.

    Source: coremltools 9.0, models/compute_plan.py, MLModelStructureProgram.
    """
    if program is None or function not in program.functions:
        return None
    operations: Sequence[Any] = program.functions[function].block.operations
    return operations


def read_plan(plan: Any, operations: Sequence[Any]) -> list[PlacedNode]:  # noqa: ANN401  (the package has no types)
    """The unit that Core ML prefers for each operation. Constants have no usage, and are left out.

    Source: coremltools 9.0, models/compute_plan.py and models/compute_device.py.
    """
    names = {
        "MLCPUComputeDevice": "cpu",
        "MLGPUComputeDevice": "gpu",
        "MLNeuralEngineComputeDevice": "neural_engine",
    }
    found = []
    for operation in operations:
        usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
        if usage is None:
            continue
        device = type(usage.preferred_compute_device).__name__
        if device not in names:
            raise JobRefused("unsupported", f"Core ML plans for a {device}, which this program does not know")
        given = ", ".join(output.name for output in operation.outputs)
        found.append(PlacedNode(name=given, kind=operation.operator_name, accelerator=names[device]))
    return found


def _tensor(feature: Any) -> TensorSpec:  # noqa: ANN401
    if feature.type.WhichOneof("Type") != "multiArrayType":
        raise JobRefused("wrong_input", f"{feature.name!r} is no tensor; convert with tensors and not with images")
    array = feature.type.multiArrayType
    if array.dataType not in _DTYPES:
        raise JobRefused("wrong_input", f"{feature.name!r} has the data type {array.dataType}, which is not known here")
    return TensorSpec(name=feature.name, shape=tuple(int(size) for size in array.shape), dtype=_DTYPES[array.dataType])
