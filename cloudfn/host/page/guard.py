"""What stands before the page: whom it answers, and what its answers allow a browser to do.

Everybody on this machine can connect to a port of loopback, and every page that the user visits can have the browser
do so. So: only requests to a name of this machine are answered (else a foreign name that points here would make a
foreign page one of ours), only pages of this very origin may ask for data, and only with a token.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from cloudfn.host.page.sessions import Sessions

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 4096  # bytes of a request
_HERE = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?")
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """Args:
    app: gets what may pass.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self._app = app
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # there are no websockets here
            return
        path = scope["path"]

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers["Cache-Control"] = "no-store" if path.startswith("/api/") else "no-cache"
            await send(message)

        refused = refusal(scope["method"], path, Headers(scope=scope), self._sessions)
        if refused:
            status, why = refused
            await JSONResponse({"error": why}, status)(scope, receive, answer)
        else:
            await self._app(scope, receive, answer)


def refusal(method: str, path: str, headers: Mapping[str, str], sessions: Sessions) -> tuple[int, str] | None:
    """Why a request is not answered, with the status that says so; None where it is."""
    host = headers.get("host", "")
    if not _HERE.fullmatch(host):
        return 403, "This page is served to this machine only, as 127.0.0.1 or localhost."
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{host}":
        return 403, "Another page asks."
    if path == "/metrics" and method == "GET":
        allowed = sessions.may_scrape(bearer(headers))
        return None if allowed else (401, "`cloudfn host metrics --scrape` says what Prometheus needs.")
    if not path.startswith("/api/"):
        return None if method in ("GET", "HEAD") else (405, "Only GET is served here.")
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return 403, "Another page asks."
    if method == "POST":
        if origin is None:
            return 403, "A request that changes something must say which page makes it."
        if headers.get("content-type", "") != "application/json":
            return 415, "What is sent must be JSON."
        size = headers.get("content-length", "")
        if not size.isdigit() or int(size) > MAX_BODY:
            return 413, f"What is sent must have a length, of {MAX_BODY} bytes at most."
    if path != "/api/login" and not sessions.is_known(bearer(headers)):
        return 401, "Open the page by `cloudfn host open`."
    return None


def bearer(headers: Mapping[str, Any]) -> str:
    """The token that a request brings, or ""."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    return str(token) if kind == "Bearer" else ""
