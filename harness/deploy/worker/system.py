"""What the worker reads of its own process and machine. A signal that is not there is None."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import resource
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal

from harness.protocol import PROCESSOR_SENSOR, Memory
from harness.records import BlockConditions

_STATUS = Path("/proc/self/status")
_SYSFS = Path("/sys")
_ROLLUP = Path("/proc/self/smaps_rollup")
_CANARY = b"\x5a" * (1 << 20)


def die_with_parent() -> None:
    """Ask the system to end this process when the one that started it ends, however that happens.

    A runtime that hangs writes nothing, and would otherwise never notice that nobody listens any more.

    Source: prctl(2), PR_SET_PDEATHSIG = 1. Linux only; elsewhere the next message fails, which ends it as well.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def canary_ns() -> int:
    """Time a fixed piece of work: SHA-256 of 16 MiB.

    It uses one core's integer units and little memory, and has nothing to do with any runtime. It takes the longer the
    slower the processor is clocked or the more of it is taken away.
    """
    began = time.perf_counter_ns()
    for _ in range(16):
        hashlib.sha256(_CANARY).digest()
    return time.perf_counter_ns() - began


def clock_cost_ns() -> int:
    """The shortest time between two readings of the clock: below a hundred of these a duration means little."""
    readings = [time.perf_counter_ns() for _ in range(1001)]
    return max(1, min(later - earlier for earlier, later in pairwise(readings)))


def thread_count() -> int | None:
    """Threads this process has now. Source: proc(5), /proc/pid/task."""
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208
    except OSError:
        return None


def allowed_processors() -> str | None:
    """The processors this process may use, as the system lists them. Source: proc(5), Cpus_allowed_list."""
    try:
        status = _STATUS.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"^Cpus_allowed_list:\s*(\S+)", status, re.MULTILINE)
    return found[1] if found else None


class ConditionsWatch:
    """Says what the system did between two moments."""

    def __init__(self) -> None:
        self._cap_files = sorted(
            (_SYSFS / "devices/system/cpu/cpufreq").glob("policy[0-9]*/scaling_max_freq"),
            key=lambda file: int(file.parent.name.removeprefix("policy")),
        )
        self._throttle_files = sorted(
            (_SYSFS / "devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
        )
        self._heat_files = [
            zone / "temp"
            for zone in sorted((_SYSFS / "class/thermal").glob("thermal_zone[0-9]*"))
            if PROCESSOR_SENSOR.search(_text(zone / "type"))
        ]
        self._steal_ms: float | None = None
        self._switches: int | None = None
        self._throttles: int | None = None
        self._caps: list[float] = []

    def start(self) -> None:
        """The block begins now."""
        self._steal_ms = _steal_ms()
        self._switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        self._throttles = _sum(self._throttle_files)
        self._caps = _numbers(self._cap_files)

    def stop(self) -> BlockConditions:
        """The block has ended."""
        steal, throttles = _steal_ms(), _sum(self._throttle_files)
        caps = _numbers(self._cap_files)
        if len(caps) == len(self._caps):  # a limit that rose meanwhile was lower for a part of the block
            caps = list(map(min, caps, self._caps))
        # In thousandths of a degree. A sensor that is switched off says 0, or something that no processor survives.
        heats = [celsius for value in _numbers(self._heat_files) if 1 <= (celsius := value / 1e3) <= 150]
        switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        return BlockConditions(
            steal_ms=None if steal is None or self._steal_ms is None else steal - self._steal_ms,
            involuntary_switches=None if self._switches is None else switches - self._switches,
            cpu_cap_hz=min(caps) * 1e3 if caps else None,  # the file is in kHz
            temperature_celsius=max(heats, default=None),
            throttle_events=None if throttles is None or self._throttles is None else throttles - self._throttles,
            cpu_caps_hz=tuple(cap * 1e3 for cap in caps) if caps and len(caps) == len(self._cap_files) else None,
            cpu_hz=_clock_hz(),
        )


def reset_peak_memory() -> bool:
    """Make VmHWM start again from the present resident set.

    Returns:
        False where the system cannot; the peak is then that of the whole process's life.

    Source: proc(5), /proc/pid/clear_refs, the value 5 (Linux 4.0).
    """
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def memory(at: Literal["baseline", "loaded", "peak"], *, was_reset: bool) -> Memory:
    """This process's memory now."""
    if sys.platform == "darwin":
        footprint = mac_footprint(ctypes.CDLL(None, use_errno=True))
        size = footprint.ri_lifetime_max_phys_footprint if at == "peak" else footprint.ri_phys_footprint
        return Memory(at=at, source="phys_footprint", resident_bytes=size, pss_bytes=None, private_dirty_bytes=None)
    key = "VmHWM" if at == "peak" else "VmRSS"
    status, rollup = _kilobytes(_STATUS), _kilobytes(_ROLLUP)
    return Memory(
        at=at,
        source="VmHWM (reset before loading)" if was_reset else "VmHWM (whole process)",
        resident_bytes=status[key] * 1024,
        pss_bytes=rollup["Pss"] * 1024 if "Pss" in rollup else None,
        private_dirty_bytes=rollup["Private_Dirty"] * 1024 if "Private_Dirty" in rollup else None,
        rss_anon_bytes=status["RssAnon"] * 1024 if "RssAnon" in status else None,
    )


class RusageInfo(ctypes.Structure):
    """`struct rusage_info_v4` of macOS 10.12 and newer.

    Source: XNU, bsd/sys/resource.h.
    """

    _fields_: ClassVar = [
        ("ri_uuid", ctypes.c_uint8 * 16),
        ("_user_time_to_resident_size", ctypes.c_uint64 * 7),
        ("ri_phys_footprint", ctypes.c_uint64),
        ("_start_abstime_to_logical_writes", ctypes.c_uint64 * 20),
        ("ri_lifetime_max_phys_footprint", ctypes.c_uint64),
        ("_instructions_to_runnable_time", ctypes.c_uint64 * 6),
    ]


_RUSAGE_INFO_V4 = 4


def mac_footprint(system: ctypes.CDLL) -> RusageInfo:
    """What macOS counts as this process's memory: what it dirtied, compressed and GPU memory with it, no file's pages.

    The highest is that of the process's life, which begins with importing the runtime. Written against the headers, and
    not run on a Mac yet.

    Args:
        system: The C library, which has `proc_pid_rusage`.

    Raises:
        OSError: The system refused.
    """
    found = RusageInfo()
    if system.proc_pid_rusage(os.getpid(), _RUSAGE_INFO_V4, ctypes.byref(found)) != 0:
        raise OSError(ctypes.get_errno(), "proc_pid_rusage does not tell this process's memory")
    return found


def _kilobytes(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:  # smaps_rollup is not readable in every sandbox
        return {}
    pairs = (line.split(":", 1) for line in lines if line.endswith(" kB") and ":" in line)
    return {key: int(value.split()[0]) for key, value in pairs}


def _steal_ms() -> float | None:
    """Time the hypervisor kept from all processors since boot. Source: proc(5), /proc/stat, eighth field of `cpu`."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
        return int(fields[8]) * 1000 / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return None


def _sum(paths: list[Path]) -> int | None:
    values = _numbers(paths)
    return int(sum(values)) if values else None


def _numbers(paths: list[Path]) -> list[float]:
    values = []
    for path in paths:
        try:
            values.append(float(path.read_text(encoding="ascii")))
        except (OSError, ValueError):  # a sensor that exists and does not answer
            continue
    return values


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _clock_hz() -> float | None:
    """The clock of the processor that this thread is on. Source: Documentation/admin-guide/pm/cpufreq.rst."""
    if sys.platform != "linux":
        return None
    processor = ctypes.CDLL(None).sched_getcpu()
    found = _numbers([_SYSFS / f"devices/system/cpu/cpu{processor}/cpufreq/scaling_cur_freq"])
    return found[0] * 1e3 if found else None
