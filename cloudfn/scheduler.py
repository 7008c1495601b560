"""What starts scheduled functions: one interface, behind which a cloud has its own scheduler.

At each time of a schedule one call of the function, without arguments, is put into the durable queue, exactly once
whatever dies when. Which runs are made up for and which are left out is written down in `docs/schedules.md`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime
from typing import Mapping, Protocol

from cloudfn.record import dataclass
from cloudfn.spec import ScheduleSpec, digest


@dataclass(frozen=True)
class Entry:
    """One schedule of a deployed app.

    Attributes:
        anchor: when it was deployed; periods are counted from it.
        last: the latest time that it was run for, or None.
        skipped: runs that were left out because the one before had not ended.
        upcoming: the next runs.
    """

    app: str
    tag: str
    spec: ScheduleSpec
    anchor: datetime
    last: datetime | None = None
    skipped: int = 0
    upcoming: tuple[datetime, ...] = ()


class Scheduler(ABC):
    @abstractmethod
    async def set(self, app: str, schedules: Mapping[str, ScheduleSpec]) -> None:
        """The schedules of an app, by function; takes the place of those that it had. Periods begin anew."""

    @abstractmethod
    async def remove(self, app: str) -> None:
        """No schedule of this app runs any more. Idempotent."""

    @abstractmethod
    async def entries(self, app: str = "", upcoming: int = 0) -> list[Entry]:
        """What is scheduled, for one app or for all ("").

        Args:
            upcoming: how many of the next runs to list of each.
        """

    @abstractmethod
    async def close(self) -> None:
        """Stop; what is set stays set."""


class Clock(Protocol):
    """Time as a scheduler sees it, so that tests can turn it."""

    def now(self) -> datetime:
        """Aware, in UTC."""

    async def sleep_until(self, moment: datetime | None) -> None:
        """Until then or a little earlier; for ever where None. May be cancelled."""


def run_id(app: str, tag: str, moment: datetime) -> int:
    """The id of the call for one time of one schedule: the same whoever makes it, so that it is made once."""
    return int(digest(["schedule", app, tag, moment.isoformat()])[:16], 16)
