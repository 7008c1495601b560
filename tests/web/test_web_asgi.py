"""`@asgi_app`: an app as it is, streaming both ways, websockets, lifespan; and what happens when something breaks."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any, Awaitable, Callable, Iterator

import pytest
from signs import append, forget_peak, lines, peak, resident, wait_for_line
from web_client import Answer, answer, ask, begin, chunks, run, start

import cloudfn
from cloudfn.asgi_message import PIECE_SIZE, WINDOW
from cloudfn.exception import ExecutionError, FunctionTimeoutError, InvalidError, WorkerDiedError

pytestmark = pytest.mark.xdist_group("web_asgi")

LOG = os.environ.get("LOG") or f"{tempfile.gettempdir()}/cloudfn-web-asgi-{os.getpid()}"
"""Known to workers by their environment, because they import this module again."""

app = cloudfn.App("web-asgi")
Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
TEXT = [(b"content-type", b"text/plain")]


class Routes:
    """An ASGI app by hand: `path` names one of its methods."""

    def __init__(self) -> None:
        self.path = ""

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.live(scope, receive, send)
        else:
            await getattr(self, scope["path"].partition("/")[2])(scope, receive, send)

    async def live(self, scope: Event, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        scope["state"]["greeting"] = "hello"
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        append(LOG, "shutdown")
        await send({"type": "lifespan.shutdown.complete"})

    async def say(self, send: Send, body: bytes, status: int = 200) -> None:
        await send({"type": "http.response.start", "status": status, "headers": TEXT})
        await send({"type": "http.response.body", "body": body})

    async def scope(self, scope: Event, receive: Receive, send: Send) -> None:
        shown = {name: value if isinstance(value, (str, list, dict)) else repr(value) for name, value in scope.items()}
        shown["headers"] = [[name.decode(), value.decode()] for name, value in scope["headers"]]
        await self.say(send, json.dumps(shown, default=repr).encode())

    async def pid(self, scope: Event, receive: Receive, send: Send) -> None:
        await self.say(send, str(os.getpid()).encode())

    async def digest(self, scope: Event, receive: Receive, send: Send) -> None:
        """Of the body."""
        seen = hashlib.sha256()
        more = True
        while more:
            event = await receive()
            seen.update(event["body"])
            more = event["more_body"]
        await self.say(send, seen.hexdigest().encode())

    async def zeros(self, scope: Event, receive: Receive, send: Send) -> None:
        """As many as the query says, in chunks of 64 KiB."""
        await send({"type": "http.response.start", "status": 200, "headers": TEXT})
        left, chunk = int(scope["query_string"]), bytes(1 << 16)
        while left > 0:
            await send({"type": "http.response.body", "body": chunk[:left], "more_body": True})
            left -= len(chunk)
        await send({"type": "http.response.body"})

    async def whole(self, scope: Event, receive: Receive, send: Send) -> None:
        await self.say(send, bytes(int(scope["query_string"])))

    async def echo(self, scope: Event, receive: Receive, send: Send) -> None:
        """Each piece as soon as it comes."""
        await send({"type": "http.response.start", "status": 200, "headers": TEXT})
        more = True
        while more:
            event = await receive()
            more = event["more_body"]
            await send({"type": "http.response.body", "body": event["body"].upper(), "more_body": more})

    async def ticks(self, scope: Event, receive: Receive, send: Send) -> None:
        """Server-sent events, each when a line for it is there."""
        log = scope["query_string"].decode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for i in range(3):
            await asyncio.to_thread(wait_for_line, log, str(i))
            await send({"type": "http.response.body", "body": f"data: {i}\n\n".encode(), "more_body": True})
        await send({"type": "http.response.body"})

    async def background(self, scope: Event, receive: Receive, send: Send) -> None:
        """Answers, and goes on."""
        log = scope["query_string"].decode()
        await self.say(send, b"at once")
        await asyncio.to_thread(wait_for_line, log, "go on")
        append(log, "went on")

    async def listens(self, scope: Event, receive: Receive, send: Send) -> None:
        log = scope["query_string"].decode()
        await receive()
        append(log, "listens")
        append(log, (await receive())["type"])

    async def sleeps(self, scope: Event, receive: Receive, send: Send) -> None:
        log = scope["query_string"].decode()
        append(log, "sleeps")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            append(log, "cancelled")
            raise

    async def blocks(self, scope: Event, receive: Receive, send: Send) -> None:
        time.sleep(3600)

    async def waits(self, scope: Event, receive: Receive, send: Send) -> None:
        log = scope["query_string"].decode()
        append(log, "waits")
        await asyncio.to_thread(wait_for_line, log, "go on")
        await self.say(send, b"went on")

    async def drips(self, scope: Event, receive: Receive, send: Send) -> None:
        """Sends all the time, until it is told to stop."""
        await send({"type": "http.response.start", "status": 200, "headers": TEXT})
        while "stop" not in lines(scope["query_string"].decode()):
            await send({"type": "http.response.body", "body": b"drip", "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body"})

    async def floods(self, scope: Event, receive: Receive, send: Send) -> None:
        """Never ends by itself, and is never asked for as much as it sends."""
        log = scope["query_string"].decode()
        await send({"type": "http.response.start", "status": 200, "headers": TEXT})
        try:
            while True:
                await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
                append(log, "sent")
        finally:
            append(log, "ended")

    async def dies(self, scope: Event, receive: Receive, send: Send) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    async def dies_later(self, scope: Event, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": TEXT})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})
        await asyncio.to_thread(wait_for_line, scope["query_string"].decode(), "die")
        os.kill(os.getpid(), signal.SIGKILL)

    async def raises(self, scope: Event, receive: Receive, send: Send) -> None:
        raise ValueError("no such luck")

    async def raises_later(self, scope: Event, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": TEXT})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})
        raise ValueError("half way")

    async def silent(self, scope: Event, receive: Receive, send: Send) -> None:
        pass

    async def disorderly(self, scope: Event, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.body", "body": b"a body without a start"})

    async def text(self, scope: Event, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": TEXT})
        await send({"type": "http.response.body", "body": "a string"})

    async def text_later(self, scope: Event, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": TEXT})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})
        await send({"type": "http.response.body", "body": "a string"})

    async def socket(self, scope: Event, receive: Receive, send: Send) -> None:
        """Echoes messages until "bye"."""
        assert (await receive())["type"] == "websocket.connect"
        protocol = scope["subprotocols"][0] if scope["subprotocols"] else None
        await send({"type": "websocket.accept", "subprotocol": protocol, "headers": [(b"x-a", b"b")]})
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                append(scope["query_string"].decode(), f"left {event['code']}")
                return
            if event.get("text") == "bye":
                await send({"type": "websocket.close", "code": 4000, "reason": "as you wish"})
                return
            await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})

    async def denied(self, scope: Event, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.http.response.start", "status": 401, "headers": TEXT})
        await send({"type": "websocket.http.response.body", "body": b"who are you?"})

    async def socket_raises(self, scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        raise ValueError("no such luck")


@app.function(max_containers=1, timeout=60, env={"LOG": LOG})
@cloudfn.concurrent(max_inputs=20)
@cloudfn.asgi_app()
def routes():
    return Routes()


@app.function(max_containers=1, timeout=1, env={"LOG": LOG})
@cloudfn.asgi_app()
def hasty():
    return Routes()


@app.function(min_containers=2, max_containers=2, env={"LOG": LOG})
@cloudfn.asgi_app()
def one_at_a_time():
    return Routes()


@app.function()
@cloudfn.asgi_app()
def nothing():
    return None


@app.function()
@cloudfn.asgi_app()
def stillborn():
    async def served(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "the database is down"})

    return served


@app.function()
@cloudfn.asgi_app()
def without_lifespan():
    async def served(scope: Event, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    return served


@app.function()
def plain(x: int) -> int:
    return x


@app.cls(max_containers=1)
class Greeter:
    name: str = cloudfn.parameter(default="nobody")

    @cloudfn.enter()
    def load(self) -> None:
        self.loaded = "loaded"

    @cloudfn.asgi_app(label="greeter")
    def web(self):
        async def served(scope: Event, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await Routes().say(send, f"{self.name} is {self.loaded}".encode())

        return served

    @cloudfn.method()
    def shout(self) -> str:
        return self.name.upper()


@pytest.fixture(scope="module", autouse=True)
def running(state_dir: Path) -> Iterator[None]:
    with app.run():
        yield
        ask(routes, "GET", "/pid")
    assert "shutdown" in lines(LOG)
    Path(LOG).unlink()


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(tmp_path / "log")


def test_a_request_arrives_as_it_was_sent():
    shown = json.loads(ask(routes, "PUT", "/scope?a=1&b=%20", headers={"X-Many": "one"}).body)
    assert shown["method"] == "PUT"
    assert shown["query_string"] == "b'a=1&b=%20'"
    assert shown["headers"] == [["x-many", "one"]]
    assert shown["client"] == "('192.0.2.1', 4711)"
    assert shown["state"] == {"greeting": "hello"}
    assert shown["asgi"]["version"] == "3.0"


@pytest.mark.parametrize("on", [None, routes])
def test_bodies_stream_both_ways(on):
    async def work() -> list[bytes]:
        exchange = begin(routes, "POST", "/echo", b"one", more=True)
        status, _ = await start(exchange)
        assert status == 200
        got = [(await exchange.receive())["body"]]
        await exchange.send({"type": "http.request", "body": b"two", "more_body": True})
        got.append((await exchange.receive())["body"])
        await exchange.send({"type": "http.request", "body": b"three", "more_body": False})
        got += [chunk async for chunk in chunks(exchange)]
        return got

    assert run(work(), on) == [b"ONE", b"TWO", b"THREE"]


def test_events_come_when_they_are_sent(log):
    async def work() -> list[bytes]:
        exchange = begin(routes, "GET", f"/ticks?{log}")
        got = []
        for i in range(3):
            append(log, str(i))
            if not got:
                await start(exchange)
            got.append((await exchange.receive())["body"])
        return got

    assert run(work()) == [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]


@pytest.mark.parametrize("size", [0, 1, PIECE_SIZE + 1, 5_000_000])
def test_a_body_in_one_piece_is_cut_and_comes_whole(size):
    assert ask(routes, "GET", f"/whole?{size}").body == bytes(size)
    body = os.urandom(size)
    assert ask(routes, "POST", "/digest", body).body.decode() == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("mebibytes", [256, pytest.param(1024, marks=pytest.mark.slow)])
def test_large_bodies_pass_in_constant_memory(mebibytes):
    size, most = mebibytes << 20, 24 << 20
    pids = [int(ask(routes, "GET", "/pid").body), os.getpid()]

    async def up() -> bytes:
        exchange = begin(routes, "POST", "/digest", more=True)
        chunk = bytes(1 << 16)
        for _ in range(size // len(chunk)):
            await exchange.send({"type": "http.request", "body": chunk, "more_body": True})
        await exchange.send({"type": "http.request", "body": b"", "more_body": False})
        return (await answer(exchange)).body

    async def down() -> int:
        exchange = begin(routes, "GET", f"/zeros?{size}")
        await start(exchange)
        return sum([len(chunk) async for chunk in chunks(exchange)])

    for work in (up, down):
        before = [resident(pid) for pid in pids]
        for pid in pids:
            forget_peak(pid)
        result = asyncio.run(work())
        grown = [peak(pid) - first for pid, first in zip(pids, before, strict=True)]
        assert max(grown) < most, f"{work.__name__}: grew by {[f'{g >> 20} MiB' for g in grown]}"
        seen = hashlib.sha256()
        if work is up:
            for _ in range(mebibytes):
                seen.update(bytes(1 << 20))
            assert result == seen.hexdigest().encode()
        else:
            assert result == size


def test_a_slow_client_slows_its_own_answer_and_no_other(log):
    async def work() -> None:
        slow = begin(routes, "GET", f"/floods?{log}")
        await start(slow)
        await asyncio.to_thread(wait_for_line, log)
        for _ in range(20):
            assert (await answer(begin(routes, "GET", "/whole?100000"))).status == 200
        sent = len(lines(log))
        assert sent <= WINDOW / (1 << 16) + 1, "no more than the window"
        for _ in range(40):
            await slow.receive()
        while len(lines(log)) <= sent:
            await asyncio.sleep(0)
        await slow.close()
        await asyncio.to_thread(wait_for_line, log, "ended")

    run(work())


def test_an_answer_is_there_before_background_work_has_ended(log):
    assert ask(routes, "GET", f"/background?{log}").body == b"at once"
    append(log, "go on")
    wait_for_line(log, "went on")


@pytest.mark.parametrize(
    ("path", "before", "after"), [("listens", "listens", "http.disconnect"), ("sleeps", "sleeps", "cancelled")]
)
def test_a_client_that_hangs_up(log, path, before, after):
    async def work() -> None:
        exchange = begin(routes, "GET", f"/{path}?{log}")
        await asyncio.to_thread(wait_for_line, log, before)
        await exchange.close()
        await asyncio.to_thread(wait_for_line, log, after)

    run(work())


def test_a_request_that_waits_is_taken_back(log):
    async def work() -> None:
        first = begin(hasty, "GET", f"/sleeps?{log}")
        await asyncio.to_thread(wait_for_line, log, "sleeps")
        second = begin(hasty, "GET", f"/sleeps?{log}2")
        await second.close()
        with pytest.raises(Exception, match="cancelled"):
            await second.receive()
        await first.close()

    run(work())
    assert not lines(f"{log}2")


def test_a_worker_that_dies_before_it_answers(log):
    with pytest.raises(WorkerDiedError, match="SIGKILL"):
        ask(routes, "GET", "/dies")
    assert ask(routes, "GET", "/pid").status == 200


def test_what_ran_in_a_worker_that_died_does_not_run_twice(log):
    async def work() -> None:
        beside = begin(routes, "GET", f"/waits?{log}")
        await asyncio.to_thread(wait_for_line, log)
        with pytest.raises(WorkerDiedError):
            await answer(begin(routes, "GET", "/dies"))
        with pytest.raises(WorkerDiedError):
            await beside.receive()
        append(log, "go on")
        assert (await answer(begin(routes, "GET", f"/waits?{log}"))).status == 200

    run(work())
    assert lines(log) == ["waits", "go on", "waits"]


def test_a_worker_that_dies_half_way(log):
    async def work() -> None:
        exchange = begin(routes, "GET", f"/dies_later?{log}")
        await start(exchange)
        assert (await exchange.receive())["body"] == b"some"
        append(log, "die")
        with pytest.raises(WorkerDiedError):
            await exchange.receive()

    run(work())


def test_a_request_has_the_functions_timeout_and_no_other_suffers(log):
    pid = ask(hasty, "GET", "/pid").body
    with pytest.raises(FunctionTimeoutError, match="timeout of 1 s"):
        ask(hasty, "GET", f"/sleeps?{log}")
    assert lines(log) == ["sleeps", "cancelled"]
    assert ask(hasty, "GET", "/pid").body == pid


def test_a_request_that_holds_up_its_worker_ends_it(log):
    with pytest.raises(FunctionTimeoutError, match="timeout of 1 s.*its worker was ended"):
        ask(hasty, "GET", "/blocks")


@pytest.mark.parametrize("path", ["raises", "silent", "disorderly", "text"])
def test_an_app_that_fails_is_answered_for(path, capfd):
    assert ask(routes, "GET", f"/{path}") == Answer(
        500, {"content-type": "text/plain; charset=utf-8", "content-length": "21"}, b"Internal Server Error"
    )


@pytest.mark.parametrize(
    ("path", "error", "match"),
    [("raises_later", ValueError, "half way"), ("text_later", InvalidError, "the body of an ASGI message is str")],
)
def test_an_app_that_fails_half_way(path, error, match):
    with pytest.raises(error, match=match):
        ask(routes, "GET", f"/{path}")


def test_receiving_past_the_end_is_a_slip():
    async def work() -> None:
        exchange = begin(routes, "GET", "/pid")
        await answer(exchange)
        with pytest.raises(ExecutionError, match="everything|all that it sent"):
            await exchange.receive()
        await exchange.send({"type": "http.request", "body": b"late", "more_body": False})
        await exchange.close()

    run(work())


def test_a_websocket(log):
    async def work() -> None:
        exchange = begin(routes, url=f"/socket?{log}", websocket=True, subprotocols=("chat",))
        accepted = await exchange.receive()
        assert accepted == {"type": "websocket.accept", "subprotocol": "chat", "headers": [(b"x-a", b"b")]}
        for sent in ({"text": "hä?"}, {"bytes": b"\x00\xff"}, {"text": "x" * 3_000_000}):
            await exchange.send({"type": "websocket.receive", **sent})
            got = await exchange.receive()
            assert got["type"] == "websocket.send"
            assert {name: got[name] for name in sent} == sent
        await exchange.send({"type": "websocket.receive", "text": "bye"})
        assert await exchange.receive() == {"type": "websocket.close", "code": 4000, "reason": "as you wish"}

    run(work())


def test_a_websocket_whose_client_leaves(log):
    async def work(gone: bool) -> None:
        exchange = begin(routes, url=f"/socket?{log}", websocket=True)
        await exchange.receive()
        if not gone:
            await exchange.send({"type": "websocket.disconnect", "code": 1001})
            await asyncio.to_thread(wait_for_line, log, "left 1001")
        await exchange.close()
        await asyncio.to_thread(wait_for_line, log, f"left {1006 if gone else 1001}")

    run(work(gone=False))
    run(work(gone=True))


def test_a_websocket_that_is_refused_or_fails():
    async def work() -> None:
        exchange = begin(routes, url="/denied", websocket=True)
        assert (await exchange.receive())["status"] == 401
        assert (await exchange.receive())["body"] == b"who are you?"
        exchange = begin(routes, url="/raises", websocket=True)
        assert (await exchange.receive())["status"] == 500
        exchange = begin(routes, url="/socket_raises", websocket=True)
        assert (await exchange.receive())["type"] == "websocket.accept"
        assert (await exchange.receive())["code"] == 1011

    run(work())


def test_requests_run_at_once_where_that_is_allowed(log):
    async def work() -> None:
        waiting = [begin(routes, "GET", f"/ticks?{log}") for _ in range(15)]
        await asyncio.sleep(0)
        assert (await answer(begin(routes, "GET", "/pid"))).status == 200
        for i in range(3):
            append(log, str(i))
        answers = [await answer(exchange) for exchange in waiting]
        assert all(a.body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n" for a in answers)

    run(work())


def test_more_requests_get_more_workers(log):
    async def work() -> None:
        first = begin(one_at_a_time, "GET", f"/listens?{log}")
        await asyncio.to_thread(wait_for_line, log, "listens")
        assert (await answer(begin(one_at_a_time, "GET", "/pid"))).status == 200
        await first.close()

    run(work())


def test_what_lies_behind_an_endless_answer_goes_to_another_worker(log):
    async def work() -> None:
        for _ in range(4):  # so that many are sent to each worker at a time
            await asyncio.gather(*(answer(begin(one_at_a_time, "GET", "/pid")) for _ in range(50)))
        for turn in range(3):
            endless = asyncio.ensure_future(answer(begin(one_at_a_time, "GET", f"/drips?{log}.{turn}")))
            answers = await asyncio.gather(*(answer(begin(one_at_a_time, "GET", "/pid")) for _ in range(50)))
            assert {got.status for got in answers} == {200}
            assert not endless.done()
            append(f"{log}.{turn}", "stop")
            assert (await endless).body.startswith(b"drip")

    run(work())


def test_a_lifespan_that_fails_is_a_start_that_fails():
    with pytest.raises(ExecutionError, match="'stillborn' failed: the database is down"):
        ask(stillborn)


def test_an_app_need_not_know_lifespans():
    assert ask(without_lifespan).status == 204


def test_what_is_no_app():
    with pytest.raises(ExecutionError, match="'nothing' returned NoneType, which is no ASGI app"):
        ask(nothing)


def test_a_class_answers_with_its_instance():
    assert ask(Greeter().web).body == b"nobody is loaded"
    assert ask(Greeter(name="Ada").web).body == b"Ada is loaded"
    assert Greeter(name="Ada").shout.remote() == "ADA"


def test_calls_and_requests_do_not_mix():
    with pytest.raises(InvalidError, match="'routes' is a web function"):
        routes.remote()
    for call in (routes.spawn, routes.map, Greeter().web.spawn):
        with pytest.raises(InvalidError, match="is a web function"):
            list(call())
    with pytest.raises(InvalidError, match="'plain' is no web function"):
        ask(plain)


def test_a_scope_that_is_malformed():
    async def work() -> None:
        session = app.sessions[-1]
        with pytest.raises(InvalidError, match="not plain"):
            session.exchange(routes._target, {"type": "http", "path": object()})
        with pytest.raises(InvalidError, match="pairs of bytes"):
            session.exchange(routes._target, {"type": "http", "path": "/", "headers": [("a", "b")]})

    run(work())
