"""A fake `xcrun`, a program of its own: `python xcrun.py FOLDER devicectl list devices ...`, the same with `simctl`.

FOLDER holds `container/` (the app's files), `log` (one JSON argument list a line), and what a test put there:
`devices.json` (what `devicectl list devices` writes), `error.json` (an `error`, with which every other command fails),
`apps.json` (the installed bundle identifiers), `simulators.json` (what `simctl list` prints).

Source of the shapes: `xcrun devicectl help`, and JSON that public projects captured from Xcode 15 and 16.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any


def main(folder: Path, tool: str, *arguments: str) -> int:
    """Do what one call asks for."""
    with (folder / "log").open("a") as log:
        log.write(json.dumps([tool, *arguments]) + "\n")
    return devicectl(folder, list(arguments)) if tool == "devicectl" else simctl(folder, list(arguments))


def devicectl(folder: Path, arguments: list[str]) -> int:
    """The result goes into the file, and words for people to standard output."""
    output = Path(option(arguments, "--json-output"))
    print("Words for people, in a table that no program should read.")
    error: dict[str, Any] | None = None
    result: dict[str, Any] = {}
    if arguments[:2] == ["list", "devices"]:
        result = json.loads((folder / "devices.json").read_text())
    elif (folder / "error.json").exists():
        error = json.loads((folder / "error.json").read_text())
    elif arguments[:3] == ["device", "info", "apps"]:
        apps = json.loads((folder / "apps.json").read_text())
        result = {"apps": [{"bundleIdentifier": app} for app in apps if app == option(arguments, "--bundle-id")]}
    elif arguments[:3] == ["device", "install", "app"]:
        result = {"installedApplications": [{"installationURL": "file:///private/var/containers/Runner.app/"}]}
    elif arguments[:2] == ["device", "copy"]:
        error = copy(folder, arguments)
    info = {"outcome": "success" if error is None else "failed", "jsonVersion": 2, "version": "397.21"}
    answer = {"info": info, **({"result": result} if error is None else {"error": error})}
    output.write_text(json.dumps(answer))
    return 0 if error is None else 1


def copy(folder: Path, arguments: list[str]) -> dict[str, Any] | None:
    """To or from the container."""
    source, target = option(arguments, "--source"), option(arguments, "--destination")
    inside = folder / "container"
    here, there = (Path(source), inside / target) if arguments[2] == "to" else (inside / source, Path(target))
    if not here.exists():
        words = {"string": f"The file “{here.name}” couldn’t be opened because there is no such file."}
        below = {"domain": "NSPOSIXErrorDomain", "code": 2, "userInfo": {"NSLocalizedDescription": words}}
        return {
            "domain": "com.apple.dt.CoreDeviceError",
            "code": 7000,
            "userInfo": {"NSUnderlyingError": {"error": below}},
        }
    there.parent.mkdir(parents=True, exist_ok=True)
    if here.is_dir():
        shutil.copytree(here, there, dirs_exist_ok=True)
    else:
        shutil.copyfile(here, there)
    return None


def simctl(folder: Path, arguments: list[str]) -> int:
    """The simulator's files are files of the Mac."""
    if arguments[0] == "list":
        print((folder / "simulators.json").read_text())
    elif arguments[0] == "get_app_container":
        if not (folder / "container").exists():
            print("No such file or directory", file=sys.stderr)
            return 2
        print(folder / "container")
    elif arguments[0] == "install" and (folder / "refusal").exists():
        print((folder / "refusal").read_text(), file=sys.stderr)
        return 1
    return 0


def option(arguments: list[str], name: str) -> str:
    """The value that follows a flag."""
    return arguments[arguments.index(name) + 1]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
