"""One web request in its worker: between the frames of its lease and the user's ASGI app."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from typing import Any, Awaitable, Callable, Mapping, Protocol

from cloudfn import asgi_message
from cloudfn.asgi_message import COST, WINDOW, Event, Message
from cloudfn.exception import ExecutionError, ProtocolError
from cloudfn.wire import CREDIT, HANG_UP, YIELD, Frame

ASGIApp = Callable[[dict[str, Any], Callable[[], Awaitable[Event]], Callable[[Event], Awaitable[None]]], Awaitable[Any]]

HANG_UP_GRACE = 10.0  # seconds for an app that hears of its client's end, before it is cancelled
_FLUSH_BYTES = 1 << 16
_COUNT = struct.Struct("<Q")
_STARTS = {"http.response.start": "http.response.body", "websocket.http.response.start": "websocket.http.response.body"}

_DISCONNECTS = ("ClientDisconnect", "WebSocketDisconnect")  # Starlette's; an app need not catch them


class Send(Protocol):
    """Sends a frame of the request's input to its client."""

    def __call__(self, type: int, body: bytes) -> None: ...


class Conversation:
    """Events that go out within one turn of the event loop leave together; the last leave as the input's result.

    Args:
        payload: of the INPUT, see `cloudfn.asgi_message.encode_request`.
        send: to the client.
        interrupt: cancels the app.

    Attributes:
        begun: something was sent, or used of what the client would have to send again: it cannot run elsewhere.
    """

    begun = False
    _arrived: asyncio.Event | None = None  # made when the app first waits, which most never do
    _listeners = 0  # of the app's tasks, that wait for an event
    _pieces = 0  # received
    _used = 0  # of them
    _untold = 0  # bytes used that the client has not heard of
    _held_bytes = 0
    _flush_due = False
    _sent = 0  # bytes
    _credit = 0  # of them, received by whoever asked
    _room: asyncio.Event | None = None
    _gone = False  # the client is
    _is_http = True
    _started = False  # the response
    _shown = False  # more than its start was sent
    _finished = False
    _next_body = ""  # type of the events that may follow
    _over = False  # the app has returned

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        payload: bytes | bytearray | memoryview,
        send: Send,
        interrupt: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._payload = payload
        self._send_frame = send
        self._interrupt = interrupt
        self._inbox: deque[Message] = deque()
        self._held: list[bytes] = []  # messages that wait to be sent together

    # -- from the client

    def take(self, frame: Frame) -> None:
        """A PIECE or a CREDIT. Raises `ProtocolError` when it is malformed."""
        if frame.type == CREDIT:
            if len(frame.body) != _COUNT.size:
                raise ProtocolError(f"a credit has {len(frame.body)} bytes")
            self._credit = max(self._credit, _COUNT.unpack(frame.body)[0])
            self._wake()
        elif frame.flags & HANG_UP:
            self._hang_up()
        elif frame.seq == self._pieces + 1:  # else it was sent again after a cut, and here before it
            self._pieces += 1
            self._inbox.extend(asgi_message.decode(frame.body))
            self._wake()

    def _wake(self) -> None:
        """Let the app look again at what it waits for."""
        for event in (self._arrived, self._room):
            if event:
                event.set()

    def _hang_up(self) -> None:
        if self._gone or self._over:
            return
        self._gone = True
        listened = self._listeners > 0
        self._wake()
        if listened:
            self._loop.call_later(HANG_UP_GRACE, self._give_up)
        else:
            self._give_up()

    def _give_up(self) -> None:
        if not self._over:
            self._interrupt()

    # -- the app

    async def run(self, app: ASGIApp, state: Mapping[str, Any]) -> bytes:
        """Let the app answer. Returns what of its answer is not sent yet.

        Args:
            state: of the app's lifespan.

        Raises:
            Exception: what the app raised. It is answered with status 500 where nothing was sent.
        """
        scope, first = asgi_message.decode_request(self._payload)
        self._payload = b""
        self._is_http = scope["type"] == "http"
        self._inbox.appendleft(Message(first, 0))
        scope["asgi"] = {"version": "3.0", "spec_version": "2.3"}  # from 2.4 on `send` raises when the client has gone
        scope["state"] = dict(state)
        try:
            await app(scope, self._receive, self._send)
            if not self._finished:
                await self._complete()
        except Exception as error:
            if self._gone and type(error).__name__ in _DISCONNECTS:
                return b""
            await self._answer_failed("websocket.http.response" in scope["extensions"])
            self._flush()
            raise
        finally:
            self._over = True
            self._wake()
        held, self._held, self._held_bytes = self._held, [], 0
        return b"".join(held)

    async def _receive(self) -> Event:
        while not self._inbox:
            if self._gone or self._over or (self._finished and self._is_http):
                return self._disconnect()
            self._arrived = self._arrived or asyncio.Event()
            self._arrived.clear()
            self._listeners += 1
            try:
                await self._arrived.wait()
            finally:
                self._listeners -= 1
        event, cost = self._inbox.popleft()
        if event["type"] in ("http.disconnect", "websocket.disconnect"):
            self._gone = True
        if cost:
            self._used += 1
            self._untold += cost
            if self._untold > WINDOW // 4:
                self._untold, self.begun = 0, True
                self._send_frame(CREDIT, _COUNT.pack(self._used))
        return event

    def _disconnect(self) -> Event:
        if self._is_http:
            return {"type": "http.disconnect"}
        return {"type": "websocket.disconnect", "code": 1006, "reason": ""}  # RFC 6455, 7.1.5: without a close frame

    async def _send(self, event: Event) -> None:
        if self._gone or self._over:
            return
        self._check_order(event)
        is_start = event["type"] in _STARTS
        for data in asgi_message.encode(event):
            while self._sent - self._credit >= WINDOW and not self._gone:
                self._flush()
                self._room = self._room or asyncio.Event()
                self._room.clear()
                await self._room.wait()
            self._sent += len(data) + COST
            self._held_bytes += len(data)
            self._held.append(data)
            self._shown |= not is_start
            if self._held_bytes >= _FLUSH_BYTES:
                self._flush()
        if self._held and not self._flush_due and not is_start:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._held:
            held, self._held, self._held_bytes = self._held, [], 0
            self.begun = True
            self._send_frame(YIELD, b"".join(held))

    def _check_order(self, event: Event) -> None:
        """Raises `ExecutionError` for what an ASGI app may not send now."""
        type = event.get("type")
        if self._finished:
            raise ExecutionError(f"the web function sent {type!r} after the end of its answer")
        if type in _STARTS and not self._started and type.startswith("http.") == self._is_http:
            self._started, self._next_body = True, _STARTS[type]
        elif self._next_body and type == self._next_body:
            self._finished = not event.get("more_body", False)
        elif not self._is_http and not self._next_body and type == "websocket.accept" and not self._started:
            self._started = True
        elif not self._is_http and not self._next_body and type == "websocket.close":
            self._started = self._finished = True
        elif self._is_http or self._next_body or type != "websocket.send" or not self._started:
            raise ExecutionError(f"the web function sent {type!r}, which has no place there")

    async def _complete(self) -> None:
        """The app has returned: its answer must be whole."""
        if self._gone:
            return
        if self._is_http or not self._started or self._next_body:
            raise ExecutionError("the web function returned without a complete answer")
        await self._send({"type": "websocket.close", "code": 1000, "reason": ""})

    async def _answer_failed(self, denies: bool) -> None:
        """Tell the client of a failure, as far as that is possible.

        Args:
            denies: a websocket may be answered with a response.
        """
        if self._is_http and not self._shown:
            self._started = self._finished = False
            self._next_body, self._held = "", []
        if self._finished or (self._started and self._is_http) or self._next_body:
            return
        prefix = "" if self._is_http else "websocket."
        if self._is_http or (denies and not self._started):
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"21")]
            await self._send({"type": f"{prefix}http.response.start", "status": 500, "headers": headers})
            await self._send({"type": f"{prefix}http.response.body", "body": b"Internal Server Error"})
        else:
            await self._send({"type": "websocket.close", "code": 1011, "reason": ""})  # RFC 6455, 7.4.1
