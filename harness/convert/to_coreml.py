"""Core ML files: fp32 and fp16 from torch; int8, palettized and sparse from those. For child processes only.

What a compressor was asked to do is never believed: the package is read back, and one that is not as asked is refused
(`ml_program.storage_of` says how it stores its weights).
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections import Counter
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from harness.catalog.coreml_package import import_coremltools, read_spec
from harness.catalog.ml_program import Storage, storage_of
from harness.errors import ConversionFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    _Arrays = Mapping[str, NDArray[np.generic]]

FrontEnd: TypeAlias = Literal["torch.export", "torch.jit.trace"]
Target: TypeAlias = Literal["iOS15", "iOS16", "iOS17", "iOS18"]

COMPRESSED_SHARE = 0.9
"""A compressor has to have reached at least this share of the weights' elements, or its result is refused."""
_SMALLEST_WEIGHT = 64
"""Tensors with more elements are compressed. coremltools' own 2,048 leaves whole depthwise layers out."""
_NAMES_OF_POOLINGS = ("max_pool1d", "max_pool2d", "max_pool3d")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """How a file came out of torch.

    Attributes:
        front_end: What read the module.
        specification_version: Of the file; 4 is iOS 13, 6 iOS 15, 7 iOS 16, 8 iOS 17, 9 iOS 18.
        pool_strides_added: How many poolings had to be told their own stride.
    """

    front_end: FrontEnd
    specification_version: int
    pool_strides_added: int


def export_torch(
    module: nn.Module,
    inputs: _Arrays,
    outputs: Sequence[str],
    path: Path,
    *,
    precision: Literal["fp32", "fp16"],
    target: Target = "iOS16",
    allow_trace: bool = False,
) -> Exported:
    """Convert a module to an ML Program.

    Args:
        module: Takes its inputs by position and returns a tuple.
        inputs: Name -> `[samples, ...]`; the first sample is what the module is exported with, with a batch of 1.
            float32, int32 or int64; the file's own inputs are float32 and int32.
        outputs: Their names, in order. The file's are float32, or int32 where they are integers.
        path: Where the `.mlpackage` goes.
        precision: In which weights are stored, and computed.
        target: The oldest system that has to load it.
        allow_trace: Take `torch.jit.trace` where `torch.export` fails; `Exported.front_end` then says so.

    Raises:
        ConversionFailed: torch cannot export the module, coremltools lacks an operator, or the file has other inputs
            and outputs than asked for.
        MissingExtra: coremltools is not installed.
    """
    ct = import_coremltools()
    half = ct.precision.FLOAT16 if precision == "fp16" else ct.precision.FLOAT32
    options = {
        "convert_to": "mlprogram",
        "compute_precision": half,
        "minimum_deployment_target": getattr(ct.target, target),
    }
    return _export(ct, module, inputs, outputs, path, options, allow_trace=allow_trace)


def export_neural_network(
    module: nn.Module,
    inputs: _Arrays,
    outputs: Sequence[str],
    path: Path,
    *,
    allow_trace: bool = False,
) -> Exported:
    """Convert a module to the older format, a neural network in fp32.

    For systems before iOS 15. What coremltools 9 converts to has specification 4 at least, which iOS 13 is the first to
    load: for a device that ends at iOS 12 it has nothing.

    Args:
        module: As for `export_torch`.
        inputs: As for `export_torch`.
        outputs: As for `export_torch`.
        path: Where the `.mlmodel` goes.
        allow_trace: As for `export_torch`.

    Raises:
        ConversionFailed: As for `export_torch`.
        MissingExtra: coremltools is not installed.
    """
    ct = import_coremltools()
    options = {"convert_to": "neuralnetwork"}
    return _export(ct, module, inputs, outputs, path, options, allow_trace=allow_trace)


def quantize(source: Path, path: Path) -> Storage:
    """Store weights as int8, one scale for each output channel, symmetric; computing stays as it was.

    Args:
        source: An `.mlpackage` with plain weights.
        path: Where the new one goes.

    Returns:
        How the new one stores its weights.

    Raises:
        ConversionFailed: Less than `COMPRESSED_SHARE` of the weights became int8.
    """
    ct = import_coremltools()
    config = ct.optimize.coreml.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype="int8", granularity="per_channel", weight_threshold=_SMALLEST_WEIGHT
    )
    _compress(ct, "linear_quantize_weights", config, source, path)
    return _require(path, "int8", COMPRESSED_SHARE, "int8")


def palettize(source: Path, path: Path, *, bits: int) -> Storage:
    """Store weights as indices into a table of 2^bits values for each tensor, found by k-means.

    Args:
        source: An `.mlpackage` with plain weights.
        path: Where the new one goes.
        bits: 1, 2, 4, 6 or 8.

    Returns:
        How the new one stores its weights.

    Raises:
        ConversionFailed: Less than `COMPRESSED_SHARE` of the weights became indices of that many bits.
    """
    ct = import_coremltools()
    # A tensor has to have more weights than the table has values. It would grow else, and with equal weights in it
    # (zeros of a pruned filter) scikit-learn's k-means returns values that are not there: 144 weights, relative L2 1.7.
    smallest = max(_SMALLEST_WEIGHT, 2**bits)
    config = ct.optimize.coreml.OpPalettizerConfig(mode="kmeans", nbits=bits, weight_threshold=smallest)
    _compress(ct, "palettize_weights", config, source, path)
    return _require(path, f"palette{bits}", COMPRESSED_SHARE, f"palettes of {bits} bits")


def store_sparse(source: Path, path: Path) -> Storage:
    """Store weights that have zeros as a bit mask and the values that are left. No weight changes.

    Pruning itself is done in torch: coremltools' magnitude pruning takes a percentile in fp16, which with numpy 2.0 to
    2.3 is NaN for more than 65,504 elements, and then prunes nothing without a word.

    Args:
        source: An `.mlpackage` with plain weights, some of them zero.
        path: Where the new one goes.

    Returns:
        How the new one stores its weights.

    Raises:
        ConversionFailed: No weight is sparse enough, or less than `COMPRESSED_SHARE` of the zeros ended in a mask.
    """
    ct = import_coremltools()
    # A mask costs one bit an element: it pays from 1/16 zeros on in fp16. coremltools' own limit is one half.
    config = ct.optimize.coreml.OpThresholdPrunerConfig(
        threshold=0.0, minimum_sparsity_percentile=1 / 16, weight_threshold=_SMALLEST_WEIGHT
    )
    _compress(ct, "prune_weights", config, source, path)
    storage = storage_of(path)
    if storage.share("sparse") == 0:
        problem = f"asked to be sparse, no weight is: {storage.zero_fraction:.1%} of their elements are zero"
        error = ConversionFailed("", "unsupported", problem, "")
        error.hint = "Make weights zero first: `harness compress MODEL --method layer-magnitude --ratio 2 -o FOLDER`."
        raise error
    if storage.zeros_in("sparse") < COMPRESSED_SHARE:
        problem = f"asked to be sparse, only {storage.zeros_in('sparse'):.1%} of the zeros are stored so"
        raise ConversionFailed("", "unsupported", problem, "")
    return storage


def decompress(source: Path, path: Path) -> None:
    """Store every compressed weight plainly again, by coremltools' own decompression.

    Args:
        source: An `.mlpackage` with compressed weights.
        path: Where the plain one goes.
    """
    ct = import_coremltools()
    with _quiet(), _without_self_checks(), _without_optimization():
        model = ct.models.MLModel(str(source), skip_model_load=True)
        ct.optimize.coreml.decompress_weights(model).save(str(path))


def require_stored(path: Path, kind: Literal["fp32", "fp16"]) -> Storage:
    """Read back a package with plain weights.

    Raises:
        ConversionFailed: Less than `COMPRESSED_SHARE` of its weights are stored so.
    """
    return _require(path, kind, COMPRESSED_SHARE, kind)


def require_network_stored(path: Path) -> dict[str, float]:
    """Read back how a neural network of the older kind stores its weights, biases among them.

    Returns:
        `fp32`, `fp16` or `quantized` -> share of the elements that is stored so.

    Raises:
        ConversionFailed: Less than `COMPRESSED_SHARE` is fp32.
    """
    found: Counter[str] = Counter()
    for weights in _weights_in(read_spec(path).neuralNetwork):
        found["fp32"] += len(weights.floatValue)
        found["fp16"] += len(weights.float16Value) // 2
        bits = weights.quantization.numberOfBits or 8
        found["quantized"] += (len(weights.rawValue) * 8) // bits + len(weights.int8RawValue)
    shares = {kind: count / found.total() for kind, count in found.most_common() if count}
    if shares.get("fp32", 0.0) < COMPRESSED_SHARE:
        stored = ", ".join(f"{kind} {share:.1%}" for kind, share in shares.items()) or "no weights"
        problem = f"asked for fp32, the neural network stores {stored}"
        raise ConversionFailed("", "unsupported", problem, "")
    return shares


def _weights_in(message: Any) -> Iterator[Any]:  # noqa: ANN401  (messages have no types)
    """Every `WeightParams` in a message of coremltools' own format."""
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for each in value if field.is_repeated else (value,):
            if field.message_type.name == "WeightParams":
                yield each
            else:
                yield from _weights_in(each)


def _export(
    ct: Any,  # noqa: ANN401
    module: nn.Module,
    inputs: _Arrays,
    outputs: Sequence[str],
    path: Path,
    options: Mapping[str, Any],
    *,
    allow_trace: bool,
) -> Exported:
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415

    samples = tuple(torch.from_numpy(np.ascontiguousarray(values[:1])) for values in inputs.values())
    tensor_types = [
        ct.TensorType(name, shape=sample.shape, dtype=np.float32 if sample.is_floating_point() else np.int32)
        for name, sample in zip(inputs, samples, strict=True)
    ]
    with torch.no_grad():
        results = module(*samples)
    options = {
        **options,
        "inputs": tensor_types,
        "outputs": [
            ct.TensorType(name, dtype=np.float32 if result.is_floating_point() else np.int32)
            for name, result in zip(outputs, results, strict=True)
        ],
        "skip_model_load": True,
    }
    with _quiet():
        front_end: FrontEnd = "torch.export"
        added = 0
        try:
            program, added = _exported(module, samples)
            model = _converted(ct, program, options)
        except ConversionFailed:
            if not allow_trace:
                raise
            front_end = "torch.jit.trace"
            model = _converted(ct, torch.jit.trace(module, samples), options)  # type: ignore[no-untyped-call]
        model.save(str(path))
    version = _require_signature(path, list(inputs), list(outputs))
    return Exported(front_end=front_end, specification_version=version, pool_strides_added=added)


def _exported(module: nn.Module, samples: tuple[Tensor, ...]) -> tuple[Any, int]:
    import torch  # noqa: PLC0415

    try:
        program = torch.export.export(module, samples).run_decompositions({})
    except Exception as error:  # torch.export documents none, and lets the module's own through
        raise _explained("torch.export", error) from error
    return program, _spell_strides_out(program)


def _converted(ct: Any, program: Any, options: Mapping[str, Any]) -> Any:  # noqa: ANN401
    try:
        return ct.convert(program, **options)
    except Exception as error:  # coremltools raises whatever its passes do
        raise _explained("coremltools", error) from error


def _spell_strides_out(program: Any) -> int:  # noqa: ANN401
    """Give every pooling that leaves its stride out the default one, its kernel; coremltools 9.0 wants it written."""
    added = 0
    for node in program.graph.nodes:
        name = getattr(getattr(node.target, "overloadpacket", None), "__name__", "")
        if node.op == "call_function" and name in _NAMES_OF_POOLINGS and len(node.args) == 2:
            node.args = (*node.args, node.args[1])
            added += 1
    return added


def _compress(ct: Any, function: str, config: Any, source: Path, path: Path) -> None:  # noqa: ANN401
    with _quiet(), _without_self_checks():
        model = ct.models.MLModel(str(source), skip_model_load=True)
        compress = getattr(ct.optimize.coreml, function)
        try:
            compressed = compress(model, ct.optimize.coreml.OptimizationConfig(global_config=config))
        except Exception as error:  # as above
            raise _explained("coremltools", error) from error
        compressed.save(str(path))


def _require(path: Path, kind: str, share: float, asked: str) -> Storage:
    storage = storage_of(path)
    if storage.share(kind) < share:
        found = ", ".join(f"{name} {part:.1%}" for name, part in storage.shares.items()) or "no weights"
        problem = f"asked for {asked}, the package stores {found} of its weights' elements"
        raise ConversionFailed("", "unsupported", problem, "")
    return storage


def _require_signature(path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> int:
    """Read a file back: coremltools renames, merges or drops what it likes.

    Raises:
        ConversionFailed: Its inputs or outputs are not those that were asked for.
    """
    spec = read_spec(path)
    for role, asked, found in (
        ("inputs", inputs, spec.description.input),
        ("outputs", outputs, spec.description.output),
    ):
        names = [feature.name for feature in found]
        if names != list(asked):
            problem = f"asked for the {role} {', '.join(asked)}, the file has {', '.join(names) or 'none'}"
            raise ConversionFailed("", "failed", problem, "")
        for feature in found:
            data_type = feature.type.multiArrayType.dataType
            allowed = (feature.type.multiArrayType.FLOAT32, feature.type.multiArrayType.INT32)
            if feature.type.WhichOneof("Type") != "multiArrayType" or data_type not in allowed:
                problem = f"{role[:-1]} {feature.name!r} is neither float32 nor int32 in the file"
                raise ConversionFailed("", "failed", problem, "")
    return int(spec.specificationVersion)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep coremltools quiet: its warnings and progress bars are nothing that a user could act on."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


@contextmanager
def _without_self_checks() -> Iterator[None]:
    """Compress in half of the time: coremltools walks the whole program a thousand times to check its own work.

    What it wrote is read back, and computed by the evaluator, in any case.

    Source: coremltools 9.0, converters/mil/mil/block.py, `Block.validate`; MobileNetV3 small, palettes: 3.7 for 5.7 s.
    """
    from coremltools.converters.mil.mil.block import Block  # noqa: PLC0415

    checks = Block.validate
    Block.validate = _nothing
    try:
        yield
    finally:
        Block.validate = checks


@contextmanager
def _without_optimization() -> Iterator[None]:
    """Write a package anew in half of the time: its program was optimized when it was made.

    Source: coremltools 9.0, converters/mil/converter.py, `mil_convert_to_proto`; passes/pass_pipeline.py.
    """
    from coremltools.converters.mil.mil.passes.pass_pipeline import PassPipelineManager  # noqa: PLC0415

    usual = PassPipelineManager.apply_pipeline

    def only_what_the_format_needs(program: Any, pipeline: Any) -> None:  # noqa: ANN401
        if str(pipeline) != "default":
            usual(program, pipeline)

    PassPipelineManager.apply_pipeline = staticmethod(only_what_the_format_needs)
    try:
        yield
    finally:
        PassPipelineManager.apply_pipeline = staticmethod(usual)


def _nothing(*_arguments: object, **_settings: object) -> None:
    """In place of `Block.validate`."""


def _explained(tool: str, error: Exception) -> ConversionFailed:
    """What coremltools or torch meant.

    Source: coremltools 9.0, converters/mil/frontend/torch/ops.py, `convert_single_node`, for both front ends.
    """
    text = str(error)
    operator = re.search(r"Unsupported fx node (\S+),|convert function for op '([^']+)' not implemented", text)
    if operator:
        return ConversionFailed("", "unsupported_op", f"Core ML has no operator for {operator[1] or operator[2]}", "")
    said = next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
    return ConversionFailed("", "failed", f"{tool}: {type(error).__name__}: {said}", "")
