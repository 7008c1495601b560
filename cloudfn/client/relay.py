"""What workers of one machine call on machines of other groups: the client of the session runs it as its own calls, and
answers over connections that it keeps at the machine's agent (`cloudfn.client.far` is the other end).

A worker names a function of this run, with parameters and overrides as any caller may; inputs and results are bytes
that nothing here looks into.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Sequence

from cloudfn import remote_error, wire
from cloudfn.client.call import FAILED, Call, Input, Outcome
from cloudfn.client.far import WINDOW, cost
from cloudfn.client.overrides import check
from cloudfn.client.target import Target
from cloudfn.connect import LeaseGone, connect_async
from cloudfn.exception import AuthError, ConnectionError, Error, InvalidError, ProtocolError, VersionError
from cloudfn.stream import FrameStream
from cloudfn.wire import Frame, FrameReader

if TYPE_CHECKING:
    from cloudfn.client.dispatch import Dispatcher
    from cloudfn.client.session import Session
    from cloudfn.client.site import Site

CALLER_TYPES = frozenset({wire.CONTROL, wire.INPUT, wire.ACK, wire.RESUME, wire.CREDIT})
AWAY = 120.0  # seconds that a caller may be cut off before its calls are cancelled
_COUNT = struct.Struct("<Q")
_DELAY = 0.1  # seconds between connections that do not hold
_BATCH = 1000  # results in one frame
_MAX_GONE = 1000


class Relay:
    """The callers of one machine. On the reactor's thread.

    Args:
        site: the machine's agent.
        name: our session's name there.
    """

    def __init__(self, session: Session, site: Site, name: str) -> None:
        self.session = session
        self._site = site
        self._name = name
        self._callers: dict[str, Caller] = {}
        self._gone: deque[str] = deque(maxlen=_MAX_GONE)
        self._offered: FrameStream | None = None
        self._over = asyncio.Event()  # the present offer is: a worker has it, or it has ended
        self._offering = False
        self._closed = False

    def open(self) -> None:
        """The control stream is there (again): keep a connection ready at the agent for the next worker that calls."""
        if self._offered:
            self._offered.close()
            self._offered = None
        self._over.set()
        if not self._offering and not self._closed:
            self._offering = True
            self.session.reactor.spawn(self._offer())

    def gone(self, token: str) -> None:
        """A worker has ended, and its calls with it."""
        self._gone.append(token)
        caller = self._callers.pop(token, None)
        if caller:
            caller.end()

    def keep(self, tokens: Sequence[str]) -> None:
        """After a cut: only these workers are still there."""
        for token in [token for token in self._callers if token not in tokens]:
            self.gone(token)

    def close(self) -> None:
        """The machine is gone, or the session ends."""
        self._closed = True
        self.open()
        for token in list(self._callers):
            self.gone(token)

    async def _offer(self) -> None:
        site, loop = self._site, self.session.reactor.loop
        while not self._closed and not site.cut:
            try:
                sock = await connect_async(loop, site.address, site.key, f"/relay?session={self._name}")
            except ConnectionError:
                await asyncio.sleep(_DELAY)
                continue
            except (AuthError, LeaseGone, ProtocolError, VersionError):
                break  # an agent of an older release: workers there say that they cannot make such calls
            if self._closed:
                sock.close()
                break
            self._over.clear()
            self._listen(sock)
            await self._over.wait()
        self._offering = False

    def _listen(self, sock: Any) -> None:
        caller: Caller | None = None

        def on_frames(frames: list[Frame]) -> None:
            nonlocal caller
            if caller is None:
                caller = self._welcome(stream, frames.pop(0))
            caller.take(stream, frames)

        def on_close(_error: Exception | None) -> None:
            if caller is not None:
                caller.on_cut(stream)
            elif self._offered is stream:
                self._offered = None
                self.session.reactor.loop.call_later(_DELAY, self._over.set)

        self._offered = stream = FrameStream(
            self.session.reactor.loop, sock, on_frames, on_close, FrameReader(types=CALLER_TYPES)
        )
        stream.start()

    def _welcome(self, stream: FrameStream, frame: Frame) -> Caller:
        """A worker has the offered connection; the next one gets another."""
        self._offered = None
        self._over.set()
        token = wire.parse_control(frame).get("relay")
        if not isinstance(token, str) or token in self._gone:
            raise ProtocolError("nobody calls")
        caller = self._callers.get(token)
        if caller is None:
            caller = self._callers[token] = Caller(self, token)
        caller.attach(stream)
        return caller


class Caller:
    """One worker's process, over all of its connections."""

    def __init__(self, relay: Relay, token: str) -> None:
        self._relay = relay
        self._token = token
        self._session = relay.session
        self._stream: FrameStream | None = None
        self._live = False  # the worker has said what it has, so it may be sent more
        self._seq = 0
        self._kept: deque[tuple[int, list[wire.Buffer], int, range]] = (
            deque()
        )  # not acknowledged; call, inputs that end
        self._targets: dict[int, Dispatcher | BaseException] = {}
        self._calls: dict[int, RelayedCall] = {}
        self._behind: deque[Frame] = deque()  # frames that wait for a target to be found
        self._finding = False
        self._away: asyncio.TimerHandle | None = None

    # -- connections

    def attach(self, stream: FrameStream) -> None:
        if self._stream:
            self._stream.close()
        self._stream, self._live = stream, False
        if self._away:
            self._away.cancel()
            self._away = None

    def on_cut(self, stream: FrameStream) -> None:
        if stream is self._stream:
            self._stream, self._live = None, False
            self._away = self._session.reactor.loop.call_later(AWAY, self._relay.gone, self._token)

    def end(self) -> None:
        """The worker is gone: nobody wants what it has asked for."""
        if self._away:
            self._away.cancel()
        if self._stream:
            self._stream.close()
            self._stream = None
        self._live = False
        self._behind.clear()
        for call in list(self._calls.values()):
            self._session.cancel(call.dispatcher, call)

    def answer(self, type: int, body: Any, call: int, indexes: range, flags: int = 0, buffers: Any = ()) -> None:
        """Send a frame, or keep it until the worker is back. `indexes`: which inputs it is about."""
        self._seq += 1
        count = len(indexes)
        pieces = wire.encode(
            type, body, flags=flags, count=count, seq=self._seq, index=indexes[0], call=call, buffers=buffers
        )
        self._kept.append((self._seq, pieces, call, indexes if type == wire.RESULT else range(0)))
        if self._stream and self._live:
            self._stream.send(pieces)

    # -- what the worker says

    def take(self, stream: FrameStream, frames: Sequence[Frame]) -> None:
        if stream is self._stream:
            self._behind.extend(frames)
            self._work()

    def _work(self) -> None:
        try:
            while self._behind and not self._finding:
                self._take(self._behind.popleft())
        except ProtocolError:
            self._behind.clear()
            if self._stream:
                stream = self._stream
                stream.close()
                self.on_cut(stream)

    def _take(self, frame: Frame) -> None:
        if frame.type == wire.CONTROL:
            self._on_message(wire.parse_control(frame))
            return
        if frame.type == wire.CREDIT:
            call = self._calls.get(frame.call)
            if call and len(frame.body) == _COUNT.size:
                call.used_up(_COUNT.unpack(frame.body)[0])
            return
        if frame.type == wire.RESUME:
            self._seq = max(self._seq, frame.ack)  # we had forgotten it if we have had less
        while self._kept and self._kept[0][0] <= frame.ack:
            self._kept.popleft()
        if frame.type == wire.INPUT:
            self._on_inputs(frame)
        elif frame.type == wire.RESUME:
            self._resume(wire.unpack_pairs(frame.body))

    def _resume(self, pairs: list[tuple[int, int]]) -> None:
        ended = {(call, index) for _, _, call, indexes in self._kept for index in indexes}
        unknown = [
            (call, index)
            for call, index in pairs
            if (call, index) not in ended and (call not in self._calls or index not in self._calls[call].open)
        ]
        self._live = True
        if self._stream:
            for _, pieces, _, _ in self._kept:
                self._stream.send(pieces)
            if unknown:
                self._stream.send(wire.encode(wire.RETURNED, wire.pack_pairs(unknown)))

    def _on_message(self, message: dict[str, Any]) -> None:
        if message["op"] == "target":
            self._find(message)
        elif message["op"] == "cancel":
            number = message.get("call")
            call = self._calls.get(number) if isinstance(number, int) else None
            if call:
                self._session.cancel(call.dispatcher, call, bool(message.get("kill")))

    def _find(self, message: dict[str, Any]) -> None:
        """Look a target up, on another thread: a variant may have to be made."""
        number = message.get("id")
        if not isinstance(number, int):
            raise ProtocolError("a target must have a number")
        if number in self._targets:
            return
        self._finding = True

        async def find() -> None:
            try:
                self._targets[number] = await self._session.reactor.loop.run_in_executor(None, self._look_up, message)
            except Exception as error:  # noqa: BLE001 - whoever calls it hears of whatever it is
                self._targets[number] = error if isinstance(error, Error) else InvalidError(f"no such target: {error}")
            self._finding = False
            self._work()

        self._session.reactor.spawn(find())

    def _look_up(self, message: dict[str, Any]) -> Dispatcher:
        try:
            parameters = base64.b64decode(message["parameters"], validate=True)
            overrides = json.loads(message["overrides"] or "{}")
            check(overrides)
            target = Target(self._session.app_name, message["tag"], message["method"], parameters, overrides or None)
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise InvalidError(f"a worker named no target: {error}") from None
        return self._session.dispatcher(target)

    def _on_inputs(self, frame: Frame) -> None:
        found = self._targets.get(frame.seq)
        if found is None or not frame.items or (frame.buffers and frame.items != 1):
            raise ProtocolError("inputs of no known target, or none")
        if frame.first + frame.items > 1 << 32:
            raise ProtocolError("a call has not so many inputs")
        indexes = range(frame.first, frame.first + frame.items)
        if isinstance(found, BaseException):
            self._refuse(frame, indexes, found)
            return
        if frame.flags >= len(found.spec.methods) or found.spec.methods[frame.flags].web:
            raise ProtocolError(f"{found.spec.tag} has no method {frame.flags} that can be called")
        bodies = [frame.body] if frame.items == 1 else wire.unpack_items(frame.body, frame.items)
        call = self._calls.get(frame.call)
        if call is None:
            call = self._calls[frame.call] = RelayedCall(self, frame.call, found)
        if call.dispatcher is not found:
            raise ProtocolError("inputs of one call for two targets")
        fresh = [(index, body) for index, body in zip(indexes, bodies, strict=True) if index not in call.open]
        call.open.update(index for index, _ in fresh)
        found.submit([Input(call, index, frame.flags, bytes(body), frame.buffers) for index, body in fresh])

    def _refuse(self, frame: Frame, indexes: range, error: BaseException) -> None:
        body = remote_error.pack(error)
        for index in indexes:
            self.answer(wire.RESULT, body, frame.call, range(index, index + 1), flags=wire.ERROR)

    def forget(self, call: RelayedCall) -> None:
        if self._calls.get(call.id) is call:
            del self._calls[call.id]


class RelayedCall(Call):
    """A call of a worker, under the number that it has there.

    Attributes:
        open: inputs that have not ended.
    """

    def __init__(self, caller: Caller, id: int, dispatcher: Dispatcher) -> None:
        super().__init__()
        self.id = id
        self.dispatcher = dispatcher
        self.open: set[int] = set()
        self._caller = caller
        self._under_way = 0  # bytes of items that were sent, all in all
        self._used_up = 0

    def deliver(self, outcomes: Sequence[tuple[int, Outcome]]) -> None:
        """Pass results on, those that follow one another together."""
        run: list[tuple[int, Outcome]] = []
        for index, outcome in outcomes:
            self.open.discard(index)
            joins = outcome.status == wire.OK and not outcome.buffers and len(run) < _BATCH
            if run and not (joins and index == run[-1][0] + 1):
                self._answer(run)
                run = []
            run.append((index, outcome))
            if not joins:
                self._answer(run)
                run = []
        if run:
            self._answer(run)
        if not self.open:
            self._caller.forget(self)

    def _answer(self, run: list[tuple[int, Outcome]]) -> None:
        indexes = range(run[0][0], run[-1][0] + 1)
        status, body, buffers = run[0][1]
        if len(run) > 1:
            body = wire.pack_items([outcome.body for _, outcome in run])
        elif status == FAILED:
            status, body = wire.ERROR, remote_error.pack(body)
        self._caller.answer(wire.RESULT, body, self.id, indexes, flags=status, buffers=buffers)

    def deliver_item(self, outcome: Outcome, on_room: Callable[[], None]) -> bool:
        if self.cancelled:
            return False
        self._under_way += cost(outcome)
        self._caller.answer(wire.YIELD, outcome.body, self.id, range(1), buffers=outcome.buffers)
        if self._under_way - self._used_up < WINDOW:
            return False
        self._on_room = on_room
        return True

    def used_up(self, size: int) -> None:
        """The worker has taken so many bytes of the items."""
        self._used_up = max(self._used_up, size)
        if self._on_room and self._under_way - self._used_up < WINDOW // 2:
            on_room, self._on_room = self._on_room, None
            on_room()
