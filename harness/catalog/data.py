"""The declared inputs, drawn or read: what parity is checked on, and what calibration observes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from harness.catalog.signature import UNKNOWN_DIMENSION
from harness.errors import WrongInput
from harness.records import FileData, InputSpec, NormalData, TensorSpec, UniformData

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from harness.records import Checkpoint, InputData, ModelSpec

Stream: TypeAlias = Literal["inputs", "calibration", "settling"]
Stored: TypeAlias = Literal["inputs", "calibration", "reference"]

_STREAMS: dict[Stream, int] = {"inputs": 1, "calibration": 2, "settling": 3}


def draw(spec: ModelSpec, stream: Stream, *, samples: int) -> dict[str, NDArray[np.generic]]:
    """Draw samples of every input. The same spec always gives the same numbers, on every machine.

    Args:
        spec: Its `inputs` are filled in.
        stream: Inputs, calibration data and images to settle BatchNorm on are drawn apart: what calibration saw is no
            evidence. Data from a file are the same in each, except that calibration may name files of its own.
        samples: How many; from a file, its first ones, and fewer where it has fewer.

    Returns:
        Input name -> `[samples, ...]`, without the batch dimension of 1.

    Raises:
        WrongInput: A file has another shape or another kind of values than the input, or cannot be read.
    """
    drawn: dict[str, NDArray[np.generic]] = {}
    for index, tensor in enumerate(spec.inputs):
        file = spec.calibration.files.get(tensor.name) if stream == "calibration" else None
        data: InputData = FileData(path=file) if file is not None else tensor.data
        if isinstance(data, FileData):
            drawn[tensor.name] = _from_file(data.path, tensor)[:samples]
        else:
            generator = np.random.default_rng((spec.seed, _STREAMS[stream], index))
            drawn[tensor.name] = _from_distribution(generator, data, tensor, samples)
    fewest = min(len(values) for values in drawn.values())
    return {name: values[:fewest] for name, values in drawn.items()}


def inputs_of_file(spec: ModelSpec, tensors: Sequence[TensorSpec]) -> tuple[InputSpec, ...]:
    """The inputs of a ready file: as its model.toml describes them, else as the file does.

    A dimension that the file leaves open is taken from the model.toml; an open first one is the batch, 1. Without a
    description, real inputs are drawn from N(0, 1), quantized ones evenly over the range that the file can represent,
    and whole numbers from 0 and 1 (images of uint8: 0 to 255), which is a valid index nearly everywhere.

    Raises:
        WrongInput: The two contradict each other, or a dimension stays open.
    """
    described = {tensor.name: tensor for tensor in spec.inputs}
    if described and set(described) != {tensor.name for tensor in tensors}:
        expected = ", ".join(f"{tensor.name} {_shape(tensor.shape)}" for tensor in tensors)
        raise WrongInput(", ".join(described), f"the inputs {expected}", "described under other names")
    return tuple(_input_of_file(tensor, described.get(tensor.name)) for tensor in tensors)


def _input_of_file(tensor: TensorSpec, described: InputSpec | None) -> InputSpec:
    batch = tensor.shape[:1] == (UNKNOWN_DIMENSION,)
    shape = ((1,) if batch else tensor.shape[:1]) + tensor.shape[1:]
    expected = f"{tensor.dtype} {_shape(tensor.shape)}"
    if described is not None:
        fits = len(shape) == len(described.shape) and all(
            ours in {theirs, UNKNOWN_DIMENSION} for ours, theirs in zip(shape, described.shape, strict=True)
        )
        # Real values for a quantized input are quantized on their way in, as the file's scale says.
        same_kind = tensor.scale is not None or tensor.dtype == described.dtype
        if not fits or not same_kind:
            raise WrongInput(tensor.name, expected, f"{described.dtype} {_shape(described.shape)}")
        return described
    if not shape or shape[0] != 1:
        raise WrongInput(tensor.name, expected, "one sample at a time, with a leading batch dimension of 1")
    if UNKNOWN_DIMENSION in shape:
        raise WrongInput(tensor.name, expected, "not described: give its shape under [[inputs]] in a model.toml")
    dtype = tensor.dtype if tensor.scale is None else "float32"
    return InputSpec(name=tensor.name, shape=shape, dtype=dtype, data=_usual_data(tensor))


def _usual_data(tensor: TensorSpec) -> InputData:
    dtype = np.dtype(tensor.dtype)
    if tensor.scale is not None:
        limits, zero = np.iinfo(dtype), tensor.zero_point or 0
        return UniformData(low=tensor.scale * (limits.min - zero), high=tensor.scale * (limits.max - zero))
    if np.issubdtype(dtype, np.floating):
        return NormalData()
    return UniformData(low=0, high=256 if dtype == np.uint8 else 2)


def _from_distribution(
    generator: np.random.Generator, data: NormalData | UniformData, tensor: InputSpec, samples: int
) -> NDArray[np.generic]:
    size, dtype = (samples, *tensor.shape[1:]), np.dtype(tensor.dtype)
    if isinstance(data, NormalData):
        return (generator.standard_normal(size, dtype=np.float32) * data.std + data.mean).astype(dtype)
    values = generator.random(size, dtype=np.float64) * (data.high - data.low) + data.low
    return (values if np.issubdtype(dtype, np.floating) else np.floor(values)).astype(dtype)


def _from_file(path: str, tensor: InputSpec) -> NDArray[np.generic]:
    expected = f"{tensor.dtype} of shape [samples, {', '.join(map(str, tensor.shape[1:]))}]"
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise WrongInput(tensor.name, expected, f"in {path}, which is not a .npy file: {error}") from error
    if not isinstance(values, np.ndarray) or values.shape[1:] != tensor.shape[1:] or len(values) == 0:
        found = f"of shape {list(values.shape)}" if isinstance(values, np.ndarray) else "an archive"
        raise WrongInput(tensor.name, expected, f"{found} in {path}")
    wanted = np.dtype(tensor.dtype)
    if np.issubdtype(values.dtype, np.floating) != np.issubdtype(wanted, np.floating):
        raise WrongInput(tensor.name, expected, f"{values.dtype} in {path}")
    if np.issubdtype(wanted, np.floating) and not np.isfinite(values).all():
        raise WrongInput(tensor.name, expected, f"in {path} with NaN or infinite values")
    return values.astype(wanted)


def _shape(shape: Sequence[int]) -> str:
    return "[" + ", ".join("?" if size == UNKNOWN_DIMENSION else str(size) for size in shape) + "]"


def arrays_of(checkpoint: Checkpoint, which: Stored) -> dict[str, NDArray[np.generic]]:
    """What is stored beside a checkpoint's weights, by input or output: `[samples, ...]`."""
    with np.load(Path(checkpoint.folder) / f"{which}.npz", allow_pickle=False) as stored:
        return dict(stored)
