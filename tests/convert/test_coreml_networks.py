"""Every built-in network as Core ML, plain and compressed, against its module; and wrong packages that must be noticed.

Errors are relative L2 over two images: the largest difference on one image, by that of another fp16 program on it, is
a quotient of two accidents. The tolerances: 1e-4 for fp32, twice the error of the module's own `.half()` for fp16 (a
package keeps one sixth in fp16 for each hard sigmoid, which `.half()` does not: MobileNetV3 alone comes to 1.5 times).
A compressed package is compared with what coremltools' own decompression makes of it, not with the module: how much a
network loses to 4 bits is the network's business.

Half of every network's weights are zero, as a pruned checkpoint's are: one fp16 package is then the source of each kind
of compressed one. fp32 and the mutations take the small networks, which hold every operation between them.
"""

from __future__ import annotations

import copy
import gc
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.catalog.coreml_package import package_size, read_spec, weights_folder
from harness.catalog.ml_program import Program
from harness.catalog.modules import flat
from harness.catalog.networks import NETWORKS
from harness.catalog.networks.network import settle_batchnorm
from harness.convert import to_coreml
from harness.errors import UnreadableModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = pytest.mark.slow

# ImageNet networks at 64 x 64: the same operations in a twelfth of the time. LightCNN's size is fixed.
SHAPES = {name: info.input_shape if info.input_shape[1] == 1 else (1, 3, 64, 64) for name, info in NETWORKS.items()}
IMAGES = 2
SMALL = ("light_cnn9", "mobilenet_v3_small", "squeezenet1_1")


@dataclass
class Case:
    """A network, images `[2, C, H, W]`, and where its packages go."""

    name: str
    module: nn.Module
    images: NDArray[np.float32]
    folder: Path

    def answer(self) -> NDArray[Any]:
        with torch.no_grad():
            found: torch.Tensor = self.module(torch.from_numpy(self.images))
        return found.numpy()

    def half_error(self) -> float:
        with torch.no_grad():
            found = copy.deepcopy(self.module).half()(torch.from_numpy(self.images).half())
        return relative_l2(found.float().numpy(), self.answer())

    def export(self, precision: Any) -> Path:
        path = self.folder / f"{precision}.mlpackage"
        if not path.exists():
            to_coreml.export_torch(flat(self.module), {"image": self.images}, ["logits"], path, precision=precision)
        return path

    def run(self, path: Path) -> NDArray[Any]:
        program = Program.load(path)
        return np.concatenate([found["logits"] for found in program.run_samples({"image": self.images[:, None]})])


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
    return Case(name=name, module=module.eval(), images=torch.randn(IMAGES, *SHAPES[name][1:]).numpy(), folder=folder)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The evaluator gains little from a second thread, and loses much where there is none to spare."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def prune_half(module: nn.Module) -> None:
    """Set the half of each weight tensor that has the smallest magnitudes to zero."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                magnitudes = parameter.abs()
                limit = magnitudes.flatten().kthvalue(max(1, parameter.numel() // 2)).values
                parameter[magnitudes <= limit] = 0


@pytest.fixture(scope="module", params=sorted(NETWORKS))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    yield make_case(request.param, tmp_path_factory.mktemp(request.param))
    gc.collect()


@pytest.fixture(scope="module", params=SMALL)
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(request.param, tmp_path_factory.mktemp(request.param))


def test_fp16_computes_the_network_as_closely_as_its_own_half(case: Case) -> None:
    path = case.export("fp16")

    assert relative_l2(case.run(path), case.answer()) < 2 * case.half_error()


@pytest.mark.parametrize("kind", ["int8", "palette4", "sparse"])
def test_a_compressed_network_is_stored_as_asked_and_computes_what_its_weights_say(case: Case, kind: str) -> None:
    path = case.folder / f"{kind}.mlpackage"
    source = case.export("fp16")
    if kind == "sparse":
        storage = to_coreml.store_sparse(source, path)
        assert storage.zeros_in("sparse") > 0.99
        assert storage.zero_fraction == pytest.approx(0.5, abs=0.01)
    else:
        storage = to_coreml.quantize(source, path) if kind == "int8" else to_coreml.palettize(source, path, bits=4)
        assert storage.share(kind) > 0.99
    assert package_size(path) < package_size(source) * {"int8": 0.56, "palette4": 0.32, "sparse": 0.62}[kind]

    dense = case.folder / f"{kind}.dense.mlpackage"
    to_coreml.decompress(path, dense)

    # Both are fp16 and hold the same weights but for the last bit of some.
    assert relative_l2(case.run(path), case.run(dense)) < 2 * case.half_error()


def operations(spec: Any, op_type: str) -> list[Any]:
    function = spec.mlProgram.functions["main"]
    found = function.block_specializations[function.opset].operations
    return [operation for operation in found if operation.type == op_type]


class Package:
    """A package that is being made wrong: its message, and its weights in place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spec = read_spec(path)

    def convolutions(self, *, having: str = "weight") -> list[Any]:
        return [one for one in operations(self.spec, "conv") if having in one.inputs]

    def constant(self, operation: Any, parameter: str) -> NDArray[Any]:
        """The stored array of a parameter; what is written to it is written to the file."""
        name = operation.inputs[parameter].arguments[0].name
        maker = next(one for one in operations(self.spec, "const") if one.outputs[0].name == name)
        declared = maker.attributes["val"].type.tensorType
        dtype = {10: np.float16, 11: np.float32}[declared.dataType]
        shape = tuple(dimension.constant.size for dimension in declared.dimensions)
        record = maker.attributes["val"].blobFileValue.offset
        file = weights_folder(self.path) / "weight.bin"
        offset = int(np.memmap(file, np.uint64, "r", record + 16, (1,))[0])
        return np.memmap(file, dtype, "r+", offset, shape)

    def store(self) -> None:
        (self.path / "Data/com.apple.CoreML/model.mlmodel").write_bytes(self.spec.SerializeToString())


def flip_a_kernel(package: Package) -> None:
    weight = next(
        weight for one in package.convolutions()[1:] if (weight := package.constant(one, "weight")).shape[-2] > 1
    )
    weight[:] = weight[..., ::-1, :].copy()


def zero_a_channel(package: Package) -> None:
    package.constant(package.convolutions()[2], "weight")[0] = 0


def scale_a_weight(package: Package) -> None:
    package.constant(package.convolutions()[2], "weight")[:] *= 1.05


def drop_a_bias(package: Package) -> None:
    package.constant(package.convolutions(having="bias")[1], "bias")[:] = 0


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
    weight = package.constant(package.convolutions()[0], "weight")
    weight[:] = weight.swapaxes(-1, -2).copy()


MUTATIONS: dict[str, tuple[Callable[[Package], None], ...]] = {
    "mobilenet_v3_small": (lose_an_activation,),
    "squeezenet1_1": (swap_a_concat, lose_an_activation),
    "light_cnn9": (swap_a_split,),
}
EVERYWHERE = (flip_a_kernel, zero_a_channel, scale_a_weight, drop_a_bias, forget_a_bias, tilt_the_input)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_right_package_is_within_its_tolerance_and_every_wrong_one_is_not(
    small: Case, precision: str, tmp_path: Path
) -> None:
    case = small
    right, expected = case.export(precision), case.answer()
    tolerance = 1e-4 if precision == "fp32" else 2 * case.half_error()
    assert relative_l2(case.run(right), expected) < tolerance
    missed = {}
    for mutate in (*EVERYWHERE, *MUTATIONS[case.name]):
        package = Package(shutil.copytree(right, tmp_path / f"{mutate.__name__}.mlpackage"))
        mutate(package)
        package.store()
        try:
            found = relative_l2(case.run(package.path), expected)
        except UnreadableModel:
            continue
        if not found > tolerance:
            missed[mutate.__name__] = found

    assert not missed, f"tolerance {tolerance:.1e}"
