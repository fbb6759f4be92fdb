"""Two builds in turn on a device that is reached over adb, the native loop a server there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.comparison import compare, parse_build, prepare
from harness.errors import DeviceNotFit
from harness.records import ComparePlan
from tests.device.conftest import on

if TYPE_CHECKING:
    from harness.device.adb import AndroidDevice

pytestmark = [pytest.mark.virtual, pytest.mark.timeout(900)]

TINY = Path(__file__).resolve().parents[1] / "data" / "tiny.onnx"


def test_two_builds_are_alive_together_on_a_device_and_nothing_of_them_stays(phone: AndroidDevice) -> None:
    plan = ComparePlan(trials=2, turns=1, block_s=0.01, warmup_s=0.0, warmup_cap_s=0.1, memory_trials=0)
    ready = [prepare(parse_build(f"{TINY},threads={threads}"), phone, accept=["emulated"]) for threads in (1, 2)]

    compared = compare(ready[0], ready[1], phone, plan)

    assert [trial.how for trial in compared.trials] == ["alive together"] * 2
    assert (compared.a.ran.threads, compared.b.ran.threads) == (1, 2)
    assert (compared.a.ran.driver, compared.device.is_emulated) == ("bench", True)
    assert "emulated" in compared.accepted_obstacles
    for trial in compared.trials:  # one clock of the device for both processes
        blocks = sorted([(b.start_ns, "A") for b in trial.a[0].blocks] + [(b.start_ns, "B") for b in trial.b[0].blocks])
        assert "".join(name for _, name in blocks) == trial.order
    assert "bench" not in on(phone, "ps -e -o comm 2>/dev/null || ps")
    assert on(phone, f"ls {phone.work_folder}/outputs").strip() == ""


def test_what_forbids_a_stable_figure_is_refused_by_name(phone: AndroidDevice) -> None:
    ready = prepare(parse_build(str(TINY)), phone)

    with pytest.raises(DeviceNotFit, match="emulated"):
        compare(ready, ready, phone, ComparePlan(trials=2, memory_trials=0))
