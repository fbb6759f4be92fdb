from __future__ import annotations

import importlib
import io
import subprocess
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from harness.catalog.coreml_package import package_digest, package_size, read_spec, weights_folder
from harness.catalog.ml_program import Program, Storage, storage_of
from harness.convert import to_coreml
from harness.errors import ConversionFailed, HarnessError
from tests.catalog.ml_program.building import ct, random

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow

X = random(1, 3, 16, 16)


class Net(nn.Module):
    """Two convolutions with everything that converters like to trip over, returning a tuple as `flat` makes it."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 32, 3, padding=1, groups=4)
        self.last = nn.Linear(32, 10)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
        self.eval()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.max_pool2d(F.relu(self.first(x)), 2)  # no stride: coremltools 9 wants one
        x = F.relu6(self.second(x)).mean((2, 3))
        return self.last(x), x


@pytest.fixture(scope="module")
def net() -> Net:
    return Net()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("coreml")


@pytest.fixture(scope="module")
def full(net: Net, folder: Path) -> Path:
    path = folder / "net.fp32.mlpackage"
    to_coreml.export_torch(net, {"image": X}, ["logits", "embedding"], path, precision="fp32")
    return path


@pytest.fixture(scope="module")
def half(net: Net, folder: Path) -> Path:
    path = folder / "net.fp16.mlpackage"
    to_coreml.export_torch(net, {"image": X}, ["logits", "embedding"], path, precision="fp16")
    return path


def expected(module: nn.Module, *inputs: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    with torch.no_grad():
        return [result.numpy() for result in module(*map(torch.from_numpy, inputs))]


def error(path: Path, module: nn.Module) -> float:
    """Largest relative error over all outputs."""
    found = Program.load(path).run({"image": X})
    return max(
        float(np.abs(found[name] - wanted).max() / np.abs(wanted).max())
        for name, wanted in zip(("logits", "embedding"), expected(module, X), strict=True)
    )


def test_names_types_and_order_are_those_that_were_asked_for(full: Path, half: Path) -> None:
    for path in (full, half):
        program = Program.load(path)
        assert [(tensor.name, tensor.shape, tensor.dtype) for tensor in program.inputs] == [
            ("image", (1, 3, 16, 16), "float32")
        ]
        assert [(tensor.name, tensor.shape, tensor.dtype) for tensor in program.outputs] == [
            ("logits", (1, 10), "float32"),
            ("embedding", (1, 32), "float32"),
        ]


def test_both_precisions_compute_the_module(full: Path, half: Path, net: Net) -> None:
    assert error(full, net) < 1e-5
    assert 1e-5 < error(half, net) < 5e-3
    assert storage_of(full).shares == {"fp32": 1.0}
    assert storage_of(half).shares == {"fp16": 1.0}


def test_a_pooling_without_a_stride_is_told_its_own(net: Net, tmp_path: Path) -> None:
    exported = to_coreml.export_torch(net, {"image": X}, ["a", "b"], tmp_path / "a.mlpackage", precision="fp32")

    assert exported == to_coreml.Exported(front_end="torch.export", specification_version=7, pool_strides_added=1)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("how", ["max", "avg"])
def test_any_pooling_without_a_stride_goes_through(rank: int, how: str, tmp_path: Path) -> None:
    function: Callable[..., Tensor] = getattr(F, f"{how}_pool{rank}d")

    class Pool(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor]:
            return (function(x * 2, 3),)

    x, path = random(1, 2, *(9, 6, 7)[:rank]), tmp_path / "a.mlpackage"

    to_coreml.export_torch(Pool(), {"x": x}, ["y"], path, precision="fp32")

    np.testing.assert_allclose(Program.load(path).run({"x": x})["y"], expected(Pool(), x)[0], rtol=1e-5)


@pytest.mark.parametrize(("target", "version"), [("iOS15", 6), ("iOS16", 7), ("iOS17", 8), ("iOS18", 9)])
def test_the_oldest_system_decides_the_specification(
    target: to_coreml.Target, version: int, net: Net, tmp_path: Path
) -> None:
    path = tmp_path / "a.mlpackage"

    exported = to_coreml.export_torch(net, {"image": X}, ["logits", "embedding"], path, precision="fp16", target=target)

    assert exported.specification_version == version == read_spec(path).specificationVersion
    assert error(path, net) < 5e-3


def test_two_conversions_have_one_digest(full: Path, net: Net, tmp_path: Path) -> None:
    path = tmp_path / "again.mlpackage"
    to_coreml.export_torch(net, {"image": X}, ["logits", "embedding"], path, precision="fp32")

    assert package_digest(path) == package_digest(full)


def test_several_inputs_keep_their_order_and_integers_stay_integers(tmp_path: Path) -> None:
    class Lookup(nn.Module):
        def forward(self, place: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
            return table[0][place[0]] * 2, place + 1

    place, table, path = np.array([[2, 0, 1]], np.int32), random(1, 4, 5), tmp_path / "a.mlpackage"

    to_coreml.export_torch(Lookup(), {"place": place, "table": table}, ["rows", "next"], path, precision="fp32")

    program = Program.load(path)
    assert [(tensor.name, tensor.dtype) for tensor in program.inputs] == [("place", "int32"), ("table", "float32")]
    assert [(tensor.name, tensor.dtype) for tensor in program.outputs] == [("rows", "float32"), ("next", "int32")]
    found = program.run({"place": place, "table": table})
    np.testing.assert_allclose(found["rows"], table[0][place[0]] * 2)
    np.testing.assert_array_equal(found["next"], place + 1)


@pytest.mark.parametrize("name", ["logits.1", "a b", "1st"])
def test_a_name_that_coremltools_would_change_is_refused(name: str, net: Net, tmp_path: Path) -> None:
    with pytest.raises(ConversionFailed):
        to_coreml.export_torch(net, {"image": X}, [name, "b"], tmp_path / "a.mlpackage", precision="fp32")


def test_an_operator_that_core_ml_lacks_is_named(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor]:
            return (torch.special.bessel_j0(x),)

    with pytest.raises(ConversionFailed, match="bessel_j0") as caught:
        to_coreml.export_torch(Odd(), {"x": random(1, 3)}, ["y"], tmp_path / "a.mlpackage", precision="fp32")

    assert caught.value.cause == "unsupported_op"
    assert not (tmp_path / "a.mlpackage").exists()


class Unexportable(nn.Module):
    """Its Python depends on data: tracing freezes one way, exporting refuses."""

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (x * 2,) if float(x.sum()) > 0 else (x * 3,)


def test_tracing_is_never_taken_in_silence(tmp_path: Path) -> None:
    path, x = tmp_path / "a.mlpackage", np.ones((1, 3), np.float32)

    with pytest.raises(ConversionFailed, match=r"torch\.export: "):
        to_coreml.export_torch(Unexportable(), {"x": x}, ["y"], path, precision="fp32")
    exported = to_coreml.export_torch(Unexportable(), {"x": x}, ["y"], path, precision="fp32", allow_trace=True)

    assert exported.front_end == "torch.jit.trace"
    np.testing.assert_allclose(Program.load(path).run({"x": x})["y"], x * 2)


def test_converting_prints_and_warns_nothing(tmp_path: Path) -> None:
    program = f"""
import warnings
warnings.simplefilter("error")
import numpy as np
from torch import nn
from harness.convert import to_coreml
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(20, 20)
    def forward(self, x):
        return (self.layer(x),)
from pathlib import Path
folder = Path({str(tmp_path)!r})
to_coreml.export_torch(Net().eval(), {{"x": np.ones((1, 20), np.float32)}}, ["y"], folder / "a.mlpackage",
                       precision="fp16")
to_coreml.palettize(folder / "a.mlpackage", folder / "b.mlpackage", bits=2)
to_coreml.export_neural_network(Net().eval(), {{"x": np.ones((1, 20), np.float32)}}, ["y"], folder / "c.mlmodel")
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_int8_is_stored_and_close(full: Path, half: Path, net: Net, tmp_path: Path) -> None:
    for source in (full, half):
        path = tmp_path / f"{source.stem}.int8.mlpackage"

        storage = to_coreml.quantize(source, path)

        assert storage.share("int8") == 1.0
        assert storage == storage_of(path)
        assert package_size(path) < package_size(source)
        assert 1e-4 < error(path, net) < 3e-2


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
def test_a_palette_is_stored(bits: int, half: Path, net: Net, tmp_path: Path) -> None:
    path = tmp_path / "a.mlpackage"

    storage = to_coreml.palettize(half, path, bits=bits)

    assert storage.share(f"palette{bits}") == storage.share("palette") == 1.0
    assert error(path, net) < {2: 1.0, 4: 0.3, 6: 0.1, 8: 0.02}[bits]


def pruned(net: Net, share: float) -> Net:
    module = Net()
    module.load_state_dict(net.state_dict())
    with torch.no_grad():
        for layer in (module.first, module.second, module.last):
            limit = layer.weight.abs().flatten().kthvalue(int(share * layer.weight.numel())).values
            layer.weight[layer.weight.abs() <= limit] = 0
    return module


def test_a_tensor_with_fewer_weights_than_a_table_has_values_keeps_them(tmp_path: Path) -> None:
    class Depthwise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(16, 16, 3, groups=16)
            self.last = nn.Linear(16, 100)
            generator = torch.Generator().manual_seed(0)
            self.first.weight.data = torch.randn(16, 1, 3, 3, generator=generator)
            self.first.weight.data[:, :, 0] = 0  # 48 equal ones among 144

        def forward(self, x: Tensor) -> tuple[Tensor]:
            return (self.last(self.first(x).mean((2, 3))),)

    module, x = Depthwise().eval(), random(1, 16, 8, 8)
    source, path = tmp_path / "fp16.mlpackage", tmp_path / "palette8.mlpackage"
    to_coreml.export_torch(module, {"x": x}, ["y"], source, precision="fp16")

    storage = to_coreml.palettize(source, path, bits=8)

    assert storage.share("fp16") == pytest.approx(144 / 1744)
    found, wanted = Program.load(path).run({"x": x})["y"], expected(module, x)[0]
    assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < 0.02


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_zeros_of_the_module_are_stored_sparse_and_nothing_else_changes(
    share: float, precision: Any, net: Net, tmp_path: Path
) -> None:
    module, dense, path = pruned(net, share), tmp_path / "dense.mlpackage", tmp_path / "sparse.mlpackage"
    to_coreml.export_torch(module, {"image": X}, ["logits", "embedding"], dense, precision=precision)

    storage = to_coreml.store_sparse(dense, path)

    assert storage.share("sparse") == 1.0
    assert storage.zero_fraction == pytest.approx(share, abs=0.01)
    assert storage.zeros_in("sparse") == 1.0
    for one, other in zip(
        Program.load(path).run({"image": X}).values(), Program.load(dense).run({"image": X}).values(), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    before, after = ((weights_folder(package) / "weight.bin").stat().st_size for package in (dense, path))
    stored = storage.elements * (2 if precision == "fp16" else 4)
    # Each of the three masks and value lists is a blob more, with a record and an alignment of 64 bytes each.
    assert before - after == pytest.approx(stored * share - storage.elements / 8, abs=3 * 2 * 128)


def test_sparse_without_zeros_is_a_failure(half: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionFailed, match="asked to be sparse, no weight is"):
        to_coreml.store_sparse(half, tmp_path / "a.mlpackage")


def test_a_compressor_that_did_nothing_is_a_failure(half: Path, tmp_path: Path) -> None:
    already = tmp_path / "a.mlpackage"
    to_coreml.palettize(half, already, bits=4)

    with pytest.raises(ConversionFailed, match=r"asked for int8, the package stores palette4 100\.0%"):
        to_coreml.quantize(already, tmp_path / "b.mlpackage")


def test_a_compressor_that_did_too_little_is_a_failure(tmp_path: Path) -> None:
    class Tiny(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(7, 9)  # 63 elements: under the smallest weight

        def forward(self, x: Tensor) -> tuple[Tensor]:
            return (self.layer(x),)

    source = tmp_path / "a.mlpackage"
    to_coreml.export_torch(Tiny().eval(), {"x": random(1, 7)}, ["y"], source, precision="fp16")

    with pytest.raises(ConversionFailed, match="asked for palettes of 4 bits, the package stores fp16"):
        to_coreml.palettize(source, tmp_path / "b.mlpackage", bits=4)


def test_shares_add_up_and_stand_for_their_family() -> None:
    storage = Storage(
        shares={"fp16": 0.5, "palette4": 0.2, "palette8": 0.1, "sparse": 0.15, "sparse+int8": 0.05},
        elements=100,
        zeros={"fp16": 1, "sparse": 2, "sparse+int8": 1},
    )

    assert storage.share("palette") == pytest.approx(0.3)
    assert storage.share("palette4") == 0.2
    assert storage.share("sparse") == pytest.approx(0.2)
    assert storage.share("sparse+int8") == 0.05
    assert storage.share("int8") == 0.0
    assert storage.share("fp") == 0.0
    assert storage.zero_fraction == 0.04
    assert storage.zeros_in("sparse") == 0.75


@pytest.mark.parametrize(
    ("second", "kind"), [("linear_quantize_weights", "sparse+int8"), ("palettize_weights", "sparse+palette4")]
)
def test_joint_compression_of_ios_18_is_read_and_run(second: str, kind: str, net: Net, tmp_path: Path) -> None:
    module, dense, sparse = pruned(net, 0.5), tmp_path / "dense.mlpackage", tmp_path / "sparse.mlpackage"
    to_coreml.export_torch(module, {"image": X}, ["logits", "embedding"], dense, precision="fp16", target="iOS18")
    to_coreml.store_sparse(dense, sparse)
    opt = ct.optimize.coreml
    config = (
        opt.OpLinearQuantizerConfig(weight_threshold=64)
        if kind.endswith("int8")
        else opt.OpPalettizerConfig(nbits=4, weight_threshold=64)
    )
    with to_coreml._quiet():
        model = ct.models.MLModel(str(sparse), skip_model_load=True)
        joint = getattr(opt, second)(model, opt.OptimizationConfig(config), joint_compression=True)
        joint.save(str(tmp_path / "joint.mlpackage"))

    storage = storage_of(tmp_path / "joint.mlpackage")

    assert storage.shares == {kind: 1.0}
    assert storage.zero_fraction == pytest.approx(0.5, abs=0.02)
    assert error(tmp_path / "joint.mlpackage", module) < 0.3


def test_a_neural_network_is_written_for_ios_13_and_has_its_names(net: Net, tmp_path: Path) -> None:
    path = tmp_path / "a.mlmodel"

    exported = to_coreml.export_neural_network(net, {"image": X}, ["logits", "embedding"], path)

    spec = read_spec(path)
    assert spec.WhichOneof("Type") == "neuralNetwork"
    assert exported.specification_version == spec.specificationVersion == 4
    assert [feature.name for feature in spec.description.output] == ["logits", "embedding"]
    assert len(package_digest(path)) == 64
    with pytest.raises(HarnessError, match="neuralNetwork"):
        Program.load(path)


@pytest.mark.parametrize(("bits", "stored"), [(8, "quantized"), (16, "fp16")])
def test_a_neural_network_that_does_not_store_what_was_asked_is_refused(
    net: Net, tmp_path: Path, bits: int, stored: str
) -> None:
    path = tmp_path / "a.mlmodel"
    to_coreml.export_neural_network(net, {"image": X}, ["logits", "embedding"], path)
    assert to_coreml.require_network_stored(path) == {"fp32": 1.0}
    tools = importlib.import_module("coremltools.models.neural_network.quantization_utils")
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        smaller = tools.quantize_weights(ct.models.MLModel(str(path), skip_model_load=True), bits)
    ct.utils.save_spec(getattr(smaller, "get_spec", lambda: smaller)(), str(path))

    with pytest.raises(ConversionFailed, match=f"asked for fp32, the neural network stores {stored} "):
        to_coreml.require_network_stored(path)
