"""One request, from its head to the end of its answer: what HTTP and websockets have in common."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Iterable, Mapping

from cloudfn.exception import ExecutionError
from cloudfn.hop_by_hop import HOP_BY_HOP

if TYPE_CHECKING:
    from cloudfn.client.exchange import Exchange
    from cloudfn.gateway.answers import Answer
    from cloudfn.gateway.request import RequestHeaders

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_OURS = HOP_BY_HOP - {b"proxy-authenticate", b"proxy-authorization"}
"""How a message is framed is between us and the client."""


class BadAnswer(ExecutionError):
    """The app sent what is no answer."""


class Gone(Exception):
    """The client went away before anything was asked of a worker."""


class Visit(ABC):
    """Args:
    scope, receive, send: of the server.

    Attributes:
        status: that the client got; 499 where it went away before, as nginx has it.
        received, sent: bytes of bodies.
        call_id: id of the function's call.
        error: class of what went wrong.
    """

    def __init__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        self.scope = scope
        self.began = asyncio.get_running_loop().time()
        self.status = 499
        self.received = 0
        self.sent = 0
        self.call_id = ""
        self.error = ""
        self._receive = receive
        self._send = send
        self._gone = False

    @abstractmethod
    async def refuse(self, answer: Answer) -> None:
        """Answer by ourselves; where the answer has begun, break it off."""

    @abstractmethod
    async def first_body(self, headers: RequestHeaders) -> tuple[bytes, bool]:
        """What there is of the body already, and whether more is to come. Raises `Gone`."""

    @abstractmethod
    async def run(self, exchange: Exchange) -> bool:
        """Pass on everything until the end of the answer. True when the app goes on after it."""


def check_status(status: Any) -> int:
    """Raises `BadAnswer` for what is no status of a final answer."""
    if not isinstance(status, int) or not 200 <= status <= 599:
        raise BadAnswer(f"the function answered with the status {status!r}")
    return status


def check_headers(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """An app's headers without those that are ours to set. Raises `BadAnswer`."""
    found: Headers = []
    length = None
    for name, value in headers:
        lower = name.lower()
        if lower in _OURS:
            continue
        if b"\n" in value or b"\r" in value or b"\0" in value or not name.isascii() or not name or b"\n" in name:
            raise BadAnswer("the function answered with a header that is none")
        if lower == b"content-length":
            if not value.isdigit() or length not in (None, value):
                raise BadAnswer("the function answered with a Content-Length that is none")
            if length is not None:
                continue
            length = value
        found.append((lower, value))
    return found
