"""Which kind of Core ML file a system can load: an ML Program, a neural network of the older kind, or none of ours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from harness.records import DeviceFacts, ModelFormat, Precision

Kind: TypeAlias = Literal["mlprogram", "neuralnetwork"]

USUAL_TARGET = 16
"""Made for iOS 16 where nothing older is asked for: the first that loads compressed weights."""
FIRST_WITH_PROGRAMS = 15
FIRST_WITH_NETWORKS = 13
"""The converter of coremltools 9 writes specification 4 and newer, which iOS 13 is the first to load. Its builder, to
which one hands layer by layer, starts at specification 1; nothing here turns a network into its calls.

Source: coremltools 9.0, `__init__.py`, `_LOWEST_ALLOWED_SPECIFICATION_VERSION_FOR_NEURALNETWORK`, and
`models/neural_network/builder.py`, `NeuralNetworkBuilder`."""
_FIRST_TO_LOAD = {4: 13, 5: 14, 6: 15, 7: 16, 8: 17, 9: 18, 10: 26}
"""Specification of a file -> the first iOS that loads it.

Source: coremltools 9.0, `__init__.py`, `_SPECIFICATION_VERSION_IOS_13` to `_SPECIFICATION_VERSION_IOS_26`."""
_PLAIN: tuple[Precision, ...] = ("fp32", "fp16")
_COMPRESSED: tuple[Precision, ...] = ("int8_weights", "palette8", "palette6", "palette4", "sparse")


def target_of(system: str | None) -> int:
    """The oldest iOS that a file for this system has to load on, as a number.

    Args:
        system: `iOS 12.5`, `iPadOS 15.8`, `macOS 13.1`; None for no system in particular. One that is not Apple's, as
            that of the machine which only converts, asks for nothing in particular either.
    """
    number = _number_of(system)
    return USUAL_TARGET if number is None else min(number, USUAL_TARGET)


def limit_of(*systems: str | None) -> str | None:
    """The oldest of these, where a usual package does not load on it; None where it loads on all of them."""
    older = [system for system in systems if system is not None and target_of(system) < USUAL_TARGET]
    return min(older, key=target_of, default=None)


def system_for(device: DeviceFacts, model_format: ModelFormat, precision: Precision) -> str | None:
    """The system that a device's file has to be made for; None where the usual file will do."""
    if model_format != "coreml":
        return None
    # A ready package is not made for a system: whether it loads is for the one that is there to say.
    return device.os if precision == "source" else limit_of(device.os, device.newest_os)


def kind_for(system: str | None) -> Kind:
    """What a system loads at best."""
    return "mlprogram" if target_of(system) >= FIRST_WITH_PROGRAMS else "neuralnetwork"


def why_not_on(system: str | None, precision: Precision) -> str | None:
    """Why there is no Core ML file of this precision for a system; None where there is one."""
    target = target_of(system)
    if target < FIRST_WITH_NETWORKS:
        return (
            f"{system} loads no Core ML file that coremltools still converts to: those need iOS {FIRST_WITH_NETWORKS}, "
            "and files for older systems would have to be built layer by layer, which nothing here does"
        )
    if target < FIRST_WITH_PROGRAMS and precision != "fp32":
        return f"{system} loads neural networks of the older kind only, which are made in fp32 here"
    if target < USUAL_TARGET and precision in _COMPRESSED:
        return f"{system} loads no compressed weights: they need iOS {USUAL_TARGET}"
    return None


def files_for(*systems: str | None) -> dict[Precision, str | None]:
    """Every precision of a Core ML file -> why there is none for a device; None where there is one.

    Args:
        systems: The one that the device has, and the last that was made for it, as far as they are known.
    """
    system = limit_of(*systems)
    return {precision: why_not_on(system, precision) for precision in (*_PLAIN, *_COMPRESSED)}


def why_too_new(specification: int, system: str | None) -> str | None:
    """Why a system does not load a ready file; None where it does, and where nobody here knows.

    Args:
        specification: The version that the file says it needs.
        system: The device's own, as for `target_of`.
    """
    first, number = _FIRST_TO_LOAD.get(specification), _number_of(system)
    if first is None or number is None or number >= first:
        return None
    return f"{system} does not load it: its specification {specification} needs the Core ML of iOS {first} or newer"


def _number_of(system: str | None) -> int | None:
    """The iOS that has the same Core ML."""
    found = re.match(r"(iOS|iPadOS|macOS) (\d+)", system or "")
    if found is None:
        return None
    number = int(found[2])
    # macOS 12 has the Core ML of iOS 15.
    return number + 3 if found[1] == "macOS" and number < _MACOS_LIKE_IOS else number


_MACOS_LIKE_IOS = 26
"""From here on Apple counts all its systems alike."""
