"""What tests of processes share: whether one is gone, and Ctrl-C at the right moment."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def is_gone(pid: int, *, within_s: float = 2.0) -> bool:
    """Whether a process ends in this time; one that its new parent has not reaped yet has ended."""
    for _ in range(round(within_s / 0.02)):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


@contextmanager
def interrupted_once_it_speaks(log: Path) -> Iterator[None]:
    """Interrupt this process, as Ctrl-C does, when a program has written something into its log."""
    main_thread = threading.get_ident()

    def interrupt() -> None:
        while not log.exists() or not log.read_text():
            time.sleep(0.02)
        signal.pthread_kill(main_thread, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield
    finally:
        thread.join()
