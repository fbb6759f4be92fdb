"""Arrays on their way into and out of a runtime: shapes checked, quantized as the file declares, stored raw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.errors import WrongInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from harness.records import TensorSpec


def as_declared(samples: NDArray[np.generic], tensor: TensorSpec) -> NDArray[np.generic]:
    """Turn real-valued samples into what a file takes.

    Args:
        samples: `[samples, ...]`, where `...` is the tensor's shape without its leading batch dimension of 1.
        tensor: What the file declares. Where it is quantized, values are rounded to the nearest step and clipped.

    Returns:
        `[samples, *tensor.shape[1:]]` in the tensor's dtype, C-contiguous.

    Raises:
        WrongInput: The shape or the kind of values does not fit, or the dtype cannot hold a value.

    Source: affine quantization as in TFLite's specification, q = round(r / scale) + zero_point, half to even.
    """
    if tuple(samples.shape[1:]) != tensor.shape[1:]:
        raise WrongInput(tensor.name, f"shape {list(tensor.shape)}", f"of shape {[1, *samples.shape[1:]]}")
    wanted = np.dtype(tensor.dtype)
    if tensor.scale is not None:
        limits = np.iinfo(wanted)
        if np.isnan(samples).any():
            raise WrongInput(tensor.name, "numbers", "NaN in places, which no integer stands for")
        steps = np.rint(np.asarray(samples, dtype=np.float64) / tensor.scale) + (tensor.zero_point or 0)
        return np.ascontiguousarray(np.clip(steps, limits.min, limits.max).astype(wanted))
    if np.issubdtype(samples.dtype, np.floating) != np.issubdtype(wanted, np.floating):
        raise WrongInput(tensor.name, wanted.name, samples.dtype.name)
    with np.errstate(over="ignore"):
        stored = samples.astype(wanted)
    is_changed = np.isinf(stored) & np.isfinite(samples) if np.issubdtype(wanted, np.floating) else stored != samples
    if is_changed.any():
        raise WrongInput(tensor.name, f"values that {wanted.name} can hold", f"{samples[is_changed][0]} in places")
    return np.ascontiguousarray(stored)


def as_real(stored: NDArray[np.generic], tensor: TensorSpec) -> NDArray[np.generic]:
    """Undo `as_declared` for an output: dequantize, and widen float16 to float32. Other integers stay."""
    if tensor.scale is not None:
        return ((stored.astype(np.float32) - (tensor.zero_point or 0)) * tensor.scale).astype(np.float32)
    return stored.astype(np.float32) if np.issubdtype(stored.dtype, np.floating) else stored


def write_raw(path: Path, samples: NDArray[np.generic]) -> None:
    """Write `[samples, ...]` as little-endian bytes, nothing else."""
    path.write_bytes(samples.astype(samples.dtype.newbyteorder("<"), copy=False).tobytes())


def read_raw(path: Path, tensor: TensorSpec, *, samples: int) -> NDArray[np.generic]:
    """Read back what `write_raw` wrote: `[samples, *tensor.shape[1:]]`.

    Raises:
        WrongInput: The file has another size than the tensor's shape and dtype ask for.
    """
    dtype = np.dtype(tensor.dtype).newbyteorder("<")
    values = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    shape = (samples, *tensor.shape[1:])
    wanted = int(np.prod(shape)) * dtype.itemsize
    if values.size != wanted:
        raise WrongInput(tensor.name, f"{wanted:,} bytes for {samples} samples", f"{values.size:,} bytes")
    return values.view(dtype).reshape(shape)


def in_order(named: Mapping[str, NDArray[np.generic]], tensors: Sequence[TensorSpec]) -> list[NDArray[np.generic]]:
    """Named samples in the order a file declares its tensors.

    Converters rename tensors. Where the names do not match, the order does: both list them as the model takes them.

    Raises:
        WrongInput: There are more or fewer of them than the file takes.
    """
    if len(named) != len(tensors):
        expected = f"{len(tensors)} inputs ({', '.join(tensor.name for tensor in tensors)})"
        raise WrongInput(", ".join(named), expected, f"{len(named)} arrays")
    if {tensor.name for tensor in tensors} == set(named):
        return [named[tensor.name] for tensor in tensors]
    return list(named.values())
