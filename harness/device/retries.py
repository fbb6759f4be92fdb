"""What had to be done a second time to reach a device, kept until the cell that it happened in is stored.

Contact is all that is ever tried again. A figure is only honest beside the trouble that there was in getting it.
"""

from __future__ import annotations

import threading
from collections import defaultdict

_lock = threading.Lock()
_noted: defaultdict[str, list[str]] = defaultdict(list)


def note(device_id: str, why: str) -> None:
    """Keep why contact with a device is tried again."""
    with _lock:
        _noted[device_id].append(why)


def taken(device_id: str) -> tuple[str, ...]:
    """What was noted of a device since this was last asked, in its order; it is forgotten then."""
    with _lock:
        return tuple(_noted.pop(device_id, ()))
