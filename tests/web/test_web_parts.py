"""Parts of the worker's side by themselves: what is missing, and what a client makes up."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from typing import Any

import pytest
from cloudfn_agent import web_apps
from cloudfn_agent.web_conversation import Conversation
from cloudfn_agent.web_lifespan import Lifespan
from cloudfn_agent.web_proxy import Proxy

from cloudfn import asgi_message, wire
from cloudfn.exception import InvalidError, ProtocolError
from cloudfn.spec import CodeSpec, FunctionSpec, WebSpec

SPEC = FunctionSpec("f", CodeSpec())


@pytest.mark.parametrize(("kind", "package"), [("fastapi", "fastapi"), ("wsgi", "a2wsgi"), ("server", "aiohttp")])
def test_a_package_that_the_image_lacks(monkeypatch: pytest.MonkeyPatch, kind: str, package: str) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "cloudfn_agent.web_proxy", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InvalidError, match=rf'(?s)needs the package {package}.*uv_pip_install\("{package}"\)'):
        web_apps.make("f", WebSpec(kind, port=1), lambda: None, SPEC)


def test_a_module_that_the_users_code_lacks_is_the_users_error() -> None:
    def app() -> Any:
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401

    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        web_apps.make("f", WebSpec("wsgi"), app, SPEC)


class Server:
    """Keeps the heads of requests, and answers each with nothing."""

    def __init__(self, port: int) -> None:
        self.listener = socket.create_server(("127.0.0.1", port))
        self.heads: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            with connection:
                head = b""
                while b"\r\n\r\n" not in head and (data := connection.recv(65536)):
                    head += data
                if head:
                    self.heads.append(head)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def through_proxy(**scope: Any) -> tuple[int, list[bytes]]:
    """Status of a request with this scope, and what the server behind the proxy got."""
    servers: list[Server] = []
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    web = WebSpec("server", port=port, startup_timeout=5)
    proxy = Proxy("f", web, lambda: servers.append(Server(port)))
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    async def work() -> None:
        lifespan = Lifespan("f", proxy)
        await lifespan.startup()
        whole = {"type": "http", "method": "GET", "path": "/", "headers": [], "scheme": "https"}
        await proxy({**whole, "client": ("192.0.2.1", 1), **scope}, receive, send)
        await lifespan.shutdown()

    try:
        asyncio.run(work())
    finally:
        servers[0].listener.close()
    return sent[0]["status"], servers[0].heads


@pytest.mark.parametrize(
    "path", [b"@192.0.2.7/", b":1@192.0.2.7/x", b".elsewhere.example/", b"*", b"http://192.0.2.7/"]
)
def test_no_path_leads_elsewhere(path: bytes) -> None:
    status, heads = through_proxy(raw_path=path)
    assert (status, heads) == (400, [])


@pytest.mark.parametrize("path", [b"//192.0.2.7/x", b"/..//a%2Fb", b"/a@192.0.2.7"])
def test_odd_paths_arrive_as_they_are(path: bytes) -> None:
    status, (head,) = through_proxy(raw_path=path, query_string=b"q=%20")
    assert status == 200
    assert head.split(b" ")[1] == path + b"?q=%20"


def test_a_prefix_of_the_url_stays_with_the_gateway() -> None:
    for path, at in ((b"/shop-files/a%20b", b"/a%20b"), (b"/shop-files", b"/"), (b"/shop-filesx", b"/shop-filesx")):
        _, (head,) = through_proxy(raw_path=path, root_path="/shop-files")
        assert head.split(b" ")[1] == at
        assert b"x-forwarded-prefix: /shop-files" in head.lower()


def test_whom_a_request_is_from_comes_last() -> None:
    forged = [(b"x-forwarded-for", b"10.0.0.1"), (b"connection", b"x-secret")]
    _, (head,) = through_proxy(headers=[*forged, (b"x-secret", b"1"), (b"te", b"trailers"), (b"host", b"a.test")])
    lines = head.lower().split(b"\r\n")
    assert b"x-forwarded-for: 10.0.0.1, 192.0.2.1" in lines
    assert b"x-forwarded-proto: https" in lines
    assert b"host: a.test" in lines
    assert not [line for line in lines if line.startswith((b"x-secret", b"te:"))]


def frame(type: int, body: bytes = b"", **fields: Any) -> wire.Frame:
    (data,) = wire.encode(type, body, **fields)
    reader = wire.FrameReader()
    reader.get_buffer()[: len(data)] = data
    return reader.received(len(data))[0]


def test_pieces_that_come_twice_or_late_count_once() -> None:
    async def work() -> list[bytes]:
        got = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            more = True
            while more:
                event = await receive()
                got.append(event["body"])
                more = event["more_body"]
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body"})

        payload = asgi_message.encode_request({"type": "http", "path": "/"}, b"0", True)
        conversation = Conversation(asyncio.get_running_loop(), payload, lambda type, body: None, lambda: None)
        pieces = [
            b"".join(asgi_message.encode({"type": "http.request", "body": body, "more_body": body != b"3"}))
            for body in (b"1", b"2", b"3")
        ]
        for number in (1, 1, 3, 2, 1, 3):  # the first 3 comes before its time, which no client does
            conversation.take(frame(wire.PIECE, pieces[number - 1], seq=number))
        await conversation.run(app, {})
        return got

    assert asyncio.run(work()) == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize("bad", [frame(wire.CREDIT, b"short"), frame(wire.PIECE, b"nonsense", seq=1)])
def test_frames_that_are_malformed(bad: wire.Frame) -> None:
    async def work() -> None:
        Conversation(asyncio.get_running_loop(), b"", lambda type, body: None, lambda: None).take(bad)

    with pytest.raises(ProtocolError):
        asyncio.run(work())
