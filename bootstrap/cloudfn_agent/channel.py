"""Small JSON messages, with file descriptors, between the agent and the processes it started.

Only processes that the agent itself forked hold an end of a channel, so messages need no proof of origin.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
from collections import deque
from typing import Any, Sequence

_LENGTH = struct.Struct("<I")
_READ_SIZE = 65536
_MAX_FDS = 16

Message = dict[str, Any]


class Channel:
    """One end of a Unix socket pair."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.setblocking(False)
        self._data = bytearray()
        self._fds: deque[int] = deque()
        self._unsent = b""
        self.ended = False

    def fileno(self) -> int:
        return self.sock.fileno()

    def put(self, message: Message) -> None:
        """Have a message go out with the next one, or by `flush`: the other side wakes up once for both."""
        self._unsent += encode(message)

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send a message and duplicates of `fds`. Raises OSError when the other side is gone or stuck for 5 s."""
        self._unsent += encode({**message, "fds": len(fds)} if fds else message)
        self.flush(fds)

    def flush(self, fds: Sequence[int] = ()) -> None:
        """Send what waits, if anything does; see `send`."""
        data, self._unsent = memoryview(self._unsent), b""
        while data:
            try:
                sent = socket.send_fds(self.sock, [data], list(fds)) if fds else self.sock.send(data)
            except BlockingIOError:
                if not select.select([], [self.sock], [], 5.0)[1]:
                    raise OSError("the other end of a channel does not read") from None
                continue
            data, fds = data[sent:], ()

    def receive(self) -> tuple[Message, list[int]] | None:
        """Wait for the next message; None when the other side is gone."""
        while True:
            message = self._next()
            if message is not None or self.ended:
                return message
            select.select([self.sock], [], [])
            self._read()

    def receive_available(self) -> list[tuple[Message, list[int]]]:
        """Every message that is here now; look at `ended` afterwards."""
        while self._read():
            pass
        messages = []
        while (message := self._next()) is not None:
            messages.append(message)
        return messages

    def close(self) -> None:
        self.ended = True
        self.sock.close()
        while self._fds:
            os.close(self._fds.popleft())

    def _read(self) -> bool:
        if self.ended:
            return False
        try:
            data, fds, _, _ = socket.recv_fds(self.sock, _READ_SIZE, _MAX_FDS)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data, fds = b"", []
        for fd in fds:
            os.set_inheritable(fd, False)  # a program that user code starts must not hold a client's connection open
        self._fds.extend(fds)
        if not data:
            self.ended = True
            return False
        self._data += data
        return True

    def _next(self) -> tuple[Message, list[int]] | None:
        if len(self._data) < _LENGTH.size:
            return None
        end = _LENGTH.size + _LENGTH.unpack_from(self._data)[0]
        if len(self._data) < end:
            return None
        try:
            message: Message = json.loads(self._data[_LENGTH.size : end])
            fds = [self._fds.popleft() for _ in range(message.pop("fds", 0))]
        except (ValueError, AttributeError, TypeError, IndexError):
            self.ended = True  # user code in the other process wrote to a descriptor that is not its own
            return None
        del self._data[:end]
        return message, fds


def encode(message: Message) -> bytes:
    body = json.dumps(message, separators=(",", ":")).encode()
    return _LENGTH.pack(len(body)) + body
