"""What of a module is trunk and what is head, by declaration, and its embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from harness.records import ModelSpec


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Which layers have a part of their own.

    Attributes:
        head: From embedding to answer, the first one first; thrown away where embeddings are deployed, never pruned.
        keep: Further ones that are never pruned.
    """

    head: tuple[str, ...]
    keep: tuple[str, ...] = ()

    def in_head(self, name: str) -> bool:
        """Whether a layer or parameter, by its full name, belongs to the head."""
        return _is_within(name, self.head)

    def is_kept(self, name: str) -> bool:
        """Whether pruning leaves a layer or parameter alone."""
        return _is_within(name, (*self.head, *self.keep))


def parts_of(module: nn.Module, spec: ModelSpec | None = None) -> Parts:
    """Find what a model.toml declares, else what a built-in network says of itself.

    Raises:
        UsageError: Neither says which layer is the head.
        UnknownName: A layer that is declared is not there.
    """
    from harness.catalog.networks.network import Network  # noqa: PLC0415

    layers = dict(module.named_modules())
    networks = [(name, layer) for name, layer in layers.items() if isinstance(layer, Network)]
    own_keep = [f"{name}.{kept}".lstrip(".") for name, layer in networks for kept in layer.keep]
    own_head = module.head if isinstance(module, Network) else ()
    parts = Parts(
        head=(spec.head if spec else ()) or own_head,
        keep=(*(spec.keep if spec else ()), *own_keep),
    )
    if not parts.head:
        last = [name for name, layer in layers.items() if hasattr(layer, "weight")][-1:]
        guess = f'; if it is {last[0]!r}, write `head = ["{last[0]}"]`' if last else ""
        raise UsageError(f"nothing says which layer is the head, which is never pruned{guess} into the model.toml")
    for name in (*parts.head, *parts.keep):
        if name not in layers:
            raise UnknownName("layer", name, tuple(filter(None, layers)))
    return parts


def prunable(module: nn.Module, parts: Parts) -> dict[str, nn.Parameter]:
    """The weights that pruning may touch, by full name: of convolutions and linear layers, but what is kept."""
    return dict(_prunable(module, parts))


def embed_and_answer(module: nn.Module, parts: Parts, images: Tensor) -> tuple[Tensor, Tensor]:
    """Run a module once: what its head was given, `[N, D]`, and what it answered."""
    seen: list[Tensor] = []
    hook = module.get_submodule(parts.head[0]).register_forward_pre_hook(lambda _layer, given: seen.append(given[0]))
    try:
        answer: Tensor = module(images)
    finally:
        hook.remove()
    return seen[0].flatten(1), answer


def _prunable(module: nn.Module, parts: Parts) -> Iterator[tuple[str, nn.Parameter]]:
    from torch import nn  # noqa: PLC0415

    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear) and not parts.is_kept(name):
            weight = layer.weight
            assert isinstance(weight, nn.Parameter)
            yield f"{name}.weight".lstrip("."), weight


def _is_within(name: str, layers: tuple[str, ...]) -> bool:
    return any(name == layer or name.startswith(f"{layer}.") for layer in layers)
