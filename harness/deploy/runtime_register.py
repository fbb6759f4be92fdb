"""Libraries that the user has: a shared library that was built, or an Android archive with one for each ABI."""

from __future__ import annotations

import json
import shutil
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import msgspec

from harness.decoding import convert
from harness.deploy.elf import extract_needed, read_elf
from harness.deploy.runtime_library import RuntimeLibrary, wheel_of
from harness.deploy.targets import ANDROID_ABIS, TARGETS
from harness.errors import BadSetting, MissingTool, UnknownName, UnreadableModel, UsageError
from harness.records import Record
from harness.workspace import config_dir, folder_in_the_making, sha256_file, write_atomically


class _Register(Record, frozen=True, kw_only=True):
    """What runtimes.toml holds."""

    runtime: tuple[RuntimeLibrary, ...] = ()


def register(path: Path, *, runtime: str, version: str, abi: str | None = None) -> RuntimeLibrary:
    """Remember a library of the user's own.

    What a shared library is built for is read from the file itself. Out of an archive (.aar, .apk, .zip) the library of
    one ABI is taken, with what it needs of the others there, and kept.

    Args:
        path: The library, or the archive.
        runtime: A key of `WHEELS`.
        version: What it is; few libraries say so themselves.
        abi: As Android calls it (`arm64-v8a`), or a target (`linux-aarch64`); needed for an archive with several.

    Raises:
        UnknownName: There is no such runtime or ABI.
        UsageError: There is no such file.
        MissingTool: That library is not in the archive.
        BadSetting: The file is built for something else than `abi`, or the register is damaged; it is left as it is.
        UnreadableModel: It is neither a shared library nor an archive.
    """
    wheel_of(runtime)
    wanted = _target_named(abi) if abi else None
    _require_file(path, runtime, version)
    if zipfile.is_zipfile(path):
        return _register_archive(path, runtime, version, wanted)
    found = read_elf(path).target
    if found not in TARGETS:
        raise UnknownName("target", found, TARGETS)
    if wanted not in {None, found}:
        raise BadSetting("the command line", None, "--abi", f"{path} is built for {found}, not for {wanted}", ())
    return register_library(runtime, version, found, path)


def _require_file(path: Path, runtime: str, version: str) -> None:
    if not path.is_file():
        raise UsageError(f"there is no file {path}, which is to be the library of {runtime} {version}")


def register_library(
    runtime: str, version: str, target: str, path: Path, *, origin: Path | None = None
) -> RuntimeLibrary:
    """Remember a library, in place of an earlier one of the same runtime, version and target.

    Raises:
        UnknownName: There is no such runtime.
        UsageError: There is no such file.
        BadSetting: The register is damaged; it is left as it is.
    """
    wheel_of(runtime)
    _require_file(path, runtime, version)
    added = RuntimeLibrary(
        runtime=runtime,
        version=version,
        target=target,
        path=str(path.resolve()),
        sha256=sha256_file(path),
        source="registered",
        origin=origin.name if origin else None,
        origin_sha256=sha256_file(origin) if origin else None,
    )
    same = (runtime, version, target)
    kept = [one for one in registered_libraries() if (one.runtime, one.version, one.target) != same]
    write_atomically(_register_path(), _as_toml([*kept, added]).encode())
    return added


def forget(runtime: str, version: str, target: str | None = None) -> tuple[RuntimeLibrary, ...]:
    """Take libraries out of the register; the user's own files stay, and copies out of archives are deleted.

    Args:
        runtime: Of what was registered.
        version: Of what was registered, as it was given.
        target: For one only, or an ABI as Android calls it; None for every one.

    Returns:
        What was taken out.

    Raises:
        UnknownName: Nothing was registered so.
        BadSetting: The register is damaged; it is left as it is.
    """
    known, target = registered_libraries(), _target_named(target) if target else None
    gone = tuple(
        one for one in known if (one.runtime, one.version) == (runtime, version) and target in {None, one.target}
    )
    if not gone:
        names = dict.fromkeys(f"{one.runtime} {one.version} for {one.target}" for one in known)
        asked = f"{runtime} {version}" if target is None else f"{runtime} {version} for {target}"
        raise UnknownName("registered library", asked, tuple(names))
    write_atomically(_register_path(), _as_toml([one for one in known if one not in gone]).encode())
    for one in gone:
        if one.origin is not None:  # a copy of ours, in a folder of its own
            shutil.rmtree(Path(one.path).parent, ignore_errors=True)
    return gone


def registered_libraries() -> tuple[RuntimeLibrary, ...]:
    """Every library that was registered, in that order.

    Raises:
        BadSetting: The register is damaged.
    """
    path = _register_path()
    try:
        found = convert(tomllib.loads(path.read_text(encoding="utf-8")), _Register)
    except FileNotFoundError:
        return ()
    except (ValueError, msgspec.ValidationError) as error:  # of tomllib, and of a wrong encoding
        raise BadSetting(str(path), None, "", str(error), ()) from error
    return found.runtime


def _target_named(abi: str) -> str:
    by_abi = {each.name: f"android-{each.name}" for each in ANDROID_ABIS.values()}
    found = by_abi.get(abi, abi)
    if found not in TARGETS:
        raise UnknownName("ABI or target", abi, (*by_abi, *TARGETS))
    return found


def _register_archive(path: Path, runtime: str, version: str, wanted: str | None) -> RuntimeLibrary:
    name = PurePosixPath(wheel_of(runtime).pattern).name.rstrip("*")
    try:
        with zipfile.ZipFile(path) as archive:
            # Source: developer.android.com/studio/projects/android-library: jni/ABI in an .aar; an .apk says lib/ABI.
            members = {
                f"android-{PurePosixPath(member).parent.name}": member
                for member in archive.namelist()
                if PurePosixPath(member).match(f"jni/*/{name}") or PurePosixPath(member).match(f"lib/*/{name}")
            }
            target = wanted or (next(iter(members)) if len(members) == 1 else None)
            if target not in members:
                raise _not_in(path, name, wanted, tuple(members))
            folder = config_dir().absolute() / "runtimes" / runtime / version / target / sha256_file(path)[:16]
            if not folder.is_dir():
                with folder_in_the_making(folder) as making:
                    library = making / name
                    library.write_bytes(archive.read(members[target]))
                    if read_elf(library).target != target:
                        problem = f"{members[target]} is built for {read_elf(library).target}"
                        raise UnreadableModel(str(path), "an Android archive", problem)
                    extract_needed(archive, library, under=f"{PurePosixPath(members[target]).parent}/")
    except zipfile.BadZipFile as error:
        raise UnreadableModel(str(path), "an Android archive", str(error)) from error
    return register_library(runtime, version, target, folder / name, origin=path)


def _not_in(path: Path, name: str, wanted: str | None, there: tuple[str, ...]) -> MissingTool | BadSetting:
    abis = tuple(target.removeprefix("android-") for target in there)
    if there and wanted is None:
        return BadSetting("the command line", None, "--abi", f"{path} has {name} for several ABIs", abis)
    of = f" for {wanted}" if wanted else ""
    has = f"it has {', '.join(abis)}" if abis else "another archive: this one has no such file"
    return MissingTool(f"{name}{of} in {path}", "registering it", has)


def _register_path() -> Path:
    return config_dir() / "runtimes.toml"


def _as_toml(libraries: list[RuntimeLibrary]) -> str:
    """Every value is a text, and JSON's way of writing one is TOML's, too."""
    tables = []
    for library in libraries:
        known = {key: value for key, value in msgspec.structs.asdict(library).items() if value is not None}
        tables.append("\n".join(["[[runtime]]", *(f"{key} = {json.dumps(value)}" for key, value in known.items())]))
    return "\n\n".join(tables) + "\n"
