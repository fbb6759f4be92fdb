"""What a program or shared library for Linux or Android says of itself, read without running it.

Source: the System V ABI, chapters 4 and 5 (gabi); `.note.android.ident` of the NDK's crtbegin.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from harness.deploy.targets import ANDROID_ABIS
from harness.errors import AbiMismatch, UnreadableModel

if TYPE_CHECKING:
    import zipfile
    from pathlib import Path

_MACHINES = {3: "x86", 40: "arm", 62: "x86_64", 183: "aarch64"}
_LOAD, _DYNAMIC, _INTERPRETER, _NOTE = 1, 2, 3, 4
_NEEDED, _STRINGS, _SONAME = 1, 5, 14


class Elf(NamedTuple):
    """The header of one file."""

    architecture: str
    """As `architecture_name` calls it; `machine 243` for one that is not known here."""
    is_android: bool
    """Whether it is built for Android's libc."""
    needed: tuple[str, ...]
    """The libraries that have to be found when it is loaded."""
    soname: str | None

    @property
    def target(self) -> str:
        """What it runs on."""
        if self.is_android and self.architecture in ANDROID_ABIS:
            return f"android-{ANDROID_ABIS[self.architecture].name}"
        return f"{'android' if self.is_android else 'linux'}-{self.architecture}"


def read_elf(path: Path) -> Elf:
    """Read a program's or shared library's header.

    Raises:
        UnreadableModel: The file is not one, or is cut off.
    """
    content = path.read_bytes()
    if content[:4] != b"\x7fELF" or len(content) < 64:
        raise UnreadableModel(
            str(path), "a program or shared library for Linux", "it does not begin with an ELF header"
        )
    with suppress(struct.error, ValueError):  # beyond the end; a text without one
        return _Reader(content).read()
    raise UnreadableModel(str(path), "a program or shared library for Linux", "it is cut off")


def require_target(path: Path, target: str, device: str) -> None:
    """Refuse a file that was built for something else than a device.

    Raises:
        AbiMismatch: It was.
        UnreadableModel: See `read_elf`.
    """
    found = read_elf(path).target
    if found != target:
        raise AbiMismatch(device, str(path), found, target)


def needed_beside(library: Path) -> tuple[Path, ...]:
    """The libraries that a library needs and that lie in its own folder, with those that they need.

    What is not there (libc, libstdc++) is the system's. A file that is no ELF needs nothing.
    """
    found: dict[str, Path] = {}
    left = [library]
    while left:
        try:
            needed = read_elf(left.pop()).needed
        except UnreadableModel:
            continue
        for name in needed:
            path = library.parent / name
            if name not in found and path != library and path.is_file():
                found[name] = path
                left.append(path)
    return tuple(found.values())


def extract_needed(archive: zipfile.ZipFile, library: Path, *, under: str = "") -> None:
    """Take what a library needs out of the archive that it came from, as far as that has it, into the same folder.

    Args:
        archive: A wheel, or an Android archive.
        library: A library that was taken out of it.
        under: Only what is in this folder of the archive: an Android archive has every library for each ABI.
    """
    brought = {PurePosixPath(name).name: name for name in archive.namelist() if name.startswith(under)}
    left = [library]
    while left:
        try:
            needed = read_elf(left.pop()).needed
        except UnreadableModel:
            continue
        for name in needed:
            path = library.parent / name
            if name in brought and not path.exists():
                path.write_bytes(archive.read(brought[name]))
                left.append(path)


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._is_64 = content[4] == 2
        self._order = "<" if content[5] == 1 else ">"
        offset, size, count = (32, 54, 56) if self._is_64 else (28, 42, 44)
        (table,) = self._unpack("Q" if self._is_64 else "I", offset)
        (entry_bytes,), (entries,) = self._unpack("H", size), self._unpack("H", count)
        self._segments = [self._segment(table + index * entry_bytes) for index in range(entries)]

    def read(self) -> Elf:
        (machine,) = self._unpack("H", 18)
        tables = [self._pairs(offset, size) for kind, offset, _, size in self._segments if kind == _DYNAMIC]
        dynamic = [pair for table in tables for pair in table]
        strings = next((self._file_offset(value) for tag, value in dynamic if tag == _STRINGS), None)
        names: dict[int, list[str]] = {_NEEDED: [], _SONAME: []}
        for tag, value in dynamic:
            if tag in names and strings is not None:
                names[tag].append(self._text(strings + value))
        return Elf(
            architecture=_MACHINES.get(machine, f"machine {machine}"),
            is_android=self._is_android(names[_NEEDED]),
            needed=tuple(names[_NEEDED]),
            soname=next(iter(names[_SONAME]), None),
        )

    def _is_android(self, needed: list[str]) -> bool:
        """By the linker it asks for, the NDK's note, or the name of libc, which Android's does not number."""
        for kind, offset, _, size in self._segments:
            content = self._content[offset : offset + size]
            if kind == _INTERPRETER and content.startswith(b"/system/"):
                return True
            if kind == _NOTE and b"Android\0" in content:
                return True
        return "libc.so" in needed

    def _segment(self, at: int) -> tuple[int, int, int, int]:
        """Kind, offset in the file, address, bytes in the file."""
        if self._is_64:
            kind, _flags, offset, address, _physical, size = self._unpack("IIQQQQ", at)
        else:
            kind, offset, address, _physical, size = self._unpack("IIIII", at)
        return kind, offset, address, size

    def _pairs(self, offset: int, size: int) -> list[tuple[int, int]]:
        form = "QQ" if self._is_64 else "II"
        step = struct.calcsize(f"{self._order}{form}")
        pairs = [self._unpack(form, offset + index * step) for index in range(size // step)]
        return [(tag, value) for tag, value in pairs]

    def _file_offset(self, address: int) -> int:
        for kind, offset, start, size in self._segments:
            if kind == _LOAD and start <= address < start + size:
                return offset + address - start
        return address

    def _text(self, at: int) -> str:
        return self._content[at : self._content.index(b"\0", at)].decode(errors="replace")

    def _unpack(self, form: str, at: int) -> tuple[int, ...]:
        return struct.unpack_from(f"{self._order}{form}", self._content, at)
