"""`@web_server`: a server of the user's own, as a process or in a thread, behind its port."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Iterator

import pytest
from web_client import answer, ask, assert_bodies_stream, begin, run

import cloudfn
from cloudfn.exception import ExecutionError

pytestmark = pytest.mark.xdist_group("web_server")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


PORTS = os.environ.get("PORTS") or " ".join(str(free_port()) for _ in range(4))
FOLDER = os.environ.get("FOLDER") or f"{tempfile.gettempdir()}/cloudfn-web-server-{os.getpid()}"
KNOWN = {"PORTS": PORTS, "FOLDER": FOLDER}
"""To workers by their environment, because they import this module again."""
FILES, SERVED, DEAF, TAKEN = map(int, PORTS.split())

app = cloudfn.App("web-server")


@app.function(max_containers=3, env=KNOWN)
@cloudfn.concurrent(max_inputs=10)
@cloudfn.web_server(FILES, startup_timeout=20)
def files():
    subprocess.Popen([sys.executable, "-m", "http.server", "-b", "127.0.0.1", "-d", FOLDER, str(FILES)])


@app.cls(max_containers=1, env=KNOWN)
@cloudfn.concurrent(max_inputs=10)
class Served:
    @cloudfn.enter()
    def load(self) -> None:
        self.name = "Ada"

    @cloudfn.web_server(SERVED, startup_timeout=20)
    def serve(self):
        threading.Thread(target=asyncio.run, args=(serve(self.name),), daemon=True).start()


async def serve(name: str) -> None:
    """A server by aiohttp."""
    from aiohttp import WSMsgType, web

    async def hello(request: web.Request) -> web.Response:
        shown = f"{name} {request.method} {request.raw_path} {request.headers.get('x-a')} {request.headers['host']}"
        return web.Response(text=shown, status=201, headers={"x-b": "c", "set-cookie": "d=e"})

    async def digest(request: web.Request) -> web.Response:
        seen = hashlib.sha256()
        async for chunk in request.content.iter_any():
            seen.update(chunk)
        return web.Response(text=seen.hexdigest())

    async def zeros(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(int(request.query_string)):
            await response.write(bytes(1 << 16))
        return response

    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("chat",))
        await socket.prepare(request)
        async for message in socket:
            if message.data == "bye":
                await socket.close(code=4000)
            elif message.type == WSMsgType.TEXT:
                await socket.send_str(message.data)
            else:
                await socket.send_bytes(message.data)
        return socket

    async def pid(request: web.Request) -> web.Response:
        return web.Response(text=str(os.getpid()))

    made = web.Application(client_max_size=1 << 40)
    made.router.add_route("*", "/hello", hello)
    made.router.add_post("/digest", digest)
    made.router.add_get("/zeros", zeros)
    made.router.add_get("/echo", echo)
    made.router.add_get("/pid", pid)
    runner = web.AppRunner(made)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", SERVED).start()
    await asyncio.Event().wait()


@app.function(env=KNOWN)
@cloudfn.web_server(DEAF, startup_timeout=0.2)
def deaf():
    pass


@app.function(env=KNOWN)
@cloudfn.web_server(TAKEN)
def taken():
    pass


@pytest.fixture(scope="module", autouse=True)
def running(state_dir: Path) -> Iterator[None]:
    Path(FOLDER).mkdir()
    (Path(FOLDER) / "a file.txt").write_text("content")
    with app.run():
        yield
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", FILES)) != 0, "it ended with its worker"
    shutil.rmtree(FOLDER)


def test_a_server_that_is_a_process():
    got = ask(files, url="/a%20file.txt")
    assert (got.status, got.body) == (200, b"content")
    assert ask(files, url="/other").status == 404


def test_one_worker_holds_the_port_however_many_ask():
    async def work() -> None:
        answers = await asyncio.gather(*(answer(begin(files, url="/a%20file.txt")) for _ in range(30)))
        assert {got.status for got in answers} == {200}

    run(work())
    assert app.sessions[-1].workers["files"] == 1


def test_requests_pass_as_they_are():
    got = ask(
        Served().serve, "PATCH", "/hello?a=%20b", b"", {"x-a": "1", "host": "example.test", "connection": "x-gone"}
    )
    assert (got.status, got.body) == (201, b"Ada PATCH /hello?a=%20b 1 example.test")
    assert got.headers["x-b"] == "c"
    assert got.headers["set-cookie"] == "d=e"


def test_bodies_stream_in_constant_memory():
    assert_bodies_stream(Served().serve, most=32 << 20)


def test_a_websocket():
    async def work() -> None:
        exchange = begin(Served().serve, url="/echo", websocket=True, subprotocols=("chat",))
        assert (await exchange.receive())["subprotocol"] == "chat"
        for sent in ({"text": "hä?"}, {"bytes": b"\x00\xff"}):
            await exchange.send({"type": "websocket.receive", **sent})
            got = await exchange.receive()
            assert {name: got[name] for name in sent} == sent
        await exchange.send({"type": "websocket.receive", "text": "bye"})
        assert (await exchange.receive())["code"] == 4000
        refused = begin(Served().serve, url="/other", websocket=True)
        assert (await refused.receive())["status"] == 404

    run(work())


def test_a_server_that_does_not_come():
    with pytest.raises(ExecutionError, match=f"nothing listens on port {DEAF}, 0.2 s after"):
        ask(deaf)


def test_a_port_that_is_taken():
    with (
        socket.create_server(("127.0.0.1", TAKEN)),
        pytest.raises(ExecutionError, match="something else on this machine"),
    ):
        ask(taken)


def test_two_servers_on_one_port():
    other = cloudfn.App("two-servers")
    other.function(serialized=True)(cloudfn.web_server(FILES)(deaf.get_raw_f()))
    other.function(serialized=True, name="second")(cloudfn.web_server(FILES)(deaf.get_raw_f()))
    with pytest.raises(cloudfn.exception.InvalidError, match=f"both want port {FILES}"):
        other.spec()
