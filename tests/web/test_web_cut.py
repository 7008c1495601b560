"""Web requests over a connection that is cut at any moment: nothing is lost, and nothing comes twice."""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Iterator

import pytest
from web_client import answer, begin, chunks, run, start

import cloudfn
from cloudfn.asgi_message import PIECE_SIZE

if TYPE_CHECKING:
    from cutting_proxy import Proxy

pytestmark = pytest.mark.xdist_group("web_cut")

app = cloudfn.App("web-cut")


@app.function(max_containers=1)
@cloudfn.concurrent(max_inputs=10)
@cloudfn.asgi_app()
def numbered():
    async def served(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        """Answers each piece of the body by its digest, numbered; or as much as the query says."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["query_string"]:
            for number in range(int(scope["query_string"])):
                await send({"type": "http.response.body", "body": b"%10d" % number * 1000, "more_body": True})
        seen, more = hashlib.sha256(), True
        while more:
            event = await receive()
            seen.update(event["body"])
            more = event["more_body"]
            await send({"type": "http.response.body", "body": seen.digest(), "more_body": more})

    return served


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    from cutting_proxy import running  # not in workers, which import this module too

    with running(app) as (made, _):
        yield made


@pytest.mark.parametrize("seed", range(4))
def test_bodies_over_cuts(proxy: Proxy, seed: int) -> None:
    random.seed(seed)
    pieces = [b"x", *(random.randbytes(random.choice([1, 100, 70_000, 300_000])) for _ in range(60))]
    before = proxy.cuts

    async def up() -> None:
        seen, expected = hashlib.sha256(), b""
        exchange = begin(numbered, "POST", "/", pieces[0], more=True)
        getting = asyncio.ensure_future(answer(exchange))
        for number, piece in enumerate(pieces[1:], 2):
            await exchange.send({"type": "http.request", "body": piece, "more_body": number < len(pieces)})
        body = (await getting).body
        for piece in pieces:
            for at in range(0, len(piece), PIECE_SIZE):
                seen.update(piece[at : at + PIECE_SIZE])
                expected += seen.digest()
        assert body == expected

    async def down() -> None:
        exchange = begin(numbered, "GET", "/?300")
        await start(exchange)
        body = b"".join([chunk async for chunk in chunks(exchange)])
        assert body[:-32] == b"".join(b"%10d" % number * 1000 for number in range(300))

    async def work() -> None:
        busy = asyncio.gather(up(), down(), up(), down())
        while not busy.done():
            proxy.cut_after(random.randrange(300_000))
            await asyncio.sleep(0.02)
        await busy

    run(work())
    assert proxy.cuts > before
