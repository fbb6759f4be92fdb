"""A look at devices for people: what each is, how it is, what stands in the way, and what is known of its product.

One that cannot be used is in the list with what is wrong, instead of ending it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.device.obstacles import not_fit
from harness.device.profile import accepted_obstacles
from harness.device.registry import find_device, known_ids
from harness.errors import DeviceError, HarnessError, MissingTool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.device.adb_server import AdbServer
    from harness.records import DeviceFacts, DeviceState, Obstacle

_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One device at one moment. Either what it says, or why it says nothing."""

    id: str
    facts: DeviceFacts | None = None
    state: DeviceState | None = None
    obstacles: tuple[Obstacle, ...] = ()
    accepted: tuple[str, ...] = ()
    """Those that its profile takes as they are, by name."""
    error: HarnessError | None = None

    @property
    def unfit(self) -> HarnessError | None:
        """Why no measurement would begin there now; None where one would."""
        if self.error is not None:
            return self.error
        for obstacle in self.obstacles:
            if obstacle.severity == "refusal" and obstacle.name not in self.accepted:
                return not_fit(self.id, obstacle)
        return None


def look_at(device_id: str) -> Seen:
    """One device, now. Blocks for as long as the device needs to answer.

    Raises:
        UnknownName: Nothing has this id.
        BadSetting: Its profile is wrong.
    """
    try:
        device = find_device(device_id)
        facts = device.facts()
        return Seen(
            id=device_id,
            facts=facts,
            state=device.state(),
            obstacles=device.obstacles(),
            accepted=accepted_obstacles(facts),
        )
    except (DeviceError, MissingTool) as error:  # what this machine lacks to reach one hides no other
        return Seen(id=device_id, error=error)


def survey(device_ids: Sequence[str] = (), server: AdbServer | None = None) -> tuple[Seen, ...]:
    """The devices that are named, or everything that is connected, all at once.

    Args:
        device_ids: Empty for all.
        server: Of another machine, whose devices alone are then meant.

    Raises:
        UnknownName: Nothing has one of these ids.
        DeviceError: The server does not answer.
        BadSetting: A profile is wrong.
    """
    ids = tuple(device_ids) or known_ids(server)
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        return tuple(pool.map(look_at, ids))
