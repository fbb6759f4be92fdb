from __future__ import annotations

import json
import pickle
import re
import shutil
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from harness.catalog.coreml_package import read_spec, weights_folder
from harness.catalog.ml_program import Program, Unsupported
from harness.catalog.ml_program.operators import OPERATORS
from harness.errors import UnreadableModel, WrongInput
from tests.catalog.ml_program.building import ct, mb, random, run, run_one, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

X = random(1, 4, 5, 6)


def convolution(x: Any) -> Any:
    return mb.relu(x=mb.conv(x=x, weight=random(8, 4, 3, 3, seed=1), bias=random(8, seed=2), name="first"), name="last")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(convolution, [X], tmp_path_factory.mktemp("program") / "conv.mlpackage")


@pytest.fixture
def package(stored: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(stored, tmp_path / "conv.mlpackage")


def rewrite(package: Path, change: Callable[[Any], None]) -> Path:
    """Change the operations of the only function, and store the package again."""
    spec = read_spec(package)
    function = spec.mlProgram.functions["main"]
    change(function.block_specializations[function.opset].operations)
    (package / "Data/com.apple.CoreML/model.mlmodel").write_bytes(spec.SerializeToString())
    return package


def find(operations: Any, op_type: str) -> Any:
    return next(operation for operation in operations if operation.type == op_type)


def test_a_program_says_what_it_takes_gives_and_consists_of(stored: Path) -> None:
    program = Program.load(stored)

    assert [(tensor.name, tensor.shape, tensor.dtype) for tensor in program.inputs] == [("x", (1, 4, 5, 6), "float32")]
    assert [(tensor.name, tensor.shape, tensor.dtype) for tensor in program.outputs] == [
        ("last", (1, 8, 3, 4), "float32")
    ]
    assert program.op_counts() == {"conv": 1, "relu": 1}
    assert program.problems() == ()


def test_every_result_is_rounded_to_its_declared_type() -> None:
    x = np.array([2048.0, 1.0, -2048.0], np.float16)

    def build(x: Any) -> Any:
        # In fp16, 2048 + 1 is 2048 again: the one is lost at the first result, not at the last.
        return mb.sub(x=mb.add(x=x, y=np.float16(1)), y=np.float16(2048))

    np.testing.assert_array_equal(run_one(build, x), np.array([0, -2046, -4096], np.float16))


def test_an_operation_accumulates_in_more_than_its_declared_type() -> None:
    x = np.ones((1, 4096), np.float16)
    x[0, 0] = 4096

    found = run_one(lambda x: mb.reduce_sum(x=x, axes=[1], keep_dims=False), x)

    assert found[0] == np.float16(8191)


def test_an_unknown_operation_is_named(package: Path) -> None:
    rewrite(package, lambda operations: setattr(find(operations, "relu"), "type", "relu7"))
    program = Program.load(package)

    with pytest.raises(Unsupported, match=r"relu7 of 'last'.*no such operation") as caught:
        program.run({"x": X})

    assert (caught.value.op_type, caught.value.op_name, caught.value.parameter) == ("relu7", "last", None)
    assert program.op_counts() == {"conv": 1, "relu7": 1}
    assert [problem.op_type for problem in program.problems()] == ["relu7"]


def test_an_unknown_parameter_is_named(package: Path) -> None:
    def add(operations: Any) -> None:
        convolution = find(operations, "conv")
        convolution.inputs["winograd"].CopyFrom(convolution.inputs["groups"])

    program = Program.load(rewrite(package, add))

    with pytest.raises(Unsupported, match=r"conv\.winograd of 'first'") as caught:
        program.run({"x": X})

    assert caught.value.parameter == "winograd"


def test_a_missing_parameter_is_named(package: Path) -> None:
    def remove(operations: Any) -> None:
        del find(operations, "conv").inputs["weight"]

    with pytest.raises(Unsupported, match=r"conv\.weight of 'first': it is not given"):
        Program.load(rewrite(package, remove)).run({"x": X})


def test_numbers_that_a_declared_type_cannot_hold_are_a_damaged_program(package: Path) -> None:
    def narrow(operations: Any) -> None:
        name = find(operations, "conv").inputs["groups"].arguments[0].name
        constant = next(operation for operation in operations if operation.outputs[0].name == name)
        constant.attributes["val"].immediateValue.tensor.ints.values[0] = 300
        for declared in (constant.attributes["val"].type, constant.outputs[0].type):
            declared.tensorType.dataType = 21  # int8

    with pytest.raises(UnreadableModel, match="a constant has numbers that are no int8"):
        Program.load(rewrite(package, narrow)).run({"x": X})


def test_an_argument_that_nothing_gives_is_a_damaged_program(package: Path) -> None:
    def misname(operations: Any) -> None:
        find(operations, "relu").inputs["x"].arguments[0].name = "foo"

    with pytest.raises(UnreadableModel, match=r"relu\.x of 'last' names 'foo', which is not there"):
        Program.load(rewrite(package, misname)).run({"x": X})


def loops(x: Any, n: Any) -> Any:
    def body(i: Any, y: Any) -> Any:
        halved = mb.cond(
            pred=mb.squeeze(x=mb.greater(x=i, y=1)),
            _true_fn=lambda: mb.mul(x=y, y=np.float32(2)),
            _false_fn=lambda: mb.add(x=y, y=np.float32(1)),
        )
        return mb.add(x=i, y=1), halved

    weight = mb.constexpr_affine_dequantize(
        quantized_data=np.ones((3, 3), np.int8), zero_point=np.int8(0), scale=np.float32(0.5), axis=0
    )
    return mb.while_loop(
        _cond=lambda i, y: mb.squeeze(x=mb.less(x=i, y=n)),
        _body=body,
        loop_vars=(mb.mul(x=n, y=0), mb.linear(x=x, weight=weight)),
    )


def all_in(block: Any) -> list[Any]:
    found = []
    for operation in block.operations:
        found += [operation, *(one for inner in operation.blocks for one in all_in(inner))]
    return found


def damages(operation: Any, names: Sequence[str]) -> Iterator[Callable[[], object]]:
    """What can be done to one operation: something taken away, given twice, or misnamed; another type."""
    given = operation.outputs[0].type.tensorType
    yield partial(operation.ClearField, "outputs")
    yield partial(operation.ClearField, "attributes")
    yield partial(setattr, operation, "type", "constexpr_cast")
    yield partial(setattr, given, "dataType", 99)
    yield partial(setattr, given, "rank", 7)
    yield partial(operation.outputs.extend, [operation.outputs[0]])
    for parameter, argument in operation.inputs.items():
        yield partial(operation.inputs.pop, parameter)
        yield partial(argument.ClearField, "arguments")
        yield partial(argument.arguments.extend, [argument.arguments[0]])
        for name in names:
            yield partial(setattr, argument.arguments[0], "name", name)
    for number, block in enumerate(operation.blocks):
        yield partial(operation.blocks.pop, number)
        yield partial(block.outputs.append, block.outputs[0])
        for field in ("inputs", "operations", "outputs"):
            yield partial(block.ClearField, field)
        for name in names:
            yield partial(block.outputs.__setitem__, 0, name)


def test_whatever_is_wrong_in_a_program_with_blocks_is_named_and_never_an_error_of_python_or_torch(
    tmp_path: Path,
) -> None:
    inputs = {"x": random(2, 3), "n": np.array([3], np.int32)}
    package = write(loops, list(inputs.values()), tmp_path / "loops.mlpackage")
    model = package / "Data/com.apple.CoreML/model.mlmodel"
    spec = read_spec(package)
    function = spec.mlProgram.functions["main"]
    original = function.block_specializations[function.opset].SerializeToString()
    operations = all_in(function.block_specializations[function.opset])
    texts = [
        one
        for one in operations
        if one.type == "const" and one.attributes["val"].immediateValue.tensor.HasField("strings")
    ]
    names = ("nowhere", "x", "n", *(one.outputs[0].name for one in texts[:1]))
    said = set()
    for place in range(len(operations)):
        for what in range(1000):
            block = function.block_specializations[function.opset]
            block.ParseFromString(original)
            operation = all_in(block)[place]
            todo = list(damages(operation, names))
            if what == len(todo):
                break
            todo[what]()
            model.write_bytes(spec.SerializeToString())
            try:
                program = Program.load(package)
                list(program.weights())
                program.run(inputs)
            except (Unsupported, UnreadableModel) as error:
                said.add(type(error).__name__)

    assert said == {"Unsupported", "UnreadableModel"}


def test_shapes_that_do_not_go_together_are_a_damaged_program_that_names_the_operation(tmp_path: Path) -> None:
    def two(x: Any) -> Any:
        return mb.concat(values=[mb.relu(x=x, name="a"), mb.relu(x=x, name="b")], axis=0, name="last")

    def move(operations: Any) -> None:
        axis = find(operations, "concat").inputs["axis"].arguments[0].name
        constant = next(each for each in operations if each.outputs[0].name == axis)
        constant.attributes["val"].immediateValue.tensor.ints.values[0] = 7

    package = rewrite(write(two, [X], tmp_path / "two.mlpackage"), move)

    with pytest.raises(UnreadableModel, match=r"concat 'last' cannot be computed on what it is given"):
        Program.load(package).run({"x": X})


def test_an_unknown_mode_is_named(package: Path) -> None:
    def change(operations: Any) -> None:
        name = find(operations, "conv").inputs["pad_type"].arguments[0].name
        constant = next(operation for operation in operations if operation.outputs[0].name == name)
        constant.attributes["val"].immediateValue.tensor.strings.values[0] = "circular"

    with pytest.raises(Unsupported, match=r"conv\.pad_type of 'first': 'circular'"):
        Program.load(rewrite(package, change)).run({"x": X})


@pytest.mark.parametrize(("number", "name"), [(12, "float64"), (13, "bfloat16"), (24, "int64")])
def test_an_unknown_type_is_named(package: Path, number: int, name: str) -> None:
    def change(operations: Any) -> None:
        find(operations, "conv").outputs[0].type.tensorType.dataType = number

    with pytest.raises(Unsupported, match=rf"conv\.first of 'first': data type {name}"):
        Program.load(rewrite(package, change)).run({"x": X})


def test_a_declared_type_of_another_kind_is_refused(package: Path) -> None:
    def change(operations: Any) -> None:
        find(operations, "conv").outputs[0].type.tensorType.dataType = 23  # int32

    with pytest.raises(Unsupported, match=r"conv\.first of 'first': declared int32"):
        Program.load(rewrite(package, change)).run({"x": X})


def test_a_declared_shape_that_does_not_come_out_is_refused(package: Path) -> None:
    def change(operations: Any) -> None:
        find(operations, "conv").outputs[0].type.tensorType.dimensions[1].constant.size = 9

    with pytest.raises(UnreadableModel, match=r"declares \[1, 9, 3, 4\], it gives \[1, 8, 3, 4\]"):
        Program.load(rewrite(package, change)).run({"x": X})


def test_nested_blocks_in_an_ordinary_operation_are_refused(package: Path) -> None:
    with pytest.raises(Unsupported, match=r"relu of 'last': it has nested blocks"):
        Program.load(rewrite(package, lambda operations: find(operations, "relu").blocks.add())).run({"x": X})


def test_a_text_where_a_tensor_belongs_is_refused(package: Path) -> None:
    def change(operations: Any) -> None:
        convolution = find(operations, "conv")
        convolution.inputs["bias"].CopyFrom(convolution.inputs["pad_type"])

    with pytest.raises(Unsupported, match=r"conv\.bias of 'first': the text"):
        Program.load(rewrite(package, change)).run({"x": X})


def test_unsupported_survives_the_way_between_processes() -> None:
    error = Unsupported("conv", "first", "pad_type", "'circular'")

    arrived = pickle.loads(pickle.dumps(error))

    assert vars(arrived) == vars(error)
    assert str(arrived) == str(error)


@pytest.mark.parametrize("kept", [0, 1, 64, 100, 1000])
def test_a_truncated_weight_file_is_unreadable(package: Path, kept: int) -> None:
    weights = weights_folder(package) / "weight.bin"
    weights.write_bytes(weights.read_bytes()[:kept])

    with pytest.raises(UnreadableModel, match=r"weight\.bin"):
        Program.load(package).run({"x": X})


def test_a_missing_weight_file_is_unreadable(package: Path) -> None:
    (weights_folder(package) / "weight.bin").unlink()

    with pytest.raises(UnreadableModel, match=r"weight\.bin"):
        Program.load(package).run({"x": X})


@pytest.mark.parametrize("byte", [64, 68, 72])
def test_a_weight_record_that_contradicts_the_program_is_unreadable(package: Path, byte: int) -> None:
    weights = weights_folder(package) / "weight.bin"
    content = bytearray(weights.read_bytes())
    content[byte] ^= 0xFF
    weights.write_bytes(content)

    with pytest.raises(UnreadableModel, match=r"weight\.bin"):
        Program.load(package).run({"x": X})


def test_a_truncated_model_is_unreadable(package: Path) -> None:
    model = package / "Data/com.apple.CoreML/model.mlmodel"
    model.write_bytes(model.read_bytes()[:-20])

    with pytest.raises(UnreadableModel, match=r"model\.mlmodel"):
        Program.load(package)


@pytest.mark.parametrize(
    "manifest",
    [
        None,
        "",
        "[]",
        "{}",
        json.dumps({"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "gone.mlmodel"}}}),
        json.dumps({"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "../../secret"}}}),
    ],
)
def test_a_foreign_folder_is_unreadable(tmp_path: Path, manifest: str | None) -> None:
    folder = tmp_path / "a.mlpackage"
    (folder / "Data").mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    if manifest is not None:
        (folder / "Manifest.json").write_text(manifest)

    with pytest.raises(UnreadableModel, match=r"Manifest\.json"):
        Program.load(folder)


def test_a_path_that_is_not_there_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableModel):
        Program.load(tmp_path / "nothing.mlpackage")


def test_a_function_that_is_not_there_is_unreadable(stored: Path) -> None:
    with pytest.raises(UnreadableModel, match="no function 'other'"):
        Program.load(stored, function="other")


def test_another_kind_of_model_is_refused(package: Path) -> None:
    spec = read_spec(package)
    spec.ClearField("mlProgram")
    spec.neuralNetwork.SetInParent()
    (package / "Data/com.apple.CoreML/model.mlmodel").write_bytes(spec.SerializeToString())

    with pytest.raises(Unsupported, match="neuralNetwork"):
        Program.load(package)


def test_an_image_input_is_refused(package: Path) -> None:
    spec = read_spec(package)
    spec.description.input[0].type.imageType.width = 6
    (package / "Data/com.apple.CoreML/model.mlmodel").write_bytes(spec.SerializeToString())

    with pytest.raises(Unsupported, match="imageType"):
        Program.load(package)


@pytest.mark.parametrize(
    "inputs",
    [{}, {"y": X}, {"x": X, "y": X}, {"x": X[:, :3]}, {"x": X[0]}, {"x": X.astype(np.int32)}],
)
def test_inputs_have_to_fit(stored: Path, inputs: dict[str, np.ndarray]) -> None:
    with pytest.raises(WrongInput):
        Program.load(stored).run(inputs)


def test_a_half_precision_input_is_rounded_as_it_is_fed() -> None:
    x = np.array([1 / 3], np.float16)

    np.testing.assert_array_equal(run_one(lambda x: mb.identity(x=x), x), x)


def test_a_flexible_dimension_takes_any_size(tmp_path: Path) -> None:
    import torch

    from harness.convert.to_coreml import _quiet

    class Doubled(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.relu(x) * 2

    with _quiet():
        traced = torch.jit.trace(Doubled(), torch.zeros(1, 4))  # type: ignore[no-untyped-call]
        model = ct.convert(
            traced,
            inputs=[ct.TensorType("x", shape=(ct.RangeDim(1, 8, default=1), 4))],
            outputs=[ct.TensorType("y")],
            compute_precision=ct.precision.FLOAT32,
            skip_model_load=True,
        )
        model.save(str(tmp_path / "a.mlpackage"))

    program = Program.load(tmp_path / "a.mlpackage")

    assert program.inputs[0].shape == (1, 4)
    for count in (1, 5):
        x = random(count, 4)
        np.testing.assert_allclose(program.run({"x": x})["y"], np.maximum(x, 0) * 2)


@pytest.mark.parametrize("value", [3, -3])
def test_cond_runs_the_block_that_its_predicate_says(value: int) -> None:
    def build(x: Any, y: Any) -> Any:
        shared = mb.mul(x=x, y=np.float32(2))
        positive = mb.squeeze(x=mb.greater(x=y, y=0))
        return mb.cond(
            pred=positive,
            _true_fn=lambda: mb.add(x=shared, y=np.float32(1)),
            _false_fn=lambda: mb.sub(x=x, y=np.float32(1)),
        )

    x = random(3)

    found = run_one(build, x, np.array([value], np.int32))

    np.testing.assert_allclose(found, x * 2 + 1 if value > 0 else x - 1, rtol=1e-6)


@pytest.mark.parametrize("limit", [0, 1, 5])
def test_while_runs_its_body_until_its_condition_fails(limit: int) -> None:
    def build(x: Any, n: Any) -> Any:
        return mb.while_loop(
            _cond=lambda i, y: mb.squeeze(x=mb.less(x=i, y=n)),
            _body=lambda i, y: (mb.add(x=i, y=1), mb.mul(x=y, y=np.float32(2))),
            loop_vars=(mb.mul(x=n, y=0), x),
        )

    x = random(3)

    count, found = run(build, x, np.array([limit], np.int32))

    assert count[0] == limit
    np.testing.assert_allclose(found, x * 2**limit)


def test_many_samples_give_what_each_gives_alone(stored: Path) -> None:
    program = Program.load(stored)
    samples = random(7, *X.shape)

    together = program.run_samples({"x": samples})

    assert len(together) == 7
    for none in ({}, {"x": samples[:0]}):
        with pytest.raises(WrongInput, match="as many samples of each input, one at least"):
            program.run_samples(none)
    for found, sample in zip(together, samples, strict=True):
        np.testing.assert_allclose(found["last"], program.run({"x": sample})["last"], rtol=1e-5, atol=1e-6)


def test_samples_that_take_other_ways_through_a_program_are_computed_alone(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        is_large = mb.greater(x=mb.reduce_sum(x=x, axes=[0]), y=1.0)
        return mb.cond(
            pred=is_large,
            _true_fn=lambda: mb.add(x=x, y=10.0),
            _false_fn=lambda: mb.sub(x=x, y=10.0),
        )

    samples = np.array([[3.0], [0.5], [2.0]], dtype=np.float32)
    program = Program.load(write(build, [samples[0]], tmp_path / "ways.mlpackage"))

    (name,) = (output.name for output in program.outputs)
    assert [found[name].tolist() for found in program.run_samples({"x": samples})] == [[13.0], [-9.5], [12.0]]


def test_every_operator_cites_a_definition_that_has_it() -> None:
    """By its own docstring, or by that of its file: read in coremltools itself, where each operation is a class."""
    package = find_spec("coremltools")
    assert package is not None
    definitions = Path(str(package.origin)).parent / "converters/mil/mil/ops/defs"
    defined: dict[str, set[str]] = {}
    for file in definitions.rglob("*.py"):
        classes = re.findall(r"^class (\w+)\(", file.read_text(encoding="utf-8"), re.MULTILINE)
        defined[str(file.relative_to(definitions))] = set(classes)
    wrong = []
    for name, operator in OPERATORS.items():
        own = re.findall(r"iOS\d+/\w+\.py", operator.function.__doc__ or "")
        of_file = re.findall(r"iOS\d+/\w+\.py", import_module(operator.function.__module__).__doc__ or "")
        has_it = [name in defined[cited] for cited in own or of_file]
        if not (all(has_it) and has_it if own else any(has_it)):
            wrong.append(name)

    assert not wrong


def _shape(spec: Any) -> None:
    spec.description.input[0].type.multiArrayType.shape[2] = 100


def _rank(spec: Any) -> None:
    del spec.description.output[0].type.multiArrayType.shape[1:]


def _dtype(spec: Any) -> None:
    described = spec.description.output[0].type.multiArrayType
    described.dataType = described.INT32


def _old(spec: Any) -> None:
    spec.specificationVersion = 1


def _new(spec: Any) -> None:
    spec.specificationVersion = 99


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_shape, r"describes it as \[1, 4, 100, 6\], its program has \[1, 4, 5, 6\]"),
        (_rank, r"describes it as \[1\], its program has"),
        (_dtype, "describes it as INT32, its program as FLOAT32"),
        (_old, "specification version 1"),
        (_new, "specification version 99"),
    ],
    ids=["shape", "rank", "type", "too old", "too new"],
)
def test_a_package_that_describes_another_program_than_its_own_is_refused(
    package: Path, damage: Callable[[Any], None], says: str
) -> None:
    spec = read_spec(package)
    damage(spec)
    (package / "Data/com.apple.CoreML/model.mlmodel").write_bytes(spec.SerializeToString())

    with pytest.raises(Unsupported, match=says):
        Program.load(package)
