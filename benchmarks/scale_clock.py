"""A clock that moves from event to event, an event loop on it, and what the client's part of it all costs in CPU time.

Whatever the client under test schedules runs as the client's; whatever the simulated world schedules runs as the
world's, and so does what the client calls into (a socket's `send`). Only the client's time counts.
"""

from __future__ import annotations

import heapq
import itertools
import time
from contextlib import contextmanager
from typing import Any, Callable, Iterator


class Clock:
    """Simulated seconds, from 0. Stands in for the module `time` where the client asks for the time."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Timer:
    """What `call_later` gives."""

    __slots__ = ("cancelled",)

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """As much of an event loop as a dispatcher uses.

    Attributes:
        spent: CPU seconds of the client's callbacks.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.spent = 0.0
        self.stopped = False
        self._events: list[tuple[float, int, bool, Timer | None, Callable[..., object], tuple[Any, ...]]] = []
        self._numbers = itertools.count()
        self._began: float | None = None  # since when the client's code has been running

    # -- for the client

    def call_later(self, delay: float, function: Callable[..., object], *args: Any) -> Timer:
        timer = Timer()
        self._push(delay, True, timer, function, args)
        return timer

    def call_soon(self, function: Callable[..., object], *args: Any) -> Timer:
        return self.call_later(0.0, function, *args)

    # -- for the world

    def at(self, delay: float, function: Callable[..., object], *args: Any) -> None:
        """Something happens in the world, `delay` seconds from now."""
        self._push(delay, False, None, function, args)

    def client(self, function: Callable[..., object], *args: Any) -> None:
        """Call into the client, from an event of the world's."""
        if self._began is not None:  # from a call of its own: later, as a socket would
            self.call_soon(function, *args)
            return
        self._began = time.thread_time()
        try:
            function(*args)
        finally:
            self.spent += time.thread_time() - self._began
            self._began = None

    @contextmanager
    def world(self) -> Iterator[None]:
        """Around what the client calls into: its clock stands still."""
        began, self._began = self._began, None
        if began is not None:
            self.spent += time.thread_time() - began
        try:
            yield
        finally:
            if began is not None:
                self._began = time.thread_time()

    def run(self) -> None:
        """Until `stopped`, or until nothing is to come."""
        events = self._events
        while events and not self.stopped:
            at, _, of_client, timer, function, args = heapq.heappop(events)
            if timer is not None and timer.cancelled:
                continue
            self.clock.now = max(self.clock.now, at)
            if of_client:
                self.client(function, *args)
            else:
                function(*args)

    def _push(
        self, delay: float, of_client: bool, timer: Timer | None, function: Callable[..., object], args: tuple[Any, ...]
    ) -> None:
        heapq.heappush(
            self._events, (self.clock.now + max(delay, 0.0), next(self._numbers), of_client, timer, function, args)
        )
