"""A socket that one thread reads while another writes.

A time-out that is set on a socket holds for both of them. So none is set: the socket never blocks, and whoever cannot
go on waits here, for as long as its own caller says.
"""

from __future__ import annotations

import selectors
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

_SELECTOR = getattr(selectors, "PollSelector", selectors.SelectSelector)
"""Not epoll, which forgets a socket that another thread closes, and whoever waits for it with it."""


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
