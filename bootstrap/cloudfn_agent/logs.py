"""The pipes that processes print into, read as they fill and passed on to whoever watches."""

from __future__ import annotations

import asyncio
import os
from typing import Callable

from cloudfn.wire import Printed
from cloudfn_agent.mark_reader import Piece, Reader

STDOUT = 1
STDERR = 2
_READ_SIZE = 65536

Sink = Callable[[Printed], None]


class Logs:
    """The two pipes of one process. The writing ends, `out` and `err`, go to the process and are then closed here.

    Attributes:
        number: of the worker; a process that waits to become one gets its number then.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, number: int, sink: Sink) -> None:
        self.number = number
        self._loop = loop
        self._sink = sink
        self._open: dict[int, tuple[int, Reader]] = {}  # descriptor -> stream
        ends = []
        for stream in (STDOUT, STDERR):
            read, write = os.pipe()
            os.set_blocking(read, False)
            os.fchmod(write, 0o666)  # a worker of another user may open /dev/stdout, which only its own processes can
            self._open[read] = (stream, Reader())
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
        stream, reader = self._open[descriptor]
        self._pass_on(stream, reader.feed(data))
        return True

    def _pass_on(self, stream: int, pieces: list[Piece]) -> None:
        for origin, data in pieces:
            self._sink(Printed(self.number, stream, data, origin))

    def _end(self, descriptor: int) -> None:
        self._loop.remove_reader(descriptor)
        stream, reader = self._open.pop(descriptor)
        os.close(descriptor)
        self._pass_on(stream, reader.end())
