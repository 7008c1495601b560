"""Heads of HTTP messages: well formed ones parse to what was rendered, all others are refused."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfn import head
from cloudfn.exception import ProtocolError

names = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=20)
visible = "".join(map(chr, range(0x21, 0x7F)))
values = st.text(visible + " \t", max_size=50).map(lambda value: value.strip(" \t"))
targets = st.text(visible, max_size=50).map(lambda rest: "/" + rest)
GOOD = b"GET / HTTP/1.1\r\n"


@given(targets, st.dictionaries(names, values, max_size=8))
def test_a_request_parses_to_what_was_rendered(target: str, headers: dict[str, str]) -> None:
    lower = {name.lower().replace("_", "-"): value for name, value in headers.items()}
    data = head.render(f"GET {target} HTTP/1.1", **headers)
    if len(lower) < len(headers):
        with pytest.raises(ProtocolError, match="twice"):
            head.parse(data)
    else:
        assert head.parse(data) == head.Head(("GET", target, "HTTP/1.1"), lower)


def test_an_answer() -> None:
    parsed = head.parse(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade:cloudfn/1 \t\r\n\r\n")
    assert parsed == head.Head(("HTTP/1.1", "101", "Switching Protocols"), {"upgrade": "cloudfn/1"})


@given(st.binary(max_size=300))
def test_garbage(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        head.parse(data + b"\r\n\r\n\x00")
    try:
        parsed = head.parse(GOOD + data + b"\r\n\r\n")
    except ProtocolError:
        return
    assert not any("\r" in text or "\n" in text for pair in parsed.headers.items() for text in pair)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n",  # no end
        b"GET / HTTP/1.1\n\n",  # bare line feeds
        b"GET / HTTP/1.1\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\rHost: x\r\n\r\n",
        GOOD + b"A: 1\nB: 2\r\n\r\n",
        GOOD + b"A: 1\r\na: 2\r\n\r\n",  # twice
        GOOD + b"A : 1\r\n\r\n",  # a space before the colon
        GOOD + b" folded\r\n\r\n",
        GOOD + b"A: 1\r\n folded\r\n\r\n",
        GOOD + b"no colon\r\n\r\n",
        GOOD + b": no name\r\n\r\n",
        GOOD + b"A: \x00\r\n\r\n",
        GOOD + b"A\x00: 1\r\n\r\n",
        GOOD + b"A: \xe4\r\n\r\n",
        GOOD + b"A: \xc3\xa4\r\n\r\n",
        GOOD + b"A: \x7f\r\n\r\n",
        GOOD + b"\r\nGET /metrics HTTP/1.1\r\n\r\n",  # a second head behind the first
        b"GET /\r\n\r\n",  # no version
        b"GET / \r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / HTTP/1.1 x\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET http://x/ HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 1 x\r\n\r\n",
        b"HTTP/1.1 abc x\r\n\r\n",
        GOOD + b"A: " + b"x" * head.MAX_HEAD + b"\r\n\r\n",
        b"c\x01\x01\x00\x00\x00\x01\x00\r\n\r\n",
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        head.parse(data)


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: x", "a\nb", "a\rb", "\0", "\x7f", "ä", "a\u2028b"])
def test_nothing_is_injected(value: str) -> None:
    with pytest.raises(ProtocolError):
        head.render("GET / HTTP/1.1", Name=value)
    with pytest.raises(ProtocolError):
        head.render(f"GET /{value} HTTP/1.1")


def test_a_target_with_a_space_is_no_first_line() -> None:
    with pytest.raises(ProtocolError, match="first line"):
        head.render("GET /a HTTP/1.1 b HTTP/1.1")
