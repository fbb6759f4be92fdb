"""What programs and libraries have to be built for, to run on a device: `linux-aarch64`, `android-arm64-v8a`..."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import MissingTool

if TYPE_CHECKING:
    from harness.records import DeviceFacts


class Abi(NamedTuple):
    """One of Android's binary interfaces."""

    name: str
    """As an Android archive calls its folder."""
    ndk: str
    """As the NDK's compilers begin."""


ANDROID_ABIS = {
    "aarch64": Abi("arm64-v8a", "aarch64-linux-android"),
    "arm": Abi("armeabi-v7a", "armv7a-linux-androideabi"),
    "x86_64": Abi("x86_64", "x86_64-linux-android"),
    "x86": Abi("x86", "i686-linux-android"),
}
"""Architecture -> its ABI. Source: developer.android.com/ndk/guides/abis and .../other_build_systems."""
LINUX_ARCHITECTURES = ("x86_64", "aarch64")
TARGETS = (
    *(f"linux-{architecture}" for architecture in LINUX_ARCHITECTURES),
    *(f"android-{abi.name}" for abi in ANDROID_ABIS.values()),
)
"""Everything that a library can be registered for."""
_ARCHITECTURES = {
    **dict.fromkeys(("amd64", "x64"), "x86_64"),
    **dict.fromkeys(("arm64", "arm64-v8a"), "aarch64"),
    # A 64-bit kernel says armv8l to a 32-bit system.
    **dict.fromkeys(("armv7l", "armv7a", "armv8l", "armeabi-v7a"), "arm"),
    **dict.fromkeys(("i386", "i586", "i686"), "x86"),
}


def architecture_name(machine: str) -> str:
    """One name for what systems call `x86_64`, `AMD64`, `arm64`, `aarch64`..."""
    return _ARCHITECTURES.get(machine.lower(), machine.lower())


def host_target() -> str:
    """What programs for this machine are called."""
    system = "linux" if sys.platform == "linux" else platform.system().lower()
    return f"{system}-{architecture_name(platform.machine())}"


def target_of(facts: DeviceFacts) -> str:
    """What runs on a device.

    Android's libc is another than that of a board or of a virtual device, both of which are Debian; a device reached by
    adb says in its properties whether it is Android.

    Raises:
        MissingTool: Programs cannot be started there, or its architecture is not known.
    """
    if facts.kind == "host":
        return host_target()
    if facts.kind == "ios":
        raise MissingTool("bench", f"timing on {facts.id}", "an iPhone is measured by the runner app")
    if facts.architecture is None:
        raise MissingTool(
            "bench", f"timing on {facts.id}, which does not say its architecture", "choose another device"
        )
    architecture = architecture_name(facts.architecture)
    if facts.kind == "android" and (facts.os is None or facts.os.startswith("Android")):
        abi = ANDROID_ABIS.get(architecture)
        return f"android-{abi.name if abi else architecture}"
    # Its libc is musl, for which the runtimes are not built.
    return f"{'musl' if (facts.os or '').startswith('Alpine') else 'linux'}-{architecture}"


def architecture_of(target: str) -> str:
    """The architecture of a target: `aarch64` for `android-arm64-v8a`."""
    return architecture_name(target.partition("-")[2])
