"""A control stream by hand, as any client could write it."""

from __future__ import annotations

import socket
from typing import Any

from cloudfn import wire
from cloudfn.wire import FrameReader


class Control:
    """Args:
    sock: connected to an agent, past its door.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(60)
        self._reader = FrameReader()
        self._frames: list[Any] = []

    def send(self, message: dict[str, Any]) -> None:
        self.sock.sendall(b"".join(bytes(piece) for piece in wire.control(message)))

    def next(self, op: str) -> dict[str, Any]:
        """The next message of this name; what comes before it is dropped."""
        while True:
            frame = self._next_frame()
            if frame.type != wire.LOG:
                message = wire.parse_control(frame)
                if message["op"] == op:
                    return message

    def ask(self, message: dict[str, Any], answer: str) -> dict[str, Any]:
        self.send(message)
        return self.next(answer)

    def read_log(self, until: bytes) -> bytes:
        """What was printed, up to and with `until`."""
        data = b""
        while until not in data:
            frame = self._next_frame()
            if frame.type == wire.LOG:
                data += bytes(frame.body)
        return data

    def _next_frame(self) -> Any:
        while not self._frames:
            size = self.sock.recv_into(self._reader.get_buffer())
            if not size:
                raise EOFError("the agent ended the stream")
            self._frames += self._reader.received(size)
        return self._frames.pop(0)
