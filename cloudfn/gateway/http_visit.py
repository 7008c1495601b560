"""A request by HTTP."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any, Mapping

from cloudfn.gateway import answers
from cloudfn.gateway.visit import BadAnswer, Event, Gone, Visit, check_headers, check_status

if TYPE_CHECKING:
    from cloudfn.client.exchange import Exchange
    from cloudfn.gateway.answers import Answer
    from cloudfn.gateway.quick_visit import QuickVisit
    from cloudfn.gateway.request import RequestHeaders
    from cloudfn.gateway.visit import Receive, Send

_WATCH = 0.05  # seconds after which it is worth a task to hear of a client that goes away


class Listeners:
    """Has requests that take longer listen to their clients. One timer for all: most have ended before it."""

    def __init__(self) -> None:
        self._young: dict[HttpVisit | QuickVisit, None] = {}  # the oldest first
        self._timer: asyncio.TimerHandle | None = None

    def add(self, visit: HttpVisit | QuickVisit) -> None:
        self._young[visit] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_WATCH, self._look)

    def remove(self, visit: HttpVisit | QuickVisit) -> None:
        """Idempotent."""
        self._young.pop(visit, None)

    def listen(self) -> None:
        """All of them, now."""
        while self._young:
            self._young.popitem()[0].listen()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        old = loop.time() - _WATCH
        for visit in [*itertools.takewhile(lambda visit: visit.began <= old, self._young)]:
            del self._young[visit]
            visit.listen()
        self._timer = loop.call_later(_WATCH, self._look) if self._young else None


class HttpVisit(Visit):
    """See `Visit`. `listeners`: of all requests."""

    _started = False
    _complete = False
    _unread = True  # more of the body may come
    _exchange: Exchange | None = None
    _task: asyncio.Task[None] | None = None  # that runs it; None before and after
    _listener: asyncio.Task[None] | None = None

    def __init__(self, scope: Mapping[str, Any], receive: Receive, send: Send, listeners: Listeners) -> None:
        super().__init__(scope, receive, send)
        self._listeners = listeners

    async def refuse(self, answer: Answer) -> None:
        if self._started or self._gone:
            return  # the server ends the connection of an answer that is not complete
        headers = answer.headers()
        if self._unread:  # nobody will read the body
            headers.append((b"connection", b"close"))
        self.status = answer.status
        await self._send({"type": "http.response.start", "status": answer.status, "headers": headers})
        body = b"" if self.scope["method"] == "HEAD" else answer.text.encode()
        await self._send({"type": "http.response.body", "body": body})

    def goes_on(self, began: float) -> HttpVisit:
        """It began at that time, as a `QuickVisit`: without a body."""
        self.began = began
        self._unread = False
        return self

    async def first_body(self, headers: RequestHeaders) -> tuple[bytes, bool]:
        if not headers.has_body:
            self._unread = False
            return b"", False
        event = await self._receive()
        if event["type"] != "http.request":
            raise Gone
        body: bytes = event["body"]
        self.received = len(body)
        self._unread = event["more_body"]
        return body, self._unread

    async def run(self, exchange: Exchange) -> bool:
        self.call_id = exchange.call_id
        self._exchange, self._task = exchange, asyncio.current_task()
        if self._unread or asyncio.get_running_loop().time() - self.began > _WATCH:
            self.listen()
        else:
            self._listeners.add(self)
        try:
            while not self._complete:
                await self._pass_on(await exchange.receive())
        except asyncio.CancelledError:
            await exchange.close()
            if not self._gone:
                raise
        except Exception as error:  # noqa: BLE001 (whatever the function raised)
            await exchange.close()
            self.error = type(error).__name__
            is_bad = exchange.returned or isinstance(error, BadAnswer)
            await self.refuse(answers.BAD if is_bad else answers.answer_for(error))
        finally:
            self._task = None
            self._listeners.remove(self)
            if self._listener is not None:
                self._listener.cancel()
        if self._unread and not exchange.ended:
            await exchange.close()  # the rest of the body will not come
        return not exchange.ended

    def listen(self) -> None:
        """Begin to hear of the client, if the answer is not complete."""
        if self._task is not None and self._exchange is not None and self._listener is None:
            self._listener = asyncio.ensure_future(self._listen(self._exchange, self._task))

    async def _listen(self, exchange: Exchange, task: asyncio.Task[None]) -> None:
        """Pass on the body, and hear of a client that goes away."""
        while True:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                if not self._complete:
                    self._gone = True
                    task.cancel()
                return
            if self._unread:  # else it is the empty body of a request without one
                self.received += len(event["body"])
                self._unread = event["more_body"]
                await exchange.send(event)

    async def _pass_on(self, event: Event) -> None:
        kind = event["type"]
        if kind == "http.response.body" and self._started:
            body = event.get("body", b"")
            self.sent += len(body)
            await self._send(event)
            self._complete = not event.get("more_body", False)
        elif kind == "http.response.start" and not self._started:
            status = check_status(event.get("status"))
            headers = check_headers(event.get("headers", ()))
            self._started = True
            self.status = status
            await self._send({"type": kind, "status": status, "headers": headers})
        else:
            raise BadAnswer(f"the function sent {kind!r} where it has no place")
