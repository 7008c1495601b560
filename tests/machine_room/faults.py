"""What goes wrong in a room, and for how long: switches that tests turn."""

from __future__ import annotations

import datetime
import threading
from dataclasses import dataclass, field

from machine_room import activities
from machine_room.activities import Refusal


@dataclass
class Throttle:
    """The next requests that AWS refuses because there are too many."""

    service: str
    action: str
    left: int


@dataclass
class Faults:
    """All switches; they are off.

    Attributes:
        capacity: (group or "", type or "") of what there is none of.
        no_quota: the account's quota of machines is zero.
        disk_mib: size of the disks of machines that boot from now on; 0: large.
        boot_files: what lies on the disk of machines that boot from now on, by (group or "") and path.
        unseen: instances whose death EC2 has not noticed.
        reclaims: instances that spot takes back, and when.
        rebalances: instances that spot will probably take back, and since when.
        unconnected: instances whose agent of Systems Manager is not there.
    """

    capacity: set[tuple[str, str]] = field(default_factory=set)
    no_quota: bool = False
    disk_mib: int = 0
    boot_files: dict[tuple[str, str], str] = field(default_factory=dict)
    unseen: set[str] = field(default_factory=set)
    reclaims: dict[str, datetime.datetime] = field(default_factory=dict)
    rebalances: dict[str, datetime.datetime] = field(default_factory=dict)
    unconnected: set[str] = field(default_factory=set)
    _throttles: list[Throttle] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def refusal(self, group: str, type: str, zone: str, spot: bool) -> Refusal | None:
        """Why no machine starts in this group now; None: it does."""
        if self.no_quota:
            return activities.no_quota(spot)
        for name, kind in self.capacity:
            if (not name or group == name or group.endswith(f"-{name}")) and kind in ("", type):
                return activities.no_capacity(type, zone, spot)
        return None

    def files(self, group: str) -> dict[str, str]:
        return {
            path: text
            for (name, path), text in self.boot_files.items()
            if not name or group == name or group.endswith(f"-{name}")
        }

    def throttle(self, service: str, action: str = "", times: int = 1) -> None:
        """The next so many requests to it are refused; `action` as the API names it, "" for any."""
        with self._lock:
            self._throttles.append(Throttle(service, action, times))

    def throttled(self, service: str, action: str) -> bool:
        with self._lock:
            for throttle in self._throttles:
                if throttle.left > 0 and throttle.service == service and throttle.action in ("", action):
                    throttle.left -= 1
                    return True
        return False

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        with self._lock:
            self._throttles.clear()
        self.capacity.clear()
        self.boot_files.clear()
        self.no_quota, self.disk_mib = False, 0
