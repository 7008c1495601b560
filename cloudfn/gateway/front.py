"""The gateway with its address: what a run, `cloudfn serve` and the host have."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Iterable, Mapping

from cloudfn.gateway import urls
from cloudfn.gateway.app import Gateway
from cloudfn.gateway.routes import Routes
from cloudfn.gateway.server import Server
from cloudfn.gateway.tokens import TokenStore

if TYPE_CHECKING:
    from cloudfn.gateway.access_log import AccessLog
    from cloudfn.gateway.routes import Backend, Endpoint

ORIGINS_VARIABLE = "CLOUDFN_WEB_ORIGINS"
"""See `Routes`; separated by commas."""


class Front:
    """All but the constructor is for one event loop.

    Args:
        sockets: see `server.bind`; ours from now on.
        log: who is told of requests.
        named: see `urls.url`.
    """

    def __init__(self, sockets: list[socket.socket], log: AccessLog, named: bool) -> None:
        self.port: int = sockets[0].getsockname()[1]
        self.routes = Routes(filter(None, os.environ.get(ORIGINS_VARIABLE, "").replace(",", " ").split()))
        self._log = log
        self._sockets = sockets
        self._named = named
        gateway = Gateway(self.routes, TokenStore(), log)
        self._server = Server(gateway, quick=gateway)

    async def start(self) -> None:
        await self._server.start(self._sockets)

    async def stop(self, patience: float) -> None:
        """Let requests end, for so many seconds."""
        await self._server.stop(patience)
        self._log.close()

    def set(self, app: str, endpoints: Iterable[Endpoint], backend: Backend) -> None:
        """See `Routes.set`."""
        self.routes.set(app, endpoints, backend)

    def urls(self, endpoints: Iterable[Endpoint]) -> Mapping[str, str]:
        """URLs by function."""
        return urls.by_name(endpoints, self.port, self._named)
