"""Parsers on text as Android devices print it."""

from __future__ import annotations

import pytest

from harness.device import android_signals as android
from harness.device.android_signals import PhoneBattery, Thermal
from harness.device.obstacles import find_obstacles
from harness.device.shell_device import read_conditions, read_facts
from harness.records import DeviceFacts

PIXEL_PROPERTIES = """\
[ro.board.platform]: [gs201]
[ro.build.characteristics]: [nosdcard]
[ro.build.fingerprint]: [google/panther/panther:14/AP2A.240705.004/11875680:user/release-keys]
[ro.build.type]: [user]
[ro.build.version.release]: [14]
[ro.build.version.sdk]: [34]
[ro.build.version.security_patch]: [2024-07-05]
[ro.hardware]: [panther]
[ro.kernel.qemu]: []
[ro.product.cpu.abi]: [arm64-v8a]
[ro.product.manufacturer]: [Google]
[ro.product.model]: [Pixel 7]
[ro.soc.manufacturer]: [Google]
[ro.soc.model]: [Tensor G2]
[some.note]: [first
second]
"""
GALAXY_PROPERTIES = """\
[ro.board.platform]: [exynos9820]
[ro.build.characteristics]: [phone,emulator_like]
[ro.build.fingerprint]: [samsung/beyond1ltexx/beyond1:9/PPR1.180610.011/G973FXXU1ASBA:user/release-keys]
[ro.build.version.release]: [9]
[ro.product.manufacturer]: [samsung]
[ro.product.model]: [SM-G973F]
"""
EMULATOR_PROPERTIES = """\
[ro.build.characteristics]: [emulator]
[ro.build.fingerprint]: [google/sdk_gphone64_arm64/emu64a:14/UE1A.230829.036/11228894:userdebug/dev-keys]
[ro.hardware]: [ranchu]
[ro.product.manufacturer]: [Google]
[ro.product.model]: [sdk_gphone64_arm64]
"""
# Android 14; the cached block is older, and hotter.
THERMAL = """\
IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 2
\tkilled: false
\tbroadcasts count: -1
ThermalStatusListeners:
\tcallbacks: 1
Thermal Status: 1
Cached temperatures:
\tTemperature{mValue=71.3, mType=0, mName=BIG, mStatus=0}
\tTemperature{mValue=45.1, mType=3, mName=VIRTUAL-SKIN, mStatus=2}
HAL Ready: true
HAL connection:
\tThermalHAL AIDL 1  connected: yes
Current temperatures from HAL:
\tTemperature{mValue=38.2, mType=0, mName=LITTLE, mStatus=0}
\tTemperature{mValue=41.5, mType=0, mName=BIG, mStatus=0}
\tTemperature{mValue=33.25, mType=3, mName=VIRTUAL-SKIN, mStatus=0}
\tTemperature{mValue=-99.9, mType=3, mName=quiet_therm, mStatus=0}
\tTemperature{mValue=29.7, mType=2, mName=battery, mStatus=0}
Current cooling devices from HAL:
\tCoolingDevice{mValue=0, mType=2, mName=thermal-cpufreq-0}
"""
# Some makers number types in their own way, and put fields in another order.
SAMSUNG_THERMAL = """\
IsStatusOverride: false
Thermal Status: 0
Cached temperatures:
Current temperatures from HAL:
  Temperature{mName=AP, mType=17, mStatus=0, mValue=36.1}
  Temperature{mName=SKIN, mType=18, mStatus=0, mValue=31.0}
  Temperature{mName=PA, mType=19, mStatus=0, mValue=broken}
"""
BATTERY = """\
Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Dock powered: false
  Max charging current: 500000
  Charge counter: 3245000
  status: 2
  health: 2
  present: true
  level: 78
  scale: 100
  voltage: 4137
  temperature: 274
  technology: Li-ion
"""
STATE = f"""\
@@harness@@ /proc/stat before
cpu  100 0 100 800 0 0 0 0 0 0
@@harness@@ /proc/loadavg
1.50 1.20 1.00 2/900 12345
@@harness@@ /proc/meminfo
MemTotal:        7801848 kB
MemAvailable:    3900924 kB
@@harness@@ /proc/stat
cpu  110 0 110 980 0 0 0 0 0 0
@@harness@@ /sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq
1803000
@@harness@@ /sys/devices/system/cpu/cpufreq/policy0/scaling_governor
sched_pixel
@@harness@@ /sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq
1803000
@@harness@@ /sys/devices/system/cpu/cpufreq/policy6/cpuinfo_max_freq
2850000
@@harness@@ /sys/devices/system/cpu/cpufreq/policy6/scaling_governor
sched_pixel
@@harness@@ /sys/devices/system/cpu/cpufreq/policy6/scaling_max_freq
1425000
@@harness@@ dumpsys battery
{BATTERY}
@@harness@@ dumpsys thermalservice
{THERMAL}
@@harness@@ wakefulness
  mWakefulness=Awake
@@harness@@ resumed
    mResumedActivity: ActivityRecord{{a1b2c3 u0 com.android.launcher3/.Launcher t12}}
@@harness@@ saver
1
"""
FACTS = DeviceFacts(
    id="phone",
    kind="android",
    device_class="phone",
    name="Phone",
    cpu=None,
    cores=8,
    architecture="aarch64",
    memory_bytes=None,
    os=None,
    os_build=None,
)


def test_an_answer_is_taken_apart_by_its_marks() -> None:
    text = "@@harness@@ /a/b\r\none\r\ntwo\r\n@@harness@@ /sys/model\nname\0\n@@harness@@ none\n"

    assert android.sections(text) == {"/a/b": "one\ntwo", "/sys/model": "name", "none": ""}


def test_what_stands_before_the_first_mark_is_dropped() -> None:
    assert android.sections("WARNING: linker: something\n@@harness@@ /a\nx\n") == {"/a": "x"}


def test_every_part_of_a_question_is_marked() -> None:
    assert android.state_command().count("@@harness@@ ") == 8
    assert android.facts_command().count("@@harness@@ ") == 3


def test_properties_may_be_empty_and_may_have_several_lines() -> None:
    props = android.properties(PIXEL_PROPERTIES)

    assert (props["ro.kernel.qemu"], props["ro.soc.model"], props["some.note"]) == ("", "Tensor G2", "first\nsecond")


def test_a_phone_is_described_by_its_properties() -> None:
    parts = {
        "getprop": PIXEL_PROPERTIES,
        "uname": "5.10.177-android13 aarch64",
        "/sys/devices/system/cpu/possible": "0-7",
    }

    facts = read_facts("ABC", "android", parts)

    assert (facts.name, facts.cpu, facts.cores, facts.architecture) == (
        "Google Pixel 7",
        "Google Tensor G2",
        8,
        "aarch64",
    )
    assert (facts.os, facts.device_class, facts.virtual_machine) == ("Android 14 (API 34)", "phone", None)
    assert facts.os_build == (
        "google/panther/panther:14/AP2A.240705.004/11875680:user/release-keys (security patch 2024-07-05)"
    )


def test_an_older_phone_names_its_platform() -> None:
    facts = read_facts("ABC", "android", {"getprop": GALAXY_PROPERTIES, "uname": "4.14 aarch64"})

    assert (facts.name, facts.cpu, facts.device_class) == ("samsung SM-G973F", "exynos9820", "phone")
    assert (facts.cores, facts.memory_bytes) == (None, None)


def test_a_device_that_answers_nothing_is_unknown_and_not_empty() -> None:
    facts = read_facts("ABC", "android", {})

    assert (facts.name, facts.cpu, facts.os, facts.os_build, facts.architecture) == ("ABC", None, None, None, None)


@pytest.mark.parametrize(
    "text",
    [
        EMULATOR_PROPERTIES,
        "[ro.kernel.qemu]: [1]\n",
        "[ro.boot.qemu]: [1]\n",
        "[ro.hardware]: [cutf_cvm]\n",
        "[ro.hardware]: [vbox86]\n",
        "[ro.build.fingerprint]: [google/sdk_gphone_x86/generic_x86_arm:11/RSR1/1:userdebug/dev-keys]\n",
    ],
)
def test_an_emulator_is_known(text: str) -> None:
    assert android.device_class(android.properties(text)) == "emulated"
    assert read_facts("emulator-5554", "android", {"getprop": text}).is_emulated


@pytest.mark.parametrize("text", [PIXEL_PROPERTIES, GALAXY_PROPERTIES, ""])
def test_a_phone_is_no_emulator(text: str) -> None:
    assert not android.is_emulator(android.properties(text))


@pytest.mark.parametrize(
    ("characteristics", "kind"),
    [("tablet,nosdcard", "tablet"), ("tv", "board"), ("nosdcard", "phone"), ("default", "phone"), ("", "phone")],
)
def test_characteristics_say_what_kind_of_device_it_is(characteristics: str, kind: str) -> None:
    assert android.device_class({"ro.build.characteristics": characteristics}) == kind


@pytest.mark.parametrize(("text", "count"), [("0-7", 8), ("0", 1), ("0-3,8-9", 6), ("", None), ("x", None)])
def test_processors_are_counted(text: str, count: int | None) -> None:
    assert android.processors({"/sys/devices/system/cpu/possible": text}) == count


def test_temperatures_are_those_of_the_hardware_now_and_not_the_cached_ones() -> None:
    assert android.thermal(THERMAL) == Thermal(
        status="light", is_overridden=False, skin_celsius=33.25, cpu_celsius=41.5
    )


def test_sensors_with_types_of_their_own_are_known_by_name() -> None:
    assert android.thermal(SAMSUNG_THERMAL) == Thermal(
        status="none", is_overridden=False, skin_celsius=36.1, cpu_celsius=None
    )


def test_a_status_that_a_test_has_set_is_known() -> None:
    found = android.thermal(THERMAL.replace("IsStatusOverride: false", "IsStatusOverride: true"))

    assert found is not None
    assert found.is_overridden


@pytest.mark.parametrize("number", ["-1", "7", "99"])
def test_a_status_that_is_in_no_table_is_unknown(number: str) -> None:
    found = android.thermal(THERMAL.replace("Thermal Status: 1", f"Thermal Status: {number}"))

    assert found is not None
    assert found.status is None


def test_hardware_that_does_not_answer_has_no_temperature() -> None:
    text = THERMAL.partition("HAL Ready")[0] + "HAL Ready: false\n"

    assert android.thermal(text) == Thermal(status="light", is_overridden=False, skin_celsius=None, cpu_celsius=None)


def test_absent_sensors_have_no_temperature() -> None:
    text = (
        "Thermal Status: 0\nCurrent temperatures from HAL:\n\tTemperature{mValue=-99.9, mType=3, mName=s, mStatus=0}\n"
    )
    text += "\tTemperature{mValue=NaN, mType=0, mName=CPU0, mStatus=0}\n"

    assert android.thermal(text) == Thermal(status="none", is_overridden=False, skin_celsius=None, cpu_celsius=None)


@pytest.mark.parametrize("text", ["", "Can't find service: thermalservice\n", "garbage \x00 \xff"])
def test_where_there_is_no_thermal_service_nothing_is_known(text: str) -> None:
    assert android.thermal(text) is None


def test_a_battery_says_its_charge_its_temperature_and_its_charger() -> None:
    assert android.phone_battery(BATTERY) == PhoneBattery(charge_pct=78.0, celsius=27.4, is_plugged=True)


def test_a_battery_without_a_charger_is_not_plugged() -> None:
    found = android.phone_battery(BATTERY.replace("USB powered: true", "USB powered: false"))

    assert found is not None
    assert found.is_plugged is False


@pytest.mark.parametrize(
    "text", ["", "Can't find service: battery\n", BATTERY.replace("present: true", "present: false")]
)
def test_a_device_without_a_battery_has_none(text: str) -> None:
    assert android.phone_battery(text) is None


def test_a_damaged_battery_report_gives_unknown_and_never_zero() -> None:
    text = "Current Battery Service state:\n  present: true\n  level: \n  temperature: x\n"

    assert android.phone_battery(text) == PhoneBattery(charge_pct=None, celsius=None, is_plugged=None)


def test_a_phones_state_is_put_together() -> None:
    now = read_conditions(FACTS, android.sections(STATE), at="2026-01-01T00:00:00.000+00:00")

    state = now.state
    assert (state.load_1min, state.cpu_busy_pct, state.steal_pct) == (1.5, 10.0, 0.0)
    assert (state.governor, state.cpu_cap_hz, now.capped_pct) == ("sched_pixel", 1.425e9, 50.0)
    assert (state.thermal_status, state.temperature_celsius, state.skin_celsius) == ("light", 41.5, 33.25)
    assert (state.battery_pct, state.charging, state.battery_celsius) == (78.0, True, 27.4)
    assert (state.screen_on, state.foreground_app, state.power_mode) == (True, "com.android.launcher3", "low-power")
    assert state.free_memory_bytes == 3900924 * 1024


def test_a_warm_phone_is_refused_and_a_faked_status_as_well() -> None:
    text = STATE.replace("IsStatusOverride: false", "IsStatusOverride: true")

    found = find_obstacles(read_conditions(FACTS, android.sections(text), at=""))

    refused = {obstacle.name for obstacle in found if obstacle.severity == "refusal"}
    assert refused == {"thermal-status", "thermal-override", "power-mode"}


def test_a_device_that_says_nothing_has_a_state_of_unknowns() -> None:
    state = read_conditions(FACTS, {}, at="").state

    said = {name: getattr(state, name) for name in state.__struct_fields__ if name != "at"}
    assert set(said.values()) == {None}


@pytest.mark.parametrize(("kind", "debuggable"), [("user", False), ("userdebug", True), ("eng", True), ("", None)])
def test_a_build_for_debugging_is_known(kind: str, debuggable: bool | None) -> None:
    assert android.is_debuggable({"ro.build.type": kind} if kind else {}) is debuggable


@pytest.mark.parametrize(
    ("text", "package"),
    [
        (
            "priority=0 preferredOrder=0 match=0x108000\ncom.google.android.apps.nexuslauncher/.NexusLauncherActivity",
            "com.google.android.apps.nexuslauncher",
        ),
        ("com.sec.android.app.launcher/.activities.LauncherActivity", "com.sec.android.app.launcher"),
        ("No activity found", None),
        ("", None),
    ],
)
def test_the_home_screen_is_known_by_its_package(text: str, package: str | None) -> None:
    assert android.home_app({"home": text}) == package


def test_a_device_is_told_from_others_of_its_model_without_its_number() -> None:
    one, other, board, none = (
        read_facts("ABC", "android", parts).unit_digest
        for parts in (
            {"getprop": PIXEL_PROPERTIES + "[ro.serialno]: [R5CT1234ABC]\n"},
            {"getprop": PIXEL_PROPERTIES + "[ro.serialno]: [R5CT1234ABD]\n"},
            {"/etc/machine-id": "0123456789abcdef0123456789abcdef"},
            {"getprop": PIXEL_PROPERTIES + "[ro.serialno]: [unknown]\n", "/etc/machine-id": "uninitialized"},
        )
    )

    assert one is not None
    assert len({one, other, board, None}) == 4
    assert "R5CT" not in one
    assert none is None
    assert "/etc/machine-id" in android.facts_command()
