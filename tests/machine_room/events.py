"""What happened in a room, in order, and a way to wait for it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, TextIO, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: "launch", "launch-failed", "running", "hook", "in-service", "terminating", "shutting-down",
            "terminated", "stopped", "gone" (from its group), "controller", "tick", ...
        about: an instance's ID, a group's name, or who asked.
        time: seconds since the epoch.
    """

    kind: str
    about: str
    detail: dict[str, Any] = field(default_factory=dict)
    time: float = field(default_factory=time.time)

    def __str__(self) -> str:
        more = " ".join(f"{key}={value}" for key, value in self.detail.items())
        clock = time.strftime("%H:%M:%S", time.localtime(self.time)) + f".{int(self.time * 1000) % 1000:03}"
        return f"{clock} {self.kind} {self.about} {more}".rstrip()


class Events:
    """A list of events that threads can wait on."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: list[Event] = []
        self._file: TextIO | None = None

    def add(self, kind: str, about: str, **detail: Any) -> None:
        event = Event(kind, about, detail)
        with self._changed:
            self._events.append(event)
            if self._file is not None:
                print(event, file=self._file, flush=True)
            self._changed.notify_all()

    def write_to(self, path: Path) -> Path:
        """From now on, also into a file."""
        with self._changed:
            self._file = path.open("w")
        return path

    def all(self, kind: str = "", about: str = "") -> list[Event]:
        with self._changed:
            found = list(self._events)
        return [event for event in found if kind in ("", event.kind) and about in ("", event.about)]

    def mark(self) -> int:
        """Where the list ends now, for `since`."""
        with self._changed:
            return len(self._events)

    def wait_until(self, holds: Callable[[], T], seconds: float = 120, what: str = "") -> T:
        """Asks again after each event until the answer is true.

        Raises:
            TimeoutError: it never was; with the last events.
        """
        deadline = time.monotonic() + seconds
        while True:
            with self._changed:
                seen = len(self._events)
            if answer := holds():
                return answer
            with self._changed:
                left = deadline - time.monotonic()
                if left <= 0:
                    last = "\n".join(f"  {event}" for event in self._events[-40:])
                    raise TimeoutError(f"after {seconds} s: {what or 'it did not happen'}; the last events:\n{last}")
                # Not all that a question may be about is an event of ours: what machines do inside, for one.
                if len(self._events) == seen:
                    self._changed.wait(min(left, 0.5))

    def wait_for(self, kind: str, about: str = "", since: int = 0, seconds: float = 120, **detail: Any) -> Event:
        """The first such event after a mark.

        Raises:
            TimeoutError: none came.
        """

        def found() -> Event | None:
            with self._changed:
                events = self._events[since:]
            for event in events:
                if event.kind == kind and about in ("", event.about) and detail.items() <= event.detail.items():
                    return event
            return None

        result = self.wait_until(found, seconds, f"no {kind} of {about or 'anything'} {detail or ''}")
        assert result is not None
        return result
