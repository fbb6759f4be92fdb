"""What Android says of itself: properties, `dumpsys` and files, gathered by one shell command and parsed here.

The files are those of any Linux, see `signals.py`. A service that is not there, or answers what makes no sense, gives
None, never 0.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.device import signals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness.device.signals import SystemText
    from harness.records import DeviceClass

_MARK = "@@harness@@ "
LOOK_S = 0.2
"""How long the processors are looked at: 20 clock ticks each."""
_STAT_BEFORE = "/proc/stat before"
_CPU_FILES = ("/sys/devices/system/cpu/possible",)
_MACHINE_ID = "/etc/machine-id"
_HOME = "cmd package resolve-activity --brief -a android.intent.action.MAIN -c android.intent.category.HOME"
_DUMPS = ("battery", "thermalservice")


# --- what is asked -------------------------------------------------------------------------------------------------


def facts_command() -> str:
    """The shell command whose output `sections` takes apart for what a device is."""
    return (
        f"echo '{_MARK}getprop'; getprop 2>/dev/null; echo '{_MARK}uname'; uname -r -m; "
        f"{_files_command((*signals.FACT_FILES, *_CPU_FILES, _MACHINE_ID))}"
    )


def state_command() -> str:
    """The shell command whose output `sections` takes apart for a device's condition. Takes `LOOK_S` and more."""
    dumps = "; ".join(f"echo '{_MARK}dumpsys {name}'; dumpsys -t 5 {name} 2>/dev/null" for name in _DUMPS)
    return (
        f"echo '{_MARK}{_STAT_BEFORE}'; cat /proc/stat; sleep {LOOK_S}; {_files_command(signals.STATE_FILES)}; "
        f"if command -v dumpsys >/dev/null; then {dumps}; "
        f"echo '{_MARK}wakefulness'; dumpsys -t 5 power 2>/dev/null | grep -m 1 mWakefulness=; "
        f"echo '{_MARK}resumed'; dumpsys -t 5 activity activities 2>/dev/null | grep -m 1 ResumedActivity; "
        f"echo '{_MARK}home'; {_HOME} 2>/dev/null; "
        f"echo '{_MARK}saver'; settings get global low_power 2>/dev/null; fi; true"
    )


def _files_command(patterns: Iterable[str]) -> str:
    # [ -f ] also keeps a pattern that matches nothing from being taken for a name. `cat` is a builtin of Android's sh.
    return (
        f'for f in {" ".join(patterns)}; do if [ -f "$f" ] && [ -r "$f" ]; then '
        f'echo "{_MARK}$f"; cat "$f" 2>/dev/null; echo; fi; done'
    )


def sections(text: str) -> dict[str, str]:
    """The parts of an answer by their names, as `SystemText`: files by absolute path."""
    found = {}
    for part in re.split(rf"^{_MARK}", text.replace("\r\n", "\n"), flags=re.MULTILINE)[1:]:
        name, _, content = part.partition("\n")
        found[name] = content.strip("\0 \t\n")
    return found


def stat_before(parts: Mapping[str, str]) -> SystemText:
    """The look at /proc/stat that began an answer."""
    return {"/proc/stat": parts.get(_STAT_BEFORE, "")}


# --- what it is ----------------------------------------------------------------------------------------------------


def properties(text: str) -> dict[str, str]:
    """The output of `getprop`: `[name]: [value]`; a value may have several lines."""
    return dict(re.findall(r"^\[([^\]\n]+)\]: \[(.*?)\]$", text, re.MULTILINE | re.DOTALL))


# Source: ro.kernel.qemu and ro.boot.qemu are set by the emulator's init (device/generic/goldfish); hardware names:
# goldfish and ranchu (Android Emulator), cutf_* and vsoc_* (Cuttlefish), vbox86 (Genymotion), ttVM, nox and the like.
_EMULATOR_HARDWARE = re.compile(r"goldfish|ranchu|cutf|vsoc|vbox86|ttvm|nox|windroye|waydroid|redroid")
_EMULATOR_FINGERPRINT = re.compile(
    r"/(sdk_gphone|sdk_|vsoc_|aosp_cf|emulator|emu64|generic_x86|vbox86p)|redroid|waydroid"
)


def is_emulator(props: Mapping[str, str]) -> bool:
    """Whether these are the properties of something that has no hardware of its own."""
    if "1" in {props.get("ro.kernel.qemu"), props.get("ro.boot.qemu")}:
        return True
    if "emulator" in props.get("ro.build.characteristics", "").split(","):
        return True
    hardware = " ".join(props.get(name, "") for name in ("ro.hardware", "ro.boot.hardware", "ro.product.board"))
    return bool(
        _EMULATOR_HARDWARE.search(hardware.lower())
        or _EMULATOR_FINGERPRINT.search(props.get("ro.build.fingerprint", "").lower())
    )


def device_class(props: Mapping[str, str]) -> DeviceClass:
    """What kind of thing it is."""
    if is_emulator(props):
        return "emulated"
    kinds = set(props.get("ro.build.characteristics", "").split(","))
    if "tablet" in kinds:
        return "tablet"
    return "board" if kinds & {"tv", "automotive", "embedded"} else "phone"


def model_name(props: Mapping[str, str]) -> str | None:
    """Maker and model, the maker once."""
    maker, model = props.get("ro.product.manufacturer", "").strip(), props.get("ro.product.model", "").strip()
    if model.lower().startswith(maker.lower()):
        return model or None
    return f"{maker} {model}".strip() or None


def unit_digest(props: Mapping[str, str], parts: Mapping[str, str]) -> str | None:
    """What tells this device from others of its model, without giving its number away; None where it has none.

    Source: machine-id(5), which asks for a keyed hash of it wherever others may read it.
    """
    number = props.get("ro.serialno", "").strip() or parts.get(_MACHINE_ID, "").strip()
    if number.lower() in {"", "unknown", "uninitialized"}:
        return None
    return hashlib.sha256(f"inference-harness {number}".encode()).hexdigest()[:16]


def soc_name(props: Mapping[str, str]) -> str | None:
    """The chip's maker and model (Android 12 and newer), else the name of its platform."""
    model = props.get("ro.soc.model", "")
    if model and model.lower() != "unknown":
        return f"{props.get('ro.soc.manufacturer', '')} {model}".strip()
    return props.get("ro.board.platform") or props.get("ro.hardware") or None


def is_debuggable(props: Mapping[str, str]) -> bool | None:
    """Whether the system is a `userdebug` or `eng` build; None where nothing says so."""
    kind = props.get("ro.build.type")
    return kind != "user" if kind else None


def android_version(props: Mapping[str, str]) -> str | None:
    """Release and API level."""
    release, level = props.get("ro.build.version.release"), props.get("ro.build.version.sdk")
    if not release:
        return None
    return f"Android {release} (API {level})" if level else f"Android {release}"


def build_name(props: Mapping[str, str]) -> str | None:
    """Fingerprint, with the security patch, which changes without it on some devices."""
    fingerprint, patch = props.get("ro.build.fingerprint"), props.get("ro.build.version.security_patch")
    if not fingerprint:
        return None
    return f"{fingerprint} (security patch {patch})" if patch else fingerprint


def processors(parts: SystemText) -> int | None:
    """How many processors there are, those that sleep as well. Source: cputopology.rst of Linux 6.12."""
    text = parts.get("/sys/devices/system/cpu/possible", "")
    if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
        return len(re.findall(r"^processor\s*:", parts.get("/proc/cpuinfo", ""), re.MULTILINE)) or None
    ranges = [(part.partition("-")[0], part.partition("-")[2] or part) for part in text.split(",")]
    return sum(int(last) - int(first) + 1 for first, last in ranges)


# --- heat ----------------------------------------------------------------------------------------------------------

ThermalStatus = Literal["none", "light", "moderate", "severe", "critical", "emergency", "shutdown"]
_STATUSES: tuple[ThermalStatus, ...] = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
_TYPE_CPU, _TYPE_SKIN = 0, 3
"""Source: hardware/interfaces/thermal, TemperatureType."""
_ABSENT_BELOW_CELSIUS = -90.0
"""A sensor that is not there answers -99.9, or -274."""


@dataclass(frozen=True, kw_only=True)
class Thermal:
    """What the thermal service says."""

    status: ThermalStatus | None
    is_overridden: bool
    """A test has set the status; the real one is not known."""
    skin_celsius: float | None
    cpu_celsius: float | None


def thermal(text: str) -> Thermal | None:
    """The output of `dumpsys thermalservice`; None where there is no such service (Android 9 and older).

    Temperatures are those that the hardware says now. The "cached" ones above them are as old as the last event.

    Source: ThermalManagerService.dump of AOSP, Android 10 to 15.
    """
    status = re.search(r"^\s*Thermal Status: (\d+)", text, re.MULTILINE)
    overridden = re.search(r"^\s*IsStatusOverride: (true|false)", text, re.MULTILINE)
    if status is None and overridden is None:
        return None
    number = int(status[1]) if status else -1
    now = re.search(r"^\s*Current temperatures from HAL:\n((?:\s*Temperature\{.*\n?)*)", text, re.MULTILINE)
    sensors = _sensors(now[1] if now else "")
    return Thermal(
        status=_STATUSES[number] if 0 <= number < len(_STATUSES) else None,
        is_overridden=overridden is not None and overridden[1] == "true",
        skin_celsius=_hottest(sensors, _TYPE_SKIN, r"skin|\bAP\b"),
        cpu_celsius=_hottest(sensors, _TYPE_CPU, r"cpu|soc"),
    )


def _sensors(text: str) -> list[tuple[float, int, str]]:
    """Value, type, name. Fields have changed places between versions."""
    found = []
    for line in re.findall(r"Temperature\{(.*)\}", text):
        fields = dict(re.findall(r"m(Value|Type|Name)=([^,}]*)", line))
        try:
            sensor = (float(fields["Value"]), int(fields["Type"]), fields["Name"].strip())
        except (KeyError, ValueError):
            continue
        found.append(sensor)
    return found


def _hottest(sensors: list[tuple[float, int, str]], kind: int, names: str) -> float | None:
    """By type, and by name where a maker numbers types in its own way."""
    there = [sensor for sensor in sensors if _ABSENT_BELOW_CELSIUS < sensor[0] < 200 and sensor[0] == sensor[0]]
    of_kind = [value for value, its_kind, _ in there if its_kind == kind]
    of_name = [value for value, _, name in there if re.search(names, name, re.IGNORECASE)]
    return max(of_kind or of_name, default=None)


# --- power, screen, foreground -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PhoneBattery:
    """What the battery service says."""

    charge_pct: float | None
    celsius: float | None
    is_plugged: bool | None


def phone_battery(text: str) -> PhoneBattery | None:
    """The output of `dumpsys battery`; None where there is no such service, or no battery.

    Source: BatteryService.dumpInternal of AOSP, Android 7 to 15; temperature in tenths of a degree.
    """
    fields = dict(re.findall(r"^\s+([A-Za-z ]+): (\S+)\s*$", text, re.MULTILINE))
    if fields.get("present") != "true":
        return None
    powered = [value for name, value in fields.items() if name.endswith(" powered")]
    level, scale, tenths = (_whole(fields.get(name)) for name in ("level", "scale", "temperature"))
    return PhoneBattery(
        charge_pct=100 * level / scale if level is not None and scale else None,
        celsius=tenths / 10 if tenths is not None and tenths / 10 > _ABSENT_BELOW_CELSIUS else None,
        is_plugged="true" in powered if powered else None,
    )


def is_awake(parts: Mapping[str, str]) -> bool | None:
    """Whether the screen is on."""
    found = re.search(r"mWakefulness=(\w+)", parts.get("wakefulness", ""))
    return found[1] == "Awake" if found else None


def foreground_app(parts: Mapping[str, str]) -> str | None:
    """The package in front. Source: ActivityRecord.toString of AOSP, Android 7 to 15."""
    found = re.search(r"ResumedActivity[:=]\s*ActivityRecord\{\S+ \S+ ([\w.]+)/", parts.get("resumed", ""))
    return found[1] if found else None


def home_app(parts: Mapping[str, str]) -> str | None:
    """The package of the home screen. Source: PackageManagerShellCommand of AOSP, Android 7 to 15: PACKAGE/ACTIVITY."""
    found = re.search(r"^([\w.]+)/\S+$", parts.get("home", ""), re.MULTILINE)
    return found[1] if found else None


def power_saver(parts: Mapping[str, str]) -> bool | None:
    """Whether the user has switched battery saver on."""
    return {"0": False, "1": True}.get(parts.get("saver", ""))


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"-?\d+", text) else None
