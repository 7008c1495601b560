"""The control stream: one for each session, for leases, logs and states; never for data."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Callable

from cloudfn import wire
from cloudfn.exception import ProtocolError
from cloudfn.stream import FrameStream
from cloudfn.wire import Frame, FrameReader, Printed

if TYPE_CHECKING:
    import socket

    from cloudfn.client.reactor import Reactor

Message = dict[str, Any]


class Control:
    """Messages to and from the agent.

    Args:
        sock: connected to the agent, past its door.
        on_message, on_log, on_end: called on the reactor's thread.
    """

    def __init__(
        self,
        reactor: Reactor,
        sock: socket.socket,
        *,
        on_message: Callable[[Message], None],
        on_log: Callable[[Printed], None],
        on_end: Callable[[Exception | None], None],
    ) -> None:
        self._reactor = reactor
        self._on_message = on_message
        self._on_log = on_log
        self._ids = itertools.count(1)
        reader = FrameReader(wire.MAX_CONTROL, frozenset({wire.CONTROL, wire.LOG}))
        self._stream = FrameStream(reactor.loop, sock, self._on_frames, on_end, reader)
        reactor.call(self._stream.start)

    def next_id(self) -> int:
        return next(self._ids)

    def send(self, message: Message) -> None:
        """From the reactor's thread."""
        self._stream.send(wire.control(message))

    def send_soon(self, message: Message) -> None:
        """From any thread."""
        self._reactor.call(self.send, message)

    def close(self) -> None:
        """From the reactor's thread."""
        self._stream.close()

    def _on_frames(self, frames: list[Frame]) -> None:
        for frame in frames:
            if frame.type == wire.LOG:
                self._on_log(wire.parse_printed(frame))
            else:
                try:
                    message = wire.parse_control(frame)
                except ProtocolError:  # the frame was whole and the peer is proved: skip what a newer agent may say
                    continue
                self._on_message(message)
