"""Streams of frames on an event loop."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from cloudfn import wire
from cloudfn.exception import ProtocolError
from cloudfn.stream import FrameStream
from cloudfn.wire import Frame, FrameReader


class End:
    """One end of a socket pair, and what came to it."""

    def __init__(self, sock: socket.socket, types: frozenset[int] | None = None) -> None:
        self.frames: list[Frame] = []
        self.ends: list[Exception | None] = []
        self.changed = asyncio.Event()
        self.refuse = False
        sock.setblocking(False)
        self.stream = FrameStream(asyncio.get_running_loop(), sock, self._take, self._end, FrameReader(types=types))
        self.stream.start()

    def _take(self, frames: list[Frame]) -> None:
        if self.refuse:
            raise ProtocolError("not this one")
        self.frames += frames
        self.changed.set()

    def _end(self, error: Exception | None) -> None:
        self.ends.append(error)
        self.changed.set()

    async def until(self, frames: int = 0, ends: int = 0) -> None:
        async def wait() -> None:
            while len(self.frames) < frames or len(self.ends) < ends:
                self.changed.clear()
                await self.changed.wait()

        await asyncio.wait_for(wait(), 10)


def pair(types: frozenset[int] | None = None) -> tuple[End, End]:
    here, there = socket.socketpair()
    return End(here, types), End(there, types)


def run(work: Any) -> None:
    asyncio.run(work())


def test_both_ways_and_more_than_the_socket_takes() -> None:
    async def work() -> None:
        here, there = pair()
        large = bytearray(b"z" * 3_000_000)
        for number in range(200):
            here.stream.send(wire.encode(wire.INPUT, b"a" * number, call=number))
            here.stream.send(wire.encode(wire.INPUT, b"b", call=number, buffers=[large] if number % 50 == 0 else []))
            there.stream.send(wire.encode(wire.RESULT, b"c" * 70_000, call=number))
        assert here.stream.unsent
        await there.until(frames=400)
        await here.until(frames=200)
        assert [frame.call for frame in there.frames] == [n // 2 for n in range(400)]
        assert [len(frame.buffers) for frame in there.frames if frame.call % 50 == 0] == [0, 1] * 4
        assert there.frames[1].buffers == [large]
        assert not here.stream.unsent
        here.stream.close()
        there.stream.close()

    run(work)


def test_a_paused_stream_holds_the_sender_up() -> None:
    async def work() -> None:
        here, there = pair()
        there.stream.pause()
        for _ in range(100):
            here.stream.send(wire.encode(wire.INPUT, b"x" * 100_000))
        await asyncio.sleep(0)
        assert here.stream.unsent
        assert there.frames == []
        there.stream.start()
        await there.until(frames=100)
        here.stream.close()
        there.stream.close()

    run(work)


def test_the_end_is_told_once() -> None:
    async def work() -> None:
        here, there = pair()
        there.stream.close()
        await here.until(ends=1)
        here.stream.send(wire.encode(wire.ACK))  # into nothing
        here.stream.close()
        await asyncio.sleep(0)
        assert here.ends == [None]
        assert there.ends == []  # it ended itself
        assert here.stream.closed

    run(work)


def test_a_send_into_a_cut_is_told_after_the_send() -> None:
    async def work() -> None:
        here, there = pair()
        here.stream.pause()
        there.stream.close()
        here.stream.send(wire.encode(wire.INPUT, b"x"))
        assert here.ends == []  # not from within `send`
        await here.until(ends=1)
        assert isinstance(here.ends[0], OSError)

    run(work)


@pytest.mark.parametrize(
    "data", [b"garbage" * 10, wire.encode(wire.LOG)[0], wire.HEADER.pack(wire.MAGIC, 3, 0, 9999, 1, 0, 0, 0, 0, 0)]
)
def test_what_is_no_frame_breaks_the_stream(data: bytes) -> None:
    async def work() -> None:
        here, there = socket.socketpair()
        end = End(here, frozenset({wire.INPUT}))
        there.sendall(bytes(wire.encode(wire.INPUT, b"good")[0]))
        await end.until(frames=1)
        there.sendall(data)
        await end.until(ends=1)
        assert isinstance(end.ends[0], ProtocolError)
        assert there.recv(1) == b""
        there.close()

    run(work)


def test_whoever_takes_a_frame_may_refuse_it() -> None:
    async def work() -> None:
        here, there = pair()
        there.refuse = True
        here.stream.send(wire.encode(wire.INPUT))
        await there.until(ends=1)
        assert str(there.ends[0]) == "not this one"
        await here.until(ends=1)

    run(work)


def test_a_detached_socket_goes_on_elsewhere() -> None:
    async def work() -> None:
        here, there = pair()
        sock = here.stream.detach()
        sock.setblocking(True)
        there.stream.send(wire.encode(wire.RESULT, b"x"))
        await asyncio.sleep(0)
        assert len(sock.recv(1000)) == wire.HEADER_SIZE + 1
        sock.sendall(bytes(wire.encode(wire.INPUT, b"y")[0]))
        await there.until(frames=1)
        assert here.frames == [] and here.ends == []
        sock.close()
        there.stream.close()

    run(work)
