"""Parsers on text as it was read from machines: laptops, servers, a board, phones, virtual machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.device import signals
from harness.device.signals import Battery, Clocks, CpuTimes

if TYPE_CHECKING:
    from pathlib import Path

# A virtual machine with 2 processors, Linux 6.18.
STAT = """\
cpu  20194 133 9059 248682 2115 0 337 15 0 0
cpu0 2463 10 1306 135805 574 0 37 4 0 0
cpu1 17730 122 7752 112876 1540 0 300 10 0 0
intr 1234567 0 0
ctxt 7654321
"""
MEMINFO = """\
MemTotal:       24683656 kB
MemFree:        22134024 kB
MemAvailable:   23998140 kB
SwapTotal:             0 kB
"""
CPUINFO_VM = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Processor
cpu MHz\t\t: 2600.000
flags\t\t: fpu vme de pse tsc msr rdrand hypervisor lahf_lm abm
bugs\t\t: spectre_v1

processor\t: 1
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Processor
flags\t\t: fpu vme de pse tsc msr rdrand hypervisor lahf_lm abm
"""
CPUINFO_EPYC = "cpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC\nstepping\t: 1\n"
CPUINFO_LAPTOP = CPUINFO_VM.replace(" hypervisor", "").replace(
    "Intel(R) Xeon(R) Processor", "12th Gen Intel(R) Core(TM) i7-1260P"
)
CPUINFO_PI = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

Revision\t: c04170
Serial\t\t: 0000000000000000
Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""
CPUINFO_PHONE = """\
processor\t: 0
CPU implementer\t: 0x41
CPU part\t: 0xd05

processor\t: 4
CPU implementer\t: 0x41
CPU part\t: 0xd0a

Hardware\t: Qualcomm Technologies, Inc SDM845
"""
POLICY = "/sys/devices/system/cpu/cpufreq/policy"
PHONE_CLOCKS = {
    f"{POLICY}0/scaling_governor": "schedutil",
    f"{POLICY}0/scaling_cur_freq": "576000",
    f"{POLICY}0/scaling_max_freq": "1766400",
    f"{POLICY}0/cpuinfo_max_freq": "1766400",
    f"{POLICY}4/scaling_governor": "schedutil",
    f"{POLICY}4/scaling_cur_freq": "825600",
    f"{POLICY}4/scaling_max_freq": "2092800",
    f"{POLICY}4/cpuinfo_max_freq": "2803200",
}


def proc_stat(line: str) -> dict[str, str]:
    return {"/proc/stat": line}


# --- reading ---


def test_files_are_read_by_pattern_with_their_absolute_names(tmp_path: Path) -> None:
    for policy, governor in ((0, "powersave\n"), (4, "performance\n")):
        folder = tmp_path / f"sys/devices/system/cpu/cpufreq/policy{policy}"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(governor)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/loadavg").write_text("0.43 0.20 0.10 1/200 4711\n")

    found = signals.read_files((f"{POLICY}*/scaling_governor", "/proc/loadavg", "/proc/none"), root=tmp_path)

    assert found == {
        f"{POLICY}0/scaling_governor": "powersave",
        f"{POLICY}4/scaling_governor": "performance",
        "/proc/loadavg": "0.43 0.20 0.10 1/200 4711",
    }


def test_a_device_trees_text_is_read_without_the_nul_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")

    assert signals.read_files(("/model",), root=tmp_path) == {"/model": "Raspberry Pi 5 Model B Rev 1.0"}


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "temp").mkdir()  # reading it gives an error, as a sensor without data does

    assert signals.read_files(("/temp",), root=tmp_path) == {}


def test_a_machine_that_says_nothing_is_unknown_in_everything() -> None:
    nothing: dict[str, str] = {}

    assert signals.cpu_times(nothing) is None
    assert signals.load_1min(nothing) is None
    assert signals.processors_allowed(nothing) is None
    assert signals.clocks(nothing) == Clocks(governor=None, now_hz=None, cap_hz=None, capped_pct=None, boost=None)
    assert signals.processor_celsius(nothing) is None
    assert signals.battery(nothing) is None
    assert signals.power_mode(nothing) is None
    assert signals.memory_bytes(nothing, "MemTotal") is None
    assert signals.cpu_name(nothing) is None
    assert signals.system_name(nothing) is None
    assert signals.machine_name(nothing) is None
    assert signals.hypervisor(nothing) is None


# --- processor time ---


def test_processor_time_is_read_without_counting_guests_twice() -> None:
    times = signals.cpu_times(proc_stat("cpu  100 10 50 800 40 5 5 30 60 6"))

    assert times == CpuTimes(total=1040, busy=170, steal=30)


def test_processor_time_of_a_whole_file() -> None:
    assert signals.cpu_times({"/proc/stat": STAT}) == CpuTimes(total=280535, busy=29723, steal=15)


def test_kernels_before_steal_time_leave_it_unknown() -> None:
    times = signals.cpu_times(proc_stat("cpu  100 10 50 800 40 5 5"))

    assert times == CpuTimes(total=1010, busy=170, steal=None)


@pytest.mark.parametrize("text", ["", "cpu", "cpu  1 2 3", "cpu  a b c d", "intr 1 2 3 4"])
def test_processor_time_that_makes_no_sense_is_unknown(text: str) -> None:
    assert signals.cpu_times(proc_stat(text)) is None


def test_shares_are_of_the_time_between_two_looks() -> None:
    before, after = CpuTimes(total=1000, busy=500, steal=10), CpuTimes(total=1200, busy=550, steal=20)

    assert signals.busy_and_steal_pct(before, after) == (25.0, 5.0)


def test_shares_without_time_between_or_without_a_look_are_unknown() -> None:
    look, no_steal = CpuTimes(total=1000, busy=500, steal=10), CpuTimes(total=1100, busy=550, steal=None)

    assert signals.busy_and_steal_pct(look, look) == (None, None)
    assert signals.busy_and_steal_pct(None, look) == (None, None)
    assert signals.busy_and_steal_pct(look, None) == (None, None)
    assert signals.busy_and_steal_pct(look, no_steal) == (50.0, None)


def test_load_is_that_of_the_last_minute() -> None:
    assert signals.load_1min({"/proc/loadavg": "0.43 0.20 0.10 1/200 4711"}) == 0.43


@pytest.mark.parametrize(
    ("files", "allowed"),
    [
        ({"/sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        ({"/sys/fs/cgroup/cpu.max": "max 100000"}, None),
        (
            {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
            0.5,
        ),
        ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, None),
    ],
)
def test_a_containers_share_of_the_processors(files: dict[str, str], allowed: float | None) -> None:
    assert signals.processors_allowed(files) == allowed


# --- clocks ---


def test_clocks_of_a_phone_with_two_clusters_of_which_one_is_capped() -> None:
    clocks = signals.clocks(PHONE_CLOCKS)

    assert clocks.governor == "schedutil"
    assert clocks.now_hz == 700_800_000
    assert clocks.cap_hz == 1_766_400_000
    assert clocks.capped_pct == pytest.approx(25.34, abs=0.01)
    assert clocks.boost is None


def test_clusters_under_different_governors_are_all_named() -> None:
    assert signals.clocks({**PHONE_CLOCKS, f"{POLICY}4/scaling_governor": "performance"}).governor == (
        "performance, schedutil"
    )


@pytest.mark.parametrize(
    ("path", "text", "boost"),
    [
        ("/sys/devices/system/cpu/intel_pstate/no_turbo", "0", True),
        ("/sys/devices/system/cpu/intel_pstate/no_turbo", "1", False),
        ("/sys/devices/system/cpu/cpufreq/boost", "1", True),
        ("/sys/devices/system/cpu/cpufreq/boost", "0", False),
        ("/sys/devices/system/cpu/cpufreq/boost", "", None),
    ],
)
def test_boost_is_known_from_either_driver(path: str, text: str, boost: bool | None) -> None:
    assert signals.clocks({path: text}).boost is boost


def test_a_clock_that_cannot_be_read_is_unknown_and_not_zero() -> None:
    files = {f"{POLICY}0/scaling_cur_freq": "<unknown>", f"{POLICY}0/scaling_max_freq": "", f"{POLICY}1/x": "1"}

    assert signals.clocks(files).now_hz is None
    assert signals.clocks(files).cap_hz is None


# --- heat, power, memory ---


def zones(**named: str) -> dict[str, str]:
    files = {}
    for number, (kind, temperature) in enumerate(named.items()):
        files[f"/sys/class/thermal/thermal_zone{number}/type"] = kind.replace("_X_", "-")
        files[f"/sys/class/thermal/thermal_zone{number}/temp"] = temperature
    return files


def test_the_hottest_processor_sensor_counts_and_no_other() -> None:
    files = zones(battery="99000", cpu_X_0_X_0_X_usr="41200", cpu_X_1_X_0_X_usr="43800", pm8998_tz="90000")

    assert signals.processor_celsius(files) == 43.8


@pytest.mark.parametrize("kind", ["x86_pkg_temp", "cpu-thermal", "cpu_thermal", "soc_thermal", "CPU", "BIG", "LITTLE"])
def test_processor_sensors_are_known_by_their_drivers_names(kind: str) -> None:
    assert signals.processor_celsius(zones(**{kind: "50000"})) == 50.0


def test_hardware_monitors_are_read_as_well() -> None:
    files = {
        "/sys/class/hwmon/hwmon3/name": "coretemp",
        "/sys/class/hwmon/hwmon3/temp1_input": "61000",
        "/sys/class/hwmon/hwmon3/temp2_input": "58000",
        "/sys/class/hwmon/hwmon4/name": "nvme",
        "/sys/class/hwmon/hwmon4/temp1_input": "70000",
        "/sys/class/hwmon/hwmon30/name": "iwlwifi",
        "/sys/class/hwmon/hwmon30/temp1_input": "80000",
    }

    assert signals.processor_celsius(files) == 61.0


@pytest.mark.parametrize("text", ["0", "-274000", "-99900", "45", "450", "", "N/A", "999000"])
def test_a_sensor_that_is_off_or_in_other_units_is_unknown_and_not_zero(text: str) -> None:
    assert signals.processor_celsius(zones(cpu=text)) is None


def supply(name: str, **fields: str) -> dict[str, str]:
    return {f"/sys/class/power_supply/{name}/{field}": text for field, text in fields.items()}


@pytest.mark.parametrize(
    ("status", "on_mains"),
    [("Charging", True), ("Full", True), ("Not charging", True), ("Discharging", False), ("Unknown", None), ("", None)],
)
def test_a_battery_says_its_charge_and_whether_the_mains_feed_the_machine(status: str, on_mains: bool | None) -> None:
    files = {**supply("AC", type="Mains"), **supply("BAT0", type="Battery", capacity="87", status=status)}

    assert signals.battery(files) == Battery(charge_pct=87.0, on_mains=on_mains)


def test_a_mouse_with_a_battery_does_not_make_a_desktop_a_laptop() -> None:
    assert signals.battery(supply("hid-1", type="Battery", scope="Device", capacity="5", status="Discharging")) is None


def test_memory_is_in_bytes() -> None:
    assert signals.memory_bytes({"/proc/meminfo": MEMINFO}, "MemAvailable") == 23998140 * 1024


# --- what it is ---


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        (CPUINFO_VM, "Intel(R) Xeon(R) Processor"),
        (CPUINFO_EPYC, "AMD EPYC (family 25, model 1)"),
        (CPUINFO_EPYC.replace("EPYC\n", "EPYC 7763 64-Core Processor\n"), "AMD EPYC 7763 64-Core Processor"),
        (CPUINFO_PHONE, "Qualcomm Technologies, Inc SDM845"),
        (CPUINFO_PI, "implementer 0x41, part 0xd0b"),
        (CPUINFO_PHONE.partition("Hardware")[0], "implementer 0x41, part 0xd05 + 0xd0a"),
        ("garbage", None),
    ],
)
def test_the_processors_name_on_x86_and_arm(cpuinfo: str, name: str | None) -> None:
    assert signals.cpu_name({"/proc/cpuinfo": cpuinfo}) == name


@pytest.mark.parametrize("quote", ['"', "'", ""])
def test_the_systems_name_with_any_quotes(quote: str) -> None:
    text = f"NAME=x\nPRETTY_NAME={quote}Debian GNU/Linux 12 (bookworm){quote}\nID=debian"

    assert signals.system_name({"/etc/os-release": text}) == "Debian GNU/Linux 12 (bookworm)"


def dmi(**fields: str) -> dict[str, str]:
    return {f"/sys/class/dmi/id/{field}": text for field, text in fields.items()}


def test_the_makers_name_for_the_machine() -> None:
    assert signals.machine_name(dmi(sys_vendor="LENOVO", product_name="21CB")) == "LENOVO 21CB"
    assert signals.machine_name({"/proc/device-tree/model": "Raspberry Pi 5 Model B"}) == "Raspberry Pi 5 Model B"
    assert signals.machine_name(dmi(sys_vendor="To Be Filled By O.E.M.", product_name="X570")) == "X570"


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"/proc/cpuinfo": CPUINFO_LAPTOP, **dmi(sys_vendor="LENOVO")}, None),
        ({"/proc/cpuinfo": CPUINFO_PI}, None),
        ({"/proc/cpuinfo": CPUINFO_VM}, "unknown hypervisor"),
        ({"/proc/cpuinfo": CPUINFO_VM, **dmi(sys_vendor="LENOVO")}, "unknown hypervisor"),
        ({"/proc/cpuinfo": CPUINFO_VM, **dmi(sys_vendor="QEMU", product_name="Standard PC (Q35)")}, "QEMU"),
        ({"/proc/cpuinfo": CPUINFO_VM, **dmi(sys_vendor="VMware, Inc.")}, "VMware"),
        ({"/proc/cpuinfo": CPUINFO_VM, **dmi(bios_vendor="innotek GmbH")}, "VirtualBox"),
        ({"/proc/cpuinfo": CPUINFO_VM, **dmi(sys_vendor="Amazon EC2", product_name="m5.large")}, "Amazon Nitro"),
        ({"/proc/cpuinfo": CPUINFO_LAPTOP, **dmi(sys_vendor="Amazon EC2", product_name="m5.metal")}, None),
        ({"/proc/cpuinfo": CPUINFO_PI, **dmi(sys_vendor="Amazon EC2", product_name="c6g.large")}, "Amazon Nitro"),
        ({"/proc/cpuinfo": CPUINFO_PI, **dmi(sys_vendor="Amazon EC2", product_name="c6g.metal")}, None),
        ({"/proc/cpuinfo": CPUINFO_PI, "/proc/device-tree/hypervisor/compatible": "linux,kvm"}, "KVM"),
        ({"/sys/hypervisor/type": "xen"}, "Xen"),
    ],
)
def test_the_hypervisor_is_named_where_it_shows_and_none_on_real_hardware(
    files: dict[str, str], name: str | None
) -> None:
    assert signals.hypervisor(files) == name


@pytest.mark.parametrize(
    ("word", "name"), [("kvm", "KVM"), ("oracle", "VirtualBox"), ("none", None), ("", None), ("acrn", "acrn")]
)
def test_systemds_words_become_the_same_names(word: str, name: str | None) -> None:
    assert signals.hypervisor_in_systemds_words(word) == name


POLICY = "/sys/devices/system/cpu/cpufreq/policy"


def test_clusters_are_the_processors_that_share_a_clock() -> None:
    files = {
        f"{POLICY}4/related_cpus": "4 5 6",
        f"{POLICY}4/cpuinfo_max_freq": "2400000",
        f"{POLICY}4/scaling_max_freq": "1200000",
        f"{POLICY}0/related_cpus": "0 1 2 3",
        f"{POLICY}0/scaling_max_freq": "1800000",
    }

    little, big = signals.clusters(files)

    assert (little.processors, little.max_hz) == ((0, 1, 2, 3), None)
    assert (big.processors, big.max_hz) == ((4, 5, 6), 2.4e9)
    assert signals.cluster_caps_hz(files) == (1.8e9, 1.2e9)


def test_caps_that_are_not_all_known_are_unknown() -> None:
    files = {f"{POLICY}0/related_cpus": "0", f"{POLICY}1/related_cpus": "1", f"{POLICY}1/scaling_max_freq": "1"}

    assert signals.cluster_caps_hz(files) is None
    assert signals.clusters({}) == ()
