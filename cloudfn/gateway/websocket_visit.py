"""A websocket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from uvicorn.protocols.utils import ClientDisconnected

from cloudfn.gateway import answers
from cloudfn.gateway.visit import BadAnswer, Event, Visit, check_headers, check_status

if TYPE_CHECKING:
    from cloudfn.client.exchange import Exchange
    from cloudfn.gateway.answers import Answer
    from cloudfn.gateway.request import RequestHeaders

_GRACE = 10.0  # seconds for an app to end after its client has gone, or after it has closed
_NORMAL, _INTERNAL_ERROR, _SERVICE_RESTART = 1000, 1011, 1012  # RFC 6455 section 7.4.1, and its registry at IANA
_START, _BODY = "websocket.http.response.start", "websocket.http.response.body"


class WebSocketVisit(Visit):
    """See `Visit`. `status` is 101 once the app has accepted."""

    _accepted = False
    _denied = False  # an answer by HTTP instead has begun
    _closed = False

    async def refuse(self, answer: Answer) -> None:
        if self._accepted:
            code = _SERVICE_RESTART if answer is answers.STOPPED else _INTERNAL_ERROR
            await self._say({"type": "websocket.close", "code": code})
        elif not self._denied:
            self.status = answer.status
            await self._say({"type": _START, "status": answer.status, "headers": answer.headers()})
            await self._say({"type": _BODY, "body": answer.text.encode()})
        self._closed = True

    async def first_body(self, headers: RequestHeaders) -> tuple[bytes, bool]:
        await self._receive()  # websocket.connect, which the worker makes by itself
        return b"", False

    async def run(self, exchange: Exchange) -> bool:
        self.call_id = exchange.call_id
        listener = asyncio.ensure_future(self._listen(exchange))
        try:
            while True:
                await self._pass_on(await exchange.receive())
        except asyncio.CancelledError:
            await exchange.close()
            raise
        except Exception as error:  # noqa: BLE001 (the end, or whatever the function raised)
            if exchange.returned and self._accepted:
                await self._say({"type": "websocket.close", "code": _NORMAL})
            elif not self._closed and not self._gone:
                self.error = type(error).__name__
                is_bad = exchange.returned or isinstance(error, BadAnswer)
                await self.refuse(answers.BAD if is_bad else answers.answer_for(error))
        finally:
            listener.cancel()
        await exchange.close()
        return False

    async def _listen(self, exchange: Exchange) -> None:
        while True:
            event = await self._receive()
            data = event.get("bytes")
            self.received += len(event.get("text") or "") if data is None else len(data)
            await exchange.send(event)
            if event["type"] == "websocket.disconnect":
                self._gone = True
                await asyncio.sleep(_GRACE)
                await exchange.close()
                return

    async def _pass_on(self, event: Event) -> None:
        kind = event["type"]
        if kind == "websocket.send" and self._accepted:
            data = event.get("bytes")
            self.sent += len(event.get("text") or "") if data is None else len(data)
            await self._say(event)
        elif kind == "websocket.close":
            if not self._accepted:
                self.status = 403
            await self._say(event)
            self._closed = True
        elif kind == "websocket.accept" and not self._accepted:
            await self._accept(event)
        elif kind == _START and not self._accepted and not self._denied:
            self.status = check_status(event.get("status"))
            headers = check_headers(event.get("headers", ()))
            self._denied = True
            await self._say({"type": _START, "status": self.status, "headers": headers})
        elif kind == _BODY and self._denied:
            self.sent += len(event.get("body", b""))
            await self._say(event)
            self._closed = not event.get("more_body", False)
        else:
            raise BadAnswer(f"the function sent {kind!r} where it has no place")

    async def _accept(self, event: Event) -> None:
        chosen = event.get("subprotocol")
        if chosen is not None and chosen not in self.scope.get("subprotocols", ()):
            raise BadAnswer(f"the function chose the subprotocol {chosen!r}, which was not offered")
        headers = check_headers(event.get("headers") or ())
        self._accepted, self.status = True, 101
        await self._say({"type": "websocket.accept", "subprotocol": chosen, "headers": headers})

    async def _say(self, event: Event) -> None:
        """To the client, if it is there."""
        if self._gone or self._closed:
            return
        try:
            await self._send(event)
        except ClientDisconnected:
            self._gone = True
