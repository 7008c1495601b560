"""A request without a body whose answer comes whole: the usual one. There is nothing to wait for but the answer, so it
needs no task, and no ASGI events: the answer is written in the turn of the loop in which it was read.

What turns out to be anything else goes on as an `HttpVisit`: an answer in pieces or without end, an error, a client
that may have hung up meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from cloudfn import asgi_message, wire
from cloudfn.client.exchange import go_on
from cloudfn.exception import ProtocolError
from cloudfn.gateway import ready_head
from cloudfn.gateway.visit import BadAnswer

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from cloudfn.client.call import Outcome
    from cloudfn.client.exchange import Exchange, ExchangeCall
    from cloudfn.gateway.protocol import HttpProtocol
    from cloudfn.gateway.routes import Endpoint, Version


class QuickVisit:
    """Listens to the answer of one request.

    Args:
        connection, cycle: where it came from.
        use: of the version that answers; it does not end before.
        on_end: called once the answer is written.
        on_more: called where it goes on otherwise, with the exchange.

    Attributes:
        call: set once the worker is asked.
        scope, began, status, received, sent, call_id, error: see `Visit`.
    """

    __slots__ = ("_connection", "_on_end", "_on_more", "began", "call", "cycle", "endpoint", "sent", "status", "use")
    received = 0
    error = ""

    def __init__(
        self,
        connection: HttpProtocol,
        cycle: Any,
        endpoint: Endpoint,
        use: AbstractContextManager[Version],
        on_end: Callable[[QuickVisit], None],
        on_more: Callable[[QuickVisit, Exchange], None],
    ) -> None:
        self._connection = connection
        self._on_end = on_end
        self._on_more = on_more
        self.began = connection.loop.time()
        self.call: ExchangeCall
        self.cycle = cycle
        self.endpoint = endpoint
        self.sent = 0
        self.status = 499
        self.use = use

    @property
    def call_id(self) -> str:
        return self.call.public_id

    @property
    def scope(self) -> Any:
        return self.cycle.scope

    def start_task(self, app: Callable[..., Any]) -> None:
        """Let this ASGI app answer."""
        self._connection.start_task(self.cycle, app)

    def listen(self) -> None:
        """It takes so long that its client may have gone."""
        self._go_on()

    # -- what the worker answers

    def end(self, outcome: Outcome) -> None:
        answer = self._whole(outcome)
        if answer is None:
            self._go_on().end(outcome)
        else:
            self._connection.answer(self.cycle, answer)
            self._on_end(self)

    def take(self, body: bytes) -> None:
        self._go_on().take(body)

    def used_up(self, size: int) -> None:
        self._go_on().used_up(size)

    def _whole(self, outcome: Outcome) -> bytes | None:
        """What is to be written; None where this is not for us."""
        if outcome.status != wire.OK or not self._connection.takes_whole(self.cycle):
            return None
        parts = asgi_message.split_short(outcome.body)
        if parts is None:
            return None
        try:
            head = ready_head.of(parts[0])
        except (BadAnswer, ProtocolError):  # `HttpVisit` says so
            return None
        self.status, self.sent = head.status, len(parts[1])
        return head.with_body(self._connection.date_line, parts[1])

    def _go_on(self) -> Exchange:
        exchange = go_on(self.call)
        self._on_more(self, exchange)
        return exchange
