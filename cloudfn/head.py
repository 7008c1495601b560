"""The head of an HTTP/1.1 message (RFC 9112), as far as the agent's door needs it: a first line and headers, no body.

Own code, not a library, for one reason: the door must not read one byte beyond the head, because the bytes after it
belong to the worker that the socket is handed to (`docs/decisions/0003-door.md`).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from cloudfn.exception import ProtocolError

MAX_HEAD = 16384
END = b"\r\n\r\n"
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_VALUE = re.compile(r"[\t\x20-\x7e]*\Z")
_FIRST = re.compile(r"[!-~]+ /[!-~]* HTTP/1\.[01]\Z|HTTP/1\.[01] [0-9]{3} [\t\x20-\x7e]+\Z")


class Head(NamedTuple):
    """`first` is the three words of the first line; header names are in lower case."""

    first: tuple[str, str, str]
    headers: dict[str, str]


def parse(data: bytes) -> Head:
    """Parse a head that ends in an empty line.

    Raises:
        ProtocolError: it is not well formed, too large, or has a header twice.
    """
    if len(data) > MAX_HEAD or not data.endswith(END):
        raise ProtocolError(f"a head of {len(data)} bytes is too large or has no end")
    try:
        lines = data[: -len(END)].decode("ascii").split("\r\n")
    except UnicodeDecodeError:
        raise ProtocolError("a head must be ASCII") from None
    if not _FIRST.match(lines[0]):
        raise ProtocolError(f"not the first line of an HTTP message: {lines[0][:80]!r}")
    first = lines[0].split(" ", 2)
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        value = value.strip(" \t")
        if not colon or not _TOKEN.match(name) or not _VALUE.match(value):
            raise ProtocolError(f"not a header: {line[:80]!r}")
        if name.lower() in headers:
            raise ProtocolError(f"the header {name} came twice")
        headers[name.lower()] = value
    return Head((first[0], first[1], first[2]), headers)


def render(first: str, **headers: str | int) -> bytes:
    """A head; underscores in names become dashes.

    Raises:
        ProtocolError: a line holds what no head may hold, a line break for one: it would be read as more than it is.
    """
    if not _FIRST.match(first):
        raise ProtocolError(f"not the first line of an HTTP message: {first[:80]!r}")
    lines = [first]
    for name, value in headers.items():
        if not _VALUE.match(str(value)):
            raise ProtocolError(f"not the value of a header: {str(value)[:80]!r}")
        lines.append(f"{name.replace('_', '-')}: {value}")
    return "\r\n".join(lines).encode("ascii") + END
