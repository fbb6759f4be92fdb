"""Torch modules: made from their source, given their weights, called on named inputs. For child processes only."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.catalog.data import draw
from harness.errors import ConversionFailed, UnknownName, UnreadableModel, WrongInput
from harness.jobs import is_out_of_memory
from harness.records import BuiltinSource, ProgramSource, PythonSource

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.records import Checkpoint, ModelSpec, Widths

WEIGHTS_FILE = "weights.safetensors"
PROGRAM_FILE = "program.pt2"


def load_module(spec: ModelSpec, checkpoint: Checkpoint) -> nn.Module:
    """Load a stored checkpoint as a module in evaluation mode, on one thread.

    Imports torch, and the user's code for a `python` source; call it in a child process.

    Args:
        spec: What the checkpoint was made from.
        checkpoint: Of the form `torch` or `pt2`.

    Raises:
        UnreadableModel: The stored weights do not fit the module that the source makes now.
    """
    import torch  # noqa: PLC0415

    torch.set_num_threads(1)
    if isinstance(spec.source, ProgramSource):
        return load_program(Path(checkpoint.folder) / PROGRAM_FILE)
    module = new_module(spec)
    assert isinstance(spec.source, BuiltinSource | PythonSource)
    load_weights(module, Path(checkpoint.folder) / WEIGHTS_FILE, widths=spec.source.widths)
    return module.eval()


def new_module(spec: ModelSpec) -> nn.Module:
    """Make the module of a `builtin` or `python` source with the weights that its seed draws.

    Raises:
        UnknownName: There is no such module or factory.
        ConversionFailed: The factory raised, or made something else than an `nn.Module`.
    """
    import torch  # noqa: PLC0415

    source = spec.source
    torch.manual_seed(spec.seed)
    if isinstance(source, BuiltinSource):
        from harness.catalog.networks import NETWORKS  # noqa: PLC0415

        shape = spec.inputs[0].shape
        if len(shape) != 4:
            raise WrongInput(spec.inputs[0].name, "images of shape [1, C, H, W]", f"of shape {list(shape)}")
        _, channels, height, width = shape
        if NETWORKS[source.network].fixed_size and height != width:
            raise WrongInput(spec.inputs[0].name, "square images", f"{height} x {width}")
        arguments: dict[str, Any] = {"in_channels": channels, "image_size": height, **source.arguments}
        try:
            return NETWORKS[source.network].build(**arguments)
        except ValueError as error:
            raise WrongInput(spec.inputs[0].name, f"another size ({error})", f"{height} x {width}") from error
    assert isinstance(source, PythonSource)
    factory = _factory(source.factory)
    try:
        module = factory(**source.arguments)
    except Exception as error:
        cause = "out_of_memory" if is_out_of_memory(error) else "failed"
        raise ConversionFailed("", cause, f"{source.factory} raised {type(error).__name__}: {error}", "") from error
    if not isinstance(module, torch.nn.Module):
        problem = f"{source.factory} made a {type(module).__name__}, not a torch.nn.Module"
        raise ConversionFailed("", "failed", problem, "")
    return module


def initial_module(spec: ModelSpec) -> nn.Module:
    """Make the module of a `builtin` or `python` source with the weights it is measured with, in evaluation mode.

    Raises:
        UnreadableModel: The weights file is damaged or holds other tensors.
        UnknownName, ConversionFailed: See `new_module`.
    """
    module = new_module(spec)
    source = spec.source
    assert isinstance(source, BuiltinSource | PythonSource)
    if source.weights is not None:
        load_weights(module, Path(source.weights), widths=source.widths)
    elif isinstance(source, BuiltinSource):
        settle(module, spec)
    return module.eval()


def settle(module: nn.Module, spec: ModelSpec) -> None:
    """Give an untrained built-in network the BatchNorm statistics of its declared inputs."""
    import torch  # noqa: PLC0415

    from harness.catalog.networks.network import settle_batchnorm  # noqa: PLC0415

    # 16 images: a channel of the last 7 x 7 map then has 784 values behind its variance.
    images = next(iter(draw(spec, "settling", samples=16).values()))
    settle_batchnorm(module, [torch.from_numpy(images)])


def load_weights(module: nn.Module, path: Path, *, widths: Widths = "declared") -> None:
    """Fill a module from a state dict, `.safetensors` or `.pt`; every tensor has to fit.

    Args:
        module: Changed in place.
        path: The file.
        widths: `weights`: convolutions, linear layers and norms first take their numbers of channels from the file.

    Raises:
        UnreadableModel: The file is damaged or holds other tensors.
    """
    state = _read_state(path)
    # The habits of training scripts: the weights among other things, or behind DataParallel's prefix.
    inner = state.get("state_dict", state.get("model"))
    state = dict(inner) if isinstance(inner, Mapping) else state
    if state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    if widths == "weights":
        from harness.catalog.widths import take_widths  # noqa: PLC0415

        take_widths(module, state)
    try:
        missing, unexpected = module.load_state_dict(state, strict=False)
    except (RuntimeError, AttributeError) as error:
        raise UnreadableModel(str(path), "weights of this network", str(error).replace("\n\t", " ")) from error
    if missing or unexpected:
        said = [f"{len(missing)} are missing (first {missing[0]})"] if missing else []
        said += [f"{len(unexpected)} do not belong (first {unexpected[0]})"] if unexpected else []
        raise UnreadableModel(str(path), "weights of this network", ", ".join(said))


def save_weights(module: nn.Module, path: Path) -> None:
    """Write a module's state dict as safetensors. The same weights give the same bytes."""
    from safetensors.torch import save_file  # noqa: PLC0415

    # Cloned, because safetensors refuses tensors that share memory, which tied weights do.
    save_file({name: value.detach().clone().contiguous() for name, value in module.state_dict().items()}, path)


def load_program(path: Path) -> nn.Module:
    """Load an exported program as a callable module.

    Raises:
        UnreadableModel: The file is no exported program.
    """
    import torch  # noqa: PLC0415

    try:
        return torch.export.load(path).module()
    except Exception as error:  # torch.export.load documents none; zipfile, pickle and its own checks all come through
        problem = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
        raise UnreadableModel(str(path), "an exported program", problem) from error


def named_outputs(result: object) -> dict[str, Tensor]:
    """What a module returned, by name: a dict's keys, `output` for one tensor, `output_0`... for several.

    Raises:
        ConversionFailed: It returned something else, or tensors within lists.
    """
    import torch  # noqa: PLC0415

    if isinstance(result, torch.Tensor):
        return {"output": result}
    if isinstance(result, Mapping):
        named = {str(name): value for name, value in result.items() if value is not None}
    elif isinstance(result, tuple | list):
        names = getattr(result, "_fields", [f"output_{index}" for index in range(len(result))])
        named = dict(zip(names, result, strict=True))
    else:
        named = {"output": result}
    for name, value in named.items():
        if not isinstance(value, torch.Tensor):
            problem = f"its output {name!r} is a {type(value).__name__}; tensors, tuples and dicts of tensors can go on"
            raise ConversionFailed("", "unsupported", problem, "")
    return named


def flat(module: nn.Module) -> nn.Module:
    """Wrap a module so that it takes its inputs by position and returns a tuple of tensors, as exporters want it."""
    from torch import nn  # noqa: PLC0415

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
            return tuple(named_outputs(self.module(*inputs)).values())

    wrapped = Flat()
    wrapped.training = False  # not .eval(): an exported program's module has its mode baked in and refuses the call
    return wrapped


def _factory(name: str) -> Any:  # noqa: ANN401  (the user's own function)
    module_name, _, function = name.partition(":")
    sys.path[:0] = [] if str(Path.cwd()) in sys.path or "" in sys.path else [os.fspath(Path.cwd())]
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise ConversionFailed(
                "", "failed", f"{module_name} imports {error.name}, which is not here", ""
            ) from error
        raise UnknownName("Python module", error.name, ()) from error
    if not callable(getattr(module, function, None)):
        known = tuple(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise UnknownName(f"factory in {module_name}", function, known)
    return getattr(module, function)


def _read_state(path: Path) -> dict[str, Any]:
    import torch  # noqa: PLC0415

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file  # noqa: PLC0415

            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zipfile, safetensors and torch each raise their own kinds
        raise UnreadableModel(str(path), "a state dict", f"{type(error).__name__}: {error}".splitlines()[0]) from error
    if not isinstance(state, Mapping):
        raise UnreadableModel(str(path), "a state dict", f"it holds a {type(state).__name__}")
    return dict(state)
