"""A connection that has gone through the agent's door ahead of time, so that the next lease need not."""

from __future__ import annotations

import secrets
import socket
from typing import TYPE_CHECKING, Any

from cloudfn import execution
from cloudfn.connect import LeaseGone, connect_async
from cloudfn.exception import AuthError, ConnectionError, ProtocolError

if TYPE_CHECKING:
    from cloudfn.client.reactor import Reactor
    from cloudfn.client.site import Site

_DELAY = 0.05  # seconds after a grant: whoever asked for that worker has its result by then


class Parking:
    """At most one such connection. Everything runs on the reactor's thread.

    Attributes:
        name: what the agent knows the connection by; "" for none.
    """

    def __init__(self, reactor: Reactor, site: Site) -> None:
        self.name = ""
        self._reactor = reactor
        self._site = site
        self._sock: socket.socket | None = None
        self._timer: Any = None
        self._closed = False

    def take(self, name: str) -> socket.socket | None:
        """The connection of this name, which the agent has handed to a worker."""
        if not name or name != self.name:
            return None
        return self._leave()

    def refill(self) -> None:
        """See that there is one again, soon. A worker has none: it makes calls now and then, and there are many."""
        if self._sock is None and self._timer is None and not self._closed and not execution.in_worker:
            self._timer = self._reactor.loop.call_later(_DELAY, self._start)

    def close(self) -> None:
        self._closed = True
        if self._timer:
            self._timer.cancel()
        sock = self._leave()
        if sock:
            sock.close()

    def _start(self) -> None:
        self._reactor.spawn(self._connect())

    async def _connect(self) -> None:
        site, loop, name = self._site, self._reactor.loop, secrets.token_hex(16)
        try:
            sock = await connect_async(loop, site.address, site.key, f"/lease?park={name}")
        except (AuthError, ConnectionError, LeaseGone, ProtocolError):
            return  # the next lease goes through the door, and says what is wrong with it
        finally:
            self._timer = None
        if self._closed:
            sock.close()
            return
        self.name, self._sock = name, sock
        loop.add_reader(sock, self._end)

    def _leave(self) -> socket.socket | None:
        sock, self._sock, self.name = self._sock, None, ""
        if sock:
            self._reactor.loop.remove_reader(sock)
        return sock

    def _end(self) -> None:
        """The agent has closed it: there is no room, or somebody cut the way."""
        sock = self._leave()
        if sock:
            sock.close()
