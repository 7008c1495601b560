"""Web functions for the tests: an ASGI app by hand, whose paths name what it does."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from marks import put, wait_for

import cloudfn

app = cloudfn.App("gw")


class Answers:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await self.lifespan(receive, send)
        path = scope["path"].removeprefix(scope["root_path"])
        await getattr(self, path.strip("/").partition("/")[0] or "hello")(scope, receive, send)

    async def lifespan(self, receive: Any, send: Any) -> None:
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind.endswith("shutdown"):
                return

    async def say(self, send: Any, body: bytes, *headers: tuple[bytes, bytes], status: int = 200) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def hello(self, scope: Any, receive: Any, send: Any) -> None:
        await self.say(send, b"hello")

    async def scope(self, scope: Any, receive: Any, send: Any) -> None:
        shown = {key: scope.get(key) for key in ("type", "path", "root_path", "method", "scheme", "http_version")}
        shown["headers"] = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
        shown["query"], shown["raw_path"] = scope["query_string"].decode(), scope["raw_path"].decode()
        shown["client"] = scope["client"]
        await self.say(send, json.dumps(shown).encode())

    async def pid(self, scope: Any, receive: Any, send: Any) -> None:
        await self.say(send, str(os.getpid()).encode())

    async def url(self, scope: Any, receive: Any, send: Any) -> None:
        await self.say(send, str(answers.get_web_url()).encode())

    async def digest(self, scope: Any, receive: Any, send: Any) -> None:
        """Of the body, and its size."""
        seen, size = hashlib.sha256(), 0
        while True:
            event = await receive()
            seen.update(event.get("body", b""))
            size += len(event.get("body", b""))
            if not event.get("more_body"):
                break
        await self.say(send, f"{size} {seen.hexdigest()}".encode())

    async def echo(self, scope: Any, receive: Any, send: Any) -> None:
        """Each piece of the body, as it comes."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            event = await receive()
            more = event.get("more_body", False)
            await send({"type": "http.response.body", "body": event.get("body", b""), "more_body": more})

    async def zeros(self, scope: Any, receive: Any, send: Any) -> None:
        """As many as the query says."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        left, chunk = int(scope["query_string"]), bytes(1 << 17)
        while left > 0:
            await send({"type": "http.response.body", "body": chunk[:left], "more_body": True})
            left -= len(chunk)
        await send({"type": "http.response.body"})

    async def held(self, scope: Any, receive: Any, send: Any) -> None:
        """Tells by a file that it runs, and how it ends: its client goes, or the test lets it go on."""
        place = scope["query_string"].decode()
        put(f"{place}/runs")
        await receive()
        gone = asyncio.ensure_future(receive())
        released = asyncio.ensure_future(asyncio.to_thread(wait_for, f"{place}/release"))
        await asyncio.wait({gone, released}, return_when=asyncio.FIRST_COMPLETED)
        if gone.done() and gone.result()["type"] == "http.disconnect":
            put(f"{place}/gone")
            put(f"{place}/release")
        await self.say(send, b"released")

    async def blocks(self, scope: Any, receive: Any, send: Any) -> None:
        """Nothing else goes on in this worker until the test lets it."""
        place = scope["query_string"].decode()
        put(f"{place}/runs")
        wait_for(f"{place}/release")
        await self.say(send, b"released")

    async def background(self, scope: Any, receive: Any, send: Any) -> None:
        await self.say(send, b"answered")
        place = scope["query_string"].decode()
        await asyncio.to_thread(wait_for, f"{place}/release")
        put(f"{place}/done")

    async def redirect(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"location", b"/x"), (b"connection", b"upgrade"), (b"transfer-encoding", b"gzip"), (b"X-A", b"b")]
        await self.say(send, b"", *headers, status=307)

    async def split(self, scope: Any, receive: Any, send: Any) -> None:
        await self.say(send, b"", (b"x-a", b"b\r\nset-cookie: c=d"))

    async def status(self, scope: Any, receive: Any, send: Any) -> None:
        await self.say(send, b"", status=int(scope["query_string"]))

    async def longer(self, scope: Any, receive: Any, send: Any) -> None:
        await self.say(send, b"too long", (b"content-length", b"3"))

    async def lengths(self, scope: Any, receive: Any, send: Any) -> None:
        await self.say(send, b"abc", (b"content-length", b"3"), (b"content-length", b"30"))

    async def fails(self, scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("a secret of the app")

    async def fails_late(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await asyncio.sleep(0)
        raise ValueError

    async def dies(self, scope: Any, receive: Any, send: Any) -> None:
        os._exit(3)

    async def ws(self, scope: Any, receive: Any, send: Any) -> None:
        """Sends back what it gets; "bye" closes, "die" dies."""
        await receive()
        chosen = scope["subprotocols"][0] if scope["subprotocols"] else None
        await send({"type": "websocket.accept", "subprotocol": chosen, "headers": [(b"x-hello", b"you")]})
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                place = scope["query_string"].decode()
                if place:
                    put(f"{place}/closed", str(event["code"]))
                return
            if event.get("text") == "bye":
                await send({"type": "websocket.close", "code": 4001, "reason": "as asked"})
                return
            if event.get("text") == "die":
                os._exit(3)
            if event.get("text") == "fail":
                raise ValueError
            if event.get("text") is not None:
                await send({"type": "websocket.send", "text": event["text"]})
            else:
                await send({"type": "websocket.send", "bytes": event["bytes"]})

    async def ws_denied(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "websocket.http.response.start", "status": 418, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"no"})

    async def ws_refused(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close"})


@app.function(max_containers=2)
@cloudfn.concurrent(max_inputs=20)
@cloudfn.asgi_app()
def answers() -> Any:
    return Answers()


@app.function(max_containers=1)
@cloudfn.asgi_app(requires_proxy_auth=True, label="locked")
def locked() -> Any:
    return Answers()


@app.function(max_containers=1)
@cloudfn.asgi_app()
def alone() -> Any:
    """One request at a time."""
    return Answers()


@app.function(max_containers=1)
@cloudfn.concurrent(max_inputs=20)
@cloudfn.asgi_app()
def single() -> Any:
    return Answers()


@app.function(max_containers=1, timeout=1)
@cloudfn.asgi_app()
def short() -> Any:
    return Answers()


@app.function(max_containers=1)
@cloudfn.asgi_app()
def broken() -> Any:
    raise RuntimeError("it never starts")


@app.function()
def plain(path: str) -> str:
    return Path(path).read_text()
