"""The listening side: uvicorn's protocols on a loop that is there already.

Not `uvicorn.Server`: it takes over the signals of the process, and wakes up ten times a second.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Callable

from uvicorn import Config
from uvicorn.server import ServerState

from cloudfn.gateway import limits
from cloudfn.gateway.protocol import HttpProtocol, WebSocketProtocol
from cloudfn.gateway.sockets import bind as bind

if TYPE_CHECKING:
    from cloudfn.gateway.app import Gateway

_LOOK = 5.0  # seconds between looks at slow clients


class State(ServerState):
    """`date_line`: of every answer; renewed every second."""

    date_line = b""


class Server:
    """Everything on one running loop.

    Args:
        app: what answers (ASGI).
        quick: may begin to answer a request at once, before `app` gets a task for it.
    """

    def __init__(self, app: Callable[..., Any], quick: Gateway | None = None) -> None:
        self._quick = quick
        self._config = Config(
            app,
            http=HttpProtocol,
            ws=WebSocketProtocol,
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=min(limits.CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2),
            timeout_keep_alive=limits.KEEP_ALIVE_SECONDS,
            ws_max_size=limits.WEBSOCKET_BYTES,
            ws_ping_interval=limits.PING_SECONDS,
            ws_ping_timeout=limits.PING_SECONDS,
        )
        self._config.load()
        self.state = State()
        self._servers: list[asyncio.Server] = []
        self._ticker: asyncio.Task[None] | None = None

    async def start(self, sockets: list[socket.socket]) -> None:
        """Serve; the sockets are ours from now on."""
        loop = asyncio.get_running_loop()
        self._date()
        for sock in sockets:
            self._servers.append(await loop.create_server(self._connection, sock=sock, backlog=1024))
        self._ticker = loop.create_task(self._tick())

    def _connection(self) -> HttpProtocol:
        made = HttpProtocol(config=self._config, server_state=self.state, app_state={})
        made.quick = self._quick
        return made

    def _date(self) -> None:
        date = formatdate(time.time(), usegmt=True).encode()
        self.state.default_headers = [(b"date", date)]
        self.state.date_line = b"date: %b\r\n" % date

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        looked = loop.time()
        while True:
            await asyncio.sleep(1.0 if self.state.connections else _LOOK)
            self._date()
            now = loop.time()
            if now - looked >= _LOOK:
                looked = now
                for connection in list(self.state.connections):
                    connection.look(now)  # type: ignore[union-attr]

    async def stop(self, patience: float) -> None:
        """Take no more; requests that run may end within `patience` seconds."""
        for server in self._servers:
            server.close()
        for connection in list(self.state.connections):
            connection.shutdown()
        if self._quick is not None:
            self._quick.make_tasks()
        deadline = time.monotonic() + patience
        while self.state.tasks and (rest := deadline - time.monotonic()) > 0:
            await asyncio.wait(list(self.state.tasks), timeout=rest)
        for task in list(self.state.tasks):
            task.cancel()
        if self.state.tasks:
            await asyncio.wait(list(self.state.tasks), timeout=1.0)
        for connection in list(self.state.connections):
            connection.transport.abort()
        if self._ticker is not None:
            self._ticker.cancel()
