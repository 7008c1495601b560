"""HTTP and websockets through the gateway, by clients of the field, to an app that runs by `app.run()`."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import threading
from pathlib import Path
from typing import Any, Iterator
from urllib.parse import urlsplit

import httpx
import pytest
import websockets
from asking import connect, head, path_form, raw, read
from gateway_app import alone, answers, app, broken, locked, plain, short, single
from marks import put, until, wait_for
from websockets.asyncio.client import connect as websocket

from cloudfn.gateway import limits
from cloudfn.gateway.access_log import Access
from cloudfn.gateway.tokens import TokenStore

pytestmark = pytest.mark.xdist_group("gateway_http")

seen: list[Access] = []


class Gateway:
    """That of the running app, from inside."""

    def __init__(self) -> None:
        self.front: Any = None

    def on_loop(self, function: Any) -> Any:
        async def call() -> Any:
            return function()

        return app.sessions[-1].reactor.wait(call(), 30)

    def look(self, later: float) -> None:
        """As if so many seconds had passed."""

        def look() -> None:
            now = asyncio.get_running_loop().time() + later
            for connection in list(self.front._server.state.connections):
                connection.look(now)

        self.on_loop(look)

    @property
    def connections(self) -> int:
        return len(self.front._server.state.connections)


gateway = Gateway()


@pytest.fixture(scope="module", autouse=True)
def running(state_dir: Path) -> Iterator[None]:
    from cloudfn.gateway.front import Front

    def remembering(self: Any, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        self._log._show = seen.extend
        gateway.front = self

    made = Front.__init__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Front, "__init__", remembering)
        with app.run():
            yield


def url(function: Any = answers, path: str = "") -> str:
    found = function.get_web_url()
    assert isinstance(found, str)
    return path_form(found) + path


@pytest.fixture(autouse=True)
def nothing_seen(running: None) -> None:
    gateway.on_loop(gateway.front._log.flush)
    seen.clear()


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=60.0, trust_env=False) as made:
        yield made


def last(path: str) -> Access:
    """What the access log has of a path."""
    until(lambda: any(access.path.endswith(path) for access in seen), f"{path} is logged")
    return next(access for access in reversed(seen) if access.path.endswith(path))


# -- the two forms of a URL


def test_path_form(client: httpx.Client) -> None:
    found = client.get(url(path="/scope/a%20b%2f../c?x=1&y=%20")).json()
    assert found["root_path"] == "/gw-answers-dev"
    assert found["path"] == "/gw-answers-dev/scope/a b/../c"
    assert found["raw_path"].startswith("/gw-answers-dev/scope/a%20b")
    assert (found["method"], found["scheme"], found["query"]) == ("GET", "http", "x=1&y=%20")
    assert found["client"][0] == "127.0.0.1"


def test_named_form(client: httpx.Client) -> None:
    port = urlsplit(url()).port
    headers = {"Host": f"gw-answers-dev.localhost:{port}"}
    found = client.get(f"http://127.0.0.1:{port}/scope", headers=headers).json()
    assert (found["root_path"], found["path"]) == ("", "/scope")
    assert client.get(f"http://[::1]:{port}/hello", headers=headers).text == "hello"


def test_the_url_itself_is_the_root(client: httpx.Client) -> None:
    assert client.get(url()).text == "hello"
    assert client.get(url(path="/")).text == "hello"


def test_a_worker_knows_the_url(client: httpx.Client) -> None:
    assert client.get(url(path="/url")).text == answers.get_web_url()
    assert plain.get_web_url() is None


# -- what goes through, and what does not


def test_headers_between_client_and_gateway_stay_there(client: httpx.Client) -> None:
    sent = {
        "Connection": "keep-alive, X-Kept",
        "X-Kept": "1",
        "TE": "trailers",
        "Upgrade": "h2c",
        "Proxy-Authorization": "secret",
        "Authorization": "mine",
        "Modal-Key": "a",
        "Modal-Secret": "b",
        "Cloudfn-Key": "c",
        "Cloudfn-Secret": "d",
    }
    names = dict(client.get(url(path="/scope"), headers=sent).json()["headers"])
    assert names["authorization"] == "mine" and names["x-kept"] == "1"
    dropped = {"connection", "te", "upgrade", "proxy-authorization"}
    assert not (dropped | {name.lower() for name in sent if name[:5] in ("Modal", "Cloud")}) & set(names)


def test_headers_of_an_answer(client: httpx.Client) -> None:
    answer = client.get(url(path="/redirect"), follow_redirects=False)
    assert answer.status_code == 307
    assert (answer.headers["location"], answer.headers["x-a"]) == ("/x", "b")
    assert answer.headers["transfer-encoding"] == "chunked" and "connection" not in answer.headers
    assert "server" not in answer.headers and "date" in answer.headers


@pytest.mark.parametrize("path", ["/split", "/status?99", "/status?1000", "/status?101", "/lengths"])
def test_an_answer_that_is_none(client: httpx.Client, path: str) -> None:
    answer = client.get(url(path=path))
    assert answer.status_code == 500
    assert "set-cookie" not in answer.headers


def test_an_answer_longer_than_it_says_is_broken_off(client: httpx.Client) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        client.get(url(path="/longer"))


def test_an_error_of_the_app_tells_nothing_of_it(client: httpx.Client) -> None:
    answer = client.get(url(path="/fails"))
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")


def test_an_error_after_the_answer_began_breaks_it_off(client: httpx.Client) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        client.get(url(path="/fails_late"))


def test_a_worker_that_dies(client: httpx.Client) -> None:
    assert client.get(url(path="/dies")).status_code == 502
    assert last("/dies").error == "WorkerDiedError"
    assert client.get(url(path="/hello")).text == "hello"


def test_a_function_that_cannot_start(client: httpx.Client) -> None:
    answer = client.get(url(broken))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "never starts" not in answer.text


def test_a_function_that_takes_longer_than_its_timeout(client: httpx.Client, tmp_path: Path) -> None:
    assert client.get(url(short, f"/held?{tmp_path}")).status_code == 504


def test_no_room(client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IN_FLIGHT", 1)
    first = threading.Thread(target=client.get, args=(url(alone, f"/held?{tmp_path}"),))
    first.start()
    wait_for(tmp_path / "runs")
    answer = httpx.get(url(alone), trust_env=False)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    put(tmp_path / "release")
    first.join()
    assert client.get(url(alone)).status_code == 200


# -- bodies


def test_a_body_of_each_kind(client: httpx.Client) -> None:
    data = bytes(range(256)) * 40_000  # 10 MB
    expected = f"{len(data)} {hashlib.sha256(data).hexdigest()}"
    assert client.post(url(path="/digest"), content=data).text == expected
    pieces = (data[at : at + 99_999] for at in range(0, len(data), 99_999))
    assert client.post(url(path="/digest"), content=pieces).text == expected  # chunked
    assert client.post(url(path="/digest"), content=b"").text.startswith("0 ")
    until(lambda: len(seen) == 3, "all are logged")
    assert [access.received for access in seen] == [len(data), len(data), 0]


def test_an_answer_streams_while_its_request_does() -> None:
    with connect(url()) as sock:
        sock.sendall(head(url(), "Transfer-Encoding: chunked", method="POST", path="/echo"))
        for piece in (b"one", b"two", b"three"):
            sock.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
            got = b""
            while piece not in got:
                got += sock.recv(4096)
        sock.sendall(b"0\r\n\r\n")
        rest = b""
        while chunk := sock.recv(4096):
            rest += chunk
        assert rest.endswith(b"0\r\n\r\n")


def test_a_slow_reader_holds_up_the_app_and_nobody_else(client: httpx.Client) -> None:
    with client.stream("GET", url(path=f"/zeros?{1 << 28}")) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        assert httpx.get(url(path="/hello"), trust_env=False).text == "hello"
        assert 1 + sum(1 for _ in pieces)
    access = last("/zeros")
    assert access.sent == 1 << 28 and access.status == 200


def test_head_and_expect(client: httpx.Client) -> None:
    assert client.head(url(path="/hello")).content == b""
    with connect(url()) as sock:
        sock.sendall(head(url(), "Expect: 100-continue", "Content-Length: 3", method="POST", path="/digest"))
        assert sock.recv(1000).startswith(b"HTTP/1.1 100 ")
        sock.sendall(b"abc")
        assert b"3 ba7816bf" in sock.makefile("rb").read()


def test_requests_that_do_not_wait_for_answers_get_them_in_order(tmp_path: Path) -> None:
    """The first takes long, so that it gets a task; the others do not."""
    place = tmp_path / "held"
    place.mkdir()
    parts = urlsplit(url())
    wanted = [f"/held?{place}", "/hello", "/status?404", "/scope"]
    keeps = "".join(f"GET {parts.path}{path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n" for path in wanted)
    with connect(url()) as sock:
        sock.sendall(keeps.encode() + head(url(), path="/hello"))
        wait_for(place / "runs")
        put(place / "release")
        answer = read(sock).text
    statuses = [line.split(b" ")[1] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    assert statuses == [b"200", b"200", b"404", b"200", b"200"]
    assert answer.index(b"released") < answer.index(b"hello") < answer.index(b"raw_path") < answer.rindex(b"hello")


def test_many_requests_on_one_connection(client: httpx.Client) -> None:
    assert {client.get(url(path="/hello")).text for _ in range(50)} == {"hello"}
    pipelined = head(url(), path="/hello").replace(b"Connection: close\r\n", b"") * 3 + head(url(), path="/hello")
    assert raw(url(), pipelined).text.count(b"200 OK") == 4


# -- clients that are not nice


def test_a_client_that_hangs_up_ends_its_call(tmp_path: Path) -> None:
    with connect(url()) as sock:
        sock.sendall(head(url(), path=f"/held?{tmp_path}"))
        wait_for(tmp_path / "runs")
    wait_for(tmp_path / "gone")
    assert last("/held").status == 499


def test_a_client_that_hangs_up_in_the_middle_of_its_body(tmp_path: Path) -> None:
    with connect(url()) as sock:
        sock.sendall(head(url(), "Content-Length: 100", method="POST", path=f"/held?{tmp_path}") + b"half")
        wait_for(tmp_path / "runs")
    wait_for(tmp_path / "gone")
    access = last("/held")
    assert (access.status, access.received) == (499, 4)


def test_a_client_that_hangs_up_before_its_request_is_looked_at(client: httpx.Client, tmp_path: Path) -> None:
    blocking = threading.Thread(target=client.get, args=(url(single, f"/blocks?{tmp_path}"),))
    blocking.start()
    wait_for(tmp_path / "runs")
    with connect(url()) as sock:
        sock.sendall(head(url(single), path="/hello"))
        until(lambda: gateway.on_loop(lambda: open_inputs("single")) == 2, "it is at the worker")
    until(lambda: any(access.path.endswith("/hello") and access.status == 499 for access in seen))
    put(tmp_path / "release")
    blocking.join()
    until(lambda: gateway.on_loop(lambda: open_inputs("single")) == 0, "its lease has nothing to do")


def open_inputs(tag: str) -> int:
    """Inputs of a function that are at a worker."""
    return sum(d._roster.open for d in app.sessions[-1]._by_pool.values() if d.spec.tag == tag)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (head("http://h/", "X: " + "a" * limits.HEAD_BYTES), 431),
        (head("http://h/", *["X: a"] * (limits.HEAD_FIELDS + 1)), 431),
        (head("http://h", path="/" + "a" * limits.HEAD_BYTES), 431),
        (head("http://h/", "Content-Length: 3", "Transfer-Encoding: chunked"), 400),
        (head("http://h/", "Content-Length: 3", "Content-Length: 4"), 400),
        (head("http://h/", "Content-Length: -1"), 400),
        (head("http://h/", "Content-Length: +3"), 400),
        (head("http://h/", "Transfer-Encoding: chunked, identity"), 400),
        (head("http://h/", "Transfer-Encoding : chunked"), 400),
        (head("http://h/", "X: a\x00b"), 400),
        (head("http://h/", " folded: a"), 400),
        (b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS
        (b"GET /gw-answers-dev HTTP/1.0\r\n\r\n", 400),
        (head("http://h/", host="evil.example"), 421),
        (head("http://h", host="gw-answers-dev.localhost", path="/hello"), 200),
    ],
    ids=itertools.count(),
)
def test_bytes_that_are_no_request(data: bytes, status: int) -> None:
    assert raw(url(), data).status == status


def test_a_trailer_is_no_header() -> None:
    body = b"0\r\nModal-Key: a\r\nX-Trailer: b\r\n\r\n"
    answer = raw(url(), head(url(), "Transfer-Encoding: chunked", method="POST", path="/scope") + body)
    assert answer.status == 200 and b"x-trailer" not in answer.text


def test_a_head_that_never_ends_is_cut_off() -> None:
    with connect(url()) as sock:
        before = gateway.connections
        sock.sendall(head(url()).removesuffix(b"\r\n"))
        until(lambda: gateway.connections > before or gateway.connections, "the connection is there")
        gateway.look(limits.HEAD_SECONDS + 1)
        assert read(sock).status == 408


def test_a_connection_that_says_nothing_is_closed() -> None:
    before = gateway.connections
    with connect(url()) as sock:
        until(lambda: gateway.connections > before)
        gateway.look(limits.HEAD_SECONDS + 1)
        assert read(sock).status == 408


def test_a_body_that_stops_is_cut_off(tmp_path: Path) -> None:
    with connect(url()) as sock:
        sock.sendall(head(url(), "Content-Length: 100", method="POST", path="/digest?half") + b"half")
        until(lambda: app.sessions[-1].counts().get("answers", (0, 0))[1], "the app runs")
        gateway.look(limits.BODY_SECONDS + 1)
        assert read(sock).status == 0
    assert last("/digest").status == 499


def test_a_client_that_reads_nothing_is_cut_off() -> None:
    with connect(url()) as sock:
        sock.sendall(head(url(), path=f"/zeros?{1 << 28}"))

        def stuck() -> bool:
            return any(getattr(c, "_stuck_since", None) for c in gateway.front._server.state.connections)

        until(stuck, "the gateway waits for the client")
        gateway.look(limits.WRITE_SECONDS + 1)
        until(lambda: not gateway.on_loop(stuck))
    assert last("/zeros").status in (200, 499)


# -- websockets


def ws_url(path: str = "/ws", function: Any = answers) -> str:
    return url(function, path).replace("http:", "ws:")


def in_time(work: Any) -> Any:
    return asyncio.run(asyncio.wait_for(work, 60))


def test_a_websocket() -> None:
    async def talk() -> None:
        async with websocket(ws_url(), subprotocols=["a", "b"], max_size=None, proxy=None) as sock:  # type: ignore[list-item]
            assert sock.subprotocol == "a"
            assert sock.response and sock.response.headers["x-hello"] == "you"
            await sock.send("héllo")
            assert await sock.recv() == "héllo"
            big = bytes(range(256)) * 16_000  # 4 MB
            await sock.send(big)
            assert await sock.recv() == big
            for number in range(200):
                await sock.send(str(number))
            assert [await sock.recv() for _ in range(200)] == [str(number) for number in range(200)]
            await sock.send("bye")
            with pytest.raises(websockets.ConnectionClosed):
                await sock.recv()
            assert (sock.close_code, sock.close_reason) == (4001, "as asked")

    in_time(talk())
    assert last("/ws").status == 101


def test_an_app_hears_that_its_websocket_was_closed(tmp_path: Path) -> None:
    async def talk() -> None:
        async with websocket(ws_url(f"/ws?{tmp_path}"), proxy=None) as sock:
            await sock.send("a")
            await sock.recv()
            await sock.close(4002)

    in_time(talk())
    assert wait_for(tmp_path / "closed") == "4002"


@pytest.mark.parametrize(("word", "code"), [("die", 1011), ("fail", 1011)])
def test_a_websocket_whose_app_ends_badly(word: str, code: int) -> None:
    async def talk() -> int | None:
        async with websocket(ws_url(), proxy=None) as sock:
            await sock.send(word)
            with pytest.raises(websockets.ConnectionClosed):
                await sock.recv()
            return sock.close_code

    assert in_time(talk()) == code


@pytest.mark.parametrize(("path", "status"), [("/ws_denied", 418), ("/ws_refused", 403), ("/nothing", 500)])
def test_a_websocket_that_is_not_accepted(path: str, status: int) -> None:
    async def talk() -> int:
        with pytest.raises(websockets.InvalidStatus) as caught:
            async with websocket(ws_url(path), proxy=None):
                pass
        return caught.value.response.status_code

    assert in_time(talk()) == status


def test_websockets_of_other_pages_and_names_are_refused() -> None:
    async def status(**more: Any) -> int:
        with pytest.raises(websockets.InvalidStatus) as caught:
            async with websocket(ws_url(), proxy=None, **more):
                pass
        return caught.value.response.status_code

    assert in_time(status(origin="http://evil.example")) == 403
    port = urlsplit(url()).port

    async def unknown() -> int:
        with pytest.raises(websockets.InvalidStatus) as caught:
            async with websocket(f"ws://127.0.0.1:{port}/none", proxy=None):
                pass
        return caught.value.response.status_code

    assert in_time(unknown()) == 404


def test_a_message_that_is_too_large() -> None:
    async def talk() -> int | None:
        async with websocket(ws_url(), proxy=None, compression=None) as sock:
            try:
                await sock.send(bytes(limits.WEBSOCKET_BYTES + 1))
                await sock.recv()
            except websockets.ConnectionClosed:
                pass
            return sock.close_code

    assert in_time(talk()) == 1009


# -- tokens


@pytest.mark.parametrize("prefix", ["Modal", "Cloudfn"])
def test_only_with_a_token(client: httpx.Client, prefix: str, state_dir: Path) -> None:
    store = TokenStore()
    token, secret = store.create()
    for headers in (
        {},
        {f"{prefix}-Key": token.id},
        {f"{prefix}-Secret": secret},
        {f"{prefix}-Key": token.id, f"{prefix}-Secret": secret[:-1]},
        {f"{prefix}-Key": "wk-none", f"{prefix}-Secret": secret},
        {f"{prefix}-Key": token.id, f"{prefix}-Secret": ""},
        {"Authorization": f"Bearer {secret}"},
    ):
        answer = client.get(url(locked), headers=headers)
        assert answer.status_code == 401
        assert token.id not in answer.text and secret not in answer.text
    good = {f"{prefix}-Key": token.id, f"{prefix}-Secret": secret}
    answer = client.get(url(locked, f"/scope?secret={secret}"), headers=good)
    assert answer.status_code == 200
    assert secret not in json.dumps(answer.json()["headers"])
    store.revoke(token.id)
    assert client.get(url(locked), headers=good).status_code == 401
    last("/scope")
    assert secret not in repr(seen) and token.id not in repr(seen)


def test_a_websocket_only_with_a_token() -> None:
    token, secret = TokenStore().create()

    async def status(headers: dict[str, str]) -> int:
        try:
            async with websocket(ws_url(function=locked), additional_headers=headers, proxy=None):
                return 101
        except websockets.InvalidStatus as error:
            return error.response.status_code

    assert in_time(status({})) == 401
    assert in_time(status({"Modal-Key": token.id, "Modal-Secret": secret})) == 101


def test_tokens_of_a_file_that_is_open_to_others_let_nobody_in(client: httpx.Client, state_dir: Path) -> None:
    token, secret = TokenStore().create()
    path = state_dir / "web-tokens.json"
    path.chmod(0o644)
    try:
        answer = client.get(url(locked), headers={"Modal-Key": token.id, "Modal-Secret": secret})
        assert answer.status_code == 401
    finally:
        path.chmod(0o600)


# -- the log, and work after the answer


def test_the_log_has_the_call(client: httpx.Client) -> None:
    client.get(url(path="/pid?token=hidden"))
    access = last("/pid")
    assert (access.app, access.function, access.status, access.method) == ("gw", "answers", 200, "GET")
    assert access.call.startswith("fc-") and "hidden" not in repr(access)


def test_work_after_the_answer_goes_on(client: httpx.Client, tmp_path: Path) -> None:
    assert client.get(url(path=f"/background?{tmp_path}")).text == "answered"
    put(tmp_path / "release")
    wait_for(tmp_path / "done")
