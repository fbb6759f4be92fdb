"""What a virtual device boots: a kernel and a file system in memory, made of Debian's packages for arm64.

The packages are found and checked by this machine's own apt, with lists of their own: nothing is installed here, and no
right is needed. Debian 13 is the first release that has adbd.
"""

from __future__ import annotations

import io
import lzma
import os
import re
import shlex
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from filelock import FileLock

from harness.errors import DeviceCommandFailed, DeviceTimedOut, MissingTool
from harness.workspace import cache_dir, folder_in_the_making, sha256_file, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

BUILDER = "virtual image"
SUITE = "trixie"
PACKAGES = ("adbd", "mksh", "toybox", "busybox-static", "libstdc++6", "linux-image-cloud-arm64")
"""adbd is the real one; mksh and toybox are what Android's own shell is made of; libstdc++ is for the runtimes."""
_NEEDED = re.compile(r"(lib|android-lib|gcc-|zlib).*|linux-image-\d.*|adbd|mksh|toybox|busybox-static")
"""Of what apt would install. The rest (systemd, initramfs-tools, debconf...) is for a system that is kept."""
_LEFT_OUT = (
    "boot",
    "etc",
    "usr/lib/aarch64-linux-gnu/gconv",
    "usr/lib/aarch64-linux-gnu/systemd",
    "usr/lib/modules",
    "usr/lib/systemd",
    "usr/sbin",
    "usr/share",
)
_MODULES = (
    "virtio",
    "virtio_ring",
    "virtio_mmio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
)
"""In the order of loading; those that a kernel has built in are not there as files."""
_ANDROID_TOOLS = (
    *("basename", "cat", "chmod", "cp", "cut", "date", "dd", "df", "dirname", "du", "echo", "env", "expr", "false"),
    *("file", "find", "free", "grep", "head", "id", "kill", "killall", "ln", "ls", "md5sum", "mkdir", "mount", "mv"),
    *(
        "nice",
        "nohup",
        "nproc",
        "od",
        "pgrep",
        "pidof",
        "pkill",
        "printenv",
        "printf",
        "ps",
        "pwd",
        "readlink",
        "realpath",
    ),
    *("renice", "rm", "rmdir", "sed", "seq", "setsid", "sha1sum", "sha256sum", "sleep", "sort", "stat", "sync", "tail"),
    *("taskset", "tee", "time", "timeout", "top", "touch", "tr", "true", "truncate", "umount", "uname", "uniq"),
    *("uptime", "wc", "which", "xargs", "yes"),
)
"""Those of /system/bin that toybox provides on a phone, as far as Debian's toybox has them."""

# What `getprop` answers. A phone's emulator says ro.kernel.qemu=1, which is how every tool knows one.
PROPERTIES = {
    "ro.build.characteristics": "emulator",
    "ro.build.type": "userdebug",
    "ro.debuggable": "1",
    "ro.hardware": "virt",
    "ro.kernel.qemu": "1",
    "ro.product.cpu.abi": "arm64-v8a",
    "ro.product.manufacturer": "inference-harness",
    "ro.product.model": "virtual arm64 device",
}
_GETPROP = """\
#!/system/bin/sh
if [ $# = 0 ]; then
  while IFS='=' read -r key value; do echo "[$key]: [$value]"; done </default.prop
else
  while IFS='=' read -r key value; do [ "$key" = "$1" ] && echo "$value"; done </default.prop
  true
fi
"""
_INIT = """\
#!/bin/busybox sh
PATH=/system/bin:/usr/bin:/bin
export PATH LC_ALL=C HOME=/data ANDROID_DATA=/data
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mkdir -p /dev/pts
/bin/busybox mount -t devpts devpts /dev/pts
for module in @MODULES@; do
  if [ -e /lib/modules/$module.ko ]; then /bin/busybox insmod /lib/modules/$module.ko; fi
done
/bin/busybox ifconfig lo 127.0.0.1 up
/bin/busybox ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
disk=$(/bin/busybox sed -n 's/.*harness[.]disk=\\([0-9]*m\\).*/\\1/p' /proc/cmdline)
/bin/busybox mount -t tmpfs -o size=${disk:-256m} tmpfs /data
/bin/busybox mkdir -p /data/local/tmp
echo HARNESS-BOOTED
# An adbd that is killed comes back, as init does it on a phone.
while true; do
  ADBD_PORT=5555 /usr/lib/android-sdk/platform-tools/adbd </dev/null
  /bin/busybox sleep 0.2
done
"""


@dataclass(frozen=True, kw_only=True)
class Image:
    """What qemu is started with."""

    key: str
    """SHA-256 of the recipe."""
    kernel: Path
    initrd: Path


class _Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What an image was made of."""

    packages: tuple[str, ...]
    """File names of the packages, with their versions."""


def image(watch: Callable[[str], None] = lambda _step: None) -> Image:
    """The image in the cache; made first, in about half a minute, where there is none.

    Args:
        watch: Told of each step that takes a while, in a few words.

    Raises:
        MissingTool: There is no apt here, or no Debian mirror among its sources.
        DeviceCommandFailed: A package cannot be fetched or unpacked.
    """
    folder = cache_dir().absolute() / "virtual-image" / key()[:16]
    made = Image(key=key(), kernel=folder / "kernel", initrd=folder / "initrd")
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Several devices may be started at once; the first one makes the image, the others wait for it.
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if not folder.exists():
                _make(folder, watch)
    return made


def key() -> str:
    """SHA-256 of everything that decides what is in the image, but for the packages' versions of the day: this file."""
    return sha256_file(Path(__file__))


def _make(folder: Path, watch: Callable[[str], None]) -> None:
    dpkg = _tool("dpkg-deb", "dpkg")
    with folder_in_the_making(folder) as making:
        work = making / "work"
        watch("fetching Debian's packages for arm64 (60 MB, once)")
        packages = download(PACKAGES, work)
        watch("making the image (once)")
        for package in packages:
            _run((dpkg, "--extract", str(package), str(work / "root")), timeout_s=120)
        shutil.copyfile(next((work / "root" / "boot").glob("vmlinuz-*")), making / "kernel")
        write_atomically(making / "initrd", archive(_entries(work / "root")))
        manifest = _Manifest(packages=tuple(package.name for package in packages))
        write_atomically(making / "manifest.json", msgspec.json.encode(manifest))
        shutil.rmtree(work)


def debian_mirror() -> str:
    """The first Debian archive among the sources of this machine's apt; `HARNESS_DEBIAN_MIRROR` names another.

    Raises:
        MissingTool: There is none.
    """
    chosen = os.environ.get("HARNESS_DEBIAN_MIRROR")
    if chosen:
        return chosen
    folder = Path("/etc/apt")
    files = [folder / "sources.list", *sorted(folder.glob("sources.list.d/*.list"))]
    files += sorted(folder.glob("sources.list.d/*.sources"))
    for file in files:
        if file.is_file():
            found = mirror_in(file.read_text(encoding="utf-8", errors="replace"))
            if found is not None:
                return found
    raise MissingTool(
        "a Debian archive among apt's sources",
        "making a virtual device",
        "name one in HARNESS_DEBIAN_MIRROR",
    )


def mirror_in(sources: str) -> str | None:
    """The first Debian archive in a file of apt's sources, one-line or deb822 style. Source: sources.list(5)."""
    for line in sources.splitlines():
        if re.match(r"(URIs:|deb\s)", line):
            found = re.search(r"\b[a-z+]+:/\S*/debian/?(?=\s|$)", line)
            if found:
                return found[0]
    return None


def download(packages: tuple[str, ...], work: Path, *, architecture: str = "arm64") -> list[Path]:
    """Fetch packages with all that they need to run, by apt with lists of its own in `work`.

    Raises:
        MissingTool: There is no apt here, or no Debian mirror among its sources.
        DeviceCommandFailed: A package cannot be fetched.
    """
    uri, apt = debian_mirror(), _tool("apt-get", "apt")
    for name in ("lists/partial", "cache/archives/partial", "sources", "packages", "root"):
        (work / name).mkdir(parents=True)
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    signed = f"Signed-By: {keyring}\n" if Path(keyring).is_file() else ""
    (work / "sources" / "debian.sources").write_text(
        f"Types: deb\nURIs: {uri}\nSuites: {SUITE}\nComponents: main\n{signed}", encoding="utf-8"
    )
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "root",
        "Dir::Cache": work / "cache",
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": work / "sources",
        "Dir::State::lists": work / "lists",
        "Dir::State::status": "/dev/null",
    }
    command = (apt, "-qq", *(part for name, value in settings.items() for part in ("-o", f"{name}={value}")))
    _run((*command, "update"), timeout_s=300)
    plan = _run((*command, "install", "--no-install-recommends", "--simulate", *packages), timeout_s=60)
    names = [name for name in re.findall(r"^Inst (\S+)", plan, re.MULTILINE) if _NEEDED.fullmatch(name)]
    _run((*command, "download", *(name.partition(":")[0] for name in names)), timeout_s=600, folder=work / "packages")
    return sorted((work / "packages").glob("*.deb"))


def _tool(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise MissingTool(name, "making a virtual device", f"apt-get install {package} (Debian and its relatives only)")
    return found


def _run(argv: tuple[str, ...], *, timeout_s: float, folder: Path | None = None) -> str:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        ended = subprocess.run(
            argv,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=folder,
            env=environment,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        raise DeviceTimedOut(BUILDER, shlex.join(argv), timeout_s) from None
    if ended.returncode != 0:
        raise DeviceCommandFailed(BUILDER, argv, ended.returncode, ended.stderr.decode(errors="replace"))
    return ended.stdout.decode(errors="replace")


# --- the file system -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file, folder or symbolic link of an archive."""

    name: str
    mode: int
    content: bytes = b""


def _entries(root: Path) -> Iterator[Entry]:
    folders = ("bin", "data", "dev", "etc", "lib/modules", "proc", "sys", "system/bin", "tmp", "usr/bin", "usr/lib")
    links = {"lib64": "lib", "system/bin/sh": "/usr/bin/mksh", "bin/sh": "/usr/bin/mksh"}
    links |= {"system/etc": "/etc"}
    links |= {f"system/bin/{name}": "/usr/bin/toybox" for name in _ANDROID_TOOLS}
    yield from (_folder(name) for name in _with_parents(folders))
    yield from (Entry(name=name, mode=stat.S_IFLNK | 0o777, content=to.encode()) for name, to in links.items())
    properties = "".join(f"{name}={value}\n" for name, value in PROPERTIES.items())
    yield _file("init", _INIT.replace("@MODULES@", " ".join(_MODULES)), executable=True)
    yield _file("default.prop", properties)
    yield _file("etc/passwd", "root:x:0:0:root:/data:/bin/sh\n")
    yield _file("etc/group", "root:x:0:\n")
    yield _file("system/bin/getprop", _GETPROP, executable=True)
    yield from (_file(f"lib/modules/{name}.ko", content) for name, content in _modules(root))
    known = set(_with_parents(folders)) | set(links)
    yield from _unpacked(root, known)


def _unpacked(root: Path, known: set[str]) -> Iterator[Entry]:
    """What the packages brought; `lib` and `bin` beside `usr` become parts of it there, as Debian has it since 12."""
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if name in known or name.startswith(tuple(f"{folder}/" for folder in _LEFT_OUT)) or name in _LEFT_OUT:
            continue
        status = path.lstat()
        if path.is_symlink():
            yield Entry(name=name, mode=stat.S_IFLNK | 0o777, content=str(path.readlink()).encode())
        elif path.is_dir():
            yield _folder(name)
        else:
            yield Entry(name=name, mode=stat.S_IFREG | stat.S_IMODE(status.st_mode), content=path.read_bytes())
    yield Entry(name="lib/ld-linux-aarch64.so.1", mode=stat.S_IFLNK | 0o777, content=_LOADER)
    yield Entry(name="bin/busybox", mode=stat.S_IFLNK | 0o777, content=b"/usr/bin/busybox")


_LOADER = b"/usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1"


def _modules(root: Path) -> Iterator[tuple[str, bytes]]:
    found = {path.name.partition(".")[0].replace("-", "_"): path for path in root.glob("usr/lib/modules/**/*.ko*")}
    for name in _MODULES:
        path = found.get(name)
        if path is not None:
            content = path.read_bytes()
            # busybox's insmod does not unpack.
            yield name, lzma.decompress(content) if path.suffix == ".xz" else content


def _with_parents(names: Iterable[str]) -> list[str]:
    return sorted({"/".join(name.split("/")[: end + 1]) for name in names for end in range(name.count("/") + 1)})


def _folder(name: str) -> Entry:
    return Entry(name=name, mode=stat.S_IFDIR | 0o755)


def _file(name: str, content: str | bytes, *, executable: bool = False) -> Entry:
    mode = stat.S_IFREG | (0o755 if executable else 0o644)
    return Entry(name=name, mode=mode, content=content.encode() if isinstance(content, str) else content)


def archive(entries: Iterable[Entry]) -> bytes:
    """A cpio archive that the kernel unpacks into its first file system; everything belongs to root.

    Source: Documentation/driver-api/early-userspace/buffer-format.rst of Linux 6.12 (the `newc` format).
    """
    out = io.BytesIO()
    for number, entry in enumerate((*entries, Entry(name="TRAILER!!!", mode=0)), start=1):
        name = f"{entry.name}\0".encode()
        fields: Mapping[str, int] = {
            "ino": number,
            "mode": entry.mode,
            "uid": 0,
            "gid": 0,
            "nlink": 1,
            "mtime": 0,
            "filesize": len(entry.content),
            "maj": 0,
            "min": 0,
            "rmaj": 0,
            "rmin": 0,
            "namesize": len(name),
            "chksum": 0,
        }
        out.write(b"070701" + "".join(f"{value:08x}" for value in fields.values()).encode())
        for part in (name, entry.content):
            out.write(part)
            out.write(b"\0" * (-out.tell() % 4))
    return out.getvalue()
