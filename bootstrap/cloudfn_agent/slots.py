"""What each worker is doing, in memory that it shares with the agent.

Each worker has a slot of its own and writes it (two small stores for each input, no system call); the agent
reads it to enforce timeouts to the millisecond, to know which input a dead worker was running, and to count
machine-seconds. Times are CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import tempfile
from typing import NamedTuple, Sequence

TIMES = 64
"""Counts of run times: number k counts inputs that took from 2**(k - 1) up to 2**k microseconds."""
_AT_TIMES = 64
SIZE = _AT_TIMES + 8 * TIMES
_SLOT = struct.Struct("<dQIIQddd")  # started, call, index, running, done, busy, finished, beside
_STARTED = struct.Struct("<d")
_INPUT = struct.Struct("<QII")
_RUNNING = struct.Struct("<I")
_TOTALS = struct.Struct("<Qdd")
_BESIDE = struct.Struct("<d")
_TIMES = struct.Struct(f"<{TIMES}Q")
_AT_INPUT = 8
_AT_RUNNING = 20
_AT_TOTALS = 24
_AT_BESIDE = 48


class Slot(NamedTuple):
    """One reading.

    Attributes:
        started: when the oldest running input began (monotonic seconds).
        call, input: which input that is (its index in the call).
        running: inputs that run now; the fields above mean nothing when it is 0.
        done: inputs finished so far.
        busy: seconds with at least one input running.
        finished: when the last input ended (monotonic seconds), 0 before that.
        beside: seconds that inputs ran beside others; with `busy`, what they took one by one.
    """

    started: float
    call: int
    input: int
    running: int
    done: int
    busy: float
    finished: float
    beside: float


class SlotMemory:
    """The agent's end of one slot: memory that exactly one process may write to, and nobody may shrink.

    Attributes:
        descriptor: for the process that will be the worker; closed by `handed_over`.
    """

    def __init__(self) -> None:
        """Raises OSError when there is no descriptor left."""
        self.descriptor = _anonymous_file()
        self._map = mmap.mmap(self.descriptor, SIZE)

    def read(self) -> Slot:
        return Slot(*_SLOT.unpack_from(self._map, 0))

    def ran(self) -> float:
        """Seconds that inputs took, each by itself."""
        slot = self.read()
        return slot.busy + slot.beside

    def times(self) -> tuple[int, ...]:
        """How long inputs took, see `TIMES`."""
        return _TIMES.unpack_from(self._map, _AT_TIMES)

    def handed_over(self) -> None:
        """The worker has its own descriptor. Idempotent."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _anonymous_file() -> int:
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryFile() as file:
            file.truncate(SIZE)
            return os.dup(file.fileno())
    descriptor = os.memfd_create("cloudfn-slot", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.ftruncate(descriptor, SIZE)
    # Whoever cuts a file short kills those that have it mapped: a worker could end the agent so.
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor


def writer(descriptor: int) -> SlotWriter:
    """The worker's end; the descriptor is closed."""
    memory = mmap.mmap(descriptor, SIZE)
    os.close(descriptor)
    return SlotWriter(memory, 0)


class SlotWriter:
    """The worker's side of its own slot."""

    __slots__ = ("_at", "_beside", "_busy", "_done", "_map", "_times")

    def __init__(self, map: mmap.mmap, at: int) -> None:
        self._map = map
        self._at = at
        self._done = 0
        self._busy = 0.0
        self._beside = 0.0
        self._times = memoryview(map)[at + _AT_TIMES : at + SIZE].cast("Q")

    def begin(self, started: float, call: int, index: int, running: int = 1) -> None:
        # `started` first: the agent never sees a running input with the time of an older one.
        _STARTED.pack_into(self._map, self._at, started)
        _INPUT.pack_into(self._map, self._at + _AT_INPUT, call, index, running)

    def end(self, finished: float, busy: float) -> None:
        """The only input has ended; `busy`: seconds that it took."""
        self._done += 1
        self._busy += busy
        self._times[int(busy * 1e6).bit_length()] += 1
        _TOTALS.pack_into(self._map, self._at + _AT_TOTALS, self._done, self._busy, finished)
        _RUNNING.pack_into(self._map, self._at + _AT_RUNNING, 0)

    def end_some(self, finished: float, busy: float, running: int, times: Sequence[float]) -> None:
        """As `end`, in a worker of several inputs at a time.

        Args:
            times: seconds that each of the inputs took that have ended.
        """
        self._done += len(times)
        self._busy += busy
        self._beside += sum(times) - busy
        for seconds in times:
            self._times[int(seconds * 1e6).bit_length()] += 1
        _TOTALS.pack_into(self._map, self._at + _AT_TOTALS, self._done, self._busy, finished)
        _BESIDE.pack_into(self._map, self._at + _AT_BESIDE, self._beside)
        _RUNNING.pack_into(self._map, self._at + _AT_RUNNING, running)
