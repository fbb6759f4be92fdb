"""Modules to and from model folders, which `harness run` and everything else takes like any other."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from harness.catalog.models import find_model, is_model_name
from harness.catalog.modules import initial_module, save_weights
from harness.errors import UsageError, WrongInput
from harness.records import BuiltinSource, CalibrationSpec, FileData, PythonSource
from harness.workspace import folder_in_the_making, require_cache, require_output, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from harness.catalog.datasets.samples import Samples
    from harness.records import Compression, ModelSpec

CHECKED_IMAGES = 8
CALIBRATION_IMAGES = 64


def open_module(spec: ModelSpec) -> nn.Module:
    """Make a model's module, with its weights, in evaluation mode.

    Raises:
        UsageError: It is not a network in PyTorch code, or takes something else than one tensor.
        UnreadableModel, UnknownName, ConversionFailed: See `catalog.modules`.
    """
    if not isinstance(spec.source, BuiltinSource | PythonSource):
        kind = type(spec.source).__name__.removesuffix("Source").lower()
        raise UsageError(
            f"{spec.name} is a ready file ({kind}); only a network in PyTorch code can be trained or pruned"
        )
    if len(spec.inputs) != 1:
        raise WrongInput(spec.name, "one tensor of images", f"{len(spec.inputs)} inputs")
    return initial_module(spec)


def save_model(
    spec: ModelSpec,
    module: nn.Module,
    folder: Path,
    *,
    compression: Compression | None = None,
    samples: Samples | None = None,
) -> ModelSpec:
    """Store a module as a model of its own.

    Args:
        spec: What it was made from; the source, the input and the head are taken over.
        module: With the weights, and the channels, that it shall have.
        folder: Made here, and gives the model its name. Must not be there.
        compression: What was done to it.
        samples: Images like those it was trained on: parity is then checked, and int8 calibrated, on some of them
            rather than on drawn numbers.

    Returns:
        The new model, as `find_model` finds it.

    Raises:
        UsageError: The folder is there already, or its name is none for a model.
    """
    refuse_existing(folder)
    source = spec.source
    assert isinstance(source, BuiltinSource | PythonSource)
    has_lost_channels = source.widths == "weights" or (compression is not None and "channels" in compression.method)
    taught = compression is not None and compression.training is not None
    changed = msgspec.structs.replace(
        spec,
        name=folder.name,
        title=f"{spec.title or spec.name}, {compression.method}" if compression else spec.title,
        source=msgspec.structs.replace(
            source, weights="weights.safetensors", widths="weights" if has_lost_channels else "declared"
        ),
        trained=True if taught else spec.trained,
        accuracy=None,
        compression=compression,
    )
    with folder_in_the_making(folder) as making:
        save_weights(module, making / "weights.safetensors")
        changed = _with_own_files(changed, making) if samples is None else _with_images(changed, samples, making)
        write_atomically(making / "model.toml", _toml(changed))
    return find_model(str(folder)).spec


def require_new_model(folder: Path) -> None:
    """See before any work that a model can be made in this folder.

    Raises:
        UsageError: It is there already, or gives the model a name that none may have.
        UnwritableFolder: It, or the cache, cannot be written.
    """
    refuse_existing(folder)
    require_output(folder)
    require_cache()


def refuse_existing(folder: Path) -> None:
    """Raise UsageError where a model would be written over, or have a name that no model may have."""
    if not is_model_name(folder.name):
        raise UsageError(
            f"{folder} gives the model a name that none may have: take letters, digits, `_`, `-` and `.`, the first a "
            "letter or digit, with --output"
        )
    if folder.exists():
        raise UsageError(f"{folder} is there already: delete it, or give another folder with --output")


def weights_sha256(module: nn.Module) -> str:
    """SHA-256 of the weights file that `save_weights` writes."""
    from safetensors.torch import save  # noqa: PLC0415

    state = {name: value.detach().clone().contiguous() for name, value in module.state_dict().items()}
    return hashlib.sha256(save(state)).hexdigest()


def _with_images(spec: ModelSpec, samples: Samples, folder: Path) -> ModelSpec:
    """Store some images, spread over all samples, none of them for both purposes."""
    available = len(samples.labels)
    spread = np.linspace(0, available - 1, min(available, CHECKED_IMAGES + CALIBRATION_IMAGES)).astype(np.int64)
    checked = spread[:: max(1, len(spread) // CHECKED_IMAGES)][:CHECKED_IMAGES]
    np.save(folder / "check.npy", samples.images(checked))
    np.save(folder / "calibration.npy", samples.images(np.setdiff1d(spread, checked)))
    image = spec.inputs[0]
    return msgspec.structs.replace(
        spec,
        inputs=(msgspec.structs.replace(image, data=FileData(path="check.npy")),),
        check_samples=len(checked),
        calibration=CalibrationSpec(samples=CALIBRATION_IMAGES, files={image.name: "calibration.npy"}),
    )


def _with_own_files(spec: ModelSpec, folder: Path) -> ModelSpec:
    """Copy the images that the parent's folder holds: the parent may be deleted."""
    inputs = list(spec.inputs)
    for index, tensor in enumerate(inputs):
        if isinstance(tensor.data, FileData):
            name = f"check-{index}.npy"
            shutil.copyfile(tensor.data.path, folder / name)
            inputs[index] = msgspec.structs.replace(tensor, data=FileData(path=name))
    files = {}
    for index, (name, file) in enumerate(spec.calibration.files.items()):
        files[name] = f"calibration-{index}.npy"
        shutil.copyfile(file, folder / files[name])
    calibration = msgspec.structs.replace(spec.calibration, files=files)
    return msgspec.structs.replace(spec, inputs=tuple(inputs), calibration=calibration)


def _toml(spec: ModelSpec) -> bytes:
    import tomli_w  # noqa: PLC0415

    return tomli_w.dumps(_without_unknown(msgspec.to_builtins(spec))).encode()


def _without_unknown(value: Any) -> Any:  # noqa: ANN401  (builtins of any nesting)
    """TOML has no word for unknown: the key is left out."""
    if isinstance(value, dict):
        return {key: _without_unknown(inner) for key, inner in value.items() if inner is not None and inner != {}}
    if isinstance(value, list | tuple):
        return [_without_unknown(inner) for inner in value]
    return value
