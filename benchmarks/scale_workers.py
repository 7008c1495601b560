"""Machines and workers as the client sees them: sockets that carry real frames, on a simulated clock."""

from __future__ import annotations

import random
from collections import deque
from typing import Any, Callable

from benchmarks.scale_clock import Loop
from cloudfn import wire
from cloudfn.shared import Segments
from cloudfn.wire import FrameReader

DELAY = 0.0005
"""Seconds from one end of a connection to the other."""
GRANT = 0.005
"""Seconds from asking for a worker to having one."""
LEAST, SHAPE, MOST = 0.05, 1.5, 120.0
"""Seconds that a call takes: a Pareto distribution, whose mean is 0.15 s, cut at two minutes."""
FAILURES = 0.002
"""Part of all attempts that end in an error of the user's code."""


class Link:
    """A connection to a worker, in place of a socket."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.arrived = bytearray()
        self.stream: Stream | None = None
        self.open = True

    def setblocking(self, flag: bool) -> None:
        pass

    def send(self, data: bytes) -> int:
        with self.worker.loop.world():
            self.worker.receive(bytes(data))
        return len(data)

    def close(self) -> None:
        self.open = False

    def shutdown(self, how: int) -> None:
        self.open = False

    def deliver(self, data: bytes) -> None:
        """Bytes of the worker's arrive."""
        if self.open:
            self.arrived += data
            if self.stream is not None:
                self.stream.wake()


class Stream:
    """In place of `cloudfn.stream.FrameStream`."""

    def __init__(
        self,
        loop: Loop,
        sock: Link,
        on_frames: Callable[[list[wire.Frame]], None],
        on_close: Callable[[Exception | None], None],
        reader: FrameReader | None = None,
    ) -> None:
        self.sock = sock
        self.closed = False
        self.unsent = False
        self._loop = loop
        self._on_frames = on_frames
        self._reader = reader or FrameReader()
        self._reading = self._woken = False
        sock.stream = self

    def start(self) -> None:
        if not self._reading and not self.closed:
            self._reading = True
            self.wake()

    def pause(self) -> None:
        self._reading = False

    def wake(self) -> None:
        if self._reading and not self._woken and self.sock.arrived:
            self._woken = True
            self._loop.call_soon(self._readable)

    def send(self, pieces: list[Any]) -> None:
        for piece in pieces:
            self.sock.send(piece)

    def detach(self) -> Link:
        self.pause()
        self.closed = True
        self.sock.stream = None
        return self.sock

    def close(self) -> None:
        self.pause()
        self.closed = True
        self.sock.stream = None
        self.sock.close()

    def drain(self) -> None:
        while not self.closed and self.sock.arrived:
            self._read()

    def _readable(self) -> None:
        self._woken = False
        if self._reading and not self.closed and self.sock.arrived:
            self._read()
            self.wake()

    def _read(self) -> None:
        room = self._reader.get_buffer()
        arrived = self.sock.arrived
        size = min(len(room), len(arrived))
        room[:size] = arrived[:size]
        del arrived[:size]
        frames = self._reader.received(size)
        if frames:
            self._on_frames(frames)


class Worker:
    """Runs one input after the other, in the order in which they came."""

    def __init__(self, machine: Machine, token: str) -> None:
        self.machine = machine
        self.loop = machine.loop
        self.token = token
        self.link = Link(self)
        self._reader = FrameReader()
        self._waiting: deque[tuple[int, int]] = deque()
        self._running: tuple[int, int] | None = None
        self._seq = 0

    def receive(self, data: bytes) -> None:
        while data:
            room = self._reader.get_buffer()
            size = min(len(room), len(data))
            room[:size] = data[:size]
            data = data[size:]
            for frame in self._reader.received(size):
                if frame.type == wire.INPUT:
                    self._waiting.extend((frame.call, frame.first + offset) for offset in range(frame.items))
                elif frame.type == wire.RELEASE:
                    self.machine.free(self)
        self._next()

    def give_back(self) -> None:
        """What it has not begun."""
        pairs, self._waiting = list(self._waiting), deque()
        self._say(wire.RETURNED, wire.pack_pairs(pairs))

    def _next(self) -> None:
        if self._running is None and self._waiting and self.machine.alive:
            self._running = self._waiting.popleft()
            seconds = min(MOST, LEAST * self.machine.random.paretovariate(SHAPE))
            self.loop.at(seconds, self._done, seconds)

    def _done(self, seconds: float) -> None:
        if not self.machine.alive or self._running is None:
            return
        (call, index), self._running = self._running, None
        failed = self.machine.random.random() < FAILURES
        flags, body = (wire.ERROR, b"") if failed else (wire.OK, b"result")
        self._say(wire.RESULT, body, flags=flags, ack=int(seconds * 1e6), call=call, index=index)
        self._next()

    def _say(self, type: int, body: bytes, **fields: int) -> None:
        self._seq += 1
        data = b"".join(bytes(piece) for piece in wire.encode(type, body, seq=self._seq, **fields))
        self.loop.at(DELAY, self.link.deliver, data)


class Parking:
    """Connections that wait at the agent: there is always one."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def take(self, name: str) -> Link:
        return self._machine.workers[name].link

    def refill(self) -> None:
        pass


class Machine:
    """An agent, in place of `cloudfn.client.site.Site`."""

    closing = False
    returns = True

    def __init__(self, loop: Loop, name: str, slots: int, seed: int) -> None:
        self.loop = loop
        self.name = name
        self.slots = slots
        self.alive = True
        self.random = random.Random(seed)
        self.workers: dict[str, Worker] = {}
        self.segments = Segments("", "")
        self.parking = Parking(self)
        self.on_free: Callable[[], None] = lambda: None
        self._made = 0

    def grant(self) -> str:
        """A new worker's token."""
        self._made += 1
        token = f"{self.name}/{self._made}"
        self.workers[token] = Worker(self, token)
        return token

    def free(self, worker: Worker) -> None:
        if self.workers.pop(worker.token, None):
            self.loop.at(GRANT, self.on_free)

    def send(self, message: dict[str, Any]) -> None:
        with self.loop.world():
            worker = self.workers.get(message["lease"]) if "lease" in message else None
            if worker and message["op"] == "recall":
                worker.give_back()
            elif worker and message["op"] == "release":
                self.free(worker)

    def forget_lease(self, token: str) -> None:
        pass
