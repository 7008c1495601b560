"""The pipes that processes print into, read as they fill and passed on to whoever watches."""

from __future__ import annotations

import asyncio
import os
from typing import Callable

STDOUT = 1
STDERR = 2
_READ_SIZE = 65536

Sink = Callable[[int, int, bytes], None]
"""Takes the number of a worker (0: a zygote), a stream and what was printed."""


class Logs:
    """The two pipes of one process. The writing ends, `out` and `err`, go to the process and are then closed here.

    Attributes:
        number: of the worker; a process that waits to become one gets its number then.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, number: int, sink: Sink) -> None:
        self.number = number
        self._loop = loop
        self._sink = sink
        self._open: dict[int, int] = {}  # descriptor -> stream
        ends = []
        for stream in (STDOUT, STDERR):
            read, write = os.pipe()
            os.set_blocking(read, False)
            os.fchmod(write, 0o666)  # a worker of another user may open /dev/stdout, which only its own processes can
            self._open[read] = stream
            ends.append(write)
            loop.add_reader(read, self._readable, read)
        self.out, self.err = ends
        self._have_writers = True

    def close_writers(self) -> None:
        """Close our copies of the writing ends, once the process has its own. Idempotent."""
        if self._have_writers:
            self._have_writers = False
            os.close(self.out)
            os.close(self.err)

    def drain(self) -> None:
        """Pass on everything that is in the pipes now; a process that ended has written all it ever will."""
        for descriptor in list(self._open):
            while self._readable(descriptor):
                pass

    def close(self) -> None:
        self.close_writers()
        self.drain()
        for descriptor in list(self._open):
            self._end(descriptor)

    def _readable(self, descriptor: int) -> bool:
        if descriptor not in self._open:
            return False
        try:
            data = os.read(descriptor, _READ_SIZE)
        except BlockingIOError:
            return False
        if not data:
            self._end(descriptor)
            return False
        self._sink(self.number, self._open[descriptor], data)
        return True

    def _end(self, descriptor: int) -> None:
        self._loop.remove_reader(descriptor)
        del self._open[descriptor]
        os.close(descriptor)
