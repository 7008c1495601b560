"""The page's requests. Who may make them is the guard's business (`guard.py`)."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Awaitable, Callable

from starlette.applications import Starlette
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from cloudfn.exception import Error, InvalidError, NotFoundError
from cloudfn.host.history import STEPS
from cloudfn.host.page import views
from cloudfn.host.page.guard import Guard, bearer
from cloudfn.host.page.live import Live, View

if TYPE_CHECKING:
    from starlette.requests import Request

    from cloudfn.host.host import Host
    from cloudfn.host.page.sessions import Sessions

_CALL_ID = re.compile(r"fc-[0-9a-f]{16}")
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_PARTS = ("", "functions", "calls", "logs", "dead", "versions")


class Api:
    """What the page's script asks for."""

    def __init__(self, host: Host, live: Live, sessions: Sessions) -> None:
        self._host = host
        self._live = live
        self._sessions = sessions

    async def login(self, request: Request) -> Response:
        """A token for the ticket of a link."""
        ticket = (await _fields(request)).get("ticket")
        token = self._sessions.redeem(ticket) if isinstance(ticket, str) else None
        if token is None:
            return JSONResponse({"error": "This link was used already, or is too old."}, 403)
        return JSONResponse({"token": token})

    async def logout(self, request: Request) -> Response:
        self._sessions.forget(bearer(request.headers))
        return JSONResponse({})

    async def stream(self, request: Request) -> Response:
        """Everything that changes, as server-sent events (`live.py`)."""
        query = request.query_params
        view = View(query.get("app", ""), query.get("part", ""), query.get("range", "minutes"))
        if view.part not in _PARTS or view.range not in STEPS:
            raise InvalidError("there is no such view")
        known = await asyncio.to_thread(self._host.registry.apps)
        if all(info.app != view.app for info in known):  # its name becomes part of a path
            view = View(range=view.range)
        return StreamingResponse(self._live.stream(view), media_type="text/event-stream")

    async def metrics(self, request: Request) -> Response:
        """For Prometheus: the host's, and those of every app's agent."""
        return Response(await self._host.all_metrics(), media_type="text/plain; version=0.0.4")

    async def call(self, request: Request) -> Response:
        return JSONResponse(await views.of_call(self._host, _call_id(request.query_params.get("id"))))

    async def replay(self, request: Request) -> Response:
        """Put dead inputs of an app back: all, or those of one call."""
        fields = await _fields(request)
        app, call = str(fields.get("app")), fields.get("call")
        self._host.running(app)  # else nobody would run them
        count = await self._host.queue.replay(app, None if call is None else _call_id(call))
        self._host.journal.write("replayed", app=app, call=call, count=count, by="page")
        return JSONResponse({"replayed": count})

    async def cancel(self, request: Request) -> Response:
        call_id = _call_id((await _fields(request)).get("call"))
        await self._host.queue.info(call_id)  # raises where there is none
        return JSONResponse({"running": await self._host.cancel(call_id, kill=False)})


def make_app(host: Host, live: Live, sessions: Sessions) -> Any:
    """The whole page as an ASGI application."""
    api = Api(host, live, sessions)
    routes = [
        Route("/api/login", _told(api.login), methods=["POST"]),
        Route("/api/logout", _told(api.logout), methods=["POST"]),
        Route("/api/stream", _told(api.stream)),
        Route("/api/call", _told(api.call)),
        Route("/api/replay", _told(api.replay), methods=["POST"]),
        Route("/api/cancel", _told(api.cancel), methods=["POST"]),
        Route("/metrics", api.metrics),
        *(_file(path) for path in (Path(__file__).parent / "static").iterdir() if path.suffix in _KINDS),
    ]
    return Guard(Starlette(routes=routes), sessions)


def _file(path: Path) -> Route:
    """One of the page's own files, by its name; no other name leads to any file."""

    async def answer(request: Request) -> Response:
        return FileResponse(path, media_type=_KINDS[path.suffix])

    return Route("/" if path.name == "index.html" else f"/{path.name}", answer)


def _told(serve: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """With our own errors as answers."""

    async def answer(request: Request) -> Response:
        try:
            return await serve(request)
        except NotFoundError as error:
            return JSONResponse({"error": error.message, "hint": error.hint}, 404)
        except Error as error:
            return JSONResponse({"error": error.message, "hint": error.hint}, 400)

    return answer


async def _fields(request: Request) -> dict[str, Any]:
    """The JSON object that was sent. Raises `InvalidError`."""
    try:
        found = json.loads(await request.body())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidError("what is sent must be a JSON object")
    return found


def _call_id(text: Any) -> int:
    if not isinstance(text, str) or not _CALL_ID.fullmatch(text):
        raise InvalidError("this is no id of a call")
    return int(text[3:], 16)
