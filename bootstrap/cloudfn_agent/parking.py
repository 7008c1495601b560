"""Connections that went through the door ahead of time: the next lease takes one, and costs no way through it."""

from __future__ import annotations

import asyncio
import socket

_MAX_PARKED = 128  # over all clients; each has one


class Parking:
    """Proved connections, by the name that their clients gave them. What comes over one before it is taken ends it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parked: dict[str, socket.socket] = {}

    def put(self, name: str, sock: socket.socket) -> bool:
        """False when there is no room, or a connection of that name: the caller closes this one."""
        if len(self._parked) >= _MAX_PARKED or name in self._parked:
            return False
        self._parked[name] = sock
        self._loop.add_reader(sock, self._end, name)
        return True

    def take(self, name: str) -> socket.socket | None:
        """The connection of this name, if it is still there."""
        sock = self._parked.pop(name, None)
        if sock is not None:
            self._loop.remove_reader(sock)
        return sock

    def close(self) -> None:
        for name in list(self._parked):
            self._end(name)

    def _end(self, name: str) -> None:
        """Its client has gone, or spoke before it had a lease."""
        sock = self.take(name)
        if sock is not None:
            sock.close()
