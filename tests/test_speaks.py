"""Two sides agree on a version of the protocol, or say who must upgrade."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfn import auth, head, speaks
from cloudfn.connect import handshake
from cloudfn.exception import ProtocolError, VersionError

KEY = b"k" * 32
ranges = st.tuples(st.integers(1, 9999), st.integers(1, 9999)).map(lambda pair: (min(pair), max(pair)))


@given(ranges, ranges)
def test_the_highest_that_both_speak(mine: speaks.Range, theirs: speaks.Range) -> None:
    agreed = speaks.agree(theirs, mine)
    common = set(range(mine[0], mine[1] + 1)) & set(range(theirs[0], theirs[1] + 1))
    assert agreed == max(common, default=None)
    assert agreed == speaks.agree(mine, theirs)


@given(ranges)
def test_ranges_are_read_as_they_are_said(spoken: speaks.Range) -> None:
    assert speaks.parse(f"{spoken[0]}-{spoken[1]}") == spoken


@pytest.mark.parametrize("text", ["1", "2-1", "0-1", "a-b", "1-2-3", "-1", "1- 2", "99999-99999"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        speaks.parse(text)


def challenge(**headers: str) -> bytes:
    return head.render("HTTP/1.1 401 Unauthorized", **headers)


def until_asked(**headers: str) -> head.Head:
    """The client's second request, to an agent that says this of itself."""
    steps = handshake(KEY, "/control")
    first = next(steps)
    assert first is not None
    nonce = head.parse(first).headers["cloudfn-nonce"]
    agent_nonce = auth.new_nonce()
    proof = auth.proof(KEY, "agent", nonce, agent_nonce)
    asked = steps.send(challenge(WWW_Authenticate=f"Cloudfn {agent_nonce} {proof}", **headers))
    assert asked is not None
    return head.parse(asked)


def test_an_agent_that_says_nothing_speaks_the_first() -> None:
    assert until_asked().headers["upgrade"] == "cloudfn/1"
    assert until_asked(Cloudfn_Speaks="1-7").headers["upgrade"] == "cloudfn/1"


def test_the_older_side_is_told_to_upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VersionError, match=r"(?s)this side is too old.*pip install 'cloudfn>=9.1'"):
        until_asked(Cloudfn_Speaks="2-3", Cloudfn_Version="9.1")
    monkeypatch.setattr(speaks.agree, "__defaults__", ((2, 3),))
    monkeypatch.setattr(speaks.mismatch, "__defaults__", ((2, 3),))
    with pytest.raises(VersionError, match=r"(?s)the agent is too old.*cloudfn up"):
        until_asked()


def test_only_a_proved_agent_is_believed() -> None:
    steps = handshake(KEY, "/control")
    next(steps)
    wrong = "b" * 64
    with pytest.raises(Exception, match="does not hold our environment's key"):
        steps.send(challenge(WWW_Authenticate=f"Cloudfn {'a' * 64} {wrong}", Cloudfn_Speaks="8-9"))
