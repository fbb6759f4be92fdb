"""A fake iPhone on 127.0.0.1 for the real client: usbmuxd, lockdownd, house_arrest, AFC, installation_proxy; its app.

with FakeIphone(folder) as phone:
    monkeypatch.setenv("USBMUXD_SOCKET_ADDRESS", phone.address)
    phone.app = FakeApp(lines=[...], outputs={"output-0.bin": b"..."})
    ...

It proves the way there and back and what is said when that fails. It computes nothing and measures nothing. It speaks
no TLS, and none of the developer services, so nothing can be launched on it: its app is open, as a person leaves it.

Source: the protocols as libimobiledevice documents them (usbmuxd's plist version 1, lockdownd, AFC) and as
pymobiledevice3 11.45.0 speaks them.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import plistlib
import shutil
import socketserver
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import msgspec

from harness.errors import DeviceError, DeviceFull

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path, PurePosixPath

    from harness.device.ios.transport import Hurdle, Transport

UDID = "00008020-000FAKE0000A12E"
APP = "org.inference-harness.runner"
DIGEST = "0" * 64
"""In a message: that of the outputs."""
_PUBLIC_KEY = b"""-----BEGIN RSA PUBLIC KEY-----
MIGJAoGBAMU3doPdNDSu16VTDT3WOjVcPvdxGF9ddKRoiEAO1zWM03GmecX5ooAD
Fx2uWCN8xGf6C9Fy1ZWAZdMYYCFNocvIFzL4ZTGvNilpTBUeWVMaQ6vMq6mK17q8
PjxP6rkyqbLBi2dDrL1SrlXvsJGZkQWdWcEoTHDWti79Bze8QSfNAgMBAAE=
-----END RSA PUBLIC KEY-----
"""
_LOCKDOWN = 62078
_SERVICES = {
    "com.apple.mobile.house_arrest": 50001,
    "com.apple.mobile.installation_proxy": 50002,
    "com.apple.afc": 50003,
}


@dataclass
class FakeApp:
    """What the app on the phone does with each job.

    Attributes:
        lines: Its messages; `RESULT` in them stands for the result folder's path.
        memory_lines: Its messages to a job that measures memory; None for the same.
        outputs: The files that it writes below `outputs/`.
        compute: Makes these files from a job, given the app's `Documents`; their digest takes the place of `DIGEST`.
        returncode: How the job ends.
        last_words: What it says of the end.
        state: What it says of the phone; None says nothing.
        answers: False leaves every job where it is.
        damage: Called with the finished result folder, to spoil it.
        certifies: Whether it checks digests, and certifies what has arrived.
    """

    lines: Sequence[str | msgspec.Struct] = ()
    memory_lines: Sequence[str | msgspec.Struct] | None = None
    outputs: Mapping[str, bytes] = field(default_factory=dict)
    compute: Callable[[Mapping[str, Any], Path], Mapping[str, bytes]] | None = None
    returncode: int = 0
    last_words: str = ""
    state: dict[str, Any] | None = None
    answers: bool = True
    damage: Callable[[Path], None] | None = None
    certifies: bool = True


STATE: dict[str, Any] = {
    "at": "2026-01-01T00:00:00.000+00:00",
    "thermal_state": "nominal",
    "low_power_mode": False,
    "battery_pct": 80.0,
    "charging": True,
    "free_memory_bytes": 1_500_000_000,
    "memory_bytes": 2_960_000_000,
    "processors": 6,
    "os": "iOS 18.5",
    "os_build": "22F76",
    "product": "iPhone11,8",
    "app_version": "1.0",
}


class FakeIphone:
    """One phone on a cable.

    Args:
        folder: Where its files are; the app's container is `folder/APP`.
        product: What it calls itself.
        system: The version of its iOS.

    Attributes:
        app: What its app does; None for a phone without it.
        attached: False as if the cable were out.
        paired: False as if it showed its trust dialog, and nobody answered.
        locked: True as if nobody had unlocked it since it was switched on.
        developer_mode: As in its settings.
        capacity_bytes: How many bytes one file may have before the phone is full.
        unplug_after_writes: After so many writes the cable comes out.
        refuses_apps: Error and description with which it refuses every app.
        installed: The package that was installed on it.
        jobs: Every job.json that the app took, in order.
        written: Every path that was opened for writing, in order.
    """

    def __init__(self, folder: Path, *, product: str = "iPhone11,8", system: str = "18.5") -> None:
        self.folder = folder
        self.app: FakeApp | None = FakeApp(state=STATE)
        self.attached = self.paired = self.developer_mode = True
        self.locked = False
        self.capacity_bytes: int | None = None
        self.unplug_after_writes: int | None = None
        self.refuses_apps: tuple[str, str] | None = None
        self.installed: bytes | None = None
        self.jobs: list[dict[str, Any]] = []
        self.written: list[str] = []
        kind = "iPad" if product.startswith("iPad") else "iPhone"
        self.values: dict[str, Any] = {
            "BuildVersion": "22F76",
            "CPUArchitecture": "arm64e",
            "DeviceClass": kind,
            "DeviceName": f"Fake {kind}",
            "DevicePublicKey": _PUBLIC_KEY,
            "HardwareModel": "N841AP",
            "ProductName": "iPhone OS",
            "ProductType": product,
            "ProductVersion": system,
            "UniqueChipID": 1,
            "UniqueDeviceID": UDID,
            "WiFiAddress": "00:00:00:00:00:00",
        }
        self._server = _Server(("127.0.0.1", 0), _Connection)
        self._server.phone = self
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True),
            threading.Thread(target=self._run_app, daemon=True),
        ]

    @property
    def address(self) -> str:
        """What USBMUXD_SOCKET_ADDRESS has to say."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    @property
    def documents(self) -> Path:
        """The app's own folder."""
        return self.folder / APP / "Documents"

    @property
    def media(self) -> Path:
        """What AFC shows without an app: packages to be installed are left there."""
        return self.folder / "Media"

    def __enter__(self) -> Self:
        self.documents.mkdir(parents=True)
        self.media.mkdir()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join(5)

    # --- the app ---

    def _run_app(self) -> None:
        while not self._over.wait(0.02):
            if self.app is None or not self.app.answers:
                continue
            for ready in sorted(self.documents.glob("jobs/*/ready")):
                job_file = ready.parent / "job.json"
                if not job_file.is_file() or hashlib.sha256(job_file.read_bytes()).hexdigest() != ready.read_text():
                    continue  # it is still arriving
                job = json.loads(job_file.read_text())
                shutil.rmtree(ready.parent)
                self.jobs.append(job)
                self._answer(self.app, job)

    def _answer(self, app: FakeApp, job: dict[str, Any]) -> None:
        making = self.documents / "results" / f".{job['id']}.partial"
        (making / "outputs").mkdir(parents=True)
        damaged = self._check(job) if app.certifies else None
        in_memory = job["job"] is not None and job["job"]["mode"] == "memory" and app.memory_lines is not None
        said = app.memory_lines if in_memory else app.lines
        lines = [line if isinstance(line, str) else msgspec.json.encode(line).decode() for line in said or ()]
        returncode = app.returncode
        if damaged is not None:
            lines = [json.dumps({"type": "error", "kind": "push_corrupted", "message": damaged})]
            returncode = 1
        elif job["job"] is None:
            lines = []
        outputs = app.outputs
        if app.compute is not None and job["job"] is not None and damaged is None:
            outputs = app.compute(job["job"], self.documents)
        digest = hashlib.sha256(b"".join(outputs.values())).hexdigest()
        prefix = f"/Documents/results/{job['id']}"
        said_here = "".join(f"{line}\n" for line in lines).replace("RESULT", prefix).replace(DIGEST, digest)
        (making / "messages.ndjson").write_text(said_here)
        for name, content in outputs.items():
            (making / "outputs" / name).write_bytes(content)
        files = [path for path in making.rglob("*") if path.is_file()]
        done = {
            "schema": 1,
            "id": job["id"],
            "returncode": returncode,
            "last_words": app.last_words,
            "before": app.state,
            "after": app.state,
            "files": [
                {
                    "path": path.relative_to(making).as_posix(),
                    "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                    "size_bytes": path.stat().st_size,
                }
                for path in files
            ],
        }
        (making / "done.json").write_text(json.dumps(done))
        if app.damage is not None:
            app.damage(making)
        making.rename(making.with_name(job["id"]))

    def end_job(self, job_id: str) -> None:
        """As if the app had been ended in it, and had found that when it was started again."""
        done = self.documents / "results" / job_id / "done.json"
        wait_until(done.exists)
        said = json.loads(done.read_text())
        done.write_text(json.dumps({**said, "returncode": 70, "last_words": "the app was ended during this job"}))

    def _check(self, job: dict[str, Any]) -> str | None:
        for item in job["items"]:
            for file in item["files"]:
                path = self.documents / file["path"]
                found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
                if found != file["sha256"]:
                    return f"{file['path']} {found}"
            receipt = self.documents / "receipts" / item["receipt"]
            receipt.parent.mkdir(exist_ok=True)
            receipt.touch()
        return None


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    phone: FakeIphone


class _Unplugged(Exception):
    """The cable is out: the connection just ends."""


class _Connection(socketserver.BaseRequestHandler):
    """One connection to usbmuxd, which `Connect` turns into one to a service of the phone."""

    request: socket.socket

    @property
    def phone(self) -> FakeIphone:
        assert isinstance(self.server, _Server)
        return self.server.phone

    def handle(self) -> None:
        try:
            self._usbmuxd()
        except (ConnectionError, _Unplugged, ValueError):
            return  # ValueError: the socket was closed under us

    def _read(self, count: int) -> bytes:
        content = b""
        while len(content) < count:
            piece = self.request.recv(count - len(content))
            if not piece:
                raise ConnectionError
            content += piece
        return content

    # --- usbmuxd: length, version, type and tag as little-endian words, then a property list ---

    def _usbmuxd(self) -> None:
        while True:
            length, _, _, tag = struct.unpack("<IIII", self._read(16))
            asked = plistlib.loads(self._read(length - 16))
            answer, port = self._usbmuxd_answer(asked)
            content = plistlib.dumps(answer)
            self.request.sendall(struct.pack("<IIII", 16 + len(content), 1, 8, tag) + content)
            if port is not None:
                services: dict[int, Callable[[], None]] = {
                    _LOCKDOWN: self._lockdownd,
                    50001: self._house_arrest,
                    50002: self._installation_proxy,
                    50003: _Afc(self, self.phone.media).serve,
                }
                services[port]()
                return

    def _usbmuxd_answer(self, asked: dict[str, Any]) -> tuple[dict[str, Any], int | None]:
        phone, kind = self.phone, asked["MessageType"]
        if kind == "ListDevices":
            properties = {
                "SerialNumber": UDID,
                "ConnectionType": "USB",
                "DeviceID": 1,
                "ProductID": 0x12A8,
                "LocationID": 0,
                "ConnectionSpeed": 480_000_000,
            }
            listed = {"DeviceID": 1, "MessageType": "Attached", "Properties": properties}
            return {"DeviceList": [listed] if phone.attached else []}, None
        if kind == "ReadBUID":
            return {"BUID": "FAKE-BUID"}, None
        if kind == "ReadPairRecord" and phone.paired:
            record = {"HostID": "FAKE", "SystemBUID": "FAKE-BUID", "HostCertificate": b"", "HostPrivateKey": b""}
            return {"PairRecordData": plistlib.dumps({**record, "EscrowBag": b""})}, None
        if kind == "ReadPairRecord":
            return {"MessageType": "Result", "Number": 2}, None
        if kind == "Connect":
            if not phone.attached:
                return {"MessageType": "Result", "Number": 2}, None  # BadDevice
            network_order = asked["PortNumber"]
            return {"MessageType": "Result", "Number": 0}, (network_order & 0xFF) << 8 | network_order >> 8
        return {"MessageType": "Result", "Number": 0}, None

    # --- lockdownd and most services: a big-endian length, then a property list ---

    def _receive(self) -> dict[str, Any]:
        (length,) = struct.unpack(">I", self._read(4))
        received: dict[str, Any] = plistlib.loads(self._read(length))
        return received

    def _send(self, answer: dict[str, Any]) -> None:
        content = plistlib.dumps(answer)
        self.request.sendall(struct.pack(">I", len(content)) + content)

    def _lockdownd(self) -> None:
        while True:
            asked = self._receive()
            self._send({"Request": asked["Request"], **self._lockdownd_answer(asked)})

    def _lockdownd_answer(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: PLR0911  (one a request)
        phone, kind = self.phone, asked["Request"]
        if kind == "QueryType":
            return {"Type": "com.apple.mobile.lockdown"}
        if kind == "GetValue" and asked.get("Domain") == "com.apple.security.mac.amfi":
            return {"Value": phone.developer_mode}
        if kind == "GetValue":
            if "Key" not in asked:
                return {"Value": phone.values}
            value = phone.values.get(asked["Key"])
            return {"Error": "MissingValue"} if value is None else {"Value": value}
        if kind == "Pair":
            return {"Error": "PairingDialogResponsePending"}
        if kind == "StartSession":
            return {"SessionID": "FAKE", "EnableSessionSSL": False}
        if kind == "StartService":
            if phone.locked:
                return {"Error": "PasswordProtected"}
            port = _SERVICES.get(asked["Service"])
            found: dict[str, Any] = (
                {"Error": "InvalidService"} if port is None else {"Port": port, "EnableServiceSSL": False}
            )
            return {"Service": asked["Service"], **found}
        return {"Result": "Success"}

    def _installation_proxy(self) -> None:
        asked = self._receive()
        apps = {} if self.phone.app is None else {APP: {"CFBundleIdentifier": APP, "CFBundleShortVersionString": "1.0"}}
        if asked["Command"] == "Lookup":
            wanted = asked.get("ClientOptions", {}).get("BundleIDs")
            found = {name: app for name, app in apps.items() if wanted is None or name in wanted}
            self._send({"LookupResult": found, "Status": "Complete"})
        elif asked["Command"] in {"Install", "Upgrade"}:
            sent = (self.phone.media / asked["PackagePath"].lstrip("/")).read_bytes()
            self._send({"Status": "VerifyingApplication", "PercentComplete": 40})
            if self.phone.refuses_apps is not None:
                error, description = self.phone.refuses_apps
                self._send({"Error": error, "ErrorDescription": description})
                return
            self.phone.app, self.phone.installed = FakeApp(state=STATE), sent
            self._send({"Status": "Complete"})
        else:
            self._send({"CurrentList": list(apps.values()), "Status": "BrowsingApplications"})
            self._send({"Status": "Complete"})

    def _house_arrest(self) -> None:
        asked = self._receive()
        if self.phone.app is None or asked["Identifier"] != APP:
            self._send({"Error": "ApplicationLookupFailed"})
            return
        self._send({"Status": "Complete"})
        _Afc(self, self.phone.folder / APP).serve()


class _Afc:
    """AFC over a container: a header of a magic word and four little-endian words, then the operation's data."""

    _MAGIC = b"CFA6LPAA"
    _STATUS, _DATA, _HANDLE = 1, 2, 0xE
    _OK, _NOT_FOUND, _IS_FOLDER, _UNSUPPORTED, _FULL = 0, 8, 9, 15, 18
    _MODES: ClassVar = {1: "rb", 2: "r+b", 3: "wb", 4: "w+b", 5: "ab", 6: "a+b"}

    def __init__(self, connection: _Connection, root: Path) -> None:
        self._connection, self._phone, self._root = connection, connection.phone, root
        self._files: dict[int, Any] = {}
        self._handles = itertools.count(1)
        self._operations: dict[int, Callable[[bytes], tuple[int, bytes, bytes]]] = {
            0x3: self._list,
            0x8: self._remove,
            0x9: self._make_folder,
            0xA: self._info,
            0xB: self._device_info,
            0xD: self._open,
            0xF: self._read,
            0x10: self._write,
            0x14: self._close,
            0x18: self._rename,
        }

    def serve(self) -> None:
        """Answer until the client hangs up."""
        try:
            self._serve()
        finally:
            for file in self._files.values():
                file.close()

    def _serve(self) -> None:
        while True:
            header = self._connection._read(40)
            _, total, _, number, operation = struct.unpack("<8sQQQQ", header)
            body = self._connection._read(total - 40)
            if not self._phone.attached:
                raise _Unplugged
            try:
                kind, head, data = self._operations.get(operation, self._unsupported)(body)
            except FileNotFoundError:
                kind, head, data = self._status(self._NOT_FOUND)
            except (IsADirectoryError, NotADirectoryError):
                kind, head, data = self._status(self._IS_FOLDER)
            this = 40 + len(head)
            answer = struct.pack("<8sQQQQ", self._MAGIC, this + len(data), this, number, kind)
            self._connection.request.sendall(answer + head + data)

    def _status(self, code: int) -> tuple[int, bytes, bytes]:
        return self._STATUS, struct.pack("<Q", code), b""

    def _path(self, name: bytes) -> Path:
        parts = [part for part in name.split(b"\0")[0].decode().split("/") if part not in {"", "."}]
        assert ".." not in parts
        return self._root.joinpath(*parts)

    def _unsupported(self, _: bytes) -> tuple[int, bytes, bytes]:
        return self._status(self._UNSUPPORTED)

    def _list(self, body: bytes) -> tuple[int, bytes, bytes]:
        names = [".", "..", *sorted(path.name for path in self._path(body).iterdir())]
        return self._DATA, b"", b"".join(name.encode() + b"\0" for name in names)

    def _info(self, body: bytes) -> tuple[int, bytes, bytes]:
        path = self._path(body)
        found = path.lstat()
        pairs = {
            "st_size": found.st_size,
            "st_blocks": found.st_size // 512,
            "st_nlink": 1,
            "st_ifmt": "S_IFDIR" if path.is_dir() else "S_IFREG",
            "st_mtime": found.st_mtime_ns,
            "st_birthtime": found.st_mtime_ns,
        }
        return self._DATA, b"", b"".join(str(part).encode() + b"\0" for pair in pairs.items() for part in pair)

    def _device_info(self, _: bytes) -> tuple[int, bytes, bytes]:
        pairs = {"Model": "iPhone11,8", "FSTotalBytes": 10**11, "FSFreeBytes": 10**10, "FSBlockSize": 4096}
        return self._DATA, b"", b"".join(str(part).encode() + b"\0" for pair in pairs.items() for part in pair)

    def _make_folder(self, body: bytes) -> tuple[int, bytes, bytes]:
        self._path(body).mkdir(parents=True, exist_ok=True)
        return self._status(self._OK)

    def _remove(self, body: bytes) -> tuple[int, bytes, bytes]:
        path = self._path(body)
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
        return self._status(self._OK)

    def _rename(self, body: bytes) -> tuple[int, bytes, bytes]:
        old, new, *_ = body.split(b"\0")
        self._path(old).replace(self._path(new))
        return self._status(self._OK)

    def _open(self, body: bytes) -> tuple[int, bytes, bytes]:
        (mode,) = struct.unpack("<Q", body[:8])
        path, handle = self._path(body[8:]), next(self._handles)
        if mode != 1:
            self._phone.written.append(path.relative_to(self._root).as_posix())
        self._files[handle] = path.open(self._MODES[mode])
        return self._HANDLE, struct.pack("<Q", handle), b""

    def _read(self, body: bytes) -> tuple[int, bytes, bytes]:
        handle, count = struct.unpack("<QQ", body[:16])
        return self._DATA, b"", self._files[handle].read(count)

    def _write(self, body: bytes) -> tuple[int, bytes, bytes]:
        (handle,) = struct.unpack("<Q", body[:8])
        file, content = self._files[handle], body[8:]
        phone = self._phone
        if phone.capacity_bytes is not None and file.tell() + len(content) > phone.capacity_bytes:
            return self._status(self._FULL)
        if phone.unplug_after_writes is not None:
            phone.unplug_after_writes -= 1
            if phone.unplug_after_writes < 0:
                file.write(content[: len(content) // 2])
                file.flush()
                phone.attached = False
                raise _Unplugged
        file.write(content)
        file.flush()
        return self._status(self._OK)

    def _close(self, body: bytes) -> tuple[int, bytes, bytes]:
        self._files.pop(struct.unpack("<Q", body[:8])[0]).close()
        return self._status(self._OK)


class FolderTransport:
    """A `Transport` straight into the container, for tests of everything above the client.

    Attributes:
        log: Every call that changes something: `put /Documents/models/x.onnx`, `launch`...
        missing: What `hurdles` answers.
        refusal: What `launch` answers.
        launch_s: How long a client takes to start the app anew.
        capacity_bytes: How many bytes one file may have before the phone is full.
        fails_to_get_results: What happens to whoever asks for a result.
    """

    name = "folder"
    can_remove = True

    def __init__(self, phone: FakeIphone) -> None:
        self._phone = phone
        self.log: list[str] = []
        self.missing: tuple[Hurdle, ...] = ()
        self.refusal: str | None = None
        self.launch_s = 0.0
        self.capacity_bytes: int | None = None
        self.fails_to_get_results: DeviceError | None = None

    def hurdles(self) -> tuple[Hurdle, ...]:
        """As the test said."""
        return self.missing

    def put(self, local: Path, remote: PurePosixPath, *, timeout_s: float) -> None:
        """Copy it."""
        self.log.append(f"put {remote}")
        there = self._there(remote)
        there.parent.mkdir(parents=True, exist_ok=True)
        for path in sorted(local.rglob("*")) if local.is_dir() else [local]:
            target = there / path.relative_to(local)
            if path.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            if self.capacity_bytes is not None and path.stat().st_size > self.capacity_bytes:
                raise DeviceFull(UDID, str(remote), path.stat().st_size)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)

    def get(self, remote: PurePosixPath, local: Path, *, timeout_s: float) -> bool:
        """Copy it, if it is there."""
        if self.fails_to_get_results is not None and "results" in remote.parts:
            raise self.fails_to_get_results
        there = self._there(remote)
        if not there.exists():
            return False
        local.parent.mkdir(parents=True, exist_ok=True)
        if there.is_dir():
            shutil.copytree(there, local, dirs_exist_ok=True)
        else:
            shutil.copyfile(there, local)
        return True

    def remove(self, remote: PurePosixPath, *, timeout_s: float) -> None:
        """Remove it."""
        self.log.append(f"remove {remote}")
        there = self._there(remote)
        if there.is_dir():
            shutil.rmtree(there)
        else:
            there.unlink(missing_ok=True)

    def launch(self, *, timeout_s: float) -> str | None:
        """As the test said. What the app is doing then is ended in the middle."""
        self.log.append("launch")
        taken = len(self._phone.jobs)
        time.sleep(self.launch_s)
        if self.refusal is None and len(self._phone.jobs) > taken:
            self._phone.end_job(self._phone.jobs[-1]["id"])
        return self.refusal

    def install(self, app: Path, *, timeout_s: float) -> None:
        """Note it."""
        self.log.append(f"install {app.name}")

    def _there(self, remote: PurePosixPath) -> Path:
        return self._phone.folder / APP / remote.relative_to("/")


if TYPE_CHECKING:
    # mypy compares the fake with the seam here.
    _: Transport = cast("FolderTransport", None)


def wait_until(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
