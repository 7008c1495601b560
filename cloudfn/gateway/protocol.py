"""uvicorn's protocols with the limits that it leaves to a proxy in front of it. We have none."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from cloudfn.gateway import limits
from cloudfn.gateway.cork import Cork

if TYPE_CHECKING:
    from cloudfn.gateway.app import Gateway
    from cloudfn.gateway.request import Asked

log = logging.getLogger("cloudfn.gateway")
"""Theirs would tell of query strings, which may hold secrets."""
log.addHandler(logging.NullHandler())
log.propagate = False

_TEXTS = {400: "This is no HTTP request.", 431: "The head of the request is too large.", 408: "Too slow."}


class _TooLarge(Exception):
    pass


class HttpProtocol(httptools_impl.HttpToolsProtocol):
    """One connection.

    Attributes:
        asked: its last request, where that may come again; kept by the gateway.
        quick: see `Server`.
    """

    asked: Asked | None = None
    quick: Gateway | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = log
        self.access_log = False
        self._refusal = 400
        self._size = 0  # of the head so far
        self._unparsed = 0  # bytes since it last grew
        self._head_since: float | None = self.loop.time()  # None while no head is awaited
        self._heard = 0.0
        self._stuck_since: float | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(Cork(transport, self.loop))  # type: ignore[arg-type]

    # The parser calls these. What they raise comes out of `feed_data` as an error of the parser.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._size = 0
        if self._head_since is None:
            self._head_since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        self.url += url
        self._note_size(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._note_size(len(name) + len(value))
        if self._head_since is None:
            return  # a trailer, which came after whatever was decided by the head
        super().on_header(name, value)
        if len(self.headers) > limits.HEAD_FIELDS:
            self._note_size(limits.HEAD_BYTES)

    def _note_size(self, count: int) -> None:
        self._size += count
        if self._size > limits.HEAD_BYTES:
            self._refusal = 431
            raise _TooLarge

    def on_headers_complete(self) -> None:
        if not self.url.startswith(b"/"):  # "*", or a URL with a host of its own beside the Host header
            raise ValueError
        self._head_since = None
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        self._heard = self.loop.time()
        size = self._size
        super().data_received(data)
        if self._head_since is None or self._size != size:
            self._unparsed = 0
            return
        # The parser tells of a header once it is whole: one that never ends would grow unseen.
        self._unparsed += len(data)
        if self._unparsed > limits.HEAD_BYTES and not self.transport.is_closing():
            self._refusal = 431
            self.send_400_response("")

    def send_400_response(self, msg: str) -> None:
        status, text = self._refusal, _TEXTS[self._refusal].encode()
        self.transport.write(
            httptools_impl.STATUS_LINE[status]
            + b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\ncontent-length: "
            + str(len(text)).encode()
            + b"\r\n\r\n"
            + text
        )
        self.transport.close()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """As of the parent, which is called when a request may begin. Most need no task: see `QuickVisit`."""
        if app is not self.app or self.quick is None or not self.quick.begin(self, cycle):
            super()._start_asgi_task(cycle, app)

    def start_task(self, cycle: Any, app: Any) -> None:
        """Let this ASGI app answer a request."""
        super()._start_asgi_task(cycle, app)

    @property
    def date_line(self) -> bytes:
        """What stands below the first line of every answer."""
        return self.server_state.date_line  # type: ignore[attr-defined,no-any-return]

    def takes_whole(self, cycle: Any) -> bool:
        """`answer` may be used: nothing is special about the request or its connection."""
        return bool(cycle.keep_alive and not self.flow.write_paused and cycle.scope["method"] != "HEAD")

    def answer(self, cycle: Any, data: bytes) -> None:
        """Write a whole response: what `cycle.send` does in two steps."""
        if cycle.disconnected:
            return
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        self.transport.write_whole(data)  # type: ignore[attr-defined]
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """As of the parent, but for its timer of a connection that is kept: two timers a request cost more than `look`
        at all connections does."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck_since = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stuck_since = None

    def look(self, now: float) -> None:
        """Every few seconds: end a connection whose client is too slow."""
        cycle = self.cycle
        if self._stuck_since is not None and now - self._stuck_since > limits.WRITE_SECONDS:
            self.transport.abort()
        elif self._head_since is not None and now - self._head_since > limits.HEAD_SECONDS:
            if cycle is None or cycle.response_complete:  # else a pipelined head, which waits for us
                self._refusal = 408
                self.send_400_response("")
        elif cycle is not None and cycle.response_complete:
            if now - self._heard > limits.KEEP_ALIVE_SECONDS and self._head_since is None:
                self.transport.close()
        elif (
            cycle is not None
            and cycle.more_body
            and not cycle.response_complete
            and not self.flow.read_paused
            and now - self._heard > limits.BODY_SECONDS
        ):
            self.transport.abort()


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One websocket."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = log
        self._begun = self.loop.time()
        self._stuck_since: float | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck_since = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stuck_since = None

    def look(self, now: float) -> None:
        """As for `HttpProtocol`; a silent peer is found by pings."""
        if self._stuck_since is not None and now - self._stuck_since > limits.WRITE_SECONDS:
            self.transport.abort()
