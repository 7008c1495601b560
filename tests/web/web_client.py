"""Requests to web functions of a running app, without a gateway: each goes from here to a worker."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any, AsyncIterator, Coroutine, Mapping, NamedTuple, TypeVar

from signs import forget_peak, peak, resident

from cloudfn.client.exchange import Exchange
from cloudfn.function import Function

LIMIT = 30.0  # seconds; an upper bound, no test waits for it when all is well

T = TypeVar("T")


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


def run(work: Coroutine[Any, Any, T], on: Function[..., Any, Any] | None = None) -> T:
    """Run on an event loop of its own; or on the reactor's of the session that runs a function."""
    limited = asyncio.wait_for(work, LIMIT)
    if on is None:
        return asyncio.run(_await(limited))
    return asyncio.run_coroutine_threadsafe(_await(limited), on.app.sessions[-1].reactor.loop).result(LIMIT)


async def _await(work: Any) -> Any:
    return await work


def begin(
    function: Function[..., Any, Any],
    method: str = "GET",
    url: str = "/",
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    more: bool = False,
    websocket: bool = False,
    subprotocols: tuple[str, ...] = (),
) -> Exchange:
    path, _, query = url.partition("?")
    scope: dict[str, Any] = {
        "type": "websocket" if websocket else "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "ws" if websocket else "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
        "client": ("192.0.2.1", 4711),
        "server": ("example.test", 443),
        "subprotocols": list(subprotocols),
        "extensions": {"websocket.http.response": {}} if websocket else {},
    }
    return function.app.sessions[-1].exchange(function._target, scope, body, more)


async def start(exchange: Exchange) -> tuple[int, dict[str, str]]:
    event = await exchange.receive()
    assert event["type"] == "http.response.start", event
    return event["status"], {name.decode().lower(): value.decode() for name, value in event["headers"]}


async def chunks(exchange: Exchange) -> AsyncIterator[bytes]:
    while True:
        event = await exchange.receive()
        assert event["type"] == "http.response.body", event
        if event["body"]:
            yield event["body"]
        if not event["more_body"]:
            return


async def answer(exchange: Exchange) -> Answer:
    status, headers = await start(exchange)
    return Answer(status, headers, b"".join([chunk async for chunk in chunks(exchange)]))


def ask(function: Function[..., Any, Any], *args: Any, **kwargs: Any) -> Answer:
    """A whole request and its whole answer."""

    async def work() -> Answer:
        return await answer(begin(function, *args, **kwargs))

    return run(work())


def assert_bodies_stream(function: Function[..., Any, Any], most: int) -> None:
    """128 MiB up and down again, while the worker's memory grows by less than `most` bytes.

    Args:
        function: answers `/pid` with its worker's, `/digest` with the SHA-256 of the body, `/zeros?N` with N times
            64 KiB.
    """
    size = 128 << 20
    pid = int(ask(function, "GET", "/pid").body)

    async def up() -> bytes:
        exchange = begin(function, "POST", "/digest", more=True)
        for _ in range(size >> 16):
            await exchange.send({"type": "http.request", "body": bytes(1 << 16), "more_body": True})
        await exchange.send({"type": "http.request", "body": b"", "more_body": False})
        return (await answer(exchange)).body

    async def down() -> int:
        exchange = begin(function, "GET", f"/zeros?{size >> 16}")
        await start(exchange)
        return sum([len(chunk) async for chunk in chunks(exchange)])

    for work, result in ((up, hashlib.sha256(bytes(size)).hexdigest().encode()), (down, size)):
        before = resident(pid)
        forget_peak(pid)
        assert run(work()) == result
        assert peak(pid) - before < most, work.__name__
