"""The head of an answer as it goes over the wire. Most handlers answer with the same ones, so these are remembered."""

from __future__ import annotations

from functools import lru_cache

from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE, STATUS_LINE

from cloudfn import asgi_message
from cloudfn.gateway.visit import BadAnswer, check_headers, check_status

_REMEMBERED = 256
_MAX = 1 << 12  # bytes of a message that is remembered: strangers must not fill the memory
_WITHOUT_BODY = (204, 304)


class ReadyHead:
    """Args:
    start: the message that starts a response, as the worker sent it.

    Raises:
        BadAnswer: it is no head of a final answer.
    """

    __slots__ = ("_length", "_lines", "_status_line", "status")

    def __init__(self, start: bytes) -> None:
        ((event, _),) = asgi_message.decode(start)
        self.status = check_status(event.get("status"))
        headers = check_headers(event.get("headers", ()))
        self._length: int | None = None
        for name, value in headers:
            if HEADER_RE.search(name) or HEADER_VALUE_RE.search(value):
                raise BadAnswer("the function answered with a header that is none")
            if name == b"content-length":
                self._length = int(value)
        lines = [b"%b: %b\r\n" % pair for pair in headers]
        if self._length is None:
            lines.append(b"transfer-encoding: chunked\r\n")
        self._lines = b"".join(lines)
        self._status_line = STATUS_LINE[self.status]

    def with_body(self, date_line: bytes, body: bytes) -> bytes | None:
        """The whole answer; None where the body is not as long as the head says, or none may come."""
        if self.status in _WITHOUT_BODY:
            return None
        if self._length is None:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return b"%b%b%b\r\n%b0\r\n\r\n" % (self._status_line, date_line, self._lines, chunk)
        if self._length != len(body):
            return None
        return b"%b%b%b\r\n%b" % (self._status_line, date_line, self._lines, body)


_known = lru_cache(_REMEMBERED)(ReadyHead)


def of(start: bytes) -> ReadyHead:
    """See `ReadyHead`."""
    return _known(start) if len(start) <= _MAX else ReadyHead(start)
