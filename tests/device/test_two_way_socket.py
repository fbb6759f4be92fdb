"""A socket that is read and written by two threads, over a real connection on this machine."""

from __future__ import annotations

import socket
import threading

import pytest

from harness.device.two_way_socket import open_socket, receive_some, send_all


def test_a_connection_asks_by_itself_whether_anybody_is_there_still() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, open_socket("127.0.0.1", server.getsockname()[1], 5) as ours:
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle, interval, probes = (
            ours.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle + interval * probes == 30, "seconds until a network that is gone is noticed"


def test_whoever_waits_is_not_in_the_way_of_whoever_writes() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        open_socket("127.0.0.1", server.getsockname()[1], 5) as ours,
        server.accept()[0] as theirs,
    ):
        heard: list[bytes] = []
        reader = threading.Thread(target=lambda: heard.append(receive_some(ours, 100, 10)))
        reader.start()
        send_all(ours, b"question", 10)
        assert theirs.recv(100) == b"question"
        theirs.sendall(b"answer")
        reader.join(10)

        assert heard == [b"answer"]
        with pytest.raises(TimeoutError):
            receive_some(ours, 100, 0.01)
