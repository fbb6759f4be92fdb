"""What Linux says of itself in /proc, /sys and /etc: read on any device, parsed here.

Every function takes the text of the files, by absolute path: this machine reads them from disk, a device that is
reached over adb or ssh sends them, a test writes them down. A file that is missing, unreadable or makes no sense gives
None, never 0.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from harness.protocol import PROCESSOR_SENSOR
from harness.records import CpuCluster

SystemText: TypeAlias = Mapping[str, str]
"""Absolute path -> what the file says, without white space at its ends."""

FACT_FILES = (
    "/etc/os-release",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/device-tree/model",
    "/proc/device-tree/hypervisor/compatible",
    "/sys/class/dmi/id/bios_vendor",
    "/sys/class/dmi/id/board_vendor",
    "/sys/class/dmi/id/product_name",
    "/sys/class/dmi/id/sys_vendor",
    "/sys/devices/system/cpu/cpufreq/policy*/cpuinfo_max_freq",
    "/sys/devices/system/cpu/cpufreq/policy*/related_cpus",
    "/sys/hypervisor/type",
)
STATE_FILES = (
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/sys/class/hwmon/hwmon*/name",
    "/sys/class/hwmon/hwmon*/temp*_input",
    "/sys/class/power_supply/*/capacity",
    "/sys/class/power_supply/*/scope",
    "/sys/class/power_supply/*/status",
    "/sys/class/power_supply/*/type",
    "/sys/class/thermal/thermal_zone*/temp",
    "/sys/class/thermal/thermal_zone*/type",
    "/sys/devices/system/cpu/cpufreq/boost",
    "/sys/devices/system/cpu/cpufreq/policy*/cpuinfo_max_freq",
    "/sys/devices/system/cpu/cpufreq/policy*/related_cpus",
    "/sys/devices/system/cpu/cpufreq/policy*/scaling_cur_freq",
    "/sys/devices/system/cpu/cpufreq/policy*/scaling_governor",
    "/sys/devices/system/cpu/cpufreq/policy*/scaling_max_freq",
    "/sys/devices/system/cpu/intel_pstate/no_turbo",
    "/sys/firmware/acpi/platform_profile",
    "/sys/fs/cgroup/cpu.max",
    "/sys/fs/cgroup/cpu/cpu.cfs_period_us",
    "/sys/fs/cgroup/cpu/cpu.cfs_quota_us",
)

# Sensors that sit on the processor, by the drivers' own names: Documentation/hwmon of Linux 6.12 for the first three,
# thermal zone types of Intel (x86_pkg_temp), Raspberry Pi (cpu-thermal) and Android phones (cpu-0-0, CPU, big, soc).


def read_files(patterns: tuple[str, ...], *, root: Path = Path("/")) -> dict[str, str]:
    """The text of all files that match, those that cannot be read left out.

    Args:
        patterns: Absolute paths, `*` for any part of a name.
        root: What `/` is. A test points it at captured files.
    """
    found: dict[str, str] = {}
    for pattern in patterns:
        relative = pattern.lstrip("/")
        paths = sorted(root.glob(relative)) if "*" in relative else [root / relative]
        for path in paths:
            try:
                # A sensor may answer ENODATA, EIO or EAGAIN at any moment, and a device tree ends its text with NUL.
                text = path.read_bytes().decode(errors="replace").strip("\0 \t\r\n")
            except OSError:
                continue
            found[f"/{path.relative_to(root).as_posix()}"] = text
    return found


# --- processor time ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CpuTimes:
    """Clock ticks of all processors together since the start of the system."""

    total: int
    busy: int
    steal: int | None


def cpu_times(files: SystemText) -> CpuTimes | None:
    """The first line of /proc/stat.

    Source: proc_stat(5): user nice system idle iowait irq softirq steal guest guest_nice. Guest time is part of user.
    """
    line = re.match(r"cpu\s+([\d ]+)", files.get("/proc/stat", ""))
    if line is None:
        return None
    fields = [int(field) for field in line[1].split()][:8]
    if len(fields) < 4:
        return None
    idle = sum(fields[3:5])
    steal = fields[7] if len(fields) == 8 else None
    return CpuTimes(total=sum(fields), busy=sum(fields) - idle - (steal or 0), steal=steal)


def busy_and_steal_pct(before: CpuTimes | None, after: CpuTimes | None) -> tuple[float | None, float | None]:
    """The shares of the time between two looks that the processors worked, and that the hypervisor kept from them."""
    if before is None or after is None or after.total <= before.total:
        return None, None
    total = after.total - before.total
    busy = 100 * (after.busy - before.busy) / total
    if before.steal is None or after.steal is None:
        return busy, None
    return busy, 100 * (after.steal - before.steal) / total


def load_1min(files: SystemText) -> float | None:
    """Runnable processes, averaged over the last minute."""
    first = re.match(r"(\d+\.\d+)\s", files.get("/proc/loadavg", ""))
    return float(first[1]) if first else None


def processors_allowed(files: SystemText) -> float | None:
    """How many processors' time the control group may use; None where there is no such limit.

    Source: Documentation/admin-guide/cgroup-v2.rst (cpu.max) and Documentation/scheduler/sched-bwc.rst of Linux 6.12.
    """
    version_2 = re.fullmatch(r"(\d+) (\d+)", files.get("/sys/fs/cgroup/cpu.max", ""))
    if version_2:
        return int(version_2[1]) / int(version_2[2])
    quota = _number(files, "/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
    period = _number(files, "/sys/fs/cgroup/cpu/cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 else None


# --- clocks --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Clocks:
    """What cpufreq says. All fields are None where there is no cpufreq, as in most virtual machines."""

    governor: str | None
    """Several, in alphabetical order, where clusters differ."""
    now_hz: float | None
    """Mean of the clusters."""
    cap_hz: float | None
    """The lowest of the present upper limits."""
    capped_pct: float | None
    """How far the most limited cluster's upper limit is below what its hardware can do."""
    boost: bool | None
    """Whether clocks may rise above the rated one for as long as it stays cool."""


def clocks(files: SystemText) -> Clocks:
    """Governor, present clocks and limits.

    Source: Documentation/admin-guide/pm/cpufreq.rst and intel_pstate.rst of Linux 6.12; frequencies are in kHz.
    """
    base = "/sys/devices/system/cpu/cpufreq/policy*"
    governors = sorted(set(_matching(files, f"{base}/scaling_governor").values()) - {""})
    now = [hz for hz in _hertz(files, f"{base}/scaling_cur_freq").values() if hz > 0]
    caps = _hertz(files, f"{base}/scaling_max_freq")
    limits = _hertz(files, f"{base}/cpuinfo_max_freq")
    missing = [100 * (1 - caps[policy] / limits[policy]) for policy in caps if limits.get(policy, 0) > 0]
    no_turbo = _number(files, "/sys/devices/system/cpu/intel_pstate/no_turbo")
    boost = _number(files, "/sys/devices/system/cpu/cpufreq/boost")
    return Clocks(
        governor=", ".join(governors) or None,
        now_hz=sum(now) / len(now) if now else None,
        cap_hz=min(caps.values(), default=None),
        capped_pct=max(missing, default=None),
        boost=no_turbo == 0 if no_turbo is not None else bool(boost) if boost is not None else None,
    )


def clusters(files: SystemText) -> tuple[CpuCluster, ...]:
    """Processors that share a clock, by their numbers.

    Source: Documentation/admin-guide/pm/cpufreq.rst of Linux 6.12, `related_cpus`.
    """
    return tuple(cluster for _, cluster in _policies(files))


def cluster_caps_hz(files: SystemText) -> tuple[float, ...] | None:
    """The present upper limits in the order of `clusters`; None unless every one of them can be read."""
    caps = [_number(files, f"{folder}/scaling_max_freq") for folder, _ in _policies(files)]
    known = tuple(1000.0 * khz for khz in caps if khz is not None)
    return known if known and len(known) == len(caps) else None


def _policies(files: SystemText) -> list[tuple[str, CpuCluster]]:
    """Folder and cluster, by the first processor."""
    found = []
    for path, text in _matching(files, "/sys/devices/system/cpu/cpufreq/policy*/related_cpus").items():
        folder = path.rpartition("/")[0]
        khz = _number(files, f"{folder}/cpuinfo_max_freq")
        numbers = tuple(sorted(int(word) for word in text.split() if word.isdecimal()))
        if numbers:
            found.append((folder, CpuCluster(processors=numbers, max_hz=None if khz is None else 1000.0 * khz)))
    return sorted(found, key=lambda each: each[1].processors)


# --- heat, power, memory -------------------------------------------------------------------------------------------


def processor_celsius(files: SystemText) -> float | None:
    """The hottest sensor that sits on the processor, of thermal zones and hardware monitors."""
    found: list[float] = []
    for path, name in files.items():
        if path.endswith(("/type", "/name")) and PROCESSOR_SENSOR.search(name):
            folder = path.rpartition("/")[0]
            found += [
                millidegrees / 1000
                for sensor in (*_matching(files, f"{folder}/temp"), *_matching(files, f"{folder}/temp*_input"))
                if (millidegrees := _number(files, sensor)) is not None
            ]
    # Drivers answer 0 or -274 for a sensor that is switched off, and some tablets whole degrees or tenths. What
    # cannot be a processor's temperature in millidegrees is not one.
    return max((celsius for celsius in found if 1 <= celsius <= 150), default=None)


@dataclass(frozen=True, kw_only=True)
class Battery:
    """A battery that feeds the system."""

    charge_pct: float | None
    on_mains: bool | None


def battery(files: SystemText) -> Battery | None:
    """The system's battery; that of a mouse or a pen is none.

    Source: Documentation/ABI/testing/sysfs-class-power of Linux 6.12.
    """
    for path, kind in sorted(_matching(files, "/sys/class/power_supply/*/type").items()):
        folder = path.rpartition("/")[0]
        if kind != "Battery" or files.get(f"{folder}/scope") == "Device":
            continue
        status = files.get(f"{folder}/status")
        on_mains = {"Charging": True, "Full": True, "Not charging": True, "Discharging": False}.get(status or "")
        return Battery(charge_pct=_number(files, f"{folder}/capacity"), on_mains=on_mains)
    return None


def power_mode(files: SystemText) -> str | None:
    """The firmware's profile: `low-power`, `balanced`, `performance`..."""
    return files.get("/sys/firmware/acpi/platform_profile") or None


def memory_bytes(files: SystemText, field: str) -> int | None:
    """A field of /proc/meminfo: `MemTotal`, or `MemAvailable` for what can be had without swapping."""
    line = re.search(rf"^{field}:\s+(\d+) kB", files.get("/proc/meminfo", ""), re.MULTILINE)
    return int(line[1]) * 1024 if line else None


# --- what it is ----------------------------------------------------------------------------------------------------


def cpu_name(files: SystemText) -> str | None:
    """The processor's name.

    x86 gives it for each processor; arm64 kernels give a part number only, some boards a `Model` or `Hardware` line.
    """
    text = files.get("/proc/cpuinfo", "")
    for key in ("model name", "Hardware", "Processor"):
        line = re.search(rf"^{key}\s*:\s*(\S.*?)\s*$", text, re.MULTILINE)
        if line:
            return line[1] + _generation(line[1], text)
    implementer = re.search(r"^CPU implementer\s*:\s*(0x[0-9a-f]+)", text, re.MULTILINE)
    parts = sorted(set(re.findall(r"^CPU part\s*:\s*(0x[0-9a-f]+)", text, re.MULTILINE)))
    if implementer and parts:
        return f"implementer {implementer[1]}, part {' + '.join(parts)}"
    return None


def _generation(name: str, cpuinfo: str) -> str:
    """What tells processors apart that a hypervisor calls `AMD EPYC`: their generations are not alike at all."""
    family, model = (re.search(rf"^{key}\s*:\s*(\d+)\s*$", cpuinfo, re.MULTILINE) for key in ("cpu family", "model"))
    if family is None or model is None or re.search(r"\d", name):
        return ""
    return f" (family {family[1]}, model {model[1]})"


def system_name(files: SystemText) -> str | None:
    """The distribution's name and version."""
    line = re.search(r"^PRETTY_NAME=(.+)$", files.get("/etc/os-release", ""), re.MULTILINE)
    return line[1].strip().strip("\"'") if line else None


def machine_name(files: SystemText) -> str | None:
    """The maker's name for the machine."""
    vendor = files.get("/sys/class/dmi/id/sys_vendor", "")
    product = files.get("/sys/class/dmi/id/product_name", "")
    known = [part for part in (vendor, product) if part and "filled by" not in part.lower()]
    return " ".join(known) or files.get("/proc/device-tree/model") or None


UNKNOWN_HYPERVISOR = "unknown hypervisor"

# Source: dmi_vendors in src/basic/virt.c of systemd 257.
_HYPERVISOR_BY_DMI = (
    ("KVM", "KVM"),
    ("OpenStack", "KVM"),
    ("Amazon EC2", "Amazon Nitro"),
    ("QEMU", "QEMU"),
    ("VMware", "VMware"),
    ("VMW", "VMware"),
    ("innotek GmbH", "VirtualBox"),
    ("VirtualBox", "VirtualBox"),
    ("Xen", "Xen"),
    ("Bochs", "Bochs"),
    ("Parallels", "Parallels"),
    ("BHYVE", "bhyve"),
    ("Hyper-V", "Hyper-V"),
    ("Apple Virtualization", "Apple Virtualization"),
    ("Google Compute Engine", "Google Compute Engine"),
)


# Source: systemd-detect-virt(1) of systemd 257. `qemu` there is qemu without KVM.
_HYPERVISOR_BY_SYSTEMD = {
    "amazon": "Amazon Nitro",
    "apple": "Apple Virtualization",
    "google": "Google Compute Engine",
    "kvm": "KVM",
    "microsoft": "Hyper-V",
    "oracle": "VirtualBox",
    "parallels": "Parallels",
    "qemu": "QEMU",
    "vmware": "VMware",
    "xen": "Xen",
}


def hypervisor(files: SystemText) -> str | None:
    """The hypervisor's name; `UNKNOWN_HYPERVISOR` where only its traces show; None on real hardware."""
    kind = files.get("/sys/hypervisor/type")
    if kind:
        return hypervisor_in_systemds_words(kind)
    cpuinfo = files.get("/proc/cpuinfo", "")
    flags = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    product = files.get("/sys/class/dmi/id/product_name", "")
    # EC2's bare machines carry the same vendor as its virtual ones. An x86 guest has a processor flag, arm64 has none.
    is_bare = product.endswith(".metal") if flags is None else " hypervisor" not in flags[1]
    if is_bare:
        return None
    firmware = [files.get(f"/sys/class/dmi/id/{name}", "") for name in ("sys_vendor", "board_vendor", "bios_vendor")]
    for text in (product, *firmware):
        for mark, name in _HYPERVISOR_BY_DMI:
            if text.startswith(mark):
                return name
    tree = files.get("/proc/device-tree/hypervisor/compatible", "")
    if tree:
        return {"linux,kvm": "KVM", "xen": "Xen"}.get(tree.split("\0")[0], UNKNOWN_HYPERVISOR)
    return UNKNOWN_HYPERVISOR if flags is not None else None


def hypervisor_in_systemds_words(word: str) -> str | None:
    """The name for an answer of `systemd-detect-virt --vm`."""
    return None if word in {"", "none"} else _HYPERVISOR_BY_SYSTEMD.get(word, word)


def _matching(files: SystemText, pattern: str) -> dict[str, str]:
    # fnmatch lets * cross a slash; counting them keeps it inside one name.
    depth = pattern.count("/")
    return {p: text for p, text in files.items() if p.count("/") == depth and fnmatch.fnmatchcase(p, pattern)}


def _hertz(files: SystemText, pattern: str) -> dict[str, float]:
    """The frequencies of all policies, by the policy's folder."""
    read = {path.rpartition("/")[0]: _number(files, path) for path in _matching(files, pattern)}
    return {folder: kilohertz * 1000 for folder, kilohertz in read.items() if kilohertz is not None}


def _number(files: SystemText, path: str) -> float | None:
    text = files.get(path, "")
    return float(text) if re.fullmatch(r"-?\d+", text) else None
