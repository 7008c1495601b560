"""A web request's way to a worker: an ordinary input of an ordinary call, whose caller goes on to send and receive.

The request travels as one INPUT and a short answer as one RESULT. What is longer follows in PIECE frames and comes back
in YIELD frames on the same lease; either side sends `WINDOW` bytes beyond what the other has used up (CREDIT), no more.
Pieces are kept until they are used up, so that a cut of the connection, or a worker that had not begun, loses none.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Mapping, Protocol, Sequence

from cloudfn import asgi_message, wire
from cloudfn.asgi_message import COST, WINDOW, Event, Message
from cloudfn.client.call import BaseCall, Input, Outcome
from cloudfn.client.hop import Hop
from cloudfn.exception import ExecutionError

if TYPE_CHECKING:
    from cloudfn.client.dispatch import Dispatcher
    from cloudfn.client.lease import Lease
    from cloudfn.client.session import Session
    from cloudfn.client.target import Target
    from cloudfn.wire import Frame

_COUNT = struct.Struct("<Q")


_HERE = Hop(None)


def go_on(call: ExchangeCall) -> Exchange:
    """The exchange of a call by `Session.ask` that is not answered in one piece after all. What comes from now on goes
    there, and no more to the listener; on the reactor's loop."""
    return Exchange(_HERE, call)


class Exchange:
    """One HTTP request or websocket in flight in a worker. Made by `Session.exchange`; used on one event loop.

    The events are ASGI's (https://asgi.readthedocs.io/en/latest/specs/www.html), seen from the server: `send` takes
    what an app would receive, `receive` gives what it would send.
    """

    def __init__(self, to_reactor: Hop, call: ExchangeCall) -> None:
        self._loop = asyncio.get_running_loop()
        self._to_reactor = to_reactor
        self._call = call
        call.attach(self)
        self._events: deque[Message] = deque()
        self._waiter: asyncio.Future[None] | None = None  # of `receive`
        self._outcome: Outcome | None = None
        self._used = 0  # bytes of events that were received
        self._told = 0  # of them the worker has heard
        self._under_way = 0  # bytes that were sent and are not used up
        self._room: asyncio.Future[None] | None = None  # of `send`
        self._closed = False
        self._answered = False  # the whole response was received

    @property
    def call_id(self) -> str:
        """As logs name it."""
        return self._call.public_id

    @property
    def ended(self) -> bool:
        """The worker is done with it. Events may still wait to be received."""
        return self._outcome is not None

    @property
    def returned(self) -> bool:
        """It has ended, and the app raised nothing."""
        return self._outcome is not None and self._outcome.status == wire.OK

    async def send(self, event: Event) -> None:
        """Pass an event on to the app: `http.request` (more of the body), `http.disconnect`, `websocket.receive`,
        `websocket.disconnect`. (`websocket.connect` and what `Session.exchange` was given are there already.)

        Waits while the worker is behind. What comes after the end of the exchange is dropped: an app need not read all
        of a body.

        Raises:
            InvalidError: it is no such event.
        """
        for data in asgi_message.encode(event):
            while self._under_way >= WINDOW and not self.ended and not self._closed:
                self._room = self._loop.create_future()
                await self._room
            if self.ended or self._closed:
                return
            self._under_way += len(data) + COST
            self._to_reactor.post(self._call.add, data)

    async def receive(self) -> Event:
        """The next event of the app: `http.response.start`, `http.response.body`, `websocket.accept`, `websocket.send`,
        `websocket.close`, `websocket.http.response.start`, `websocket.http.response.body`. A response is complete with
        the first body whose `more_body` is false; nothing needs to be received after it.

        Raises:
            WorkerDiedError, StartupError, FunctionTimeoutError, ...: as any call of the function raises them.
            Exception: what the app raised after its response had begun. (Before, it is answered with status 500.)
            ExecutionError: the app is done, and everything was received.
        """
        while not self._events:
            if self._outcome is not None:
                raise self._end_error(self._outcome)
            self._waiter = self._loop.create_future()
            await self._waiter
        event, cost = self._events.popleft()
        self._used += cost
        if self._used - self._told > WINDOW // 4 and not self.ended:
            self._told = self._used
            self._to_reactor.post(self._call.tell_used, self._used)
        if event["type"] == "http.response.body" and not event["more_body"]:
            self._answered = True
        return event

    async def close(self) -> None:
        """The client hung up, or all was received. Idempotent.

        What still runs hears of it: an app that waits for its next event gets `http.disconnect` or
        `websocket.disconnect` and some seconds to end, any other is cancelled. But an app whose response was received
        to its end goes on: with background work.
        """
        if self._closed:
            return
        self._closed = True
        self._wake(self._room)
        if not self.ended and not self._answered:
            self._to_reactor.post(self._call.hang_up)

    # -- from the reactor

    def take(self, body: bytes) -> None:
        """Events have come."""
        self._events.extend(asgi_message.decode(body))
        self._wake(self._waiter)

    def end(self, outcome: Outcome) -> None:
        if outcome.status == wire.OK and outcome.body:
            self._events.extend(asgi_message.decode(outcome.body))
        self._outcome = outcome
        self._wake(self._waiter)
        self._wake(self._room)

    def used_up(self, size: int) -> None:
        """The worker has used up so many bytes more."""
        self._under_way -= size
        if self._under_way < WINDOW:
            self._wake(self._room)

    @staticmethod
    def _wake(waiter: asyncio.Future[None] | None) -> None:
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    @staticmethod
    def _end_error(outcome: Outcome) -> BaseException:
        if outcome.status == wire.OK:
            return ExecutionError("the web function has ended, and all that it sent was received")
        return outcome.error()


class Listener(Protocol):
    """Who hears of an exchange's answer."""

    def take(self, body: bytes) -> None:
        """Events have come."""

    def end(self, outcome: Outcome) -> None:
        """The worker is done with it; the last events may have come with that."""

    def used_up(self, size: int) -> None:
        """The worker has used up so many bytes more."""


class ExchangeCall(BaseCall):
    """What the reactor knows of an exchange; all but the constructor is for its thread.

    Attributes:
        begun: some of its answer has come, so it cannot run again elsewhere.
        listener: see `attach`.
    """

    once = True  # it may be the very one that ended its worker, and a stranger could send many of that kind
    listener: Listener | None = None
    _lease: Lease | None = None
    _kept: deque[bytes] | None = None  # pieces that the worker has not used up; most requests have none
    _used_up = 0  # pieces before these
    _credit = 0  # bytes of the answer that were received
    _ended = False

    def __init__(self, hop: Hop, dispatcher: Dispatcher) -> None:
        super().__init__()
        self._hop = hop
        self._dispatcher = dispatcher

    def attach(self, listener: Listener) -> None:
        """It hears of the answer from now on."""
        if not self._ended:
            self.listener = listener

    # -- from the exchange

    def add(self, piece: bytes) -> None:
        if self._ended:
            return
        if self._kept is None:
            self._kept = deque()
        self._kept.append(piece)
        self._send_piece(self._used_up + len(self._kept), piece)

    def tell_used(self, size: int) -> None:
        self._credit = size
        self._send(wire.encode(wire.CREDIT, _COUNT.pack(size), call=self.id))

    def hang_up(self) -> None:
        if self._ended:
            return
        self.cancelled = True
        self._dispatcher.cancel(self)  # where no worker has it yet
        self._send_hang_up()

    # -- from the dispatcher

    def on_sent(self, lease: Lease) -> None:
        self._lease = lease
        if self._kept:
            for number, piece in enumerate(self._kept, self._used_up + 1):
                self._send_piece(number, piece)

    def on_resumed(self, lease: Lease) -> None:
        """The connection was cut, and what was sent last may not have arrived."""
        self.on_sent(lease)
        if self._credit:
            self.tell_used(self._credit)
        if self.cancelled:
            self._send_hang_up()

    def on_credit(self, frame: Frame) -> None:
        (count,) = _COUNT.unpack(frame.body)
        freed = 0
        while self._used_up < count and self._kept:
            freed += len(self._kept.popleft()) + COST
            self._used_up += 1
        self.begun = True
        if self.listener:
            self._hop.post(self.listener.used_up, freed)

    def deliver(self, outcomes: Sequence[tuple[int, Outcome]]) -> None:
        ((_, outcome),) = outcomes
        self._ended = True
        self._lease = self._kept = None
        listener, self.listener = self.listener, None  # a circle would wait for the garbage collector
        if listener:
            self._hop.post(listener.end, outcome)

    def deliver_item(self, outcome: Outcome, on_room: Callable[[], None]) -> bool:
        self.begun = True
        if self.listener and not self.cancelled:
            self._hop.post(self.listener.take, outcome.body)
        return False

    def _send_piece(self, number: int, piece: bytes) -> None:
        self._send(wire.encode(wire.PIECE, piece, seq=number, call=self.id))

    def _send_hang_up(self) -> None:
        self._send(wire.encode(wire.PIECE, flags=wire.HANG_UP, call=self.id))

    def _send(self, pieces: list[wire.Buffer]) -> None:
        if self._lease is not None and self._lease.stream is not None:
            self._lease.stream.send(pieces)


class Exchanges:
    """The exchanges of one session.

    Args:
        session: on whose reactor they run.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._fresh: dict[Dispatcher, list[Input]] = {}  # to be submitted together
        self._hops: dict[asyncio.AbstractEventLoop, tuple[Hop, Hop]] = {}  # to the reactor and back, by caller's loop

    def start(self, target: Target, scope: Mapping[str, Any], body: bytes, more_body: bool) -> Exchange:
        """See `Session.exchange`."""
        if not self._session.reactor.running:
            raise ExecutionError(f"{target.tag} cannot be asked: the app has stopped") from self._session.ended
        dispatcher = self._session.dispatcher(target, web=True)
        payload = asgi_message.encode_request(scope, body, more_body)
        to_reactor, from_reactor = self._hops_of(asyncio.get_running_loop())
        call = ExchangeCall(from_reactor, dispatcher)
        exchange = Exchange(to_reactor, call)
        item = Input(call, 0, dispatcher.methods[target.method], payload, ())
        to_reactor.post(self._take, dispatcher, item)
        return exchange

    def ask(self, target: Target, payload: bytes, listener: Listener) -> ExchangeCall:
        """See `Session.ask`."""
        if not self._session.reactor.running:
            raise ExecutionError(f"{target.tag} cannot be asked: the app has stopped") from self._session.ended
        dispatcher = self._session.dispatcher(target, web=True)
        call = ExchangeCall(_HERE, dispatcher)
        call.attach(listener)
        self._take(dispatcher, Input(call, 0, dispatcher.methods[target.method], payload, ()))
        return call

    def _take(self, dispatcher: Dispatcher, item: Input) -> None:
        if not self._fresh:
            self._session.reactor.loop.call_soon(self._submit)
        self._fresh.setdefault(dispatcher, []).append(item)

    def _submit(self) -> None:
        fresh, self._fresh = self._fresh, {}
        for dispatcher, items in fresh.items():
            dispatcher.submit(items)

    def _hops_of(self, loop: asyncio.AbstractEventLoop) -> tuple[Hop, Hop]:
        hops = self._hops.get(loop)
        if hops is None:
            reactor = self._session.reactor.loop
            self._hops = {known: pair for known, pair in self._hops.items() if not known.is_closed()}
            if loop is reactor:
                hops = Hop(None), Hop(None)
            else:
                hops = Hop(self._session.reactor.call), Hop(loop.call_soon_threadsafe)
            self._hops[loop] = hops
        return hops
