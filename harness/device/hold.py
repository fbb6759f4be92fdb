"""Hold a device as it shall be while it is timed: its clocks, and the processors that a program may use.

The processors that a program got are read back in it (`harness.measure.session`); Android tells nowhere whether its
mode is on, so there its answer to the command is all that is known. What is set for good on the device is undone in any
case, also after Ctrl-C.
"""

from __future__ import annotations

import contextlib
import logging
import re
from typing import TYPE_CHECKING

from harness.device.device import PaysLater
from harness.errors import DeviceError, DeviceRefused, UnknownName

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.device.device import Device
    from harness.records import DeviceFacts, RuntimeChoice

ANY = "any"
CLUSTERS = ("big", "little")
"""All but the slowest cluster, and the slowest: by the limits of their clocks."""
_FORMS = (ANY, *CLUSTERS, "a list of processors (4-7, or 0,2)", "a mask (0xf0)")
_SET = ("cmd", "power", "set-fixed-performance-mode-enabled")
"""Source: PowerManagerShellCommand of AOSP, Android 11 and newer; exits non-zero where the device has no such mode."""
_TIMEOUT_S = 20.0
_MOST_PROCESSORS = 1024
_log = logging.getLogger(__name__)


@contextlib.contextmanager
def fixed_performance(device: Device) -> Iterator[bool | None]:
    """Keep an Android device at a speed that it can sustain, and let it go at the end.

    Gives whether the device took it; None where nobody has such a mode. Core choice and heat stay the device's own.
    """
    if device.facts().kind != "android":
        yield None
        return
    try:
        yield device.shell((*_SET, "true"), timeout_s=_TIMEOUT_S).returncode == 0
    finally:
        # Also where it was refused, or the answer was lost on its way: to switch off what is off does no harm.
        off = (*_SET, "false")
        try:
            device.shell(off, timeout_s=_TIMEOUT_S)
        except DeviceError as error:
            until = ""
            if isinstance(device, PaysLater):
                device.owe(off)
                until = " until this run finds it again"
            _log.warning(
                "%s may be in its fixed-performance mode%s (%s); to end it: adb shell %s",
                device.id,
                until,
                error,
                " ".join(off),
            )


def require_affinity(text: str) -> None:
    """Refuse what means no processors on any device.

    Raises:
        UnknownName: It is none of the forms that `processors_for` takes.
    """
    if text not in {ANY, *CLUSTERS} and not read_processors(text):
        raise UnknownName("affinity", text, _FORMS)


def processors_for(facts: DeviceFacts, affinity: str) -> tuple[int, ...] | None:
    """The processors that `any`, `big`, `little`, a list (`4-7`, `0,2`) or a mask (`0xf0`) means; None for any.

    Raises:
        DeviceRefused: The device has no such processors, or does not say which of its own are big and little.
    """
    if affinity == ANY:
        return None
    if affinity in CLUSTERS:
        limits = {cluster.processors: cluster.max_hz for cluster in facts.clusters if cluster.max_hz is not None}
        if len(set(limits.values())) < 2:
            raise _refused(facts, affinity, "it does not say which of its processors are big; name them: 4-7, or 0xf0")
        slowest = min(limits.values())
        is_big = affinity == "big"
        return tuple(sorted(number for each, hz in limits.items() if (hz > slowest) == is_big for number in each))
    processors = read_processors(affinity)
    if not processors:
        raise _refused(facts, affinity, f"that is none of {', '.join(_FORMS)}")
    if facts.cores is not None and processors[-1] >= facts.cores:
        raise _refused(facts, affinity, f"its processors are 0 to {facts.cores - 1}")
    return processors


def read_processors(text: str) -> tuple[int, ...]:
    """`0-3,6` or `0xf` as numbers, in order; nothing where it is neither.

    Source: Cpus_allowed_list of proc(5), and taskset(1).
    """
    if re.fullmatch(r"0x[0-9a-fA-F]{1,256}", text):
        mask = int(text, 16)
        return tuple(number for number in range(mask.bit_length()) if mask >> number & 1)
    if not re.fullmatch(r"\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*", text):
        return ()
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return tuple(sorted(found)) if found and max(found) < _MOST_PROCESSORS else ()


def confined(command: tuple[str, ...], processors: tuple[int, ...] | None) -> tuple[str, ...]:
    """The command, so that it and its threads run on these processors only."""
    if processors is None:
        return command
    # The one form that the programs of util-linux, toybox and busybox have in common.
    return ("taskset", f"{sum(1 << number for number in processors):x}", *command)


def confined_as_asked(command: tuple[str, ...], facts: DeviceFacts, choice: RuntimeChoice) -> tuple[str, ...]:
    """The command on the processors that a choice names.

    Raises:
        DeviceRefused: See `processors_for`; or there are fewer processors than threads.
    """
    processors = processors_for(facts, choice.affinity)
    if processors is not None and choice.threads > len(processors):
        raise _refused(facts, choice.affinity, f"{choice.threads} threads would share {len(processors)} processors")
    return confined(command, processors)


def why_not_confined(facts: DeviceFacts, choice: RuntimeChoice) -> str | None:
    """Why a device cannot give a choice the processors that it names, or None. Nothing is asked of the device.

    What was asked for is then wrong for this device, and neither the device's fault nor worth a conversion.
    """
    try:
        confined_as_asked((), facts, choice)
    except DeviceRefused as error:
        return str(error)
    return None


def single_processors(device: Device, affinity: str) -> tuple[int, ...]:
    """The processors of one kind that a program can be confined to one of.

    Where they are of several kinds, those of the fastest: there a scheduler puts a program that computes.

    Returns:
        None of them where the device does not count its processors, or confines no program.

    Raises:
        DeviceRefused: See `processors_for`.
        DeviceError: The device cannot be asked.
    """
    facts = device.facts()
    allowed = processors_for(facts, affinity) or range(facts.cores or 0)
    limits = {number: each.max_hz or 0.0 for each in facts.clusters for number in each.processors}
    fastest = max((limits.get(number, 0.0) for number in allowed), default=0.0)
    alike = [number for number in allowed if limits.get(number, 0.0) == fastest]
    # A container may own few of them, and a small system has no such program.
    return tuple(
        number for number in alike if device.shell(confined(("true",), (number,)), timeout_s=_TIMEOUT_S).returncode == 0
    )


def _refused(facts: DeviceFacts, affinity: str, problem: str) -> DeviceRefused:
    return DeviceRefused(facts.id, f"the affinity {affinity!r}", problem)
