"""Every foreign error has one of ours."""

from __future__ import annotations

import inspect
import socket
import struct

import adb_shell.exceptions
import pytest

from harness.device import adb_errors
from harness.device.adb_errors import AdbFailed, PeerClosed, file_error, from_adb_shell, from_words, mapped
from harness.device.adb_link import OPEN_ATTEMPTS, Deadline, reached
from harness.errors import (
    DeviceError,
    DeviceFileFailed,
    DeviceFull,
    DeviceNotFound,
    DeviceOffline,
    DeviceRefused,
    DeviceTimedOut,
    DeviceUnauthorized,
    LinkLost,
    SeveralDevices,
)

FOREIGN: dict[str, type[Exception]] = {
    name: kind
    for name, kind in inspect.getmembers(adb_shell.exceptions, inspect.isclass)
    if issubclass(kind, Exception) and kind.__module__ == "adb_shell.exceptions"
}


def deadline() -> Deadline:
    return Deadline("phone", "push /there", 3.0)


def test_no_error_of_adb_shell_is_missed_and_none_is_named_twice() -> None:
    groups = (
        adb_errors.AUTHORIZATION,
        adb_errors.TIME_OUT,
        adb_errors.ENDED,
        adb_errors.NO_SUCH_DEVICE,
        adb_errors.SAID,
        adb_errors.GARBLED,
        adb_errors.OUR_MISTAKE,
    )

    named = [name for group in groups for name in group]
    assert sorted(named) == sorted(FOREIGN)


@pytest.mark.parametrize("name", sorted(set(FOREIGN) - adb_errors.OUR_MISTAKE))
def test_each_becomes_one_of_ours(name: str) -> None:
    arguments = ("it said so", None) if name.startswith("Usb") and name.endswith("FailedError") else ("it said so",)

    with pytest.raises(DeviceError) as caught, mapped(deadline()):
        raise FOREIGN[name](*arguments)

    assert "phone" in str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("name", sorted(adb_errors.OUR_MISTAKE))
def test_a_mistake_of_this_program_stays_what_it_is(name: str) -> None:
    with pytest.raises(FOREIGN[name]), mapped(deadline()):
        raise FOREIGN[name]("wrong")


def test_an_error_of_nobody_we_know_stays_what_it_is() -> None:
    with pytest.raises(KeyError), mapped(deadline()):
        raise KeyError

    assert from_adb_shell(deadline(), KeyError()) is None


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("device 'ABC' not found", DeviceNotFound),
        ("device not found", DeviceNotFound),
        ("no devices/emulators found", DeviceNotFound),
        ("no devices found", DeviceNotFound),
        ("device offline", DeviceOffline),
        ("device still connecting", DeviceOffline),
        ("device still authorizing", DeviceOffline),
        (
            "device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set\nTry 'adb kill-server'",
            DeviceUnauthorized,
        ),
        ("insufficient permissions for device: user in plugdev group; are your udev rules wrong?", DeviceUnauthorized),
        ("more than one device/emulator", SeveralDevices),
        ("more than one device with serial ABC", SeveralDevices),
        ("closed", LinkLost),
        ("protocol fault (couldn't read status): Connection reset by peer", LinkLost),
        ("write failed: No space left on device", DeviceFull),
        ("something new", DeviceRefused),
    ],
)
def test_words_of_a_server_are_understood(words: str, kind: type[DeviceError]) -> None:
    assert type(from_words("phone", "push /there", words)) is kind
    with pytest.raises(kind), mapped(deadline()):
        raise AdbFailed(words)


@pytest.mark.parametrize(
    ("error", "connecting", "kind"),
    [
        (ConnectionRefusedError(), True, DeviceNotFound),
        (socket.gaierror(-2, "Name or service not known"), True, DeviceNotFound),
        (OSError(113, "No route to host"), True, DeviceNotFound),
        (TimeoutError(), True, DeviceTimedOut),
        (TimeoutError(), False, DeviceTimedOut),
        (ConnectionResetError(), True, LinkLost),
        (ConnectionResetError(), False, LinkLost),
        (BrokenPipeError(), False, LinkLost),
        (PeerClosed("gone"), False, LinkLost),
        (OSError(9, "Bad file descriptor"), False, LinkLost),
        (struct.error("short"), False, DeviceRefused),
        (UnicodeDecodeError("utf-8", b"", 0, 1, "x"), False, DeviceRefused),
    ],
)
def test_errors_of_sockets_become_ours(error: Exception, connecting: bool, kind: type[DeviceError]) -> None:
    with pytest.raises(kind), mapped(deadline(), connecting=connecting):
        raise error


def test_a_full_disk_is_no_ordinary_failure_of_a_file() -> None:
    assert type(file_error("phone", "push", "/there", "write failed: No space left on device", 7)) is DeviceFull
    assert type(file_error("phone", "push", "/there", "couldn't create file: Permission denied")) is DeviceFileFailed


# --- trying again ---


class Attempts:
    """Fails as often as it is told."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.made = list(errors), 0

    def __call__(self) -> str:
        self.made += 1
        if self.errors:
            raise self.errors.pop(0)
        return "reached"


def test_a_device_that_comes_back_is_reached_and_each_attempt_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    attempt = Attempts(DeviceOffline("phone", "device offline"))

    assert reached("phone", attempt, Deadline("phone", "x", 10)) == "reached"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "device offline" in caplog.text


def test_contact_is_tried_a_bounded_number_of_times() -> None:
    attempt = Attempts(*[LinkLost("phone", "x", "reset") for _ in range(10)])

    with pytest.raises(LinkLost):
        reached("phone", attempt, Deadline("phone", "x", 10))

    assert attempt.made == OPEN_ATTEMPTS


@pytest.mark.parametrize(
    "error", [DeviceUnauthorized("phone", "key"), DeviceNotFound("phone", "none"), DeviceTimedOut("phone", "x", 1.0)]
)
def test_what_trying_again_cannot_help_is_not_tried_again(error: DeviceError) -> None:
    attempt = Attempts(error)

    with pytest.raises(type(error)):
        reached("phone", attempt, Deadline("phone", "x", 10))

    assert attempt.made == 1


def test_trying_again_stays_within_the_time_out() -> None:
    attempt = Attempts(*[LinkLost("phone", "x", "reset") for _ in range(10)])

    with pytest.raises(LinkLost):
        reached("phone", attempt, Deadline("phone", "x", 0.1))

    assert attempt.made == 1
