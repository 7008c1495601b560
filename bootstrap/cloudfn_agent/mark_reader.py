"""Takes the marks (`marks.py`) out of what a worker prints; only the agent does."""

from __future__ import annotations

import re
from typing import NamedTuple

_MARK = re.compile(rb"\x1b_cloudfn;(?:([0-9a-f]{16});([0-9]{1,10}))?\x1b\\")
_BEGUN = re.compile(rb"\x1b(_(c(l(o(u(d(f(n(;[0-9a-f;]{0,27}\x1b?)?)?)?)?)?)?)?)?)?\Z")  # a mark whose end is to come
_LONGEST = 39  # bytes
_MOST = 0xFFFFFFFF  # index of an input

Origin = tuple[int, int] | None
"""Call and index of an input; None where it is not known."""


class Piece(NamedTuple):
    origin: Origin
    data: bytes


class Reader:
    """Takes the marks out of one stream; they may come in pieces."""

    def __init__(self) -> None:
        self._origin: Origin = None
        self._rest = b""

    def feed(self, data: bytes) -> list[Piece]:
        """What is known by now, neighbours of the same input together."""
        if not self._rest and b"\x1b" not in data:
            return [Piece(self._origin, data)]
        data = self._rest + data
        begun = _BEGUN.search(data, max(0, len(data) - _LONGEST))
        cut = begun.start() if begun else len(data)
        data, self._rest = data[:cut], data[cut:]
        found: list[tuple[Origin, list[bytes]]] = []
        at = 0
        for mark in _MARK.finditer(data):
            self._add(found, data[at : mark.start()])
            self._origin = _origin(mark)
            at = mark.end()
        self._add(found, data[at:])
        return [Piece(origin, b"".join(parts)) for origin, parts in found]

    def _add(self, found: list[tuple[Origin, list[bytes]]], data: bytes) -> None:
        if data and found and found[-1][0] == self._origin:
            found[-1][1].append(data)
        elif data:
            found.append((self._origin, [data]))

    def end(self) -> list[Piece]:
        """What was held back because a mark might have come of it."""
        rest, self._rest = self._rest, b""
        return [Piece(self._origin, rest)] if rest else []


def _origin(mark: re.Match[bytes]) -> Origin:
    """What a mark says; None for one that ends another, and for one that user code made up badly."""
    if not mark[1] or int(mark[2]) > _MOST:
        return None
    return int(mark[1], 16), int(mark[2])
