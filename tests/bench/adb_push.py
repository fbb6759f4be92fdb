"""How fast a file gets to a device over adb: this program against the bare clients.

    python -m tests.bench.adb_push [--output FOLDER]

A real adbd of Debian's runs on this machine, so that the figures are those of the clients and not of a cable or an
emulator. It listens on every address, so the whole benchmark runs in a network of its own (`unshare`, needs root). Nine
rounds each, the clients in turn; 200 MiB that do not compress, read from memory; every file is verified at the end.
What is ours is held against the fastest bare client. What a run does besides, a digest taken there and a new name, is a
row of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from harness.deploy.push import _deliver
from harness.device import virtual_image
from harness.device.adb import WORK_FOLDER, AndroidDevice
from harness.device.adb_direct import DirectLink
from harness.device.adb_server import AdbServer, ServerLink, adb_program, server_devices
from tests.bench.result import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZE_BYTES = 200 * 2**20
ROUNDS = 9
LEAST_SHARE, THERE_S = 0.9, 0.1
ADBD_PORT, SERVER_PORT = 15555, 15037
INSIDE = "HARNESS_BENCH_INSIDE"


def main() -> None:
    """Measure and say."""
    if os.environ.get(INSIDE) is None:
        command = ("unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", sys.executable, "-m")
        cache = Path(tempfile.gettempdir()) / "harness-bench-adbd"
        unpacked = adbd_root(cache)  # it needs the network
        environment = {**os.environ, INSIDE: str(unpacked)}
        sys.exit(
            subprocess.run((*command, "tests.bench.adb_push", *sys.argv[1:]), check=False, env=environment).returncode
        )
    result = Result.begin("adb_push", f"adb push of {SIZE_BYTES // 2**20} MiB over loopback: median of {ROUNDS}")
    was_there = Path(WORK_FOLDER).exists()
    with tempfile.TemporaryDirectory() as folder, serving(Path(os.environ[INSIDE]), Path(folder)):
        measure(result, Path(folder))
    if not was_there:
        shutil.rmtree(WORK_FOLDER, ignore_errors=True)  # digests: this machine was the device
    result.finish()


def measure(result: Result, folder: Path) -> None:
    """All clients in turn."""
    local, there = folder / "file.bin", folder / "there"
    local.write_bytes(os.urandom(SIZE_BYTES))
    there.mkdir()
    digest = hashlib.sha256(local.read_bytes()).hexdigest()
    server = AdbServer(port=SERVER_PORT)
    serial = server_devices(server)[0].serial
    devices = {
        "harness, adb server": AndroidDevice("server", ServerLink("server", serial, server)),
        "harness, direct": AndroidDevice("direct", DirectLink("direct", "127.0.0.1", ADBD_PORT)),
    }
    pushes: dict[str, Callable[[Path], object]] = {
        "adb push": lambda to: adb(serial, "push", str(local), str(to)),
        "adbutils": lambda to: adbutils_push(serial, local, to),
        "adb-shell": lambda to: adb_shell_push(local, to),
        **{name: partial(push, device, local) for name, device in devices.items()},
    }
    times: dict[str, list[float]] = {name: [] for name in pushes}
    for _ in range(ROUNDS):
        for name, send in pushes.items():
            target = there / "sent.bin"
            target.unlink(missing_ok=True)
            began = time.perf_counter()
            send(target)
            times[name].append(time.perf_counter() - began)
            assert hashlib.sha256(target.read_bytes()).hexdigest() == digest, name
    speed = {name: SIZE_BYTES / 2**20 / statistics.median(seconds) for name, seconds in times.items()}
    bare = dict.fromkeys(devices, max(("adb push", "adbutils", "adb-shell"), key=speed.__getitem__))
    for name, mib_per_s in speed.items():
        of_bare = limit = "–"
        if name in bare:
            share = mib_per_s / speed[bare[name]]
            of_bare = f"{100 * share:.0f} % of {bare[name]}"
            limit = result.limit(f"at least {LEAST_SHARE:.0%}", holds=share >= LEAST_SHARE, of=name)
        result.add(client=name, push=f"{mib_per_s:.0f} MiB/s", against_bare=of_bare, limit=limit)
    for name, device in devices.items():
        whole = []
        for _ in range(ROUNDS):
            (there / "whole.bin").unlink(missing_ok=True)
            shutil.rmtree(there / ".digests", ignore_errors=True)
            began = time.perf_counter()
            assert _deliver(local, digest, PurePosixPath(there / "whole.bin"), device, 60, "file") == 1
            whole.append(time.perf_counter() - began)
        result.add(
            client=f"{name}, verified there and renamed",
            push=f"{SIZE_BYTES / 2**20 / statistics.median(whole):.0f} MiB/s",
            against_bare="–",
            limit="–",
        )
        waits = []
        for _ in range(ROUNDS + 1):
            began = time.perf_counter()
            _deliver(local, digest, PurePosixPath(there / "sent.bin"), device, 60, "file")
            waits.append(time.perf_counter() - began)
        small = folder / "small.bin"
        small.write_bytes(os.urandom(2**20))
        small_digest = hashlib.sha256(small.read_bytes()).hexdigest()
        already = PurePosixPath(there / "small.bin")
        _deliver(small, small_digest, already, device, 60, "file")
        quick = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            assert _deliver(small, small_digest, already, device, 60, "file") == 0, "it is sent once"
            quick.append(time.perf_counter() - began)
        result.add(
            client=f"{name}, already there",
            push=f"200 MiB {statistics.median(waits) * 1e3:.0f} ms, 1 MiB {statistics.median(quick) * 1e3:.0f} ms",
            against_bare="–",
            limit=result.limit(
                "under 100 ms", holds=statistics.median(waits[1:]) < THERE_S, of=f"{name}, already there"
            ),
        )


def push(device: AndroidDevice, local: Path, to: Path) -> None:
    """As a run does it, without the check of the digest, which no bare client does."""
    device.push(local, PurePosixPath(to), timeout_s=60)


def adb(serial: str, *arguments: str) -> None:
    """The bare client."""
    command = (adb_program(), "-P", str(SERVER_PORT), "-s", serial, *arguments)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def adbutils_push(serial: str, local: Path, to: Path) -> None:
    """The Python client of adb servers."""
    import adbutils

    adbutils.AdbClient(host="127.0.0.1", port=SERVER_PORT).device(serial).sync.push(local, str(to))


def adb_shell_push(local: Path, to: Path) -> None:
    """The Python client without a server."""
    from adb_shell.adb_device import AdbDeviceTcp

    device = AdbDeviceTcp("127.0.0.1", ADBD_PORT, default_transport_timeout_s=60)
    device.connect()
    device.push(str(local), str(to))
    device.close()


@contextlib.contextmanager
def serving(root: Path, folder: Path) -> Iterator[None]:
    """An adbd and an adb server, both ended with the block."""
    libraries = root / "usr/lib/x86_64-linux-gnu"
    adbd = root / "usr/lib/android-sdk/platform-tools/adbd"
    loader = (str(libraries / "ld-linux-x86-64.so.2"), "--library-path", f"{libraries}:{libraries}/android", str(adbd))
    home = {"HOME": str(folder), "ADB_LOCAL_TRANSPORT_MAX_PORT": "5000", "PATH": os.environ["PATH"], "LC_ALL": "C"}
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    programs = [
        subprocess.Popen(loader, env={**home, "ADBD_PORT": str(ADBD_PORT)}, **quiet),  # type: ignore[call-overload]
        subprocess.Popen((adb_program(), "-P", str(SERVER_PORT), "nodaemon", "server"), env=home, **quiet),  # type: ignore[call-overload]
    ]
    try:
        from harness.device.adb_server import connect

        server = AdbServer(port=SERVER_PORT)
        for _ in range(100):
            with contextlib.suppress(Exception):
                connect(f"127.0.0.1:{ADBD_PORT}", server)
            if [device.state for device in server_devices(server)] == ["device"]:
                break
            time.sleep(0.2)
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def adbd_root(folder: Path) -> Path:
    """adbd for this machine, unpacked."""
    root = folder / "root"
    if not (root / "usr/lib/android-sdk/platform-tools/adbd").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        packages = virtual_image.download(("adbd",), folder, architecture="amd64")
        for package in packages:
            subprocess.run(("dpkg-deb", "--extract", str(package), str(root)), check=True)
    return root


if __name__ == "__main__":
    main()
