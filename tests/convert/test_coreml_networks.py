"""Every built-in network as Core ML in every precision there is, by the way a run takes; and wrong packages noticed.

`make_artifact` converts, reads back how weights are stored, compares a compressed package with what coremltools' own
decompression makes of it, and judges the outputs by the checkpoint's, each by its own limits. Here it has to pass for
every network. fp16 has a second opinion in the module's own `.half()`, and may be twice as far off: a package keeps one
sixth in fp16 for each hard sigmoid, which `.half()` does not (MobileNetV3 alone comes to 1.5 times).

Half of every network's weights are zero, as a pruned checkpoint's are, so that it can be stored sparse. The mutations
take the small networks, which hold every operation between them, and are judged by what a conversion is judged by.
"""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from harness.catalog.checkpoint import make_checkpoint
from harness.catalog.coreml_package import read_spec, weights_folder
from harness.catalog.ml_program import Program
from harness.catalog.ml_program.values import tensor_type
from harness.catalog.networks import NETWORKS
from harness.catalog.networks.network import settle_batchnorm
from harness.convert import child
from harness.convert.child import ProveRequest, _prove
from harness.convert.convert import make_artifact
from harness.convert.recipes import SETTINGS
from harness.errors import ConversionFailed, UnreadableModel
from harness.records import BuiltinSource, InputSpec, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from harness.records import Artifact, Checkpoint, Precision

pytestmark = pytest.mark.slow

# ImageNet networks at 64 x 64: the same operations in a twelfth of the time. LightCNN's size is fixed.
SHAPES = {name: info.input_shape if info.input_shape[1] == 1 else (1, 3, 64, 64) for name, info in NETWORKS.items()}
# Of its last map 2 x 2 values would be left, too few to even out the rounding of fifty layers: `.half()` is off by 7 %.
SHAPES["resnet50"] = (1, 3, 128, 128)
IMAGES = 2
SMALL = ("light_cnn9", "mobilenet_v3_small", "squeezenet1_1")
PRECISIONS = tuple(precision for model_format, precision in SETTINGS if model_format == "coreml")
STORED = {"int8_weights": "int8"}
"""What weights are stored as, where that is not called like the precision."""
SIZE = {
    "fp32": 2.1,
    "fp16": 1.0,
    "int8_weights": 0.56,
    "palette8": 0.56,
    "palette6": 0.44,
    "palette4": 0.32,
    "sparse": 0.62,
}
"""Precision -> the most that its package may have of the fp16 package's bytes."""


@dataclass
class Case:
    """A pruned network, and the checkpoint of it."""

    module: nn.Module
    spec: ModelSpec
    checkpoint: Checkpoint

    def artifact(self, precision: Precision) -> Artifact:
        return make_artifact(self.spec, self.checkpoint, "coreml", precision)

    def images(self) -> NDArray[Any]:
        with np.load(Path(self.checkpoint.folder) / "inputs.npz") as stored:
            images: NDArray[Any] = stored["image"]
        return images

    def answer(self) -> NDArray[Any]:
        with torch.no_grad():
            found: torch.Tensor = self.module(torch.from_numpy(self.images()))
        return found.numpy()

    def half_error(self) -> float:
        with torch.no_grad():
            found = copy.deepcopy(self.module).half()(torch.from_numpy(self.images()).half())
        return relative_l2(found.float().numpy(), self.answer())

    def run(self, path: Path) -> NDArray[Any]:
        (output,) = self.checkpoint.outputs
        runs = Program.load(path).run_samples({"image": self.images()[:, None]})
        return np.concatenate([run[output.name] for run in runs])


def relative_l2(found: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.linalg.norm(found.astype(np.float64) - expected) / np.linalg.norm(expected))


def make_case(name: str, folder: Path) -> Case:
    """Untrained, but with statistics as if trained, and with biases: at zero, a converter could lose them unseen."""
    torch.manual_seed(0)
    module = NETWORKS[name].build(num_classes=100)
    for key, parameter in module.named_parameters():
        if key.endswith("bias"):
            parameter.data.normal_(0, 0.1)
    prune_half(module)
    settle_batchnorm(module, [torch.randn(8, *SHAPES[name][1:])])
    weights = folder / f"{name}.pt"
    torch.save(module.state_dict(), weights)
    spec = ModelSpec(
        schema=1,
        name=name,
        task="classification",
        source=BuiltinSource(network=name, arguments={"num_classes": 100}, weights=str(weights)),
        inputs=(InputSpec(name="image", shape=SHAPES[name]),),
        check_samples=IMAGES,
    )
    return Case(module=module.eval(), spec=spec, checkpoint=make_checkpoint(spec))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The evaluator gains little from a second thread, and loses much where there is none to spare."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def prune_half(module: nn.Module) -> None:
    """Set the half of each filter's weights that has the smallest magnitudes to zero.

    Not of each tensor's: whole filters would go, and BatchNorm would divide by the standard deviation of nothing.
    """
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                magnitudes = parameter.abs().flatten(1)
                limit = magnitudes.kthvalue(max(1, magnitudes.shape[1] // 2), dim=1, keepdim=True).values
                parameter[(magnitudes <= limit).reshape(parameter.shape)] = 0


@pytest.fixture
def case(name: str, shared_cache: Path) -> Case:
    """One cache for all tests of a network, which one process runs: each package is made once."""
    return make_case(name, shared_cache)


def networks(names: tuple[str, ...]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.xdist_group(f"coreml-{name}")) for name in names]


@pytest.mark.parametrize("name", networks(tuple(sorted(NETWORKS))))
def test_a_network_is_made_in_every_precision_stored_as_asked_and_graph_checked(case: Case) -> None:
    half_error, plain_size = case.half_error(), case.artifact("fp16").size_bytes

    for precision in PRECISIONS:
        artifact = case.artifact(precision)

        parity, settings = artifact.parity, artifact.conversion.settings
        assert (parity.passed, parity.evidence, parity.samples) == (True, "graph-checked", IMAGES), precision
        kind, share = str(settings["stored"]).split(", ")[0].split(" ")
        assert kind == STORED.get(precision, precision)
        assert float(share.rstrip("%")) > 99, precision
        assert artifact.size_bytes <= SIZE[precision] * plain_size, precision
        if precision in {"fp32", "fp16", "sparse"}:
            assert settings["zero_fraction"] == pytest.approx(0.5, abs=0.01)
        if precision in {"fp16", "sparse"}:
            assert parity.outputs[0].relative_l2 < 2 * half_error, precision


def operations(spec: Any, op_type: str) -> list[Any]:
    return [operation for operation in all_operations(spec) if operation.type == op_type]


def all_operations(spec: Any) -> Any:
    function = spec.mlProgram.functions["main"]
    return function.block_specializations[function.opset].operations


class Package:
    """A package that is being made wrong: its message, and its weights in place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spec = read_spec(path)

    def convolutions(self, *, having: str = "weight") -> list[Any]:
        return [one for one in operations(self.spec, "conv") if having in one.inputs]

    def constant(self, operation: Any, parameter: str = "weight") -> Constant:
        name = operation.inputs[parameter].arguments[0].name
        maker = next(one for one in all_operations(self.spec) if any(output.name == name for output in one.outputs))
        return Constant(maker, weights_folder(self.path) / "weight.bin")

    def store(self) -> None:
        (self.path / "Data/com.apple.CoreML/model.mlmodel").write_bytes(self.spec.SerializeToString())


class Constant:
    """Stored elements, whatever they are stored as: floats, steps, indices of a table, or what a mask leaves."""

    def __init__(self, maker: Any, file: Path) -> None:
        self.kind, self.file = maker.type, file
        self.shape = tuple(dimension.constant.size for dimension in maker.outputs[0].type.tensorType.dimensions)
        blobs = {
            name: value for name, value in maker.attributes.items() if value.WhichOneof("value") == "blobFileValue"
        }
        self.arrays = {name: self._mapped(value) for name, value in blobs.items()}

    def _mapped(self, value: Any) -> NDArray[Any]:
        """What is written to it is written to the file."""
        declared = tensor_type(value.type)
        offset = int(np.memmap(self.file, np.uint64, "r", value.blobFileValue.offset + 16, (1,))[0])
        return np.memmap(self.file, declared.dtype.numpy, "r+", offset, tuple(size or 0 for size in declared.shape))

    def scale(self, factor: float) -> None:
        name = {
            "const": "val",
            "constexpr_affine_dequantize": "scale",
            "constexpr_lut_to_dense": "lut",
            "constexpr_sparse_to_dense": "nonzero_data",
        }[self.kind]
        self.arrays[name][:] *= factor

    @property
    def zero(self) -> int:
        return int(np.abs(self.arrays["lut"]).argmin()) if self.kind == "constexpr_lut_to_dense" else 0

    def read(self) -> NDArray[Any]:
        if self.kind == "constexpr_lut_to_dense":
            fields = self._bits("indices", self._index_bits())
            return np.asarray(fields @ (1 << np.arange(fields.shape[1]))).reshape(self.shape)
        if self.kind == "constexpr_sparse_to_dense":
            dense = np.zeros(self.shape, self.arrays["nonzero_data"].dtype)
            dense[self._bits("mask", 1).reshape(self.shape) != 0] = self.arrays["nonzero_data"]
            return dense
        return np.array(self.arrays["val" if self.kind == "const" else "quantized_data"])

    def write(self, values: NDArray[Any]) -> None:
        if self.kind == "constexpr_lut_to_dense":
            self._store_bits("indices", (values.reshape(-1, 1) >> np.arange(self._index_bits())) & 1)
        elif self.kind == "constexpr_sparse_to_dense":
            mask = values != 0
            if mask.sum() != self.arrays["nonzero_data"].size:  # some became zero, which the mask cannot say
                mask = self._bits("mask", 1).reshape(self.shape) != 0
            self._store_bits("mask", mask.reshape(-1, 1))
            self.arrays["nonzero_data"][:] = values[mask]
        else:
            self.arrays["val" if self.kind == "const" else "quantized_data"][:] = values

    def _index_bits(self) -> int:
        return int(self.arrays["lut"].size).bit_length() - 1

    def _bits(self, name: str, width: int) -> NDArray[Any]:
        stream = np.unpackbits(self.arrays[name], bitorder="little")
        return stream[: int(np.prod(self.shape)) * width].reshape(-1, width).astype(np.int64)

    def _store_bits(self, name: str, bits: NDArray[Any]) -> None:
        packed = np.packbits(bits.reshape(-1).astype(np.uint8), bitorder="little")
        self.arrays[name][: packed.size] = packed


def flip_a_kernel(package: Package) -> None:
    weight = next(weight for one in package.convolutions()[1:] if (weight := package.constant(one)).shape[-2] > 1)
    weight.write(weight.read()[..., ::-1, :])


def zero_a_channel(package: Package) -> None:
    weight = package.constant(package.convolutions()[2])
    values = weight.read()
    values[0] = weight.zero
    weight.write(values)


def scale_a_weight(package: Package) -> None:
    package.constant(package.convolutions()[2]).scale(1.05)


def drop_a_bias(package: Package) -> None:
    package.constant(package.convolutions(having="bias")[1], "bias").scale(0)


def forget_a_bias(package: Package) -> None:
    del package.convolutions(having="bias")[1].inputs["bias"]


def swap_a_concat(package: Package) -> None:
    concat = operations(package.spec, "concat")[2]
    first, second = concat.inputs["values"].arguments[:2]
    first.name, second.name = second.name, first.name


def swap_a_split(package: Package) -> None:
    first, second = operations(package.spec, "split")[2].outputs
    first.name, second.name = "first", "second"
    maximum = operations(package.spec, "maximum")[2]
    # A maximum does not mind the order of its halves; a maximum of one half with itself does.
    for parameter in ("x", "y"):
        maximum.inputs[parameter].arguments[0].name = "first"


def lose_an_activation(package: Package) -> None:
    operations(package.spec, "relu")[1].type = "identity"


def tilt_the_input(package: Package) -> None:
    """Rows for columns, in the first layer."""
    weight = package.constant(package.convolutions()[0])
    weight.write(weight.read().swapaxes(-1, -2))


MUTATIONS: dict[str, tuple[Callable[[Package], None], ...]] = {
    "mobilenet_v3_small": (lose_an_activation,),
    "squeezenet1_1": (swap_a_concat, lose_an_activation),
    "light_cnn9": (swap_a_split,),
}
EVERYWHERE = (flip_a_kernel, zero_a_channel, scale_a_weight, drop_a_bias, forget_a_bias, tilt_the_input)
COMPRESSED = tuple(precision for precision in PRECISIONS if precision not in {"fp32", "fp16"})


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        pytest.param(name, precision, marks=pytest.mark.xdist_group(f"coreml-{name}"))
        for name in SMALL
        for precision in ("fp32", "fp16", *(COMPRESSED if name == "squeezenet1_1" else ()))
    ],
)
def test_the_right_package_passes_as_converted_and_every_wrong_one_does_not(
    case: Case, precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Once for all: the limit is of the model, and compressing 20 MB takes longer than computing them.
    limit = child._limit_of_half(case.spec, case.checkpoint)
    monkeypatch.setattr(child, "_limit_of_half", lambda *_of_model: limit)
    monkeypatch.setattr(child, "package_deflated_size", lambda _path: 0)
    right = Path(case.artifact(precision).path)
    request = ProveRequest(
        spec=case.spec,
        checkpoint=case.checkpoint,
        format="coreml",
        precision=precision,
        path=str(shutil.copytree(right, tmp_path / right.name)),
        plain=case.artifact("fp16").path if precision in COMPRESSED else None,
    )
    assert _prove(request).parity.passed
    missed = {}
    for mutate in (*EVERYWHERE, *MUTATIONS[case.spec.name]):
        package = Package(shutil.copytree(right, tmp_path / f"{mutate.__name__}.mlpackage"))
        mutate(package)
        package.store()
        try:
            parity = _prove(msgspec.structs.replace(request, path=str(package.path))).parity
        except (ConversionFailed, UnreadableModel):
            continue
        if parity.passed:
            missed[mutate.__name__] = (parity.outputs[0].relative_l2, parity.tolerance.relative_l2)

    assert not missed
