"""The gateway of deployed apps: a service of the host, on the host's own loop."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping

from cloudfn import web_urls
from cloudfn.exception import InvalidError, ResourceUnavailableError
from cloudfn.gateway import extra
from cloudfn.gateway.routes import Endpoint, endpoints

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from cloudfn.app_registry import AppVersion
    from cloudfn.gateway.front import Front
    from cloudfn.gateway.routes import Version
    from cloudfn.host.host import Host

PORT_VARIABLE = "CLOUDFN_WEB_PORT"
_FIRST_CHOICE = 8400
_PATIENCE = 3.0  # seconds for requests to end when the host does


class HostedApp:
    """The current version of a deployed app, whichever that is."""

    def __init__(self, host: Host, app: str) -> None:
        self._host = host
        self._app = app

    def using(self) -> AbstractContextManager[Version]:
        return self._host.running(self._app).using()


class WebService:
    """See `cloudfn.host.services`. It listens from the first version with a web function on: before, nothing of it is
    even imported."""

    def __init__(self) -> None:
        self._host: Host
        self._front: Front | None = None
        self._kept: Path
        self._opening = asyncio.Lock()

    async def start(self, host: Host) -> None:
        self._host = host
        self._kept = host.seat.folder / "web.json"

    async def check(self, version: AppVersion) -> None:
        """Raises `AlreadyExistsError`, `InvalidError` or `NotFoundError` for a version that cannot have its URLs."""
        wanted = _endpoints(version)
        if wanted:
            (await self._open()).routes.check(version.app, wanted)

    async def app_changed(self, app: str) -> None:
        running = self._host.apps.get(app)
        wanted = _endpoints(running.version) if running is not None else []
        if wanted:
            (await self._open()).set(app, wanted, HostedApp(self._host, app))
        elif self._front is not None:
            self._front.routes.remove(app)

    def urls(self, version: AppVersion) -> Mapping[str, str]:
        """By function; empty while nobody listens."""
        return self._front.urls(_endpoints(version)) if self._front is not None else {}

    async def environment(self, version: AppVersion) -> Mapping[str, str]:
        """What the workers of a version get: see `Function.get_web_url`."""
        wanted = _endpoints(version)
        if not wanted:
            return {}
        front = await self._open()
        return web_urls.environment(front.urls(wanted))

    def describe(self) -> str:
        if self._front is None:
            return "web: no web functions"
        return f"web: http://127.0.0.1:{self._front.port}, web functions: {len(self._front.routes)}"

    async def stop(self) -> None:
        if self._front is not None:
            await self._front.stop(_PATIENCE)

    # -- the address

    async def _open(self) -> Front:
        """Listen, where we do not yet. What was chosen once, stays: URLs outlive this process."""
        async with self._opening:
            if self._front is None:
                extra.require()
                from cloudfn.gateway import urls
                from cloudfn.gateway.access_log import AccessLog
                from cloudfn.gateway.front import Front

                kept = self._read()
                named = kept["named"] if "named" in kept else await asyncio.to_thread(urls.resolves_names)
                front = Front(self._bind(kept), AccessLog(self._host.seat.folder / "access.jsonl"), bool(named))
                self._write({"port": front.port, "named": named})
                await front.start()
                self._front = front
            return self._front

    def _bind(self, kept: Mapping[str, Any]) -> Any:
        from cloudfn.gateway import server

        asked = _asked()
        if port := asked or kept.get("port"):
            return server.bind(port)
        if asked is None:
            try:
                return server.bind(_FIRST_CHOICE)
            except ResourceUnavailableError:
                pass
        return server.bind(0)

    def _read(self) -> Mapping[str, Any]:
        try:
            found = json.loads(self._kept.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, settled: Mapping[str, Any]) -> None:
        temporary = self._kept.with_suffix(".new")
        temporary.write_text(json.dumps(settled))
        temporary.replace(self._kept)


def _endpoints(version: AppVersion) -> list[Endpoint]:
    return endpoints(version.app, [function.spec for function in version.functions])


def _asked() -> int | None:
    """The port that the user wants; 0 for any."""
    given = os.environ.get(PORT_VARIABLE, "")
    if not given:
        return None
    if not given.isdigit() or int(given) > 65535:
        raise InvalidError(f"{PORT_VARIABLE}={given!r}: must be a port, 0 to 65535.")
    return int(given)
