"""The service that holds the page's port. The web server is loaded when somebody first knocks."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping

from cloudfn.exception import ResourceUnavailableError
from cloudfn.gateway import extra
from cloudfn.host.page.sessions import Sessions

if TYPE_CHECKING:
    from cloudfn.gateway.server import Server
    from cloudfn.host.host import Host
    from cloudfn.host.page.live import Live

_GRACE = 1.0  # seconds for answers that are under way when the host ends
_LOWEST = 1024  # port that we would take


class PageService:
    """See `cloudfn.host.services.Service`."""

    def __init__(self) -> None:
        self.sessions = Sessions()
        self._sockets: list[socket.socket] = []
        self._server: Server | None = None
        self._live: Live | None = None
        self._host: Host | None = None
        self._waiting = False

    async def start(self, host: Host) -> None:
        """Raises `ResourceUnavailableError`: no port is free, or the web server is not installed."""
        if lacking := extra.missing():
            raise ResourceUnavailableError(
                f"the page needs packages that are not installed: {', '.join(lacking)}",
                hint="Install them: pip install 'cloudfn[web]'. Then: cloudfn host stop",
            )
        self._host = host
        self._sockets = await asyncio.to_thread(listen, host.seat.folder / "page.port")
        self.sessions.allow_scraping(_secret(host.seat.folder / "metrics.token"))
        host.page = self.address
        host.requests["page_link"] = self._on_link
        host.requests["scrape"] = self._on_scrape
        self._waiting = True
        for sock in self._sockets:
            asyncio.get_running_loop().add_reader(sock, self._on_knock)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._sockets[0].getsockname()[1]}/"

    async def app_changed(self, app: str) -> None:
        """The page looks every second."""

    def describe(self) -> str:
        return f"page: {self.address} (`cloudfn host open` opens it)"

    async def stop(self) -> None:
        self._stop_waiting()
        if self._live is not None:
            self._live.end()
        if self._server is not None:
            await self._server.stop(_GRACE)
        for sock in self._sockets:
            sock.close()

    async def _on_link(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """For who has proved itself at the host's door: a link that opens the page, once."""
        return {"url": f"{self.address}#ticket={self.sessions.ticket()}"}

    async def _on_scrape(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Where Prometheus finds our metrics, and the file with what it must say."""
        assert self._host is not None
        return {"url": f"{self.address}metrics", "token": str(self._host.seat.folder / "metrics.token")}

    def _stop_waiting(self) -> None:
        if self._waiting:
            self._waiting = False
            for sock in self._sockets:
                asyncio.get_running_loop().remove_reader(sock)

    def _on_knock(self) -> None:
        self._stop_waiting()
        assert self._host is not None
        self._host.spawn(self._serve(self._host))

    async def _serve(self, host: Host) -> None:
        try:
            await asyncio.to_thread(_load)
        except ImportError as error:  # something of the extra is there and broken
            host.troubles.append(f"page: {error}")
            host.journal.write("page_failed", error=str(error))
            return
        from cloudfn.gateway.server import Server
        from cloudfn.host.page.api import make_app
        from cloudfn.host.page.live import Live

        self._live = Live(host)
        self._server = Server(make_app(host, self._live, self.sessions))
        await self._server.start(self._sockets)


def _load() -> None:
    """Import what serves, off the loop, which has calls to attend to."""
    from cloudfn.gateway import server  # noqa: F401
    from cloudfn.host.page import api  # noqa: F401


def listen(note: Path) -> list[socket.socket]:
    """Sockets on loopback: on the port that the page had before where that is free, so that its address stays.

    Args:
        note: the file that keeps the port's number.

    Raises:
        ResourceUnavailableError: no port is free.
    """
    from cloudfn.gateway.sockets import bind

    try:
        before = int(note.read_text())
    except (OSError, ValueError):
        before = 0
    try:
        sockets = bind(before if _LOWEST <= before < 65536 else 0)
    except ResourceUnavailableError:  # somebody else has it now
        sockets = bind(0)
    for sock in sockets:
        sock.setblocking(False)
    with open(os.open(note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(str(sockets[0].getsockname()[1]))
    return sockets


def _secret(path: Path) -> str:
    """What is in a file that only we can read; made the first time."""
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
    except FileExistsError:
        path.chmod(0o600)
    return path.read_text().strip()
