"""Boards, against a real sshd on 127.0.0.1."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import asyncssh
import psutil
import pytest

from harness.device.adb_link import Deadline
from harness.device.board import BoardDevice, SshAddress, read_address
from harness.device.host import HostDevice
from harness.device.obstacles import OBSTACLE_NAMES
from harness.device.registry import find_device, known_ids
from harness.errors import (
    BadSetting,
    DeviceError,
    DeviceFileFailed,
    DeviceFull,
    DeviceNotFound,
    DeviceRefused,
    DeviceTimedOut,
    DeviceUnauthorized,
    LinkLost,
    MissingTool,
)
from harness.records import Measurement
from harness.store import StoredRun
from harness.workspace import sha256_file
from tests.device.conftest import LISTENER, free_port, require_listening, until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/pid
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
"""


class Sshd:
    """An sshd of our own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
        assert program is not None, "scripts/install-test-tools installs it"
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where it confines the part that talks to strangers
        self._key("host_key")
        self._key("id_ed25519")
        shutil.copyfile(folder / "id_ed25519.pub", folder / "authorized_keys")
        (folder / "config").write_text(CONFIG.format(port=self.port, folder=folder))
        log = (folder / "log").open("wb")
        command = (program, "-D", "-e", "-f", str(folder / "config"))
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        until(lambda: b"listening" in (folder / "log").read_bytes())

    def home(self, where: Path, *, knows_the_host: bool = True, has_the_key: bool = True) -> Path:
        """A home as a user has it."""
        ssh = where / ".ssh"
        ssh.mkdir(parents=True, mode=0o700)
        if has_the_key:
            shutil.copyfile(self.folder / "id_ed25519", ssh / "id_ed25519")
            (ssh / "id_ed25519").chmod(0o600)
        if knows_the_host:
            key = (self.folder / "host_key.pub").read_text()
            (ssh / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {key}")
        return where

    def connections(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def _key(self, name: str) -> None:
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(self.folder / name)
        (self.folder / name).chmod(0o600)
        key.write_public_key(self.folder / f"{name}.pub")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    yield server
    for process in server.connections():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    server.process.kill()
    server.process.wait()


@pytest.fixture
def board(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BoardDevice]:
    """This machine, over ssh, with an empty work folder of its own."""
    monkeypatch.setenv("HOME", str(sshd.home(tmp_path / "home")))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    device = BoardDevice("board", SshAddress("127.0.0.1", sshd.port, getpass.getuser()))
    device._work_folder = PurePosixPath(tmp_path / "there")
    yield device
    device._ssh.close()


def test_it_says_what_it_is_and_how_it_is(board: BoardDevice) -> None:
    facts, state = board.facts(), board.state()

    assert (facts.kind, facts.device_class, facts.cores) == ("board", "board", os.cpu_count())
    assert facts.architecture == os.uname().machine
    assert facts.cpu == HostDevice().facts().cpu
    assert facts.cpu
    assert state.free_memory_bytes
    assert state.cpu_busy_pct is not None
    assert "emulated" not in [obstacle.name for obstacle in board.obstacles()]


def test_files_go_there_and_back_whole(board: BoardDevice, tmp_path: Path) -> None:
    local, remote = tmp_path / "a b", board.work_folder / "models" / "it's"
    local.write_bytes(os.urandom(3_000_000))
    local.chmod(0o755)

    board.push(local, remote, timeout_s=30)
    board.pull(remote, tmp_path / "back", timeout_s=30)

    assert board.sha256(remote, timeout_s=30) == sha256_file(local)
    assert (tmp_path / "back").read_bytes() == local.read_bytes()
    assert Path(remote).stat().st_mode & 0o111
    board.rename(remote, board.work_folder / "moved", timeout_s=30)
    board.remove(board.work_folder, timeout_s=30)
    assert not Path(board.work_folder).exists()
    assert board.sha256(remote, timeout_s=30) is None


def test_the_work_folder_is_closed_to_others(board: BoardDevice) -> None:
    Path(board.work_folder).mkdir(mode=0o755)  # as it was made before

    board.shell(("true",), timeout_s=30)

    assert Path(board.work_folder).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", ["a link", "another user's"])
def test_a_work_folder_that_somebody_else_made_is_not_used(board: BoardDevice, tmp_path: Path, kind: str) -> None:
    if kind == "a link":
        (tmp_path / "elsewhere").mkdir()
        Path(board.work_folder).symlink_to(tmp_path / "elsewhere")
    elif os.geteuid() != 0:
        pytest.skip("gives a folder to another user")
    else:
        Path(board.work_folder).mkdir(mode=0o777)
        os.chown(board.work_folder, 65534, 65534)

    for use in (
        board.facts,
        lambda: board.push(Path(__file__), board.work_folder / "x", timeout_s=30),
        lambda: board.start(("true",), environment={}),
    ):
        with pytest.raises(DeviceRefused, match=r"refused the work folder .*another user's, who may have put anything"):
            use()


def test_a_file_that_is_not_there_is_said(board: BoardDevice, tmp_path: Path) -> None:
    with pytest.raises(DeviceFileFailed, match="none"):
        board.pull(board.work_folder / "none", tmp_path / "back", timeout_s=30)
    assert list(tmp_path.glob(".back*")) == []


def test_a_disk_that_fills_in_mid_push_is_told_as_full(board: BoardDevice, tmp_path: Path) -> None:
    (tmp_path / "net").write_bytes(bytes(200_000))
    deadline = Deadline("board", "push", 30)

    with pytest.raises(DeviceFull, match="models/net"):
        board._send(tmp_path / "net", PurePosixPath("/dev/full"), PurePosixPath("models/net"), 200_000, deadline)


def test_a_connection_that_breaks_while_it_is_made_is_made_again(
    sshd: Sshd, board: BoardDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:  # as an sshd with too many strangers: it hangs up

        def hang_up() -> None:
            busy.accept()[0].close()

        answers = threading.Thread(target=hang_up)
        answers.start()
        link = board._ssh
        monkeypatch.setattr(link, "_port", busy.getsockname()[1])
        monkeypatch.setattr("harness.device.adb_link.time.sleep", lambda _: setattr(link, "_port", sshd.port))

        assert board.shell(("true",), timeout_s=30).returncode == 0
        answers.join()


@pytest.mark.parametrize(("code", "returned"), [("exit 3", 3), ("kill -9 $$", -9), ("printf x", 0)])
def test_commands_end_with_their_code(board: BoardDevice, code: str, returned: int) -> None:
    assert board.shell(("sh", "-c", code), timeout_s=30).returncode == returned


def test_output_and_error_are_apart(board: BoardDevice) -> None:
    said = board.shell(("sh", "-c", "echo out; echo wrong >&2"), timeout_s=30)

    assert (said.stdout, said.stderr) == ("out\n", "wrong\n")


def test_a_program_is_heard_line_by_line_and_ended_with_all_it_started(board: BoardDevice) -> None:
    program = board.start(("sh", "-c", "echo $A; sleep 4711 & sleep 4711"), environment={"A": "it is set"})
    lines = program.lines(timeout_s=30)
    assert next(lines) == "it is set"

    program.end()

    until(lambda: not sleeping("4711"))


def test_a_program_is_told_lines_and_ends_with_its_code(board: BoardDevice) -> None:
    require_listening(board.start_told(("sh", "-c", LISTENER), environment={}), timeout_s=20)


def test_a_told_program_that_does_not_listen_is_ended_with_all_it_started(board: BoardDevice) -> None:
    program = board.start_told(("sh", "-c", "sleep 4907 & echo $!; sleep 4908"), environment={})
    child = int(next(program.lines(timeout_s=20)))

    program.end()

    until(lambda: not psutil.pid_exists(child))
    until(lambda: not [p for p in psutil.process_iter(["cmdline"]) if "4908" in " ".join(p.info["cmdline"] or ())])


def test_a_program_ends_when_the_connection_is_cut(board: BoardDevice, sshd: Sshd) -> None:
    program = board.start(("sh", "-c", "echo on; exec sleep 4712"), environment={})
    lines = program.lines(timeout_s=30)
    assert next(lines) == "on"

    for process in sshd.connections():
        with contextlib.suppress(psutil.NoSuchProcess):  # one ends with the other
            if process.name().startswith("sshd"):
                process.kill()

    with pytest.raises(LinkLost):
        list(lines)
    until(lambda: not sleeping("4712"))
    assert board.shell(("true",), timeout_s=30).returncode == 0  # connected anew


def test_a_command_that_takes_too_long_is_ended_there(board: BoardDevice) -> None:
    with pytest.raises(DeviceTimedOut):
        board.shell(("sleep", "4713"), timeout_s=1.0)

    until(lambda: not sleeping("4713"))


@pytest.mark.parametrize(
    ("home", "error", "advice"),
    [
        ({"knows_the_host": False}, DeviceRefused, "accept it by hand if it is the board's: ssh -p"),
        ({"has_the_key": False}, DeviceUnauthorized, "ssh-copy-id -p"),
    ],
)
def test_who_is_not_let_in_is_told_what_to_do(
    sshd: Sshd,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    home: dict[str, bool],
    error: type[DeviceError],
    advice: str,
) -> None:
    monkeypatch.setenv("HOME", str(sshd.home(tmp_path / "other", **home)))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)

    with pytest.raises(error) as caught:
        BoardDevice("board", SshAddress("127.0.0.1", sshd.port, getpass.getuser())).facts()
    said = f"{caught.value} {caught.value.hint}"
    assert advice in said
    assert "USB" not in said


def test_nobody_there_is_said() -> None:
    with pytest.raises(DeviceNotFound, match="nothing listens there") as caught:
        BoardDevice("board", SshAddress("127.0.0.1", free_port(), "nobody")).facts()
    assert "does its sshd run" in caught.value.hint


def test_it_has_no_python_worker(board: BoardDevice) -> None:
    with pytest.raises(MissingTool):
        board.worker_command()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ssh://pi", SshAddress("pi", None, None)),
        ("ssh://me@10.0.0.7:2222", SshAddress("10.0.0.7", 2222, "me")),
        ("ssh://me@[fe80::1]:22", SshAddress("fe80::1", 22, "me")),
    ],
)
def test_an_address_is_read(text: str, address: SshAddress) -> None:
    assert read_address(text) == address
    assert find_device(text).id == text


@pytest.mark.parametrize("text", ["ssh://", "ssh://a b", "ssh://x:0", "ssh://x:70000", "ssh://a@b@c"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BadSetting):
        read_address(text)


def test_a_board_with_a_profile_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "device_profiles").mkdir()
    profile = 'schema = 1\nkind = "board"\ndevice_class = "board"\nreached_by = "ssh://pi@10.0.0.7"\n'
    (tmp_path / "device_profiles" / "kitchen.toml").write_text(profile)

    assert "kitchen" in known_ids()
    assert find_device("kitchen").id == "kitchen"


def test_a_user_before_an_address_does_not_make_it_a_device_of_an_adb_server() -> None:
    assert isinstance(find_device("ssh://pi@10.0.0.7:2222"), BoardDevice)


def sleeping(seconds: str) -> bool:
    return any(process.info["cmdline"] == ["sleep", seconds] for process in psutil.process_iter(["cmdline"]))


SUITE = """\
schema = 1
name = "board"
models = ["{data}/tiny.onnx", "{data}/many_outputs.tflite"]
artifacts = ["source"]

[measure]
processes_min = 2
processes_max = 2
blocks = 1
block_s = 0.05
warmup_s = 0.05
warmup_cap_s = 1.0
"""


def test_a_board_is_measured_from_the_command_line_over_ssh(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "board.toml").write_text(SUITE.format(data=ROOT / "tests" / "data"))
    device = f"ssh://{getpass.getuser()}@127.0.0.1:{sshd.port}"
    # What stands in the way of an honest figure here is this machine's and not the test's business.
    accepted = [part for name in OBSTACLE_NAMES for part in ("--accept", name)]
    done = subprocess.run(
        [sys.executable, "-m", "harness", "run", "board.toml", "--output", "out", "--device", device, *accepted],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"}
        | {"HOME": str(sshd.home(tmp_path / "home")), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr
    results = StoredRun.open(tmp_path / "out").results
    assert {result.cell.format for result in results} == {"onnx", "tflite"}
    for result in results:
        assert isinstance(result.outcome, Measurement), result.outcome
        assert result.outcome.parity.passed
        assert (result.cell.device_id, result.outcome.ran.driver) == (device, "bench")
        assert {process.index for process in result.outcome.processes} == {0, 1}
    until(lambda: not [process for process in psutil.process_iter(["name"]) if process.info["name"] == "bench"])
