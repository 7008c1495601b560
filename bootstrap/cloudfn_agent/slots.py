"""What each worker is doing, in memory that it shares with the agent.

A worker writes its own slot (two small stores for each input, no system call); the agent reads it to enforce timeouts
to the millisecond, to know which input a dead worker was running, and to count machine-seconds. Times are
CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import NamedTuple

SIZE = 64
_SLOT = struct.Struct("<dQIIQdd")  # started, call, index, running, done, busy, finished
_STARTED = struct.Struct("<d")
_INPUT = struct.Struct("<QII")
_RUNNING = struct.Struct("<I")
_TOTALS = struct.Struct("<Qdd")
_AT_INPUT = 8
_AT_RUNNING = 20
_AT_TOTALS = 24


class Slot(NamedTuple):
    """One reading.

    Attributes:
        started: when the oldest running input began (monotonic seconds).
        call, input: which input that is (its index in the call).
        running: inputs that run now; the fields above mean nothing when it is 0.
        done: inputs finished so far.
        busy: seconds with at least one input running.
        finished: when the last input ended (monotonic seconds), 0 before that.
    """

    started: float
    call: int
    input: int
    running: int
    done: int
    busy: float
    finished: float


class Slots:
    """The shared file, mapped.

    Args:
        path: the file; made by the agent with `create`.
    """

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self.count = len(self._map) // SIZE

    @classmethod
    def create(cls, path: Path, count: int) -> Slots:
        with path.open("xb") as file:
            file.truncate(count * SIZE)
        return cls(path)

    def read(self, number: int) -> Slot:
        return Slot(*_SLOT.unpack_from(self._map, number * SIZE))

    def clear(self, number: int) -> None:
        self._map[number * SIZE : (number + 1) * SIZE] = bytes(SIZE)

    def writer(self, number: int) -> SlotWriter:
        return SlotWriter(self._map, number * SIZE)


class SlotWriter:
    """The worker's side of its own slot."""

    __slots__ = ("_at", "_busy", "_done", "_map")

    def __init__(self, map: mmap.mmap, at: int) -> None:
        self._map = map
        self._at = at
        self._done = 0
        self._busy = 0.0

    def begin(self, started: float, call: int, index: int, running: int = 1) -> None:
        # `started` first: the agent never sees a running input with the time of an older one.
        _STARTED.pack_into(self._map, self._at, started)
        _INPUT.pack_into(self._map, self._at + _AT_INPUT, call, index, running)

    def end(self, finished: float, busy: float, running: int = 0) -> None:
        """Args:
        busy: seconds to add to the worker's busy time.
        running: inputs that go on.
        """
        self._done += 1
        self._busy += busy
        _TOTALS.pack_into(self._map, self._at + _AT_TOTALS, self._done, self._busy, finished)
        _RUNNING.pack_into(self._map, self._at + _AT_RUNNING, running)
