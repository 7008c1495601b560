"""Which versions of the protocol this side of a door speaks, and who must upgrade where two sides have none in common.

A version is a number, which is also the second byte of every frame. The agent says the lowest and the highest that it
speaks, "1-2", in the header `Cloudfn-Speaks` of its challenge, and its release in `Cloudfn-Version`, for people; the
client asks for the highest that it speaks, too. An agent that says nothing speaks 1.
"""

from __future__ import annotations

import re

from cloudfn.exception import ProtocolError, VersionError

LOWEST = HIGHEST = 1
_RANGE = re.compile(r"([1-9][0-9]{0,3})-([1-9][0-9]{0,3})\Z")

Range = tuple[int, int]


def own() -> str:
    return f"{LOWEST}-{HIGHEST}"


def release() -> str:
    from cloudfn import __version__

    return __version__


def parse(text: str) -> Range:
    """Raises `ProtocolError` for what is no range."""
    if not text:
        return (1, 1)
    match = _RANGE.match(text)
    if not match or int(match[1]) > int(match[2]):
        raise ProtocolError(f"the other side speaks no versions of the protocol, but {text[:40]!r}")
    return int(match[1]), int(match[2])


def agree(theirs: Range, mine: Range = (LOWEST, HIGHEST)) -> int | None:
    """The highest that both speak; None where there is none."""
    highest = min(theirs[1], mine[1])
    return highest if highest >= max(theirs[0], mine[0]) else None


def mismatch(theirs: Range, their_release: str, mine: Range = (LOWEST, HIGHEST)) -> VersionError:
    """What a client raises that has no version in common with an agent."""
    agent = (
        f"the agent there (cloudfn {their_release or 'of an old release'}) speaks protocol {theirs[0]} to {theirs[1]}"
    )
    here = f"cloudfn {release()} here speaks {mine[0]} to {mine[1]}"
    if theirs[1] < mine[0]:
        return VersionError(
            f"{agent}, {here}: the agent is too old", hint="`cloudfn up` gives the machines an agent of this release."
        )
    return VersionError(
        f"{agent}, {here}: this side is too old",
        hint=f"Upgrade it: pip install 'cloudfn>={their_release}'" if their_release else "Upgrade cloudfn here.",
    )
