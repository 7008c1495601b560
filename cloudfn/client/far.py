"""A worker's calls of functions that its own machine cannot run: the client of its session runs them as its own
(`cloudfn.client.relay`). They go there through a connection that the agent joins to one of that client's.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import struct
from typing import TYPE_CHECKING, Any, Iterable, Iterator

from cloudfn import wire
from cloudfn.client.call import BaseCall, Input, Outcome, failed
from cloudfn.client.dispatch import Dispatcher
from cloudfn.connect import LeaseGone, connect_async
from cloudfn.exception import AuthError, ConnectionError, ProtocolError, VersionError
from cloudfn.spec import canonical
from cloudfn.stream import FrameStream
from cloudfn.wire import Frame, FrameReader

if TYPE_CHECKING:
    import socket

    from cloudfn.client.session import Session
    from cloudfn.client.site import Site
    from cloudfn.client.target import Target
    from cloudfn.spec import FunctionSpec

WINDOW = 1 << 23  # bytes that a generator may be ahead of its consumer's machine
COST = 1024  # bytes that an item counts beyond its own
ANSWER_TYPES = frozenset({wire.RESULT, wire.YIELD, wire.RETURNED})
_COUNT = struct.Struct("<Q")
_ACK_BYTES = 1 << 20
_ACK_FRAMES = 256
_BATCH = 1000  # inputs in one frame
_BATCH_BYTES = 1 << 20
_DELAY = 0.05  # seconds between tries to connect
_MAX_DELAY = 1.0


class FarDispatcher(Dispatcher):
    """A dispatcher without workers of its own: all that is submitted goes to the session's client at once."""

    def __init__(self, session: Session, far: FarSide, key: str, spec: FunctionSpec, target: Target) -> None:
        super().__init__(session, key, spec, target.parameters)
        self.far = far
        self.number = far.announce(self, target)

    def _pump(self) -> None:
        items = [self._pending.popleft() for _ in range(len(self._pending))]
        if items:
            self.far.submit(self, items)

    def fail_all(self, error: BaseException) -> None:
        super().fail_all(error)
        self.far.fail(error)


class FarSide:
    """The connection. On the reactor's thread, but for `announce`.

    Args:
        site: this worker's agent.
    """

    def __init__(self, session: Session, site: Site) -> None:
        self._session = session
        self._site = site
        self._loop = session.reactor.loop
        self._token = secrets.token_hex(16)  # tells the client which connections are the same worker's
        self._announced: list[dict[str, Any]] = []
        self._told = 0  # how many of these went over the present connection
        self._open: dict[tuple[int, int], tuple[FarDispatcher, Input]] = {}
        self._killed: set[int] = set()  # calls that were cancelled with their workers
        self._used: dict[int, int] = {}  # of each generator, bytes that were taken
        self._full: set[int] = set()  # generators whose consumer is behind
        self._stream: FrameStream | None = None
        self._connecting = False
        self._seq = 0  # of the last frame that we have
        self._unacknowledged = 0
        self._unacknowledged_frames = 0

    def announce(self, dispatcher: Dispatcher, target: Target) -> int:
        """The number by which inputs of this target are sent; from any thread, under the session's lock."""
        message = {
            "op": "target",
            "id": len(self._announced) + 1,
            "tag": target.tag,
            "method": target.method,
            "parameters": base64.b64encode(target.parameters).decode(),
            "overrides": canonical(dict(target.overrides)).decode() if target.overrides else "",
        }
        self._announced.append(message)
        return len(self._announced)

    def submit(self, dispatcher: FarDispatcher, items: list[Input]) -> None:
        for item in items:
            self._open[item.call.id, item.index] = dispatcher, item
        if self._stream:
            self._send(dispatcher, items)
        elif not self._connecting:
            self._connecting = True
            self._session.reactor.spawn(self._connect())

    def cancel(self, call: BaseCall, kill: bool) -> None:
        """Cancel its inputs; said again after a cut."""
        if kill:
            self._killed.add(call.id)
        if self._stream:
            self._stream.send(wire.control({"op": "cancel", "call": call.id, "kill": kill}))

    def fail(self, error: BaseException) -> None:
        """Nothing will be answered any more."""
        opened, self._open = self._open, {}
        for _, item in opened.values():
            item.call.deliver([(item.index, failed(error))])

    # -- the connection

    async def _connect(self) -> None:
        site, delay = self._site, _DELAY
        try:
            while not site.cut and self._session.ended is None:
                try:
                    where = f"/relay?relay={self._token}{site.as_worker}"
                    self._on_connected(await connect_async(self._loop, site.address, site.key, where))
                    return
                except (AuthError, LeaseGone, ProtocolError, VersionError) as error:
                    self.fail(ConnectionError(f"the agent of this machine passes on no calls: {error}"))
                    return
                except ConnectionError:
                    await asyncio.sleep(delay)
                    delay = min(2 * delay, _MAX_DELAY)
        finally:
            self._connecting = False

    def _on_connected(self, sock: socket.socket) -> None:
        """Begin with what we have and what we wait for, then go on."""
        self._stream = stream = FrameStream(
            self._loop, sock, self._on_frames, lambda _: self._on_cut(), FrameReader(types=ANSWER_TYPES)
        )
        self._told = 0
        stream.start()
        stream.send(wire.control({"op": "hello", "relay": self._token}))
        sent = [pair for pair, (_, item) in self._open.items() if item.sent]
        stream.send(wire.encode(wire.RESUME, wire.pack_pairs(sent), ack=self._seq))
        for call in {item.call for _, item in self._open.values() if item.sent}:
            if call.cancelled:
                self.cancel(call, call.id in self._killed)
        for call_id in self._used:
            self._tell_used(call_id)
        self._send_again([pair for pair, (_, item) in self._open.items() if not item.sent])

    def _on_cut(self) -> None:
        self._stream = None
        if self._open and not self._connecting:
            self._connecting = True
            self._session.reactor.spawn(self._connect())

    def _send(self, dispatcher: FarDispatcher, items: list[Input]) -> None:
        assert self._stream
        frames: list[wire.Buffer] = []
        while self._told < dispatcher.number:
            frames += wire.control(self._announced[self._told])
            self._told += 1
        for batch in neighbours(items):
            first = batch[0]
            frames += wire.encode(
                wire.INPUT,
                first.payload if len(batch) == 1 else wire.pack_items([item.payload for item in batch]),
                buffers=first.buffers,
                flags=first.method,
                count=len(batch),
                seq=dispatcher.number,
                ack=self._seq,
                index=first.index,
                call=first.call.id,
            )
            for item in batch:
                item.sent = self._loop.time()
        self._stream.send(frames)

    def _send_again(self, pairs: Iterable[tuple[int, int]]) -> None:
        """The client has never had these inputs."""
        by_dispatcher: dict[FarDispatcher, list[Input]] = {}
        for pair in pairs:
            if pair not in self._open:
                continue
            dispatcher, item = self._open[pair]
            if item.call.cancelled:
                del self._open[pair]
                item.call.deliver([(item.index, Outcome(wire.CANCELLED, b""))])
            else:
                by_dispatcher.setdefault(dispatcher, []).append(item)
        for dispatcher, items in by_dispatcher.items():
            self._send(dispatcher, items)

    # -- answers

    def _on_frames(self, frames: list[Frame]) -> None:
        for frame in frames:
            if frame.type == wire.RETURNED:
                self._send_again(wire.unpack_pairs(frame.body))
                continue
            if frame.seq <= self._seq:
                continue  # sent again after a cut, and here before it
            self._seq = frame.seq
            self._unacknowledged_frames += 1
            self._unacknowledged += len(frame.body) + sum(map(len, frame.buffers))
            if frame.type == wire.RESULT:
                self._on_result(frame)
            else:
                self._on_item(frame)
        if self._unacknowledged >= _ACK_BYTES or self._unacknowledged_frames >= _ACK_FRAMES:
            self._unacknowledged = self._unacknowledged_frames = 0
            if self._stream:
                self._stream.send(wire.encode(wire.ACK, ack=self._seq))

    def _on_result(self, frame: Frame) -> None:
        bodies = [frame.body] if frame.items == 1 else wire.unpack_items(frame.body, frame.items)
        call: BaseCall | None = None
        outcomes = []
        for offset, body in enumerate(bodies):
            _, item = self._open.pop((frame.call, frame.first + offset), (None, None))
            if item:
                call = item.call
                outcomes.append((item.index, Outcome(frame.flags, body, frame.buffers)))
        self._used.pop(frame.call, None)
        self._full.discard(frame.call)
        if call:
            call.deliver(outcomes)

    def _on_item(self, frame: Frame) -> None:
        _, item = self._open.get((frame.call, frame.first), (None, None))
        if item is None:
            return
        id = frame.call
        before = self._used.get(id, 0)
        self._used[id] = now = before + cost(frame)

        def on_room() -> None:
            self._session.reactor.call_if_open(self._on_room, id)

        if item.call.deliver_item(Outcome(wire.OK, frame.body, frame.buffers), on_room):
            self._full.add(id)
        elif id not in self._full and now // (WINDOW // 8) != before // (WINDOW // 8):
            self._tell_used(id)

    def _on_room(self, id: int) -> None:
        """A consumer caught up."""
        if id in self._full:
            self._full.discard(id)
            self._tell_used(id)

    def _tell_used(self, id: int) -> None:
        if self._stream and id in self._used and id not in self._full:
            self._stream.send(wire.encode(wire.CREDIT, _COUNT.pack(self._used[id]), call=id))


def cost(item: Frame | Outcome) -> int:
    """What an item of a generator counts until it is taken."""
    return len(item.body) + sum(map(len, item.buffers)) + COST


def neighbours(items: Iterable[Input]) -> Iterator[list[Input]]:
    """Inputs that follow one another in their call, together, where they are small."""
    batch: list[Input] = []
    size = 0
    for item in items:
        last = batch[-1] if batch else None
        if (
            last is None
            or item.call is not last.call
            or item.index != last.index + 1
            or item.method != last.method
            or item.buffers
            or last.buffers
            or len(batch) >= _BATCH
            or size + len(item.payload) > _BATCH_BYTES
        ):
            if batch:
                yield batch
            batch, size = [], 0
        batch.append(item)
        size += len(item.payload)
    if batch:
        yield batch
