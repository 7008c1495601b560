"""Durable inputs on their way through a session."""

from __future__ import annotations

import time
from typing import Callable, Sequence

from cloudfn.client.call import Call, Outcome
from cloudfn.client.dispatch import Dispatcher
from cloudfn.durable import Taken

Sink = Callable[["DurableCall", Sequence[tuple[int, Outcome]]], None]

_LEAST = 16
_MOST = 1024


class DurableCall(Call):
    """The inputs of a call that are under way. Their outcomes go to the host, and none is kept here.

    Args:
        id: the call's own, so that its code sees the id that its caller has.
        sink: takes outcomes, on the session's thread.
    """

    def __init__(self, id: int, dispatcher: Dispatcher, sink: Sink) -> None:
        super().__init__()
        self.id = id
        self.dispatcher = dispatcher
        self._sink = sink

    def deliver(self, outcomes: Sequence[tuple[int, Outcome]]) -> None:
        self._sink(self, outcomes)


class Flight:
    """One input that was handed out, until its end is written down."""

    __slots__ = ("began", "call", "taken")

    def __init__(self, taken: Taken) -> None:
        self.taken = taken
        self.call: DurableCall | None = None
        self.began = time.monotonic()


class Window:
    """How many inputs of a function to have under way: about what its workers do in a second.

    More would have to end on this version after a new one has come; fewer would let workers wait for the disk.
    """

    def __init__(self) -> None:
        self._size = _LEAST
        self._ended = 0
        self._since = time.monotonic()

    @property
    def size(self) -> int:
        return self._size

    def note_end(self, now: float) -> None:
        """An input has ended; `now` in monotonic seconds."""
        self._ended += 1
        span = now - self._since
        if span >= 0.25 or self._ended >= self._size:
            rate = self._ended / max(span, 1e-3)
            self._size = int(max(_LEAST, min(_MOST, max(rate, self._size / 2))))
            self._ended, self._since = 0, now
