"""The one place where errors of adb servers, of adb-shell and of sockets become ours."""

from __future__ import annotations

import contextlib
import re
import struct
from typing import TYPE_CHECKING

from harness.errors import (
    DeviceError,
    DeviceFileFailed,
    DeviceFull,
    DeviceNotFound,
    DeviceOffline,
    DeviceRefused,
    DeviceUnauthorized,
    LinkLost,
    SeveralDevices,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.device.adb_link import Deadline


class AdbFailed(Exception):
    """A server or a device answered FAIL, with these words."""


class PeerClosed(OSError):
    """The other side closed the connection in the middle of a message."""


_USB_HINT = "Is it connected, switched on, and USB debugging allowed? `harness devices` lists what answers."
# Source: acquire_one_transport and friends in client/transport.cpp, and daemon/file_sync_service.cpp, of AOSP's
# packages/modules/adb 34.0.5 and 36.0.0; older ones differ in quotes and in "device/emulator".
_NOT_FOUND = re.compile(r"device '.*' not found|no devices|no such device|device not found|unknown host", re.IGNORECASE)
_OFFLINE = re.compile(r"offline|still (authorizing|connecting)|connecting|bootloader|recovery|sideload", re.IGNORECASE)
_UNAUTHORIZED = re.compile(r"unauthorized|insufficient permissions|no permissions", re.IGNORECASE)
_SEVERAL = re.compile(r"more than one", re.IGNORECASE)
_CLOSED = re.compile(r"^(closed|connection reset.*|protocol fault.*)$", re.IGNORECASE)
_NO_SPACE = re.compile(r"no space left|disk quota|quota exceeded", re.IGNORECASE)


def from_words(device: str, what: str, words: str) -> DeviceError:
    """The error for what a server or a device said."""
    if _NO_SPACE.search(words):
        return DeviceFull(device, what, None)
    if _SEVERAL.search(words):
        return SeveralDevices(device, words)
    if _NOT_FOUND.search(words):
        return DeviceNotFound(device, words, _USB_HINT)
    if _UNAUTHORIZED.search(words):
        return DeviceUnauthorized(device, words)
    if _CLOSED.search(words.strip()):
        return LinkLost(device, what, words.strip())
    if _OFFLINE.search(words):
        return DeviceOffline(device, words)
    return DeviceRefused(device, what, words)


def file_error(device: str, action: str, path: str, words: str, size_bytes: int | None = None) -> DeviceError:
    """The error for what a device said about a file."""
    if _NO_SPACE.search(words):
        return DeviceFull(device, path, size_bytes)
    return DeviceFileFailed(device, action, path, words.strip() or "the device does not say why")


# adb_shell.exceptions, by name: the package is optional, and an error of it can only come where it has been imported.
AUTHORIZATION = frozenset({"DeviceAuthError"})
TIME_OUT = frozenset({"AdbTimeoutError", "TcpTimeoutException"})
ENDED = frozenset({"AdbConnectionError", "UsbReadFailedError", "UsbWriteFailedError"})
NO_SUCH_DEVICE = frozenset({"UsbDeviceNotFoundError"})
SAID = frozenset({"AdbCommandFailureException", "PushFailedError"})
GARBLED = frozenset({"InvalidChecksumError", "InvalidCommandError", "InvalidResponseError"})
OUR_MISTAKE = frozenset({"DevicePathInvalidError", "InvalidTransportError"})
"""They say that this program calls adb-shell wrongly, and stay what they are."""


@contextlib.contextmanager
def mapped(deadline: Deadline, *, connecting: bool = False) -> Iterator[None]:
    """Turn every foreign error of the block into one of ours.

    Args:
        deadline: Names the device and what was done.
        connecting: Whether nobody has answered yet: who refuses then is not there.
    """
    try:
        yield
    except DeviceError:
        raise
    except AdbFailed as error:
        raise from_words(deadline.device, deadline.what, str(error)) from error
    except TimeoutError as error:
        raise deadline.passed() from error
    except OSError as error:
        raise _from_system(deadline, error, connecting=connecting) from error
    except (struct.error, UnicodeError) as error:
        raise DeviceRefused(deadline.device, deadline.what, f"its answer makes no sense: {error}") from error
    except Exception as error:
        ours = from_adb_shell(deadline, error)
        if ours is None:
            raise
        raise ours from error


def from_adb_shell(deadline: Deadline, error: Exception) -> DeviceError | None:
    """Our error for one of adb-shell's; None for what is not one, or for a mistake of ours."""
    if type(error).__module__ != "adb_shell.exceptions":
        return None
    name, device, what = type(error).__name__, deadline.device, deadline.what
    if name in TIME_OUT:
        return deadline.passed()
    if name in AUTHORIZATION:
        return DeviceUnauthorized(device, "it asks for a key, and there is none")
    if name in ENDED:
        return LinkLost(device, what, str(error))
    if name in NO_SUCH_DEVICE:
        return DeviceNotFound(device, str(error), _USB_HINT)
    if name in SAID:
        return from_words(device, what, str(error))
    if name in GARBLED:
        return DeviceRefused(device, what, f"its answer makes no sense: {error}")
    return None


def _from_system(deadline: Deadline, error: OSError, *, connecting: bool) -> DeviceError:
    words = error.strerror or str(error) or type(error).__name__
    if isinstance(error, ConnectionRefusedError):
        return DeviceNotFound(deadline.device, "nothing listens there")
    if connecting and not isinstance(error, ConnectionError):
        return DeviceNotFound(deadline.device, words)  # no such host, no route to it
    return LinkLost(deadline.device, deadline.what, words)
