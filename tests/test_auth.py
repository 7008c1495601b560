"""Proofs: of the one who holds the key, for one side, one connection, one request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfn import auth
from cloudfn.connect import LeaseGone, handshake
from cloudfn.exception import AuthError, ProtocolError

KEY = bytes(range(32))
texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=70)


def test_a_known_value() -> None:
    """Another implementation must come to the same."""
    import hashlib
    import hmac

    text = b"cloudfn/1\nclient\n" + b"ab" * 32 + b"\n" + b"cd" * 32 + b"\n/lease?lease=1"
    expected = hmac.new(KEY, text, hashlib.sha256).hexdigest()
    assert auth.proof(KEY, "client", "ab" * 32, "cd" * 32, "/lease?lease=1") == expected


@given(st.tuples(texts, texts, texts, texts), st.tuples(texts, texts, texts, texts))
def test_no_two_requests_have_one_proof(a: tuple[str, str, str, str], b: tuple[str, str, str, str]) -> None:
    assert auth.matches(auth.proof(KEY, *a), auth.proof(KEY, *b)) == (a == b)


def test_another_key_gives_another_proof() -> None:
    assert auth.proof(KEY, "agent", "a", "b") != auth.proof(auth.new_key(), "agent", "a", "b")


def test_keys_and_nonces_are_fresh() -> None:
    assert len({auth.new_key() for _ in range(100)}) == len({auth.new_nonce() for _ in range(100)}) == 100
    assert (len(auth.new_key()), len(auth.new_nonce())) == (auth.KEY_SIZE, 2 * auth.NONCE_SIZE)


@given(st.text(max_size=80))
def test_anything_can_be_compared(given_proof: str) -> None:
    assert not auth.matches(given_proof, auth.proof(KEY, "agent", "a", "b"))


def challenge(asked: bytes | None, key: bytes = KEY, side: str = "agent", nonce: str = "cd" * 32) -> bytes:
    """What an agent answers to the first request."""
    assert asked is not None
    client_nonce = asked.decode().split("Cloudfn-Nonce: ")[1].split("\r\n")[0]
    mine = auth.proof(key, side, client_nonce, nonce)
    return f"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Cloudfn {nonce} {mine}\r\n\r\n".encode()


def test_the_client_says_nothing_but_a_nonce_before_the_agent_has_proved_itself() -> None:
    steps = handshake(KEY, "/control")
    first = next(steps)
    assert first is not None
    lines = first.decode().split("\r\n")
    assert lines[0] == "GET /control HTTP/1.1"
    assert {line.partition(":")[0] for line in lines[1:] if line} == {"Host", "Cloudfn-Nonce"}


@pytest.mark.parametrize(("key", "side"), [(b"k" * auth.KEY_SIZE, "agent"), (KEY, "client"), (b"", "agent")])
def test_an_agent_without_the_key_gets_nothing_more(key: bytes, side: str) -> None:
    steps = handshake(KEY, "/control")
    answer = challenge(next(steps), key, side)
    with pytest.raises(AuthError, match="does not hold our environment's key"):
        steps.send(answer)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",  # it lets us in without a proof
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 401 Unauthorized\r\n\r\n",
        b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\n\r\n",
        b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Cloudfn a\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ],
)
def test_what_is_no_agent(answer: bytes) -> None:
    steps = handshake(KEY, "/control")
    next(steps)
    with pytest.raises(ProtocolError):
        steps.send(answer)


def test_the_agent_may_refuse_us() -> None:
    steps = handshake(KEY, "/control")
    steps.send(challenge(next(steps)))
    with pytest.raises(AuthError, match="refused us: 403"):
        steps.send(b"HTTP/1.1 403 Forbidden\r\n\r\n")


@pytest.mark.parametrize(
    ("body", "error"), [(b'{"kind":"oom"}', LeaseGone), (b"", ProtocolError), (b"[]", ProtocolError)]
)
def test_a_lease_that_is_gone(body: bytes, error: type[Exception]) -> None:
    steps = handshake(KEY, "/lease?lease=x")
    steps.send(challenge(next(steps)))
    assert steps.send(b"HTTP/1.1 410 Gone\r\n\r\n") is None
    with pytest.raises(error):
        steps.send(body)
