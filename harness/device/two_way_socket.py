"""A socket that one thread reads while another writes.

A time-out that is set on a socket holds for both of them. So none is set: the socket never blocks, and whoever cannot
go on waits here, for as long as its own caller says.
"""

from __future__ import annotations

import selectors
import socket

_SILENCE_S, _PROBE_S, _PROBES = 10, 5, 4
"""A connection to a network that is gone without a word is broken after 30 seconds, not after the time-out of a whole
measurement: adb itself says nothing while a program is silent."""

CONNECT_S = 10.0
"""A device that is switched off says nothing to a first packet: it is not waited for as long as for one that works."""

_SELECTOR = getattr(selectors, "PollSelector", selectors.SelectSelector)
"""Not epoll, which forgets a socket that another thread closes, and whoever waits for it with it."""


def open_socket(host: str, port: int, timeout_s: float | None) -> socket.socket:
    """A connection whose small packets are sent at once, and which notices that nobody is there any more.

    Raises:
        TimeoutError: Not even `timeout_s` were left to connect in.
        OSError: It cannot be made, or nobody answers.
    """
    patience_s = CONNECT_S if timeout_s is None else min(timeout_s, CONNECT_S)
    try:
        connection = socket.create_connection((host, port), timeout=patience_s)
    except TimeoutError as error:
        if timeout_s is not None and timeout_s <= CONNECT_S:
            raise
        raise OSError(f"nobody answers at {host}:{port} within {CONNECT_S:g} s") from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Linux and Windows call the first one TCP_KEEPIDLE, macOS TCP_KEEPALIVE.
    idle = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))
    for option, value in (
        (idle, _SILENCE_S),
        (getattr(socket, "TCP_KEEPINTVL", None), _PROBE_S),
        (getattr(socket, "TCP_KEEPCNT", None), _PROBES),
    ):
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
    connection.setblocking(False)
    return connection


def receive_some(connection: socket.socket, most: int, timeout_s: float | None) -> bytes:
    """What has come, at least one byte; nothing once the other side has ended the connection.

    Raises:
        TimeoutError: Nothing came in time.
        OSError: The connection is broken, or was closed here.
    """
    while True:
        try:
            return connection.recv(most)
        except BlockingIOError:
            _await(connection, selectors.EVENT_READ, timeout_s)


def send_all(connection: socket.socket, data: bytes | memoryview, timeout_s: float | None) -> None:
    """Send all of it.

    Raises:
        TimeoutError: The other side took nothing for as long.
        OSError: The connection is broken, or was closed here.
    """
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[connection.send(rest) :]
        except BlockingIOError:
            _await(connection, selectors.EVENT_WRITE, timeout_s)


def _await(connection: socket.socket, event: int, timeout_s: float | None) -> None:
    with _SELECTOR() as selector:
        try:
            selector.register(connection, event)
        except ValueError as error:  # another thread has just closed it
            raise ConnectionAbortedError(*error.args) from error
        if not selector.select(timeout_s):
            raise TimeoutError
