"""Answers in one piece: their heads, and requests that come again."""

from __future__ import annotations

from typing import Any

import pytest

from cloudfn import asgi_message
from cloudfn.gateway import ready_head
from cloudfn.gateway.request import Asked, RequestHeaders
from cloudfn.gateway.visit import BadAnswer

DATE = b"date: today\r\n"
SCOPE = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/shop/a", "raw_path": b"/shop/a"}


def start(status: int, *headers: tuple[bytes, bytes]) -> bytes:
    (message,) = asgi_message.encode({"type": "http.response.start", "status": status, "headers": headers})
    return message


def test_an_answer_of_known_length() -> None:
    head = ready_head.of(start(201, (b"Content-Length", b"5"), (b"x-a", b"b")))
    assert head.status == 201
    assert head.with_body(DATE, b"hello") == (
        b"HTTP/1.1 201 Created\r\ndate: today\r\ncontent-length: 5\r\nx-a: b\r\n\r\nhello"
    )
    assert head.with_body(DATE, b"hell") is None


@pytest.mark.parametrize(("body", "chunks"), [(b"hello", b"5\r\nhello\r\n0\r\n\r\n"), (b"", b"0\r\n\r\n")])
def test_an_answer_without_a_length_is_chunked(body: bytes, chunks: bytes) -> None:
    answer = ready_head.of(start(200)).with_body(DATE, body)
    assert answer == b"HTTP/1.1 200 OK\r\ndate: today\r\ntransfer-encoding: chunked\r\n\r\n" + chunks


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_that_has_no_body_is_not_for_us(status: int) -> None:
    assert ready_head.of(start(status)).with_body(DATE, b"") is None


@pytest.mark.parametrize(
    "message",
    [start(101), start(200, (b"x-a", b"b\r\nset-cookie: c=d")), start(200, (b"x a", b"b"))],
    ids=["status", "value", "name"],
)
def test_a_head_that_is_none(message: bytes) -> None:
    with pytest.raises(BadAnswer):
        ready_head.of(message)


def test_a_large_head_is_not_remembered() -> None:
    small, large = start(200, (b"x-a", b"b" * 10)), start(200, (b"x-a", b"b" * 5000))
    assert ready_head.of(small) is ready_head.of(small)
    assert ready_head.of(large) is not ready_head.of(large)


def test_only_a_whole_http_answer_is_short() -> None:
    head = start(200)
    (body,) = asgi_message.encode({"type": "http.response.body", "body": b"hello"})
    (part,) = asgi_message.encode({"type": "http.response.body", "body": b"hello", "more_body": True})
    assert asgi_message.split_short(head + body) == (head, b"hello")
    for other in (b"", head, body, head + part, head + body + body, body + head, (head + body)[:-1]):
        assert asgi_message.split_short(other) is None


def asked(**more: Any) -> dict[str, Any]:
    return {**SCOPE, "query_string": b"", "headers": [(b"host", b"localhost"), (b"te", b"x")], **more}


def test_a_request_that_comes_again() -> None:
    scope = asked()
    made = Asked(scope, RequestHeaders(scope["headers"]), "shop", "/shop")
    assert made.is_same(asked())
    for other in (asked(method="HEAD"), asked(query_string=b"x=1"), asked(raw_path=b"/shop/b"), asked(headers=[])):
        assert not made.is_same(other)
    told, _ = asgi_message.decode_request(made.payload)
    assert (told["root_path"], told["headers"]) == ("/shop", [(b"host", b"localhost")])
