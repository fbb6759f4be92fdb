"""How an operation's arguments reach the Python function that computes it.

A function's own signature is the specification: a parameter in the file that the function does not have is unknown,
and a parameter without a default has to be there. Annotations say how a stored argument is handed over.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from harness.catalog.ml_program.unsupported import NotCovered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Argument: TypeAlias = Tensor | str
Ints: TypeAlias = "tuple[int, ...]"
Bools: TypeAlias = "tuple[bool, ...]"
Tensors: TypeAlias = "tuple[Tensor, ...]"


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One operation type: what it takes, and the function that computes it."""

    function: Callable[..., Any]
    annotations: Mapping[str, str]
    required: frozenset[str]

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Operator:
        """Read a function's signature.

        Raises:
            KeyError: An annotation is not one that arguments can be handed over as.
        """
        parameters = inspect.signature(function).parameters
        annotations = {name: str(p.annotation).removesuffix(" | None") for name, p in parameters.items()}
        for annotation in annotations.values():
            _HAND_OVER[annotation]
        required = frozenset(name for name, p in parameters.items() if p.default is inspect.Parameter.empty)
        return cls(function=function, annotations=annotations, required=required)

    def check(self, arguments: Mapping[str, object]) -> None:
        """Compare names only.

        Raises:
            NotCovered: A parameter is unknown, or a required one is missing.
        """
        for name in arguments:
            if name not in self.annotations:
                raise NotCovered(name, "there is no such parameter here")
        for name in sorted(self.required - set(arguments)):
            raise NotCovered(name, "it is not given, and no default is assumed")

    def call(self, arguments: Mapping[str, tuple[Argument, ...]]) -> Sequence[Tensor]:
        """Compute.

        Raises:
            NotCovered: A parameter, its value or its kind is not known.
        """
        self.check(arguments)
        handed = {name: _hand_over(name, self.annotations[name], bound) for name, bound in arguments.items()}
        result = self.function(**handed)
        return [result] if isinstance(result, Tensor) else list(result)


def _hand_over(name: str, annotation: str, bound: tuple[Argument, ...]) -> Any:  # noqa: ANN401
    if annotation == "Tensors":
        return tuple(_as_tensor(name, value) for value in bound)
    if len(bound) != 1:
        raise NotCovered(name, f"{len(bound)} values")
    return _HAND_OVER[annotation](name, bound[0])


def _as_tensor(name: str, value: Argument) -> Tensor:
    if isinstance(value, str):
        raise NotCovered(name, f"the text {value!r} instead of a tensor")
    return value


def _as_text(name: str, value: Argument) -> str:
    if not isinstance(value, str):
        raise NotCovered(name, "a tensor instead of a text")
    return value


def _scalar(name: str, value: Argument) -> Tensor:
    tensor = _as_tensor(name, value)
    if tensor.numel() != 1:
        raise NotCovered(name, f"{tensor.numel()} values instead of one")
    return tensor


def _as_int(name: str, value: Argument) -> int:
    tensor = _scalar(name, value)
    if tensor.is_floating_point() or tensor.dtype == torch.bool:
        raise NotCovered(name, f"{tensor.dtype} instead of an integer")
    return int(tensor)


def _as_float(name: str, value: Argument) -> float:
    return float(_scalar(name, value))


def _as_bool(name: str, value: Argument) -> bool:
    tensor = _scalar(name, value)
    if tensor.dtype != torch.bool:
        raise NotCovered(name, f"{tensor.dtype} instead of a boolean")
    return bool(tensor)


def _as_ints(name: str, value: Argument) -> Ints:
    tensor = _as_tensor(name, value)
    if tensor.is_floating_point() or tensor.dtype == torch.bool:
        raise NotCovered(name, f"{tensor.dtype} instead of integers")
    return tuple(int(i) for i in tensor.reshape(-1))


def _as_bools(name: str, value: Argument) -> Bools:
    tensor = _as_tensor(name, value)
    if tensor.dtype != torch.bool:
        raise NotCovered(name, f"{tensor.dtype} instead of booleans")
    return tuple(bool(i) for i in tensor.reshape(-1))


_HAND_OVER: Mapping[str, Callable[[str, Argument], Any]] = {
    "Tensor": _as_tensor,
    "Tensors": _as_tensor,
    "str": _as_text,
    "int": _as_int,
    "float": _as_float,
    "bool": _as_bool,
    "Ints": _as_ints,
    "Bools": _as_bools,
}
