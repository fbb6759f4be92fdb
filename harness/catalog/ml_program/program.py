"""Run an ML Program operation by operation, on any system.

The file is read from its own protobuf and weight file, not through coremltools' front end: that would rebuild the
program, infer types anew and fold constants, so that what ran would no longer be what was written.

Values are held in three kinds of torch tensor (float32, int64, bool) and rounded to the declared type after every
operation. An operation therefore computes with float32 inside and gives float16 outside where the file says fp16.
"""

from __future__ import annotations

import warnings
from collections import ChainMap, Counter
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np

from harness.catalog.coreml_package import read_spec, weights_folder
from harness.catalog.ml_program.unsupported import NotCovered
from harness.catalog.ml_program.values import Damaged, TensorType, UnknownType, WeightFiles, constant, tensor_type
from harness.errors import UnreadableModel, Unsupported, WrongInput
from harness.records import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from harness.catalog.ml_program.operators.operator import Argument, Operator

    Environment: TypeAlias = MutableMapping[str, Argument]

_FORMAT = "an ML Program"
_OPEN = -1
"""Stands in a `TensorSpec` for a size that the file leaves open."""
_ELEMENTS_AT_ONCE = 2**18
"""Of the largest input, over the samples that are computed together: every intermediate result of theirs is held."""
_DESCRIBED_AS = {"fp32": "FLOAT32", "fp16": "FLOAT16", "fp64": "DOUBLE", "int32": "INT32", "int8": "INT8"}
"""What the description calls the types that it has a name for. Source: FeatureTypes.proto, `ArrayDataType`."""
_NEWEST_VERSION = 10
"""Of the specification, which iOS 26 reads. Source: coremltools 9, `_SPECIFICATION_VERSION_IOS_26`."""
_NUMPY_NAMES = {"fp16": "float16", "fp32": "float32"}
_BLOCK_OPS = {"const": (0, "val"), "cond": (2, "pred"), "while_loop": (2, "loop_vars")}
"""Number of nested blocks, and the one parameter. Source: MIL.proto for const, iOS15/control_flow.py for the others."""
_TORCHS_OWN = (RuntimeError, LookupError, ValueError, TypeError, ArithmeticError)
"""What torch, and sizes of zero, raise where an operation cannot be computed on what it is given."""
_COMPRESSED = {
    "constexpr_affine_dequantize": "quantized_data",
    "constexpr_blockwise_shift_scale": "data",
    "constexpr_cast": "source_val",
    "constexpr_sparse_blockwise_shift_scale": "nonzero_data",
    "constexpr_sparse_to_dense": "nonzero_data",
}
"""The parameter whose type says how the elements are stored."""


@dataclass(frozen=True, kw_only=True)
class Weight:
    """A floating-point constant of two or more dimensions, as an operation uses it.

    Attributes:
        name: Of the constant.
        kind: How it is stored: see `storage.Storage.shares`.
        elements: Once decompressed.
        zeros: How many of those are 0.
    """

    name: str
    kind: str
    elements: int
    zeros: int


@dataclass(frozen=True, kw_only=True)
class Reference:
    """An argument that names another operation's output."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An argument written where it is used: a protobuf `Value`."""

    value: Any


@dataclass(frozen=True, kw_only=True)
class Declared:
    """A named value. `type` is the protobuf message, read when the value is computed."""

    name: str
    type: Any


@dataclass(frozen=True, kw_only=True)
class Block:
    """Operations in order, and the names of what they hand on."""

    inputs: tuple[Declared, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation as it is written. Several bindings of one parameter are a list of tensors."""

    type: str
    name: str
    arguments: Mapping[str, tuple[Reference | Stored, ...]]
    outputs: tuple[Declared, ...]
    blocks: tuple[Block, ...]


@dataclass(frozen=True, kw_only=True)
class Step:
    """An operation that is no constant, with the constants that it takes.

    Attributes:
        type: `conv`, `relu`...
        arguments: Parameter -> what is bound to it, in order: another operation's output, a decompressed array, a text.
        outputs: Name -> declared type, as the file has it.
        blocks: Of each nested block, what it takes and what it hands on.
    """

    type: str
    arguments: Mapping[str, tuple[Reference | NDArray[Any] | str, ...]]
    outputs: Mapping[str, bytes]
    blocks: tuple[tuple[str, ...], ...]


class Program:
    """A loaded ML Program.

    Attributes:
        inputs: With the shapes that the model description gives; a flexible program takes others too.
        outputs: In the order of the model description; a size that depends on the inputs is -1.
        function: The name of the function that runs.
        others: Those of the package's further functions, which do not.
    """

    def __init__(
        self,
        block: Block,
        weights: WeightFiles,
        *,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        function: str,
        others: tuple[str, ...] = (),
    ) -> None:
        self.inputs, self.outputs, self.function, self.others = inputs, outputs, function, others
        self._block = block
        self._weights = weights
        self._constants: dict[str, Argument] = {}
        self._checked = False

    @classmethod
    def load(cls, path: str | Path, *, function: str | None = None) -> Program:
        """Read an `.mlpackage`.

        Args:
            path: The folder.
            function: Which function to run; None takes the default one.

        Raises:
            UnreadableModel: It is not an `.mlpackage`, or is damaged as far as this reads it.
            Unsupported: It is another kind of Core ML model, or has an input or output that is not a tensor.
            MissingExtra: coremltools is not installed.
        """
        spec = read_spec(path)
        kind = spec.WhichOneof("Type")
        if kind != "mlProgram":
            raise Unsupported("program", Path(path).name, None, f"a model of type {kind}, not an ML Program")
        name = function or spec.description.defaultFunctionName or "main"
        if name not in spec.mlProgram.functions:
            raise UnreadableModel(str(path), _FORMAT, f"it has no function {name!r}")
        body = spec.mlProgram.functions[name]
        if body.opset not in body.block_specializations:
            raise UnreadableModel(str(path), _FORMAT, f"function {name!r} has no block for its opset {body.opset!r}")
        _require_version(Path(path), spec.specificationVersion, body.opset)
        description = next((d for d in spec.description.functions if d.name == name), spec.description)
        block = _block(body.block_specializations[body.opset], inputs=body.inputs)
        for problem in _contradictions(block, {}):
            raise UnreadableModel(str(path), _FORMAT, problem)
        for entry in block.inputs:
            _known_type(entry, "input")
        types = {declared.name: declared.type for declared in _all_declared(block)}
        return cls(
            block,
            WeightFiles(weights_folder(path)),
            inputs=tuple(_tensor_spec(feature, types, "input") for feature in description.input),
            outputs=tuple(_tensor_spec(feature, types, "output") for feature in description.output),
            function=name,
            others=tuple(sorted(set(spec.mlProgram.functions) - {name})),
        )

    def op_counts(self) -> dict[str, int]:
        """How many operations of each type there are, `const` left out, nested blocks included. Most first."""
        counts = Counter(operation.type for operation in _all_operations(self._block) if operation.type != "const")
        return dict(counts.most_common())

    def problems(self) -> tuple[Unsupported, ...]:
        """Everything that can be seen to be unknown without computing: operations, parameters, declared types."""
        return tuple(problem for operation in _all_operations(self._block) if (problem := _problem_with(operation)))

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Compute the outputs.

        Args:
            inputs: By name, of the declared shape. Converted to the declared type.

        Returns:
            By name, in the declared type.

        Raises:
            Unsupported: Something in the program is not known; nothing was computed when `problems` already says so.
            WrongInput: A name, shape or kind of value does not fit.
            UnreadableModel: The weight file is damaged, or a result has another shape than the program declares.
            MissingExtra: torch is not installed.
        """
        import torch  # noqa: PLC0415

        if not self._checked:
            for problem in self.problems():
                raise problem
            self._checked = True
        environment = self._fed(inputs)
        with torch.no_grad(), _said_of_its_operation():
            self._run_block(self._block, environment)
        return self._declared(self._outputs(environment))

    def run_samples(self, inputs: Mapping[str, NDArray[Any]]) -> list[dict[str, NDArray[Any]]]:
        """Compute the outputs for many inputs, some at a time where the program allows: several times as fast.

        Each sample is computed as the file declares it, without any other's values: a shape that the file fixes is
        that of one sample. Sums may be added up in another order than by `run`, as any two kernels do.

        Args:
            inputs: By name, `[samples, *declared shape]`.

        Returns:
            Of each sample, by name, in the declared type.

        Raises:
            Unsupported, WrongInput, UnreadableModel, MissingExtra: See `run`.
        """
        import torch  # noqa: PLC0415

        counts = {len(values) for values in inputs.values()}
        if len(counts) != 1 or 0 in counts:
            raise WrongInput(
                ", ".join(inputs), "as many samples of each input, one at least", f"{sorted(counts)} of them"
            )
        (count,) = counts
        samples = [{name: values[i] for name, values in inputs.items()} for i in range(count)]
        # The first alone: whatever is wrong is said of it, and the constants are there from then on.
        runs = [self.run(samples[0])]

        def outputs_of(fed: dict[str, Tensor]) -> dict[str, Tensor]:
            environment: Environment = dict(fed)
            self._run_block(self._block, environment)
            return self._outputs(environment)

        at_once = max(1, _ELEMENTS_AT_ONCE // max(value.size for value in samples[0].values()))
        while len(runs) < len(samples):
            fed = [self._fed(sample) for sample in samples[len(runs) : len(runs) + at_once]]
            together = {name: torch.stack([_tensor(each, name) for each in fed]) for name in inputs}
            try:
                with torch.no_grad(), warnings.catch_warnings():
                    # An operation that vmap has no rule for is computed sample by sample, and says so.
                    warnings.filterwarnings("ignore", message="There is a performance drop")
                    found = torch.vmap(outputs_of)(together)
            except RuntimeError:
                # What happens next depends on a value (a loop, a size): each sample goes its own way.
                return runs + [self.run(sample) for sample in samples[len(runs) :]]
            runs += [self._declared({name: values[i] for name, values in found.items()}) for i in range(len(fed))]
        return runs

    def weights(self) -> Iterator[Weight]:
        """Decompress every weight that an operation uses, each once.

        Raises:
            Unsupported: A constant is compressed in a way that is not known.
            UnreadableModel: The weight file is damaged.
            MissingExtra: torch is not installed.
        """
        makers, environment = self._constants_and_makers()
        for name in dict.fromkeys(self._used(makers)):
            value = environment[name]
            if _is_weight(value):
                zeros = value.numel() - int(value.count_nonzero())
                yield Weight(name=name, kind=_kind(name, makers), elements=value.numel(), zeros=zeros)

    def steps(self) -> Iterator[Step]:
        """Every operation that is no constant, in order; those of a nested block follow the one that holds it.

        Compression keeps all of it but the weights' values, the names of constants and those of some operations.

        Raises:
            Unsupported, UnreadableModel, MissingExtra: See `weights`.
        """
        makers, environment = self._constants_and_makers()

        def given(operation: Operation, parameter: str, binding: Reference | Stored) -> Reference | NDArray[Any] | str:
            if isinstance(binding, Reference) and binding.name not in makers:
                return binding
            value = self._argument(operation, parameter, binding, environment)
            return value if isinstance(value, str) else value.numpy()

        for operation in _all_operations(self._block):
            if not _is_constant(operation):
                yield Step(
                    type=operation.type,
                    arguments={
                        parameter: tuple(given(operation, parameter, binding) for binding in bindings)
                        for parameter, bindings in operation.arguments.items()
                    },
                    outputs={
                        output.name: output.type.SerializeToString(deterministic=True) for output in operation.outputs
                    },
                    blocks=tuple(
                        (*(entry.name for entry in block.inputs), "->", *block.outputs) for block in operation.blocks
                    ),
                )

    def _used(self, makers: Collection[str]) -> Iterator[str]:
        """The constants that operations take, as often as they are taken."""
        for operation in _all_operations(self._block):
            if not _is_constant(operation):
                for binding in chain.from_iterable(operation.arguments.values()):
                    if isinstance(binding, Reference) and binding.name in makers:
                        yield binding.name

    def _constants_and_makers(self) -> tuple[dict[str, Operation], Environment]:
        makers = {
            output.name: operation
            for operation in _all_operations(self._block)
            if _is_constant(operation)
            for output in operation.outputs
        }
        environment: Environment = {}
        with _said_of_its_operation():
            for operation in makers.values():
                self._run_constant(operation, environment)
        return makers, environment

    def _outputs(self, environment: Environment) -> dict[str, Tensor]:
        return {spec.name: _tensor(environment, spec.name) for spec in self.outputs}

    def _declared(self, outputs: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
        return {spec.name: outputs[spec.name].numpy().astype(np.dtype(spec.dtype)) for spec in self.outputs}

    def _fed(self, inputs: Mapping[str, NDArray[Any]]) -> Environment:
        import torch  # noqa: PLC0415

        declared = {entry.name: tensor_type(entry.type) for entry in self._block.inputs}
        if set(inputs) != set(declared):
            raise WrongInput(
                ", ".join(inputs), f"the inputs {', '.join(declared)}", f"for {', '.join(inputs) or 'none'}"
            )
        environment: Environment = {}
        for name, of_type in declared.items():
            array = np.asarray(inputs[name])
            if not of_type.takes(array.shape):
                raise WrongInput(name, f"shape {list(of_type.shape)}", f"of shape {list(array.shape)}")
            if (array.dtype.kind == "f") != (of_type.dtype.kind == "float"):
                raise WrongInput(name, of_type.dtype.name, array.dtype.name)
            held = {"float": np.float32, "int": np.int64, "bool": np.bool_}[of_type.dtype.kind]
            environment[name] = torch.from_numpy(array.astype(of_type.dtype.numpy).astype(held))
        return environment

    def _run_block(self, block: Block, environment: Environment) -> None:
        for operation in block.operations:
            if _is_constant(operation):
                self._run_constant(operation, environment)
            elif operation.type == "cond":
                self._run_cond(operation, environment)
            elif operation.type == "while_loop":
                self._run_while(operation, environment)
            else:
                self._run_operation(operation, environment)

    def _run_constant(self, operation: Operation, environment: Environment) -> None:
        """Compute a constant once; a program is often run on many inputs."""
        names = [output.name for output in operation.outputs]
        if names[0] not in self._constants:
            if operation.type == "const":
                value = self._argument(operation, "val", operation.arguments["val"][0], environment)
                if isinstance(value, str):
                    environment[names[0]] = value
                else:
                    _store(operation, [value], environment)
            else:
                self._run_operation(operation, environment)
            self._constants.update({name: environment[name] for name in names})
        environment.update({name: self._constants[name] for name in names})

    def _run_operation(self, operation: Operation, environment: Environment) -> None:
        operator = _operator(operation)
        bound = {
            name: tuple(self._argument(operation, name, binding, environment) for binding in bindings)
            for name, bindings in operation.arguments.items()
        }
        try:
            results = operator.call(bound)
        except NotCovered as unknown:
            raise Unsupported(operation.type, operation.name, unknown.parameter, unknown.problem) from None
        except _TORCHS_OWN as error:
            raise _DoesNotFit(operation, error) from error
        _store(operation, results, environment)

    def _run_cond(self, operation: Operation, environment: Environment) -> None:
        predicate = self._argument(operation, "pred", operation.arguments["pred"][0], environment)
        block = operation.blocks[0 if _is_true(operation, predicate) else 1]
        inner: Environment = ChainMap({}, environment)
        self._run_block(block, inner)
        _store(operation, _handed_on(operation, block, inner), environment)

    def _run_while(self, operation: Operation, environment: Environment) -> None:
        goes_on, body = operation.blocks
        bindings = operation.arguments["loop_vars"]
        state = [_needs_tensor(operation, self._argument(operation, "loop_vars", one, environment)) for one in bindings]
        while True:
            inner: Environment = ChainMap({}, environment)
            inner.update(zip((entry.name for entry in goes_on.inputs), state, strict=True))
            self._run_block(goes_on, inner)
            if not _is_true(operation, inner[goes_on.outputs[0]]):
                break
            inner = ChainMap({}, environment)
            inner.update(zip((entry.name for entry in body.inputs), state, strict=True))
            self._run_block(body, inner)
            state = _handed_on(operation, body, inner)
        _store(operation, state, environment)

    def _argument(
        self, operation: Operation, parameter: str, binding: Reference | Stored, environment: Environment
    ) -> Argument:
        import torch  # noqa: PLC0415

        if isinstance(binding, Reference):
            return environment[binding.name]
        try:
            value, declared = constant(binding.value, self._weights)
        except UnknownType as unknown:
            raise Unsupported(operation.type, operation.name, parameter, str(unknown)) from None
        except Damaged as damage:
            raise UnreadableModel(operation.name, _FORMAT, str(damage)) from damage
        if isinstance(value, str):
            return value
        held = {"float": np.float32, "int": np.int64, "bool": np.bool_}[declared.dtype.kind]
        return torch.from_numpy(np.array(value, dtype=held))


class _DoesNotFit(RuntimeError):
    """Torch could not compute an operation; a RuntimeError like all that cannot be done for samples together."""

    def __init__(self, operation: Operation, error: Exception) -> None:
        said = " ".join(str(error).split())
        super().__init__(f"{operation.type} {operation.name!r} cannot be computed on what it is given: {said}")
        self.operation = operation


@contextmanager
def _said_of_its_operation() -> Iterator[None]:
    """Make what torch could not compute an error of the file."""
    try:
        yield
    except _DoesNotFit as error:
        raise UnreadableModel(error.operation.name, _FORMAT, str(error)) from error


def _contradictions(block: Block, around: Mapping[str, bool]) -> Iterator[str]:
    """What in a block cannot be, whatever its operations compute: names of nothing, and parts that are missing.

    Args:
        block: Of a function or an operation.
        around: What can be named from outside of it, and whether that is a constant.
    """
    known = {**around, **{entry.name: False for entry in block.inputs}}
    for operation in block.operations:
        yield from _misnamed(operation, known)
        yield from _incomplete(operation)
        for inner in operation.blocks:
            yield from _contradictions(inner, known)
        known.update({output.name: _is_constant(operation) for output in operation.outputs})
    yield from (f"a block hands on {name!r}, which is not there" for name in block.outputs if name not in known)


def _misnamed(operation: Operation, known: Mapping[str, bool]) -> Iterator[str]:
    for parameter, bindings in operation.arguments.items():
        for binding in bindings:
            if isinstance(binding, Reference):
                named = f"{operation.type}.{parameter} of {operation.name!r} names {binding.name!r}, which is"
                if binding.name not in known:
                    yield f"{named} not there"
                elif _is_constant(operation) and not known[binding.name]:
                    yield f"{named} no constant"


def _incomplete(operation: Operation) -> Iterator[str]:
    where, arguments, blocks = f"{operation.type} {operation.name!r}", operation.arguments, operation.blocks
    if not operation.outputs:
        yield f"{where} gives nothing"
    if operation.type == "const" and not _is_one_value(operation):
        yield f"{where} is not one value under one name"
    if operation.type == "cond" and len(arguments.get("pred", ())) != 1:
        yield f"{where} has not one predicate"
    if operation.type == "while_loop" and len(blocks) == 2:
        goes_on, body = blocks
        counts = {len(arguments.get("loop_vars", ())), len(goes_on.inputs), len(body.inputs), len(body.outputs)}
        if len(counts) != 1 or len(goes_on.outputs) != 1:
            yield f"{where} has blocks that take or hand on another number of values than it loops over"


def _is_one_value(operation: Operation) -> bool:
    bound = operation.arguments.get("val", ())
    return len(operation.outputs) == len(bound) == 1 and isinstance(bound[0], Stored)


def _is_true(operation: Operation, value: Argument) -> bool:
    """Which way an operation with blocks goes. Torch's own error, where samples are computed together."""
    import torch  # noqa: PLC0415

    if isinstance(value, str) or value.dtype != torch.bool or value.numel() != 1:
        problem = f"{operation.type} {operation.name!r} goes by something that is not one boolean"
        raise UnreadableModel(operation.name, _FORMAT, problem)
    return bool(value)


def _needs_tensor(operation: Operation, value: Argument) -> Tensor:
    if isinstance(value, str):
        raise UnreadableModel(
            operation.name, _FORMAT, f"{operation.type} {operation.name!r} hands on the text {value!r}"
        )
    return value


def _handed_on(operation: Operation, block: Block, environment: Environment) -> list[Tensor]:
    return [_needs_tensor(operation, environment[name]) for name in block.outputs]


def _is_constant(operation: Operation) -> bool:
    return operation.type == "const" or operation.type.startswith("constexpr_")


def _is_weight(value: Argument) -> TypeGuard[Tensor]:
    return not isinstance(value, str) and value.is_floating_point() and value.dim() > 1


def _kind(name: str, makers: Mapping[str, Operation]) -> str:
    """How a constant is stored, following the operations that decompress it."""
    operation = makers[name]
    if operation.type == "const":
        return tensor_type(operation.outputs[0].type).dtype.name
    if operation.type in {"constexpr_lut_to_dense", "constexpr_lut_to_sparse"}:
        table = _argument_type(operation, "lut", makers)
        # Up to iOS 17 the table has one dimension, later the last but one holds its entries.
        entries = table.shape[0] if len(table.shape) == 1 else table.shape[-2]
        return f"palette{(entries or 1).bit_length() - 1}"
    (binding,) = operation.arguments[_COMPRESSED[operation.type]]
    if isinstance(binding, Reference):
        inner = _kind(binding.name, makers)
    else:
        inner = tensor_type(binding.value.type).dtype.name
    if operation.type != "constexpr_sparse_to_dense":
        return inner
    return "sparse" if inner.startswith("fp") else f"sparse+{inner}"


def _argument_type(operation: Operation, parameter: str, makers: Mapping[str, Operation]) -> TensorType:
    (binding,) = operation.arguments[parameter]
    if isinstance(binding, Stored):
        return tensor_type(binding.value.type)
    return next(tensor_type(entry.type) for entry in makers[binding.name].outputs if entry.name == binding.name)


def _tensor(environment: Environment, name: str) -> Tensor:
    return environment[name]  # type: ignore[return-value]


def _store(operation: Operation, results: Sequence[Tensor], environment: Environment) -> None:
    """Round results to what the file declares, and name them.

    Raises:
        UnreadableModel: There are more or fewer of them, or a shape is not the declared one.
        Unsupported: A result is of another kind than declared, or an integer does not fit the declared type.
    """
    if len(results) != len(operation.outputs):
        found = f"{operation.type} {operation.name!r} declares {len(operation.outputs)} outputs, it has {len(results)}"
        raise UnreadableModel(operation.name, _FORMAT, found)
    for output, result in zip(operation.outputs, results, strict=True):
        try:
            declared = tensor_type(output.type)
        except UnknownType as unknown:
            raise Unsupported(operation.type, operation.name, output.name, str(unknown)) from None
        if not declared.takes(tuple(result.shape)):
            found = (
                f"{operation.type} {operation.name!r} declares {list(declared.shape)}, it gives {list(result.shape)}"
            )
            raise UnreadableModel(operation.name, _FORMAT, found)
        try:
            environment[output.name] = _rounded(result, declared)
        except NotCovered as unknown:
            raise Unsupported(operation.type, operation.name, output.name, unknown.problem) from None


def _rounded(result: Tensor, declared: TensorType) -> Tensor:
    import torch  # noqa: PLC0415

    kind = "float" if result.is_floating_point() else "bool" if result.dtype == torch.bool else "int"
    if kind != declared.dtype.kind:
        raise NotCovered(None, f"declared {declared.dtype.name}, computed {result.dtype}")
    if kind == "float":
        return result.to(torch.float16).to(torch.float32) if declared.dtype.name == "fp16" else result.to(torch.float32)
    if kind == "int" and result.numel():
        low, high = declared.dtype.limits
        if int(result.min()) < low or int(result.max()) > high:
            raise NotCovered(None, f"a value outside {declared.dtype.name}")
    return result


def _problem_with(operation: Operation) -> Unsupported | None:
    for output in operation.outputs:
        try:
            tensor_type(output.type)
        except UnknownType as unknown:
            return Unsupported(operation.type, operation.name, output.name, str(unknown))
    if operation.type in _BLOCK_OPS:
        expected, parameter = _BLOCK_OPS[operation.type]
        if len(operation.blocks) != expected:
            return Unsupported(operation.type, operation.name, None, f"{len(operation.blocks)} blocks")
        if set(operation.arguments) != {parameter}:
            odd = next(iter(sorted({parameter} ^ set(operation.arguments))))
            problem = "it is not given" if odd == parameter else "there is no such parameter here"
            return Unsupported(operation.type, operation.name, odd, problem)
        return None
    if operation.blocks:
        return Unsupported(operation.type, operation.name, None, "it has nested blocks")
    try:
        operator = _operator(operation)
        operator.check(operation.arguments)
    except NotCovered as unknown:
        return Unsupported(operation.type, operation.name, unknown.parameter, unknown.problem)
    except Unsupported as unknown:
        return unknown
    return None


def _operator(operation: Operation) -> Operator:
    # torch is needed from here on: a program can be loaded and counted without it.
    from harness.catalog.ml_program.operators import OPERATORS  # noqa: PLC0415

    operator = OPERATORS.get(operation.type)
    if operator is None:
        raise Unsupported(operation.type, operation.name, None, "there is no such operation here")
    return operator


def _block(message: Any, *, inputs: Any) -> Block:  # noqa: ANN401 - protobuf messages are untyped
    return Block(
        inputs=tuple(Declared(name=entry.name, type=entry.type) for entry in inputs),
        operations=tuple(_operation(entry) for entry in message.operations),
        outputs=tuple(message.outputs),
    )


def _operation(message: Any) -> Operation:  # noqa: ANN401
    attributes = dict(message.attributes)
    name = attributes.pop("name", None)
    arguments = {
        parameter: tuple(
            Reference(name=binding.name) if binding.WhichOneof("binding") == "name" else Stored(value=binding.value)
            for binding in argument.arguments
        )
        for parameter, argument in message.inputs.items()
    }
    # `const`, and the `constexpr_` operations up to iOS 17, keep their parameters as attributes.
    arguments.update({parameter: (Stored(value=value),) for parameter, value in attributes.items()})
    spelled = "" if name is None else "".join(name.immediateValue.tensor.strings.values)
    return Operation(
        type=message.type,
        name=spelled or (message.outputs[0].name if message.outputs else "?"),
        arguments=arguments,
        outputs=tuple(Declared(name=entry.name, type=entry.type) for entry in message.outputs),
        blocks=tuple(_block(inner, inputs=inner.inputs) for inner in message.blocks),
    )


def _all_operations(block: Block) -> Iterator[Operation]:
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _all_operations(inner)


def _all_declared(block: Block) -> Iterator[Declared]:
    yield from block.inputs
    for operation in block.operations:
        yield from operation.outputs


def _tensor_spec(feature: Any, types: Mapping[str, Any], role: str) -> TensorSpec:  # noqa: ANN401
    """What the model description says about an input or output, with the program's own type where that is known."""
    if feature.type.WhichOneof("Type") != "multiArrayType":
        which = feature.type.WhichOneof("Type")
        raise Unsupported("program", feature.name, role, f"a feature of type {which}, not a multi-array")
    if feature.name not in types:
        raise Unsupported("program", feature.name, role, "a feature that nothing in the program computes")
    declared = _known_type(Declared(name=feature.name, type=types[feature.name]), role)
    _require_as_described(feature, declared, role)
    described = (*feature.type.multiArrayType.shape, *[_OPEN] * len(declared.shape))
    shape = tuple(int(described[i]) if size is None else size for i, size in enumerate(declared.shape))
    dtype = declared.dtype
    return TensorSpec(name=feature.name, shape=shape, dtype=_NUMPY_NAMES.get(dtype.name, dtype.name))


def _require_as_described(feature: Any, declared: TensorType, role: str) -> None:  # noqa: ANN401
    """Raise Unsupported where the package's description, by which Core ML is fed, is not of what the program has."""
    described = feature.type.multiArrayType
    said = tuple(int(size) for size in described.shape)  # empty where it leaves that to the program
    is_another = len(said) != len(declared.shape) or any(
        own is not None and own != size for own, size in zip(declared.shape, said, strict=False)
    )
    if said and is_another:
        own_shape = ["?" if size is None else size for size in declared.shape]
        problem = f"the package describes it as {list(said)}, its program has {own_shape}"
        raise Unsupported("program", feature.name, role, problem)
    wanted = _DESCRIBED_AS.get(declared.dtype.name)
    name = described.ArrayDataType.Name(described.dataType)
    if wanted is not None and name != wanted:
        raise Unsupported("program", feature.name, role, f"the package describes it as {name}, its program as {wanted}")


def _require_version(path: Path, version: int, opset: str) -> None:
    """Raise Unsupported where a package has no version that systems with its operations read."""
    number = opset.removeprefix("CoreML")
    if not number.isdigit():
        raise Unsupported("program", path.name, None, f"its operations are of {opset!r}")
    least = int(number) + 1
    if not least <= version <= max(least, _NEWEST_VERSION):
        problem = f"it says specification version {version}, and its operations ({opset}) are of {least}"
        raise Unsupported("program", path.name, None, problem)


def _known_type(entry: Declared, role: str) -> TensorType:
    """The type of an input or output of the program.

    Raises:
        Unsupported: It is not known, or none that a NumPy array can have.
    """
    try:
        declared = tensor_type(entry.type)
    except UnknownType as unknown:
        raise Unsupported("program", entry.name, role, str(unknown)) from None
    if declared.dtype.kind == "text" or declared.dtype.bits < 8:
        raise Unsupported("program", entry.name, role, f"a feature of {declared.dtype.name}")
    return declared
