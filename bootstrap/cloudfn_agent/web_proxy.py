"""`@web_server`: requests go on to a server that the user's function started on a port of its worker."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from typing import Any, AsyncIterator, Awaitable, Callable
from urllib.parse import quote

import aiohttp
from yarl import URL

from cloudfn.asgi_message import Event
from cloudfn.exception import ConflictError, StartupTimeoutError
from cloudfn.hop_by_hop import HOP_BY_HOP
from cloudfn.spec import WebSpec

Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

_HOST = "127.0.0.1"
_LOOK = 0.02  # seconds between looks whether the port answers
_MOMENT = 1.0  # seconds
_CHUNK = 1 << 17  # bytes that are read ahead of a response, twice


class Proxy:
    """An ASGI app in front of the user's server.

    Args:
        function: starts that server.
    """

    def __init__(self, name: str, web: WebSpec, function: Callable[..., Any]) -> None:
        """Raises `ConflictError` when the port is taken, `StartupTimeoutError` when nothing listens there in time, and
        what the function raises."""
        self._name = name
        self._port = web.port
        self._base = f"http://{_HOST}:{web.port}"
        self._session: aiohttp.ClientSession | None = None
        if not _is_free(web.port):
            raise ConflictError(
                f"the web server '{name}' wants port {web.port}, which something else on this machine has",
                hint="Workers share the ports of their machine: choose another one.",
            )
        function()
        _wait_for(name, web)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        assert self._session is not None
        url = self._url(scope)
        if url is None:
            await _refuse(send, 400, b"The path of a request begins with a slash.\n")
        elif scope["type"] == "websocket":
            await _Websocket(self._session, url, scope, receive, send).run()
        else:
            await self._pass_on(self._session, url, scope, receive, send)

    def _url(self, scope: dict[str, Any]) -> URL | None:
        """Where a request goes: to our server, whatever a client writes; None for a path that would lead elsewhere."""
        path = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1")
        root = scope.get("root_path", "")
        if root and (path == root or path.startswith(f"{root}/")):  # the server behind knows nothing of it
            path = path[len(root) :] or "/"
        query = scope.get("query_string", b"").decode("latin-1")
        if not path.startswith("/"):  # "@elsewhere.example/" would make a user's name of our address
            return None
        url = URL(f"{self._base}{path}{'?' + query if query else ''}", encoded=True)
        return url if (url.raw_host, url.port) == (_HOST, self._port) else None

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            read_bufsize=_CHUNK,
            max_line_size=1 << 16,
            max_field_size=1 << 16,
        )
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._session.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _pass_on(
        self, session: aiohttp.ClientSession, url: URL, scope: dict[str, Any], receive: Receive, send: Send
    ) -> None:
        first = await receive()
        has_body = first.get("more_body") or first.get("body")
        try:
            response = await session.request(
                scope["method"],
                url,
                headers=_passed(scope),
                data=_body(first, receive) if has_body else None,
                allow_redirects=False,
            )
        except aiohttp.ClientError as error:
            print(f"{self._name}: its server at {self._base} does not answer: {error!r}", file=sys.stderr)
            await _refuse(send, 502, b"The server of this web function does not answer.\n")
            return
        async with response:
            headers = [(name, value) for name, value in response.raw_headers if name.lower() not in HOP_BY_HOP]
            await send({"type": "http.response.start", "status": response.status, "headers": headers})
            async for data in response.content.iter_any():
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def _body(first: Event, receive: Receive) -> AsyncIterator[bytes]:
    event = first
    while event["type"] == "http.request":
        if event["body"]:
            yield event["body"]
        if not event["more_body"]:
            return
        event = await receive()
    raise ConnectionAbortedError("the client hung up")


async def _refuse(send: Send, status: int, text: bytes) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def _passed(scope: dict[str, Any], but: frozenset[bytes] = frozenset()) -> list[tuple[str, str]]:
    """Headers for the user's server: the request's, without what belongs to its connection, and whom it is from."""
    listed = [(name.lower(), value) for name, value in scope["headers"]]
    named = {name.strip().lower() for key, value in listed if key == b"connection" for name in value.split(b",")}
    drop = HOP_BY_HOP | named | but | {b"x-forwarded-for"}
    passed = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in listed if name not in drop]
    came_by = [value.decode("latin-1") for name, value in listed if name == b"x-forwarded-for"]
    if scope.get("client"):  # last, behind what the client may have made up
        passed.append(("x-forwarded-for", ", ".join([*came_by, scope["client"][0]])))
    if not any(name == "x-forwarded-proto" for name, _ in passed):
        passed.append(("x-forwarded-proto", scope.get("scheme", "http").replace("ws", "http")))
    if scope.get("root_path"):
        passed.append(("x-forwarded-prefix", scope["root_path"]))
    return passed


class _Websocket:
    """A websocket that is passed on."""

    _OWN = frozenset(
        (b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-extensions", b"sec-websocket-protocol")
    )

    def __init__(
        self, session: aiohttp.ClientSession, url: URL, scope: dict[str, Any], receive: Receive, send: Send
    ) -> None:
        self._session = session
        self._url = url
        self._scope = scope
        self._receive = receive
        self._send = send

    async def run(self) -> None:
        await self._receive()  # websocket.connect
        try:
            socket = await self._session.ws_connect(
                self._url,
                headers=_passed(self._scope, self._OWN),
                protocols=tuple(self._scope.get("subprotocols") or ()),
                max_msg_size=0,
                autoping=True,
            )
        except aiohttp.WSServerHandshakeError as error:
            await self._deny(error.status)
            return
        except aiohttp.ClientConnectionError:
            await self._deny(502)
            return
        async with socket:
            await self._send({"type": "websocket.accept", "subprotocol": socket.protocol, "headers": []})
            up = asyncio.ensure_future(self._up(socket))
            try:
                await self._down(socket)
            finally:
                up.cancel()
                await asyncio.wait([up])

    async def _deny(self, status: int) -> None:
        if "websocket.http.response" in self._scope["extensions"]:
            await self._send({"type": "websocket.http.response.start", "status": status, "headers": []})
            await self._send({"type": "websocket.http.response.body", "body": b""})
        else:
            await self._send({"type": "websocket.close", "code": 1000, "reason": ""})

    async def _up(self, socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        while True:
            event = await self._receive()
            if event["type"] != "websocket.receive":
                await socket.close(code=event.get("code") or 1000)
                return
            if event["text"] is not None:
                await socket.send_str(event["text"])
            else:
                await socket.send_bytes(event["bytes"])

    async def _down(self, socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        async for message in socket:
            if message.type == aiohttp.WSMsgType.TEXT:
                await self._send({"type": "websocket.send", "text": message.data})
            elif message.type == aiohttp.WSMsgType.BINARY:
                await self._send({"type": "websocket.send", "bytes": message.data})
        await self._send({"type": "websocket.close", "code": socket.close_code or 1000, "reason": ""})


def _answers(port: int) -> bool:
    try:
        socket.create_connection((_HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _is_free(port: int) -> bool:
    """The server of a worker that was here before ends with it, in a moment."""
    deadline = time.monotonic() + _MOMENT
    while _answers(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK)
    return True


def _wait_for(name: str, web: WebSpec) -> None:
    deadline = time.monotonic() + web.startup_timeout
    while not _answers(web.port):
        if time.monotonic() > deadline:
            raise StartupTimeoutError(
                f"nothing listens on port {web.port}, {web.startup_timeout:g} s after the web server '{name}' began",
                hint="Let it listen on 127.0.0.1 or on all addresses, or raise @web_server's `startup_timeout=`.",
            )
        time.sleep(_LOOK)
