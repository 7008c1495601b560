"""Cross-origin requests to handlers: https://fetch.spec.whatwg.org/#http-cors-protocol."""

from __future__ import annotations

from typing import Any, Awaitable, Callable

from starlette.middleware.cors import CORSMiddleware

from cloudfn.asgi_message import Event
from cloudfn_agent.web_conversation import ASGIApp


class AnyOrigin:
    """Lets pages of any site ask an app, but not with credentials: they must not act with the cookies of whoever looks
    at them.

    Most requests are of no page. Starlette's middleware takes them a tenth of the time of a small request; all that
    their answers need is to say to caches that those to pages are others.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._of_pages: Any = CORSMiddleware(app, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])  # type: ignore[arg-type]

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Event]],
        send: Callable[[Event], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http" or any(name == b"origin" for name, _ in scope["headers"]):
            await self._of_pages(scope, receive, send)
            return

        async def send_on(event: Event) -> None:
            if event["type"] == "http.response.start":
                event["headers"] = [*event.get("headers", ()), (b"vary", b"Origin")]
            await send(event)

        await self._app(scope, receive, send_on)
