"""ASGI messages as bytes: what goes in comes out, and what a stranger makes up does no harm."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfn import asgi_message
from cloudfn.exception import InvalidError, ProtocolError

names = st.none() | st.text(max_size=20)
headers = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=3)
codes = st.integers(0, 9999)
events = st.one_of(
    st.builds(
        lambda type, body, more: {"type": type, "body": body, "more_body": more},
        st.sampled_from(["http.request", "http.response.body", "websocket.http.response.body"]),
        st.binary(max_size=1000),
        st.booleans(),
    ),
    st.builds(
        lambda type, text: {"type": type, "text": text, "bytes": None},
        st.sampled_from(["websocket.receive", "websocket.send"]),
        st.text(max_size=100),
    ),
    st.builds(lambda data: {"type": "websocket.receive", "text": None, "bytes": data}, st.binary(max_size=100)),
    st.builds(lambda s, h: {"type": "http.response.start", "status": s, "headers": h}, codes, headers),
    st.builds(lambda c, r: {"type": "websocket.close", "code": c, "reason": r}, codes, st.text(max_size=20)),
    st.builds(
        lambda p, h: {"type": "websocket.accept", "subprotocol": p, "headers": h}, st.none() | st.text(), headers
    ),
    st.just({"type": "http.disconnect"}),
)


@given(st.lists(events, max_size=4))
def test_events_come_out_as_they_went_in(sent: list[dict[str, Any]]) -> None:
    data = b"".join(b"".join(asgi_message.encode(event)) for event in sent)
    assert [message.event for message in asgi_message.decode(data)] == sent


@given(st.binary(max_size=200))
def test_any_bytes_are_events_or_refused(data: bytes) -> None:
    try:
        asgi_message.decode(data)
    except ProtocolError:
        pass
    try:
        asgi_message.decode_request(data)
    except ProtocolError:
        pass


def test_what_is_remembered_is_nobodys_to_change() -> None:
    scope = {"type": "http", "path": "/", "headers": [(b"a", b"b")]}
    start = {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]}
    for _ in range(3):
        got, _ = asgi_message.decode_request(asgi_message.encode_request(scope, b"", False))
        assert got["headers"] == [(b"a", b"b")]
        got["headers"].append((b"c", b"d"))
        got["path"] = "/other"
        (piece,) = asgi_message.encode(start)
        (message,) = asgi_message.decode(piece)
        assert message.event == start
        message.event["headers"].clear()
        message.event["status"] = 0


def test_pairs_may_be_lists_and_headers_an_iterator() -> None:
    start = {"type": "http.response.start", "status": 200, "headers": iter([[b"a", b"b"]])}
    (message,) = asgi_message.decode(next(iter(asgi_message.encode(start))))
    assert message.event["headers"] == [(b"a", b"b")]
    got, _ = asgi_message.decode_request(
        asgi_message.encode_request({"type": "http", "headers": [[b"a", b"b"]]}, b"", False)
    )
    assert got["headers"] == [(b"a", b"b")]


def test_large_heads_are_not_remembered() -> None:
    scope = {"type": "http", "headers": [(b"a", b"b" * 10_000)]}
    got, _ = asgi_message.decode_request(asgi_message.encode_request(scope, b"", False))
    assert got["headers"] == scope["headers"]


def test_a_large_body_is_cut() -> None:
    body = bytes(range(256)) * 4096
    pieces = list(asgi_message.encode({"type": "http.request", "body": body, "more_body": False}))
    assert len(pieces) == 8
    parts = [asgi_message.decode(piece)[0].event for piece in pieces]
    assert b"".join(part["body"] for part in parts) == body
    assert [part["more_body"] for part in parts] == [True] * 7 + [False]


@pytest.mark.parametrize(
    "event",
    [
        {"type": "http.response.body", "body": "text"},
        {"type": "http.response.start", "status": 200, "headers": [("a", "b")]},
        {"type": "http.response.start", "status": [], "headers": []},
        {"type": "websocket.send"},
        {"type": "lifespan.startup"},
        {},
    ],
)
def test_what_is_no_event(event: dict[str, Any]) -> None:
    with pytest.raises(InvalidError):
        list(asgi_message.encode(event))


def test_a_request() -> None:
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "https",
        "path": "/ä",
        "raw_path": b"/%C3%A4",
        "query_string": b"a=\xff",
        "root_path": "",
        "headers": [(b"x", b"\xff\x00")],
        "client": ("::1", 1),
        "server": None,
        "state": {"secret": object()},
        "extensions": {"http.response.pathsend": {}},
    }
    got, first = asgi_message.decode_request(asgi_message.encode_request(scope, b"body", True))
    assert first == {"type": "http.request", "body": b"body", "more_body": True}
    assert got["extensions"] == {}
    assert "state" not in got
    assert {name: got[name] for name in scope if name not in ("extensions", "state")} == {
        name: value for name, value in scope.items() if name not in ("extensions", "state")
    }


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "boom"))
    for data in (bomb, struct.pack("<IBB", len(bomb) + 2, 7, 0) + bomb, struct.pack("<BII", 0, len(bomb), 0) + bomb):
        for decode in (asgi_message.decode, asgi_message.decode_request):
            with pytest.raises(ProtocolError):
                decode(data)
    scope = json.dumps({"type": "http"}).encode()
    _, first = asgi_message.decode_request(struct.pack("<BII", 0, len(scope), 2) + scope + b"[]" + bomb)
    assert first["body"] == bomb
    assert not (tmp_path / "boom").exists()
    pickle.loads(bomb)
    assert (tmp_path / "boom").exists(), "the bomb works"
