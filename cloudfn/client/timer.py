"""Schedules of an app that runs by `app.run()`: they run for as long as it does."""

from __future__ import annotations

import threading
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Callable, Mapping

from cloudfn import timetable
from cloudfn.client.target import Target
from cloudfn.exception import Error
from cloudfn.spec import ScheduleSpec

if TYPE_CHECKING:
    from cloudfn.client.handle import CallHandle
    from cloudfn.client.session import Session

_LOOK = 60.0  # seconds after which to look again: clocks are set, and machines sleep


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


class Timer:
    """A thread that calls scheduled functions, without arguments. A run is left out while the one before goes on.

    Args:
        schedules: by the function's tag.
        now, wait: the time, and a wait of so many seconds or until `close`, which answers whether it was closed.
    """

    def __init__(
        self,
        session: Session,
        schedules: Mapping[str, ScheduleSpec],
        now: Callable[[], datetime] = utc_now,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._session = session
        self._schedules = schedules
        self._now = now
        self._closed = threading.Event()
        self._wait = wait or self._closed.wait
        self._anchor = now()
        self._last = dict.fromkeys(schedules, self._anchor)
        self._handles: dict[str, CallHandle] = {}
        self._thread = threading.Thread(target=self._run, name="cloudfn-timer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """No run begins after this. Idempotent."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            now = self._now()
            upcoming = []
            for tag, spec in self._schedules.items():
                due = timetable.last_run(spec, self._anchor, self._last[tag], now)
                if due is not None:
                    self._last[tag] = due
                    self._fire(tag)
                following = timetable.next_run(spec, self._anchor, now)
                if following is not None:
                    upcoming.append((following - now).total_seconds())
            if self._wait(min([*upcoming, _LOOK])):
                return

    def _fire(self, tag: str) -> None:
        before = self._handles.get(tag)
        if before is not None and not before.ended:
            return
        try:
            self._handles[tag] = self._session.spawn(Target(self._session.app_name, tag), [((), {})])
        except Error:  # the app has stopped this moment
            self._closed.set()
